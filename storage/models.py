"""The record's tables. Written by the recorder, read by analysts through the views of `analysis/`.

    respondent ─┬─ interview ─┬─ response      one answer an item, the latest
                │             ├─ event         everything that happened, append-only
                │             └─ conflict      requests that did not fit: paradata
                ├─ session                     one USSD dialogue, dial to end
                ├─ outbound_message ── delivery_report    what we send, and what became of it
                ├─ sample_number ── campaign   who is to be invited, and who invites them
                ├─ directory                   numbers that are still needed, sealed
                ├─ results_wanted              who is to be texted the results
                └─ airtime_payment ── airtime_report    airtime for who completed; airtime_budget a wave
    instrument ── codebook_item ── codebook_option
    export_audit                                     each export of row-level data
    release ─┬─ released_estimate                    what is published, for SQL and the results API
             └─ final_weight                         what each interview under it weighs

Respondents are pseudonyms: no table here holds an MSISDN that can be read; `directory` holds those that
something must still be sent to, encrypted under a key that the database has not. An interview id
determines respondent and wave, so what hangs on an interview repeats neither. Foreign keys stand where
the recorder's order of writing guarantees them (respondent, then interview, then the rest); a session
has none to an interview, because its end may be reported for a dial that never became one.

Which answers count: `interview.counted`, one interview a respondent and wave, see `standing.py`.
Dispositions: in_progress, complete, refusal, ineligible, quota_full (AAPOR 4.8: its cell had all the
completes it wants), results_only (never asked to take part),
withdrawn from what happened; partial and break_off from a sweep of what was not
resumed in time (`record.close_unfinished`).
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
    text,
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
    """A person who dialled, wrote, or is in a sample, by pseudonym."""

    pseudonym: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    first_seen_at: datetime = Field(sa_type=Moment)
    opted_out_at: datetime | None = Field(default=None, sa_type=Moment)  # last time
    opted_in_at: datetime | None = Field(default=None, sa_type=Moment)  # last time; the later of both holds
    consented_at: datetime | None = Field(default=None, sa_type=Moment)  # last time
    consent_version: str | None = Field(default=None, sa_type=Text)


class Interview(SQLModel, table=True):
    """One respondent, one instrument, one wave. What `Began` says is null until it has arrived."""

    __table_args__ = (
        UniqueConstraint("respondent", "wave", "attempt", name="interview_attempt"),
        Index("interview_began_at", "began_at"),
        Index(
            "interview_complete",
            "wave",
            "ended_at",
            postgresql_where=text("disposition = 'complete'"),
            sqlite_where=text("disposition = 'complete'"),
        ),
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


class OutboundMessage(SQLModel, table=True):
    """A text that we send: written first, then sent. Its states and their changes: `outbox.py`."""

    __tablename__ = "outbound_message"
    __table_args__ = (
        Index("outbound_message_due", "state", "not_before"),
        Index("outbound_message_message", "message_id"),
        Index("outbound_message_respondent", "respondent"),
        _ROOM,
    )

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex, of the natural key
    natural_key: str = Field(unique=True, sa_type=Text)  # what asked for it: interview:version:n
    wave: str | None = Field(default=None, sa_type=Text)
    respondent: str = Field(foreign_key="respondent.pseudonym", sa_type=Text)
    interview: str | None = Field(default=None, sa_type=Text)
    kind: str = Field(sa_type=Text)  # reply, confirmation, invitation, reminder, thanks, results
    priority: int  # least first
    text: str = Field(sa_type=Text)  # our words; blank once its respondent has withdrawn
    sender: str | None = Field(default=None, sa_type=Text)  # None: the account's default
    aggregator: str = Field(sa_type=Text)
    network_code: str | None = Field(default=None, sa_type=Text)
    state: str = Field(sa_type=Text)
    not_before: datetime = Field(sa_type=Moment)
    attempts: int = 0
    claimed_at: datetime | None = Field(default=None, sa_type=Moment)
    message_id: str | None = Field(default=None, sa_type=Text)  # the aggregator's
    status_raw: str | None = Field(default=None, sa_type=Text)  # as the aggregator last put it
    failure_reason: str | None = Field(default=None, sa_type=Text)  # why not (yet): a code, no prose
    parts: int | None = None
    cost_amount: str | None = Field(default=None, sa_type=Text)  # decimal, exact
    cost_currency: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=Moment)
    sent_at: datetime | None = Field(default=None, sa_type=Moment)
    final_at: datetime | None = Field(default=None, sa_type=Moment)


class DeliveryReport(SQLModel, table=True):
    """The report that counts of one message, however many came, and even before its send is known."""

    __tablename__ = "delivery_report"

    aggregator: str = Field(primary_key=True, sa_type=Text)
    message_id: str = Field(primary_key=True, sa_type=Text)
    rank: int  # the greatest counts: -1 none came, 0 a word unknown to us, 1 in flight, 2 failed, 3 delivered
    at: datetime = Field(sa_type=Moment)
    status: str | None = Field(default=None, sa_type=Text)
    failure_reason: str | None = Field(default=None, sa_type=Text)
    network_code: str | None = Field(default=None, sa_type=Text)
    respondent: str | None = Field(default=None, sa_type=Text)  # where the gateway told
    known: bool = False  # a message of ours has this id


class Directory(SQLModel, table=True):
    """A respondent's number, sealed: see `sealing.py`. Gone when nothing is to be sent any more."""

    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    sealed: str = Field(sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)  # of the key that sealed it
    added_at: datetime = Field(sa_type=Moment)


