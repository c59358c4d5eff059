"""Dispositions: every number invited and every person who dialled ends in exactly one, by rule."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text

from storage.analysis.dispositions import BY_NAME, OPEN, OUTCOMES, Count, count_dispositions, rates
from storage.database import reading, writing
from storage.models import (
    Campaign,
    Interview,
    OutboundMessage,
    Respondent,
    Response,
    SampleNumber,
    table_of,
)
from storage.record import close_unfinished
from tests.record_material import SMALL, WAVE, Dialogue, Entry, ended, fold_all

HERE = Path(__file__).resolve().parent.parent
LATER = "later-2027"
DAY = timedelta(days=1)
RELEASED = datetime(2026, 11, 2, 8, tzinfo=UTC)
BEGAN = RELEASED + DAY
OVERALL, ATTRIBUTE = "water.overall", "water.a1"


@dataclass(frozen=True)
class Person:
    """What the record holds of somebody. `sent`: state, or "failed: reason", of each message to them."""

    interview: str | None = None  # its disposition
    answered: tuple[str, str] | None = None  # item and option
    sample: bool = True
    released: bool = True
    excluded: str | None = None
    sent: tuple[str, ...] = ()
    stopped: datetime | None = None
    back: datetime | None = None  # texted the keyword again
    wave: str = WAVE


def write(engine: Engine, people: Sequence[Person], first: int = 1) -> None:
    """Put them into the record, as respondents `first` and following."""
    rows: dict[type[Any], list[dict[str, Any]]] = {
        m: [] for m in (Respondent, Campaign, SampleNumber, Interview, Response, OutboundMessage)
    }
    for wave in {p.wave for p in people if p.sample}:
        rows[Campaign].append(
            {"id": f"c {wave}", "wave": wave, "state": "running", "aggregator": "africastalking",
             "created_at": RELEASED, "state_at": RELEASED}
        )  # fmt: skip
    for n, p in enumerate(people, first):
        who, interview = f"{n:032x}", f"{n:08x}{p.wave}"
        rows[Respondent].append(
            {"pseudonym": who, "first_seen_at": RELEASED, "opted_out_at": p.stopped, "opted_in_at": p.back}
        )
        if p.sample:
            rows[SampleNumber].append(
                {"id": f"{n:032x}{p.wave}", "wave": p.wave, "respondent": who, "campaign": f"c {p.wave}",
                 "replicate": 1, "source": "csv", "loaded_at": RELEASED,
                 "released_at": RELEASED if p.released else None, "excluded": p.excluded}
            )  # fmt: skip
        if p.interview:
            rows[Interview].append(
                {"id": interview, "respondent": who, "wave": p.wave, "attempt": 1, "counted": True,
                 "instrument": SMALL.reference, "began_at": BEGAN, "last_at": BEGAN,
                 "disposition": p.interview, "last_item": "", "last_stage": "", "version": 1,
                 "language_version": 1, "consented_version": 1, "outcome_version": 1, "answered_version": 1}
            )  # fmt: skip
        if p.interview and p.answered:
            rows[Response].append(
                {"interview": interview, "item": p.answered[0], "option": p.answered[1], "given_at": BEGAN,
                 "mode": "ussd", "session": "s", "version": 1, "retracted": False}
            )  # fmt: skip
        for k, sent in enumerate(p.sent):
            state, _, reason = sent.partition(": ")
            rows[OutboundMessage].append(
                {"id": f"{interview}{k}", "natural_key": f"{interview}{k}", "wave": p.wave,
                 "respondent": who, "kind": "reminder" if k else "invitation", "priority": 5, "text": "x",
                 "aggregator": "africastalking", "state": state, "failure_reason": reason or None,
                 "not_before": RELEASED, "attempts": 1, "created_at": RELEASED}
            )  # fmt: skip
    with writing(engine) as db:
        for model, values in rows.items():
            if values:
                db.execute(insert(table_of(model)), values)


def dispositions(engine: Engine, wave: str = WAVE) -> dict[int, tuple[str, str, str, str | None]]:
    """origin, disposition, if_closed and code, by the respondent's number. No respondent twice."""
    with reading(engine) as db:
        found = db.execute(
            text(
                "SELECT respondent, origin, disposition, if_closed, aapor FROM dispositions WHERE wave = :w"
            ),
            {"w": wave},
        ).all()
    out = {int(row[0], 16): (row[1], row[2], row[3], row[4]) for row in found}
    assert len(out) == len(found)
    return out


