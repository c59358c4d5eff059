"""The wrapper of Africa's Talking's SDK against the stand-in of its API, in real HTTP on this machine.

Every row of the tables in `gateway/aggregators/africastalking_replies.py`, and every defect in the list of
`africastalking_api.py`.
"""

import json
import logging
import multiprocessing
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest
from africastalking.Airtime import AirtimeService
from africastalking.Service import AfricasTalkingException, validate_phone
from africastalking.SMS import SMSService

from gateway.aggregators.africastalking_api import AfricasTalkingApi
from gateway.sending import AirtimeSent, Sender, SendError, Sent
from tests.at_api import AtApi, Habits, read_habits, serving

TEXT = "Thank you. The survey goes on: dial *384*16#"
KEY = "airtime-1f0c"
FIVE = Decimal("5.00")
PATIENT, SHORT = (2.0, 10.0), (2.0, 0.4)  # time-outs; the stand-in's slow answers take 0.8 s
SLOW = ("7011", "7012")
# What a SendError says to do: retryable, alarm, unknown.
HOLD, AGAIN, NEVER = (True, True, False), (True, False, False), (False, False, False)
LOOK, UNKNOWN, UNKNOWN_LOOK = (False, True, False), (False, False, True), (False, True, True)


def number(ending: str) -> str:
    return "+23324000" + ending


def sender(api: AtApi, **named: Any) -> AfricasTalkingApi:
    given = {"username": api.habits.username, "api_key": api.habits.api_key, "timeout": PATIENT}
    return AfricasTalkingApi(base_url=api.url, **(given | named))


@pytest.fixture(scope="module")
def api() -> Iterator[AtApi]:
    with serving(Habits(scripted=True, slow_seconds=0.8)) as stand_in:
        yield stand_in


@pytest.fixture
def at(api: AtApi) -> Iterator[AfricasTalkingApi]:
    wrapper = sender(api)
    yield wrapper
    wrapper.close()


@pytest.fixture
def hurried(api: AtApi) -> Iterator[AfricasTalkingApi]:
    wrapper = sender(api, timeout=SHORT)
    yield wrapper
    wrapper.close()


def refusal(call: Any, *args: Any) -> SendError:
    with pytest.raises(SendError) as caught:
        call(*args)
    return caught.value


def flags(error: SendError) -> tuple[bool, bool, bool]:
    return (error.retryable, error.alarm, error.unknown)


# What is accepted


def test_a_text_that_is_taken(api: AtApi, at: AfricasTalkingApi) -> None:
    sent = at.send_sms(number("0001"), TEXT, "Dial16")
    line = api.books.messages[-1]
    assert sent == Sent(line["id"], "accepted", "101 Sent", 1, Decimal("0.0300"), "GHS")
    assert (line["number"], line["text"], line["sender"]) == (number("0001"), TEXT, "Dial16")


@pytest.mark.parametrize(
    "text", ["é à ñ £ € {[*]}", "Akwaaba 👋🏾 ɛ ɔ ŋ", "a\nb & c=d+e%20", " x", "x" * 1600]
)
def test_a_text_arrives_as_it_was_given(api: AtApi, at: AfricasTalkingApi, text: str) -> None:
    sent = at.send_sms(number("0002"), text, None)
    assert (api.books.messages[-1]["text"], api.books.messages[-1]["sender"]) == (text, None)
    assert sent.parts == api.books.messages[-1]["parts"]
    assert sent.cost == sent.parts * Decimal("0.03")


@pytest.mark.parametrize("code", [100, 101, 102])
def test_each_status_that_accepts(at: AfricasTalkingApi, code: int) -> None:
    word = {100: "Processed", 101: "Sent", 102: "Queued"}[code]
    assert at.send_sms(number(f"9{code}"), TEXT, None).status_raw == f"{code} {word}"


@pytest.mark.parametrize(
    ("ending", "cost", "currency"),
    [("7022", Decimal(0), ""), ("7023", None, ""), ("7024", Decimal("0.0300"), "GHS")],
)
def test_an_accepted_text_stays_accepted_whatever_its_cost_reads(
    at: AfricasTalkingApi, ending: str, cost: Decimal | None, currency: str
) -> None:
    sent = at.send_sms(number(ending), TEXT, None)
    assert (sent.state, sent.cost, sent.currency) == ("accepted", cost, currency)


def test_airtime_that_is_taken(api: AtApi, at: AfricasTalkingApi) -> None:
    sent = at.send_airtime(number("0001"), "GHS", Decimal(5), "taken-1")
    line = api.books.airtime[-1]
    assert sent == AirtimeSent(line["id"], "Sent", Decimal("5.00"), Decimal("0.1000"))
    assert (line["number"], line["amount"], line["currency"]) == (number("0001"), FIVE, "GHS")
    assert line["key"] == "taken-1" and line["state"] == "paid"


def test_the_balance(api: AtApi, at: AfricasTalkingApi) -> None:
    assert at.balance() == ("GHS", api.books.balance.quantize(Decimal("0.0001")))


def test_it_is_a_sender(at: AfricasTalkingApi) -> None:
    neutral: Sender = at
    assert neutral.balance() is not None


# What is refused

