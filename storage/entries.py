"""The event stream's entries, as the gateway writes them: read and checked one by one.

    hop             one request and its reply: where the interview stands, and what happened
    session_ended   the aggregator's notice; may come late, repeated, first, or for an unknown session
    conflict        a request that did not fit the dialogue
    text_command    a text that is no answer: STOP, HELP, or nothing that we know
    opted_out       the aggregator's word that a respondent wants nothing more from us
    delivery_report the aggregator's word on a message that we sent
    airtime_status  the aggregator's word on airtime that we ordered

A hop and a text command may also say what to send, and to whom: the number is sealed (`sealing.py`).
What cannot be read raises `Poison`, whose text names fields and never holds their values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import orjson

from flows.engine import EFFECTS, Effect, load_effect

STREAM = "dial16:events"
FIELD = b"e"  # the one field of an entry

_MOST_MS = 4_102_444_800_000  # the year 2100: beyond it a clock or a unit is wrong
_MOST_INTEGER = 2**63 - 1  # what both engines store
_COST = re.compile(r"\s*([A-Z]{3})\s*(-?\d+(?:\.\d+)?)\s*\Z")


class Poison(Exception):
    """This entry can never be folded in. The text names the field at fault, not its value."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What an entry asks us to send, and where to."""

    sends: tuple[tuple[str, str], ...]  # kind, text: our own words
    sealed: str | None  # the respondent's number
    key_id: str | None
    sender: str | None  # the short code that was written to
    aggregator: str | None
    network_code: str | None


@dataclass(frozen=True, slots=True)
class Hop:
    interview: str
    respondent: str
    wave: str
    version: int
    session: str
    hop: int
    at: datetime
    shown: str
    stage: str
    mode: str
    opened: Mapping[str, str | None] | None
    effects: tuple[Effect, ...]
    outgoing: Outgoing | None = None
    opted_in: bool = False  # had opted out, and texted the keyword


@dataclass(frozen=True, slots=True)
class SessionEnded:
    session: str
    respondent: str
    at: datetime
    aggregator: str | None
    network_code: str | None
    service_code: str | None
    status: str | None
    error: str | None
    duration_ms: int | None
    hops: int | None
    cost: str | None

    @property
    def cost_parts(self) -> tuple[str | None, float | None]:
        """Currency and amount of "GHS 0.03"; None of what is written otherwise."""
        match = _COST.match(self.cost or "")
        return (match[1], float(match[2])) if match else (None, None)


@dataclass(frozen=True, slots=True)
class ConflictNoted:
    session: str
    respondent: str
    at: datetime
    what: str
    interview: str | None


@dataclass(frozen=True, slots=True)
class TextCommand:
    respondent: str
    at: datetime
    wave: str | None
    what: str  # stop | help | results | none | closed
    message_id: str | None  # the aggregator's, of the text
    outgoing: Outgoing | None


@dataclass(frozen=True, slots=True)
class OptedOut:
    respondent: str
    at: datetime
    aggregator: str | None


@dataclass(frozen=True, slots=True)
class DeliveryReported:
    at: datetime
    aggregator: str
    message_id: str
    status: str
    failure_reason: str | None
    network_code: str | None
    respondent: str | None


@dataclass(frozen=True, slots=True)
class AirtimeReported:
    at: datetime
    aggregator: str
    request_id: str
    status: str
    respondent: str
    amount: int | None  # hundredths
    currency: str | None
    detail: str | None


Entry = Hop | SessionEnded | ConflictNoted | TextCommand | OptedOut | DeliveryReported | AirtimeReported

#: Kinds of message; the first of them go first.
PRIORITY = {"reply": 1, "confirmation": 2, "thanks": 3, "reminder": 4, "invitation": 5, "results": 6}
STOP = "stop"

_INTEGER: tuple[type, ...] = (int,)
_KINDS: Mapping[Any, tuple[type, ...]] = {
    str: (str,), int: _INTEGER, float: (int, float), bool: (bool,), dict[str, float]: (dict,),
    dict[str, str]: (dict,),
}  # fmt: skip
#: Each effect's fields and the JSON types they may have, from its dataclass.
_EFFECT_FIELDS: Mapping[str, tuple[tuple[str, tuple[type, ...]], ...]] = {
    name: tuple((f.name, _KINDS[f.type]) for f in fields(kind)) for name, kind in EFFECTS.items()
}
_NOTICE_TEXTS = ("aggregator", "network_code", "service_code", "status", "error", "cost")
_OPENED = ("aggregator", "network_code", "service_code", "extension")


