"""Row-level data for others: collected once from one state of the database, then written in any format.

`collect` reads the interviews with their marks, gives every interview and respondent an id of the file's
own, applies the rule for public use, and keeps the rows in a temporary SQLite file, so that a million
interviews pass through memory a batch at a time and every format is written from the same rows. The rows
stand in the order of their new ids, which says nothing of when an interview was held, nor where it stands in
another file. An interview's answers are kept as one text of marks (`answers`): a format looks up what each
stands for, and works nothing out twice.
"""

import csv
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from operator import getitem, itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from flows.instrument import Instrument
from storage.analysis.dictionary import (
    PUBLIC,
    VARIANTS,
    Variable,
    file_variables,
    key_variables,
    long_variables,
    missing_codes,
)
from storage.analysis.exports.answers import WITHHELD, codes_of, is_marked
from storage.analysis.exports.asked import Asked, ExportError, Progress, Values, export_id
from storage.analysis.exports.final_weights import stored_weights
from storage.analysis.exports.interviews import (
    MARKS,
    Row,
    Turned,
    count_interviews,
    kept_apart,
    select_interviews,
)
from storage.analysis.exports.public_use import Protection, even_out, protect
from storage.database import reading

__all__ = [
    "Asked",
    "ExportError",
    "Microdata",
    "Progress",
    "Row",
    "Values",
    "batches",
    "collect",
    "export_id",
]

_BATCH = 2000


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
        return codes_of(self.instrument, variable) if is_marked(variable) else None

    def marked(self) -> Iterator[list[Row]]:
        """Batches of rows, a cell a variable: the mark that its code is read from (`codes`), or its value."""
        stored = [v for v in self.variables if not is_marked(v)]
        at = {v.name: n for n, v in enumerate(stored)}
        picked = itemgetter(
            *(len(stored) + v.item.index if v.item and is_marked(v) else at[v.name] for v in self.variables)
        )
        cursor = self.spool.execute(
            f"SELECT {_columns(stored)}, {_named(MARKS)} FROM wide ORDER BY interview"
        )
        while rows := cursor.fetchmany(_BATCH):
            yield [picked((*row[:-1], *row[-1])) for row in rows]

    def rows(self, worded: bool = False) -> Iterator[Row]:
        """Rows of the wide file: int, float, text or None, a cell a variable. worded: words for each code."""
        tables: list[dict[Any, Any]] = []
        for v in self.variables:
            words: dict[Any, str] = {c.code: c.labels[self.language] for c in v.codes} if worded else {}
            codes = self.codes(v)
            tables.append(_Same(words) if codes is None else {m: words.get(c, c) for m, c in codes.items()})
        for batch in self.marked():
            for row in batch:
                yield tuple(map(getitem, tables, row))

    def longest(self, variable: Variable) -> int:
        """Of a text: bytes of UTF-8 of the longest one."""
        length = f"MAX(LENGTH(CAST({_named(variable.name)} AS BLOB)))"
        return int(self.spool.execute(f"SELECT {length} FROM wide").fetchone()[0] or 0)

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
    weight by the database's interview id; None: those of the waves' releases, where they have some.
    Raises ExportError, DictionaryError.
    """
    told = progress or (lambda what, done, total: None)
    about = about or Values()
    if asked.variant not in VARIANTS:
        raise ExportError(f"variant {asked.variant!r} is unknown; give one of {', '.join(VARIANTS)}")
    if asked.language and asked.language not in instrument.languages:
        raise ExportError(f"language {asked.language!r} is unknown; known: {', '.join(instrument.languages)}")
    final, stored = {"weight": "Final weight"}, None
    if weights is None:
        with reading(engine) as db:
            stored = stored_weights(db, instrument, asked.wave)
        final = {} if stored is None else stored.labels(evened=asked.variant == PUBLIC)
    variables = file_variables(instrument, asked.variant, final=final, values=about.inserted())
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".collected.") as place,
        closing(sqlite3.connect(Path(place) / "rows", isolation_level=None)) as spool,
    ):
        # Nobody else reads this file, and nothing of it outlives this block.
        spool.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; BEGIN"
        )
        _create(spool, variables, asked)
        spool.execute(_WEIGHTS)
        _load_weights(spool, weights)
        with reading(engine) as db:
            if stored is not None:
                stored.put_aside(db, spool)
            simulated = _fill(db, spool, instrument, variables, asked, key, bool(final), told)
        if weights is not None and spool.execute("SELECT COUNT(weight) FROM wide").fetchone()[0] == 0:
            raise ExportError(
                f"{weights}: none of its interviews is in this export; see that its ids are those of the"
                " column interview in interviews_wide"
            )
        protection = None
        if asked.variant == PUBLIC:
            keys = [v.name for v in key_variables(variables)]
            withheld = missing_codes(instrument)["withheld"]
            protection = protect(spool, keys, withheld, weights=tuple(final))
            if stored is not None:
                even_out(spool, keys, tuple(final))
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


# ---------------------------------------------------------------- from the database


def _fill(
    db: Connection, spool: sqlite3.Connection, instrument: Instrument, variables: Sequence[Variable],
    asked: Asked, key: bytes, weighed: bool, told: Progress,
) -> int:  # fmt: skip
    """Interviews into the spool; how many simulated ones were left out."""
    total, everyone = (count_interviews(db, instrument, asked, kept) for kept in (asked.simulated, True))
    query = select_interviews(instrument, asked)
    turned = Turned(db, instrument, variables, asked, key)
    places = ", ".join("?" * len(turned.columns))
    done = 0
    with closing(db.execute(query, execution_options={"yield_per": _BATCH})) as result:
        # Closed also when it fails: it holds a cursor of the server.
        told("collecting", 0, total)
        for partition in result.partitions(_BATCH):  # without a size, SQLAlchemy 2.1 gives all at once
            rows = [turned(tuple(row)) for row in partition]
            if weighed:
                _weigh(spool, turned.columns, partition, rows)
            spool.executemany(f"INSERT INTO wide VALUES ({places})", rows)
            done += len(rows)
            told("collecting", done, total)
    return everyone - total


def _weigh(
    spool: sqlite3.Connection, columns: Sequence[str], interviews: Sequence[Any], rows: Sequence[list[Any]]
) -> None:
    """Put the final weights of `interviews`, by the database's ids, into their rows of `columns`."""
    at = {name: n for n, name in enumerate(columns)}
    for interview, row in zip(interviews, rows, strict=True):
        found = spool.execute("SELECT name, weight FROM weights WHERE interview = ?", (interview.interview,))
        for name, weight in found:
            row[at[name]] = weight


