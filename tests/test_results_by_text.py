"""The one SMS with the results, end to end: asked for over HTTP, written by a release, sent by a worker.

People text as Africa's Talking's requests bring it; what they get stands in the books of the stand-in of its
API. Between the two there is nothing of the tests: gateway, recorder, outbox, RQ's worker.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import redis
import uvicorn
from sqlalchemy import Engine

from flows.fielding import Contact, Sharing
from gateway import jobs
from gateway.app import create_app
from gateway.dispatch import Dispatch
from gateway.giving_back import find_results
from gateway.results_by_text import write
from storage.database import open_engine
from storage.live import opted_out_key
from storage.outbox import CANCELLED, DUE, SENDING, SENT
from storage.recorder import Recorder
from storage.results_wanted import count_wanted
from tests.at_api import AtApi, Habits, serving
from tests.gateway_app import SECRET
from tests.record_material import fold_all
from tests.sending_field import KEY, dispatch, messages, number, states, work_at, working
from tests.stores import Live, give_schema, running_live, wait_until
from tests.test_results import RELEASES, SENDING_WAVE, SMALL_RESULTS, WAVE, asks

ASKED = (
    "That was the last question. May we text you the results once, when they are out?\n"
    "1 Yes, text me\n2 No, thank you"
)
NATIONAL = (
    "Ghana Statistical Service, 2026: satisfied (of answers)\nHealth 61.5% (1240)\n"
    "Primary 70.2% (805)\nSecondary 66% (640)\nOffices 48.9% (915)\nWhat we did: More nurses at 40 clinics."
)
OUR_REGION = (
    "Ghana Statistical Service, Greater Accra 2026: satisfied (of answers)\nHealth 64% (310)\n"
    "Primary 71% (205)\nToo few answers: Secondary, Offices\nWhat we did: More nurses at 40 clinics."
)
DUE_NOW = {DUE, SENDING}


@pytest.fixture(scope="module")
def store() -> Iterator[Live]:
    with running_live("valkey") as server:
        yield server


@pytest.fixture
def live(store: Live) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'dial16.sqlite3'}"


@pytest.fixture
def small(database: str) -> Iterator[Engine]:
    engine = open_engine(database)
    give_schema(engine, SENDING_WAVE.instrument)
    yield engine
    engine.dispose()


def let_a_worker_send(made: Dispatch, redis_url: str) -> None:
    """What is due gets its jobs, and RQ's worker does them."""
    made.live.delete("dial16:outbox:turn")
    made.tick()
    jobs.work(redis_url, jobs.Composition(lambda now: 0, dispatch=made), burst=True)


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)  # they are the tests' own


def test_who_left_in_between_gets_no_results(
    small: Engine, database: str, live: redis.Redis, store: Live
) -> None:
    """Three have asked and are written to. One leaves before the worker comes, and the record knows; one so
    late that only the live store does. The third is texted, once, whatever release follows."""
    stays, leaves, late = asks(1), asks(2), asks(3)
    fold_all(small, [e for d in (stays, leaves, late) for e in d.entries])
    now = datetime.now(UTC)
    assert write(small, SENDING_WAVE, SMALL_RESULTS, 99, now).messages == 3
    gone = {"kind": "opted_out", "respondent": leaves.respondent, "aggregator": "africastalking"}
    fold_all(small, [gone | {"at": int(now.timestamp() * 1000)}])
    live.set(opted_out_key(late.respondent), 1)
    shut = Contact(days=frozenset({(now.weekday() + 2) % 7}), zone=UTC)
    with serving(Habits()) as api:
        made = dispatch(work_at(api, database, store.url), live)
        by_day = dispatch(work_at(api, database, store.url, habits={"contact": shut}), live)
        (due,) = [m for m in messages(small) if m["respondent"] == stays.respondent]
        assert by_day.send(due["id"]) == "quiet hours"  # nobody waits for it
        assert api.books.messages == []
        by_day.close()
        with small.begin() as db:
            db.exec_driver_sql("UPDATE outbound_message SET not_before = created_at")
        let_a_worker_send(made, store.url)
        newer = replace(SMALL_RESULTS, version=2)
        assert write(small, SENDING_WAVE, newer, 99, now + timedelta(hours=1)).messages == 0
        let_a_worker_send(made, store.url)
        made.close()
        (sent,) = api.books.messages
    assert (sent["number"], sent["sender"]) == (number(1), "1616")
    assert sent["text"] == "Greater Accra 2026:\nwater 70% (50)"
    became = {m["respondent"]: (m["state"], m["failure_reason"]) for m in messages(small)}
    assert became == {
        stays.respondent: (SENT, None),
        leaves.respondent: (CANCELLED, "opted_out"),
        late.respondent: (CANCELLED, "opted_out"),
    }


