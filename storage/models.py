"""The record's tables. Written by the recorder, read by analysts through the views of `analysis/`.

    respondent ─┬─ interview ─┬─ response      one answer an item, the latest
                │             ├─ event         everything that happened, append-only
                │             └─ conflict      requests that did not fit: paradata
                └─ session                     one USSD dialogue, dial to end
    instrument ── codebook_item ── codebook_option
    export_audit                                     each export of row-level data
    release ── released_estimate                     what is published, for SQL and the results API

Respondents are pseudonyms: no table here holds an MSISDN. An interview id determines respondent
and wave, so what hangs on an interview repeats neither. Foreign keys stand where the recorder's
order of writing guarantees them (respondent, then interview, then the rest); a session has none to
an interview, because its end may be reported for a dial that never became one.

Which answers count: `interview.counted`, one interview a respondent and wave, see `standing.py`.
Dispositions: in_progress, complete, refusal, ineligible, withdrawn from what happened; partial and
break_off from a sweep of what was not resumed in time (`record.close_unfinished`).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

IN_PROGRESS, COMPLETE, WITHDRAWN = "in_progress", "complete", "withdrawn"
PARTIAL, BREAK_OFF = "partial", "break_off"
#: Stopped before the end, whether or not the sweep has closed it.
UNFINISHED = (IN_PROGRESS, PARTIAL, BREAK_OFF)


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
_ROOM = {"postgresql_with": {"fillfactor": 70}}


class Respondent(SQLModel, table=True):
    """A person who dialled, by pseudonym."""

    pseudonym: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    first_seen_at: datetime = Field(sa_type=Moment)
    opted_out_at: datetime | None = Field(default=None, sa_type=Moment)
    consented_at: datetime | None = Field(default=None, sa_type=Moment)  # last time
    consent_version: str | None = Field(default=None, sa_type=Text)


class Interview(SQLModel, table=True):
    """One respondent, one instrument, one wave. What `Began` says is null until it has arrived."""

    __table_args__ = (
        UniqueConstraint("respondent", "wave", "attempt", name="interview_attempt"),
        Index("interview_began_at", "began_at"),
        _ROOM,
    )

    id: str = Field(primary_key=True, sa_type=Text)  # 16 hex
    respondent: str = Field(foreign_key="respondent.pseudonym", sa_type=Text)
    wave: str = Field(sa_type=Text)
    attempt: int  # 1, 2, .. in order of beginning
    counted: bool  # analysts' views see these only
    instrument: str | None = Field(default=None, sa_type=Text)  # id@version
    language: str | None = Field(default=None, sa_type=Text)
    mode: str | None = Field(default=None, sa_type=Text)
    aggregator: str | None = Field(default=None, sa_type=Text)  # it began through; "simulator" = made up
    seed: int | None = Field(default=None, sa_type=BigInteger)
    blocks: str | None = Field(default=None, sa_type=Text)  # ids in the drawn order
    probabilities: str | None = Field(default=None, sa_type=Text)  # JSON: block -> of being drawn
    item_order: str | None = Field(default=None, sa_type=Text)  # attribute items as drawn; "" = as they stand
    began_at: datetime = Field(sa_type=Moment)
    last_at: datetime = Field(sa_type=Moment)
    ended_at: datetime | None = Field(default=None, sa_type=Moment)
    disposition: str = Field(sa_type=Text)
    last_item: str = Field(default="", sa_type=Text)  # on the last screen shown
    last_stage: str = Field(default="", sa_type=Text)
    marks: str | None = Field(default=None, sa_type=Text)  # its answers, one character an item: marks.py
    consented_at: datetime | None = Field(default=None, sa_type=Moment)
    consent_version: str | None = Field(default=None, sa_type=Text)
    withdrawn_at: datetime | None = Field(default=None, sa_type=Moment)
    receipt: str | None = Field(default=None, sa_type=Text)  # of the withdrawal
    version: int = Field(sa_type=BigInteger)  # of the last hop folded in
    # Versions that wrote the field named, so that hops may be folded in any order.
    language_version: int = Field(default=-1, sa_type=BigInteger)
    consented_version: int = Field(default=-1, sa_type=BigInteger)
    outcome: str | None = Field(default=None, sa_type=Text)  # of the last `Ended`
    outcome_at: datetime | None = Field(default=None, sa_type=Moment)
    outcome_version: int = Field(default=-1, sa_type=BigInteger)
    answered_version: int = Field(default=-1, sa_type=BigInteger)  # last answer that did not end it


class Response(SQLModel, table=True):
    """An item answered: the latest answer. A retracted one keeps its row, without its content."""

    #: In the order of answering, for readers who go on where they stopped. Answers seldom change, so the
    #: index follows inserts alone.
    __table_args__ = (Index("response_given_at", "given_at"),)

    interview: str = Field(primary_key=True, foreign_key="interview.id", sa_type=Text)
    item: str = Field(primary_key=True, sa_type=Text)
    option: str | None = Field(default=None, sa_type=Text)  # option id or nonresponse name; "" = a number
    code: int | None = Field(default=None, sa_type=BigInteger)  # null for a number
    number: int | None = Field(default=None, sa_type=BigInteger)
    given_at: datetime = Field(sa_type=Moment)
    seconds: float | None = None
    tries: int | None = Field(default=None, sa_type=BigInteger)
    mode: str = Field(sa_type=Text)
    session: str = Field(sa_type=Text)
    version: int = Field(sa_type=BigInteger)  # of the hop that wrote this
    retracted: bool = False


class UssdSession(SQLModel, table=True):
    """One USSD dialogue. The id is the aggregator's, so it is unique with the respondent only."""

    __tablename__ = "session"
    __table_args__ = _ROOM

    id: str = Field(primary_key=True, sa_type=Text)
    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    aggregator: str | None = Field(default=None, sa_type=Text)
    network_code: str | None = Field(default=None, sa_type=Text)
    service_code: str | None = Field(default=None, sa_type=Text)
    extension: str | None = Field(default=None, sa_type=Text)
    opened_at: datetime | None = Field(default=None, sa_type=Moment)
    last_at: datetime | None = Field(default=None, sa_type=Moment)  # last hop
    hops: int = Field(default=0, sa_type=BigInteger)  # answered by us
    ended_at: datetime | None = Field(default=None, sa_type=Moment)  # first notice of its end
    status: str | None = Field(default=None, sa_type=Text)  # as the aggregator says it
    error: str | None = Field(default=None, sa_type=Text)
    duration_ms: int | None = Field(default=None, sa_type=BigInteger)
    hops_reported: int | None = Field(default=None, sa_type=BigInteger)  # by the aggregator
    cost: str | None = Field(default=None, sa_type=Text)  # as written: "GHS 0.03"
    cost_currency: str | None = Field(default=None, sa_type=Text)
    cost_amount: float | None = None


