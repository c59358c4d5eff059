"""The answers of an interview as one short text: a mark an item, in the questionnaire's order.

The marks are those of the live interview: an option's position, N, D, R for not applicable, don't know and
refused, "." for no answer. An item that asks for a number has its group's position (age 25-34: "2"), or "#"
where it has no groups. Thirty responses are so one text of fixed length, kept in `interview.marks` by the
fold, and a table over a million interviews is one scan (docs/decisions/0020).

Hops mostly arrive in order; then each answer changes its mark. After one that did not, the marks are made
anew from the responses, whose own versions settle what is latest: the outcome is the same in any order.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, bindparam, select, update

from flows.engine import Effect, ResponseGiven, ResponseRetracted
from flows.instrument import NONRESPONSE_MARKS, NUMBER_GIVEN, UNANSWERED, Instrument, Item, parse
from flows.questionnaire import POSITIONS
from storage.database import among
from storage.models import WITHDRAWN, Interview, Response, StoredInstrument, table_of

_interview, _response, _stored = table_of(Interview), table_of(Response), table_of(StoredInstrument)
_AT_ONCE = 2000

#: Stored instruments by reference. A reference with interviews never changes its data; one database only.
_known: WeakKeyDictionary[Engine, dict[str, Instrument]] = WeakKeyDictionary()


def stored_instrument(db: Connection, reference: str | None) -> Instrument | None:
    """The instrument `id@version` as this database keeps it; None if it does not."""
    known = _known.setdefault(db.engine, {})
    if reference is not None and reference not in known:
        sources = db.execute(select(_stored.c.sources).where(_stored.c.reference == reference)).scalar()
        if sources is None:
            return None
        known[reference] = parse(json.loads(sources), fielded=True)
    return None if reference is None else known[reference]


def mark(item: Item, option: str, number: int | None) -> str:
    """The mark of an answer: `option` as in the response, "" for a number."""
    if option in NONRESPONSE_MARKS:
        return NONRESPONSE_MARKS[option]
    if option:
        return next((o.mark for o in item.scale.options if o.id == option), UNANSWERED) if item.scale else "."
    for position, group in zip(POSITIONS, item.groups, strict=False):
        if number is not None and group.least <= number and (group.most is None or number <= group.most):
            return position
    return NUMBER_GIVEN


def unmarked(instrument: Instrument) -> str:
    """The marks of an interview without an answer."""
    return UNANSWERED * len(instrument.items)


def noted(marks: str, instrument: Instrument, effects: Sequence[Effect]) -> str:
    """The marks after a hop that came after all those in them."""
    for effect in effects:
        if isinstance(effect, ResponseGiven):
            new = effect.option, effect.code
        elif isinstance(effect, ResponseRetracted):
            new = None
        else:
            continue
        item = instrument.by_id.get(effect.item)
        if item is not None:
            letter = UNANSWERED if new is None else mark(item, *new)
            marks = marks[: item.index] + letter + marks[item.index + 1 :]
    return marks


def restore_marks(db: Connection, interviews: Collection[str] | None = None) -> int:
    """Make marks anew from the responses: of these interviews, or of all that have none.

    Interviews that are withdrawn, or whose instrument the database does not keep, get none. Returns how
    many were written. The caller holds the respondents (see `lock_respondents`) or works alone.
    """
    which = _interview.c.marks.is_(None) if interviews is None else among(db, _interview.c.id, interviews)
    found = db.execute(
        select(_interview.c.id, _interview.c.instrument).where(
            which, _interview.c.disposition != WITHDRAWN, _interview.c.instrument.is_not(None)
        )
    ).all()
    instruments = {row.id: stored_instrument(db, row.instrument) for row in found}
    ids = [i for i, instrument in instruments.items() if instrument is not None]
    for first in range(0, len(ids), _AT_ONCE):
        made = _from_responses(db, {i: instruments[i] for i in ids[first : first + _AT_ONCE]})
        db.execute(
            update(_interview).where(_interview.c.id == bindparam("key")).values(marks=bindparam("made")),
            [{"key": i, "made": marks} for i, marks in made.items()],
        )
    return len(ids)


def _from_responses(db: Connection, interviews: Mapping[str, Instrument | None]) -> dict[str, str]:
    made = {i: list(unmarked(instrument)) for i, instrument in interviews.items() if instrument}
    for row in db.execute(
        select(_response.c.interview, _response.c.item, _response.c.option, _response.c.number).where(
            among(db, _response.c.interview, made), ~_response.c.retracted
        )
    ):
        instrument = interviews[row.interview]
        item = instrument.by_id.get(row.item) if instrument else None
        if item is not None:
            made[row.interview][item.index] = mark(item, row.option or "", row.number)
    return {i: "".join(marks) for i, marks in made.items()}
