"""The recorder on every pair of stores: once, in whatever order, whatever is killed or away."""

import json
import logging
import random
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Connection, Engine

from flows.instrument import parse
from flows.questionnaire import PROMPTS_ADDED
from storage.database import open_engine
from storage.entries import STREAM
from storage.entries import Entry as FoldedEntry
from storage.fold import fold
from storage.models import Event, Interview, Response, UssdSession, table_of
from storage.record import close_unfinished
from storage.recorder import DEAD, Recorder, dead_entries, health, lag, replay_dead
from tests.record_material import (
    NOW,
    SMALL,
    Dialogue,
    Entry,
    complete,
    contents,
    drain,
    empty,
    ended,
    fold_all,
    rows,
    send,
)
from tests.stores import give_schema, wait_until

INTERVIEW, RESPONSE = table_of(Interview), table_of(Response)
EVENT, SESSION = table_of(Event), table_of(UssdSession)


@pytest.fixture
def live(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


# ---------------------------------------------------------------- what is recorded


def test_an_interview_is_recorded_whole_within_a_second(live: redis.Redis, engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    d.answer("age", 98)
    d.answer("water.a1", "strongly_disagree")
    d.answer("water.a2", "dont_know", ended())
    d.hang_up()
    recorder = Recorder(live, engine, "one")
    stop = threading.Event()
    thread = threading.Thread(target=recorder.run, args=(stop.is_set,))
    thread.start()
    time.sleep(0.3)  # the group is made and the stream quiet
    send(live, d.entries)
    wait_until(lambda: not lag(live), "the recorder")
    assert health(live) == (True, "1 running, 0 entries waiting")
    stop.set()
    thread.join()
    (interview,) = rows(engine, INTERVIEW)
    assert interview["disposition"] == "complete"
    assert interview["instrument"] == SMALL.reference
    assert interview["consent_version"] == "2026-1"
    assert interview["began_at"] == datetime.fromtimestamp((NOW + 4000) / 1000, UTC)
    assert (interview["attempt"], interview["counted"], interview["seed"]) == (1, True, 7)
    answers = {r["item"]: (r["option"], r["code"], r["number"]) for r in rows(engine, RESPONSE)}
    assert answers == {
        "consent": ("yes", 1, None),
        "age": ("", None, 98),  # not "don't know"
        "water.a1": ("strongly_disagree", 0, None),
        "water.a2": ("dont_know", 98, None),
    }
    (session,) = rows(engine, SESSION)
    assert (session["hops"], session["hops_reported"], session["status"]) == (5, 5, "Incomplete")
    assert (session["cost_currency"], session["cost_amount"]) == ("GHS", 0.03)
    assert [e["kind"] for e in rows(engine, EVENT)] == [
        "Began", "ResponseGiven", "Consented", "ResponseGiven", "ResponseGiven", "ResponseGiven", "Ended",
    ]  # fmt: skip


def test_any_order_and_any_repetition_gives_the_same_record(live: redis.Redis, engine: Engine) -> None:
    entries = [e for n in range(6) for e in complete(n).entries]
    double = Dialogue(3, at=NOW + 10_000_000)  # the live store was lost: a second interview
    double.sessions, double.version = 7, 1000
    double.begin()
    double.consent()
    gone = Dialogue(40)
    gone.begin()
    gone.consent()
    gone.answer("age", 30)
    gone.withdraw()
    entries += double.entries + gone.entries
    fold_all(engine, entries)
    expected = contents(engine)
    assert [len(rows) for rows in expected.values()][:2] == [7, 8]
    for seed in range(4):
        empty(engine)
        order = random.Random(seed)
        shuffled = entries + order.sample(entries, len(entries) // 3)
        order.shuffle(shuffled)
        send(live, shuffled)
        batch = order.choice((1, 7, 40))
        drain(Recorder(live, engine, "one", batch=batch), Recorder(live, engine, "two", batch=batch))
        assert contents(engine) == expected
        assert dead_entries(live) == 0


def test_recorders_side_by_side_lose_and_double_nothing(live: redis.Redis, engine: Engine) -> None:
    entries = [e for n in range(20) for e in complete(n).entries]
    fold_all(engine, entries)
    expected = contents(engine)
    empty(engine)
    random.Random(5).shuffle(entries)
    send(live, entries)
    stop = threading.Event()
    recorders = [
        Recorder(redis.Redis(connection_pool=live.connection_pool), engine, f"r{n}", batch=20)
        for n in range(3)
    ]
    threads = [threading.Thread(target=r.run, args=(stop.is_set,)) for r in recorders]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while lag(live) and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert contents(engine) == expected


def test_a_later_answer_wins_and_a_retraction_keeps_an_empty_row(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.answer("water.a1", "agree")
    d.answer("water.a2", "agree")
    d.answer("water.a1", "disagree", {"kind": "ResponseRetracted", "item": "water.a2"})
    for order in (d.entries, d.entries[::-1], d.entries):
        for entry in order:
            fold_all(engine, [entry])
        a1, a2 = rows(engine, RESPONSE)
        assert (a1["option"], a1["version"], a1["retracted"]) == ("disagree", 4, False)
        assert (a2["option"], a2["code"], a2["version"], a2["retracted"]) == (None, None, 4, True)


def test_a_refusal_thought_better_of_is_in_progress_again(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.answer("consent", "no", ended("refusal"))
    fold_all(engine, d.entries)
    assert rows(engine, INTERVIEW)[0]["disposition"] == "refusal"
    d.dial({"kind": "Resumed", "item": "consent"})
    d.consent()
    fold_all(engine, d.entries[::-1])
    (interview,) = rows(engine, INTERVIEW)
    assert (interview["disposition"], interview["ended_at"]) == ("in_progress", None)


def test_who_refused_and_came_back_for_the_results_alone_has_refused(engine: Engine) -> None:
    refused, looked = Dialogue(1), Dialogue(2)
    for d in (refused, looked):
        d.begin()
    refused.answer("consent", "no", ended("refusal"))
    refused.dial({"kind": "Resumed", "item": "consent"}, {"kind": "ResponseRetracted", "item": "consent"})
    for d in (refused, looked):
        seen: Entry = {"kind": "MenuChosen", "menu": "item", "option": "see_results"}
        d.hop(seen, ended("results_only"), {"kind": "ResultsSeen", "screen": "national"}, stage="results")
    for entries in ([*refused.entries, *looked.entries], [*looked.entries[::-1], *refused.entries[::-1]]):
        empty(engine)
        for entry in entries:
            fold_all(engine, [entry])
        assert [i["disposition"] for i in rows(engine, INTERVIEW)] == ["refusal", "results_only"]


@pytest.mark.parametrize("how", ["back", "dials"])
def test_who_is_asked_again_after_the_results_has_begun(engine: Engine, how: str) -> None:
    """In whatever order the hops come: back at the question, the results again, and hung up there."""
    d = Dialogue(1)
    d.begin()
    for _ in range(2):
        seen: Entry = {"kind": "MenuChosen", "menu": "item", "option": "see_results"}
        d.hop(seen, ended("results_only"), {"kind": "ResultsSeen", "screen": "national"}, stage="results")
        if how == "back":
            d.hop({"kind": "MenuChosen", "menu": "results", "option": "back"})
        else:
            d.dial({"kind": "Resumed", "item": "consent"})
    for entries in (d.entries, d.entries[::-1], [*d.entries[2:], *d.entries[:2]]):
        empty(engine)
        for entry in entries:
            fold_all(engine, [entry])
        (interview,) = rows(engine, INTERVIEW)
        assert (interview["disposition"], interview["ended_at"]) == ("in_progress", None)
        assert interview["last_item"] == "consent"


def test_answers_to_a_version_that_lacks_what_the_format_gained_are_recorded(tmp_path: Path) -> None:
    words = [x for x in SMALL.sources["en.toml"].split("\n") if x.partition(" = ")[0] not in PROMPTS_ADDED]
    older = parse({**SMALL.sources, "en.toml": "\n".join(words)}, fielded=True)
    engine = open_engine(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    give_schema(engine, older)
    fold_all(engine, complete(1).entries)
    (interview,) = rows(engine, INTERVIEW)
    assert interview["disposition"] == "complete" and interview["marks"]
    engine.dispose()


@pytest.mark.parametrize("complete_first", [True, False])
def test_two_interviews_in_a_wave_are_kept_and_the_complete_one_counts(
    engine: Engine, complete_first: bool
) -> None:
    first = Dialogue(1)
    first.begin()
    first.consent()
    second = Dialogue(1, at=NOW + 9_000_000)
    second.sessions = 3
    second.begin()
    second.answer("age", 40)
    (first if complete_first else second).answer("water.a1", "agree", ended())
    fold_all(engine, second.entries)  # arrives first
    assert [(i["attempt"], i["counted"]) for i in rows(engine, INTERVIEW)] == [(1, True)]
    fold_all(engine, first.entries)
    found = {i["id"]: (i["attempt"], i["counted"]) for i in rows(engine, INTERVIEW)}
    assert found == {first.interview: (1, complete_first), second.interview: (2, not complete_first)}


def stopped_as(how: str, attempt: int) -> Dialogue:
    """An interview of respondent 1 that stands as `how` says; attempts follow each other."""
    d = Dialogue(1, at=NOW + attempt * 9_000_000)
    d.sessions = 3 * attempt
    d.begin()
    if how == "refusal":
        d.answer("consent", "no", ended("refusal"))
    elif how != "bare":
        d.consent()
    if how in ("partial", "complete"):
        d.answer("water.overall", "agree", *([ended()] if how == "complete" else []))
    return d


WORTH = ("refusal", "bare", "consented", "partial", "complete")


@pytest.mark.parametrize("better", range(len(WORTH)))
def test_which_of_two_interviews_counts(engine: Engine, better: int) -> None:
    """The better one, wherever it stands: a bare redial after the window takes nothing's place."""
    for worse in range(better + 1):
        for first, second in ((worse, better), (better, worse)):
            one, two = stopped_as(WORTH[first], 0), stopped_as(WORTH[second], 1)
            for order in ((one, two), (two, one)):
                empty(engine)
                for d in order:
                    fold_all(engine, d.entries)
                    close_unfinished(engine, datetime.now(UTC))
                counted = [i["id"] for i in rows(engine, INTERVIEW) if i["counted"]]
                assert counted == [two.interview if second >= first else one.interview], (first, second)


# ---------------------------------------------------------------- withdrawal


def test_a_withdrawal_erases_answers_and_late_ones_stay_out(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    late = d.answer("age", 71)
    d.answer("water.a1", "agree")
    d.withdraw()
    fold_all(engine, [e for e in d.entries if e is not late])
    fold_all(engine, [late])
    assert rows(engine, RESPONSE) == []
    (interview,) = rows(engine, INTERVIEW)
    assert (interview["disposition"], interview["receipt"]) == ("withdrawn", "K7Q2")
    payloads = {e["kind"]: e["payload"] for e in rows(engine, EVENT)}
    assert payloads["ResponseGiven"] == payloads["MenuChosen"] == "{}"
    assert "71" not in "".join(e["payload"] for e in rows(engine, EVENT))


def test_a_withdrawal_holds_for_every_interview_of_the_wave(engine: Engine) -> None:
    first, second = Dialogue(1), Dialogue(1, at=NOW + 9_000_000)
    second.sessions = 3
    for d in (first, second):
        d.begin()
        d.answer("age", 71)
    second.withdraw()
    fold_all(engine, second.entries)
    fold_all(engine, first.entries)
    assert rows(engine, RESPONSE) == []
    assert {(i["disposition"], i["receipt"]) for i in rows(engine, INTERVIEW)} == {("withdrawn", "K7Q2")}


def test_a_withdrawal_racing_with_late_answers(live: redis.Redis, engine: Engine) -> None:
    for n in range(5):
        d = Dialogue(n)
        d.begin()
        for item in ("water.a1", "water.a2", "water.a3"):
            d.answer(item, "agree")
        d.withdraw()
        random.Random(n).shuffle(d.entries)
        send(live, d.entries)
    recorders = [
        Recorder(redis.Redis(connection_pool=live.connection_pool), engine, f"r{n}", batch=2)
        for n in range(2)
    ]
    threads = [threading.Thread(target=drain, args=(r,)) for r in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(engine, RESPONSE) == []
    assert all(i["disposition"] == "withdrawn" for i in rows(engine, INTERVIEW))
    assert all(e["payload"] == "{}" for e in rows(engine, EVENT) if e["kind"] == "ResponseGiven")


# ---------------------------------------------------------------- poison

GIVEN = {"kind": "ResponseGiven", "item": "x", "option": "secret", "code": 2, "seconds": 1, "tries": 1}


def hop(**changes: object) -> str:
    d = Dialogue(8)
    d.begin()
    return json.dumps({**d.entries[0], **changes})


POISON = {
    "{": "not JSON",
    "[]": "not a JSON object",
    '{"kind": "surprise"}': "kind is missing or unknown",
    '{"kind": "conflict", "session": "s", "respondent": "r", "at": 1e3}': "at is missing or no integer",
    '{"kind": "session_ended", "session": "s", "at": 1}': "respondent is missing or no text",
    hop(interview=5): "interview is missing or no text",
    hop(version=-1): "version is missing or no integer",
    hop(hop=2**63): "hop is missing or no integer",
    hop(at=NOW * 1000): "at is out of range",
    hop(effects=None): "effects is missing or no list",
    hop(effects=[{"kind": "Surprise"}]): "effects[0].kind is missing or unknown",
    hop(effects=[GIVEN, {**GIVEN, "code": "2"}]): "effects[1].code is missing or of another type",
    hop(effects=[{**GIVEN, "extra": "secret"}]): "effects[0] has unknown fields",
    hop(stage="secret\0"): "text holds a NUL, which not every engine stores",
    hop(stage="secret\ud800"): "not JSON",  # half a character
}


def test_poison_goes_aside_with_its_reason_and_holds_nothing_up(
    live: redis.Redis, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    good = complete(1).entries
    live.xadd(STREAM, {"other": "secret"})
    send(live, [*good[:5], *POISON, *good[5:]])
    caplog.set_level(logging.DEBUG)
    recorder = Recorder(live, engine, "one")
    drain(recorder)
    (interview,) = rows(engine, INTERVIEW)
    assert interview["disposition"] == "complete"
    aside: Any = live.xrange(DEAD)
    dead = {fields.get(b"e", b"").decode(): fields[b"reason"].decode() for _, fields in aside}
    assert dead.pop("") == "field e is missing"
    assert dead == POISON
    assert "set aside" in caplog.text
    assert "secret" not in caplog.text
    before = dead_entries(live)
    assert replay_dead(live) == before
    assert (dead_entries(live), lag(live)) == (0, before)
    drain(recorder)  # still poison: back again
    assert (dead_entries(live), lag(live)) == (before, 0)


def test_an_entry_that_nobody_foresaw_is_found_by_halving(
    live: redis.Redis, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, odd = complete(1), Dialogue(2)
    odd.begin()

    def fail_on_odd(db: Connection, entries: Iterable[FoldedEntry]) -> None:
        entries = list(entries)
        fold(db, entries)
        if any(e.respondent == odd.respondent for e in entries):
            raise KeyError("secret")

    monkeypatch.setattr("storage.recorder.fold", fail_on_odd)
    send(live, good.entries[:4] + odd.entries + good.entries[4:])
    drain(Recorder(live, engine, "one"))
    assert [i["disposition"] for i in rows(engine, INTERVIEW)] == ["complete"]
    aside: Any = live.xrange(DEAD)
    assert [fields[b"reason"] for _, fields in aside] == [b"cannot be written: KeyError"]


def test_an_entry_mended_by_a_new_release_is_recorded_on_replay(live: redis.Redis, engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    live.xadd(DEAD, {"e": json.dumps(d.entries[0]), "reason": "unknown then"})
    assert replay_dead(live) == 1
    drain(Recorder(live, engine, "one"))
    assert len(rows(engine, INTERVIEW)) == 1


def test_a_client_that_decodes_is_refused(live: redis.Redis, engine: Engine, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    with pytest.raises(ValueError, match="decode_responses"):
        Recorder(client, engine, "one")
    client.close()
