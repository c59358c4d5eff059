"""Figures that are not released: a wave's next release as it would look (staff), or one more table (staff,
and readers over the API).

The same rules as for readers: what they hide is hidden here too, with the reason. Every question is a row of
`query_log` that says who asked what, when, and how much was shown; it stays. So do the figures that a table
was answered with: protected and rounded, they hold nothing of a person, and every later answer and version
is protected together with them (`served`). A draft goes after a day: it gives the reasons of what it hides.
The gateway asks (`ask`), a worker answers (`answer`): only a worker has the libraries to compute with.

    waiting --a worker takes it--> running --> done | refused | failed
       ^                              |
       +---no word for 15 minutes-----+

A question is closed once. The first answer closes it, whoever brings it, also a worker that was thought dead.
That there is none only the worker may say that has the question now. So no answer is lost, none is written
over, and nobody is told no while another worker is still at it.
"""

import json
import logging
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from flows.instrument import Instrument
from storage.analysis import served
from storage.analysis.differencing import Query, QueryRefused, held, laid_alike, may_serve, serve, tables_out
from storage.analysis.disclosure import key, rounded
from storage.analysis.display import decimals
from storage.analysis.estimates import Estimate
from storage.analysis.release import (
    Release,
    ReleaseError,
    all_versions,
    estimate_of,
    latest,
    leaving,
    release_of,
    versions,
)
from storage.analysis.released import check_kept, versions_kept
from storage.analysis.rows import beyond
from storage.analysis.served import ComeBetween, served_ids, tables_served, turn
from storage.database import reading, writing
from storage.models import QueryLog, table_of

if TYPE_CHECKING:
    from storage.analysis.plan import ReleasePlan

log = logging.getLogger("dial16.queries")

DRAFT, QUERY = "draft", served.QUERY
WAITING, RUNNING, DONE, REFUSED, FAILED = "waiting", "running", "done", "refused", "failed"
API = "api:"  # before a token's name in `asked_by`
KEPT = timedelta(days=1)  # a draft
_SILENT = timedelta(minutes=15)  # a worker that has not answered by then has died: its job ends after ten

_TRIES = 5  # at an answer that no other one comes between

#: Of a whole path all but the last name. Not within a word, a relative path or an address on the web.
_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^\s/]+/)+")

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
    with writing(engine) as db:
        row = {
            "id": uuid.uuid4().hex, "asked_at": datetime.now(UTC), "asked_by": by, "kind": kind, "wave": wave,
            "service": service, "measure": measure, "variables": " ".join(variables), "state": WAITING,
        }  # fmt: skip
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


def asked_page(
    engine: Engine, by: str, until: datetime, after: tuple[datetime, str] | None, limit: int
) -> list[Asked]:
    """At most `limit` of this asker's questions about tables, from before `until`, in the order of asking,
    after the key given (moment, id), without their answers."""
    key = (_log.c.asked_at, _log.c.id)
    query = select(_log).where(_log.c.asked_by == by, _log.c.kind == QUERY, _log.c.asked_at < until)
    if after is not None:
        query = query.where(beyond(key, after))
    with reading(engine) as db:
        rows = db.execute(query.order_by(*key).limit(limit)).mappings()
        return [_asked(row, with_answer=False) for row in rows]


def asked_before(engine: Engine, by: str, query: Query) -> Asked | None:
    """The last time that this asker asked for this table, and was not told no."""
    c = _log.c
    same = select(_log).where(
        c.asked_by == by, c.kind == QUERY, c.wave == query.wave, c.service == query.service,
        c.measure == query.measure, c.variables == " ".join(query.variables),
        c.state.in_((WAITING, RUNNING, DONE)),
    )  # fmt: skip
    with reading(engine) as db:
        row = db.execute(same.order_by(c.asked_at.desc()).limit(1)).mappings().first()
    return None if row is None else _asked(row)


def open_of(engine: Engine, by: str) -> int:
    """How many questions of this asker are not answered yet."""
    open_ = _log.c.asked_by == by, _log.c.state.in_((WAITING, RUNNING))
    with reading(engine) as db:
        return int(db.execute(select(func.count()).select_from(_log).where(*open_)).scalar_one())