STATUS_TABLE = [
    (401, "risk_hold", HOLD),
    (402, "invalid_sender_id", HOLD),
    (403, "invalid_phone_number", NEVER),
    (404, "unsupported_number_type", NEVER),
    (405, "insufficient_balance", HOLD),
    (406, "user_in_blacklist", NEVER),
    (407, "could_not_route", HOLD),
    (409, "do_not_disturb_rejection", NEVER),
    (500, "internal_server_error", AGAIN),
    (501, "gateway_error", AGAIN),
    (502, "rejected_by_gateway", NEVER),
    (999, "status_999", LOOK),
    (408, "status_408", LOOK),
]


@pytest.mark.parametrize(("status", "code", "what"), STATUS_TABLE)
def test_each_status_that_refuses(
    api: AtApi, at: AfricasTalkingApi, status: int, code: str, what: tuple[bool, bool, bool]
) -> None:
    error = refusal(at.send_sms, number(f"9{status}"), TEXT, None)
    assert (error.code, flags(error)) == (code, what)
    if status != 999:
        assert api.books.messages[-1]["state"] == "refused"


HTTP_TABLE = [
    (400, LOOK),
    (401, HOLD),
    (403, HOLD),
    (404, LOOK),
    (408, AGAIN),
    (429, AGAIN),
    (500, AGAIN),
    (502, AGAIN),
    (503, AGAIN),
    (504, UNKNOWN),
]


@pytest.mark.parametrize(("status", "what"), HTTP_TABLE)
def test_each_http_status(at: AfricasTalkingApi, status: int, what: tuple[bool, bool, bool]) -> None:
    for call, args in ((at.send_sms, (TEXT, None)), (at.send_airtime, ("GHS", FIVE, f"http-{status}"))):
        error = refusal(call, number(f"8{status}"), *args)
        assert (error.code, flags(error)) == (f"http_{status}", what)


@pytest.mark.parametrize(
    ("ending", "code", "what"),
    [
        ("7001", "unreadable_reply", UNKNOWN_LOOK),  # a web page with status 200: who answered?
        ("7002", "http_502", AGAIN),
        ("7006", "invalid_sender_id", HOLD),
        ("7007", "refused", LOOK),
        ("7008", "insufficient_balance", HOLD),
        ("7011", "read_timeout", UNKNOWN),
        ("7012", "read_timeout", UNKNOWN),
        ("7013", "connection_lost", UNKNOWN),
        ("7014", "unreadable_reply", UNKNOWN_LOOK),
        ("7015", "http_302", LOOK),
        ("7021", "no_message_id", UNKNOWN_LOOK),
    ],
)
def test_each_reply_that_is_not_an_acceptance(
    at: AfricasTalkingApi, hurried: AfricasTalkingApi, ending: str, code: str, what: tuple[bool, bool, bool]
) -> None:
    at = hurried if ending in SLOW else at
    error = refusal(at.send_sms, number(ending), TEXT, None)
    assert (error.code, flags(error)) == (code, what)


@pytest.mark.parametrize(
    ("ending", "code", "what"),
    [
        ("6001", "failed", NEVER),
        ("6002", "insufficient_balance", HOLD),
        ("6003", "status_Queued", UNKNOWN_LOOK),
        ("6004", "no_request_id", UNKNOWN_LOOK),
        ("6005", "refused", LOOK),
        ("6006", "duplicate_request", UNKNOWN),
        ("6008", "failed", LOOK),
        ("9405", "insufficient_balance", HOLD),
        ("9403", "invalid_phone_number", NEVER),
        ("9500", "internal_server_error", AGAIN),
        ("7001", "unreadable_reply", UNKNOWN_LOOK),
        ("7011", "read_timeout", UNKNOWN),
        ("7013", "connection_lost", UNKNOWN),
        ("7014", "unreadable_reply", UNKNOWN_LOOK),
    ],
)
def test_each_airtime_reply_that_is_not_an_acceptance(
    at: AfricasTalkingApi, hurried: AfricasTalkingApi, ending: str, code: str, what: tuple[bool, bool, bool]
) -> None:
    at = hurried if ending in SLOW else at
    error = refusal(at.send_airtime, number(ending), "GHS", FIVE, f"key-{ending}")
    assert (error.code, flags(error)) == (code, what)


def test_an_account_without_money_holds() -> None:
    with serving(Habits(balance=Decimal("0.05"))) as api:
        at = sender(api)
        at.send_sms(number("0001"), TEXT, None)
        assert refusal(at.send_sms, number("0002"), TEXT, None).hold
        assert refusal(at.send_airtime, number("0002"), "GHS", FIVE, KEY).hold
        assert at.balance() == ("GHS", Decimal("0.0200"))
        at.close()


def test_a_wrong_key_holds_and_alarms(api: AtApi) -> None:
    at = sender(api, api_key="another")
    for error in (refusal(at.send_sms, number("0001"), TEXT, None), refusal(at.balance)):
        assert (error.code, flags(error)) == ("http_401", HOLD)
    at.close()


def test_a_limit_of_requests_is_met_with_a_later_try() -> None:
    with serving(Habits(per_second=2)) as api:
        at = sender(api)
        for n in range(2):
            at.send_sms(number(f"000{n}"), TEXT, None)
        error = refusal(at.send_sms, number("0003"), TEXT, None)
        assert (error.code, flags(error)) == ("http_429", AGAIN)
        at.close()