class ResultsWanted(SQLModel, table=True):
    """Somebody who asked for one text with the results. Gone with an opt-out or a withdrawal."""

    __tablename__ = "results_wanted"
    __table_args__ = (Index("results_wanted_respondent", "respondent"),)

    wave: str = Field(primary_key=True, sa_type=Text)
    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    interview: str = Field(sa_type=Text)  # that ended with this wish
    asked_at: datetime = Field(sa_type=Moment)
    written_at: datetime | None = Field(default=None, sa_type=Moment)  # to the outbox


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


class WaveWord(SQLModel, table=True):
    """The operator's last word on whether a wave is open, over the times in its file."""

    __tablename__ = "wave_word"

    wave: str = Field(primary_key=True, sa_type=Text)
    word: str = Field(sa_type=Text)  # open | close | times
    said_at: datetime = Field(sa_type=Moment)


class Campaign(SQLModel, table=True):
    """What invites people into a wave. Its states and their changes: `campaigns.py`."""

    id: str = Field(primary_key=True, sa_type=Text)  # as staff name it
    wave: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)  # draft, running, paused, stopped
    aggregator: str = Field(sa_type=Text)
    sender: str | None = Field(default=None, sa_type=Text)
    draw: str | None = Field(default=None, sa_type=Text)  # JSON: how a random sample was drawn, to repeat it
    created_at: datetime = Field(sa_type=Moment)
    state_at: datetime = Field(sa_type=Moment)  # since when it has this state


class SampleNumber(SQLModel, table=True):
    """Somebody who may be invited into a wave, by pseudonym; the number is in `directory`, sealed."""

    __tablename__ = "sample_number"
    __table_args__ = (
        UniqueConstraint("wave", "respondent", name="sample_number_once"),
        Index("sample_number_next", "campaign", "next_at"),
        _ROOM,
    )

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex, of wave and respondent
    wave: str = Field(sa_type=Text)
    respondent: str = Field(foreign_key="respondent.pseudonym", sa_type=Text)
    campaign: str = Field(foreign_key="campaign.id", sa_type=Text)
    replicate: int
    source: str = Field(sa_type=Text)  # csv, rdd
    probability: float | None = None  # of being selected
    stratum: str | None = Field(default=None, sa_type=Text)
    network: str | None = Field(default=None, sa_type=Text)  # network code that its prefix was given to
    language: str | None = Field(default=None, sa_type=Text)
    loaded_at: datetime = Field(sa_type=Moment)
    released_at: datetime | None = Field(default=None, sa_type=Moment)
    next_at: datetime | None = Field(
        default=None, sa_type=Moment
    )  # when to look whether to write; None: never
    excluded: str | None = Field(default=None, sa_type=Text)  # why it is not invited