# ---------------------------------------------------------------- from the first text to the last


TEXTED = replace(WAVE, languages=("en",), services_each=1, sharing=Sharing(by_sms=True))


@contextmanager
def serving_texts(database: str, live_url: str) -> Iterator[str]:
    """The gateway on a port of this machine, and a recorder; yields the URL that texts are posted to."""
    app = create_app(
        waves=[TEXTED], live_url=live_url, database_url=database, pseudonym_key=KEY, secrets=(SECRET,),
        simulator_secret=None, live_days=90, releases=RELEASES,
    )  # fmt: skip
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    stop, engine = threading.Event(), open_engine(database)
    with redis.Redis.from_url(live_url) as live:
        recorder = Recorder(live, engine, "one", enqueue=jobs.Sends(jobs.connect(live_url)).enqueue)
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}),
            threading.Thread(target=recorder.run, args=(stop.is_set,)),
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: server.started, "the gateway")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/africastalking/{SECRET}/sms"
        finally:
            server.should_exit = True
            stop.set()
            for thread in threads:
                thread.join(30)
            listener.close()
            engine.dispose()


class Phone:
    """Somebody who texts 1616 and reads what the stand-in was given to deliver."""

    def __init__(self, n: int, hook: str, api: AtApi):
        self.msisdn, self.hook, self.api, self.written = number(n), hook, api, 0

    def inbox(self) -> list[str]:
        return [m["text"] for m in self.api.books.messages if m["number"] == self.msisdn]

    def text(self, words: str) -> str:
        """The answer to this text."""
        had, self.written = len(self.inbox()), self.written + 1
        form = {
            "date": "2026-11-23 08:00:00", "from": self.msisdn, "to": "1616", "text": words,
            "id": f"ATXid_{self.msisdn}_{self.written}", "linkId": "SampleLinkId", "cost": "GHS 0.0000",
            "networkCode": "62001",
        }  # fmt: skip
        for _ in range(2):  # the aggregator repeats itself
            answer = httpx2.post(self.hook, data=form)
            assert (answer.status_code, answer.text) == (200, "OK")
        wait_until(lambda: len(self.inbox()) > had, "the answer")
        return self.inbox()[had]

    def take_part(self) -> str:
        """From the keyword to the question after the last one, which is returned."""
        shown = self.text("SURVEY")
        for _ in range(40):
            if "text you the results" in shown:
                return shown
            key = re.search(r"^(\d+) Greater Accra$", shown, re.M)
            shown = self.text(key[1] if key else "34" if "old are you" in shown else "1")
        raise AssertionError(shown)


def test_from_the_first_text_to_the_results(
    database: str, live: redis.Redis, store: Live, tmp_path: Path
) -> None:
    engine = open_engine(database)
    give_schema(engine, TEXTED.instrument)
    with (
        serving(Habits()) as api,
        serving_texts(database, store.url) as hook,
        working(work_at(api, database, store.url), tmp_path),
    ):
        ama, kofi = Phone(1, hook, api), Phone(2, hook, api)
        assert kofi.text("results") == NATIONAL  # of anybody, at once
        for person in (ama, kofi):
            assert person.take_part() == ASKED
            assert person.text("1").startswith("Thank you, that was the last question.")
        assert "no more messages" in kofi.text("STOP")
        wait_until(lambda: count_wanted(engine, "w") == (1, 0), "the recorder")
        found = find_results(RELEASES, TEXTED)
        assert found is not None and found.results is not None
        read = [len(ama.inbox()), len(kofi.inbox())]
        for _ in range(2):  # the office's word, given twice
            write(engine, TEXTED, found.results, 99, datetime.now(UTC))
            wait_until(lambda: not DUE_NOW & states(engine).keys(), "the worker")
        assert ama.inbox()[read[0] :] == [OUR_REGION] and kofi.inbox()[read[1] :] == []
        assert count_wanted(engine, "w") == (0, 1)
    engine.dispose()
