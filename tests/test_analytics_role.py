"""The schema `analytics` and the logins that may read it, on a real PostgreSQL; the views on both engines."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, inspect, text

from storage.analysis import analytics
from storage.analysis.analyst_role import RoleError, give_login, take_login
from storage.analysis.release import Release, Rules, make
from storage.analysis.released import keep_release
from storage.database import migrate, open_engine, reading, writing
from tests import figures_material
from tests.record_material import SMALL, Dialogue, complete, fold_all
from tests.stores import PostgreSQL

_names = count(1)


def release(wave: str = "w", version: int = 1) -> Release:
    return Release(
        wave=wave, version=version, issued="2026-11-23", reason="First version.", instrument="x@1",
        owner="Office", contact="0800", licence="-", weighted=False, margins=(), probability_sample=False,
        interviews=1200, material="m", software="0", rules=Rules(),
        estimates=make(figures_material.table(wave=wave), Rules()),
    )  # fmt: skip


def fill(engine: Engine) -> None:
    migrate(engine, SMALL)
    left = Dialogue(901)
    left.begin()
    left.hop({"kind": "InvalidReply", "item": "consent", "tries": 1})
    left.consent()
    gone = Dialogue(902)
    gone.begin()
    gone.consent()
    gone.withdraw()
    entries = [e for d in [*(complete(n) for n in range(1, 21)), left, gone] for e in d.entries]
    fold_all(engine, entries)
    with writing(engine) as db:
        keep_release(db, release())


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    fill(engine)
    yield engine
    engine.dispose()


def relation(engine: Engine, name: str) -> str:
    return f"analytics.{name}" if engine.dialect.name == "postgresql" else f"analytics_{name}"


def rows(engine: Engine, name: str) -> list[dict[str, object]]:
    with reading(engine) as db:
        return [dict(r._mapping) for r in db.execute(text(f"SELECT * FROM {relation(engine, name)}"))]


def test_every_view_has_the_columns_it_says_and_rows(engine: Engine) -> None:
    shown = {name: rows(engine, name) for name in analytics.NAMES}
    for view in analytics.views(SMALL, engine.dialect.name):
        assert shown[view.name], view.name
        assert list(shown[view.name][0]) == [c.name for c in view.columns]
        keys = [tuple(row[k] for k in view.key) for row in shown[view.name]]
        assert len(set(keys)) == len(keys) and not any(None in k for k in keys), view.name
    assert tuple(v.name for v in analytics.views(SMALL, "sqlite")) == analytics.NAMES
    assert {len(shown[n]) for n in ("respondent", "disposition")} == {22}
    assert {len(shown[n]) for n in ("answer_wide", "paradata")} == {21}  # nothing of who withdrew
    assert len(shown["estimate"]) == len(figures_material.table())


def test_views_agree_with_those_of_the_office(engine: Engine) -> None:
    with reading(engine) as db:
        long = db.execute(text("SELECT interview, item, code, value FROM responses_long")).all()
    ours = [(r["interview"], r["item"], r["code"], r["value"]) for r in rows(engine, "answer_long")]
    assert sorted(map(str, ours)) == sorted(str(tuple(r)) for r in long)


def test_paradata_counts_what_happened(engine: Engine) -> None:
    row = next(r for r in rows(engine, "paradata") if str(r["respondent"]).endswith("385"))  # 901
    assert (row["sessions"], row["hops"], row["invalid_replies"], row["redials"], row["answers"]) == (
        1,
        3,
        1,
        0,
        1,
    )
    assert row["answer_seconds"] == 4.2


def test_weights_are_those_of_the_draw(database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine, SMALL)
    d = Dialogue(1)
    began = d.begin()
    began["effects"][0] |= {"blocks": "roads", "probabilities": {"roads": 0.25, "water": 0.75}}
    fold_all(engine, d.entries)
    assert [(r["block"], r["probability"], r["base_weight"]) for r in rows(engine, "weight")] == [
        ("roads", 0.25, 4.0)
    ]
    engine.dispose()


def test_hidden_figures_are_empty(engine: Engine) -> None:
    hidden = [r for r in rows(engine, "estimate") if r["mark"] == "c"]
    unsure = [r for r in rows(engine, "estimate") if r["mark"] == "u"]
    assert hidden and unsure
    for row in hidden:
        assert {row[c] for c in ("n", "share", "se", "low", "high", "refused", "not_reached")} == {None}
    for row in unsure:
        assert {row[c] for c in ("share", "se", "low", "high")} == {None} and row["n"]


def test_migrating_again_keeps_the_views(engine: Engine) -> None:
    before = rows(engine, "estimate")
    migrate(engine, SMALL)
    assert rows(engine, "estimate") == before


def test_sqlite_is_read_with_mode_ro(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    path = engine.url.database
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        assert db.execute("SELECT COUNT(*) FROM analytics_answer_wide").fetchone() == (21,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM interview")
    db.close()
    with pytest.raises(RoleError, match="SQLite has no roles"):
        give_login(engine, "ama")


# ---------------------------------------------------------------- PostgreSQL


@pytest.fixture
def filled(postgres_server: PostgreSQL) -> Iterator[Engine]:
    name = f"role_{next(_names)}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    engine = open_engine(postgres_server.url(name))
    fill(engine)
    yield engine
    engine.dispose()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def analyst(filled: Engine, postgres_server: PostgreSQL) -> Iterator[psycopg.Connection]:
    give_login(filled, "ama")
    db = psycopg.connect(
        f"host={postgres_server.folder} user=ama dbname={filled.url.database}", autocommit=True
    )
    yield db
    db.close()
    take_login(filled, "ama")


def test_an_analyst_reads_every_view_by_its_bare_name(analyst: psycopg.Connection) -> None:
    for name in analytics.NAMES:
        found = analyst.execute(f"SELECT COUNT(*) FROM {name}".encode()).fetchone()
        assert found and found[0] > 0, name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM public.interview",
        "SELECT * FROM public.response",
        "SELECT * FROM public.respondent",
        "SELECT * FROM public.export_audit",
        "SELECT * FROM public.released_estimate",
        "SELECT * FROM public.final_weight",
        "SELECT * FROM public.interviews_wide",
        "CREATE TABLE t (x int)",
        "CREATE TABLE public.t (x int)",
        "CREATE TABLE analytics.t (x int)",
        "CREATE TEMPORARY TABLE t (x int)",
        "CREATE SCHEMA s",
        "CREATE VIEW analytics.v AS SELECT 1",
        "DELETE FROM analytics.respondent",
        "UPDATE analytics.respondent SET consent_version = 'x'",
        "INSERT INTO analytics.respondent (respondent) VALUES ('x')",
        "DROP VIEW analytics.estimate",
        "ALTER ROLE ama CREATEROLE",
        "CREATE ROLE eve",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_an_analyst_may_do_nothing_else(analyst: psycopg.Connection, statement: str, read_only: bool) -> None:
    """Also after switching the setting off: it is no lock."""
    if not read_only:
        analyst.execute("SET default_transaction_read_only = off")
    with pytest.raises(
        (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
    ) as caught:
        analyst.execute(statement.encode())
    if not read_only:
        assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege)


def test_an_analyst_s_settings(analyst: psycopg.Connection) -> None:
    def shown(name: str) -> object:
        row = analyst.execute(f"SHOW {name}".encode()).fetchone()
        return row and row[0]

    assert shown("default_transaction_read_only") == "on" and shown("search_path") == "analytics"
    assert shown("statement_timeout") == "5min" and shown("idle_in_transaction_session_timeout") == "1min"
    limit = analyst.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'ama'").fetchone()
    assert limit == (10,)


def test_no_function_sees_the_rows_that_a_view_leaves_out(analyst: psycopg.Connection) -> None:
    """Security barrier: a condition of the reader's own runs after those of the view."""
    options = analyst.execute(
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'analytics'::regnamespace"
    ).fetchall()
    assert len(options) == len(analytics.NAMES)
    assert all(o == ["security_barrier=true"] for _, o in options)


