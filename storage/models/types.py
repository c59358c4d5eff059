"""What the tables are made of: times in UTC on both databases, and room on a page."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel


def as_text(at: datetime | None) -> str | None:
    """A time in UTC as SQLite keeps it."""
    return None if at is None else at.isoformat(timespec="milliseconds")


class Moment(TypeDecorator[datetime]):
    """An instant, aware, in UTC, to the millisecond.

    PostgreSQL: timestamp with time zone. SQLite: text of one width, `2026-11-23T08:00:00.123+00:00`,
    which sorts as time and which its date functions read.
    """

    impl = String(29)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(29))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone; give an aware one")
        value = value.astimezone(UTC)
        return as_text(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        at: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at if at.tzinfo is UTC else at.astimezone(UTC)


#: Room on the page for new versions of a row, which no index then has to follow: every hop writes one.
ROOM = {"postgresql_with": {"fillfactor": 70}}


def table_of(model: type[SQLModel]) -> Table:
    """The model's table, for statements in SQLAlchemy Core."""
    return SQLModel.metadata.tables[str(model.__tablename__)]
