"""Africa's Talking: sending SMS and airtime. The only file that sees the `africastalking` SDK.

Source: the SDK 2.0.3 itself (calls, fields, hosts). How replies are read: africastalking_replies.py. The
SDK's services are subclassed at the one method through which all their requests go, `_make_request`,
because as published (2.0.3) they
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
from gateway.aggregators.africastalking_replies import (
    AGAIN,
    HOLD,
    ID,
    LOOK,
    NEVER,
    UNKNOWN,
    failure_of,
    matches,
    read_airtime,
    read_answer,
    read_money,
    read_sms,
)
from gateway.sending import AirtimeSent, SendError, Sent

log = logging.getLogger("dial16.sending")

#: To connect, and between two octets of the answer: the SDK's own.
TIMEOUT_SECONDS = (3.05, 9.05)

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9 ._&-]{1,11}")  # a registered sender name: at most 11 characters
_SHORT_CODE = re.compile(r"\+?[0-9]{3,15}")  # also a long number, as in `sms_sender`
_CENT = Decimal("0.01")

_MISCONFIGURED = (failed.InvalidURL, failed.MissingSchema, failed.InvalidSchema, failed.InvalidHeader)


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
            found = read_answer(answer.status_code, answer.content, sending=method != "GET")
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
            raise failure_of("empty_text", LOOK)
        if sender is not None and not (matches(_NAME, sender) or matches(_SHORT_CODE, sender)):
            raise failure_of("invalid_sender_id", HOLD)
        count = parts(text)
        reply = _call("sms", self._sms.send, text, [msisdn], sender_id=sender, timeout=self._timeout)
        found = read_sms(reply, count)
        if isinstance(found, SendError):
            raise _logged(found, "sms")
        log.info("sms accepted id=%s status=%s", found.message_id, found.status_raw)
        return found

    def send_airtime(self, msisdn: str, currency: str, amount: Decimal, key: str) -> AirtimeSent:
        _check_number(msisdn)
        if not matches(_CURRENCY, currency):
            raise failure_of("invalid_currency", LOOK)
        if not matches(_KEY, key):
            raise failure_of("invalid_key", LOOK)
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount <= 0:
            raise failure_of("invalid_amount", LOOK)
        if amount >= Decimal(10) ** 9 or amount != amount.quantize(_CENT):
            raise failure_of("invalid_amount", LOOK)
        recipient = {"phoneNumber": msisdn, "amount": f"{amount:.2f}", "currency_code": currency}
        airtime = _Airtime(*self._account)
        order = {"recipients": [recipient], "idempotency_key": key}
        reply = _call("airtime", airtime.send, **order, timeout=self._timeout)
        found = read_airtime(reply)
        if isinstance(found, SendError):
            raise _logged(found, "airtime")
        log.info("airtime accepted id=%s status=%s", found.request_id, found.status_raw)
        return found

    def find_airtime(self, reference: str) -> str | None:
        """The form of the answer is from memory: only `Success` and `Failed`, where they are expected and
        of this very transaction, are believed. SendError while there is no answer."""
        if not matches(ID, reference):
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
        amount, currency = read_money(data.get("balance") if isinstance(data, dict) else None)
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
        failure = failure_of(f"sdk_{type(error).__name__}", LOOK)
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


def _check_number(msisdn: object) -> None:
    if not matches(_E164, msisdn):
        raise failure_of("invalid_phone_number", NEVER)


def _lost(error: Exception, sending: bool) -> SendError:
    """No answer. Where the request cannot have arrived it may be sent again; else nobody knows."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, urllib3.exceptions.SSLError) and isinstance(
        next(iter(reason.args), None), ssl.SSLCertVerificationError
    ):
        return failure_of("certificate_not_valid", HOLD)
    if isinstance(error, _MISCONFIGURED):
        return failure_of("misconfigured", HOLD)
    if isinstance(error, (failed.ConnectTimeout, failed.ProxyError)) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    ):
        return failure_of("not_connected", AGAIN)
    code = "read_timeout" if isinstance(error, failed.ReadTimeout) else "connection_lost"
    return failure_of(code, UNKNOWN if sending else AGAIN)
