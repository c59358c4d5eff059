"""Row-level data for others: collected once from one state of the database, then written in any format.

`collect` reads the interviews with their marks, gives every interview and respondent an id of the file's
own, applies the rule for public use, and keeps the rows in a temporary SQLite file, so that a million
interviews pass through memory a batch at a time and every format is written from the same rows. The rows
stand in the order of their new ids, which says nothing of when an interview was held, nor where it stands in
another file. An interview's answers are kept as one text of marks (`answers`): a format looks up what each
stands for, and works nothing out twice.

Ids are keyed hashes with the export's variant and purpose in them. Exports of one variant for one purpose
can be joined with each other, others cannot, and none with the database. (The answers themselves may still
tell which rows of two files belong together. That is for the terms of use to forbid.)
"""

import csv
import hmac
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from operator import getitem, itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from flows.instrument import Instrument
from storage.analysis.dictionary import (
    PUBLIC,
    PUBLIC_DISPOSITIONS,
    VARIANTS,
    Variable,
    file_variables,
    key_variables,
    long_variables,
    missing_codes,
)
from storage.analysis.exports.answers import WITHHELD, Answers, UnknownCode, codes_of
from storage.analysis.exports.public_use import Protection, protect
from storage.database import reading
from storage.models import UNFINISHED, WITHDRAWN

#: Called with what is being done, steps done and steps in all.
Progress = Callable[[str, int, int], None]
Row = tuple[Any, ...]

_BATCH = 2000
_ID_DIGITS = 24  # 96 bits: no two alike among millions, and too many to try
_SIMULATOR = "simulator"
_MARKS = "its marks"  # column of the spool; no variable has a space in its name


class ExportError(Exception):
    """What was asked for cannot be exported. Says what to change."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export is to hold, and for whom."""

    variant: str  # scientific | public
    purpose: str  # exports with the same one have the same ids
    wave: str | None = None  # None = all, told apart in column `wave`
    language: str = ""  # of the labels; "" = the instrument's default
    simulated: bool = False  # keep interviews that nobody dialled for
    excel: bool = False  # CSV with a byte order mark, by which Excel knows UTF-8


@dataclass(frozen=True, slots=True)
class Values:
    """What stands around the data in the files that describe them; all may be empty."""

    owner: str = ""  # the office
    contact: str = ""
    code: str = ""  # the service code
    nation: str = ""  # by name; without it, as the places of the questionnaire have it in ISO 3166

    def inserted(self) -> dict[str, str]:
        given = {"owner": self.owner, "contact": self.contact, "code": self.code}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Microdata:
    """The collected rows and the dictionary that explains them."""

    asked: Asked
    instrument: Instrument
    about: Values
    made_at: datetime
    variables: tuple[Variable, ...]  # of the wide file
    long: tuple[Variable, ...]  # of the long file
    count: int  # interviews
    waves: tuple[str, ...]
    first_day: str  # ISO; "" without an interview
    last_day: str
    protection: Protection | None  # of a public file
    simulated: int  # interviews left out because nobody dialled for them
    spool: sqlite3.Connection
    _tallies: dict[str, Counter[Any]] = field(default_factory=dict)

    @property
    def language(self) -> str:
        return self.asked.language or self.instrument.default_language

    def codes(self, variable: Variable) -> dict[str, int | None] | None:
        """Mark -> code, of a variable that `marked` gives the mark of; None where it gives the value."""
        return codes_of(self.instrument, variable) if _is_marked(variable) else None

    def marked(self) -> Iterator[list[Row]]:
        """Batches of rows, a cell a variable: the mark that its code is read from (`codes`), or its value."""
        stored = [v for v in self.variables if not _is_marked(v)]
        at = {v.name: n for n, v in enumerate(stored)}
        picked = itemgetter(
            *(len(stored) + v.item.index if v.item and _is_marked(v) else at[v.name] for v in self.variables)
        )
        cursor = self.spool.execute(
            f"SELECT {_columns(stored)}, {_named(_MARKS)} FROM wide ORDER BY interview"
        )
        while rows := cursor.fetchmany(_BATCH):
            yield [picked((*row[:-1], *row[-1])) for row in rows]

    def rows(self, worded: bool = False) -> Iterator[Row]:
        """Rows of the wide file: int, float, text or None, a cell a variable. worded: words for each code."""
        tables: list[dict[Any, Any]] = []
        for v in self.variables:
            words = {c.code: c.labels[self.language] for c in v.codes} if worded else {}
            codes = self.codes(v)
            tables.append(_Same(words) if codes is None else {m: words.get(c, c) for m, c in codes.items()})
        for batch in self.marked():
            for row in batch:
                yield tuple(map(getitem, tables, row))

    def counts(self, variable: Variable) -> dict[int | None, int]:
        """Of a category: code -> interviews; None: empty."""
        if not self._tallies:  # of all at once: that takes one pass over the rows
            self._tallies.update((v.name, Counter()) for v in self.variables if v.codes)
            places = [(n, self._tallies[v.name]) for n, v in enumerate(self.variables) if v.codes]
            for batch in self.marked():
                columns = list(zip(*batch, strict=True))
                for n, tally in places:
                    tally.update(columns[n])
        counts: dict[int | None, int] = Counter()
        codes = self.codes(variable)
        for found, n in self._tallies[variable.name].items():
            counts[found if codes is None else codes[found]] += n
        return dict(counts)


