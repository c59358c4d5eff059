"""Interviews with responses, times, events and sessions, straight into a database; their report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update

from flows.instrument import Instrument, load
from storage.analysis.margins import Margins, load_margins
from storage.analysis.quality import Report, quality
from storage.database import open_engine, writing
from storage.models import Conflict, Event, Interview, OutboundMessage, Response, UssdSession, table_of
from tests.estimation_material import AT, YES, Answers, anybody, put
from tests.stores import give_schema

HERE = Path(__file__).resolve().parent.parent
INSTRUMENT = load(HERE / "flows" / "sdg_16_6_2")
DAY = date(2026, 11, 23)
OPENING: Answers = {"opening.consent": "yes", "opening.adult": "yes"}
ASPECTS = ("access", "cost", "facility", "equal", "courtesy")
A, B = "strongly_agree", "agree"
Seconds = Callable[[int, str], float]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An empty record on each engine."""
    engine = open_engine(database_url)
    give_schema(engine, INSTRUMENT)
    yield engine
    engine.dispose()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Engine]:
    """An empty record where the engine makes no difference."""
    engine = open_engine(f"sqlite:///{tmp_path}/record.sqlite3")
    give_schema(engine, INSTRUMENT)
    yield engine
    engine.dispose()


def report(engine: Engine, wave: str = "w", **given_: Any) -> Report:
    return quality(engine, INSTRUMENT, wave, made=DAY, **given_)


def rating(health: str, government: str = "", overall: str = "satisfied") -> dict[str, str | int]:
    """Ratings of health and, if given, of government services: a letter an aspect."""
    words = {"A": A, "B": B}
    answers: dict[str, str | int] = {**OPENING, **YES["health"]}
    answers |= {f"health.{a}": words[x] for a, x in zip(ASPECTS, health, strict=True)}
    answers["health.overall"] = overall
    if government:
        names = ("access", "cost", "process", "equal", "timely")
        answers |= YES["government"]
        answers |= {f"government.{a}": words[x] for a, x in zip(names, government, strict=True)}
        answers["government.overall"] = overall
    return answers


def margins(folder: Path, **totals: float) -> Margins:
    path = folder / "margins.csv"
    rows = [f"sex,Census 2021,2021-06-27,sex,{name},{total}," for name, total in totals.items()]
    path.write_text("table,source,date,variables,category,total,joins\n" + "\n".join(rows) + "\n", "utf-8")
    return load_margins(path, INSTRUMENT)


def interview_id(n: int) -> str:
    return f"{n:016x}"


def tell(
    engine: Engine,
    instrument: Instrument,
    people: Sequence[Answers],
    *,
    wave: str = "w",
    first: int = 0,
    disposition: str = "complete",
    mode: str = "ussd",
    network: str | None = "62001",
    language: str = "en",
    last_item: str = "",
    aggregator: str = "africastalking",
    seconds: Seconds = lambda n, item: 6.0,
    tries: Mapping[str, int] | None = None,
) -> list[str]:
    """Counted interviews, each with a response an answer; `tries`: replies that items took. Returns ids."""
    put(engine, instrument, people, wave, first=first, disposition=disposition)
    ids = [interview_id(n) for n in range(first, first + len(people))]
    responses, events, sessions = [], [], []
    for n, (interview, answers) in enumerate(zip(ids, people, strict=True), first):
        events.append(event(interview, 1, "LanguageChosen"))
        for version, (item_id, answer) in enumerate(answers.items(), 2):
            item = instrument.by_id[item_id]
            number = answer if isinstance(answer, int) else None
            scale = {o.id: o.code for o in item.scale.options} if item.scale else {}
            took = (tries or {}).get(item_id, 1)
            responses.append(
                {
                    "interview": interview,
                    "item": item_id,
                    "option": "" if number is not None else answer,
                    "code": None if number is not None else (scale | dict(instrument.codes))[str(answer)],
                    "number": number,
                    "given_at": AT,
                    "seconds": seconds(n, item_id),
                    "tries": took,
                    "mode": mode,
                    "session": f"s{n}",
                    "version": version,
                    "retracted": False,
                }
            )
            events += [event(interview, version, "InvalidReply", item_id, k) for k in range(took - 1)]
        sessions.append(
            {"id": f"s{n}", "respondent": f"{n:032x}", "network_code": network, "opened_at": AT,
             "last_at": AT, "hops": len(answers)}
        )  # fmt: skip
    with writing(engine) as db:
        ours = table_of(Interview)
        db.execute(
            update(ours)
            .where(ours.c.id.in_(ids))
            .values(mode=mode, language=language, last_item=last_item, aggregator=aggregator,
                    consented_at=AT, ended_at=AT if disposition == "complete" else None)
        )  # fmt: skip
        for model, rows in ((Response, responses), (Event, events), (UssdSession, sessions)):
            if rows:
                db.execute(insert(table_of(model)), rows)
    return ids