def waiting(engine: Engine, now: datetime) -> list[str]:
    """Ids still to be answered, also those that a worker died over; drafts a day old go."""
    taken_at = func.coalesce(_log.c.taken_at, _log.c.asked_at)  # earlier software did not note it
    stale = taken_at < now - _SILENT
    old = _log.c.kind == DRAFT, _log.c.asked_at < now - KEPT
    with writing(engine) as db:
        db.execute(update(_log).where(*old).values(answer=None))
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
    now = datetime.now(UTC)
    with writing(engine) as db:
        waits = _log.c.id == id, _log.c.state == WAITING
        taken = db.execute(update(_log).where(*waits).values(state=RUNNING, taken_at=now)).rowcount
    question = find(engine, id)
    if not taken or question is None:
        return
    try:
        from storage.analysis.plan import load_plan  # on NumPy, of the extra `analysis`

        plan = load_plan(release_file, instrument)
        if question.kind == DRAFT:
            text, shown, hidden = _draft(engine, instrument, out, question.wave, plan, owner)
            with writing(engine) as db:
                _answered(db, id, text, shown, hidden)
        else:
            _answer_query(engine, instrument, out, question, plan)
    except (QueryRefused, ReleaseError) as error:
        _unanswered(engine, id, now, REFUSED, _outside(id, error, out, release_file.parent))
    except ImportError:
        _unanswered(engine, id, now, FAILED, "the worker lacks the extra `analysis`: install it there")
    except ValueError as error:  # a file of the office, or margins that do not fit: says what to mend
        _unanswered(engine, id, now, FAILED, _outside(id, error, out, release_file.parent))
    except Exception as error:
        log.exception("query %s", id)
        _unanswered(engine, id, now, FAILED, f"{type(error).__name__}: see the worker's log")


def _outside(id: str, error: Exception, *folders: Path) -> str:
    """What an error says, without where our files are: the API tells it to readers. The log has all of it.

    Files in `folders` are named from there, others by their own name.
    """
    said = whole = str(error)
    for folder in folders:
        said = said.replace(f"{folder}/", "")
    said = _FOLDERS.sub("", said)
    if said != whole:
        log.warning("query %s: %s", id, whole)
    return said


def _answered(db: Connection, id: str, text: str, shown: int, hidden: int) -> None:
    """Close a question with its answer, unless it is closed: also one that the sweep took from its worker."""
    values = {"answer": text, "shown": shown, "hidden": hidden, "answered_at": datetime.now(UTC)}
    ours = _log.c.id == id, _log.c.state.in_((WAITING, RUNNING))
    if not db.execute(update(_log).where(*ours).values(state=DONE, **values)).rowcount:
        log.warning("query %s: was closed meanwhile, this answer is not kept", id)


def _unanswered(engine: Engine, id: str, taken_at: datetime, state: str, said: str) -> None:
    """Close a question without an answer, if it is still with the worker that took it then."""
    ours = _log.c.id == id, _log.c.state == RUNNING, _log.c.taken_at == taken_at
    with writing(engine) as db:
        values = {"state": state, "said": said, "answered_at": datetime.now(UTC)}
        if not db.execute(update(_log).where(*ours).values(values)).rowcount:
            log.warning("query %s: is no longer this worker's, which came to %s", id, state)


def _draft(
    engine: Engine, instrument: Instrument, out: Path, wave: str, plan: "ReleasePlan", owner: str
) -> tuple[str, int, int]:
    from storage.analysis.making import draft

    before = latest(out, wave)  # a demonstration stays one
    made = draft(engine, instrument, wave, out, plan, simulated=before is not None and bool(before.simulated))
    left = [rounded(e, decimals(e, plan.rules.display), plan.rules.disclosure) for e in made.marked]
    release = Release(
        wave=wave, version=0, issued=datetime.now(UTC).date().isoformat(), reason="", owner=owner, contact="",
        instrument=" ".join(made.table.basis.instruments), licence="", weighted=plan.margins is not None,
        margins=plan.named_margins,
        probability_sample=plan.probability_sample, interviews=made.table.basis.respondents, material="",
        software="", rules=plan.rules, simulated=made.table.basis.simulated,
        estimates=tuple(e for e in left if len(e.domain) < 2), answers=leaving(made.answers, plan.rules),
        design_weighted=made.draw is not None,
    )  # fmt: skip
    why = [[*key(e)[1:3], e.domain, e.mark, e.notes[-1]] for e in made.hidden]
    text = json.dumps({"release": asdict(release), "why": why, "faults": made.faults}, ensure_ascii=False)
    return text, len(left) - len(made.hidden), len(made.hidden)