class _Same(dict[Any, Any]):
    """What is not in it stands for itself."""

    def __missing__(self, value: Any) -> Any:
        return value


def _is_marked(variable: Variable) -> bool:
    return variable.item is not None and variable.what != "number"


def batches(rows: Iterable[Row], size: int = _BATCH) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


@contextmanager
def collect(
    engine: Engine,
    instrument: Instrument,
    asked: Asked,
    key: bytes,
    folder: Path,
    *,
    weights: Path | None = None,
    about: Values | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Iterator[Microdata]:
    """The rows that `asked` names, in a temporary file in `folder` until the block ends.

    key: what ids are made with, the pseudonym key. weights: a CSV file `interview,weight` with the final
    weight by the database's interview id. Raises ExportError, DictionaryError.
    """
    told = progress or (lambda what, done, total: None)
    about = about or Values()
    if asked.variant not in VARIANTS:
        raise ExportError(f"variant {asked.variant!r} is unknown; give one of {', '.join(VARIANTS)}")
    if asked.language and asked.language not in instrument.languages:
        raise ExportError(f"language {asked.language!r} is unknown; known: {', '.join(instrument.languages)}")
    variables = file_variables(
        instrument, asked.variant, weighted=weights is not None, values=about.inserted()
    )
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".collected.") as place,
        closing(sqlite3.connect(Path(place) / "rows", isolation_level=None)) as spool,
    ):
        # Nobody else reads this file, and nothing of it outlives this block.
        spool.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; BEGIN"
        )
        _create(spool, variables, asked)
        weighed = _load_weights(spool, weights)
        with reading(engine) as db:
            simulated = _fill(db, spool, instrument, variables, asked, key, weighed, told)
        if weighed and spool.execute("SELECT COUNT(weight) FROM wide").fetchone()[0] == 0:
            raise ExportError(
                f"{weights}: none of its interviews is in this export; see that its ids are those of the"
                " column interview in interviews_wide"
            )
        protection = None
        if asked.variant == PUBLIC:
            keys = [v.name for v in key_variables(variables)]
            withheld = missing_codes(instrument)["withheld"]
            protection = protect(spool, keys, withheld, weight="weight" if weighed else "")
            for variable in key_variables(variables):
                _withhold(spool, variable, withheld)
        spool.execute("CREATE UNIQUE INDEX ids ON wide (interview)")
        spool.execute("COMMIT")
        yield _described(
            spool, asked, instrument, about, now or datetime.now(UTC), variables, protection, simulated
        )


def _described(
    spool: sqlite3.Connection, asked: Asked, instrument: Instrument, about: Values, now: datetime,
    variables: tuple[Variable, ...], protection: Protection | None, simulated: int,
) -> Microdata:  # fmt: skip
    began = "began_month" if asked.variant == PUBLIC else "began_on"
    count, first, last = spool.execute(f"SELECT COUNT(*), MIN({began}), MAX({began}) FROM wide").fetchone()
    return Microdata(
        asked, instrument, about, now, variables, long_variables(instrument, variables), count,
        tuple(w for (w,) in spool.execute("SELECT DISTINCT wave FROM wide ORDER BY wave")),
        first or "", last or "", protection, simulated, spool,
    )  # fmt: skip


def export_id(key: bytes, asked: Asked, what: str, ours: str) -> str:
    """The id in such exports of the `what` (interview, respondent) that is `ours` in the database.

    The variant is in it too: whoever has both files shall not see which row of one is which of the other.
    Its tag keeps it apart from the pseudonyms made with the same key.
    """
    return _ids(key, asked, what)(ours)


def _ids(key: bytes, asked: Asked, what: str) -> Callable[[str], str]:
    head = json.dumps(["export", asked.variant, asked.purpose, what])[:-1]

    def made(ours: str) -> str:
        return hmac.digest(key, f"{head}, {json.dumps(ours)}]".encode(), "sha256").hex()[:_ID_DIGITS]

    return made


# ---------------------------------------------------------------- from the database


