"""Opening, units of work, the schema: from empty, twice, at once, older, newer; times in UTC."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from storage.database import (
    DatabaseURLError,
    SchemaError,
    Write,
    check_schema,
    migrate,
    moments,
    open_engine,
    reading,
    writing,
)
from storage.entries import read_entry
from storage.fold import fold
from storage.models import CodebookItem, CodebookOption, Interview, Respondent, StoredInstrument, table_of
from tests.record_material import SMALL, Dialogue, instrument

RESPONDENT = table_of(Respondent)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://host/name", "postgresql://u:secret@host/name", "", "data.sqlite3"])
def test_an_unknown_scheme_is_refused_without_the_url(url: str) -> None:
    with pytest.raises(DatabaseURLError, match=r"give sqlite:///FILE or postgresql\+psycopg://") as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)


def test_migrations_make_what_the_models_say(engine: Engine) -> None:
    migrate(engine, SMALL)
    check_schema(engine)
    with reading(engine) as db:
        views = {"responses_long", "interviews_wide", "screen_breakoff", "dispositions"}
        ours = inspect(db).get_view_names()
        assert {name for name in ours if not name.startswith("analytics_")} == views
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    for _ in range(2):
        migrate(engine, SMALL)
    with reading(engine) as db:
        assert len(db.execute(select(table_of(StoredInstrument))).all()) == 1
        labels = db.execute(
            select(table_of(CodebookOption).c.option, table_of(CodebookOption).c.label).where(
                table_of(CodebookOption).c.item == "water.overall"
            )
        ).all()
        assert ("agree", "Agree") in {tuple(row) for row in labels}
        assert len(labels) == 7
        assert len(db.execute(select(table_of(CodebookItem))).all()) == len(SMALL.items)


def test_migrations_at_once_take_turns(database_url: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        engine = open_engine(database_url)
        try:
            migrate(engine, SMALL)
        except BaseException as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_older_schema_says_what_to_run(engine: Engine) -> None:
    with pytest.raises(SchemaError, match=r"run `python main\.py migrate`"):
        check_schema(engine)


def test_a_newer_schema_is_refused_and_left_alone(engine: Engine) -> None:
    migrate(engine, SMALL)
    with writing(engine) as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for refuse in (check_schema, lambda e: migrate(e, SMALL)):
        with pytest.raises(SchemaError, match="run the newer release"):
            refuse(engine)
    with reading(engine) as db:
        assert "responses_long" in inspect(db).get_view_names()


def test_other_data_under_a_version_that_was_fielded_is_refused(engine: Engine) -> None:
    other = instrument()
    changed = type(other)(**{f: getattr(other, f) for f in other.__slots__} | {"digest": "changed"})
    migrate(engine, SMALL)
    migrate(engine, changed)  # a draft may change until someone was asked
    migrate(engine, SMALL)
    migrate(engine, instrument("2"))
    d = Dialogue(1)
    d.begin()
    with writing(engine) as db:
        fold(db, [read_entry(json.dumps(d.entries[0]))])
    with pytest.raises(SchemaError, match=r"small@1.*new version"):
        migrate(engine, changed)


def test_times_are_aware_and_utc_on_both_engines(engine: Engine) -> None:
    migrate(engine, SMALL)
    accra_plus_two = timezone(timedelta(hours=2))
    at = datetime(2026, 11, 23, 10, 0, 0, 123000, accra_plus_two)
    with writing(engine) as db:
        db.execute(insert(RESPONDENT).values(pseudonym="a", first_seen_at=at))
    with reading(engine) as db:
        (found,) = db.execute(select(RESPONDENT.c.first_seen_at)).scalars()
        assert found == at
        assert found.tzinfo == UTC
        assert db.execute(select(RESPONDENT).where(RESPONDENT.c.first_seen_at <= at)).first()
    with pytest.raises(Exception, match="without a zone"), writing(engine) as db:
        db.execute(insert(RESPONDENT).values(pseudonym="b", first_seen_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_a_transaction_is_whole_or_not_at_all(engine: Engine) -> None:
    migrate(engine, SMALL)
    with pytest.raises(RuntimeError), writing(engine) as db:
        db.execute(insert(RESPONDENT).values(pseudonym="a", first_seen_at=datetime.now(UTC)))
        raise RuntimeError
    with reading(engine) as db:
        assert db.execute(select(RESPONDENT)).first() is None


def test_foreign_keys_hold(engine: Engine) -> None:
    migrate(engine, SMALL)
    now = datetime.now(UTC)
    with pytest.raises(IntegrityError) as caught, writing(engine) as db:
        db.execute(
            insert(table_of(Interview)).values(
                id="i", respondent="nobody", wave="w", attempt=1, counted=True, began_at=now, last_at=now,
                disposition="complete", last_item="", last_stage="", version=1, language_version=1,
                consented_version=1, outcome_version=1, answered_version=1,
            )
        )  # fmt: skip
    assert "hidden" in str(caught.value)


def test_many_rows_with_nothing_in_a_column(engine: Engine) -> None:
    """Arrays of nulls only, of one row, of none: each a special case of the driver's."""
    migrate(engine, SMALL)
    columns = ("pseudonym", "first_seen_at", "opted_out_at", "consented_at", "consent_version")
    write = Write(Respondent, columns, {"consent_version": "excluded.consent_version"})
    with writing(engine) as db:
        now = moments(db)(datetime.now(UTC))
        write(db, [])
        write(db, [("a", now, None, None, None)])
        write(db, [("a", now, None, None, "1"), ("b", now, None, now, None)])
    with reading(engine) as db:
        found = db.execute(select(RESPONDENT.c.pseudonym, RESPONDENT.c.consent_version)).all()
    assert sorted(map(tuple, found)) == [("a", "1"), ("b", None)]


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    migrate(engine, SMALL)
    with writing(engine) as db:
        db.execute(insert(RESPONDENT).values(pseudonym="a", first_seen_at=datetime.now(UTC)))
        with reading(engine) as other:
            assert other.execute(select(RESPONDENT)).first() is None


def test_writers_at_once_lose_nothing(engine: Engine) -> None:
    migrate(engine, SMALL)
    failures: list[BaseException] = []

    def run(name: str) -> None:
        try:
            for n in range(25):
                with writing(engine) as db:
                    db.execute(select(RESPONDENT)).all()
                    db.execute(
                        insert(RESPONDENT).values(pseudonym=f"{name}{n}", first_seen_at=datetime.now(UTC))
                    )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with reading(engine) as db:
        assert len(db.execute(select(RESPONDENT)).all()) == 100