# What goes wrong on the way


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(params=["closed", "unresolved"])
def nowhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "closed":
        return f"127.0.0.1:{closed_port()}"

    def unresolved(*args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    return "no-such-host.invalid"


def test_nobody_there_may_be_tried_again(nowhere: str) -> None:
    at = AfricasTalkingApi("dial16", "key", f"http://{nowhere}", timeout=PATIENT)
    for error in (refusal(at.send_sms, number("0001"), TEXT, None), refusal(at.balance)):
        assert (error.code, flags(error)) == ("not_connected", AGAIN)
    at.close()


@contextmanager
def answering(answer: bytes, hold_seconds: float = 0.0) -> Iterator[str]:
    """A server that reads what comes, sends `answer` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                time.sleep(hold_seconds)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{"]
)
def test_a_connection_lost_after_sending_leaves_the_outcome_unknown(answer: bytes) -> None:
    with answering(answer) as url:
        at = AfricasTalkingApi("dial16", "key", url, timeout=PATIENT)
        for error in (
            refusal(at.send_sms, number("0001"), TEXT, None),
            refusal(at.send_airtime, number("0001"), "GHS", FIVE, KEY),
        ):
            assert (error.code, flags(error)) == ("connection_lost", UNKNOWN)
        assert flags(refusal(at.balance)) == AGAIN  # asking harms nobody
        at.close()


def test_a_certificate_that_is_not_valid_stops_the_sender(tmp_path: Path) -> None:
    """No request leaves, so all may go once a person has looked. Skipped without the openssl command."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 1 -subj /CN=x"
    )
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        assert os.environ.get("CI_REQUIRE_ALL") != "1", "openssl not installed, and CI_REQUIRE_ALL=1"
        pytest.skip("openssl not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    at = AfricasTalkingApi("dial16", "key", f"https://127.0.0.1:{server.server_port}", timeout=PATIENT)
    error = refusal(at.send_sms, number("0001"), TEXT, None)
    assert (error.code, flags(error)) == ("certificate_not_valid", HOLD)
    at.close()
    server.shutdown()
    server.server_close()
    thread.join(5)


# Replies that no table names: literal ones


def replying(reply: object) -> bytes:
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def recipient(**changed: object) -> dict[str, object]:
    whole = {"statusCode": 101, "number": number("0001"), "status": "Sent", "cost": "GHS 0.0300"}
    return {"SMSMessageData": {"Message": "-", "Recipients": [{**whole, "messageId": "ATXid_1", **changed}]}}


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"", "unreadable_reply"),
        (b"\xff\xfe", "unreadable_reply"),
        (b"[" * 100_000, "unreadable_reply"),
        (b"null", "unreadable_reply"),
        ({}, "unreadable_reply"),
        ({"SMSMessageData": []}, "unreadable_reply"),
        ({"SMSMessageData": {"Recipients": None}}, "unreadable_reply"),
        ({"SMSMessageData": {"Recipients": ["x"]}}, "unreadable_reply"),
        ({"SMSMessageData": {"Recipients": []}}, "refused"),
        (recipient(statusCode=None), "unreadable_reply"),
        (recipient(statusCode=True), "unreadable_reply"),
        (recipient(statusCode=233240000001), "unreadable_reply"),
        (recipient(statusCode=number("0001")), "unreadable_reply"),
        (recipient(messageId="None"), "no_message_id"),
        (recipient(messageId=None), "no_message_id"),
        (recipient(messageId=""), "no_message_id"),
        (recipient(messageId="a b\n"), "no_message_id"),
        (recipient(statusCode="406"), "user_in_blacklist"),
    ],
)
def test_a_reply_we_cannot_read_is_never_taken_for_leave_to_send_again(reply: object, code: str) -> None:
    with answering(replying(reply)) as url:
        at = AfricasTalkingApi("dial16", "key", url, timeout=PATIENT)
        error = refusal(at.send_sms, number("0001"), TEXT, None)
        assert error.code == code and not error.retryable
        assert error.unknown == (code in ("unreadable_reply", "no_message_id"))
        at.close()


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"errorMessage": "None", "numSent": 1, "responses": []},
        {"errorMessage": "None", "numSent": 1, "responses": ["x"]},
        {"errorMessage": "None", "numSent": 0, "responses": [{"status": "Sent", "requestId": "ATQid_1"}]},
        {"errorMessage": "None", "numSent": 1, "responses": [{"status": "Sent", "requestId": "None"}]},
        {"errorMessage": "None", "numSent": 1, "responses": [{"status": None}]},
    ],
)
def test_an_airtime_reply_that_contradicts_itself_may_have_paid(reply: object) -> None:
    with answering(replying(reply)) as url:
        at = AfricasTalkingApi("dial16", "key", url, timeout=PATIENT)
        assert flags(refusal(at.send_airtime, number("0001"), "GHS", FIVE, KEY)) == UNKNOWN_LOOK
        at.close()


