"""Africa's Talking: sending SMS and airtime. The only file that sees the `africastalking` SDK.

Sources: the SDK 2.0.3 itself (calls, fields, hosts); Africa's Talking's API documents and the status
codes that public integrations agree on (replies). The SDK's services are subclassed at the one method
through which all their requests go, `_make_request`, because as published (2.0.3) they
 1 keep an airtime order's Idempotency-Key for the next order: here a service an order, a key always;
 2 change the caller's recipients: here they get their own list;
 3 read JSON only under one exact content type: here whatever the content type;
 4 lose time-outs in a thread when given a callback: here a callback is refused;
 5 lose the HTTP status: here it decides;
 6 take `+0000`, 22 digits or a trailing newline for a number: here E.164 or nothing;
 7 take a string for a list of numbers, and an empty list: here one number, always in a list;
 8 send hashed numbers in a form that cannot work: here not reachable;
 9 take negative and NaN amounts: here a Decimal, above zero, of two decimals at most;
10 name another version of themselves in User-Agent: here their own.
They also open a connection a call and would follow a redirect with the API key: here one pool a
process, and no redirects.

Blocking, for workers. Logs hold codes and the aggregator's ids; exceptions hold codes, and are raised
outside the handlers of others, so that no chained exception quotes a request.
"""

import json
import logging
import os
import re
import ssl
from collections.abc import Callable, Mapping
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from africastalking.Airtime import AirtimeService
from africastalking.Application import ApplicationService
from africastalking.MobileData import MobileDataService
from africastalking.Service import AfricasTalkingException, Service
from africastalking.SMS import SMSService
from requests import exceptions as failed

from flows.gsm import parts
from gateway.sending import AirtimeSent, SendError, Sent

log = logging.getLogger("dial16.sending")

#: To connect, and between two octets of the answer: the SDK's own.
TIMEOUT_SECONDS = (3.05, 9.05)

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9 ._&-]{1,11}")  # a registered sender name: at most 11 characters
_SHORT_CODE = re.compile(r"\+?[0-9]{3,15}")  # also a long number, as in `sms_sender`
_ID = re.compile(r"[!-~]{1,128}")
_MONEY = re.compile(r"(?:([A-Z]{3}) +)?(-?[0-9]{1,15}(?:\.[0-9]{1,8})?)")
_WORD = re.compile(r"[A-Za-z]{1,32}")
_CENT = Decimal("0.01")

_MISCONFIGURED = (failed.InvalidURL, failed.MissingSchema, failed.InvalidSchema, failed.InvalidHeader)

_HOLD = {"retryable": True, "alarm": True}
_AGAIN = {"retryable": True}
_NEVER: dict[str, bool] = {}
_LOOK = {"alarm": True}
_UNKNOWN = {"unknown": True}
_UNKNOWN_LOOK = {"unknown": True, "alarm": True}

_ACCEPTED = {100, 101, 102}  # processed, sent, queued

#: A recipient's statusCode when it is not accepted: our word and what to do about it.
_REFUSED: dict[int, tuple[str, dict[str, bool]]] = {
    401: ("risk_hold", _HOLD),
    402: ("invalid_sender_id", _HOLD),
    403: ("invalid_phone_number", _NEVER),
    404: ("unsupported_number_type", _NEVER),
    405: ("insufficient_balance", _HOLD),
    406: ("user_in_blacklist", _NEVER),
    407: ("could_not_route", _HOLD),
    409: ("do_not_disturb_rejection", _NEVER),
    500: ("internal_server_error", _AGAIN),
    501: ("gateway_error", _AGAIN),
    502: ("rejected_by_gateway", _NEVER),
}

#: The same words where Africa's Talking gives a reason in prose, compared as letters only.
_REASONS: dict[str, tuple[str, dict[str, bool]]] = {
    **{word.replace("_", ""): (word, what) for word, what in _REFUSED.values()},
    "insufficientcredit": ("insufficient_balance", _HOLD),
    "duplicaterequest": ("duplicate_request", _UNKNOWN),  # an earlier try with this key was taken
}