# ---------------------------------------------------------------- the spool

_TYPES = {"category": "INTEGER", "number": "INTEGER"}


def _create(spool: sqlite3.Connection, variables: Sequence[Variable], asked: Asked) -> None:
    kept = [*(v for v in variables if not is_marked(v)), *kept_apart(variables, asked)]
    spool.execute(f"CREATE TABLE wide ({', '.join(map(_declared, kept))}, {_named(MARKS)} TEXT)")


def _withhold(spool: sqlite3.Connection, variable: Variable, code: int) -> None:
    """Give the mark of withheld wherever the rule has put its code."""
    assert variable.item is not None
    index, marks = variable.item.index, _named(MARKS)
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


#: By the database's interview id, and the column of the file that the weight goes into.
_WEIGHTS = "CREATE TABLE weights (interview TEXT, name TEXT, weight REAL, PRIMARY KEY (interview, name))"


def _load_weights(spool: sqlite3.Connection, path: Path | None) -> None:
    """Read `interview,weight`. Raises ExportError naming file, row and fault."""
    if path is None:
        return
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
                    spool.execute("INSERT INTO weights VALUES (?, 'weight', ?)", (interview, float(weight)))
                except ValueError:
                    raise ExportError(
                        f"{path}: row {number}: give an interview id and a number above 0"
                    ) from None
                except sqlite3.IntegrityError:
                    raise ExportError(f"{path}: row {number}: this interview has a weight already") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from None
