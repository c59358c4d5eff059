"""Figures that are not released, for staff: a wave's next release as it would look, or one more table.

The same rules as for readers: what they hide is hidden here too, with the reason. Every question is a row of
`query_log` that says who asked what, when, and how much was shown; it stays, its answer goes after a day. The
gateway asks (`ask`), a worker answers (`answer`), for only a worker has the libraries to compute with.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, insert, select, update

from flows.instrument import Instrument
from storage.analysis.differencing import Query, QueryRefused, may_serve, serve
from storage.analysis.disclosure import key, rounded
from storage.analysis.display import decimals
from storage.analysis.estimates import Estimate
from storage.analysis.release import Margin, Release, ReleaseError, estimate_of, latest, leaving, release_of
from storage.database import reading, writing
from storage.models import QueryLog, table_of

if TYPE_CHECKING:
    from storage.analysis.plan import ReleasePlan

log = logging.getLogger("dial16.queries")

DRAFT, QUERY = "draft", "query"
WAITING, RUNNING, DONE, REFUSED, FAILED = "waiting", "running", "done", "refused", "failed"
KEPT = timedelta(days=1)  # an answer
_SILENT = timedelta(minutes=15)  # a worker that has not answered by then has died

_log = table_of(QueryLog)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and how it stands."""

    id: str
    asked_at: datetime
    asked_by: str
    kind: str
    wave: str
    service: str
    measure: str
    variables: tuple[str, ...]
    state: str
    shown: int | None
    hidden: int | None
    said: str
    answer: str


def ask(
    engine: Engine,
    kind: str,
    wave: str,
    by: str,
    *,
    service: str = "",
    measure: str = "",
    variables: tuple[str, ...] = (),
) -> str:
    """Write a question down; its id."""
    row = {
        "id": uuid.uuid4().hex, "asked_at": datetime.now(UTC), "asked_by": by, "kind": kind, "wave": wave,
        "service": service, "measure": measure, "variables": " ".join(variables), "state": WAITING,
    }  # fmt: skip
    with writing(engine) as db:
        db.execute(insert(_log), [row])
    return str(row["id"])


def asked(engine: Engine, most: int = 20) -> list[Asked]:
    """The questions last asked, without their answers."""
    with reading(engine) as db:
        rows = db.execute(select(_log).order_by(_log.c.asked_at.desc()).limit(most)).mappings()
        return [_asked(row, with_answer=False) for row in rows]


def find(engine: Engine, id: str) -> Asked | None:
    """One question with its answer."""
    with reading(engine) as db:
        row = db.execute(select(_log).where(_log.c.id == id)).mappings().first()
    return None if row is None else _asked(row)


def waiting(engine: Engine, now: datetime) -> list[str]:
    """Ids still to be answered, also those that a worker died over; answers a day old go."""
    stale = _log.c.asked_at < now - _SILENT
    with writing(engine) as db:
        db.execute(update(_log).where(_log.c.asked_at < now - KEPT).values(answer=None))
        db.execute(update(_log).where(_log.c.state == RUNNING, stale).values(state=WAITING))
        return list(db.execute(select(_log.c.id).where(_log.c.state == WAITING)).scalars())


def _asked(row: Mapping[Any, Any], with_answer: bool = True) -> Asked:
    return Asked(
        id=row["id"], asked_at=row["asked_at"], asked_by=row["asked_by"], kind=row["kind"], wave=row["wave"],
        service=row["service"], measure=row["measure"], variables=tuple(row["variables"].split()),
        state=row["state"], shown=row["shown"], hidden=row["hidden"], said=row["said"] or "",
        answer=(row["answer"] or "") if with_answer else "",
    )  # fmt: skip


# ---------------------------------------------------------------- answers


def answer(
    engine: Engine, instrument: Instrument, out: Path, id: str, release_file: Path, owner: str
) -> None:
    """Answer a question that waits. Safe to run again.

    What may not be answered is refused, and what goes wrong is told in a line; the row says which.
    """
    with writing(engine) as db:
        taken = db.execute(
            update(_log).where(_log.c.id == id, _log.c.state == WAITING).values(state=RUNNING)
        ).rowcount
    question = find(engine, id)
    if not taken or question is None:
        return
    try:
        from storage.analysis.plan import load_plan  # on NumPy, of the extra `analysis`

        plan = load_plan(release_file, instrument)
        if question.kind == DRAFT:
            text, shown, hidden = _draft(engine, instrument, out, question.wave, plan, owner)
        else:
            text, shown, hidden = _query(engine, instrument, out, question, plan)
        _close(engine, id, DONE, answer=text, shown=shown, hidden=hidden)
    except (QueryRefused, ReleaseError) as error:
        _close(engine, id, REFUSED, said=str(error))
    except ImportError:
        _close(engine, id, FAILED, said="the worker lacks the extra `analysis`: install it there")
    except ValueError as error:  # a file of the office, or margins that do not fit: says what to mend
        _close(engine, id, FAILED, said=str(error))
    except Exception as error:
        log.exception("query %s", id)
        _close(engine, id, FAILED, said=f"{type(error).__name__}: see the worker's log")


