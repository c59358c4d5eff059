"""Campaigns over days and weeks: who is written to, what, when; and who is left alone. On both engines."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from flows.engine import Dialled, Replied, step
from flows.fielding import Contact, Opening
from flows.instrument import load
from flows.interview import most_left
from flows.questionnaire import UNANSWERED
from flows.wave import Wave
from gateway.campaigns import BREAK_OFF_REMINDER, forecast, look_at
from storage import outbox
from storage.campaigns import CampaignError, Candidate, Contacted, create_campaign, find_campaign, set_state
from storage.database import reading, writing
from storage.models import UNFINISHED, Directory, Respondent, SampleNumber, table_of
from storage.outbox import CANCELLED, DUE, FAILED, PAUSED, RUNNING, STOPPED, claim
from storage.progress import messages_by_state, numbers_by_state, to_write_by_language
from storage.respondents import erase
from storage.sample import release, replicates
from storage.sweep import due_messages
from tests.campaign_field import CAMPAIGN, DAY, HOUR, MONDAY, SMALL_WAVE, Field, who
from tests.record_material import WAVE
from tests.sending_field import MESSAGE

SAMPLE, RESPONDENT = table_of(SampleNumber), table_of(Respondent)
INVITATION = "Prompt invitation"
REMINDER = "Prompt reminder"


@pytest.fixture
def field(database_url: str) -> Iterator[Field]:
    made = Field(database_url)
    yield made
    made.engine.dispose()


def invited(field: Field, *numbers: int) -> None:
    """These numbers are in the sample, and were invited."""
    field.load(numbers)
    field.start()
    assert len(field.look()) == len(numbers)
    field.sent()


# ---------------------------------------------------------------- who is written to, and when


def test_an_invitation_two_reminders_and_no_more(field: Field) -> None:
    invited(field, 1)
    assert field.look(47 * HOUR) == []
    assert field.look(1 * HOUR) == [(1, "reminder", REMINDER)]
    field.sent()
    assert field.look(48 * HOUR) == [(1, "reminder", REMINDER)]
    field.sent()
    for _ in range(4):
        assert field.look(7 * DAY) == []
    assert [m["natural_key"].split(":", 3)[3] for m in field.messages()] == [
        "invitation:1", "reminder:1", "reminder:2",
    ]  # fmt: skip
    assert {(m["sender"], m["aggregator"], m["wave"], m["priority"]) for m in field.messages()} == {
        ("1616", "africastalking", WAVE, 5), ("1616", "africastalking", WAVE, 4),
    }  # fmt: skip


def test_a_break_off_is_told_how_much_is_left(field: Field) -> None:
    invited(field, 1, 2)
    field.now += HOUR
    field.dials(1)
    field.answers(1, "consent", "age", "water.a1", "water.a2")
    assert field.look(46 * HOUR) == []
    # 48 hours after the last contact for 2, after the last answer for 1.
    assert field.look(1 * HOUR) == [(2, "reminder", REMINDER)]
    assert field.look(1 * HOUR) == [(1, "reminder", "Left: 7. Dial *384*16#")]
    field.sent()
    field.now += HOUR
    field.answers(1, "water.a3")
    assert (
        field.look(48 * HOUR) == [(2, "reminder", REMINDER), (1, "reminder", "Left: 6. Dial *384*16#")][::-1]
    )


def test_who_stopped_too_long_ago_is_not_told_what_is_left(field: Field) -> None:
    """Beyond the resume window the interview begins anew."""
    invited(field, 1)
    field.dials(1)
    field.answers(1, "consent")
    field.wave = replace(field.wave, contacting=Contact(reminder_hours=96))
    assert field.look(96 * HOUR) == [(1, "reminder", REMINDER)]


def test_who_dialled_uninvited_is_not_invited_but_reminded(field: Field) -> None:
    field.load([1])
    field.dials(1)
    field.answers(1, "consent")
    field.start()
    assert field.look() == []
    assert field.look(48 * HOUR) == [(1, "reminder", "Left: 9. Dial *384*16#")]


@pytest.mark.parametrize("how", ["complete", "refusal", "ineligible", "withdrawn", "opted_out", "erased"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_more_after_the_end(field: Field, how: str, when: str) -> None:
    field.load([1, 2])
    field.start()
    if when == "after":
        field.look()
        field.sent()
        field.now += HOUR
    if how == "opted_out":
        field.stops(1)
    elif how == "erased":
        field.dials(1)
        erase(field.engine, who(1))
    else:
        field.dials(1)
        field.ends(1, how)
    field.sent()
    written = [field.look(hours * HOUR) for hours in (0, 48, 48, 24 * 7)]
    assert {n for one in written for n, _, _ in one} <= {2}
    (alone,) = [r for r in sample(field) if r["respondent"] == who(1)]
    assert alone["next_at"] is None and bool(alone["excluded"]) == (when == "before")


def test_the_language_chosen_last_then_the_sample_s_then_the_wave_s_first(field: Field) -> None:
    field.dials(1, "fr", wave="earlier")
    field.ends(1, "complete")
    field.load([1])
    field.load([2], language="fr")
    field.load([3], language="gone")
    field.start()
    assert field.look() == [
        (n, "invitation", text) for n, text in sorted(
            [(1, "FR invitation"), (2, "FR invitation"), (3, INVITATION)], key=lambda x: who(x[0])
        )
    ]  # fmt: skip
    field.sent()
    field.now += HOUR
    field.dials(3, "fr")
    field.answers(3, "consent")
    assert (3, "reminder", "Left: 9. Dial *384*16#") in field.look(48 * HOUR)


@pytest.mark.parametrize(
    ("state", "reason", "reminded"),
    [("failed", "invalid_phone_number", False), ("failed", "undelivered", False),
     ("unknown", "read_timeout", True),
     ("delivered", None, True), ("cancelled", "no_number", False)],
)  # fmt: skip
def test_only_who_may_have_been_reached_is_reminded(
    field: Field, state: str, reason: str | None, reminded: bool
) -> None:
    field.load([1])
    field.start()
    field.look()
    field.sent(state, reason)
    assert bool(field.look(48 * HOUR)) == reminded


def test_a_message_that_has_not_gone_is_waited_for(field: Field) -> None:
    field.load([1])
    field.start()
    field.look()
    assert field.look(72 * HOUR) == []
    field.sent()
    assert field.look(1 * HOUR) == []  # it has only just gone
    assert field.look(48 * HOUR) == [(1, "reminder", REMINDER)]


def test_quiet_hours_sundays_and_a_closed_wave(database_url: str) -> None:
    field = Field(database_url, opening=Opening(closes_at=MONDAY + 7 * DAY))
    field.load(range(5))
    field.start()
    for hours in (8, 4, 6):  # Monday 20:00, midnight, Tuesday 06:00
        assert field.look(hours * HOUR) == []
    assert len(field.look(2 * HOUR)) == 5  # Tuesday 08:00
    field.sent()
    assert field.look(5 * DAY + 4 * HOUR) == []  # Sunday
    assert len(field.look(1 * DAY - 1 * HOUR)) == 5  # Monday, an hour before it closes
    field.sent()
    assert field.look(2 * DAY) == []
    field.engine.dispose()


def test_only_so_many_wait_at_once(field: Field) -> None:
    field.load(range(50))
    field.start()
    assert [len(field.look(room=20)) for _ in range(2)] == [20, 0]
    with writing(field.engine) as db:
        some = db.execute(select(MESSAGE.c.id).limit(5)).scalars().all()
        db.execute(MESSAGE.update().where(MESSAGE.c.id.in_(some)).values(state="sent", sent_at=field.now))
    assert [len(field.look(room=20)) for _ in range(2)] == [5, 0]


def test_looks_at_the_same_time_write_one_message_each(field: Field) -> None:
    """By the natural key: wave, respondent, kind and which one."""
    field.load(range(40))
    field.start()
    together = threading.Barrier(4)

    def look() -> None:
        campaigns = field.campaigns()
        together.wait()
        campaigns.look()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(m["kind"] for m in field.messages()) == {"invitation": 40}


def test_a_wave_of_no_file_here_is_left_to_others(field: Field, caplog: pytest.LogCaptureFixture) -> None:
    field.load([1], wave="another")
    field.start()
    assert field.look() == [] and "wave that no file here is of" in caplog.text


# ---------------------------------------------------------------- pause, resume, stop


def states(field: Field) -> Counter[str]:
    return Counter(m["state"] for m in field.messages())


def test_a_pause_holds_at_once_also_for_what_is_due(field: Field) -> None:
    field.load(range(10))
    field.start()
    field.look(room=5)
    ids = [m["id"] for m in field.messages()]
    assert claim(field.engine, ids[0], field.now)
    set_state(field.engine, CAMPAIGN, PAUSED, field.now)
    assert not any(claim(field.engine, i, field.now) for i in ids[1:])
    assert due_messages(field.engine, field.now, 100) == []  # no job either
    found = outbox.find_message(field.engine, ids[1])
    assert found is not None and found.campaign == PAUSED
    assert field.look() == [] and states(field) == {"due": 4, "sending": 1}
    set_state(field.engine, CAMPAIGN, RUNNING, field.now)
    assert len(due_messages(field.engine, field.now, 100)) == 4 and claim(field.engine, ids[1], field.now)
    assert len(field.look()) == 5


def test_a_stop_cancels_what_is_due_and_is_for_good(field: Field) -> None:
    field.load(range(10))
    field.start()
    field.look(room=5)
    ids = [m["id"] for m in field.messages()]
    claim(field.engine, ids[0], field.now)
    assert set_state(field.engine, CAMPAIGN, STOPPED, field.now) == 4
    assert not any(claim(field.engine, i, field.now) for i in ids)
    assert {(m["state"], m["failure_reason"]) for m in field.messages()} == {
        ("cancelled", "campaign_stopped"), ("sending", None),
    }  # fmt: skip
    assert field.look(48 * HOUR) == []
    for state in (RUNNING, PAUSED, STOPPED):
        with pytest.raises(CampaignError, match="is stopped; it cannot become"):
            set_state(field.engine, CAMPAIGN, state, field.now)
    with pytest.raises(CampaignError, match="choose another name"):
        field.load([99])


def test_another_campaign_and_replies_go_on_meanwhile(field: Field) -> None:
    field.load([1])
    field.load([2], campaign="second")
    field.start()
    field.start(campaign="second")
    field.look()
    with writing(field.engine) as db:
        first = dict(next(r for r in db.execute(select(MESSAGE)) if r.respondent == who(1))._mapping)
        db.execute(MESSAGE.insert().values(**first | {"id": "r", "natural_key": "r", "kind": "reply"}))
    set_state(field.engine, CAMPAIGN, PAUSED, field.now)
    due = {i for i, _ in due_messages(field.engine, field.now, 100)}
    assert due == {"r", next(m["id"] for m in field.messages() if m["n"] == 2)}
    set_state(field.engine, CAMPAIGN, STOPPED, field.now)
    assert states(field) == {"due": 2, "cancelled": 1}


@pytest.mark.parametrize("what", ["complete", "dialled", "went on", "opted out", "looked"])
def test_what_happened_since_is_asked_when_a_message_is_claimed(field: Field, what: str) -> None:
    """A message waits in the outbox, and its respondent comes by themselves. Looking is no coming."""
    invited(field, 1)
    if what == "went on":
        field.dials(1)
        field.answers(1, "consent")
    assert len(field.look(48 * HOUR)) == 1
    field.now += HOUR
    if what == "complete":
        field.dials(1)
        field.ends(1, "complete")
    elif what == "dialled":
        field.dials(1)
    elif what == "went on":
        field.answers(1, "age")
    elif what == "looked":
        field.looks(1)
    else:
        field.stops(1)
    (waiting,) = [m for m in field.messages() if m["kind"] == "reminder"]
    assert claim(field.engine, waiting["id"], field.now) == (what == "looked")


def test_who_only_looked_at_results_is_invited_and_reminded(field: Field) -> None:
    field.load([1, 2])
    field.looks(1)
    field.looks(2)
    field.start()
    assert [(n, kind) for n, kind, _ in sorted(field.look())] == [(1, "invitation"), (2, "invitation")]
    assert all(claim(field.engine, m["id"], field.now) for m in field.messages())
    with writing(field.engine) as db:
        db.execute(MESSAGE.update().values(state="sent", sent_at=field.now))
    field.dialogues[2].at = field.before(1)
    field.dialogues[2].hop({"kind": "MenuChosen", "menu": "results", "option": "back"})  # and hangs up there
    field.fold(field.dialogues[2])
    written = sorted(field.look(48 * HOUR))
    assert [(n, kind, text.partition(":")[0]) for n, kind, text in written] == [
        (1, "reminder", "Prompt reminder"), (2, "reminder", "Left"),
    ]  # fmt: skip


def test_a_campaign_s_states_and_names(field: Field) -> None:
    with pytest.raises(CampaignError, match="load a sample first"):
        find_campaign(field.engine, CAMPAIGN)
    field.load([1])
    with pytest.raises(CampaignError, match="there are first"):
        find_campaign(field.engine, "other")
    with pytest.raises(CampaignError, match="is draft; it cannot become paused"):
        set_state(field.engine, CAMPAIGN, PAUSED, field.now)
    with pytest.raises(CampaignError, match="is of wave pilot-2026"):
        create_campaign(field.engine, CAMPAIGN, "another", "simulator", "1", field.now)


# ---------------------------------------------------------------- the sample


def sample(field: Field) -> list[dict[str, object]]:
    with reading(field.engine) as db:
        return [dict(r._mapping) for r in db.execute(select(SAMPLE).order_by(SAMPLE.c.id))]


def numbers_kept(field: Field) -> set[str]:
    with reading(field.engine) as db:
        return set(db.execute(select(table_of(Directory).c.respondent)).scalars())


def test_the_same_sample_again_changes_nothing(field: Field) -> None:
    assert field.load(range(5000)) == {"loaded": 5000, "already": 0}
    once = sample(field)
    field.now += HOUR
    assert field.load(range(4990, 5010)) == {"loaded": 10, "already": 10}
    assert [r for r in sample(field) if r["loaded_at"] == MONDAY] == once
    assert field.load([3], campaign="second") == {"loaded": 0, "already": 1}  # of the same wave


def test_rows_do_not_stand_in_the_order_of_the_draw(field: Field) -> None:
    """From a kept seed anybody can draw the numbers again, in that order, and needs no key for it."""
    kept = [row.respondent for row in field.rows(range(200))]
    assert kept == sorted(who(n) for n in range(200)) != [who(n) for n in range(200)]


def test_who_is_left_alone_keeps_a_row_and_no_number(field: Field) -> None:
    for n, (wave, end) in enumerate(
        [(WAVE, "complete"), (WAVE, "refusal"), (WAVE, "ineligible"), (WAVE, "withdrawn"),
         ("earlier", "refusal"), ("earlier", "withdrawn"), ("earlier", "complete"), ("earlier", "ineligible")]
    ):  # fmt: skip
        field.dials(n, wave=wave)
        field.ends(n, end)
    field.dials(12)
    field.ends(12, "quota_full")
    field.stops(13)
    with writing(field.engine) as db:  # and came back
        back = {"opted_in_at": field.now + HOUR}
        db.execute(RESPONDENT.update().where(RESPONDENT.c.pseudonym == who(13)).values(**back))
    field.dials(8)
    field.stops(9)
    field.dials(10, wave="earlier")
    field.ends(10, "complete")
    field.stops(10)
    counts = field.load(range(14))
    assert counts == {
        "loaded": 5, "already": 0, "complete": 1, "refused": 1, "ineligible": 1, "withdrawn": 1,
        "quota_full": 1, "refused_before": 2, "opted_out": 2,
    }  # fmt: skip
    assert {who(n) for n in (6, 7, 8, 11, 13)} == numbers_kept(field)
    reasons = {r["respondent"]: r["excluded"] for r in sample(field)}
    assert reasons[who(4)] == "refused_before" and reasons[who(10)] == "opted_out" and len(reasons) == 14
    field.start()
    assert {n for n, _, _ in field.look()} == {6, 7, 11, 13}


def test_who_was_invited_to_another_wave_is_left_to_rest(database_url: str) -> None:
    field = Field(database_url, Contact(rest_days=30))
    field.load([1, 2])
    field.start()
    field.look()
    field.sent()
    field.now += 21 * DAY
    assert field.load([1, 3], "later", "later-2027", rest_days=30) == {
        "loaded": 1, "already": 0, "recent_wave": 1,
    }  # fmt: skip
    # Asked again before the invitation: the other wave may have invited after the loading.
    field.load([4], "third", "third-2027")
    field.load([4], "fourth", WAVE)
    with writing(field.engine) as db:
        one = dict(db.execute(select(MESSAGE)).first()._mapping)  # type: ignore[union-attr]
        field_4 = {"id": "x", "natural_key": "x", "respondent": who(4), "wave": "third-2027"}
        db.execute(MESSAGE.insert().values(**one | field_4 | {"created_at": field.now, "state": "sent"}))
    field.start(campaign="fourth")
    assert 4 not in {n for n, _, _ in field.look()}
    assert {r["excluded"] for r in sample(field) if r["respondent"] == who(4) and r["wave"] == WAVE} == {
        "recent_wave"
    }
    field.engine.dispose()


def test_a_dry_load_keeps_nothing(field: Field) -> None:
    field.stops(2)
    before = numbers_kept(field)
    assert field.load(range(10), keep=False) == {"loaded": 9, "already": 0, "opted_out": 1}
    assert sample(field) == [] and numbers_kept(field) == before


def test_replicates_are_released_in_steps(field: Field) -> None:
    for replicate in (1, 2, 3):
        field.load(range(replicate * 10, replicate * 10 + 4), replicate=replicate)
    field.stops(21)
    field.start(up_to=1)
    assert {n for n, _, _ in field.look()} == {10, 11, 12, 13}
    assert release(field.engine, CAMPAIGN, 2, field.now) == 4
    assert {n for n, _, _ in field.look()} == {20, 22, 23}
    assert release(field.engine, CAMPAIGN, 2, field.now) == 0
    assert replicates(field.engine, CAMPAIGN) == [(1, 4, 4, 0), (2, 4, 4, 1), (3, 4, 0, 0)]


# ---------------------------------------------------------------- how it stands


def test_every_number_stands_in_one_state(field: Field) -> None:
    field.stops(0)
    field.load(range(10))
    field.load(range(10, 13), replicate=2)
    field.start()
    field.look(room=6)
    field.sent("delivered")
    waiting = {m["n"] for m in field.messages()}
    field.dials(came := min(waiting))
    field.ends(came, "complete")
    assert numbers_by_state(field.engine, CAMPAIGN) == [
        ("came", "complete", 1), ("invited", "delivered", 5), ("left alone", "opted_out", 1),
        ("not released", "", 3), ("to be invited", "", 3),
    ]  # fmt: skip
    with writing(field.engine) as db:
        db.execute(MESSAGE.update().values(cost_amount="0.0371", cost_currency="GHS", parts=2))
    (sent,) = messages_by_state(field.engine, CAMPAIGN)
    assert (sent.kind, sent.state, sent.count, sent.parts) == ("invitation", "delivered", 6, 12)
    assert sent.cost == {"GHS": Decimal("0.2226")}


def test_a_forecast_counts_messages_and_parts(field: Field) -> None:
    field.load(range(6))
    field.load(range(6, 8), language="fr", replicate=2)
    numbers = to_write_by_language(field.engine, CAMPAIGN, 1)
    assert numbers == [(None, 6)] and to_write_by_language(field.engine, CAMPAIGN) == []
    found = forecast(field.wave, to_write_by_language(field.engine, CAMPAIGN, 2))
    assert (found.invitations, found.most_reminders) == (8, 16)
    assert (found.invitation_parts, found.most_parts) == (8, 24)


# ---------------------------------------------------------------- whatever happened

_moments = st.integers(-24 * 30, 0).map(lambda h: MONDAY + h * HOUR)
_contacts = st.lists(
    st.builds(
        Contacted,
        st.sampled_from(["reminder", "reminder", "invitation"]),
        st.sampled_from([DUE, "sending", "sent", "delivered", FAILED, "unknown", CANCELLED, "held"]),
        _moments,
    ),
    max_size=5,
)


@given(
    contacts=_contacts,
    reason=st.sampled_from([None, None, None, "complete", "opted_out", "recent_wave"]),
    has_number=st.booleans(),
    disposition=st.sampled_from([None, None, "in_progress", "partial", "break_off", "results_only"]),
    last_at=_moments,
    reminders=st.integers(0, 3),
    reminder_hours=st.integers(1, 200),
)
def test_whatever_happened_the_next_step_is_later_or_the_last(
    contacts: list[Contacted],
    reason: str | None,
    has_number: bool,
    disposition: str | None,
    last_at: object,
    reminders: int,
    reminder_hours: int,
) -> None:
    contact = Contact(reminders=reminders, reminder_hours=reminder_hours)
    number = Candidate(
        "s", "r", reason, has_number, None, (), "i" if disposition else None, disposition,
        last_at if disposition else None, tuple(sorted(contacts, key=lambda c: c.at)),  # type: ignore[arg-type]
    )  # fmt: skip
    look, prompt = look_at(number, replace(SMALL_WAVE, contacting=contact), MONDAY)
    assert look.next_at is None or look.next_at > MONDAY
    assert bool(prompt) == bool(look.kind)
    if prompt:
        assert reason is None and has_number
        assert look.ordinal == sum(c.kind == look.kind for c in contacts) + 1
        if look.kind == "reminder":
            assert look.ordinal <= reminders
            assert max(c.at for c in contacts or [Contacted("", "", MONDAY - 99 * DAY)]) <= (
                MONDAY - timedelta(hours=reminder_hours)
            )
        else:
            assert not contacts and disposition in (None, "results_only")
        assert (prompt == BREAK_OFF_REMINDER) <= (disposition in UNFINISHED)
    else:
        assert look.excluded is None or not contacts


WHOLE = Wave("w", load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2"), ("en",), "o", "c", "*1#")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_no_more_questions_come_than_a_reminder_says(seed: int) -> None:
    chance, at = random.Random(seed), 0
    taken = step(WHOLE, None, Dialled(at, "0" * 16, seed, "ussd", 160))
    seen: list[int] = []  # answered and left together: an answer takes one at least
    while not taken.interview.disposition:
        answered = sum(mark != UNANSWERED for mark in taken.interview.answers)
        seen.append(answered + most_left(WHOLE.instrument, taken.interview))
        item = WHOLE.instrument.by_id[taken.interview.at]
        key = "1" if item.role in ("consent", "adult") else str(chance.randint(1, 4))
        if taken.interview.stage != "item":
            key = "1"
        elif item.kind == "number":
            key = str(item.least)
        at += 1000
        taken = step(WHOLE, taken.interview, Replied(at, key))
    assert taken.interview.disposition == "complete"
    assert seen == sorted(seen, reverse=True) and most_left(WHOLE.instrument, taken.interview) == 0