# ---------------------------------------------------------------- the rule

_YES = (OVERALL, "agree")
_AFTER = BEGAN + DAY
CASES = [
    # Who has an interview: what became of that, whatever became of messages.
    (Person("complete", sent=("delivered",)), "complete", "1.1"),
    (Person("complete", stopped=_AFTER), "complete", "1.1"),  # STOP after the end takes nothing back
    (Person("complete", sent=("failed: UserDoesNotExist",)), "complete", "1.1"),
    (Person("withdrawn", stopped=_AFTER), "withdrawn", "2.11"),
    (Person("partial"), "partial", "1.2"),
    (Person("partial", stopped=_AFTER), "partial", "1.2"),
    (Person("refusal"), "refusal", "2.11"),
    (Person("ineligible", stopped=_AFTER), "ineligible", "4.7"),
    (Person("quota_full"), "quota_full", "4.8"),
    (Person("results_only"), "other", "2.3"),
    (Person("break_off"), "break_off", "2.12"),
    (Person("break_off", stopped=_AFTER), "opted_out", "2.11"),
    (Person("in_progress"), "in_progress > break_off", "2.12"),
    (Person("in_progress", (ATTRIBUTE, "agree")), "in_progress > break_off", "2.12"),
    (Person("in_progress", (OVERALL, "dont_know")), "in_progress > break_off", "2.12"),
    (Person("in_progress", _YES), "in_progress > partial", "1.2"),
    (Person("in_progress", _YES, stopped=_AFTER), "partial", "1.2"),
    (Person("in_progress", stopped=_AFTER), "opted_out", "2.11"),
    (Person("in_progress", stopped=RELEASED - DAY), "in_progress > break_off", "2.12"),  # it is older
    (Person("something new"), "other", "2.3"),
    # Who has none: what they said, else the message that went furthest.
    (Person(), "waiting > not_attempted", "3.11"),
    (Person(sent=("due",)), "waiting > not_attempted", "3.11"),
    (Person(sent=("held",)), "waiting > not_attempted", "3.11"),
    (Person(sent=("cancelled",)), "not_attempted", "3.11"),
    (Person(sent=("cancelled", "due")), "waiting > not_attempted", "3.11"),
    (Person(sent=("sending",)), "no_report", "3.1"),
    (Person(sent=("sent",)), "no_report", "3.1"),
    (Person(sent=("unknown", "due")), "no_report", "3.1"),
    (Person(sent=("failed: absent_subscriber",)), "undelivered", "3.16"),
    (Person(sent=("failed: UserAccountSuspended", "sent")), "undelivered", "3.16"),
    (Person(sent=("failed: UserDoesNotExist",)), "not_in_service", "4.3"),
    (Person(sent=("failed: invalid_phone_number",)), "not_in_service", "4.3"),
    (Person(sent=("failed: UserInBlackList",)), "opted_out", "2.11"),
    (Person(sent=("failed: UserDoesNotExist", "delivered")), "no_reply", "2.2"),
    (Person(sent=("delivered", "due")), "no_reply", "2.2"),
    (Person(sent=("delivered",), stopped=RELEASED + DAY), "opted_out", "2.11"),
    (Person(sent=("delivered",), stopped=RELEASED + DAY, back=RELEASED + 2 * DAY), "no_reply", "2.2"),
    (Person(sent=("cancelled",), stopped=RELEASED - DAY), "not_attempted", "3.11"),
    # Who was not fielded.
    (Person(released=False), "not_released", None),
    (Person(released=False, stopped=_AFTER), "not_released", None),
    (Person(excluded="opted_out", released=False), "excluded", None),
    (Person(excluded="refused_before"), "excluded", None),
    (Person(excluded="opted_out", sent=("cancelled",), stopped=_AFTER), "excluded", None),
    (Person(excluded="opted_out", sent=("delivered",), stopped=_AFTER), "opted_out", "2.11"),  # it was
]


