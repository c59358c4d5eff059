"""Logins for analysts on PostgreSQL: made, given a new password, or taken away.

A login is in the group `dial16_analyst` (see `analytics`) and has no other rights. What keeps it from writing
is that nobody granted it that; the setting `default_transaction_read_only` only saves the well-meaning, since
whoever is connected can switch it off. PostgreSQL grants everybody some things, though: temporary tables,
large objects, messages in the write-ahead log, advisory locks. Those are taken from everybody in our database
while a login is made, and `Login.left_open` says what could not be. docs/api.md says what stays possible.

The password is made here, leaves as a line of a `.pgpass` file, and goes to the server as a SCRAM verifier,
so that no statement log has it.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

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
#: Disk that one session's sorts may fill. Only an administrator can set it, and then no login can raise it.
TEMP_FILES = "4GB"
#: Functions that PostgreSQL lets everybody run, and that write, fill the log, or could hold our own locks
#: (`storage.database`): each is taken from PUBLIC, and granted to whoever has rights on our tables.
_WRITING = (
    r"lo_(creat|create|from_bytea|put|truncate|truncate64|unlink)|lowrite|pg_logical_emit_message"
    r"|pg_(try_)?advisory_(xact_)?lock(_shared)?"
)


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
    left_open: tuple[str, ...] = ()  # what this server lets the login do besides reading, and what ends it

    def pgpass(self) -> str:
        cells = (self.host, str(self.port), self.database, self.name, self.password)
        return ":".join(c.replace("\\", "\\\\").replace(":", "\\:") for c in cells) + "\n"


def give_login(engine: Engine, name: str) -> Login:
    """Make the login `name`, or give it a new password; its settings and rights are set again.

    Also closes the database to whoever was never let in: PUBLIC loses the schema `public`, temporary tables
    and the functions that write. Raises RoleError.
    """
    _refuse(engine, name)
    password = secrets.token_urlsafe(24)
    with _saying_no(), writing(engine) as db:
        _need_group(db)
        new = not _there(db, name)
        if not new and not _is_analyst(db, name):
            raise RoleError(f"{name}: is a role already, and not one of analysts; give another name")
        raw: Any = db.connection.driver_connection  # psycopg's
        verifier = raw.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        # Only a superuser may name the other attributes; a new role has none, and see `_is_analyst`.
        # The verifier is base64 with $ and :, no quote.
        verb = "CREATE" if new else "ALTER"
        _run(db, f"{verb} ROLE {name} LOGIN CONNECTION LIMIT {CONNECTIONS} PASSWORD '{verifier}'")
        _run(db, f"GRANT {GROUP} TO {name}")
        database = _quoted(ours := db.execute(text("SELECT current_database()")).scalar_one())
        # A role may change its own settings, and those for one database come before those for all.
        _run(db, f"ALTER ROLE {name} RESET ALL")
        _run(db, f"ALTER ROLE {name} IN DATABASE {database} RESET ALL")
        for setting, value in SETTINGS.items():
            _run(db, f"ALTER ROLE {name} SET {setting} = '{value}'")
        _run(db, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        _run(db, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        _run(db, f"GRANT CONNECT ON DATABASE {database} TO {GROUP}")
        if _is_superuser(db):
            _run(db, f"ALTER ROLE {name} SET temp_file_limit = '{TEMP_FILES}'")
            _take_from_public(db, _writing_functions(db, name))
        info = raw.info
        return Login(
            name, info.host or "localhost", info.port, ours, password, new, tuple(_left_open(db, name))
        )


def take_login(engine: Engine, name: str) -> None:
    """Take the login away; sessions that are open end with it, and the large objects that it made go.

    Raises RoleError for one that is not there, and for one that owns more than that, or something in another
    database: it may log in no more then, and the error says what is left to do.
    """
    _refuse(engine, name)
    with _saying_no(), writing(engine) as db:
        if not _there(db, name) or not _is_analyst(db, name):
            raise RoleError(f"{name}: is no login of an analyst")
        _run(db, f"ALTER ROLE {name} NOLOGIN")
        if not _is_superuser(db):  # ending its sessions, and dropping what it owns, is its own or a member's
            _run(db, f"GRANT {name} TO CURRENT_USER")
    with _saying_no(), writing(engine) as db:
        ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = :name"
        db.execute(text(ended), {"name": name}).all()
        if others := _owned_elsewhere(db, name):
            raise RoleError(
                f"{name}: may log in no more, but owns something in {', '.join(others)}: connect there as an"
                f" administrator, run `DROP OWNED BY {name}`, then this again"
            )
        if owned := _owned(db, name):
            listed = ", ".join(owned[:5]) + (", .." if owned[5:] else "")
            raise RoleError(
                f"{name}: may log in no more, but owns {listed}: give it to another with"
                f" `REASSIGN OWNED BY {name} TO ..`, or drop it, then run this again"
            )
        _run(db, f"DROP OWNED BY {name}")
        _run(db, f"DROP ROLE {name}")


# ---------------------------------------------------------------- what PostgreSQL lets everybody do


def _writing_functions(db: Connection, name: str) -> list[str]:
    """Those of `_WRITING` that the role may run, with their arguments."""
    found = text(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
        " AND proname ~ :writing AND has_function_privilege(:name, oid, 'EXECUTE') ORDER BY 1"
    )
    return list(db.execute(found, {"writing": f"^({_WRITING})$", "name": name}).scalars())


def _take_from_public(db: Connection, functions: list[str]) -> None:
    """Leaves them to whoever has rights on our tables: `take_turn` and `migrate` take advisory locks."""
    if not functions:
        return
    ours = text(
        "SELECT DISTINCT r.rolname FROM pg_class c"
        " CROSS JOIN LATERAL aclexplode(COALESCE(c.relacl, acldefault('r', c.relowner))) a"
        " JOIN pg_roles r ON r.oid = a.grantee WHERE c.oid = 'public.interview'::regclass ORDER BY 1"
    )
    every = ", ".join(functions)
    for role in db.execute(ours).scalars().all():
        _run(db, f"GRANT EXECUTE ON FUNCTION {every} TO {_quoted(role)}")
    _run(db, f"REVOKE EXECUTE ON FUNCTION {every} FROM PUBLIC")


def _left_open(db: Connection, name: str) -> Iterator[str]:
    """What the role may do besides reading, each with what ends it."""
    if functions := _writing_functions(db, name):
        yield (
            "large objects and advisory locks are open to it: only a superuser can close them; run this once"
            f" as one, or there REVOKE EXECUTE ON FUNCTION {', '.join(functions)} FROM PUBLIC"
        )
    may = text(
        "SELECT has_schema_privilege(:name, 'public', 'CREATE'),"
        " has_database_privilege(:name, current_database(), 'TEMPORARY')"
    )
    tables, temporary = db.execute(may, {"name": name}).one()
    if tables or temporary:
        yield (
            "it may make tables: have the database's owner run REVOKE ALL ON SCHEMA public FROM PUBLIC and"
            " REVOKE TEMPORARY ON DATABASE .. FROM PUBLIC"
        )
    others = text(
        "SELECT datname FROM pg_database WHERE datallowconn AND datname <> current_database()"
        " AND has_database_privilege(:name, oid, 'CONNECT') ORDER BY 1"
    )
    if names := list(db.execute(others, {"name": name}).scalars()):
        yield (
            f"it may connect to {', '.join(names)} too, as everybody may, and write there what everybody may:"
            " REVOKE CONNECT ON DATABASE .. FROM PUBLIC for each, or a line in pg_hba.conf, closes them"
        )


# ---------------------------------------------------------------- what a role owns

_OWNED = (
    "FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass"
    " AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = :name)"
)


def _owned_elsewhere(db: Connection, name: str) -> list[str]:
    found = text(f"SELECT DISTINCT d.datname {_OWNED} AND d.datname <> current_database() ORDER BY 1")
    return list(db.execute(found, {"name": name}).scalars())


def _owned(db: Connection, name: str) -> list[str]:
    """What somebody let it have: all but what any role can make for itself."""
    found = text(
        f"SELECT pg_describe_object(s.classid, s.objid, s.objsubid) {_OWNED} AND s.deptype = 'o'"
        " AND s.classid NOT IN ('pg_largeobject'::regclass, 'pg_default_acl'::regclass) ORDER BY 1"
    )
    return list(db.execute(found, {"name": name}).scalars())


# ---------------------------------------------------------------- asking first


@contextmanager
def _saying_no() -> Iterator[None]:
    """RoleError for what the server refuses; a server that is not reached stays what it is."""
    try:
        yield
    except OperationalError:
        raise
    except DBAPIError as error:
        said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or "no reason given"
        raise RoleError(
            f"the server refuses: {said}; run this with a DIAL16_DATABASE_URL whose user may, for instance"
            " the server's administrator"
        ) from None


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
    """In our group and in no other, no more than a login: who may more is nobody of ours to change."""
    groups = text(
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = :name AND NOT"
        " (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)"
    )
    return list(db.execute(groups, {"name": name}).scalars()) == [GROUP]


def _is_superuser(db: Connection) -> bool:
    return bool(db.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _run(db: Connection, statement: str) -> None:
    db.exec_driver_sql(statement.replace("%", "%%"))
