"""Tables that queries were answered with: out beside the versions of a wave, though no version holds them.

Each is taken for a small release of its own: same wave, version, rules and interviews as the version that it
was protected with, its figures alone. So whatever heeds earlier versions heeds answers too (`differencing`,
`release.marked`). Their figures are kept for that, in `query_log`: they went through the rules of a release
and hold nothing of a person.

Answers and versions of a wave come out one after the other: whoever has one ready takes the wave's turn, and
lets it out only if nothing else came out since it was begun (`turn`).
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, func, select

from storage.analysis.disclosure import DisclosureRules
from storage.analysis.estimates import Estimate
from storage.analysis.release import Release, Rules, estimate_of
from storage.database import among, reading, take_turn, writing
from storage.models import QueryLog, table_of

QUERY = "query"  # kind of a row that a table answers

_log = table_of(QueryLog)


class ComeBetween(Exception):
    """Another answer or version came out meanwhile: begin again with it."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the next version of a wave has to heed beside the versions before it."""

    tables: tuple[Release, ...] = ()
    #: On the new version's interviews: figures that are out in tables which it does not hold.
    known: tuple[Estimate, ...] = ()
    #: The version is put in its place within. Raises ComeBetween.
    turn: Callable[[Release], AbstractContextManager[object]] = nullcontext
    #: The digest that earlier software gave the new version's interviews; "" = no version has another.
    was: str = ""


def served_ids(engine: Engine, wave: str) -> frozenset[str]:
    """The questions about this wave that a table was answered to, whatever else their rows say."""
    with reading(engine) as db:
        return _ids(db, wave)


def tables_served(engine: Engine, ids: Collection[str], versions: Sequence[Release]) -> list[Release]:
    """These questions' answers, oldest first. versions: the wave's that are out.

    Left out are those that add nothing: every figure stands as it is in a version or in an older answer, on
    the same interviews and under the same rules.
    """
    c = _log.c
    with reading(engine) as db:  # a table may have been asked for a thousand times: one text is read once
        query = select(c.answer).where(among(db, c.id, ids)).group_by(c.answer)
        query = query.order_by(func.min(c.answered_at), func.min(c.id))
        rows = list(db.execute(query).scalars()) if ids else []
    by_number = {r.version: r for r in versions}
    out: dict[tuple[str, DisclosureRules], set[Estimate]] = {}
    for r in versions:
        out.setdefault((r.material, r.rules.disclosure), set()).update(r.estimates)
    found = []
    for row in rows:
        data = json.loads(row)
        figures = tuple(estimate_of(e) for e in data["figures"])
        beside = by_number.get(data["version"])
        base = beside or (versions[-1] if versions else _gone(figures))
        # Rows of earlier software do not say their interviews; those of a version that is gone are not known.
        material = data.get("material", beside.material if beside else "")
        there = out.setdefault((material, base.rules.disclosure), set())
        if not there.issuperset(figures):
            there.update(figures)
            given = replace(base, version=data["version"], material=material, estimates=figures, answers=())
            found.append(given)
    return found


@contextmanager
def turn(engine: Engine, wave: str, seen: Collection[str]) -> Iterator[Connection]:
    """One transaction in which nobody else lets out anything of the wave. seen: `served_ids` as what comes
    out now was made. Raises ComeBetween if there are others by now."""
    with writing(engine) as db:
        take_wave(db, wave)
        if _ids(db, wave) != seen:
            raise ComeBetween(f"wave {wave}: a query was answered meanwhile")
        yield db


def take_wave(db: Connection, wave: str) -> None:
    """Wait until nobody else lets out or takes in anything of the wave; theirs to come wait for this
    transaction."""
    take_turn(db, f"served {wave}")


def _ids(db: Connection, wave: str) -> frozenset[str]:
    # By the figures themselves and not by the state: what somebody may have read is out for good.
    query = select(_log.c.id).where(_log.c.wave == wave, _log.c.kind == QUERY, _log.c.answer.is_not(None))
    return frozenset(db.execute(query).scalars())


def _gone(figures: Sequence[Estimate]) -> Release:
    """In the place of the version that these were protected with, where the wave's folder is lost."""
    return Release(
        wave=figures[0].wave if figures else "", version=0, issued="", reason="", instrument="", owner="",
        contact="", licence="", weighted=False, margins=(), probability_sample=False, interviews=0,
        material="", software="", rules=Rules(), estimates=(),
    )  # fmt: skip