def test_each_case_of_the_rule(engine: Engine) -> None:
    write(engine, [person for person, _, _ in CASES])
    found = dispositions(engine)
    for n, (person, expected, code) in enumerate(CASES, 1):
        disposition, _, if_closed = expected.partition(" > ")
        assert found[n] == ("sample", disposition, if_closed or disposition, code), person


def test_who_dials_without_an_invitation_is_no_part_of_the_sample(engine: Engine) -> None:
    write(
        engine,
        [
            Person("complete", sample=False),
            Person("in_progress", _YES, sample=False),
            Person("break_off", sample=False, stopped=_AFTER),
            Person("complete", released=False),  # in the sample, and dialled before its turn
            Person("refusal", released=False, excluded="recent_wave"),
            Person("complete", excluded="recent_wave", sent=("sent",)),  # was written to: invited
            Person(sample=False, sent=("delivered",)),  # wrote HELP once: neither invited nor dialled
        ],
    )
    assert dispositions(engine) == {
        1: ("dial_in", "complete", "complete", "1.1"),
        2: ("dial_in", "in_progress", "partial", "1.2"),
        3: ("dial_in", "opted_out", "opted_out", "2.11"),
        4: ("dial_in", "complete", "complete", "1.1"),
        5: ("dial_in", "refusal", "refusal", "2.11"),
        6: ("sample", "complete", "complete", "1.1"),
    }


def by_hand(p: Person) -> str:
    """The rule of docs/dispositions.md once more, one `if` a line of its table; disposition > if_closed."""
    reached = RELEASED if p.sample and p.released else BEGAN if p.interview else None
    stopped = p.stopped is not None and reached is not None and p.stopped >= reached
    if p.interview in BY_NAME and p.interview not in ("break_off", "results_only"):
        return p.interview
    enough = p.interview == "in_progress" and p.answered == _YES
    if p.interview == "results_only":
        arrived = any(s.partition(":")[0] not in ("due", "held", "cancelled") for s in p.sent)
        invited = p.sample and ((p.released and not p.excluded) or arrived)
        return "other" if invited else "results_only"
    if p.interview and stopped:
        return "partial" if enough else "opted_out"
    if p.interview == "in_progress":
        return "in_progress > partial" if enough else "in_progress > break_off"
    if p.interview:
        return "break_off"
    states = [s.partition(":")[0] for s in p.sent]
    went_out = set(states) & {"delivered", "failed", "sent", "unknown", "sending"}
    if not went_out and (not p.released or p.excluded):
        return "excluded" if p.excluded else "not_released"
    if stopped:
        return "opted_out"
    for state, outcome in (
        ("delivered", "no_reply"),
        ("failed: UserInBlacklist", "opted_out"),
        ("failed: UserDoesNotExist", "not_in_service"),
        ("failed: DeliveryFailure", "undelivered"),
        ("sent", "no_report"),
    ):
        if state in p.sent:
            return outcome
    return "not_attempted" if p.sent == ("cancelled",) else "waiting > not_attempted"


