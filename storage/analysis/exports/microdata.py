"""Row-level data for others: collected once from one state of the database, then written in any format.

`collect` reads interviews_wide, turns its values into the codes of the file's dictionary, gives every
interview and respondent an id of the file's own, applies the rule for public use, and keeps the rows in
a temporary SQLite file, so that a million interviews pass through memory a batch at a time and every
format is written from the same rows. The rows stand in the order of their new ids, which says nothing of
when an interview was held, nor where it stands in another file.

Ids are keyed hashes with the export's variant and purpose in them. Exports of one variant for one purpose
can be joined with each other, others cannot, and none with the database. (The answers themselves may still
tell which rows of two files belong together. That is for the terms of use to forbid.)
"""

import csv
import hmac
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from flows.instrument import Instrument, Item
from flows.questionnaire import NONRESPONSE_MARKS, NUMBER_GIVEN, UNANSWERED
from storage.analysis.dictionary import (
    PUBLIC,
    PUBLIC_DISPOSITIONS,
    VARIANTS,
    Variable,
    file_variables,
    is_final_weight,
    key_variables,
    long_variables,
    missing_codes,
)
from storage.analysis.exports.final_weights import stored_weights
from storage.analysis.exports.public_use import Protection, even_out, protect
from storage.database import reading
from storage.models import UNFINISHED, WITHDRAWN
from storage.sample import drawn

#: Called with what is being done, steps done and steps in all.
Progress = Callable[[str, int, int], None]
Row = tuple[Any, ...]

_BATCH = 2000
_ID_DIGITS = 24  # 96 bits: no two alike among millions, and too many to try
_SIMULATOR = "simulator"


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
    long_count: int
    waves: tuple[str, ...]
    first_day: str  # ISO; "" without an interview
    last_day: str
    protection: Protection | None  # of a public file
    simulated: int  # interviews left out because nobody dialled for them
    spool: sqlite3.Connection

    @property
    def language(self) -> str:
        return self.asked.language or self.instrument.default_language

    def rows(self) -> Iterator[Row]:
        """Rows of the wide file: int, float, text or None, a cell a variable."""
        cursor = self.spool.execute(f"SELECT {_columns(self.variables)} FROM wide ORDER BY interview")
        while rows := cursor.fetchmany(_BATCH):
            yield from rows

    def long_rows(self) -> Iterator[Row]:
        """Rows of the long file, a row a value of an item, in the order of the wide one."""
        head = [n for n, v in enumerate(self.variables) if v.name in {w.name for w in self.long}]
        words = {v.name: {c.code: c.labels[self.language] for c in v.codes} for v in self.variables}
        missing = {v.name: {c.code for c in v.missing} for v in self.variables}
        items = [(n, v, v.item) for n, v in enumerate(self.variables) if v.item is not None]
        for row in self.rows():
            first = tuple(row[n] for n in head)
            for n, v, item in items:
                value = row[n]
                if value is None:
                    continue
                about = (v.name, item.id, item.service or None, item.attribute or None)
                if v.what == "number":
                    yield (*first, *about, None, value, 0, None)
                else:
                    lacks = int(value in missing[v.name])
                    yield (*first, *about, value, None, lacks, words[v.name][value])

    def counts(self, variable: Variable) -> dict[int | None, int]:
        """Of a category: code -> interviews; None: empty."""
        name = _named(variable.name)
        return dict(self.spool.execute(f"SELECT {name}, COUNT(*) FROM wide GROUP BY {name}").fetchall())


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
        spool.execute(f"CREATE TABLE wide ({', '.join(_declared(v) for v in variables)})")
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
    of_items = " + ".join(f"COUNT({_named(v.name)})" for v in variables if v.item is not None)
    return Microdata(
        asked, instrument, about, now, variables, long_variables(instrument, variables), count,
        spool.execute(f"SELECT {of_items} FROM wide").fetchone()[0],
        tuple(w for (w,) in spool.execute("SELECT DISTINCT wave FROM wide ORDER BY wave")),
        first or "", last or "", protection, simulated, spool,
    )  # fmt: skip


def export_id(key: bytes, asked: Asked, what: str, ours: str) -> str:
    """The id in such exports of the `what` (interview, respondent) that is `ours` in the database.

    The variant is in it too: whoever has both files shall not see which row of one is which of the other.
    Its tag keeps it apart from the pseudonyms made with the same key.
    """
    tagged = json.dumps(["export", asked.variant, asked.purpose, what, ours]).encode()
    return hmac.digest(key, tagged, "sha256").hex()[:_ID_DIGITS]