def _fill(
    db: Connection, spool: sqlite3.Connection, instrument: Instrument, variables: Sequence[Variable],
    asked: Asked, key: bytes, weighed: bool, told: Progress,
) -> int:  # fmt: skip
    """Interviews into the spool; how many simulated ones were left out."""
    which, given = _wanted(instrument, asked)
    kept = which if asked.simulated else f"{which} AND COALESCE(i.aggregator, '') <> '{_SIMULATOR}'"
    total, everyone = (
        int(db.execute(text(f"SELECT COUNT(*) FROM interview i WHERE {of}"), given).scalar_one())
        for of in (kept, which)
    )
    numbers = [item.id for item in instrument.items if item.kind == "number"]
    given |= {f"item_{n}": item for n, item in enumerate(numbers)}
    query = text(f"{_interviews(len(numbers), asked)} WHERE {kept}")
    turned = _Turned(db, instrument, variables, asked, key)
    places = ", ".join("?" * len(turned.columns))
    done = 0
    with closing(db.execute(query, given, execution_options={"yield_per": _BATCH})) as result:
        told("collecting", 0, total)
        for partition in result.partitions():  # closed also when it fails: it holds a cursor of the server
            rows = [turned(tuple(row)) for row in partition]
            if weighed:
                _weigh(spool, turned.columns.index("weight"), partition, rows)
            spool.executemany(f"INSERT INTO wide VALUES ({places})", rows)
            done += len(rows)
            told("collecting", done, total)
    return everyone - total


def _weigh(spool: sqlite3.Connection, at: int, interviews: Sequence[Any], rows: Sequence[list[Any]]) -> None:
    """Put the final weights of `interviews`, by the database's ids, into their rows, as cell `at`."""
    for interview, row in zip(interviews, rows, strict=True):
        found = spool.execute("SELECT weight FROM weights WHERE interview = ?", (interview.interview,))
        row[at] = next((w for (w,) in found), None)


def _wanted(instrument: Instrument, asked: Asked) -> tuple[str, dict[str, Any]]:
    """Of `interview i`. Never those withdrawn: of them nothing leaves the house."""
    which = f"i.counted AND i.disposition <> '{WITHDRAWN}' AND SUBSTR(i.instrument, 1, :length) = :instrument"
    given: dict[str, Any] = {"instrument": f"{instrument.id}@", "length": len(instrument.id) + 1}
    if asked.variant == PUBLIC:
        which += f" AND i.disposition IN ({', '.join(repr(d) for d in PUBLIC_DISPOSITIONS)})"
    if asked.wave is not None:
        which += " AND i.wave = :wave"
        given["wave"] = asked.wave
    return which, given


#: Of an interview; after them the probability with which it was sampled, and the numbers it gave.
_READ = ("interview", "respondent", "wave", "instrument", "language", "mode", "disposition", "began_at",
         "blocks", "probabilities", "marks")  # fmt: skip


def _interviews(numbers: int, asked: Asked) -> str:
    """SELECT and FROM. Marks hold all answers but numbers, of which they have the group."""
    columns = ["i.id AS interview", *(f"i.{name}" for name in _READ[1:])]
    tables = "interview i"
    if asked.variant == PUBLIC:  # a weight would tell the stratum
        columns.append("NULL")
    else:
        columns.append("CASE WHEN s.probability > 0 AND s.excluded IS NULL THEN s.probability END")
        tables += " LEFT JOIN sample_number s ON s.wave = i.wave AND s.respondent = i.respondent"
    for n in range(numbers):
        columns.append(f"n{n}.number")
        tables += (
            f" LEFT JOIN response n{n}"
            f" ON n{n}.interview = i.id AND n{n}.item = :item_{n} AND NOT n{n}.retracted"
        )
    return f"SELECT {', '.join(columns)} FROM {tables}"