def test_every_view_and_column_has_a_comment(filled: Engine) -> None:
    with reading(filled) as db:
        for name in analytics.NAMES:
            assert inspect(db).get_table_comment(name, schema="analytics")["text"], name
            for c in inspect(db).get_columns(name, schema="analytics"):
                assert c["comment"], f"{name}.{c['name']}"


def test_a_password_is_rotated_and_no_log_has_it(filled: Engine, postgres_server: PostgreSQL) -> None:
    postgres_server.execute("ALTER SYSTEM SET log_statement = 'all'")
    postgres_server.execute("SELECT pg_reload_conf()")
    try:
        first = give_login(filled, "kofi")
        second = give_login(filled, "kofi")
        assert (first.new, second.new) == (True, False) and first.password != second.password
        assert first.password not in repr(first)
        with reading(filled) as db:
            stored = db.execute(text("SELECT rolpassword FROM pg_authid WHERE rolname = 'kofi'")).scalar_one()
        assert stored.startswith("SCRAM-SHA-256$")
        log = (postgres_server.folder / "log").read_text()
        assert "ALTER ROLE kofi" in log
        assert first.password not in log and second.password not in log
        line = second.pgpass().strip().split(":")
        assert line[-2:] == ["kofi", second.password] and len(line) == 5
    finally:
        postgres_server.execute("ALTER SYSTEM RESET log_statement")
        postgres_server.execute("SELECT pg_reload_conf()")
        take_login(filled, "kofi")
    with pytest.raises(RoleError, match="no login of an analyst"):
        take_login(filled, "kofi")


