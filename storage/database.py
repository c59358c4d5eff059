"""The SQL database: opening it, units of work, writing many rows, its schema.

All that differs between engines stands in `_ENGINES` and the two functions it names a row of; the
scheme of the URL picks the row. Everything else is the same code on both.

A unit of work is `with writing(engine) as db:` (one transaction) or `with reading(engine) as db:`.
On SQLite a writer takes the lock at once (BEGIN IMMEDIATE): begun as a reader it would be refused
half-way whenever another one wrote in between.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.types import BigInteger, Boolean, Float, Integer
from sqlmodel import SQLModel

from flows.instrument import NONRESPONSE, Instrument
from storage.models import (
    CodebookItem,
    CodebookOption,
    Interview,
    Moment,
    StoredInstrument,
    as_text,
    table_of,
)

_MIGRATIONS = Path(__file__).parent / "migrations"
_READS = "dial16_reads"  # execution option of a transaction that will not write
_MIGRATION_LOCK = 0x5DE16  # advisory lock: two `migrate` at once take turns
_TURNS = 0x5DE17  # space of the advisory locks of `take_turn`


class DatabaseURLError(ValueError):
    """The database URL names no engine that we work on."""


class SchemaError(Exception):
    """The database is not in the shape that this release reads and writes. Says what to do."""


# ---------------------------------------------------------------- what differs between engines


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # the driver leaves transactions to us
        for pragma in ("journal_mode=WAL", "busy_timeout=30000", "foreign_keys=ON", "synchronous=FULL"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(db: Connection) -> None:
        reads = db.get_execution_options().get(_READS)
        db.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _prepare_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(raw: Any, _record: Any) -> None:
        raw.execute("SET TIME ZONE 'UTC'")
        raw.commit()


def _values_rows(table: Table, columns: Sequence[str]) -> str:
    return f"VALUES ({', '.join('?' * len(columns))})"


def _unnest_rows(table: Table, columns: Sequence[str]) -> str:
    """One array a column, sent in binary: a quarter of executemany's time on our side (measured)."""
    arrays = ", ".join(f"%b::{_array_type(table, name)}[]" for name in columns)
    return f"SELECT * FROM unnest({arrays})"


def _in_json(column: Column[str], values: Collection[str]) -> ColumnElement[bool]:
    listed = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(listed.c.value))


def _in_array(column: Column[str], values: Collection[str]) -> ColumnElement[bool]:
    # Not `= ANY(array)`: in a prepared plan that compares every row with every value in turn.
    return column.in_(select(func.unnest(bindparam(None, list(values), type_=ARRAY(Text))).column_valued()))


def _array_type(table: Table, column: str) -> str:
    kind = table.c[column].type
    if isinstance(kind, Moment):
        return "timestamptz"
    for ours, theirs in ((BigInteger, "bigint"), (Integer, "integer"), (Boolean, "boolean"),
                         (Float, "double precision")):  # fmt: skip
        if isinstance(kind, ours):
            return theirs
    return "text"


@dataclass(frozen=True)
class _Engine:
    options: Mapping[str, Any]  # of create_engine
    prepare: Callable[[Engine], None]
    rows: Callable[[Table, Sequence[str]], str]  # source of rows for INSERT
    by_column: bool  # parameters are one list a column, not one tuple a row
    moment: Callable[[datetime | None], Any]  # an instant as the driver takes it
    among: Callable[[Column[str], Collection[str]], ColumnElement[bool]]
    lock_migrations: str
    turn: str  # waits until no other transaction has the turn of :name
    snapshot: Mapping[str, Any]  # execution options: several reads see one state


#: A server that no longer answers is noticed in seconds, not in the two hours of the system's defaults.
_NETWORK = {
    "connect_timeout": 5, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}  # fmt: skip