class Event(SQLModel, table=True):
    """One effect of one hop. `payload` is its JSON; of a withdrawn interview `{}` where it told."""

    interview: str = Field(primary_key=True, foreign_key="interview.id", sa_type=Text)
    version: int = Field(primary_key=True, sa_type=BigInteger)
    position: int = Field(primary_key=True)  # in the hop's effects
    kind: str = Field(sa_type=Text)
    item: str | None = Field(default=None, sa_type=Text)
    payload: str = Field(sa_type=Text)
    at: datetime = Field(sa_type=Moment)
    session: str = Field(sa_type=Text)


class Conflict(SQLModel, table=True):
    """A request that did not fit the dialogue (late, diverging). Twice in one millisecond counts once."""

    session: str = Field(primary_key=True, sa_type=Text)
    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    at: datetime = Field(primary_key=True, sa_type=Moment)
    what: str = Field(primary_key=True, sa_type=Text)
    interview: str | None = Field(default=None, sa_type=Text)


class StoredInstrument(SQLModel, table=True):
    """The instrument as it was fielded, whole: the same reference always has the same digest."""

    __tablename__ = "instrument"

    reference: str = Field(primary_key=True, sa_type=Text)  # id@version
    digest: str = Field(sa_type=Text)
    sources: str = Field(sa_type=Text)  # JSON: file name -> text


class CodebookItem(SQLModel, table=True):
    """What a variable means."""

    __tablename__ = "codebook_item"

    instrument: str = Field(primary_key=True, foreign_key="instrument.reference", sa_type=Text)
    item: str = Field(primary_key=True, sa_type=Text)
    position: int
    variable: str = Field(sa_type=Text)  # its column in interviews_wide
    block: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    role: str = Field(sa_type=Text)
    number: str = Field(sa_type=Text)  # official question number
    service: str = Field(sa_type=Text)
    attribute: str = Field(sa_type=Text)
    label: str = Field(sa_type=Text)


class CodebookOption(SQLModel, table=True):
    """What a code means."""

    __tablename__ = "codebook_option"

    instrument: str = Field(primary_key=True, foreign_key="instrument.reference", sa_type=Text)
    item: str = Field(primary_key=True, sa_type=Text)
    option: str = Field(primary_key=True, sa_type=Text)
    position: int
    code: int
    label: str = Field(sa_type=Text)
    iso: str = Field(sa_type=Text)  # ISO 3166-2 of a place; "" = none
    nonresponse: bool


