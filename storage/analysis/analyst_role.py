"""Logins for analysts on PostgreSQL: made, given a new password, or taken away.

A login is in the group `dial16_analyst` (see `analytics`) and has no other rights. What keeps it from writing
is that nobody granted it that; the setting `default_transaction_read_only` only saves the well-meaning, since
whoever is connected can switch it off. The password is made here, leaves as a line of a `.pgpass` file, and
goes to the server as a SCRAM verifier, so that no statement log has it.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from storage.analysis.analytics import GROUP, SCHEMA, group_there
from storage.database import writing

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")  # needs no quotes anywhere
CONNECTIONS = 10
#: What every session of a login begins with.
SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": "1min",
    "search_path": SCHEMA,
}


class RoleError(Exception):
    """A login cannot be made. Says what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """As libpq's `.pgpass` wants it; the password stands in no `repr`."""

    name: str
    host: str
    port: int
    database: str
    password: str
    new: bool

    def pgpass(self) -> str:
        cells = (self.host, str(self.port), self.database, self.name, self.password)
        return ":".join(c.replace("\\", "\\\\").replace(":", "\\:") for c in cells) + "\n"


def give_login(engine: Engine, name: str) -> Login:
    """Make the login `name`, or give it a new password; its settings and rights are set again.

    Also closes the database to whoever was never let in: PUBLIC loses the schema `public` and the making of
    temporary tables. Raises RoleError, and sqlalchemy's errors where the server refuses.
    """
    _refuse(engine, name)
    password = secrets.token_urlsafe(24)
    with writing(engine) as db:
        _need_group(db)
        new = not _there(db, name)
        if not new and not _is_analyst(db, name):
            raise RoleError(f"{name}: is a role already, and not one of analysts; give another name")
        raw: Any = db.connection.driver_connection  # psycopg's
        verifier = raw.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        options = f"LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT {CONNECTIONS}"
        # The verifier is base64 with $ and :, no quote.
        verb = "CREATE" if new else "ALTER"
        _run(db, f"{verb} ROLE {name} {options} PASSWORD '{verifier}'")
        _run(db, f"GRANT {GROUP} TO {name}")
        for setting, value in SETTINGS.items():
            _run(db, f"ALTER ROLE {name} SET {setting} = '{value}'")
        ours = db.execute(text("SELECT current_database()")).scalar_one()
        quoted = '"' + ours.replace('"', '""') + '"'
        _run(db, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        _run(db, f"REVOKE TEMPORARY ON DATABASE {quoted} FROM PUBLIC")
        _run(db, f"GRANT CONNECT ON DATABASE {quoted} TO {GROUP}")
        info = raw.info
        return Login(name, info.host or "localhost", info.port, ours, password, new)


def take_login(engine: Engine, name: str) -> None:
    """Take the login away; sessions that are open end with it. Raises RoleError for one that is not there."""
    _refuse(engine, name)
    with writing(engine) as db:
        if not _there(db, name) or not _is_analyst(db, name):
            raise RoleError(f"{name}: is no login of an analyst")
        _run(db, f"REVOKE {GROUP} FROM {name}")
        _run(db, f"DROP ROLE {name}")
        db.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :name"),
            {"name": name},
        )


def _refuse(engine: Engine, name: str) -> None:
    if engine.dialect.name != "postgresql":
        raise RoleError(
            "SQLite has no roles: whoever may read the file may read all of it. Open it with mode=ro, or give"
            " analysts an export"
        )
    if not _NAME.match(name) or name == GROUP or name.startswith("pg_"):
        raise RoleError("the name must be of lower-case letters, digits and _, a letter first, not pg_...")


def _need_group(db: Connection) -> None:
    may = text("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    if not db.execute(may).scalar():
        raise RoleError(
            "the database's user may make no roles: have its administrator run"
            " `ALTER ROLE <that user> CREATEROLE`, or run this with a DIAL16_DATABASE_URL whose user may"
        )
    if not group_there(db):
        raise RoleError(f"the role {GROUP} is not there: run `python main.py migrate` first")


def _there(db: Connection, name: str) -> bool:
    found = text("SELECT 1 FROM pg_roles WHERE rolname = :name")
    return db.execute(found, {"name": name}).first() is not None


def _is_analyst(db: Connection, name: str) -> bool:
    """In our group and in no other: whoever has more rights is nobody of ours to change."""
    groups = text(
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = :name"
    )
    return list(db.execute(groups, {"name": name}).scalars()) == [GROUP]


def _run(db: Connection, statement: str) -> None:
    db.exec_driver_sql(statement.replace("%", "%%"))