@pytest.mark.parametrize(
    "reply", [{}, {"UserData": {"balance": "plenty"}}, {"UserData": {"balance": "12.00"}}]
)
def test_a_balance_we_cannot_read_is_none(reply: object) -> None:
    with answering(replying(reply)) as url:
        at = AfricasTalkingApi("dial16", "key", url, timeout=PATIENT)
        assert at.balance() is None
        at.close()


def test_a_debt_is_a_balance() -> None:
    with answering(replying({"UserData": {"balance": "GHS -3.2000"}})) as url:
        at = AfricasTalkingApi("dial16", "key", url, timeout=PATIENT)
        assert at.balance() == ("GHS", Decimal("-3.2"))
        at.close()


# The SDK's ten defects, each beside the repair


def raw(service: Any, api: AtApi) -> Any:
    """The SDK's own service, sent to the stand-in."""
    bare = service(api.habits.username, api.habits.api_key)
    airtime = service is AirtimeService
    bare._baseUrl = api.url + "/version1" + ("/airtime" if airtime else "")
    return bare


def raw_airtime(api: AtApi) -> Any:
    return raw(AirtimeService, api)


def raw_sms(api: AtApi) -> Any:
    return raw(SMSService, api)


def test_defect_1_no_key_is_left_for_the_next_order(api: AtApi, at: AfricasTalkingApi) -> None:
    bare = raw_airtime(api)
    bare.send(number("0101"), "5.00", "GHS", idempotency_key="sticky")
    bare.send(number("0101"), "5.00", "GHS")
    assert api.books.airtime[-1]["orders"] == 2  # the second order was taken for the first

    before = len(api.books.airtime)
    for key in ("one", "two"):
        at.send_airtime(number("0101"), "GHS", FIVE, key)
    assert [(x["key"], x["orders"]) for x in api.books.airtime[before:]] == [("one", 1), ("two", 1)]
    at.send_sms(number("0101"), TEXT, None)
    assert "idempotency-key" not in api.books.headers[-1]


def test_defect_1_nor_between_threads(api: AtApi, at: AfricasTalkingApi) -> None:
    before = len(api.books.airtime)
    wanted = {f"thread-{n}": number(f"02{n:02}") for n in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: at.send_airtime(item[1], "GHS", FIVE, item[0]), wanted.items()))
    assert {x["key"]: x["number"] for x in api.books.airtime[before:]} == wanted


def test_a_key_used_again_pays_once(api: AtApi, at: AfricasTalkingApi) -> None:
    first = at.send_airtime(number("0102"), "GHS", FIVE, "again")
    left = api.books.balance
    assert at.send_airtime(number("0102"), "GHS", FIVE, "again") == first
    assert api.books.balance == left
    assert [x["orders"] for x in api.books.airtime if x["key"] == "again"] == [2]


def test_an_order_whose_answer_was_lost_is_not_paid_again_under_its_key(
    api: AtApi, hurried: AfricasTalkingApi
) -> None:
    for _ in range(2):
        assert refusal(hurried.send_airtime, number("7011"), "GHS", FIVE, "lost").unknown
    assert [(x["orders"], x["state"]) for x in api.books.airtime if x["key"] == "lost"] == [(2, "paid")]


@pytest.mark.parametrize("key", ["", " ", "a\nb", "é", "x" * 129, None, 7])
def test_defect_1_an_order_without_a_key_is_not_made(api: AtApi, at: AfricasTalkingApi, key: Any) -> None:
    before = sum(api.books.answers.values())
    error = refusal(at.send_airtime, number("0001"), "GHS", FIVE, key)
    assert (error.code, flags(error), sum(api.books.answers.values())) == ("invalid_key", LOOK, before)


def test_defect_2_the_same_order_can_be_made_twice(api: AtApi, at: AfricasTalkingApi) -> None:
    recipients = [{"phoneNumber": number("0103"), "amount": "5.00", "currency_code": "GHS"}]
    given = deepcopy(recipients)
    raw_airtime(api).send(recipients=recipients, idempotency_key="mutated")
    assert recipients != given  # theirs is spoilt for a second try

    order = (number("0103"), "GHS", FIVE, "unchanged")
    assert at.send_airtime(*order) == at.send_airtime(*order)


@pytest.mark.parametrize("ending", ["7003", "7004", "7005", "7025"])
def test_defect_3_json_is_read_whatever_it_is_called(api: AtApi, at: AfricasTalkingApi, ending: str) -> None:
    if ending != "7025":
        assert isinstance(raw_sms(api).send(TEXT, [number(ending)]), str)
    assert at.send_sms(number(ending), TEXT, None).status_raw == "101 Sent"
    assert at.send_airtime(number(ending), "GHS", FIVE, f"type-{ending}").status_raw == "Sent"


def test_defect_4_a_time_out_comes_back_to_the_caller(api: AtApi, hurried: AfricasTalkingApi) -> None:
    threads = threading.active_count()
    began = time.monotonic()
    assert refusal(hurried.send_sms, number("7012"), TEXT, None).unknown
    assert time.monotonic() - began < 3 and threading.active_count() == threads
    with pytest.raises(RuntimeError, match="callbacks lose errors"):
        hurried._sms.send(TEXT, [number("0001")], callback=print)
    assert threading.active_count() == threads


