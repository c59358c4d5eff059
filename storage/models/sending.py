"""What we send: samples, campaigns, messages and airtime, and what became of each."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.models.types import ROOM, Moment


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
        ROOM,
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


class Directory(SQLModel, table=True):
    """A respondent's number, sealed: see `sealing.py`. Gone when nothing is to be sent any more."""

    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    sealed: str = Field(sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)  # of the key that sealed it
    added_at: datetime = Field(sa_type=Moment)


class OutboundMessage(SQLModel, table=True):
    """A text that we send: written first, then sent. Its states and their changes: `outbox.py`."""

    __tablename__ = "outbound_message"
    __table_args__ = (
        Index("outbound_message_due", "state", "not_before"),
        Index("outbound_message_message", "message_id"),
        Index("outbound_message_respondent", "respondent"),
        ROOM,
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


class ResultsWanted(SQLModel, table=True):
    """Somebody who asked for one text with the results. Gone with an opt-out or a withdrawal."""

    __tablename__ = "results_wanted"
    __table_args__ = (Index("results_wanted_respondent", "respondent"),)

    wave: str = Field(primary_key=True, sa_type=Text)
    respondent: str = Field(primary_key=True, foreign_key="respondent.pseudonym", sa_type=Text)
    interview: str = Field(sa_type=Text)  # that ended with this wish
    asked_at: datetime = Field(sa_type=Moment)
    written_at: datetime | None = Field(default=None, sa_type=Moment)  # to the outbox


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