# ---------------------------------------------------------------- from the view


def _fill(
    db: Connection, spool: sqlite3.Connection, instrument: Instrument, variables: Sequence[Variable],
    asked: Asked, key: bytes, weighed: bool, told: Progress,
) -> int:  # fmt: skip
    """Rows of the view into the spool; how many simulated ones were left out."""
    which, given = _wanted(instrument, asked)
    kept = which if asked.simulated else f"{which} AND COALESCE(aggregator, '') <> '{_SIMULATOR}'"
    # Counted in the table: the view would put every response into its column for that.
    total, everyone = (
        int(db.execute(text(f"SELECT COUNT(*) FROM interview WHERE counted AND {of}"), given).scalar_one())
        for of in (kept, which)
    )
    rows_of_view = db.execute(
        text(f"SELECT * FROM interviews_wide WHERE {kept}"), given, execution_options={"yield_per": _BATCH}
    )
    places = ", ".join("?" * len(variables))
    done = 0
    with closing(rows_of_view) as result:  # also when it fails: it holds a cursor of the server
        told("collecting", 0, total)
        turned = _Turned(instrument, variables, asked, key, list(result.keys()), _drawn(db, asked))
        for partition in result.partitions():
            rows = [turned(tuple(row)) for row in partition]
            if weighed:
                _weigh(spool, variables, partition, rows)
            spool.executemany(f"INSERT INTO wide VALUES ({places})", rows)
            done += len(rows)
            told("collecting", done, total)
    return everyone - total


def _weigh(
    spool: sqlite3.Connection, variables: Sequence[Variable], ours: Sequence[Any], rows: list[list[Any]]
) -> None:
    """Put the final weights of `ours`, rows of the view, into `rows`."""
    at = {v.name: n for n, v in enumerate(variables)}
    for row_of_view, row in zip(ours, rows, strict=True):
        found = spool.execute(
            "SELECT name, weight FROM weights WHERE interview = ?", (row_of_view.interview,)
        )
        for name, weight in found:
            row[at[name]] = weight


def _wanted(instrument: Instrument, asked: Asked) -> tuple[str, dict[str, str]]:
    """Never those withdrawn: of them nothing leaves the house."""
    which = f"disposition <> '{WITHDRAWN}' AND SUBSTR(instrument, 1, :length) = :instrument"
    given: dict[str, Any] = {"instrument": f"{instrument.id}@", "length": len(instrument.id) + 1}
    if asked.variant == PUBLIC:
        which += f" AND disposition IN ({', '.join(repr(d) for d in PUBLIC_DISPOSITIONS)})"
    if asked.wave is not None:
        which += " AND wave = :wave"
        given["wave"] = asked.wave
    return which, given


def _drawn(db: Connection, asked: Asked) -> dict[tuple[str, str], float]:
    """(wave, respondent) -> base weight of the sample. None in a public file: it would tell the stratum."""
    if asked.variant == PUBLIC:
        return {}
    return {(row.wave, row.respondent): 1 / row.probability for row in db.execute(drawn(asked.wave))}


