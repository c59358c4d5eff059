"""The simulator: our own aggregator, which the terminal handset, the page handset and the demo speak.

A true second wire, of the shape that Hubtel, Nalo and Arkesel have: JSON, this hop's input alone, an
explicit sequence. Request: POST, application/json,

    {"session": "...", "msisdn": "+233240000001", "network": "99999", "code": "*384*16#",
     "sequence": 1, "input": ""}

Sequence 1 is the dial; its input is what was dialled beyond the code ("1" for *384*16*1#), normally
empty. Then 2, 3, ... each with the input of that hop. The same sequence again is a repeat and gets the
same screen. Reply: 200, application/json, {"screen": "...", "more": true}; `more` is false on the last
screen. End of session: another POST, {"session", "msisdn", "network", "code", "status": "Incomplete" |
"Success" | "Failed", "hops": 3, "duration_ms": 41200}.

SMS, in JSON too: a message {"id": "...", "msisdn": "+233240000001", "network": "99999", "to": "1616",
"text": "SURVEY"}, repeated until it is answered 200; a delivery report {"id": "...", "status":
"Success", "reason": "...", "network": "..."}, the last two optional; an opt-out {"msisdn", "sender"}.

Airtime: a validation {"id": "...", "msisdn": "...", "amount": "5.00", "currency": "GHS"}; a status {"id",
"msisdn", "status", "amount": "5.00", "currency", "reason"}, the last three optional.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.messages import (
    AirtimeStatus,
    AirtimeValidation,
    DeliveryReport,
    Hop,
    InboundSms,
    OptOut,
    SessionEnded,
    WireError,
)

_LIMITS = {"session": 128, "msisdn": 16, "network": 16, "code": 32}
_HOP_LIMITS = _LIMITS | {"input": 16_000}
_NOTICE_LIMITS = _LIMITS | {"status": 32}
_SMS_LIMITS = {"id": 128, "msisdn": 16, "network": 16, "to": 32, "text": 16_000}
_REPORT_LIMITS = {"id": 128, "status": 64}
_REPORT_REMARKS = {"reason": 64, "network": 16, "msisdn": 16}
_OPT_OUT_LIMITS = {"msisdn": 16, "sender": 32}
_VALIDATION_LIMITS = {"id": 128, "msisdn": 16, "amount": 16, "currency": 3}
_AIRTIME_LIMITS = {"id": 128, "msisdn": 16, "status": 64}
_AIRTIME_REMARKS = {"amount": 16, "currency": 3, "reason": 64}
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,8})?")
_MOST_HOPS = 10_000  # no session is as long; keeps a hostile number out of the live store
_MSISDN = re.compile(r"\+[0-9]{7,15}")  # E.164: 15 digits at most; none under 7 is a subscriber's


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # Two readers may each believe another of the two, so neither is believed. Not named: any
        # text can be a key.
        raise WireError(400, "a field is given twice")
    return fields


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):  # ValueError also of a number of thousands of digits
        raise WireError(400, "the body must be JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise WireError(400, "the body must be a JSON object")
    return fields


def _require(fields: Mapping[str, Any], limits: Mapping[str, int]) -> None:
    if missing := [name for name in limits if name not in fields]:
        raise WireError(400, f"missing: {', '.join(missing)}")
    if not_text := [name for name in limits if not _is_text(fields[name])]:
        raise WireError(400, f"must be a string: {', '.join(not_text)}")
    if too_long := [name for name, limit in limits.items() if len(fields[name]) > limit]:
        raise WireError(400, f"too long: {', '.join(too_long)}")
    if empty := [n for n in ("session", "id", "status") if n in limits and not fields[n].strip()]:
        raise WireError(400, f"empty: {', '.join(empty)}")
    # They stand in log lines and in the record, which takes no NUL.
    kept = ("session", "network", "code", "status", "id", "to", "sender", "reason", "currency")
    if odd := [name for name in kept if name in limits and not fields[name].isprintable()]:
        raise WireError(400, f"not printable: {', '.join(odd)}")
    if "msisdn" in limits and not _MSISDN.fullmatch(fields["msisdn"]):
        raise WireError(400, "msisdn: must be in international form, + and 7 to 15 digits")


def _is_text(value: object) -> bool:
    """A string that can be stored: JSON's escapes can also spell half a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _whole(value: object) -> int | None:
    # JSON's true is an int to Python
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**11:
        return value
    return None


