"""Africa's Talking: USSD and inbound SMS on the wire. What we send: africastalking_api.py.

Request: POST, application/x-www-form-urlencoded, fields sessionId, phoneNumber (E.164; an unescaped
`+` arrives as a space), networkCode, serviceCode, text (all inputs joined by `*`, which is not
escaped). Reply: text/plain that begins with `CON ` or `END `, nothing before it. Deadline 10 s.
End of session: another POST of the same form. Source: Africa's Talking's developer documents, USSD.

SMS, in the same form (developer documents, SMS callbacks): a message has date, from, id, linkId, text,
to, cost, networkCode and comes every minute until it is answered 200, for up to 12 hours (help centre,
742510); a delivery report id, status, phoneNumber, networkCode, failureReason, retryCount; an opt-out
senderId, phoneNumber. Required is what we could not do without: a refusal is repeated for 12 hours.

Airtime, in JSON (public integrations; their own documents were not read): before paying, a validation
transactionId, phoneNumber, sourceIpAddress, currencyCode, amount; afterwards a status phoneNumber,
description, status, requestId, discount, value ("GHS 5.0000").
"""

import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

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

_MAX_FIELDS = 64
_LIMITS = {"sessionId": 128, "phoneNumber": 20, "networkCode": 16, "serviceCode": 32, "text": 16_000}
_NOTICE_LIMITS = {"sessionId": 128, "phoneNumber": 20, "networkCode": 16, "serviceCode": 32}
_SMS_LIMITS = {"id": 128, "from": 20, "to": 32, "text": 16_000}
_REPORT_LIMITS = {"id": 128, "status": 64}
_OPT_OUT_LIMITS = {"phoneNumber": 20, "senderId": 32}
_VALIDATION_LIMITS = {"transactionId": 128, "phoneNumber": 20, "currencyCode": 3}
_AIRTIME_LIMITS = {"requestId": 128, "phoneNumber": 20, "status": 64}
_NAMES = frozenset(_LIMITS | _SMS_LIMITS | _REPORT_LIMITS | _OPT_OUT_LIMITS)
_UNREAD = frozenset(("date", "linkId"))  # nobody needs them, nor their decoding
_NEVER_EMPTY = ("sessionId", "phoneNumber", "id", "from", "status", "transactionId", "requestId")
#: In log lines and in the record, which takes no NUL.
_KEPT = (
    "sessionId", "networkCode", "serviceCode", "id", "to", "senderId", "transactionId", "requestId",
    "currencyCode",
)  # fmt: skip
_MONEY = re.compile(r"(?:([A-Z]{3}) +)?([0-9]{1,9}(?:\.[0-9]{1,8})?)")


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form. Raises WireError(400) on a repeated field, bad encoding, too many fields.

    Blank values stay: the first dial's `text=` must not vanish.
    """
    try:
        raw = body.decode("ascii")
    except UnicodeDecodeError:
        raise WireError(400, "the body must be percent-encoded ASCII") from None
    pairs = raw.split("&")
    if len(pairs) > _MAX_FIELDS:
        raise WireError(400, f"too many fields; at most {_MAX_FIELDS}")
    form: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        if name in form:
            raise WireError(400, f"field given twice: {_known(name)}")
        if ("%" in value or "+" in value) and name not in _UNREAD:
            value = unquote_plus(value, errors="replace")
        form[name] = value
    return form


def _known(name: str) -> str:
    """A field's name if it is one of the documented ones; else no name, which could be anything."""
    return name if name in _NAMES else "an unknown field"


def _require(form: dict[str, str], limits: dict[str, int]) -> None:
    missing = [name for name in limits if name not in form]
    if missing:
        raise WireError(400, f"missing: {', '.join(missing)}")
    too_long = [name for name, limit in limits.items() if len(form[name]) > limit]
    if too_long:
        raise WireError(400, f"too long: {', '.join(too_long)}")
    empty = [name for name in _NEVER_EMPTY if name in limits and not form[name].strip()]
    if empty:
        raise WireError(400, f"empty: {', '.join(empty)}")
    odd = [name for name in _KEPT if name in limits and not form[name].isprintable()]
    if odd:
        raise WireError(400, f"not printable: {', '.join(odd)}")