class _Turned:
    """Turns a row of interviews_wide into one of the file."""

    def __init__(
        self,
        instrument: Instrument,
        variables: Sequence[Variable],
        asked: Asked,
        key: bytes,
        columns: list[str],
        drawn: Mapping[tuple[str, str], float],
    ):
        self.drawn = drawn
        self.instrument, self.asked, self.key = instrument, asked, key
        self.at = {name: n for n, name in enumerate(columns)}
        self.reached = missing_codes(instrument)["not_reached"]
        self.cells: list[Callable[[Row, list[bool]], Any]] = [self.cell(v) for v in variables]
        self.marks = [self.mark(item) for item in instrument.items]
        self.nothing = [False] * len(instrument.items)

    def __call__(self, row: Row) -> list[Any]:
        open_ = self.not_reached(row)
        return [cell(row, open_) for cell in self.cells]

    def base(self, row: Row) -> float:
        """1 over the probability with which the sample was drawn; 1 for whoever is in none."""
        return self.drawn.get((row[self.at["wave"]], row[self.at["respondent"]]), 1.0)

    def not_reached(self, row: Row) -> list[bool]:
        """Items that the interview was left before: those that its answers do not rule out.

        Only of an interview held on this very version, since another one may lead other ways.
        """
        at, instrument = self.at, self.instrument
        if row[at["disposition"]] not in UNFINISHED or row[at["instrument"]] != instrument.reference:
            return self.nothing
        given = set((row[at["blocks"]] or "").split())
        marks = [mark(row) for mark in self.marks]
        open_ = list(self.nothing)
        for item in instrument.items:
            block = instrument.blocks[item.block]
            if marks[item.index] != UNANSWERED or (block.drawn and block.id not in given):
                continue
            open_[item.index] = not item.ask_if or any(
                all(open_[index] or marks[index] in wanted for index, wanted in every)
                for every in item.ask_if
            )
        return open_

    def mark(self, item: Item) -> Callable[[Row], str]:
        """What the item's answer was, as the questionnaire's conditions know it."""
        reasons = {self.instrument.codes[n]: m for n, m in NONRESPONSE_MARKS.items() if n in item.nonresponse}
        if item.kind == "number":
            number, why = self.at[item.column], self.at[f"{item.column}_nonresponse"]
            return lambda row: NUMBER_GIVEN if row[number] is not None else reasons.get(row[why], UNANSWERED)
        assert item.scale is not None
        known = {o.code: o.mark for o in item.scale.options} | reasons
        column = self.at[item.column]
        return lambda row: known.get(row[column], UNANSWERED)

    def cell(self, variable: Variable) -> Callable[[Row, list[bool]], Any]:
        name, item = variable.name, variable.item
        if item is not None:
            return self.answer(variable, item)
        if name in ("interview", "respondent"):
            place = self.at[name]
            return lambda row, _: export_id(self.key, self.asked, name, row[place])
        if name in ("began_on", "began_month"):
            began, length = self.at["began_at"], 10 if name == "began_on" else 7
            return lambda row, _: _day(row[began])[:length]
        if is_final_weight(name):
            return lambda row, _: None  # put in afterwards
        if name == "weight_base":
            return lambda row, _: self.base(row)
        if name.startswith("weight_"):
            block, blocks, chances = name.removeprefix("weight_"), self.at["blocks"], self.at["probabilities"]

            def of_block(row: Row, _: list[bool]) -> float | None:
                weight = _block_weight(block, row[blocks], row[chances])
                return None if weight is None else weight * self.base(row)

            return of_block
        place = self.at[name]
        if not variable.codes:
            return lambda row, _: row[place]
        known = {c.value: c.code for c in variable.codes}
        return lambda row, _: None if row[place] is None else self.known(known, row, place, name)

    def answer(self, variable: Variable, item: Item) -> Callable[[Row, list[bool]], Any]:
        name, place = variable.name, self.at[variable.name]
        if variable.what == "number":
            return lambda row, _: row[place]
        known = {c.value: c.code for c in variable.codes}
        # A group that is empty has its reason beside the number; a number in no group has none.
        number = self.at[item.column] if item.kind == "number" else None
        why = self.at[f"{item.column}_nonresponse"] if variable.what == "group" else place

        def code(row: Row, open_: list[bool]) -> int | None:
            at = place if row[place] is not None else why
            if row[at] is not None:
                return self.known(known, row, at, name)
            return self.reached if open_[item.index] and (number is None or row[number] is None) else None

        return code

    def known(self, known: Mapping[int | str, int], row: Row, place: int, name: str) -> int:
        try:
            return known[row[place]]
        except KeyError:
            version = row[self.at["instrument"]]
            raise ExportError(
                f"{name}: interviews on {version} have a code that {self.instrument.reference} does not know;"
                " export their wave alone, with that version of the instrument"
            ) from None


def _day(at: Any) -> str:
    """The day, UTC, of a time as a driver gives it: text on SQLite, aware on PostgreSQL."""
    return at[:10] if isinstance(at, str) else at.astimezone(UTC).date().isoformat()


def _block_weight(block: str, blocks: str | None, probabilities: str | None) -> float | None:
    if block not in (blocks or "").split():
        return None
    return 1.0 / float(json.loads(probabilities or "{}").get(block, 1.0))


# ---------------------------------------------------------------- the spool

_TYPES = {"category": "INTEGER", "number": "INTEGER"}


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