class ExportAudit(SQLModel, table=True):
    """One export of row-level data: who had it made, of what, and what became of the file. Never deleted."""

    __tablename__ = "export_audit"

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    asked_at: datetime = Field(sa_type=Moment)
    asked_by: str = Field(sa_type=Text)  # the operator, by the name given
    variant: str = Field(sa_type=Text)  # internal | scientific | public
    purpose: str = Field(sa_type=Text)  # exports of one variant with the same one have the same ids
    formats: str = Field(sa_type=Text)  # space-separated
    wave: str | None = Field(default=None, sa_type=Text)  # null = all
    language: str = Field(default="", sa_type=Text)  # of the labels
    simulated: bool = False  # with interviews that nobody dialled for
    excel: bool = False  # CSV with a byte order mark
    state: str = Field(sa_type=Text)  # waiting | running | done | failed | expired
    step: str = Field(default="", sa_type=Text)  # what it is at
    done: int = Field(default=0, sa_type=BigInteger)
    total: int = Field(default=0, sa_type=BigInteger)
    progressed_at: datetime | None = Field(default=None, sa_type=Moment)
    rows: int | None = Field(default=None, sa_type=BigInteger)  # interviews in it
    bytes: int | None = Field(default=None, sa_type=BigInteger)
    digest: str | None = Field(default=None, sa_type=Text)  # SHA-256 of SHA256SUMS, or of the archive
    made_at: datetime | None = Field(default=None, sa_type=Moment)
    expires_at: datetime | None = Field(default=None, sa_type=Moment)  # null: given away, ours no more
    error: str | None = Field(default=None, sa_type=Text)


class QueryLog(SQLModel, table=True):
    """One question of staff about figures that are not released. Its answer goes after a day."""

    __tablename__ = "query_log"

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    asked_at: datetime = Field(sa_type=Moment)
    asked_by: str = Field(sa_type=Text)  # the name given
    kind: str = Field(sa_type=Text)  # draft: a wave's next release | query: one table
    wave: str = Field(sa_type=Text)
    service: str = Field(default="", sa_type=Text)
    measure: str = Field(default="", sa_type=Text)
    variables: str = Field(default="", sa_type=Text)  # space-separated, two at most
    state: str = Field(sa_type=Text)  # waiting | running | done | refused | failed
    answered_at: datetime | None = Field(default=None, sa_type=Moment)
    shown: int | None = Field(default=None, sa_type=BigInteger)  # figures
    hidden: int | None = Field(default=None, sa_type=BigInteger)
    said: str | None = Field(default=None, sa_type=Text)  # why refused or failed
    answer: str | None = Field(default=None, sa_type=Text)  # JSON, after the rules


class ReleasedVersion(SQLModel, table=True):
    """One version of a wave's figures, as it was issued. Its folder is the original: see `release`."""

    __tablename__ = "release"

    wave: str = Field(primary_key=True, sa_type=Text)
    version: int = Field(primary_key=True)
    issued: str = Field(sa_type=Text)  # ISO date
    reason: str = Field(sa_type=Text)
    title: str = Field(sa_type=Text)
    instrument: str = Field(sa_type=Text)
    owner: str = Field(sa_type=Text)
    contact: str = Field(sa_type=Text)
    licence: str = Field(sa_type=Text)
    weighted: bool
    probability_sample: bool
    caution: str = Field(sa_type=Text)  # has to stand beside every figure
    interviews: int = Field(sa_type=BigInteger)
    software: str = Field(sa_type=Text)


class ReleasedEstimate(SQLModel, table=True):
    """One released figure, after the rules. What is hidden is null."""

    __tablename__ = "released_estimate"
    __table_args__ = (ForeignKeyConstraint(("wave", "version"), ("release.wave", "release.version")),)

    wave: str = Field(primary_key=True, sa_type=Text)
    version: int = Field(primary_key=True)
    position: int = Field(primary_key=True)  # in the release, from 0
    period: str = Field(sa_type=Text)
    service: str = Field(sa_type=Text)
    measure: str = Field(sa_type=Text)
    variable: str = Field(sa_type=Text)  # "" = national
    category: str = Field(sa_type=Text)
    variable_2: str = Field(sa_type=Text)  # "" = not crossed
    category_2: str = Field(sa_type=Text)
    n: int | None = Field(default=None, sa_type=BigInteger)
    share: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    not_applicable: int | None = Field(default=None, sa_type=BigInteger)
    dont_know: int | None = Field(default=None, sa_type=BigInteger)
    refused: int | None = Field(default=None, sa_type=BigInteger)
    not_reached: int | None = Field(default=None, sa_type=BigInteger)
    mark: str = Field(sa_type=Text)
    notes: str = Field(sa_type=Text)


def table_of(model: type[SQLModel]) -> Table:
    """The model's table, for statements in SQLAlchemy Core."""
    return SQLModel.metadata.tables[str(model.__tablename__)]