def read_entry(raw: bytes | str) -> Entry:
    """The entry in the stream field's JSON. Raises Poison."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Poison("not JSON") from None
    if not isinstance(data, dict):
        raise Poison("not a JSON object")
    if (b"\\u0000" if isinstance(raw, bytes) else "\\u0000") in raw:  # type: ignore[operator]
        raise Poison("text holds a NUL, which not every engine stores")
    kind = data.get("kind")
    if kind == "hop":
        return _read_hop(data)
    if kind == "session_ended":
        rest: dict[str, Any] = {name: _text_or_none(data, name) for name in _NOTICE_TEXTS}
        rest |= {name: _integer_or_none(data, name) for name in ("duration_ms", "hops")}
        return SessionEnded(
            session=_text(data, "session"),
            respondent=_text(data, "respondent"),
            at=_moment(data),
            **rest,
        )
    if kind == "conflict":
        return ConflictNoted(
            session=_text(data, "session"),
            respondent=_text(data, "respondent"),
            at=_moment(data),
            what=_text(data, "what"),
            interview=_text_or_none(data, "interview"),
        )
    if kind == "text_command":
        return TextCommand(
            respondent=_text(data, "respondent"),
            at=_moment(data),
            wave=_text_or_none(data, "wave"),
            what=_text(data, "what"),
            message_id=_text_or_none(data, "message_id"),
            outgoing=_read_outgoing(data),
        )
    if kind == "opted_out":
        return OptedOut(_text(data, "respondent"), _moment(data), _text_or_none(data, "aggregator"))
    if kind == "delivery_report":
        texts = {name: _text_or_none(data, name) for name in ("failure_reason", "network_code", "respondent")}
        return DeliveryReported(
            at=_moment(data),
            aggregator=_text(data, "aggregator"),
            message_id=_text(data, "message_id"),
            status=_text(data, "status"),
            **texts,
        )
    if kind == "airtime_status":
        return AirtimeReported(
            at=_moment(data),
            aggregator=_text(data, "aggregator"),
            request_id=_text(data, "request_id"),
            status=_text(data, "status"),
            respondent=_text(data, "respondent"),
            amount=_integer_or_none(data, "amount"),
            currency=_text_or_none(data, "currency"),
            detail=_text_or_none(data, "detail"),
        )
    raise Poison("kind is missing or unknown")


def _read_outgoing(data: dict[str, Any]) -> Outgoing | None:
    sends = data.get("sends") or []
    if not sends and data.get("sealed") is None:
        return None
    if type(sends) is not list:
        raise Poison("sends is no list")
    read = []
    for n, send in enumerate(sends):
        if type(send) is not dict or send.get("kind") not in PRIORITY:
            raise Poison(f"sends[{n}].kind is missing or unknown")
        if type(send.get("text")) is not str or not send["text"].strip():
            raise Poison(f"sends[{n}].text is missing or no text")
        read.append((send["kind"], send["text"]))
    texts = {n: _text_or_none(data, n) for n in ("sealed", "key_id", "sender", "aggregator", "network_code")}
    return Outgoing(tuple(read), **texts)


def _read_hop(data: dict[str, Any]) -> Hop:
    opened = data.get("opened")
    if opened is not None:
        if type(opened) is not dict:
            raise Poison("opened must be a table")
        opened = {k: _text_or_none(opened, k) for k in _OPENED}
    effects = data.get("effects")
    if type(effects) is not list:
        raise Poison("effects is missing or no list")
    return Hop(
        _text(data, "interview"), _text(data, "respondent"), _text(data, "wave"), _integer(data, "version"),
        _text(data, "session"), _integer(data, "hop"), _moment(data), _text(data, "shown", empty=True),
        _text(data, "stage", empty=True), _text(data, "mode"), opened,
        tuple(_effect(e, n) for n, e in enumerate(effects)),
        _read_outgoing(data) if "sends" in data or "sealed" in data else None,
        data.get("opted_in") is True,
    )  # fmt: skip


def _effect(data: Any, position: int) -> Effect:
    if type(data) is not dict:
        raise Poison(f"effects[{position}] is no table")
    known = _EFFECT_FIELDS.get(str(data.get("kind")))
    if known is None:
        raise Poison(f"effects[{position}].kind is missing or unknown")
    for name, types in known:
        value: Any = data.get(name)
        if type(value) not in types or (types is _INTEGER and abs(value) > _MOST_INTEGER):
            raise Poison(f"effects[{position}].{name} is missing or of another type")
    try:
        return load_effect(data)
    except (TypeError, KeyError):  # a field that this release does not know
        raise Poison(f"effects[{position}] has unknown fields") from None


def _text(data: Mapping[str, Any], key: str, empty: bool = False) -> str:
    value = data.get(key)
    if type(value) is not str or not (value or empty):
        raise Poison(f"{key} is missing or no text")
    return value


def _text_or_none(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and type(value) is not str:
        raise Poison(f"{key} is no text")
    return value


def _integer(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    if type(value) is not int or not 0 <= value <= _MOST_INTEGER:
        raise Poison(f"{key} is missing or no integer")
    return value


def _integer_or_none(data: Mapping[str, Any], key: str) -> int | None:
    return None if data.get(key) is None else _integer(data, key)


def _moment(data: Mapping[str, Any]) -> datetime:
    value = _integer(data, "at")
    if value > _MOST_MS:
        raise Poison("at is out of range")
    return datetime.fromtimestamp(value / 1000, UTC)