def test_defect_5_the_http_status_is_kept(api: AtApi, at: AfricasTalkingApi) -> None:
    with pytest.raises(AfricasTalkingException) as theirs:
        raw_sms(api).send(TEXT, [number("8429")])
    assert vars(theirs.value) == {}
    assert refusal(at.send_sms, number("8429"), TEXT, None).code == "http_429"


@pytest.mark.parametrize(
    "wrong",
    [
        *("+0000", "+1234", "+123456", "+1234567890123456", "+" + "1" * 22, "", "+", "+233 24 000 0001"),
        *(number("0001") + "\n", "\n" + number("0001"), "0240000001", "233240000001", "+٢٣٣٢٤٠٠٠٠٠٠١"),
        *(None, 233240000001, [number("0001")], [], number("0001") + "," + number("0002")),
    ],
)
def test_defects_6_and_7_only_one_number_in_international_form(
    api: AtApi, at: AfricasTalkingApi, wrong: Any
) -> None:
    before = sum(api.books.answers.values())
    for error in (refusal(at.send_sms, wrong, TEXT, None), refusal(at.send_airtime, wrong, "GHS", FIVE, KEY)):
        assert (error.code, flags(error)) == ("invalid_phone_number", NEVER)
    assert sum(api.books.answers.values()) == before


def test_defect_6_what_the_sdk_lets_pass() -> None:
    assert all(validate_phone(n) for n in ("+0000", "+1234", "+" + "1" * 22, "+2332400\n"))


def test_defect_8_only_four_calls_can_be_made() -> None:
    calls = {name for name in vars(AfricasTalkingApi) if not name.startswith("_")}
    assert calls == {"send_sms", "send_airtime", "find_airtime", "balance", "close"}


@pytest.mark.parametrize(
    "amount",
    "NaN sNaN Infinity -5 0 -0 0.001 5.005 1E+9 1E-400 5.0000000000000000000000000001".split(),
)
def test_defect_9_amounts_are_positive_and_of_two_decimals(
    api: AtApi, at: AfricasTalkingApi, amount: str
) -> None:
    before = sum(api.books.answers.values())
    error = refusal(at.send_airtime, number("0001"), "GHS", Decimal(amount), KEY)
    assert (error.code, flags(error), sum(api.books.answers.values())) == ("invalid_amount", LOOK, before)


@pytest.mark.parametrize("amount", [5, 5.0, "5.00", True, None])
def test_defect_9_and_decimals(at: AfricasTalkingApi, amount: Any) -> None:
    assert refusal(at.send_airtime, number("0001"), "GHS", amount, KEY).code == "invalid_amount"


@pytest.mark.parametrize("amount", ["0.01", "5", "5.5", "5.50", "1E+2", "5.000"])
def test_defect_9_and_are_sent_plainly(api: AtApi, at: AfricasTalkingApi, amount: str) -> None:
    sent = at.send_airtime(number("0104"), "GHS", Decimal(amount), f"plain-{amount.replace('+', '')}")
    assert sent.amount == Decimal(amount) == api.books.airtime[-1]["amount"]


@pytest.mark.parametrize("currency", ["", "ghs", "GHSX", "GH₵", "GHS ", None])
def test_a_currency_is_three_capitals(at: AfricasTalkingApi, currency: Any) -> None:
    assert refusal(at.send_airtime, number("0001"), currency, FIVE, KEY).code == "invalid_currency"


def test_defect_10_the_sdk_calls_itself_by_its_version(api: AtApi, at: AfricasTalkingApi) -> None:
    at.send_sms(number("0001"), TEXT, None)
    assert api.books.headers[-1]["user-agent"] == "africastalking-python/2.0.3"


# What else is checked before a call, and how calls are made


@pytest.mark.parametrize(
    ("text", "name", "code", "what"),
    [
        ("", None, "empty_text", LOOK),
        (" \n", None, "empty_text", LOOK),
        (None, None, "empty_text", LOOK),
        (TEXT, "TwelveLetter", "invalid_sender_id", HOLD),
        (TEXT, "", "invalid_sender_id", HOLD),
        (TEXT, "Dïal16", "invalid_sender_id", HOLD),
        (TEXT, "Dial16\n", "invalid_sender_id", HOLD),
        ("\ud83d", None, "sdk_UnicodeEncodeError", LOOK),
    ],
)
def test_what_cannot_be_sent_is_not(
    api: AtApi, at: AfricasTalkingApi, text: Any, name: str | None, code: str, what: tuple[bool, bool, bool]
) -> None:
    before = sum(api.books.answers.values())
    error = refusal(at.send_sms, number("0001"), text, name)
    assert (error.code, flags(error), sum(api.books.answers.values())) == (code, what, before)


@pytest.mark.parametrize(
    "name", ["Dial16", "ElevenChars", "GSS Survey", "1616", "233240000001", "+233240000001"]
)
def test_names_and_short_codes(api: AtApi, at: AfricasTalkingApi, name: str) -> None:
    at.send_sms(number("0001"), TEXT, name)
    assert api.books.messages[-1]["sender"] == name


