"""Pseudonyms, erasure on request, and single interviews read back from the record."""

import re
import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from sqlalchemy import Engine

from flows.engine import Began, Consented, ErasureRequested, ResponseGiven
from storage.database import writing
from storage.models import Event, Interview, Response, table_of
from storage.record import close_unfinished, find_interview, knows_before
from storage.respondents import Pseudonyms, erase, lock_respondents
from tests.record_material import NOW, WAVE, Dialogue, complete, empty, ended, fold_all, rows

KEY = bytes(range(32))
INTERVIEW, RESPONSE, EVENT = table_of(Interview), table_of(Response), table_of(Event)


# ---------------------------------------------------------------- pseudonyms


def test_a_pseudonym_is_keyed_stable_and_tells_nothing() -> None:
    pseudonyms = Pseudonyms(KEY)
    one = pseudonyms.of("+233200000001")
    assert one == "749e50ab0027ab251d40ae78da8ee569"  # pinned: another one would lose every respondent
    assert pseudonyms.of("+233200000001") == one
    assert pseudonyms.of("+233200000002") != one
    assert Pseudonyms(bytes(32)).of("+233200000001") != one


def test_each_use_has_its_own_tag() -> None:
    pseudonyms = Pseudonyms(KEY)
    one = pseudonyms.of("+233200000001")
    seed = pseudonyms.seed(one, WAVE)
    assert 0 <= seed < 2**32
    assert seed == pseudonyms.seed(one, WAVE) != pseudonyms.seed(one, "other")
    interview = pseudonyms.interview_id(one, "ATUid_1")
    assert re.fullmatch(r"[0-9a-f]{16}", interview)
    assert interview != pseudonyms.interview_id(one, "ATUid_2")
    assert len({interview, one[:16], f"{seed:08x}"}) == 3


@pytest.mark.parametrize("key", [b"", b"short", bytes(31)])
def test_a_short_key_is_refused_with_the_way_to_make_one(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"secrets\.token_hex\(32\)"):
        Pseudonyms(key)


# ---------------------------------------------------------------- one interview, read back


def test_an_interview_comes_back_with_its_effects_in_order(engine: Engine) -> None:
    d = complete(1)
    fold_all(engine, d.entries[::-1])
    found = find_interview(engine, d.respondent, WAVE)
    assert found is not None
    hops = [e for e in d.entries if e["kind"] == "hop"]
    assert [type(e).__name__ for e in found.effects] == [e["kind"] for h in hops for e in h["effects"]]
    began = found.effects[0]
    assert isinstance(began, Began)
    assert began.probabilities == {"water": 1.0, "roads": 1.0}
    assert found.version == hops[-1]["version"]
    assert found.sessions == tuple(dict.fromkeys(h["session"] for h in hops))
    assert int(found.last_at.timestamp() * 1000) == hops[-1]["at"]
    assert (found.disposition, found.attempt, found.receipt) == ("complete", 1, None)
    assert find_interview(engine, d.respondent, "other") is None
    assert find_interview(engine, "0" * 32, WAVE) is None


def test_the_newest_of_two_comes_back(engine: Engine) -> None:
    first, second = complete(1), Dialogue(1, at=NOW + 9_000_000)
    second.sessions = 9
    second.begin()
    fold_all(engine, second.entries + first.entries)
    found = find_interview(engine, first.respondent, WAVE)
    assert found is not None
    assert (found.interview, found.attempt) == (second.interview, 2)