_ENGINES: Mapping[str, _Engine] = {
    "sqlite": _Engine(
        options={},
        prepare=_prepare_sqlite,
        rows=_values_rows,
        by_column=False,
        moment=as_text,
        among=_in_json,
        lock_migrations="SELECT 1",  # BEGIN IMMEDIATE is the lock
        turn="SELECT :name",  # likewise
        snapshot={_READS: True},
    ),
    "postgresql+psycopg": _Engine(
        options={"pool_pre_ping": True, "connect_args": _NETWORK},
        prepare=_prepare_postgresql,
        rows=_unnest_rows,
        by_column=True,
        moment=lambda value: value,
        among=_in_array,
        lock_migrations=f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})",
        turn=f"SELECT pg_advisory_xact_lock({_TURNS}, hashtext(:name))",
        snapshot={_READS: True, "isolation_level": "REPEATABLE READ"},
    ),
}


def _ours(engine: Engine) -> _Engine:
    return _ENGINES[engine.url.drivername]


# ---------------------------------------------------------------- opening and units of work


def open_engine(url: str, **options: Any) -> Engine:
    """The engine for `sqlite:///path` or `postgresql+psycopg://...`; `options` go to create_engine.

    Parameters never appear in its errors: they are answers. Raises DatabaseURLError.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in _ENGINES:
        scheme = "no scheme" if parsed is None else repr(parsed.drivername)
        raise DatabaseURLError(
            f"the database URL has {scheme}; give sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        )
    ours = _ENGINES[parsed.drivername]
    engine = create_engine(parsed, hide_parameters=True, **{**ours.options, **options})
    ours.prepare(engine)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, rolled back on an exception."""
    with engine.begin() as db:
        yield db


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads, all of it from one state of the database."""
    with engine.connect().execution_options(**_ours(engine).snapshot) as db:
        yield db


def take_turn(db: Connection, name: str) -> None:
    """Wait until no other transaction of `writing` has taken the turn of this name; it ends with the
    transaction. What the others wrote is read from here on."""
    db.execute(text(_ours(db.engine).turn), {"name": name})


# ---------------------------------------------------------------- writing many rows


class Write:
    """INSERT ... ON CONFLICT for many rows of one table, as tuples in the order of `columns`.

    `update` says what a row already there takes on: columns of the new one, or a column and an
    expression on `excluded` (the new row) and the table; none: it stays as it is. `where` is the
    condition for that.
    """

    def __init__(
        self,
        model: type[SQLModel],
        columns: Sequence[str],
        update: Sequence[str] | Mapping[str, str] = (),
        where: str = "",
    ):
        self.table = table_of(model)
        self.columns = tuple(columns)
        self.key = tuple(c.name for c in self.table.primary_key)
        action = "DO NOTHING"
        if update:
            if not isinstance(update, Mapping):
                update = {c: f"excluded.{c}" for c in update}
            action = "DO UPDATE SET " + ", ".join(f"{c} = {value}" for c, value in update.items())
            action += f" WHERE {where}" if where else ""
        self.action = f"ON CONFLICT ({', '.join(self.key)}) {action}"
        self.statements: dict[str, str] = {}

    def __call__(self, db: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write `rows`, no two with one key. Values as the driver takes them (see `moments`)."""
        if not rows:
            return
        ours = _ours(db.engine)
        statement = self.statements.get(db.engine.url.drivername)
        if statement is None:
            statement = (
                f"INSERT INTO {self.table.name} ({', '.join(self.columns)}) "
                f"{ours.rows(self.table, self.columns)} {self.action}"
            )
            self.statements[db.engine.url.drivername] = statement
        if ours.by_column:
            db.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
        else:
            db.exec_driver_sql(statement, list(rows))


def among(db: Connection, column: Column[str], values: Collection[str]) -> ColumnElement[bool]:
    """`column IN values` as one parameter: however many, and the statement stays the same."""
    return _ours(db.engine).among(column, values)


def moments(db: Connection) -> Callable[[datetime | None], Any]:
    """Turns an aware datetime, in UTC, into what this engine's driver takes for a `Moment`."""
    return _ours(db.engine).moment


# ---------------------------------------------------------------- schema


