"""The quality report's counts and flags: every figure by hand on small records."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from storage.analysis.counted import SIMULATOR
from storage.analysis.flags import Thresholds
from storage.analysis.paradata import median
from storage.analysis.quality import aapor_rates
from storage.analysis.quality_files import flags_csv
from storage.analysis.quality_parts import Part, Quality, as_json
from storage.analysis.quality_rules import public
from storage.analysis.release import Rules
from storage.database import writing
from storage.models import Campaign, Respondent, SampleNumber, table_of
from tests.estimation_material import AT, YES, Answers
from tests.quality_material import (
    INSTRUMENT,
    OPENING,
    A,
    conflict,
    event,
    happen,
    interview_id,
    rating,
    report,
    send,
    set_interview,
    tell,
)
from tests.quality_material import engine as engine
from tests.quality_material import record as record
from tests.test_pages import browser as browser


def item(q: Quality, name: str) -> Any:
    return next(i for i in q.items if i.item == name)


def counts(parts: tuple[Part, ...]) -> dict[str, tuple[int | None, int | None]]:
    return {p.key: (p.n, p.of) for p in parts}


# ---------------------------------------------------------------- paradata


@pytest.mark.parametrize(
    ("tenths", "expected"),
    [({}, None), ({20: 1}, 2.0), ({20: 1, 40: 1}, 3.0), ({20: 1, 40: 1, 90: 1}, 4.0), ({20: 2, 90: 2}, 5.5),
     ({10: 3, 500: 2}, 1.0)],
)  # fmt: skip
def test_the_median_of_a_histogram(tenths: dict[int, int], expected: float | None) -> None:
    assert median(Counter(tenths)) == expected


def test_where_interviews_were_left(engine: Engine) -> None:
    sexed: Answers = {**OPENING, "respondent.sex": "male"}
    tell(engine, INSTRUMENT, [rating("AABBA")] * 4)
    tell(engine, INSTRUMENT, [sexed] * 3, first=4, disposition="break_off", last_item="respondent.age")
    tell(engine, INSTRUMENT, [sexed], first=7, disposition="in_progress", last_item="respondent.age")
    tell(engine, INSTRUMENT, [OPENING], first=8, disposition="partial", last_item="respondent.sex")
    tell(engine, INSTRUMENT, [{"opening.consent": "no"}], first=9, disposition="refusal")
    tell(engine, INSTRUMENT, [{}], first=10, disposition="withdrawn")
    q = report(engine).quality
    # The four complete ones have no sex on file: only five came to it, and one of them stopped.
    assert (item(q, "respondent.sex").left.n, item(q, "respondent.sex").left.of) == (1, 5)
    assert (item(q, "respondent.age").left.n, item(q, "respondent.age").left.of) == (4, 4)
    assert item(q, "opening.consent").left == Part("left", 0, 10, 0.0)
    assert item(q, "household.gas").left.share is None  # nobody came: no rate, not a rate of 0
    assert q.interviews == 10  # a withdrawn one is nobody's data
    assert counts(q.dispositions) == {
        "complete": (4, 10), "break_off": (3, 10), "in_progress": (1, 10), "partial": (1, 10),
        "refusal": (1, 10),
    }  # fmt: skip
    # Completed: 4 of the 8 that took part and are over; the refusal did not, one is still going on.
    assert q.completion == Part("complete", 4, 8, 0.5)
    assert counts(q.happenings)["withdrawn"] == (1, 11)


def test_answers_missing(engine: Engine) -> None:
    said = [A, "not_applicable", "dont_know", "refused", "refused"]
    people = [{**OPENING, **YES["health"], "health.access": s} for s in said]
    tell(engine, INSTRUMENT, people)
    tell(engine, INSTRUMENT, [{**OPENING, "health.need": "no"}], first=5)  # not asked
    tell(engine, INSTRUMENT, [OPENING], first=6, disposition="break_off", last_item="respondent.sex")
    tell(engine, INSTRUMENT, [{"opening.consent": "no"}], first=7, disposition="refusal")
    tell(engine, INSTRUMENT, [{}], first=8, disposition="break_off", last_item="opening.consent")
    q = report(engine).quality
    # Base 6: five who used health care and one who left before it was known; not who had no need of it,
    # nor who never agreed to take part.
    assert counts(item(q, "health.access").answers) == {
        "valid": (1, 6), "not_applicable": (1, 6), "dont_know": (1, 6), "refused": (2, 6),
        "not_reached": (1, 6),
    }  # fmt: skip
    assert counts(item(q, "opening.consent").answers)["not_reached"] == (1, 9)


def test_a_block_that_was_not_drawn_is_not_missing(engine: Engine) -> None:
    from tests.estimation_material import put

    put(engine, INSTRUMENT, [OPENING] * 3, blocks=["health"], probability=1 / 3)
    set_interview(engine, 0, consented_at=AT)
    q = report(engine).quality
    assert item(q, "health.need").answers[0].of == 3
    assert item(q, "government.need").answers[0] == Part("valid", 0, 0, None)


def test_times_and_wrong_keys(engine: Engine) -> None:
    took = {0: 2.0, 1: 4.0, 2: 9.0, 3: 0.0}  # the last was dialled in advance with the code
    tell(engine, INSTRUMENT, [OPENING] * 4, seconds=lambda n, i: took[n])
    tell(engine, INSTRUMENT, [OPENING] * 2, first=4, mode="sms", seconds=lambda n, i: {4: 30.0, 5: 55.0}[n],
         tries={"opening.adult": 3})  # fmt: skip
    tell(
        engine,
        INSTRUMENT,
        [OPENING],
        first=6,
        wave="other",
        seconds=lambda n, i: 500.0,
        tries={"opening.adult": 9},
    )
    happen(engine, event(interview_id(0), 9, "InvalidReply", "respondent.sex"))  # and never got it right
    q = report(engine).quality
    adult = item(q, "opening.adult")
    assert (adult.ussd.n, adult.ussd.median_seconds) == (3, 4.0)
    assert (adult.sms.n, adult.sms.median_seconds) == (2, 42.5)
    assert adult.invalid == 4  # two interviews, two wrong keys each
    assert adult.per_100 == pytest.approx(100 * 4 / 6)
    assert (item(q, "respondent.sex").invalid, item(q, "respondent.sex").per_100) == (1, None)
    assert item(q, "opening.consent").invalid == 0


def test_answers_that_took_minutes_count_as_ten(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 3, seconds=lambda n, i: (5.0, 700.0, 90_000.0)[n])
    assert item(report(engine).quality, "opening.adult").ussd.median_seconds == 600.0


def test_who_came_how(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 3, network="62001")
    tell(engine, INSTRUMENT, [OPENING] * 2, first=3, network="62002", language="fr", disposition="break_off")
    tell(engine, INSTRUMENT, [OPENING], first=5, mode="sms", network=None)
    happen(engine, event(interview_id(1), 40, "LanguageChosen"), event(interview_id(1), 41, "Resumed"),
           event(interview_id(2), 41, "Resumed"), event(interview_id(2), 45, "Resumed"))  # fmt: skip
    conflict(engine, 0, "out_of_order")
    conflict(engine, 0, "out_of_order", after=1)
    conflict(engine, 3, "diverging")
    q = report(engine).quality
    mixes = {
        by: {m.key: (m.interviews.n, m.complete.n, m.complete.of) for m in mix} for by, mix in q.mixes.items()
    }
    assert mixes["mode"] == {"ussd": (5, 3, 5), "sms": (1, 1, 1)}
    assert mixes["network"] == {"62001": (3, 3, 3), "62002": (2, 0, 2), "": (1, 1, 1)}
    assert mixes["language"] == {"en": (4, 4, 4), "fr": (2, 0, 2)}
    assert counts(q.happenings) | counts(q.conflicts) == {
        "resumed": (2, 6), "switched_language": (1, 6), "several_interviews": (0, 6), "withdrawn": (0, 6),
        "out_of_order": (1, 6), "diverging": (1, 6),
    }  # fmt: skip


# ---------------------------------------------------------------- flags


def test_straight_lining_beside_what_chance_would_give(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [rating(x) for x in ("AAAAA", "AAAAA", "BBBBB", "ABABA")])
    tell(engine, INSTRUMENT, [{**rating("AAAAA"), "health.cost": "dont_know"}], first=4)  # not all five rated
    health = next(s for s in report(engine).quality.straight if s.service == "health")
    assert health.alike == Part("alike", 3, 4, 0.75)
    # A: 3/4, 2/4, 3/4, 2/4, 3/4 of the aspects in turn, B the rest.
    assert health.expected == pytest.approx(0.75**3 * 0.5**2 + 0.25**3 * 0.5**2)
    nobody = next(s for s in report(engine).quality.straight if s.service == "primary")
    assert (nobody.alike.of, nobody.expected) == (0, None)


def test_straight_in_one_service_is_no_flag(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [rating("AAAAA"), rating("AAAAA", "BBBBB"), rating("AAAAA", "ABBBB")])
    made = report(engine)
    assert made.flags.of["straight"] == {interview_id(1)}
    assert counts(made.quality.flags)["straight"] == (1, 2)  # of those who rated two services
    strict = report(engine, thresholds=Thresholds(straight_services=1))
    assert strict.flags.of["straight"] == {interview_id(0), interview_id(1)}


def test_speeding_over_ussd_only(engine: Engine) -> None:
    pace = {5: 2.9, 6: 3.0, 7: 1.9, 8: 2.0}
    tell(
        engine, INSTRUMENT, [rating("AABBA")] * 15, seconds=lambda n, i: pace.get(n, 6.0)
    )  # ten answers each
    tell(engine, INSTRUMENT, [rating("AABBA")], first=15, mode="sms", seconds=lambda n, i: 1.0)
    few: Answers = {**OPENING, "respondent.sex": "male"}
    tell(engine, INSTRUMENT, [few], first=16, seconds=lambda n, i: 1.0)
    made = report(engine)
    # The usual time is 6.0 a question. Half of it is not under half of it, two seconds not under two.
    assert made.flags.of["fast_half"] == {interview_id(n) for n in (5, 7, 8)}
    assert made.flags.of["fast_screens"] == {interview_id(7)}
    assert counts(made.quality.flags)["fast_half"] == (3, 15)  # not the text messages, nor three answers


def test_identical_answers_and_several_interviews(engine: Engine) -> None:
    twice, other = rating("AABBA", "ABABA"), rating("AABBA", "ABABB")
    tell(engine, INSTRUMENT, [twice, other, twice, rating("ABBBB"), rating("ABBBB")])
    tell(engine, INSTRUMENT, [twice], first=5, disposition="partial", last_item="household.fridge")
    set_interview(engine, 1, last_at=AT + timedelta(days=1))
    conflict(engine, 3, "out_of_order")
    # Respondent 4 completed another one, which does not count; respondent 3 began one more.
    tell(engine, INSTRUMENT, [twice, twice], first=6)
    set_interview(engine, 6, respondent=f"{4:032x}", attempt=2, counted=False)
    set_interview(engine, 7, respondent=f"{3:032x}", attempt=2, counted=False, disposition="break_off")
    made = report(engine)
    assert {name: set(ids) for name, ids in made.flags.of.items() if ids} == {
        "same_answers": {interview_id(0), interview_id(2)},
        "several": {interview_id(4)},
        "several_days": {interview_id(1)},
        "out_of_order": {interview_id(3)},
    }
    assert made.flags.doubtful == {interview_id(n) for n in (0, 2, 4)}
    assert counts(made.quality.flags)["same_answers"] == (2, 3)
    assert counts(made.quality.happenings)["several_interviews"] == (2, 6)
    assert flags_csv(made.flags).splitlines() == [
        "interview,fast_half,fast_screens,straight,same_answers,several,several_days,out_of_order,doubtful",
        f"{interview_id(0)},0,0,0,1,0,0,0,1",
        f"{interview_id(1)},0,0,0,0,0,1,0,0",
        f"{interview_id(2)},0,0,0,1,0,0,0,1",
        f"{interview_id(3)},0,0,0,0,0,0,1,0",
        f"{interview_id(4)},0,0,0,0,1,0,0,1",
    ]


@pytest.mark.parametrize("wrong", [{"fast_part": 1.0}, {"fast_seconds": 0.0}, {"straight_services": 0}])
def test_thresholds_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="thresholds: "):
        Thresholds(**wrong)


# ---------------------------------------------------------------- interviews that nobody dialled for


def invite(engine: Engine, wave: str = "w") -> None:
    """Respondents 0 to 19 in the sample, 20 and 21 in one of made-up handsets; each with an invitation."""
    rows = [
        {"id": f"{n:032x}", "wave": wave, "respondent": f"{n:032x}", "replicate": 1, "source": "csv",
         "campaign": "real" if n < 20 else "made", "loaded_at": AT, "released_at": AT}
        for n in range(22)
    ]  # fmt: skip
    with writing(engine) as db:
        db.execute(
            insert(table_of(Campaign)),
            [{"id": name, "wave": wave, "state": "running", "aggregator": aggregator, "created_at": AT,
              "state_at": AT} for name, aggregator in (("real", "africastalking"), ("made", SIMULATOR))],
        )  # fmt: skip
        known = set(db.execute(select(table_of(Respondent).c.pseudonym)).scalars())
        new = [
            {"pseudonym": r["respondent"], "first_seen_at": AT} for r in rows if r["respondent"] not in known
        ]
        db.execute(insert(table_of(Respondent)), new)
        db.execute(insert(table_of(SampleNumber)), rows)
    send(engine, range(20), "invitation", "delivered")
    send(engine, (20, 21), "invitation", "delivered", aggregator=SIMULATOR)


def test_made_up_interviews_are_as_if_never_held(engine: Engine) -> None:
    """The same wave twice: with simulated interviews that touch every count, and without them."""
    people = [rating("AABBA", "ABABB"), rating("AAAAA", "BBBBB"), OPENING]
    tell(engine, INSTRUMENT, people * 4, seconds=lambda n, i: 2.0 + n, tries={"opening.adult": 2})
    tell(engine, INSTRUMENT, [OPENING], first=12, disposition="break_off", last_item="respondent.sex")
    invite(engine)

    def told(simulated: bool) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        made = report(engine, rates=aapor_rates(engine, "w", simulated), simulated=simulated)
        return json.loads(as_json(made.quality)), made.flags.by_interview()

    alone, flags = told(simulated=False)
    assert alone["left_out"] == 0 and alone["rates"]["counts"]["NC"] == 7
    made_up: dict[str, Any] = {"aggregator": SIMULATOR, "network": "62099", "language": "fr"}
    # 13 to 15 are in the sample; 20 was invited at the simulator; the rest dialled there.
    tell(engine, INSTRUMENT, [people[0]] * 8, first=30, seconds=lambda n, i: 0.5, tries={"opening.adult": 4},
         **made_up)  # fmt: skip
    for n, respondent in ((30, 13), (31, 14), (32, 15), (33, 20)):
        set_interview(engine, n, respondent=f"{respondent:032x}")
    tell(
        engine, INSTRUMENT, [OPENING] * 2, first=38, disposition="partial", last_item="health.need", **made_up
    )
    tell(engine, INSTRUMENT, [people[1]] * 2, first=40, mode="sms", seconds=lambda n, i: 40.0, **made_up)
    tell(engine, INSTRUMENT, [{}], first=42, disposition="withdrawn", **made_up)
    set_interview(engine, 34, respondent=f"{1:032x}", attempt=2, counted=False)  # and a real one counts
    set_interview(engine, 35, last_at=AT + timedelta(days=3))
    conflict(engine, 36, "older_text")
    happen(engine, event(interview_id(37), 40, "LanguageChosen"), event(interview_id(37), 41, "Resumed"))
    send(engine, [40] * 3, "reply", "failed", reason="Unreachable", aggregator=SIMULATOR)
    with_them, their_flags = told(simulated=False)
    assert with_them.pop("left_out") == 11
    assert {k: v for k, v in alone.items() if k != "left_out"} == with_them
    assert flags == their_flags
    demonstration, _ = told(simulated=True)
    assert (demonstration["simulated"], demonstration["left_out"], demonstration["interviews"]) == (11, 0, 24)
    unlike = {k for k, v in demonstration.items() if v != alone[k]}
    assert {"rates", "dispositions", "completion", "items", "mixes", "straight", "flags", "doubtful",
            "happenings", "conflicts", "deliveries", "coverage", "weights", "figures"} <= unlike  # fmt: skip


# ---------------------------------------------------------------- messages


def test_what_became_of_messages(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 60)
    send(engine, range(25), "invitation", "delivered")
    send(engine, range(25, 40), "invitation", "failed", reason="UserDoesNotExist")
    send(engine, [40], "invitation", "failed", status="Expired", reason="undelivered")
    send(engine, [41], "invitation", "unknown", reason="no_answer")
    send(engine, [42], "invitation", "sending")
    send(engine, [43], "invitation", "sent")
    for state in ("due", "held", "cancelled"):
        send(engine, [44], "invitation", state)  # never left us
    send(engine, range(12), "reminder", "delivered", network=None)
    send(engine, [0] * 30, "reply", "delivered", network="62002")  # all to one person
    q = report(engine).quality
    rows = {(d.kind, d.network): d for d in q.deliveries}
    assert list(rows) == [("reply", "62002"), ("reminder", ""), ("invitation", "62001")]
    invitations = rows["invitation", "62001"]
    assert (invitations.messages, invitations.respondents) == (44, 44)
    assert {p.key: (p.n, p.of) for p in invitations.fates} == {
        "delivered": (25, 44), "no_report": (1, 44), "failed": (15, 44), "expired": (1, 44),
        "unknown": (2, 44),
    }  # fmt: skip
    assert {p.key: (p.n, p.of) for p in invitations.reasons} == {
        "UserDoesNotExist": (15, 18), "": (1, 18), "no_answer": (1, 18), "undelivered": (1, 18)
    }  # fmt: skip
    assert (rows["reply", "62002"].messages, rows["reply", "62002"].respondents) == (30, 1)
    shown = {(d.kind, d.network): d for d in public(q, Rules()).deliveries}
    # Thirty messages to one person tell of one person; with it goes the next smallest row.
    assert {k: d.mark for k, d in shown.items()} == {
        ("reply", "62002"): "c", ("reminder", ""): "c", ("invitation", "62001"): ""
    }  # fmt: skip
    told = {p.key: (p.n, p.mark) for p in shown["invitation", "62001"].fates}
    # 1, 1 and 2 are four people: the fifteen go with them. Their reasons would add up to them.
    assert told == {"delivered": (25, ""), "no_report": (None, "c"), "failed": (None, "c"),
                    "expired": (None, "c"), "unknown": (None, "c")}  # fmt: skip
    assert shown["invitation", "62001"].reasons == ()
