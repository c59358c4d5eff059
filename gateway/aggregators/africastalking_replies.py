"""What Africa's Talking answers to what we send: read from JSON, and judged. Pure.

Sources: Africa's Talking's API documents, and the status codes that public integrations agree on. Every
refusal has a word of ours and says what to do about it. What was not readable and not refused either may
have been done: it is unknown, and never sent again by itself. Reasons in prose may quote a number: they are
recognised and not kept.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.sending import AirtimeSent, SendError, Sent

ID = re.compile(r"[!-~]{1,128}")
_MONEY = re.compile(r"(?:([A-Z]{3}) +)?(-?[0-9]{1,15}(?:\.[0-9]{1,8})?)")
_WORD = re.compile(r"[A-Za-z]{1,32}")

#: What to do about a refusal, as fields of SendError.
HOLD = {"retryable": True, "alarm": True}
AGAIN = {"retryable": True}
NEVER: dict[str, bool] = {}
LOOK = {"alarm": True}
UNKNOWN = {"unknown": True}
_UNKNOWN_LOOK = {"unknown": True, "alarm": True}

_ACCEPTED = {100, 101, 102}  # processed, sent, queued

#: A recipient's statusCode when it is not accepted: our word and what to do about it.
_REFUSED: dict[int, tuple[str, dict[str, bool]]] = {
    401: ("risk_hold", HOLD),
    402: ("invalid_sender_id", HOLD),
    403: ("invalid_phone_number", NEVER),
    404: ("unsupported_number_type", NEVER),
    405: ("insufficient_balance", HOLD),
    406: ("user_in_blacklist", NEVER),
    407: ("could_not_route", HOLD),
    409: ("do_not_disturb_rejection", NEVER),
    500: ("internal_server_error", AGAIN),
    501: ("gateway_error", AGAIN),
    502: ("rejected_by_gateway", NEVER),
}

#: The same words where Africa's Talking gives a reason in prose, compared as letters only.
_REASONS: dict[str, tuple[str, dict[str, bool]]] = {
    **{word.replace("_", ""): (word, what) for word, what in _REFUSED.values()},
    "insufficientcredit": ("insufficient_balance", HOLD),
    "duplicaterequest": ("duplicate_request", UNKNOWN),  # an earlier try with this key was taken
}


def failure_of(code: str, what: Mapping[str, bool]) -> SendError:
    return SendError(code, **what)


def matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def read_answer(status: int, body: bytes, sending: bool) -> dict[str, Any] | SendError:
    """The JSON object of an answer, whatever content type it claims. What was not readable and not
    refused either may have been done."""
    if not 200 <= status < 300:
        return failure_of(f"http_{status}", _by_http_status(status, sending))
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_float=Decimal)
    except (ValueError, RecursionError):  # bad UTF-8 and bad JSON are ValueErrors
        found = None
    if not isinstance(found, dict):
        return failure_of("unreadable_reply", _UNKNOWN_LOOK if sending else LOOK)
    return found


def _by_http_status(status: int, sending: bool) -> Mapping[str, bool]:
    if status in (401, 403):  # our key or our account, not the message
        return HOLD
    if status == 504 and sending:  # somebody on the way waited in vain: a read time-out, told to us
        return UNKNOWN
    if status in (408, 425, 429) or status >= 500:
        return AGAIN
    return LOOK


def read_money(raw: object) -> tuple[Decimal | None, str]:
    """`GHS 0.0300` or a bare `0`. The currency is empty when not said."""
    if isinstance(raw, (int, Decimal)) and not isinstance(raw, bool):
        raw = str(raw)
    match = _MONEY.fullmatch(raw.strip()) if isinstance(raw, str) else None
    return (Decimal(match[2]), match[1] or "") if match else (None, "")


def _read_reason(raw: object) -> tuple[str, dict[str, bool]] | None:
    """Our word for a reason in prose, which itself may quote a number and is not kept."""
    letters = "".join(c for c in raw if c.isalpha()).lower() if isinstance(raw, str) else ""
    return next((found for name, found in _REASONS.items() if name in letters), None)


def _read_id(raw: object) -> str | None:
    """An id; none where it is the word None."""
    return raw if isinstance(raw, str) and matches(ID, raw) and raw != "None" else None


def read_sms(reply: Mapping[str, Any], count: int) -> Sent | SendError:
    data = reply.get("SMSMessageData")
    recipients = data.get("Recipients") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(recipients, list) or len(recipients) > 1:
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    if not recipients:  # the whole request was refused
        return failure_of(*(_read_reason(data.get("Message")) or ("refused", LOOK)))
    recipient = recipients[0]
    if not isinstance(recipient, dict):
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    status = recipient.get("statusCode")
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) < 6:
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 0 <= status < 100_000:
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    if status in _REFUSED:
        return failure_of(*_REFUSED[status])
    if status not in _ACCEPTED:
        return failure_of(f"status_{status}", LOOK)
    message_id = _read_id(recipient.get("messageId"))
    if message_id is None:
        return failure_of("no_message_id", _UNKNOWN_LOOK)  # accepted: it may well go
    word = recipient.get("status")
    cost, currency = read_money(recipient.get("cost"))
    return Sent(
        message_id=message_id,
        state="accepted",
        status_raw=f"{status} {word}" if matches(_WORD, word) else str(status),
        parts=count,
        cost=cost,
        currency=currency,
    )


def read_airtime(reply: Mapping[str, Any]) -> AirtimeSent | SendError:
    """An order's outcome. Where a reply contradicts itself the money may be gone: unknown."""
    responses = reply.get("responses")
    if not isinstance(responses, list) or len(responses) > 1:
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    if not responses:
        if reply.get("numSent") not in (0, "0", None):
            return failure_of("unreadable_reply", _UNKNOWN_LOOK)
        return failure_of(*(_read_reason(reply.get("errorMessage")) or ("refused", LOOK)))
    response = responses[0]
    if not isinstance(response, dict):
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    status, message = response.get("status"), response.get("errorMessage")
    if status == "Failed":
        if known := _read_reason(message):
            return failure_of(*known)
        return failure_of("failed", NEVER if message in ("None", None) else LOOK)
    if status != "Sent":
        code = f"status_{status}" if matches(_WORD, status) else "unreadable_reply"
        return failure_of(code, _UNKNOWN_LOOK)
    request_id = _read_id(response.get("requestId"))
    if request_id is None:
        return failure_of("no_request_id", _UNKNOWN_LOOK)
    if reply.get("numSent") in (0, "0"):
        return failure_of("unreadable_reply", _UNKNOWN_LOOK)
    return AirtimeSent(
        request_id=request_id,
        status_raw=status,
        amount=read_money(response.get("amount"))[0],
        discount=read_money(response.get("discount"))[0],
    )