def event(
    interview: str, version: int, kind: str, item: str | None = None, position: int = 0
) -> dict[str, object]:
    return {"interview": interview, "version": version, "position": position, "kind": kind, "item": item,
            "payload": "{}", "at": AT, "session": "s"}  # fmt: skip


def happen(engine: Engine, *events: dict[str, object]) -> None:
    with writing(engine) as db:
        db.execute(insert(table_of(Event)), list(events))


def conflict(engine: Engine, n: int, what: str, after: int = 0) -> None:
    """A request of respondent n that did not fit."""
    with writing(engine) as db:
        db.execute(
            insert(table_of(Conflict)),
            [
                {
                    "session": f"s{n}",
                    "respondent": f"{n:032x}",
                    "at": AT + timedelta(seconds=after),
                    "what": what,
                    "interview": interview_id(n),
                }
            ],
        )


def send(
    engine: Engine, respondents: Iterable[int], kind: str, state: str, *, network: str | None = "62001",
    status: str | None = None, reason: str | None = None, aggregator: str = "africastalking",
) -> None:  # fmt: skip
    """A message to each of these."""
    ours = table_of(OutboundMessage)
    with writing(engine) as db:
        first = db.execute(select(func.count()).select_from(ours)).scalar_one()
        rows = [
                {"id": f"m{k}", "natural_key": f"m{k}", "wave": "w", "respondent": f"{n:032x}", "kind": kind,
                 "priority": 1, "text": "", "aggregator": aggregator, "network_code": network,
                 "state": state, "not_before": AT, "attempts": 1, "status_raw": status,
                 "failure_reason": reason, "created_at": AT}
                for k, n in enumerate(respondents, first)
        ]  # fmt: skip
        if rows:
            db.execute(insert(ours), rows)


def set_interview(engine: Engine, n: int, **values: object) -> None:
    ours = table_of(Interview)
    with writing(engine) as db:
        db.execute(update(ours).where(ours.c.id == interview_id(n)).values(**values))


def wave_like(engine: Engine, instrument: Instrument, size: int = 900) -> None:
    """A wave with everything in it: two modes, three networks, break-offs, fast and straight interviews."""
    chance = Random(16)
    usual = {i.id: 3 + 9 * chance.random() for i in instrument.items}

    def pace(n: int, item: str) -> float:
        return round(usual[item] * Random(f"{n}{item}").lognormvariate(0, 0.4), 1)

    people = [anybody(instrument, chance) for _ in range(size)]
    parts = [
        ("ussd", "62001", "en", size // 2),
        ("ussd", "62002", "en", size // 5),
        ("ussd", "62006", "fr", size // 10),
    ]
    first = 0
    for mode, network, language, n in parts:
        tell(
            engine, instrument, people[first : first + n], first=first, mode=mode, network=network,
            language=language, seconds=pace, tries={"respondent.age": 2} if network == "62002" else None,
        )  # fmt: skip
        first += n
    sms = size - first
    tell(
        engine,
        instrument,
        people[first:],
        first=first,
        mode="sms",
        network=None,
        seconds=lambda n, i: 40 * pace(n, i),
    )
    first += sms
    fast = [anybody(instrument, chance) for _ in range(size // 25)]
    tell(engine, instrument, fast, first=first, seconds=lambda n, item: 1.2)
    first += len(fast)
    straight = []
    for _ in range(size // 20):
        answers = anybody(instrument, chance)
        for item in instrument.items:
            if item.id in answers and item.role in ("attribute", "overall") and item.scale:
                answers[item.id] = item.scale.options[1].id
        straight.append(answers)
    tell(engine, instrument, straight, first=first, seconds=pace)
    first += len(straight)
    stops = {
        "respondent.age": size // 18,
        "health.access": size // 12,
        "government.need": size // 40,
        "disability.start": 4,
    }
    for stop, many in stops.items():
        at = instrument.by_id[stop].index
        left = [
            {item: a for item, a in anybody(instrument, chance).items() if instrument.by_id[item].index < at}
            for _ in range(many)
        ]
        tell(engine, instrument, left, first=first, disposition="break_off", last_item=stop, seconds=pace)
        first += many
    no = [{"opening.consent": "no"}] * (size // 15)
    tell(engine, instrument, no, first=first, disposition="refusal", seconds=pace)
    sent: tuple[tuple[str | None, int], ...] = (("62001", 200), ("62002", 80), ("62006", 12), (None, 3))
    for where, much in sent:
        send(engine, range(much), "invitation", "delivered", network=where)
        send(engine, range(much // 4), "invitation", "failed", network=where, reason="UserDoesNotExist")
        send(engine, range(much // 9), "invitation", "failed", network=where, reason="DeliveryFailure")
        send(engine, range(much // 6), "invitation", "sent", network=where)
        send(engine, range(much // 8), "reminder", "failed", network=where, status="Expired",
             reason="undelivered")  # fmt: skip
        send(engine, range(much // 2), "reminder", "delivered", network=where)
        send(engine, [n % 9 for n in range(much)], "reply", "delivered", network=where)