@pytest.mark.parametrize(
    ("username", "host"), [("dial16", "africastalking.com"), ("sandbox", "sandbox.africastalking.com")]
)
def test_without_an_address_the_sdk_s_own_are_used(username: str, host: str) -> None:
    at = AfricasTalkingApi(username, "key")
    assert at._sms._make_url("/messaging") == f"https://api.{host}/version1/messaging"
    assert SMSService(username, "key")._make_url("/messaging") == at._sms._make_url("/messaging")


@pytest.mark.parametrize("address", ["127.0.0.1:80", "ftp://x", "", "http://"])
def test_an_address_must_be_one(address: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        AfricasTalkingApi("dial16", "key", address)


def test_connections_are_kept_and_headers_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection for many calls, of both services; no cookie is returned."""
    connections: set[tuple[str, int]] = set()
    asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            connections.add(self.client_address)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append((self.path, parse_qs(body), dict(self.headers)))
            answer = json.dumps(recipient()).encode()
            if "airtime" in self.path:
                response = {"status": "Sent", "requestId": "ATQid_1", "amount": "GHS 5.00"}
                answer = json.dumps({"errorMessage": "None", "numSent": 1, "responses": [response]}).encode()
            self.send_response(201)
            self.send_header("Set-Cookie", "crumb=1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")  # not for an address given by hand
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    at = AfricasTalkingApi("dial16", "key", f"http://127.0.0.1:{server.server_port}/")
    for _ in range(3):
        at.send_sms(number("0001"), TEXT, "Dial16")
        at.send_airtime(number("0001"), "GHS", FIVE, KEY)
    at.close()
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert len(connections) == 1 and len(asked) == 6
    assert [("Idempotency-Key" in headers) for _, _, headers in asked] == [False, True] * 3
    assert not any("Cookie" in headers for _, _, headers in asked)
    assert all(headers["apiKey"] == "key" for _, _, headers in asked)
    path, form, _ = asked[0]
    assert path == "/version1/messaging" and form == {
        "username": ["dial16"],
        "to": [number("0001")],
        "message": [TEXT],
        "from": ["Dial16"],
        "bulkSMSMode": ["1"],
    }
    path, form, _ = asked[1]
    assert path == "/version1/airtime/send" and form == {
        "username": ["dial16"],
        "recipients": [json.dumps([{"phoneNumber": number("0001"), "amount": "GHS 5.00"}])],
    }


def _send_from_a_fork(at: AfricasTalkingApi, told: Any) -> None:
    told.put(at.send_sms(number("0301"), TEXT, None).message_id)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_opens_its_own_connection(api: AtApi, at: AfricasTalkingApi) -> None:
    mine = at.send_sms(number("0300"), TEXT, None).message_id
    forks = multiprocessing.get_context("fork")
    told = forks.Queue()
    work = [forks.Process(target=_send_from_a_fork, args=(at, told)) for _ in range(3)]
    for process in work:
        process.start()
    theirs = {told.get(timeout=20) for _ in work}
    for process in work:
        process.join(20)
    assert len({mine, *theirs}) == 4 == len({at.send_sms(number("0302"), TEXT, None).message_id, *theirs})


# What may be seen of it

SECRET_WORDS = ("24000", TEXT, "Thank you", "key-of-the-stand-in", "secret-key-of-this-order")


@pytest.mark.parametrize(
    "ending",
    "0001 9100 9403 9405 9999 8400 8401 8429 8500 8504 7001 7002 7004 7006 7007 7012 7013 7014 7015 7021 "
    "6001 6003 6004 6005 6008".split(),
)
def test_nothing_seen_holds_a_number_a_text_or_a_key(
    at: AfricasTalkingApi, hurried: AfricasTalkingApi, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    at = hurried if ending in SLOW else at
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    for call, args in (
        (at.send_sms, (number(ending), TEXT, None)),
        (at.send_airtime, (number(ending), "GHS", FIVE, f"secret-key-of-this-order-{ending}")),
        (at.send_sms, (number(ending) + "x", TEXT, None)),
        (at.send_sms, (number(ending), TEXT + "\ud83d", None)),
    ):
        try:
            seen.append(repr(call(*args)))
        except SendError as error:
            assert error.__cause__ is None and error.__context__ is None
            seen += [str(error), repr(error), repr(vars(error)), *traceback.format_exception_only(error)]
    records = [r for r in caplog.records if r.name.startswith(("dial16", "urllib3", "requests"))]
    assert any(r.name == "dial16.sending" for r in records)
    seen += [r.getMessage() + repr(r.args) + str(r.exc_text) for r in records]
    assert not [(word, line) for line in seen for word in SECRET_WORDS if word in line]


def test_nor_does_a_lost_connection(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    at = AfricasTalkingApi("dial16", "key-of-the-stand-in", f"http://{nowhere}", timeout=PATIENT)
    error = refusal(at.send_sms, number("0001"), TEXT, None)
    whole = "".join(traceback.format_exception(error)).split("SendError")[-1]
    assert error.__context__ is None and error.__cause__ is None
    assert not [word for word in SECRET_WORDS if word in whole + caplog.text]
    at.close()


def test_an_error_survives_a_worker_s_pickle_and_shows_its_code_only() -> None:
    error = SendError("risk_hold", retryable=True, alarm=True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, flags(again), again.hold) == ("risk_hold", "risk_hold", HOLD, True)
    with pytest.raises(ValueError, match="must not be sent again"):
        SendError("x", retryable=True, unknown=True)


def test_the_sdk_is_seen_in_one_file_only() -> None:
    root = Path(__file__).parent.parent
    seen = {
        str(path.relative_to(root))
        for layer in ("flows", "storage", "gateway")
        for path in (root / layer).rglob("*.py")
        if any(
            line.startswith(("import africastalking", "from africastalking"))
            for line in path.read_text("utf-8").splitlines()
        )
    }
    assert seen == {"gateway/aggregators/africastalking_api.py"}


# The stand-in itself


def post(api: AtApi, path: str, form: Any, **headers: str) -> int:
    with httpx2.Client(trust_env=False) as client:
        sent = {"apiKey": api.habits.api_key, "content-type": "application/x-www-form-urlencoded", **headers}
        return client.post(api.url + path, content=form, headers=sent).status_code


MESSAGE = "username=dial16&to=%2B233240000001&message=x&bulkSMSMode=1"
ORDER = 'username=dial16&recipients=[{"phoneNumber":"%2B233240000001","amount":"GHS 5.00"}]'


@pytest.mark.parametrize(
    ("path", "form", "headers", "status"),
    [
        ("messaging", MESSAGE, {}, 201),
        ("messaging", MESSAGE, {"apiKey": "x"}, 401),
        ("messaging", MESSAGE.replace("dial16", "x"), {}, 401),
        ("messaging", MESSAGE, {"content-type": "application/json"}, 415),
        ("messaging", MESSAGE.replace("message=x", "message=+"), {}, 400),
        ("messaging", MESSAGE.replace("%2B", ""), {}, 400),
        ("messaging", MESSAGE.replace("%2B", "+"), {}, 400),
        ("messaging", MESSAGE.replace("01&", "01,%2B233240000001&"), {}, 400),
        ("messaging", MESSAGE + "&from=TwelveLetter", {}, 400),
        ("messaging", MESSAGE + "&maxNumMessages=1", {}, 400),
        ("messaging", MESSAGE + "&message=y", {}, 400),
        ("messaging", MESSAGE.replace("Mode=1", "Mode=0"), {}, 400),
        ("messaging", MESSAGE, {"Idempotency-Key": "x"}, 400),
        ("airtime/send", ORDER, {"Idempotency-Key": "x"}, 201),
        ("airtime/send", ORDER, {}, 400),
        ("airtime/send", ORDER.replace("5.00", "0.00"), {"Idempotency-Key": "y"}, 400),
        ("airtime/send", ORDER.replace("GHS ", ""), {"Idempotency-Key": "y"}, 400),
        ("airtime/send", ORDER.replace("[", "").replace("]", ""), {"Idempotency-Key": "y"}, 400),
        ("airtime/send", ORDER.replace("%2B", ""), {"Idempotency-Key": "y"}, 400),
    ],
)
def test_the_stand_in_is_strict(
    api: AtApi, path: str, form: str, headers: dict[str, str], status: int
) -> None:
    assert post(api, "/version1/" + path, form, **headers) == status


def test_the_stand_in_refuses_a_key_for_two_different_orders(api: AtApi) -> None:
    other = ORDER.replace("5.00", "6.00")
    headers = {"Idempotency-Key": "two-orders"}
    assert [post(api, "/version1/airtime/send", o, **headers) for o in (ORDER, other, ORDER)] == [
        201,
        400,
        201,
    ]


@contextmanager
def hooks() -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """Our webhooks' place: keeps what is called, answers the first call of each path 503."""
    calls: list[tuple[str, str, dict[str, Any]]] = []
    known: set[str] = set()

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            kind = self.headers["Content-Type"]
            form = json.loads(body) if "json" in kind else {k: v for k, (v,) in parse_qs(body).items()}
            calls.append((self.path, kind, form))
            self.send_response(200 if self.path in known or "validate" in self.path else 503)
            known.add(self.path)
            self.end_headers()
            validated = not str(form.get("phoneNumber")).endswith("0404")
            self.wfile.write(json.dumps({"status": "Validated" if validated else "Failed"}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def wait_until(there: Any) -> None:
    give_up_at = time.monotonic() + 10
    while not there() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    assert there()


def test_the_stand_in_reports_deliveries_twice_out_of_order_and_until_they_are_taken() -> None:
    with hooks() as (url, calls):
        habits = Habits(
            reports=url + "/reports", report_seconds=0.4, again_seconds=0.05,
            undelivered=0.3, twice=1, unordered=1, unknown_words=1,
        )  # fmt: skip
        with serving(habits) as api:
            at = sender(api)
            ids = [at.send_sms(number(f"00{n:02}"), TEXT, None).message_id for n in range(12)]
            final = {line["id"]: line["delivery"] for line in api.books.messages}

            def heard(message_id: str) -> list[str]:
                return [form["status"] for _, _, form in calls if form["id"] == message_id]

            wait_until(
                lambda: all(heard(i).count(final[i]) >= 2 and "HandedToCarrier" in heard(i) for i in ids)
            )
            at.close()
        assert sum(heard(i)[0] == final[i] for i in ids) > 6  # most: the last word first
        assert {kind for _, kind, _ in calls} == {"application/x-www-form-urlencoded"}
        assert all({"id", "status", "phoneNumber", "networkCode"} <= set(form) for _, _, form in calls)
        assert all("failureReason" in form for _, _, form in calls if form["status"] == "Failed")
        assert 503 in {c["answer"] for c in api.books.callbacks}


def test_the_stand_in_asks_before_paying_and_says_what_became_of_it() -> None:
    with hooks() as (url, calls):
        habits = Habits(
            scripted=True, airtime_status=url + "/airtime", airtime_validation=url + "/validate",
            again_seconds=0.05, balance=Decimal(20),
        )  # fmt: skip
        with serving(habits) as api:
            at = sender(api)
            assert refusal(at.send_airtime, number("0404"), "GHS", FIVE, "no").code == "failed"
            assert api.books.balance == 20
            paid = at.send_airtime(number("0405"), "GHS", FIVE, "yes")
            lost = at.send_airtime(number("6007"), "GHS", FIVE, "given-back")
            wait_until(lambda: sum(c["answer"] == 200 for c in api.books.callbacks) == 2)
            assert at.balance() == ("GHS", Decimal(15))
            assert [at.find_airtime(i) for i in (paid.request_id, lost.request_id, "ATQid_0", "")] == [
                "Success", "Failed", None, None,
            ]  # fmt: skip
            at.close()
            with httpx2.Client(trust_env=False, headers={"apiKey": habits.api_key}) as client:
                books = client.get(api.url + "/_books").json()
                found = client.get(
                    api.url + "/query/transaction/find", params={"transactionId": paid.request_id}
                )
        assert [(x["key"], x["state"], x["delivery"]) for x in books["airtime"]] == [
            ("no", "refused", ""),
            ("yes", "paid", "Success"),
            ("given-back", "paid", "Failed"),
        ]
        assert found.json()["data"]["status"] == "Success"
        statuses = {form["requestId"]: form for path, _, form in calls if path == "/airtime"}
        assert (
            statuses[paid.request_id]["status"] == "Success"
            and statuses[lost.request_id]["status"] == "Failed"
        )
        assert set(statuses[paid.request_id]) == {
            "phoneNumber", "description", "status", "requestId", "discount", "value",
        }  # fmt: skip
        asked = [form for path, _, form in calls if path == "/validate"]
        assert [(a["phoneNumber"], a["currencyCode"], Decimal(a["amount"])) for a in asked] == [
            (number(n), "GHS", FIVE) for n in ("0404", "0405", "6007")
        ]


def test_the_stand_in_goes_wrong_as_often_as_it_is_told_and_its_books_agree() -> None:
    habits = Habits(seed=7, refused=0.1, held=0.05, passing=0.05, busy=0.05, broken=0.05, html=0.05, cut=0.05)
    outcomes = []
    for _ in range(2):
        with serving(habits) as api:
            at = sender(api)

            def send(n: int, at: AfricasTalkingApi = at) -> str:
                try:
                    return at.send_sms(number(f"{n:04}"), TEXT, None).message_id
                except SendError as error:
                    return error.code

            with ThreadPoolExecutor(4) as pool:
                outcomes.append(list(pool.map(send, range(400))))
            at.close()
            taken = {x["id"] for x in api.books.messages if x["state"] == "accepted"}
            accepted = {x for x in outcomes[-1] if x.startswith("ATXid_")}
            assert accepted <= taken and len(taken - accepted) == outcomes[-1].count("connection_lost")
            assert api.books.balance == habits.balance - len(taken) * habits.price
    first, second = ([o if not o.startswith("ATXid_") else "sent" for o in each] for each in outcomes)
    assert first == second  # from the seed, whoever comes first
    assert 0.55 < first.count("sent") / 400 < 0.65
    assert {"http_429", "unreadable_reply", "connection_lost", "user_in_blacklist", "gateway_error"} <= set(
        first
    )


def test_the_stand_in_runs_by_itself(tmp_path: Path) -> None:
    port = closed_port()
    command = [
        sys.executable,
        "-m",
        "tests.at_api",
        "--port",
        str(port),
        "price=0.05",
        "balance=1",
        "scripted=1",
    ]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
    try:
        at = AfricasTalkingApi("dial16", "key-of-the-stand-in", f"http://127.0.0.1:{port}", timeout=PATIENT)

        def answers() -> bool:
            try:
                return at.balance() == ("GHS", Decimal(1))
            except SendError:
                return False

        wait_until(answers)
        assert at.send_sms(number("0001"), TEXT, None).cost == Decimal("0.0500")
        assert at.balance() == ("GHS", Decimal("0.95"))
        at.close()
    finally:
        process.terminate()
        process.wait(10)


def test_habits_are_read_from_words() -> None:
    habits = read_habits(
        ["refused=0.05", "per_second=30", "scripted=true", "reports=http://x/y", "balance=2.50"]
    )
    assert (habits.refused, habits.per_second, habits.scripted) == (0.05, 30, True)
    assert (habits.reports, habits.balance) == ("http://x/y", Decimal("2.50"))
    with pytest.raises(SystemExit, match="not a habit"):
        read_habits(["colour=red"])