def read_msisdn(raw: str, field: str = "phoneNumber") -> str:
    """E.164 from the wire, where an unescaped `+` has become a space. Raises WireError(400)."""
    number = raw.strip()
    number = number if number.startswith("+") else "+" + number
    digits = number[1:]
    # E.164: 15 digits at most; none shorter than 7 is a subscriber's.
    if not (digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 15):
        raise WireError(400, f"{field}: must be in international form, + and 7 to 15 digits")
    return number


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a JSON object; numbers as Decimal. Raises WireError(400), also on a repeated field."""
    try:
        fields = json.loads(body.decode(), object_pairs_hook=_once, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError):  # ValueError also of bad UTF-8
        raise WireError(400, "the body must be JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise WireError(400, "the body must be a JSON object")
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WireError(400, "a field is given twice")
    return fields


def _require_texts(fields: dict[str, Any], limits: dict[str, int]) -> dict[str, str]:
    """These fields, as texts that can be stored: JSON can also spell half a surrogate pair."""
    texts = {name: fields[name] for name in limits if name in fields}
    odd = [n for n, v in texts.items() if not isinstance(v, str) or any("\ud800" <= c <= "\udfff" for c in v)]
    if odd:
        raise WireError(400, f"must be a string: {', '.join(odd)}")
    _require(texts, limits)
    return texts


def read_money(raw: object) -> tuple[Decimal | None, str]:
    """`GHS 5.0000`, `5.0000` or a number; the currency is empty when not said."""
    if isinstance(raw, Decimal):
        raw = format(raw, "f") if raw.is_finite() and abs(raw) < 10**9 else None
    match = _MONEY.fullmatch(raw.strip()) if isinstance(raw, str) else None
    return (Decimal(match[2]), match[1] or "") if match else (None, "")


def _whole(raw: str | None) -> int | None:
    return int(raw) if raw and raw.isascii() and raw.isdigit() and len(raw) < 12 else None


def _remark(raw: str, most: int) -> str:
    """Free text for the record: cut, and a space for what cannot be stored or printed."""
    return "".join(c if c.isprintable() else " " for c in raw[:most])


def without_digits(raw: object, most: int) -> str:
    """A remark for the record that might quote a number: its digits are not kept."""
    text = raw if isinstance(raw, str) else ""
    return "".join("#" if c.isdigit() else c for c in _remark(text, most) if not "\ud800" <= c <= "\udfff")


class AfricasTalking:
    name = "africastalking"
    cumulative = True
    content_type = "application/x-www-form-urlencoded"
    reply_type = "text/plain; charset=utf-8"
    max_body = 65_536  # a 10 KB input is up to 30 KB once percent-encoded

    def read_hop(self, body: bytes) -> Hop:
        form = read_form(body)
        _require(form, _LIMITS)
        return Hop(
            session=form["sessionId"],
            msisdn=read_msisdn(form["phoneNumber"]),
            network_code=form["networkCode"],
            service_code=form["serviceCode"],
            text=form["text"],
        )

    def write_screen(self, text: str, ends: bool) -> bytes:
        return (("END " if ends else "CON ") + text).encode()

    def read_session_ended(self, body: bytes) -> SessionEnded:
        """`input` and `lastAppResponse` hold answers: they are dropped here and never kept."""
        form = read_form(body)
        _require(form, _NOTICE_LIMITS)
        return SessionEnded(
            session=form["sessionId"],
            msisdn=read_msisdn(form["phoneNumber"]),
            network_code=form["networkCode"],
            service_code=form["serviceCode"],
            status=_remark(form.get("status", ""), 32),
            duration_ms=_whole(form.get("durationInMillis")),
            hops=_whole(form.get("hopsCount")),
            cost=_remark(form.get("cost", ""), 32),
            error=_remark(form.get("errorMessage", ""), 128),
        )

    def read_inbound_sms(self, body: bytes) -> InboundSms:
        """`date`, `cost` and `linkId` are not needed: our clock tells when, and nothing is premium."""
        form = read_form(body)
        _require(form, _SMS_LIMITS)
        return InboundSms(
            id=form["id"],
            msisdn=read_msisdn(form["from"], "from"),
            to=form["to"],
            network_code=_remark(form.get("networkCode", ""), 16),
            text=form["text"],
        )

    def read_delivery_report(self, body: bytes) -> DeliveryReport:
        """The message's id says which it is; the number, where it can be read, only tells whose the report
        of a message is whose id we never learnt."""
        form = read_form(body)
        _require(form, _REPORT_LIMITS)
        msisdn = ""
        with suppress(WireError):  # a 4xx would have it repeated for hours
            msisdn = read_msisdn(form.get("phoneNumber", ""))
        return DeliveryReport(
            message_id=form["id"],
            status=_remark(form["status"], 64),
            failure_reason=_remark(form.get("failureReason", ""), 64),
            network_code=_remark(form.get("networkCode", ""), 16),
            msisdn=msisdn,
        )

    def read_opt_out(self, body: bytes) -> OptOut:
        form = read_form(body)
        _require(form, _OPT_OUT_LIMITS)
        return OptOut(read_msisdn(form["phoneNumber"]), form["senderId"])

    # ---- airtime

    def read_airtime_validation(self, body: bytes) -> AirtimeValidation:
        """`sourceIpAddress` is not looked at: it says where our own order came from."""
        fields = read_object(body)
        texts = _require_texts(fields, _VALIDATION_LIMITS)
        amount, _ = read_money(fields.get("amount"))
        if amount is None:
            raise WireError(400, "amount: must be a number, such as 5.0000")
        return AirtimeValidation(
            transaction_id=texts["transactionId"],
            msisdn=read_msisdn(texts["phoneNumber"]),
            amount=amount,
            currency=texts["currencyCode"],
        )

    def read_airtime_status(self, body: bytes) -> AirtimeStatus:
        """Whatever the status word. `discount` is not kept."""
        fields = read_object(body)
        texts = _require_texts(fields, _AIRTIME_LIMITS)
        amount, currency = read_money(fields.get("value"))
        detail = fields.get("description")
        return AirtimeStatus(
            request_id=texts["requestId"],
            msisdn=read_msisdn(texts["phoneNumber"]),
            status=_remark(texts["status"], 64),
            amount=amount,
            currency=currency,
            detail=without_digits(detail, 128),
        )