def _answer_query(
    engine: Engine, instrument: Instrument, out: Path, question: Asked, plan: "ReleasePlan"
) -> None:
    """Compute and close, again where something else of the wave came out in between: neither of two answers
    that are worked at side by side may miss the other. The folder is compared with the database before that;
    in the turn, which others wait for, only the numbers of the versions are."""
    for _ in range(_TRIES):
        seen, there = served_ids(engine, question.wave), versions(out, question.wave)
        text, shown, hidden = _query(engine, instrument, out, question, plan, seen)
        try:
            with turn(engine, question.wave, seen) as db:
                kept = versions_kept(db, question.wave)
                if versions(out, question.wave) == there and kept.keys() <= set(there):
                    _answered(db, question.id, text, shown, hidden)
                    return
        except ComeBetween:
            if question.id in served_ids(engine, question.wave):  # by a worker that was thought dead
                return
    raise QueryRefused("others of this wave were answered all the time; ask again")


def _query(
    engine: Engine,
    instrument: Instrument,
    out: Path,
    question: Asked,
    plan: "ReleasePlan",
    seen: Collection[str],
) -> tuple[str, int, int]:
    with reading(engine) as db:
        check_kept(db, out, question.wave)
    earlier = all_versions(out, question.wave)
    released = earlier[-1] if earlier else None
    if released is None:
        raise QueryRefused(f"wave {question.wave} has no release to protect a table with; ask for its draft")
    query = Query(question.wave, question.service, question.measure, question.variables)
    if why := may_serve(query, released):
        raise QueryRefused(why)
    beside = [*earlier[:-1], *tables_served(engine, seen, earlier)]
    found = held(query, released, beside)
    found = found or _computed(engine, instrument, query, plan, released, beside)
    hidden = sum(e.mark in ("c", "u") for e in found)
    figures = [asdict(e) for e in found]
    about = {"caution": released.caution, "version": released.version, "material": released.material}
    text = json.dumps({"figures": figures, **about})
    return text, len(found) - hidden, hidden


def _computed(
    engine: Engine,
    instrument: Instrument,
    query: Query,
    plan: "ReleasePlan",
    released: Release,
    beside: Sequence[Release],
) -> list[Estimate]:
    """A table that is not out, weighted as the release is: its caution will stand beside it."""
    from storage.analysis.making import planned_draw
    from storage.analysis.material import as_today, material_before, material_of
    from storage.analysis.table import table_16_6_2

    version = f"version {released.version}"
    if was := plan.unlike(released):
        raise QueryRefused(
            f"{version} was weighted with {was}, and the release file says otherwise; say the same there, or"
            " ask after the next version"
        )
    draw, simulated = planned_draw(engine, query.wave, plan), bool(released.simulated)
    if (draw is not None) != released.design_weighted:  # of software that did not say it
        raise QueryRefused(
            f"{version} does not say that it is weighted by the sample's draw; ask after the next version"
        )
    rest = instrument, query.wave, plan.wealth, draw, simulated
    material = material_of(engine, *rest)
    if released.material != material:  # perhaps by earlier software
        released, *beside = as_today([released, *beside], material, material_before(engine, *rest))
    crosses = {
        (a, b) for *_, ((a, _), (b, _)) in tables_out(laid_alike([released, *beside]), released.material)
    }
    if len(wanted := query.variables) == 2 and not {wanted, wanted[::-1]} & crosses:
        crosses.add((wanted[0], wanted[1]))
    table = table_16_6_2(
        engine, instrument, query.wave, margins=plan.margins, wealth=plan.wealth,
        crosses=[(a, b) for a, b in sorted(crosses)], limits=plan.limits, fewest=plan.fewest,
        probability_sample=plan.probability_sample, draw=draw, simulated=simulated,
    )  # fmt: skip
    material = material_of(engine, *rest)  # again: answers may have arrived meanwhile
    return serve(query, released, table.estimates, material, beside)


def read_draft(
    answer: str,
) -> tuple[Release, list[tuple[str, str, tuple[tuple[str, str], ...], str, str]], list[str]]:
    """The draft; of each hidden figure service, measure, domain, mark, reason; why it would be refused."""
    data = json.loads(answer)
    why = [
        (s, m, tuple((str(v), str(o)) for v, o in domain), mark, reason)
        for s, m, domain, mark, reason in data["why"]
    ]
    return release_of(data["release"]), why, data.get("faults", [])


def read_figures(answer: str) -> tuple[list[Estimate], str, int]:
    """The figures, the caution beside them, and the version they were protected with."""
    data = json.loads(answer)
    return [estimate_of(e) for e in data["figures"]], data["caution"], data["version"]