def test_one_without_its_beginning_cannot_be_gone_on_with(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    fold_all(engine, d.entries[1:])
    assert find_interview(engine, d.respondent, WAVE) is None
    fold_all(engine, d.entries[:1])
    assert find_interview(engine, d.respondent, WAVE) is not None


def test_a_withdrawn_one_comes_back_with_its_receipt_and_no_answer(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    d.withdraw()
    fold_all(engine, d.entries)
    found = find_interview(engine, d.respondent, WAVE)
    assert found is not None
    assert (found.disposition, found.receipt) == ("withdrawn", "K7Q2")
    assert [type(e) for e in found.effects] == [Began, Consented, ErasureRequested]


def test_whether_the_record_knows_more_than_a_younger_live_store(engine: Engine) -> None:
    fold_all(engine, complete(1).entries)
    last = max(i["last_at"] for i in rows(engine, INTERVIEW))
    assert not knows_before(engine, last)
    assert knows_before(engine, last + timedelta(milliseconds=1))


# ---------------------------------------------------------------- erasure


def test_erasing_on_request_takes_the_answers_and_keeps_the_row(engine: Engine) -> None:
    mine, other = complete(1), complete(2)
    fold_all(engine, mine.entries[:-3] + other.entries)
    assert erase(engine, mine.respondent, WAVE, receipt="ABCD") == 1
    assert {r["interview"] for r in rows(engine, RESPONSE)} == {other.interview}
    standing = {i["id"]: (i["disposition"], i["receipt"]) for i in rows(engine, INTERVIEW)}
    assert standing == {mine.interview: ("withdrawn", "ABCD"), other.interview: ("complete", None)}
    for event in rows(engine, EVENT):
        if event["interview"] == mine.interview and event["kind"] in ("ResponseGiven", "Ended"):
            assert event["payload"] == "{}"
            assert event["item"] is None
    fold_all(engine, mine.entries)  # what was still on the stream, and all of it again
    assert {r["interview"] for r in rows(engine, RESPONSE)} == {other.interview}
    found = find_interview(engine, mine.respondent, WAVE)
    assert found is not None
    assert found.effects[-1] == ErasureRequested("ABCD")
    assert not any(isinstance(e, ResponseGiven) for e in found.effects)


def test_erasing_in_every_wave_and_someone_unknown(engine: Engine) -> None:
    mine = complete(1)
    elsewhere = [{**e, "wave": "2025", "interview": "f" * 16} for e in mine.entries if e["kind"] == "hop"]
    fold_all(engine, mine.entries + elsewhere)
    assert erase(engine, "0" * 32) == 0
    assert erase(engine, mine.respondent) == 2
    assert erase(engine, mine.respondent) == 2  # again: the same
    assert rows(engine, RESPONSE) == []


def test_an_erasure_and_recorders_take_turns(engine: Engine) -> None:
    d = complete(1)
    fold_all(engine, d.entries[:1])
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for entry in d.entries:
                fold_all(engine, [entry])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    erase(engine, d.respondent, WAVE)
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(engine, RESPONSE) == []


# ---------------------------------------------------------------- what was not resumed


def test_the_sweep_tells_partial_from_break_off(engine: Engine) -> None:
    partial, break_off, fresh = Dialogue(1), Dialogue(2), Dialogue(3, at=NOW + 9_000_000)
    whole = complete(4)
    for d in (partial, break_off, fresh):
        d.begin()
        d.consent()
    partial.answer("water.overall", "agree")
    break_off.answer("water.a1", "agree")
    fold_all(engine, [e for d in (partial, break_off, fresh, whole) for e in d.entries])
    before = datetime.fromtimestamp((NOW + 5_000_000) / 1000, UTC)
    assert close_unfinished(engine, before) == 2
    assert close_unfinished(engine, before) == 0
    standing = {i["id"]: i["disposition"] for i in rows(engine, INTERVIEW)}
    assert standing == {
        partial.interview: "partial",
        break_off.interview: "break_off",
        fresh.interview: "in_progress",
        whole.interview: "complete",
    }
    fold_all(engine, partial.entries)  # repeated: nothing new
    assert rows(engine, INTERVIEW)[0]["disposition"] == "partial"
    # A dial after the window shows a menu, and changes nothing by that; going on does.
    partial.dial({"kind": "MenuChosen", "menu": "dial", "option": "lapsed"})
    fold_all(engine, partial.entries)
    assert rows(engine, INTERVIEW)[0]["disposition"] == "partial"
    partial.dial({"kind": "Resumed", "item": "roads.a1"})
    fold_all(engine, partial.entries)
    assert rows(engine, INTERVIEW)[0]["disposition"] == "in_progress"
    partial.answer("roads.a1", "agree", ended())
    fold_all(engine, partial.entries)
    assert rows(engine, INTERVIEW)[0]["disposition"] == "complete"


@pytest.mark.parametrize("option", ["dont_know", "refused", "not_applicable", "strongly_disagree"])
def test_partial_needs_an_answer_on_the_scale_of_an_overall_item(engine: Engine, option: str) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    d.answer("water.overall", option)
    fold_all(engine, d.entries)
    assert close_unfinished(engine, datetime.now(UTC)) == 1
    expected = "partial" if option == "strongly_disagree" else "break_off"
    assert [i["disposition"] for i in rows(engine, INTERVIEW)] == [expected]


def test_the_sweep_settles_which_interview_counts(engine: Engine) -> None:
    """Whatever comes first: the earlier interview, the later one, the sweep."""
    partial, later = Dialogue(1), Dialogue(1, at=NOW + 9_000_000)
    later.sessions = 3
    for d in (partial, later):
        d.begin()
        d.consent()
    partial.answer("water.overall", "agree")
    later.answer("water.a1", "agree")
    expected = {partial.interview: ("partial", True), later.interview: ("break_off", False)}
    lapsed = datetime.fromtimestamp((NOW + 5_000_000) / 1000, UTC)
    for order in permutations(("partial", "later", "sweep", "sweep again")):
        empty(engine)
        for what in order:
            if what == "partial":
                fold_all(engine, partial.entries)
            elif what == "later":
                fold_all(engine, later.entries)
            else:
                close_unfinished(engine, lapsed)
        close_unfinished(engine, datetime.now(UTC))
        found = {i["id"]: (i["disposition"], i["counted"]) for i in rows(engine, INTERVIEW)}
        assert found == expected
        fold_all(engine, later.entries + partial.entries)  # repeated: nothing new
        assert found == {i["id"]: (i["disposition"], i["counted"]) for i in rows(engine, INTERVIEW)}


def test_each_wave_is_swept_by_its_own_window(engine: Engine) -> None:
    for n, wave in enumerate(("w1", "w2", "old"), 1):
        d = Dialogue(n)
        d.begin()
        fold_all(engine, [entry | {"wave": wave} for entry in d.entries])
    now = datetime.now(UTC)
    assert close_unfinished(engine, now, "w2") == 1
    assert {i["wave"]: i["disposition"] for i in rows(engine, INTERVIEW)} == {
        "w1": "in_progress", "w2": "break_off", "old": "in_progress",
    }  # fmt: skip
    assert close_unfinished(engine, now, but=["w1", "w2"]) == 1  # of waves that no file names any more
    assert close_unfinished(engine, now, "w1") == 1


def test_the_sweep_leaves_alone_whom_a_recorder_holds(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    fold_all(engine, d.entries)
    now = datetime.now(UTC)
    if engine.dialect.name != "sqlite":  # there, one writer at a time
        with writing(engine) as db:
            lock_respondents(db, [(d.respondent, now)])
            assert close_unfinished(engine, now) == 0
    assert close_unfinished(engine, now) == 1