def test_whose_role_it_is_not_is_left_alone(filled: Engine) -> None:
    for name, said in (
        ("dial16", "is a role already"),
        ("dial16_analyst", "lower-case"),
        ('x"; DROP ROLE dial16; --', "lower-case"),
        ("pg_read_all_data", "lower-case"),
    ):
        with pytest.raises(RoleError, match=said):
            give_login(filled, name)
    with pytest.raises(RoleError, match="no login of an analyst"):
        take_login(filled, "dial16")


def test_a_migration_by_a_user_who_may_make_no_roles(postgres_server: PostgreSQL) -> None:
    """The views are there; the group is used if it is there, and a login asks for the right."""
    name = f"role_{next(_names)}"
    postgres_server.execute("CREATE ROLE plain LOGIN")
    postgres_server.execute(f"CREATE DATABASE {name} OWNER plain")
    engine = open_engine(postgres_server.url(name).replace("dial16@", "plain@"))
    migrate(engine, SMALL)
    with reading(engine) as db:
        assert db.execute(text("SELECT COUNT(*) FROM analytics.respondent")).scalar() == 0
    with pytest.raises(RoleError, match="CREATEROLE"):
        give_login(engine, "ama")
    engine.dispose()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    postgres_server.execute("DROP ROLE plain")


def test_a_question_for_a_page_uses_the_index(filled: Engine) -> None:
    """A barrier that kept conditions out would read every answer for each page."""
    with reading(filled) as db:
        db.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(
            db.execute(
                text(
                    "EXPLAIN SELECT * FROM analytics.answer_long WHERE (interview, item) > ('5', 'x')"
                    " ORDER BY interview, item LIMIT 5"
                )
            ).scalars()
        )
    assert "response_pkey" in plan and "Index Cond" in plan, plan


def test_the_verb_writes_the_password_to_a_file_and_shows_it_to_nobody(
    filled: Engine, postgres_server: PostgreSQL, tmp_path: Path
) -> None:
    main = Path(__file__).resolve().parent.parent / "main.py"
    address = filled.url.render_as_string(hide_password=False)
    wave = tmp_path / "none"  # the verb needs no wave

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "DIAL16_DATABASE_URL": address, "DIAL16_WAVE_FILE": str(wave)}
        return subprocess.run(
            [sys.executable, str(main), "analyst", *words], env=environ, cwd=tmp_path, text=True,
            capture_output=True,
        )  # fmt: skip

    done = run("esi")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "esi.pgpass"
    password = file.read_text().strip().rpartition(":")[2]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and len(password) == 32
    assert password not in done.stdout + done.stderr
    refused = run("esi", "--out", str(tmp_path / "nowhere" / "x"))
    assert refused.returncode == 1 and "cannot be written" in refused.stderr
    assert file.read_text().strip().rpartition(":")[2] == password
    assert run("dial16").stderr.startswith("dial16: dial16: is a role already")
    assert not (tmp_path / "dial16.pgpass").exists()
    assert run("esi", "--remove").returncode == 0
    assert "no login of an analyst" in run("esi", "--remove").stderr
