"""Airtime end to end: real workers, stores, HTTP to the stand-in and back, whose books show what was paid."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from sqlalchemy import Engine
from typer.testing import CliRunner

from flows.fielding import Contact
from gateway import jobs
from gateway.aggregators import AGGREGATORS
from gateway.commands.airtime import commands
from gateway.health import sending_detail
from gateway.messages import AirtimeStatus, AirtimeValidation, WireError
from gateway.settings import Settings
from gateway.thanks import Thanking
from storage import airtime, airtime_sweep
from storage.airtime import (
    CANCELLED,
    DUE,
    FAILED,
    REFUSED_BUDGET,
    SENDING,
    SENT,
    SUCCEEDED,
    UNKNOWN,
)
from storage.live import opted_out_key
from storage.rates import paused_senders, resume
from storage.recorder import Recorder, lag
from storage.sealing import Seal
from tests.airtime_field import (
    AT,
    FIVE,
    REPORT,
    SECRET,
    balance,
    completed,
    ident,
    interview,
    opting_out,
    payment,
    payments,
    stands,
    taking_callbacks,
    thanking,
    utc,
    who,
    working,
)
from tests.at_api import AtApi, Habits, serving
from tests.gateway_app import KEY as GATEWAY_KEY
from tests.gateway_app import NUMBER as DIALLER
from tests.gateway_app import QUESTIONS, running
from tests.gateway_app import SECRET as GATEWAY_SECRET
from tests.gateway_app import WAVE as THE_WAVE
from tests.record_material import WAVE, fold_all, rows, send
from tests.sending_field import ask_for, messages, now_ms, number, work_at
from tests.stores import wait_until

OPEN = {"contact": Contact(days=frozenset(range(7)))}


@pytest.fixture
def scripted() -> Iterator[AtApi]:
    with serving(Habits(scripted=True, slow_seconds=1.2)) as api:
        yield api


@contextmanager
def office(
    api: AtApi, engine: Engine, redis_url: str, thanks: Any = FIVE, **more: Any
) -> Iterator[Thanking]:  # fmt: skip
    """A worker's airtime in this process."""
    url = engine.url.render_as_string(hide_password=False)
    live = redis.Redis.from_url(redis_url)
    made = thanking(work_at(api, url, redis_url, timeout=(1.0, 0.8), **more), live, thanks)
    try:
        yield made
    finally:
        made.dispatch.close()
        live.close()


@contextmanager
def recording(engine: Engine, redis_url: str) -> Iterator[Callable[[], None]]:
    """A recorder; each call folds all that is on the stream."""
    with redis.Redis.from_url(redis_url) as live:
        recorder = Recorder(live, engine, "one")

        def drain() -> None:
            recorder.fold_once(1)
            while lag(live):
                recorder.fold_once(1)

        yield drain


def orders(api: AtApi, *numbers: int) -> list[dict[str, Any]]:
    return [line for line in api.books.airtime if line["number"] in {number(n) for n in numbers}]


# ---------------------------------------------------------------- one payment, in this process

#: How a number ends (see at_api.SCRIPTS); what becomes of a payment to it; the key of the next try.
OUTCOMES: dict[int, tuple[str, str | None, int]] = {
    1: (SENT, None, 0), 7003: (SENT, None, 0), 7025: (SENT, None, 0),
    6001: (FAILED, "failed", 0), 6008: (FAILED, "failed", 0), 6005: (FAILED, "refused", 0),
    9403: (FAILED, "invalid_phone_number", 0), 9409: (FAILED, "do_not_disturb_rejection", 0),
    9500: (DUE, "internal_server_error", 1), 9501: (DUE, "gateway_error", 1),
    8429: (DUE, "http_429", 0), 8500: (DUE, "http_500", 0), 8503: (DUE, "http_503", 0),
    7002: (DUE, "http_502", 0), 8400: (FAILED, "http_400", 0), 8504: (UNKNOWN, "http_504", 0),
    7011: (UNKNOWN, "read_timeout", 0), 7012: (UNKNOWN, "read_timeout", 0),
    7013: (UNKNOWN, "connection_lost", 0), 7001: (UNKNOWN, "unreadable_reply", 0),
    6003: (UNKNOWN, "status_Queued", 0), 6004: (UNKNOWN, "no_request_id", 0),
    6006: (UNKNOWN, "duplicate_request", 0),
}  # fmt: skip


