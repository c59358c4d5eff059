"""The digest of what a wave's figures rest on: releases, queries and weights beside each other compare it.

Two tables with the same one rest on the same answers of the same people, in the same categories, so their
difference tells nothing of a person. It holds of each respondent of the figures (`sheets`) the interview, the
blocks given and the marks of the answers, and the wealth score: one with other cuts moves people between
fifths. Who dials again to see the results, refuses or stops at the consent changes nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from sqlalchemy import Engine, func, or_, select

from flows.instrument import UNANSWERED, Instrument
from storage.analysis.counted import counted
from storage.analysis.domains import Wealth
from storage.analysis.release import Release
from storage.analysis.sheets import first_questions, read_groups, read_lines
from storage.analysis.table import Draw
from storage.database import reading
from storage.models import Interview, table_of

_PSEUDONYM = 32  # hex digits
_ROWS = 20_000  # read at once


def material_of(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    wealth: Wealth | None = None,
    draw: Draw | None = None,
    simulated: bool = False,
) -> str:
    """64 hex digits. draw, simulated: as of the table, and whoever it leaves out is left out here.

    Raises NoMarks.
    """
    c = table_of(Interview).c
    seen = sha256(b"" if wealth is None else f"{wealth!r}\n".encode())
    with reading(engine) as db:
        _, groups = read_groups(db, instrument, wave, simulated)
        for group in groups:
            head = f"{group.instrument.reference} {group.told}\n".encode()
            firsts = [func.substr(c.marks, i.index + 1, 1) for i in first_questions(group.instrument)]
            line = c.respondent.concat(c.id).concat(" " + func.coalesce(c.blocks, "") + " ").concat(c.marks)
            query = select(line).where(
                *counted(instrument, wave, simulated),
                c.instrument == group.instrument.reference,
                c.probabilities.is_(None) if group.told is None else c.probabilities == group.told,
                or_(*(first != UNANSWERED for first in firsts)),
            )
            for part in read_lines(db, query.order_by(c.id)):
                if draw is not None:
                    lines = part.decode("ascii").splitlines(keepends=True)
                    part = "".join(one for one in lines if one[:_PSEUDONYM] in draw).encode("ascii")
                if part:  # a group of which nobody is in the figures leaves no trace
                    seen.update(head + part)
                    head = b""
    return seen.hexdigest()


def material_before(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    wealth: Wealth | None = None,
    draw: Draw | None = None,
    simulated: bool = False,
) -> str:
    """The digest that earlier software gave the same interviews: over the rows of all that count, and their
    versions. So it tells only as long as nobody of them has dialled again."""
    c = table_of(Interview).c
    seen = sha256(b"" if wealth is None else f"{wealth!r}\n".encode())
    query = select(c.id, c.version, c.respondent).where(*counted(instrument, wave, simulated)).order_by(c.id)
    with reading(engine) as db:
        for rows in db.execute(query, execution_options={"yield_per": _ROWS}).partitions(_ROWS):
            kept = [row for row in rows if draw is None or row.respondent in draw]
            seen.update("".join(f"{row.id} {row.version}\n" for row in kept).encode())
    return seen.hexdigest()


def as_today(releases: Sequence[Release], material: str, before: str) -> list[Release]:
    """`releases`, with today's digest where they have the one of earlier software. before: "" = not known."""
    return [replace(r, material=material) if before and r.material == before else r for r in releases]