class _Turned:
    """Turns an interview of the database into a row of the spool."""

    def __init__(
        self, db: Connection, instrument: Instrument, variables: Sequence[Variable], asked: Asked, key: bytes
    ):
        self.instrument, self.asked, self.key = instrument, asked, key
        self.at = {name: n for n, name in enumerate((*_READ, "probability"))}
        self.answers = Answers(db, instrument)
        self.numbers = {item.column: len(self.at) + n for n, item in enumerate(self.answers.numbers)}
        values = [v for v in variables if not _is_marked(v)]
        self.cells = [self.cell(v) for v in values]
        self.codes = [(v.item.index, codes_of(instrument, v)) for v in _keys(variables, asked) if v.item]
        self.columns = [*(v.name for v in values), *(v.name for v in _keys(variables, asked)), _MARKS]

    def __call__(self, row: Row) -> list[Any]:
        marks = self.marks(row)
        return [*(cell(row) for cell in self.cells), *(c[marks[n]] for n, c in self.codes), marks]

    def marks(self, row: Row) -> str:
        at = self.at
        reference, marks = row[at["instrument"]], row[at["marks"]]
        if marks is None:
            raise ExportError(
                f"interviews on {reference} have no marks: run `python main.py migrate` with that version of"
                " the questionnaire, then try again"
            )
        unfinished = row[at["disposition"]] in UNFINISHED
        try:
            return self.answers(reference, marks, row[len(at) :], row[at["blocks"]] or "", unfinished)
        except UnknownCode as error:
            raise ExportError(
                f"{error.column}: interviews on {reference} have a code that {self.instrument.reference} does"
                " not know; export their wave alone, with that version of the instrument"
            ) from None

    def cell(self, variable: Variable) -> Callable[[Row], Any]:
        """The value of a variable that is no mark."""
        name = variable.name
        if variable.item is not None:
            return itemgetter(self.numbers[variable.item.column])
        if name in ("interview", "respondent"):
            place, made = self.at[name], _ids(self.key, self.asked, name)
            return lambda row: made(row[place])
        if name in ("began_on", "began_month"):
            began, length = self.at["began_at"], 10 if name == "began_on" else 7
            return lambda row: _day(row[began])[:length]
        if name == "weight":
            return lambda row: None  # put in afterwards
        if name == "weight_base":
            return self.base
        if name.startswith("weight_"):
            block, blocks, chances = name.removeprefix("weight_"), self.at["blocks"], self.at["probabilities"]

            def of_block(row: Row) -> float | None:
                weight = _block_weight(block, row[blocks], row[chances])
                return None if weight is None else weight * self.base(row)

            return of_block
        place = self.at[name]
        if not variable.codes:
            return itemgetter(place)
        known: dict[Any, int | None] = {c.value: c.code for c in variable.codes}
        known[None] = None
        return lambda row: known[row[place]]

    def base(self, row: Row) -> float:
        """1 over the probability with which the sample was drawn; 1 for whoever is in none."""
        probability = row[self.at["probability"]]
        return 1.0 if probability is None else 1 / probability


def _day(at: Any) -> str:
    """The day, UTC, of a time as a driver gives it: text on SQLite, aware on PostgreSQL."""
    return at[:10] if isinstance(at, str) else at.astimezone(UTC).date().isoformat()


@lru_cache(4096)
def _block_weight(block: str, blocks: str | None, probabilities: str | None) -> float | None:
    if block not in (blocks or "").split():
        return None
    return 1.0 / float(json.loads(probabilities or "{}").get(block, 1.0))


# ---------------------------------------------------------------- the spool

_TYPES = {"category": "INTEGER", "number": "INTEGER"}


def _keys(variables: Sequence[Variable], asked: Asked) -> tuple[Variable, ...]:
    """Those whose code is kept apart too, for the rule on small cells."""
    return key_variables(tuple(variables)) if asked.variant == PUBLIC else ()


def _create(spool: sqlite3.Connection, variables: Sequence[Variable], asked: Asked) -> None:
    kept = [*(v for v in variables if not _is_marked(v)), *_keys(variables, asked)]
    spool.execute(f"CREATE TABLE wide ({', '.join(map(_declared, kept))}, {_named(_MARKS)} TEXT)")


def _withhold(spool: sqlite3.Connection, variable: Variable, code: int) -> None:
    """Give the mark of withheld wherever the rule has put its code."""
    assert variable.item is not None
    index, marks = variable.item.index, _named(_MARKS)
    spool.execute(
        f"UPDATE wide SET {marks} = substr({marks}, 1, {index}) || ? || substr({marks}, {index + 2})"
        f" WHERE {_named(variable.name)} = ?",
        (WITHHELD, code),
    )


def _declared(variable: Variable) -> str:
    kind = _TYPES.get(variable.kind, "TEXT") if variable.whole else "REAL"
    return f"{_named(variable.name)} {kind}"


def _columns(variables: Iterable[Variable]) -> str:
    return ", ".join(_named(v.name) for v in variables)


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _load_weights(spool: sqlite3.Connection, path: Path | None) -> bool:
    """Read `interview,weight`. Raises ExportError naming file, row and fault."""
    if path is None:
        return False
    spool.execute("CREATE TABLE weights (interview TEXT PRIMARY KEY, weight REAL)")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            read = csv.reader(file)
            if next(read, []) != ["interview", "weight"]:
                raise ExportError(f"{path}: row 1: the columns must be interview,weight")
            for number, row in enumerate(read, 2):
                try:
                    interview, weight = row
                    if not 0 < float(weight) < float("inf"):
                        raise ValueError
                    spool.execute("INSERT INTO weights VALUES (?, ?)", (interview, float(weight)))
                except ValueError:
                    raise ExportError(
                        f"{path}: row {number}: give an interview id and a number above 0"
                    ) from None
                except sqlite3.IntegrityError:
                    raise ExportError(f"{path}: row {number}: this interview has a weight already") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from None
    return True
