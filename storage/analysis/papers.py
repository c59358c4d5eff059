"""All counted interviews of a wave as arrays, not only those with a rating (as `sheets` has them): what the
quality report is reckoned on. One scan over one short text an interview, straight into the arrays.

    id | how it stands | who, if asked | which drawn blocks it was given | marks
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, case, select

from flows.instrument import UNANSWERED
from storage.analysis.counted import counted
from storage.analysis.domains import Bools, Marks
from storage.analysis.sheets import Group, NoMarks, Progress, Sheet, are_respondents, read_lines
from storage.analysis.table import Draw
from storage.models import BREAK_OFF, COMPLETE, IN_PROGRESS, PARTIAL, Interview, table_of

_interview = table_of(Interview)
_ID, _PSEUDONYM = 16, 32  # hex digits
_STATES = {COMPLETE: "c", PARTIAL: "p", BREAK_OFF: "b", IN_PROGRESS: "i"}
_OTHER = "o"  # refused, not eligible, and whatever else is no interview


@dataclass(frozen=True)
class Papers:
    """The counted interviews of one group."""

    group: Group
    ids: npt.NDArray[np.bytes_]
    state: npt.NDArray[np.uint8]  # see _STATES
    marks: Marks
    given: Mapping[str, Bools]  # only blocks that some respondents were not given
    pseudonyms: npt.NDArray[np.bytes_] | None  # only if asked for

    @property
    def complete(self) -> Bools:
        return np.asarray(self.state == ord(_STATES[COMPLETE]))

    @property
    def consented(self) -> Bools:
        """Interviews that went on from consent: the base of item nonresponse."""
        consent = next(i for i in self.group.instrument.items if i.role == "consent")
        went_on = self.state != ord(_OTHER)
        return np.asarray(went_on & (self.marks[:, consent.index] != ord(UNANSWERED)))

    def among(self, ids: Collection[str]) -> Bools:
        """Which of them are among these interviews."""
        return np.isin(self.ids, np.array(sorted(ids), dtype=f"S{_ID}"))


def read_papers(
    db: Connection, group: Group, wave: str, pseudonyms: bool = False, told: Progress | None = None
) -> Papers:
    """The counted interviews of a group. `told` hears of interviews read. Raises NoMarks."""
    instrument, c, n = group.instrument, _interview.c, group.interviews
    drawn = [b.id for b in instrument.blocks if b.drawn and group.probabilities.get(b.id, 1.0) < 1]
    state = case(*((c.disposition == name, letter) for name, letter in _STATES.items()), else_=_OTHER)
    line = c.id.concat(state)
    if pseudonyms:
        line = line.concat(c.respondent)
    for block in drawn:
        given = (" " + c.blocks + " ").contains(f" {block} ", autoescape=True)
        line = line.concat(case((given, "+"), else_="-"))
    query = select(line.concat(c.marks)).where(
        *counted(instrument, wave, group.simulated),
        c.instrument == instrument.reference,
        c.probabilities.is_(None) if group.told is None else c.probabilities == group.told,
    )
    named = _ID + 1 + (_PSEUDONYM if pseudonyms else 0)
    ahead = named + len(drawn)
    wide = ahead + len(instrument.items) + 1
    head = np.empty((n, ahead), dtype=np.uint8)
    marks = np.empty((n, len(instrument.items)), dtype=np.uint8, order="F")  # what follows goes item by item
    rows = 0
    for part in read_lines(db, query):
        if len(part) % wide or rows + len(part) // wide > n:
            break
        table = np.frombuffer(part, dtype=np.uint8).reshape(-1, wide)
        head[rows : rows + len(table)] = table[:, :ahead]
        marks[rows : rows + len(table)] = table[:, ahead:-1]
        rows += len(table)
        if told is not None:
            told("reading interviews", rows, n)
    if rows != n:
        raise NoMarks(f"wave {wave}: marks of {instrument.reference} are not of one length; make them anew")
    return Papers(
        group=group,
        ids=np.ascontiguousarray(head[:, :_ID]).view(f"S{_ID}").ravel(),
        state=head[:, _ID].copy(),
        marks=marks,
        given={block: head[:, named + k] == ord("+") for k, block in enumerate(drawn)},
        pseudonyms=np.ascontiguousarray(head[:, _ID + 1 : named]).view(f"S{_PSEUDONYM}").ravel()
        if pseudonyms
        else None,
    )


def sheets_of(
    papers: Sequence[Papers], doubtful: Collection[str], draw: Draw | None
) -> tuple[list[Sheet], list[Bools]]:
    """The respondents among them, as `sheets` would read them, and which of those are doubtful interviews.

    With a draw only who is in it; then the papers must have pseudonyms.
    """
    sheets, doubts = [], []
    for p in papers:
        keep = are_respondents(p.group.instrument, p.marks)
        who: tuple[str, ...] = ()
        if draw is not None:
            assert p.pseudonyms is not None
            who = tuple(name.decode("ascii") for name in p.pseudonyms.tolist())
            keep &= np.array([name in draw for name in who], dtype=np.bool_)
        sheets.append(rows_of(Sheet(p.group, p.marks, p.given, who), keep))
        doubts.append(p.among(doubtful)[keep])
    return sheets, doubts


def rows_of(sheet: Sheet, keep: Bools) -> Sheet:
    """Some rows of a sheet."""
    if keep.all():
        return sheet
    marks = np.empty((int(keep.sum()), sheet.marks.shape[1]), dtype=np.uint8, order="F")
    for column in range(marks.shape[1]):  # so that the copy needs no second one
        marks[:, column] = sheet.marks[keep, column]
    return Sheet(
        sheet.group,
        marks,
        {block: rows[keep] for block, rows in sheet.given.items()},
        tuple(compress(sheet.pseudonyms, keep.tolist())),
    )