class Simulator:
    name = "simulator"
    cumulative = False
    content_type = "application/json"
    reply_type = "application/json"
    max_body = 65_536

    def read_hop(self, body: bytes) -> Hop:
        fields = _read_object(body)
        _require(fields, _HOP_LIMITS)
        sequence = _whole(fields.get("sequence"))
        if sequence is None or not 1 <= sequence <= _MOST_HOPS:
            raise WireError(400, f"sequence: must be a whole number, 1 to {_MOST_HOPS}")
        return Hop(
            session=fields["session"],
            msisdn=fields["msisdn"],
            network_code=fields["network"],
            service_code=fields["code"],
            text=fields["input"],
            sequence=sequence,
        )

    def write_screen(self, text: str, ends: bool) -> bytes:
        return json.dumps({"screen": text, "more": not ends}, ensure_ascii=False).encode()

    def read_session_ended(self, body: bytes) -> SessionEnded:
        fields = _read_object(body)
        _require(fields, _NOTICE_LIMITS)
        return SessionEnded(
            session=fields["session"],
            msisdn=fields["msisdn"],
            network_code=fields["network"],
            service_code=fields["code"],
            status=fields["status"],
            duration_ms=_whole(fields.get("duration_ms")),
            hops=_whole(fields.get("hops")),
        )

    def read_inbound_sms(self, body: bytes) -> InboundSms:
        fields = _read_object(body)
        _require(fields, _SMS_LIMITS)
        return InboundSms(
            id=fields["id"],
            msisdn=fields["msisdn"],
            to=fields["to"],
            network_code=fields["network"],
            text=fields["text"],
        )

    def read_delivery_report(self, body: bytes) -> DeliveryReport:
        fields = _read_object(body)
        _require(fields, _REPORT_LIMITS | {n: m for n, m in _REPORT_REMARKS.items() if n in fields})
        return DeliveryReport(
            message_id=fields["id"],
            status=fields["status"],
            failure_reason=fields.get("reason", ""),
            network_code=fields.get("network", ""),
            msisdn=fields.get("msisdn", ""),
        )

    def read_opt_out(self, body: bytes) -> OptOut:
        fields = _read_object(body)
        _require(fields, _OPT_OUT_LIMITS)
        return OptOut(fields["msisdn"], fields["sender"])

    # ---- airtime

    def read_airtime_validation(self, body: bytes) -> AirtimeValidation:
        fields = _read_object(body)
        _require(fields, _VALIDATION_LIMITS)
        if not _AMOUNT.fullmatch(fields["amount"]):
            raise WireError(400, "amount: must be a decimal in a string, such as 5.00")
        return AirtimeValidation(
            fields["id"], fields["msisdn"], Decimal(fields["amount"]), fields["currency"]
        )  # fmt: skip

    def read_airtime_status(self, body: bytes) -> AirtimeStatus:
        fields = _read_object(body)
        _require(fields, _AIRTIME_LIMITS | {n: m for n, m in _AIRTIME_REMARKS.items() if n in fields})
        amount = fields.get("amount", "")
        return AirtimeStatus(
            request_id=fields["id"],
            msisdn=fields["msisdn"],
            status=fields["status"],
            amount=Decimal(amount) if _AMOUNT.fullmatch(amount) else None,
            currency=fields.get("currency", ""),
            detail="".join("#" if c.isdigit() else c for c in fields.get("reason", "")),
        )