def _close(engine: Engine, id: str, state: str, **values: object) -> None:
    with writing(engine) as db:
        db.execute(
            update(_log).where(_log.c.id == id).values(state=state, answered_at=datetime.now(UTC), **values)
        )


def _draft(
    engine: Engine, instrument: Instrument, out: Path, wave: str, plan: "ReleasePlan", owner: str
) -> tuple[str, int, int]:
    from storage.analysis.making import draft

    before = latest(out, wave)  # a demonstration stays one
    made = draft(engine, instrument, wave, out, plan, simulated=before is not None and bool(before.simulated))
    left = [rounded(e, decimals(e, plan.rules.display), plan.rules.disclosure) for e in made.marked]
    margins = plan.margins.tables if plan.margins else ()
    release = Release(
        wave=wave, version=0, issued=datetime.now(UTC).date().isoformat(), reason="", owner=owner, contact="",
        instrument=" ".join(made.table.basis.instruments), licence="", weighted=plan.margins is not None,
        margins=tuple(Margin(m.name, m.source, m.issued.isoformat()) for m in margins),
        probability_sample=plan.probability_sample, interviews=made.table.basis.respondents, material="",
        software="", rules=plan.rules, simulated=made.table.basis.simulated,
        estimates=tuple(e for e in left if len(e.domain) < 2), answers=leaving(made.answers, plan.rules),
        design_weighted=made.draw is not None,
    )  # fmt: skip
    why = [[*key(e)[1:3], e.domain, e.mark, e.notes[-1]] for e in made.hidden]
    text = json.dumps({"release": asdict(release), "why": why}, ensure_ascii=False)
    return text, len(left) - len(made.hidden), len(made.hidden)


def _query(
    engine: Engine, instrument: Instrument, out: Path, question: Asked, plan: "ReleasePlan"
) -> tuple[str, int, int]:
    from storage.analysis.making import material_of, planned_draw
    from storage.analysis.table import table_16_6_2

    released = latest(out, question.wave)
    if released is None:
        raise QueryRefused(f"wave {question.wave} has no release to protect a table with; ask for its draft")
    query = Query(question.wave, question.service, question.measure, question.variables)
    if why := may_serve(query, released):
        raise QueryRefused(why)
    margins = plan.margins.tables if plan.margins else ()
    ours = tuple(Margin(m.name, m.source, m.issued.isoformat()) for m in margins)
    if ours != released.margins:
        raise QueryRefused(
            f"the release file's margins are not those of version {released.version}; name the same, or ask"
            " after the next version"
        )
    crosses = {d for e in released.estimates if len(d := tuple(v for v, _ in e.domain)) == 2}
    wanted = question.variables
    if len(wanted) == 2 and wanted not in crosses and wanted[::-1] not in crosses:
        crosses.add(wanted)
    draw, simulated = planned_draw(engine, question.wave, plan), bool(released.simulated)
    table = table_16_6_2(
        engine, instrument, question.wave, margins=plan.margins, wealth=plan.wealth,
        crosses=[(a, b) for a, b in sorted(crosses)], limits=plan.limits, fewest=plan.fewest,
        probability_sample=plan.probability_sample, draw=draw, simulated=simulated,
    )  # fmt: skip
    exact = [e for e in table.estimates if (e.service, e.measure) == (question.service, question.measure)]
    material = material_of(engine, instrument, question.wave, plan.wealth, draw, simulated)
    found = serve(query, released, exact, material)
    hidden = sum(e.mark in ("c", "u") for e in found)
    figures = [asdict(e) for e in found]
    text = json.dumps({"figures": figures, "caution": released.caution, "version": released.version})
    return text, len(found) - hidden, hidden


def read_draft(answer: str) -> tuple[Release, list[tuple[str, str, tuple[tuple[str, str], ...], str, str]]]:
    """The draft, and of each hidden figure: service, measure, domain, mark, reason."""
    data = json.loads(answer)
    why = [
        (s, m, tuple((str(v), str(o)) for v, o in domain), mark, reason)
        for s, m, domain, mark, reason in data["why"]
    ]
    return release_of(data["release"]), why


def read_figures(answer: str) -> tuple[list[Estimate], str, int]:
    """The figures, the caution beside them, and the version they were protected with."""
    data = json.loads(answer)
    return [estimate_of(e) for e in data["figures"]], data["caution"], data["version"]