def test_any_combination_of_facts_comes_to_exactly_one_outcome(engine: Engine) -> None:
    """All of them, against the same rule written another way."""
    sent = ["due", "cancelled", "sent", "delivered", "failed: UserDoesNotExist", "failed: UserInBlacklist",
            "failed: DeliveryFailure"]  # fmt: skip
    messages = [(), *((s,) for s in sent), *((a, b) for a, b in product(sent, sent) if a != b)]
    interviews = ["complete", "withdrawn", "partial", "refusal", "ineligible", "quota_full", "results_only",
                  "break_off", "in_progress", None]  # fmt: skip
    people = [
        Person(interview, answered, sample, released, excluded, messages_, stopped)
        for interview, answered, sample, released, excluded, messages_, stopped in product(
            interviews, (None, _YES), (True, False), (True, False), (None, "refused_before"), messages,
            (None, RELEASED - DAY, _AFTER),
        )
        if (sample or (released and not excluded)) and (interview == "in_progress" or not answered)
    ]  # fmt: skip
    assert len(people) > 5000
    write(engine, people)
    found = dispositions(engine)
    assert set(found) == {n for n, p in enumerate(people, 1) if p.sample or p.interview}
    for n, (origin, disposition, if_closed, code) in found.items():
        person = people[n - 1]
        assert if_closed in BY_NAME and (code or "") == BY_NAME[if_closed].aapor, person
        assert disposition == if_closed or disposition in OPEN, person
        if not person.sample:
            assert origin == "dial_in", person
        expected, _, closed = by_hand(person).partition(" > ")
        assert (disposition, if_closed) == (expected, closed or expected), person
    assert {row[2] for row in found.values()} == set(BY_NAME)
    counts = count_dispositions(engine, WAVE)
    assert sum(c.n for c in counts) == len(found)


def test_a_stop_belongs_to_the_wave_that_reached_them_last(engine: Engine) -> None:
    """Invited to one wave and a year later to another, they say STOP: the first keeps its non-contacts."""
    year = timedelta(days=365)
    write(engine, [Person(sent=("delivered",), stopped=RELEASED + year + DAY) for _ in range(3)])
    with writing(engine) as db:
        db.execute(
            insert(table_of(Campaign)).values(
                id="later", wave=LATER, state="running", aggregator="x", created_at=RELEASED,
                state_at=RELEASED,
            )
        )  # fmt: skip
        db.execute(
            insert(table_of(SampleNumber)).values(
                id="later 1", wave=LATER, respondent=f"{1:032x}", campaign="later", replicate=1,
                source="csv", loaded_at=RELEASED, released_at=RELEASED + year,
            )
        )  # fmt: skip
        db.execute(
            insert(table_of(Interview)).values(
                id="later 2", wave=LATER, respondent=f"{2:032x}", attempt=1, counted=True,
                began_at=RELEASED + year, last_at=RELEASED + year, disposition="break_off", version=1,
            )
        )  # fmt: skip
    first, later = dispositions(engine), dispositions(engine, LATER)
    assert [first[n][1] for n in (1, 2, 3)] == ["no_reply", "no_reply", "opted_out"]
    assert {n: row[:2] for n, row in later.items()} == {
        1: ("sample", "opted_out"),
        2: ("dial_in", "opted_out"),
    }


# ---------------------------------------------------------------- with the recorder and the sweep


def dialled(number: int, *answers: tuple[str, str], end: str = "") -> list[Entry]:
    """From the consent on; no answers: hangs up there."""
    d = Dialogue(number)
    d.begin()
    if answers or end:
        d.consent()
    for item, option in answers:
        d.answer(item, option)
    if end == "withdrawn":
        d.withdraw()
    elif end:
        d.answer("roads.overall", "agree", ended(end))
    return d.entries


def test_the_sweep_closes_to_what_was_foretold(engine: Engine) -> None:
    people = [
        dialled(1),
        dialled(2, (ATTRIBUTE, "agree")),
        dialled(3, (OVERALL, "refused")),
        dialled(4, (ATTRIBUTE, "agree"), (OVERALL, "disagree")),
        dialled(5, (OVERALL, "agree"), end="complete"),
        dialled(6, (OVERALL, "agree"), end="withdrawn"),
        dialled(7, end="refusal"),
    ]
    fold_all(engine, [entry for entries in people for entry in entries])
    before = dispositions(engine)
    assert [before[n][1] for n in range(1, 8)] == [
        "in_progress", "in_progress", "in_progress", "in_progress", "complete", "withdrawn", "refusal"
    ]  # fmt: skip
    assert close_unfinished(engine, datetime(2030, 1, 1, tzinfo=UTC)) == 4
    after = dispositions(engine)
    assert [after[n][1] for n in range(1, 5)] == ["break_off", "break_off", "break_off", "partial"]
    for n, row in after.items():
        assert row[1:] == (row[2], row[2], row[3]) and row[2] == before[n][2], n
    with reading(engine) as db:  # and the record itself says the same
        said = db.execute(text("SELECT respondent, disposition FROM interview"))
        assert {int(r[0], 16): r[1] for r in said} == {n: row[1] for n, row in after.items()}