class AirtimePayment(SQLModel, table=True):
    """Airtime that a respondent has earned in a wave: once. Its states and their changes: `airtime.py`."""

    __tablename__ = "airtime_payment"
    __table_args__ = (
        UniqueConstraint("wave", "respondent", name="airtime_once"),
        Index("airtime_due", "state", "not_before"),
        Index("airtime_respondent", "respondent"),
        Index("airtime_request", "request_id"),
        Index("airtime_transaction", "transaction_id"),
    )

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex, of wave and respondent
    wave: str = Field(sa_type=Text)
    respondent: str = Field(foreign_key="respondent.pseudonym", sa_type=Text)
    interview: str = Field(sa_type=Text)  # that earned it
    aggregator: str = Field(sa_type=Text)  # through which it ended, and which pays
    amount: int = Field(sa_type=BigInteger)  # hundredths of the currency
    currency: str = Field(sa_type=Text)  # ISO 4217
    state: str = Field(sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)  # why it stands so: a code, no prose
    not_before: datetime = Field(sa_type=Moment)
    attempts: int = 0
    refusals: int = 0  # tries that the aggregator itself refused: each took its key with it
    key: str | None = Field(default=None, sa_type=Text)  # Idempotency-Key of the last try
    transaction_id: str | None = Field(default=None, sa_type=Text)  # the one that we validated
    request_id: str | None = Field(default=None, sa_type=Text)  # the aggregator's; its status names it
    status_raw: str | None = Field(default=None, sa_type=Text)  # as the aggregator last put it
    earned_at: datetime = Field(sa_type=Moment)
    created_at: datetime = Field(sa_type=Moment)
    claimed_at: datetime | None = Field(default=None, sa_type=Moment)
    updated_at: datetime = Field(sa_type=Moment)


class AirtimeBudget(SQLModel, table=True):
    """What a wave may give away, and how much of it is spoken for. In hundredths."""

    __tablename__ = "airtime_budget"

    wave: str = Field(primary_key=True, sa_type=Text)
    currency: str = Field(primary_key=True, sa_type=Text)
    budget: int = Field(sa_type=BigInteger)
    committed: int = Field(sa_type=BigInteger)  # of payments that are, or may be, on their way or paid


class AirtimeReport(SQLModel, table=True):
    """What an aggregator said or asked about airtime, kept as it came; one that is repeated, once."""

    __tablename__ = "airtime_report"
    __table_args__ = (Index("airtime_report_respondent", "respondent"),)

    aggregator: str = Field(primary_key=True, sa_type=Text)
    kind: str = Field(primary_key=True, sa_type=Text)  # status, validation, lookup
    reference: str = Field(primary_key=True, sa_type=Text)  # request id; of a validation its transaction
    status: str = Field(primary_key=True, sa_type=Text)  # the word; of a validation our answer
    at: datetime = Field(sa_type=Moment)  # first
    respondent: str | None = Field(default=None, sa_type=Text)
    amount: int | None = Field(default=None, sa_type=BigInteger)  # hundredths
    currency: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)  # its remark; of a validation the payment


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
    """One question about figures that are not released. A draft goes after a day; a table stays, since later
    ones are protected together with it (`storage.analysis.served`)."""

    __tablename__ = "query_log"

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    asked_at: datetime = Field(sa_type=Moment)
    asked_by: str = Field(sa_type=Text)  # the name given; api: and the token's name
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
    taken_at: datetime | None = Field(default=None, sa_type=Moment)  # by a worker, the last time


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


class FinalWeight(SQLModel, table=True):
    """What an interview weighs in the figures of a release. Gone with a withdrawal: see `erase_answers`.

    No foreign key to `interview`: its check would lock, and so rewrite, each of a million rows there.
    """

    __tablename__ = "final_weight"
    __table_args__ = (
        ForeignKeyConstraint(("wave", "version"), ("release.wave", "release.version")),
        Index("final_weight_release", "wave", "version"),
    )

    interview: str = Field(primary_key=True, sa_type=Text)
    version: int = Field(primary_key=True)  # of the release of its wave
    block: str = Field(primary_key=True, sa_type=Text)  # of services; "" = the same weight for every block
    wave: str = Field(sa_type=Text)
    weight: float


def table_of(model: type[SQLModel]) -> Table:
    """The model's table, for statements in SQLAlchemy Core."""
    return SQLModel.metadata.tables[str(model.__tablename__)]
