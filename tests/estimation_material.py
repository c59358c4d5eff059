"""Interviews written straight into a database, as the fold would leave them, for suites of estimation."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from random import Random

from sqlalchemy import Engine, insert

from flows.instrument import Instrument
from storage.database import writing
from storage.marks import mark, unmarked
from storage.models import Interview, Respondent, table_of

Answers = Mapping[str, str | int]  # item -> option, or the number given
AT = datetime(2026, 11, 2, 10, tzinfo=UTC)
SERVICES = ("health", "primary", "secondary", "government")
YES = {
    "health": {"health.need": "yes", "health.got": "yes"},
    "education": {"education.child": "yes", "primary.attends": "yes", "secondary.attends": "yes"},
    "government": {"government.need": "yes", "government.tried": "yes"},
}


def marks_of(instrument: Instrument, answers: Answers) -> str:
    marks = list(unmarked(instrument))
    for item_id, answer in answers.items():
        item = instrument.by_id[item_id]
        number = answer if isinstance(answer, int) else None
        marks[item.index] = mark(item, "" if number is not None else str(answer), number)
    return "".join(marks)


def put(
    engine: Engine,
    instrument: Instrument,
    people: Sequence[Answers],
    wave: str = "w",
    blocks: Sequence[str] | None = None,
    probability: float = 1.0,
    first: int = 0,
    disposition: str = "complete",
) -> list[str]:
    """Counted interviews with these answers, the given blocks drawn for each. Returns their pseudonyms."""
    drawn = [b.id for b in instrument.blocks if b.drawn]
    given = drawn if blocks is None else blocks
    rows = []
    for n, answers in enumerate(people, first):
        rows.append(
            {
                "id": f"{n:016x}",
                "respondent": f"{n:032x}",
                "wave": wave,
                "attempt": 1,
                "counted": True,
                "instrument": instrument.reference,
                "blocks": " ".join(given),
                "began_at": AT,
                "last_at": AT,
                "probabilities": json.dumps(dict.fromkeys(drawn, probability), sort_keys=True),
                "disposition": disposition,
                "marks": marks_of(instrument, answers),
                "version": 1,
            }
        )
    with writing(engine) as db:
        if rows:
            people_rows = [{"pseudonym": r["respondent"], "first_seen_at": AT} for r in rows]
            db.execute(insert(table_of(Respondent)), people_rows)
            db.execute(insert(table_of(Interview)), rows)
    return [str(r["respondent"]) for r in rows]


def anybody(instrument: Instrument, chance: Random) -> dict[str, str | int]:
    """One respondent: demographics now and then missing, satisfaction by region and sex, services used."""
    answers: dict[str, str | int] = {"opening.consent": "yes", "opening.adult": "yes"}
    regions = [o.id for o in instrument.scales["region"].options]
    region = regions[min(int(chance.expovariate(0.25)), len(regions) - 3)]  # nobody lives in the last two
    sex = chance.choice(["male", "female"])
    for name, value in (
        ("sex", sex), ("age", min(97, 18 + int(chance.expovariate(1 / 16)))), ("region", region),
        ("residence", chance.choice(["urban", "urban", "rural"])),
    ):  # fmt: skip
        if chance.random() > 0.06:
            answers[f"respondent.{name}"] = value
        else:
            answers[f"respondent.{name}"] = "refused"
    if chance.random() < 0.85:
        answers["disability.start"] = "go_on"
        for domain in ("seeing", "hearing", "walking", "remembering", "selfcare", "communicating"):
            answers[f"disability.{domain}"] = chance.choices(
                ["none", "some", "a_lot", "cannot", "refused"], [80, 12, 4, 1, 3]
            )[0]
    lean = 0.35 + 0.4 * (regions.index(region) % 5) / 5 + (0.1 if sex == "female" else 0.0)
    for block, gates in YES.items():
        if chance.random() < 0.35:
            first = next(iter(gates))
            answers[first] = "no"
            continue
        answers |= gates
        for item in instrument.items:
            if item.role not in ("attribute", "overall") or instrument.blocks[item.block].id != block:
                continue
            assert item.scale is not None
            options = [o.id for o in item.scale.options]
            if region == regions[3] and item.role == "overall":
                answer = options[chance.randrange(2)]  # all positive
            elif chance.random() < 0.06:
                answer = chance.choice(["not_applicable", "dont_know", "refused"])
            else:
                good = chance.random() < lean
                answer = options[chance.randrange(2) + (0 if good else 2)]
            answers[item.id] = answer
    return answers