def test_of_several_attempts_the_one_that_counts_decides(engine: Engine) -> None:
    """Refused, dialled again and completed; and completed, dialled again and erased: one row each."""
    refused = dialled(1, end="refusal")
    again = Dialogue(1, at=1_763_900_000_000)
    again.sessions = 5
    again.begin()
    again.consent()
    again.answer(OVERALL, "agree", ended())
    fold_all(engine, [*refused, *again.entries, *dialled(2, end="complete")])
    assert {n: row[1] for n, row in dispositions(engine).items()} == {1: "complete", 2: "complete"}
    gone = Dialogue(2, at=1_763_900_000_000)
    gone.sessions = 5
    gone.begin()
    gone.withdraw()
    fold_all(engine, gone.entries)
    assert dispositions(engine)[2] == ("dial_in", "withdrawn", "withdrawn", "2.11")


# ---------------------------------------------------------------- rates

#: 40 I, 10 P, 20 R, 30 NC, 60 U, 20 X: e = 100 / 120.
_NUMBERS = (
    ("complete", 40), ("partial", 10), ("refusal", 8), ("break_off", 7), ("opted_out", 3), ("withdrawn", 2),
    ("no_reply", 30), ("no_report", 40), ("undelivered", 15), ("not_attempted", 5), ("not_in_service", 12),
    ("ineligible", 7), ("quota_full", 1), ("not_released", 500), ("excluded", 50),
)  # fmt: skip


def test_the_rates_are_aapor_s() -> None:
    counts = [Count("sample", name, name, n) for name, n in _NUMBERS]
    made = rates([*counts, Count("dial_in", "complete", "complete", 1000)])
    assert made is not None
    assert made.counts == {"I": 40, "P": 10, "R": 20, "NC": 30, "O": 0, "U": 60, "X": 20}
    assert made.e == pytest.approx(100 / 120)
    assert {r.name: r.value for r in made.rates} == pytest.approx(
        {"RR1": 40 / 160, "RR2": 50 / 160, "RR3": 40 / 150, "RR4": 50 / 150, "RR5": 40 / 100,
         "RR6": 50 / 100, "COOP1": 40 / 70, "REF1": 20 / 160, "CON1": 70 / 160}
    )  # fmt: skip


def test_rates_without_a_base_are_undefined_and_not_nought() -> None:
    assert rates([Count("dial_in", "complete", "complete", 10)]) is None
    assert rates([Count("sample", "not_released", "not_released", 10)]) is None
    made = rates([Count("sample", "waiting", "not_attempted", 10)])
    assert made is not None and made.e is None
    assert {r.name for r in made.rates if r.value is None} == {"RR3", "RR4", "RR5", "RR6", "COOP1"}
    assert {r.name: r.value for r in made.rates if r.value is not None} == {
        "RR1": 0.0, "RR2": 0.0, "REF1": 0.0, "CON1": 0.0
    }  # fmt: skip


def test_the_document_lists_every_outcome_and_rate() -> None:
    document = (HERE / "docs" / "dispositions.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.-]+) \| (\w+|-) \|", document, re.MULTILINE)
    assert [(name, code.strip("-"), group.strip("-")) for name, code, group in rows] == [
        (o.name, o.aapor, o.group) for o in OUTCOMES
    ]
    made = rates([Count("sample", "complete", "complete", 1)])
    assert made is not None
    formulas = re.findall(r"^\| `([A-Z]+\d)` \| (.+) \|$", document, re.MULTILINE)
    assert formulas == [(r.name, r.formula) for r in made.rates]