class _Http:
    """One pool of connections a process. Whatever goes wrong on the way is a SendError."""

    def __init__(self, proxied: bool):
        self._proxied = proxied
        self._session: requests.Session | None = None
        self._process = 0

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        params: Any,
        timeout: tuple[float, float],
    ) -> dict[str, Any]:
        """The answer's JSON object."""
        try:
            answer = self._open().request(
                method,
                url,
                headers=dict(headers),
                data=data,
                params=params,
                timeout=timeout,
                allow_redirects=False,  # one would carry the API key elsewhere
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = _lost(error, sending=method != "GET")
        else:
            found = _read(answer.status_code, answer.content, sending=method != "GET")
            if not isinstance(found, SendError):
                return found
            failure = found
        raise failure

    def _open(self) -> requests.Session:
        if self._session is None or self._process != os.getpid():  # a fork must not share sockets
            session = requests.Session()
            session.trust_env = self._proxied
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            self._session, self._process = session, os.getpid()
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Repaired(Service):  # type: ignore[misc]
    """The SDK's services with requests of our own; listed before them among a class's bases."""

    _baseUrl: str
    _contentUrl: str

    def __init__(self, username: str, api_key: str, base_url: str | None, http: _Http):
        self._elsewhere = base_url
        self._http = http
        super().__init__(username, api_key)
        self._headers["User-Agent"] = "africastalking-python/" + version("africastalking")

    def _init_service(self) -> None:
        """The SDK's own addresses, sandbox or not by the user name; with `base_url`, their paths there."""
        super()._init_service()
        if self._elsewhere is not None:
            self._baseUrl = self._elsewhere + urlsplit(self._baseUrl).path
            self._contentUrl = self._elsewhere + urlsplit(self._contentUrl).path

    def _make_request(
        self,
        url: str,
        method: str,
        headers: Mapping[str, str],
        data: Any,
        params: Any,
        callback: object = None,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        if callback is not None:
            raise RuntimeError("callbacks lose errors: call without one")
        return self._http.ask(method, url, headers, data, params, timeout)


class _Sms(_Repaired, SMSService):  # type: ignore[misc]
    pass


class _Airtime(_Repaired, AirtimeService):  # type: ignore[misc]
    pass


class _Account(_Repaired, ApplicationService):  # type: ignore[misc]
    pass


class _Transactions(_Repaired, MobileDataService):  # type: ignore[misc]
    """The look-up stands with mobile data, and on its host."""


class AfricasTalkingApi:
    """One account. The user name `sandbox` uses the sandbox, as in the SDK; `base_url` another host.

    Safe to share between threads, and to compose before a fork.
    """

    def __init__(
        self,
        username: str,
        api_key: str,
        base_url: str | None = None,
        *,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
    ):
        if base_url is not None:
            base_url = base_url.rstrip("/")
            if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
                raise ValueError("base_url: must be http:// or https:// and a host")
        self._http = _Http(proxied=base_url is None)
        self._account = (username, api_key, base_url, self._http)
        self._timeout = timeout
        self._sms = _Sms(*self._account)

    def send_sms(self, msisdn: str, text: str, sender: str | None) -> Sent:
        _check_number(msisdn)
        if not isinstance(text, str) or not text.strip():
            raise _failure("empty_text", _LOOK)
        if sender is not None and not (_is(_NAME, sender) or _is(_SHORT_CODE, sender)):
            raise _failure("invalid_sender_id", _HOLD)
        count = parts(text)
        reply = _call("sms", self._sms.send, text, [msisdn], sender_id=sender, timeout=self._timeout)
        found = _read_sms(reply, count)
        if isinstance(found, SendError):
            raise _logged(found, "sms")
        log.info("sms accepted id=%s status=%s", found.message_id, found.status_raw)
        return found

    def send_airtime(self, msisdn: str, currency: str, amount: Decimal, key: str) -> AirtimeSent:
        _check_number(msisdn)
        if not _is(_CURRENCY, currency):
            raise _failure("invalid_currency", _LOOK)
        if not _is(_KEY, key):
            raise _failure("invalid_key", _LOOK)
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount <= 0:
            raise _failure("invalid_amount", _LOOK)
        if amount >= Decimal(10) ** 9 or amount != amount.quantize(_CENT):
            raise _failure("invalid_amount", _LOOK)
        recipient = {"phoneNumber": msisdn, "amount": f"{amount:.2f}", "currency_code": currency}
        airtime = _Airtime(*self._account)
        order = {"recipients": [recipient], "idempotency_key": key}
        reply = _call("airtime", airtime.send, **order, timeout=self._timeout)
        found = _read_airtime(reply)
        if isinstance(found, SendError):
            raise _logged(found, "airtime")
        log.info("airtime accepted id=%s status=%s", found.request_id, found.status_raw)
        return found

    def find_airtime(self, reference: str) -> str | None:
        """The form of the answer is from memory: only `Success` and `Failed`, where they are expected and
        of this very transaction, are believed. SendError while there is no answer."""
        if not _is(_ID, reference):
            return None
        reply = _call("look-up", _Transactions(*self._account).find_transaction, reference,
                      timeout=self._timeout)  # fmt: skip
        data = reply.get("data")
        if reply.get("status") != "Success" or not isinstance(data, dict):
            return None
        named = data.get("requestId", data.get("transactionId"))
        word = data.get("status")
        return word if named == reference and word in ("Success", "Failed") else None

    def balance(self) -> tuple[str, Decimal] | None:
        reply = _call("balance", _Account(*self._account).fetch_application_data, timeout=self._timeout)
        data = reply.get("UserData")
        amount, currency = _read_money(data.get("balance") if isinstance(data, dict) else None)
        return (currency, amount) if amount is not None and currency else None

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._http.close()


def _call(what: str, send: Callable[..., Any], *args: Any, **named: Any) -> dict[str, Any]:
    """What the SDK returns. Its own errors quote numbers and bodies: only their names go on."""
    try:
        reply: dict[str, Any] = send(*args, **named)
        return reply
    except SendError as error:
        failure = error
    except (AfricasTalkingException, ValueError, TypeError, RuntimeError) as error:
        failure = _failure(f"sdk_{type(error).__name__}", _LOOK)
    raise _logged(failure.with_traceback(None), what)


def _logged(failure: SendError, what: str) -> SendError:
    log.warning(
        "%s not accepted code=%s retryable=%s alarm=%s unknown=%s",
        what,
        failure.code,
        failure.retryable,
        failure.alarm,
        failure.unknown,
    )
    return failure


def _failure(code: str, what: Mapping[str, bool]) -> SendError:
    return SendError(code, **what)


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _check_number(msisdn: object) -> None:
    if not _is(_E164, msisdn):
        raise _failure("invalid_phone_number", _NEVER)


def _lost(error: Exception, sending: bool) -> SendError:
    """No answer. Where the request cannot have arrived it may be sent again; else nobody knows."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, urllib3.exceptions.SSLError) and isinstance(
        next(iter(reason.args), None), ssl.SSLCertVerificationError
    ):
        return _failure("certificate_not_valid", _HOLD)
    if isinstance(error, _MISCONFIGURED):
        return _failure("misconfigured", _HOLD)
    if isinstance(error, (failed.ConnectTimeout, failed.ProxyError)) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    ):
        return _failure("not_connected", _AGAIN)
    code = "read_timeout" if isinstance(error, failed.ReadTimeout) else "connection_lost"
    return _failure(code, _UNKNOWN if sending else _AGAIN)


def _read(status: int, body: bytes, sending: bool) -> dict[str, Any] | SendError:
    """The JSON object of an answer, whatever content type it claims. What was not readable and not
    refused either may have been done."""
    if not 200 <= status < 300:
        return _failure(f"http_{status}", _by_http_status(status, sending))
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_float=Decimal)
    except (ValueError, RecursionError):  # bad UTF-8 and bad JSON are ValueErrors
        found = None
    if not isinstance(found, dict):
        return _failure("unreadable_reply", _UNKNOWN_LOOK if sending else _LOOK)
    return found


def _by_http_status(status: int, sending: bool) -> Mapping[str, bool]:
    if status in (401, 403):  # our key or our account, not the message
        return _HOLD
    if status == 504 and sending:  # somebody on the way waited in vain: a read time-out, told to us
        return _UNKNOWN
    if status in (408, 425, 429) or status >= 500:
        return _AGAIN
    return _LOOK


def _read_money(raw: object) -> tuple[Decimal | None, str]:
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
    return raw if isinstance(raw, str) and _is(_ID, raw) and raw != "None" else None


def _read_sms(reply: Mapping[str, Any], count: int) -> Sent | SendError:
    data = reply.get("SMSMessageData")
    recipients = data.get("Recipients") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(recipients, list) or len(recipients) > 1:
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    if not recipients:  # the whole request was refused
        return _failure(*(_read_reason(data.get("Message")) or ("refused", _LOOK)))
    recipient = recipients[0]
    if not isinstance(recipient, dict):
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    status = recipient.get("statusCode")
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) < 6:
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 0 <= status < 100_000:
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    if status in _REFUSED:
        return _failure(*_REFUSED[status])
    if status not in _ACCEPTED:
        return _failure(f"status_{status}", _LOOK)
    message_id = _read_id(recipient.get("messageId"))
    if message_id is None:
        return _failure("no_message_id", _UNKNOWN_LOOK)  # accepted: it may well go
    word = recipient.get("status")
    cost, currency = _read_money(recipient.get("cost"))
    return Sent(
        message_id=message_id,
        state="accepted",
        status_raw=f"{status} {word}" if _is(_WORD, word) else str(status),
        parts=count,
        cost=cost,
        currency=currency,
    )


def _read_airtime(reply: Mapping[str, Any]) -> AirtimeSent | SendError:
    """An order's outcome. Where a reply contradicts itself the money may be gone: unknown."""
    responses = reply.get("responses")
    if not isinstance(responses, list) or len(responses) > 1:
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    if not responses:
        if reply.get("numSent") not in (0, "0", None):
            return _failure("unreadable_reply", _UNKNOWN_LOOK)
        return _failure(*(_read_reason(reply.get("errorMessage")) or ("refused", _LOOK)))
    response = responses[0]
    if not isinstance(response, dict):
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    status, message = response.get("status"), response.get("errorMessage")
    if status == "Failed":
        if known := _read_reason(message):
            return _failure(*known)
        return _failure("failed", _NEVER if message in ("None", None) else _LOOK)
    if status != "Sent":
        code = f"status_{status}" if _is(_WORD, status) else "unreadable_reply"
        return _failure(code, _UNKNOWN_LOOK)
    request_id = _read_id(response.get("requestId"))
    if request_id is None:
        return _failure("no_request_id", _UNKNOWN_LOOK)
    if reply.get("numSent") in (0, "0"):
        return _failure("unreadable_reply", _UNKNOWN_LOOK)
    return AirtimeSent(
        request_id=request_id,
        status_raw=status,
        amount=_read_money(response.get("amount"))[0],
        discount=_read_money(response.get("discount"))[0],
    )
