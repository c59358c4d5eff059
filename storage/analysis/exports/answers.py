"""The answers of an interview as one text, a letter an item: the marks of `storage/marks.py`, made fit for a
file. A cell of a file is a function of the item and its mark, so that a million interviews are written by
looking up letters, and nothing is worked out twice.

Two marks are the files' own: of an item that the interview was left before, and of one that was taken out of
a public file. Interviews on another version of the questionnaire get the marks that the export's version has
for the same codes.
"""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Connection

from flows.instrument import NONRESPONSE, NONRESPONSE_MARKS, NUMBER_GIVEN, UNANSWERED, Instrument, Item
from flows.questionnaire import POSITIONS
from storage.analysis.dictionary import Variable, missing_codes
from storage.marks import mark, stored_instrument

NOT_REACHED, WITHHELD = "!", "*"
_NO_NUMBER = frozenset({UNANSWERED, *NONRESPONSE_MARKS.values()})
_KEPT = 20_000  # marks of unfinished interviews: many are left at the same places


class UnknownCode(Exception):
    """An answer that the export's version of the questionnaire does not know; `column`: of its item."""

    def __init__(self, column: str):
        super().__init__(column)
        self.column = column


def is_marked(variable: Variable) -> bool:
    """Whether its cells are read from a mark: those of items are, but for numbers."""
    return variable.item is not None and variable.what != "number"


def codes_of(instrument: Instrument, variable: Variable) -> dict[str, int | None]:
    """Mark -> code in files, of a variable made from an item's code or group; None: the cell is empty."""
    item = variable.item
    assert item is not None
    reasons = missing_codes(instrument)
    codes: dict[str, int | None] = dict.fromkeys((UNANSWERED, NUMBER_GIVEN))
    codes |= {NOT_REACHED: reasons["not_reached"], WITHHELD: reasons["withheld"]}
    codes |= {NONRESPONSE_MARKS[n]: instrument.codes[n] for n in item.nonresponse}
    if variable.what == "group":
        codes |= {position: n for n, (position, _) in enumerate(zip(POSITIONS, item.groups, strict=False), 1)}
    elif item.scale is not None:
        codes |= {o.mark: o.code for o in item.scale.options}
    else:  # why there is no number
        codes |= dict.fromkeys(POSITIONS)
    return codes


class Answers:
    """Makes the marks of a file from those of the database."""

    def __init__(self, db: Connection, instrument: Instrument):
        self.db, self.instrument = db, instrument
        self.numbers = [item for item in instrument.items if item.kind == "number"]
        self.translations: dict[str, list[tuple[int, dict[str, str]] | None]] = {}
        self.with_not_reached = lru_cache(_KEPT)(self._with_not_reached)

    def __call__(
        self, reference: str, marks: str, numbers: Sequence[int | None], blocks: str, unfinished: bool
    ) -> str:
        """The file's marks of an interview on `reference`; `numbers`: those given, as `self.numbers`.

        Not reached is told only of interviews on the export's own version: another may lead other ways.
        Raises UnknownCode.
        """
        if reference != self.instrument.reference:
            return self._translated(reference, marks, numbers)
        return self.with_not_reached(marks, blocks) if unfinished else marks

    def _with_not_reached(self, marks: str, blocks: str) -> str:
        """Not reached: the items without an answer that the answers do not rule out."""
        given = set(blocks.split())
        known = list(marks)
        for item in self.numbers:  # the questionnaire's conditions know only that there is one
            if known[item.index] not in _NO_NUMBER:
                known[item.index] = NUMBER_GIVEN
        letters = list(marks)
        for item in self.instrument.items:
            block = self.instrument.blocks[item.block]
            if known[item.index] != UNANSWERED or (block.drawn and block.id not in given):
                continue
            if not item.ask_if or any(
                all(letters[index] == NOT_REACHED or known[index] in wanted for index, wanted in every)
                for every in item.ask_if
            ):
                letters[item.index] = NOT_REACHED
        return "".join(letters)

    def _translated(self, reference: str, marks: str, numbers: Sequence[int | None]) -> str:
        if reference not in self.translations:
            theirs = stored_instrument(self.db, reference)
            assert theirs is not None  # marks are made with it
            self.translations[reference] = [self._translation(i, theirs) for i in self.instrument.items]
        given = {item.index: n for item, n in zip(self.numbers, numbers, strict=True) if n is not None}
        letters = []
        for item, found in zip(self.instrument.items, self.translations[reference], strict=True):
            if item.index in given:
                letters.append(mark(item, "", given[item.index]))
            elif found is None:
                letters.append(UNANSWERED)
            elif (letter := found[1].get(marks[found[0]])) is None:
                raise UnknownCode(item.column)
            else:
                letters.append(letter)
        return "".join(letters)

    def _translation(self, item: Item, theirs: Instrument) -> tuple[int, dict[str, str]] | None:
        """Where the item's mark stands in theirs, and our mark for each of theirs with the same code."""
        other = theirs.by_id.get(item.id)
        if other is None:
            return None
        ours = {code: letter for letter, code in _coded(self.instrument, item).items()}
        found = {letter: ours[code] for letter, code in _coded(theirs, other).items() if code in ours}
        if other.kind == "number":  # one that is given stands beside the marks
            found |= dict.fromkeys((*POSITIONS, NUMBER_GIVEN), UNANSWERED)
        return other.index, found | {UNANSWERED: UNANSWERED}


def _coded(instrument: Instrument, item: Item) -> dict[str, int]:
    """Mark -> code, of options and of the reasons for no answer."""
    codes = {o.mark: o.code for o in item.scale.options} if item.scale else {}
    return codes | {NONRESPONSE_MARKS[n]: instrument.codes[n] for n in NONRESPONSE if n in item.nonresponse}