def test_each_answer_of_the_aggregator(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    fold_all(engine, completed(OUTCOMES))
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        for n, (state, reason, refusals) in OUTCOMES.items():
            assert made.send(ident(n)) == state, n
            row = payment(engine, n)
            assert (row["state"], row["reason"], row["refusals"]) == (state, reason, refusals), n
            assert made.send(ident(n)) == "not due"
        paid = sum(line["state"] == "paid" for line in orders(scripted, *OUTCOMES))
        assert paid <= sum(row["state"] in (SENT, UNKNOWN) for row in payments(engine).values())
        assert balance(engine).reserved == 5 * sum(s in (SENT, UNKNOWN) for s, _, _ in OUTCOMES.values())


def test_the_simulator_takes_nothing_from_a_real_account_s_budget(
    scripted: AtApi, engine: Engine, redis_url: str
) -> None:
    fold_all(engine, interview(1, aggregator="simulator") + completed([2]))
    with office(scripted, engine, redis_url) as made:
        real = made.dispatch.accounts
        made.dispatch.accounts = {**real, "simulator": real[AT]}
        made.sweep(utc())
        assert set(payments(engine)) == {ident(2)}
        made.dispatch.accounts = {"simulator": real[AT]}  # a demonstration
        made.sweep(utc())
        assert set(payments(engine)) == {ident(1), ident(2)}


def test_an_opt_out_that_the_record_has_not_heard_of_is_waited_for(
    scripted: AtApi, engine: Engine, redis_url: str
) -> None:
    fold_all(engine, completed([1]))
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        made.dispatch.live.set(opted_out_key(who(1)), 1)
        assert made.send(ident(1)) == "opted out"
        assert stands(engine) == (DUE, None) and payment(engine)["not_before"] > utc() + timedelta(minutes=4)
        assert orders(scripted, 1) == []


@pytest.mark.parametrize(
    ("n", "code"), [(6002, "insufficient_balance"), (9401, "risk_hold"), (8401, "http_401")]
)  # fmt: skip
def test_what_a_person_must_mend_pauses_airtime_alone(
    scripted: AtApi, engine: Engine, redis_url: str, n: int, code: str
) -> None:
    fold_all(engine, completed([n, 1]))
    ask_for(engine, [5])
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        assert made.send(ident(n)) == "paused"
        (paused,) = paused_senders(made.dispatch.live)
        assert (paused.aggregator, paused.sender, paused.code) == (AT, "(airtime)", code)
        said = sending_detail(made.dispatch.live, engine)
        assert f"PAUSED {AT} (airtime) since" in said and code in said
        assert made.send(ident(1)) == "paused"
        assert stands(engine, n) == (DUE, code) and balance(engine).reserved == 0
        assert made.tick() == 0  # nothing that is paused is given a job
        assert made.dispatch.send(messages(engine)[0]["id"]) == SENT  # texts go on
        assert resume(made.dispatch.live, [paused]) == 1
        assert made.send(ident(1)) == SENT


def test_who_asked_to_be_left_alone_is_not_called(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    fold_all(engine, [*completed([21, 22]), opting_out(21)])
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        assert [made.send(ident(n)) for n in (21, 22)] == [CANCELLED, SENT]
    assert [line["number"] for line in orders(scripted, 21, 22)] == [number(22)]


def test_what_is_earned_at_night_waits_for_the_day_unless_just_now(
    scripted: AtApi, engine: Engine, redis_url: str
) -> None:
    shut = {"contact": Contact(days=frozenset({(utc().weekday() + 3) % 7}))}
    fold_all(engine, [*interview(31, now_ms() - 2 * 3_600_000), *interview(32)])
    with office(scripted, engine, redis_url, habits=shut) as made:
        made.sweep(utc())
        assert [made.send(ident(n)) for n in (31, 32)] == ["quiet hours", SENT]
    assert payment(engine, 31)["not_before"] > utc() + timedelta(hours=1)


def test_a_wave_that_no_longer_thanks_sends_nothing_more(
    scripted: AtApi, engine: Engine, redis_url: str
) -> None:
    fold_all(engine, completed([41]))
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        made.thanks = {}
        assert (made.tick(), made.send(ident(41)), stands(engine, 41)) == (0, "not now", (DUE, None))
    assert orders(scripted, 41) == []


def test_tries_end_and_a_person_can_begin_them_again(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    fold_all(engine, completed([19500]))
    with office(scripted, engine, redis_url, habits={"backoff_seconds": (0.0, 0.0)}) as made:
        made.sweep(utc())
        assert [made.send(ident(19500)) for _ in range(4)] == [DUE, DUE, FAILED, "not due"]
        assert airtime.retry_failed(engine, WAVE, utc()) == 1
        assert made.send(ident(19500)) == DUE
    keys = [line["key"] for line in orders(scripted, 19500)]
    assert keys == [f"d16-{ident(19500)}-{n}" for n in range(4)]
    assert {line["state"] for line in orders(scripted, 19500)} == {"refused"}


def test_paid_but_answered_by_a_broken_page_is_unknown_until_the_status_comes(
    engine: Engine, redis_url: str, database_url: str
) -> None:
    with taking_callbacks(database_url, redis_url) as url, recording(engine, redis_url) as drain:
        habits = Habits(
            scripted=True, airtime_validation=f"{url}/validation", airtime_status=f"{url}/status", twice=1
        )
        with serving(habits) as api:
            fold_all(engine, completed([6009]))
            with office(api, engine, redis_url) as made:
                made.sweep(utc())
                assert made.send(ident(6009)) == UNKNOWN
                assert stands(engine, 6009) == (UNKNOWN, "http_502")
                wait_until(lambda: len(api.books.callbacks) == 2, "statuses")
                drain()
            assert stands(engine, 6009) == (SUCCEEDED, None)
            assert [v["answer"] for v in api.books.validations] == [True, True]
            assert balance(engine).spent == Decimal(5) == habits.balance - api.books.balance


def test_without_a_status_the_transaction_is_looked_up(
    engine: Engine, redis_url: str, database_url: str
) -> None:
    with (
        taking_callbacks(database_url, redis_url) as url,
        serving(Habits(scripted=True, airtime_validation=f"{url}/validation")) as api,
    ):
        fold_all(engine, completed([6009, 6007, 1]))
        with office(api, engine, redis_url) as made:
            made.sweep(utc())
            assert [made.send(ident(n)) for n in (6009, 6007, 1)] == [UNKNOWN, SENT, SENT]
            made.sweep(utc())
            assert stands(engine, 6009)[0] == UNKNOWN  # it is early yet
            made.sweep(utc() + timedelta(hours=2))
            assert [stands(engine, n)[0] for n in (6009, 6007, 1)] == [SUCCEEDED, FAILED, SUCCEEDED]
        assert {r["kind"] for r in rows(engine, REPORT)} == {"validation", "lookup"}
        balance(engine)


def test_a_key_that_may_have_paid_is_answered_as_before_when_it_comes_again(
    scripted: AtApi, engine: Engine, redis_url: str
) -> None:
    """What the ledger's own rule rests on where no validation is set up: the same key, the same order."""
    fold_all(engine, completed([51]))
    with office(scripted, engine, redis_url) as made:
        made.sweep(utc())
        assert made.send(ident(51)) == SENT
        account = made.dispatch.accounts[AT]
        again = account.send_airtime(number(51), "GHS", Decimal("5.00"), f"d16-{ident(51)}-0")
    assert again.request_id == payment(engine, 51)["request_id"]
    assert [(x["state"], x["orders"]) for x in orders(scripted, 51)] == [("paid", 2)]


# ---------------------------------------------------------------- the webhooks

PLAIN = {
    "transactionId": "ATQid_1", "phoneNumber": number(1), "sourceIpAddress": "127.0.0.1",
    "currencyCode": "GHS", "amount": "5.0000",
}  # fmt: skip
STATUS = {
    "phoneNumber": number(1), "description": f"Airtime sent to {number(1)}", "status": "Success",
    "requestId": "ATQid_1", "discount": "GHS 0.1000", "value": "GHS 5.0000",
}  # fmt: skip
JSON = "application/json"

#: Body and content type sent to /validation; status and body answered.
VALIDATIONS: list[tuple[Any, str, int, str]] = [
    (PLAIN, JSON, 200, '{"status":"Validated"}'),
    (PLAIN | {"amount": 5}, "application/json; charset=utf-8", 200, '{"status":"Validated"}'),
    (PLAIN | {"amount": 5.0, "phoneNumber": number(1)[1:]}, JSON, 200, '{"status":"Validated"}'),
    (PLAIN | {"amount": "GHS 5.00", "more": [1]}, JSON, 200, '{"status":"Validated"}'),
    (PLAIN | {"amount": "50.0000"}, JSON, 200, '{"status":"Failed"}'),
    (PLAIN | {"amount": 1e300}, JSON, 400, "amount: must be a number, such as 5.0000"),
    (PLAIN | {"amount": None}, JSON, 400, "amount: must be a number, such as 5.0000"),
    (PLAIN | {"amount": "-5.00"}, JSON, 400, "amount: must be a number, such as 5.0000"),
    (PLAIN | {"phoneNumber": "everybody"}, JSON, 400,
     "phoneNumber: must be in international form, + and 7 to 15 digits"),
    (PLAIN | {"transactionId": ""}, JSON, 400, "empty: transactionId"),
    (PLAIN | {"transactionId": "a\0b"}, JSON, 400, "not printable: transactionId"),
    (PLAIN | {"transactionId": "x" * 129}, JSON, 400, "too long: transactionId"),
    (PLAIN | {"currencyCode": 7}, JSON, 400, "must be a string: currencyCode"),
    ({"amount": "5.00"}, JSON, 400, "missing: transactionId, phoneNumber, currencyCode"),
    ('{"amount": 1, "amount": 2}', JSON, 400, "a field is given twice"),
    ("[]", JSON, 400, "the body must be a JSON object"),
    ('{"transactionId": "\\ud800"}', JSON, 400, "must be a string: transactionId"),
    (b"\xff", JSON, 400, "the body must be JSON in UTF-8"),
    ("[" * 4000, JSON, 400, "the body must be JSON in UTF-8"),
    (" " * 9000, JSON, 413, "the body is over 8192 octets"),
    (PLAIN, "application/x-www-form-urlencoded", 415, "content type must be application/json"),
]  # fmt: skip


def test_what_is_asked_before_paying(database_url: str, engine: Engine, redis_url: str) -> None:
    fold_all(engine, completed([1]))
    airtime_sweep.keep_budget(engine, WAVE, FIVE)
    airtime_sweep.earn(engine, WAVE, FIVE, [AT], utc())
    airtime.claim(engine, ident(1), utc())
    with taking_callbacks(database_url, redis_url) as url, httpx2.Client(trust_env=False) as http:
        for body, kind, code, said in VALIDATIONS:
            content = body if isinstance(body, (str, bytes)) else json.dumps(body)
            answer = http.post(f"{url}/validation", content=content, headers={"content-type": kind})
            assert (answer.status_code, answer.text) == (code, said), body
        assert http.post(url.replace(SECRET, "no") + "/validation", json=PLAIN).status_code == 404
        assert http.post(url.replace(AT, "simulator") + "/validation", json=PLAIN).status_code == 404
        assert http.get(f"{url}/validation").status_code == 405


#: Body sent to /status; status and body answered.
STATUSES: list[tuple[Any, int, str]] = [
    (STATUS, 200, "OK"),
    (STATUS | {"status": "HandedToCarrier"}, 200, "OK"),
    (STATUS | {"value": "about five", "description": ["odd"]}, 200, "OK"),
    (STATUS | {"requestId": "ATQid_of_nobody"}, 200, "OK"),
    ({k: v for k, v in STATUS.items() if k in ("requestId", "status", "phoneNumber")}, 200, "OK"),
    (STATUS | {"status": ""}, 400, "empty: status"),
    ({"status": "Success"}, 400, "missing: requestId, phoneNumber"),
]


def test_what_became_of_it(database_url: str, engine: Engine, redis_url: str) -> None:
    with (
        taking_callbacks(database_url, redis_url) as url,
        httpx2.Client(trust_env=False) as http,
        recording(engine, redis_url) as drain,
    ):
        for body, code, said in STATUSES * 2:
            answer = http.post(f"{url}/status", json=body)
            assert (answer.status_code, answer.text) == (code, said), body
        with redis.Redis.from_url(redis_url) as live:
            stream = str(live.xrange("dial16:events"))
        assert number(1)[1:] not in stream and number(1)[4:] not in stream
        drain()
    kept = rows(engine, REPORT)
    assert Counter((r["reference"], r["status"]) for r in kept) == {
        ("ATQid_1", "Success"): 1, ("ATQid_1", "HandedToCarrier"): 1, ("ATQid_of_nobody", "Success"): 1,
    }  # fmt: skip
    assert {r["respondent"] for r in kept} == {who(1)}
    assert "Airtime sent to +############" in {r["detail"] for r in kept}


def test_no_is_the_answer_while_the_database_is_away(redis_url: str) -> None:
    with (
        taking_callbacks("postgresql+psycopg://nobody@127.0.0.1:1/none", redis_url) as url,
        httpx2.Client(trust_env=False, timeout=10) as http,
    ):
        answer = http.post(f"{url}/validation", json=PLAIN)
        assert (answer.status_code, answer.json()) == (200, {"status": "Failed"})
        assert http.post(f"{url}/status", json=STATUS).status_code == 200  # the stream takes it all the same


def test_a_status_is_503_while_the_live_store_is_away(database_url: str, engine: Engine) -> None:
    with (
        taking_callbacks(database_url, "unix:///nowhere/at/all.sock") as url,
        httpx2.Client(trust_env=False, timeout=10) as http,
    ):
        assert http.post(f"{url}/status", json=STATUS).status_code == 503


async def _whole_gateway(redis_url: str, database_url: str) -> list[tuple[int, str]]:
    async with running(redis_url, database_url) as gateway:
        at = f"/hooks/africastalking/{GATEWAY_SECRET}/airtime"
        answers = [
            await gateway.post(f"{at}/validation", json.dumps(PLAIN), JSON),
            await gateway.post(f"{at}/status", json.dumps(STATUS), JSON),
            await gateway.post(at.replace(GATEWAY_SECRET, "x") + "/status", json.dumps(STATUS), JSON),
        ]
        return [(a.status_code, a.text) for a in answers]


def test_the_whole_gateway_has_the_routes(redis_url: str, database_url: str, engine: Engine) -> None:
    assert asyncio.run(_whole_gateway(redis_url, database_url)) == [
        (200, '{"status":"Failed"}'), (200, "OK"), (404, "not found"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"amount": "5"}, ""),
        ({"amount": 5}, "must be a string: amount"),
        ({"amount": "5,00"}, "amount: must be a decimal in a string, such as 5.00"),
        ({"msisdn": "1616"}, "msisdn: must be in international form, + and 7 to 15 digits"),
        ({"id": " "}, "empty: id"),
        ({"currency": "GH\0"}, "not printable: currency"),
    ],
)
def test_the_simulator_s_form(body: dict[str, Any], fault: str) -> None:
    simulator = AGGREGATORS["simulator"]
    asked = {"id": "V1", "msisdn": number(1), "amount": "5.00", "currency": "GHS"} | body
    told = asked | {"status": "Success", "reason": "to 0240000001"}
    if fault:
        with pytest.raises(WireError, match=re.escape(fault)):
            simulator.read_airtime_validation(json.dumps(asked).encode())
        return
    read = simulator.read_airtime_validation(json.dumps(asked).encode())
    assert read == AirtimeValidation("V1", number(1), Decimal(5), "GHS")
    status = simulator.read_airtime_status(json.dumps(told).encode())
    assert status == AirtimeStatus("V1", number(1), "Success", Decimal(5), "GHS", "to ##########")


def test_who_completes_on_ussd_alone_is_thanked(
    scripted: AtApi, engine: Engine, redis_url: str, database_url: str
) -> None:
    """From the first dial to the airtime: the number is kept, sealed, from the consent on."""

    async def dial() -> str:
        async with running(redis_url, database_url) as gateway:
            keys = ["", "1", *"1" * QUESTIONS]
            for k in range(len(keys)):
                _, screen = await gateway.dial("*".join(keys[1 : k + 1]))
            return screen

    assert asyncio.run(dial()).startswith("END Thank you")
    with recording(engine, redis_url) as drain, office(scripted, engine, redis_url) as made:
        drain()
        made.dispatch.seal, made.thanks = Seal(GATEWAY_KEY), {THE_WAVE.id: FIVE}
        made.sweep(utc())
        ((ident, row),) = payments(engine).items()
        assert (row["wave"], row["state"], row["aggregator"]) == (THE_WAVE.id, DUE, AT)
        assert made.send(ident) == SENT
    assert [line["number"] for line in scripted.books.airtime] == [DIALLER]


# ---------------------------------------------------------------- workers


def test_a_worker_thanks_who_completed_by_itself(
    engine: Engine, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    with (
        taking_callbacks(database_url, redis_url) as url,
        serving(Habits(airtime_validation=f"{url}/validation", airtime_status=f"{url}/status")) as api,
        recording(engine, redis_url) as drain,
    ):
        work = work_at(api, database_url, redis_url, habits={"sweep_seconds": 0.3})
        with redis.Redis.from_url(redis_url) as live, working(work, FIVE, tmp_path):
            send(live, completed(range(1, 6)))

            def done() -> bool:
                drain()
                return Counter(r["state"] for r in payments(engine).values()) == {SUCCEEDED: 5}

            wait_until(done, "five payments", 30)
            assert live.llen("rq:queue:dial16-thanks") == 0
        assert {line["amount"] for line in api.books.airtime} == {Decimal("5.00")}
        assert api.books.balance == Habits().balance - 25


@pytest.mark.parametrize("when", ["before it is taken", "after it is paid"])
def test_a_worker_killed_while_it_orders(
    engine: Engine, redis_url: str, database_url: str, tmp_path: Path, when: str
) -> None:
    """SIGKILL within the call. Nobody knows, so nothing goes again; what was paid, its status settles."""
    n = {"before it is taken": 7012, "after it is paid": 7011}[when]
    with (
        taking_callbacks(database_url, redis_url) as url,
        serving(
            Habits(
                scripted=True, slow_seconds=20, airtime_validation=f"{url}/validation",
                airtime_status=f"{url}/status", report_seconds=0.1,
            )
        ) as api,
        recording(engine, redis_url) as drain,
    ):  # fmt: skip
        fold_all(engine, completed([n]))
        work = work_at(api, database_url, redis_url, timeout=(1.0, 30.0), habits={"sweep_seconds": 0.3})
        with working(work, FIVE, tmp_path) as (worker,):
            asked = n == 7012
            wait_until(
                lambda: (
                    ident(n) in payments(engine)
                    and payment(engine, n)["state"] == SENDING
                    and (asked or bool(api.books.callbacks))
                ),
                "the order",
            )
            worker.kill()
            worker.start()
            if asked:
                wait_until(lambda: stands(engine, n) == (UNKNOWN, "worker_lost"), "unknown", 30)
                time.sleep(1.5)  # several sweeps
                assert stands(engine, n) == (UNKNOWN, "worker_lost") and api.books.airtime == []
                assert balance(engine).reserved == Decimal(5)
            else:
                drain()
                wait_until(lambda: stands(engine, n)[0] == SUCCEEDED, "settled", 30)
                assert [(x["state"], x["orders"]) for x in api.books.airtime] == [("paid", 1)]
                assert balance(engine).spent == Decimal(5)


def test_a_whole_wave_with_faults_and_killed_workers(
    engine: Engine, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """At the end the ledger is the stand-in's books: each respondent paid at most once, all payments in a
    final or explained state, never more than the budget, and nothing that nobody ordered was validated."""
    people = 150
    budget = replace(FIVE, budget=Decimal(5 * 120 + 3))
    with taking_callbacks(database_url, redis_url) as url, recording(engine, redis_url) as drain:
        habits = Habits(
            seed=16, refused=0.05, passing=0.05, busy=0.03, broken=0.04, html=0.01, cut=0.02, slow=0.03,
            taken_broken=0.03, slow_seconds=1.0, airtime_validation=f"{url}/validation",
            airtime_status=f"{url}/status", report_seconds=0.5, twice=0.3, unordered=0.3, undelivered=0.05,
            unknown_words=0.1, unreported=0.02, rogue=0.1,
        )  # fmt: skip
        with serving(habits) as api, redis.Redis.from_url(redis_url) as live:
            work = work_at(api, database_url, redis_url, habits={"sweep_seconds": 0.3})
            with working(work, budget, tmp_path, 2) as workers:
                entries = completed(range(1, people + 1))
                for part in range(6):
                    send(live, entries[part * len(entries) // 6 : (part + 1) * len(entries) // 6])
                    send(live, entries[: part * 30])  # folded again
                    if part == 2:
                        send(live, [opting_out(people)])
                    drain()
                    workers[part % 2].kill()
                    time.sleep(0.4)
                    workers[part % 2].start()

                def at_rest() -> bool:
                    drain()
                    counts = Counter(r["state"] for r in payments(engine).values())
                    return sum(counts.values()) == people and not counts[DUE] + counts[SENDING]

                wait_until(at_rest, "nothing to do", 90)
                time.sleep(2)  # the last statuses, and sweeps that settle
                wait_until(at_rest, "nothing to do", 90)
            drain()
            airtime_sweep.settle(engine, utc(), utc())
            ledger, booked = payments(engine), balance(engine)
            paid = [x for x in api.books.airtime if x["state"] == "paid"]

    states = Counter(row["state"] for row in ledger.values())
    # nobody twice: what came back undelivered is paid to nobody
    each = Counter(line["number"] for line in paid)
    assert max(each.values()) == 1, "somebody was paid twice"
    assert number(people) not in each
    kept = {line["number"]: line["delivery"] for line in paid}
    for n in range(1, people + 1):
        row, delivery = ledger[ident(n)], kept.get(number(n), "")
        told = (row["state"], delivery)
        assert told in {
            (SUCCEEDED, "Success"), (FAILED, "Failed"), (FAILED, ""), (UNKNOWN, ""), (CANCELLED, ""),
            (REFUSED_BUDGET, ""),
            # the last status never came, which the stand-in does to some
            (SENT, "Success"), (SENT, "Failed"), (UNKNOWN, "Success"), (UNKNOWN, "Failed"),
        }, (n, told, row["reason"])  # fmt: skip
        assert row["state"] in (SUCCEEDED, SENT) or row["reason"], n
    assert booked.spent + booked.reserved <= budget.budget
    spent = habits.balance - api.books.balance
    silent = sum(told == "Success" and ledger_state in (SENT, UNKNOWN) for told, ledger_state in (
        (kept.get(number(n), ""), ledger[ident(n)]["state"]) for n in range(1, people + 1)
    ))  # fmt: skip
    assert booked.spent + 5 * silent == spent
    assert states[SUCCEEDED] > 80 and silent < 10
    assert api.books.rogues and not any(r["answer"] for r in api.books.rogues)
    assert airtime_sweep.strays(engine) == 0
    for log in tmp_path.glob("worker-*.log"):
        text = log.read_text()
        assert "Traceback" not in text and "+233" not in text


# ---------------------------------------------------------------- staff


def test_the_ledger_on_the_command_line(engine: Engine, database_url: str) -> None:
    settings = Settings.from_environment({"DIAL16_DATABASE_URL": database_url})
    app = commands(lambda: settings)

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, [*words], env={"COLUMNS": "160"})
        assert result.exit_code == 0, result.output
        return result.output

    assert said().startswith("No wave gives airtime")
    fold_all(engine, completed([1, 2, 3, 4]))
    thanks = replace(FIVE, budget=Decimal(12))
    airtime_sweep.keep_budget(engine, WAVE, thanks)
    airtime_sweep.earn(engine, WAVE, thanks, [AT], datetime.now(UTC))
    for n in (1, 2, 3):
        airtime.claim(engine, ident(n), utc())
    airtime.take(engine, ident(1), utc(), request_id="=ATQid_1", status_raw="Sent")
    airtime.lose(engine, ident(2), utc(), "read_timeout")
    shown = " ".join(said().split())
    assert "│ GHS 12.00 │ GHS 0.00 │ GHS 10.00 │ GHS 2.00 │" in shown
    assert "│ refused_budget │ over_budget │ 1 │ GHS 5.00 │" in shown
    assert "│ unknown │ read_timeout │ 1 │ GHS 5.00 │" in shown

    lines = said("--csv").splitlines()
    assert lines[0].startswith("id,wave,aggregator,state,reason,amount,currency") and len(lines) == 5
    assert "'=ATQid_1" in "".join(lines)  # no formula
    for secret in (number(1)[1:], who(1)):
        assert secret not in "".join(lines) + shown

    assert "succeeded, by hand" in said("settle", ident(2), "--paid")
    assert CliRunner().invoke(app, ["settle", ident(2), "--not-paid"]).exit_code == 1
    airtime.fail(engine, ident(1), utc(), "x")
    assert said("retry", WAVE) == "0 payments are due again\n"
    assert "GHS 5.00 │ GHS 5.00 │ GHS 2.00" in " ".join(said().split())


def test_a_worker_without_airtime_says_how_to_start_one() -> None:
    jobs.compose(jobs.Composition(lambda now: 0))
    with pytest.raises(RuntimeError, match=r"main\.py work"):
        jobs.send_airtime("any")