def _config(db: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = db
    return config


def migrate(engine: Engine, instrument: Instrument) -> None:
    """Bring the database to this release's schema, store the instrument, create the views.

    One transaction, safe to run several times and several at once. Raises SchemaError if the
    database is newer, or if interviews were held with other data under the instrument's version.
    """
    from storage.analysis.analytics import create_analytics, drop_analytics
    from storage.analysis.views import create_views, drop_views  # they read tables defined by now

    with writing(engine) as db:
        db.execute(text(_ours(engine).lock_migrations))
        _refuse_newer(db)
        drop_analytics(db)
        drop_views(db)
        command.upgrade(_config(db), "head")
        store_instrument(db, instrument)
        create_views(db, instrument)
        create_analytics(db, instrument)


def check_schema(engine: Engine) -> None:
    """Return if the database has this release's schema; else raise SchemaError saying what to do."""
    with reading(engine) as db:
        _refuse_newer(db)
        if MigrationContext.configure(db).get_current_revision() != _script().get_current_head():
            raise SchemaError("the database is older than this release: run `python main.py migrate`")


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _refuse_newer(db: Connection) -> None:
    current = MigrationContext.configure(db).get_current_revision()
    if current is not None and current not in {r.revision for r in _script().walk_revisions()}:
        raise SchemaError(
            f"the database (schema {current}) is newer than this release: run the newer release,"
            " or restore the backup made before it"
        )


def store_instrument(db: Connection, instrument: Instrument) -> None:
    """Keep the instrument and its codebook, so that SQL has every label. Raises SchemaError."""
    reference = instrument.reference
    stored = table_of(StoredInstrument)
    digest = db.execute(select(stored.c.digest).where(stored.c.reference == reference)).scalar()
    if digest == instrument.digest:
        return
    interviews = table_of(Interview)
    if digest is not None:
        if db.execute(select(interviews.c.id).where(interviews.c.instrument == reference).limit(1)).first():
            raise SchemaError(
                f"interviews were held with other data under {reference}; give the instrument a new version"
            )
        for codebook in (table_of(CodebookOption), table_of(CodebookItem)):
            db.execute(delete(codebook).where(codebook.c.instrument == reference))
        db.execute(delete(stored).where(stored.c.reference == reference))
    db.execute(insert(stored), [_stored(instrument)])
    db.execute(insert(table_of(CodebookItem)), list(_codebook_items(instrument)))
    db.execute(insert(table_of(CodebookOption)), list(_codebook_options(instrument)))


def _stored(instrument: Instrument) -> dict[str, Any]:
    sources = json.dumps(dict(instrument.sources), ensure_ascii=False)
    return {"reference": instrument.reference, "digest": instrument.digest, "sources": sources}


def _codebook_items(instrument: Instrument) -> Iterable[dict[str, Any]]:
    for i in instrument.items:
        yield {
            "instrument": instrument.reference, "item": i.id, "position": i.index, "variable": i.column,
            "block": instrument.blocks[i.block].id, "kind": i.kind, "role": i.role, "number": i.number,
            "service": i.service, "attribute": i.attribute, "label": i.label,
        }  # fmt: skip


def _codebook_options(instrument: Instrument) -> Iterable[dict[str, Any]]:
    """Labels are in the default language; nonresponse takes the words of its menu."""
    language = instrument.languages[instrument.default_language]
    for i in instrument.items:
        options = (
            [(o.id, o.code, language.options[i.scale.id][o.id], o.iso, False) for o in i.scale.options]
            if i.scale
            else []
        )
        options += [
            (n, instrument.codes[n], language.prompts[n], "", True) for n in NONRESPONSE if n in i.nonresponse
        ]
        for position, (option, code, label, iso, nonresponse) in enumerate(options):
            yield {
                "instrument": instrument.reference, "item": i.id, "option": option, "position": position,
                "code": code, "label": label, "iso": iso, "nonresponse": nonresponse,
            }  # fmt: skip
