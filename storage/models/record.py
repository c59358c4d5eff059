"""What respondents answered, and what their answers mean. Written by the recorder and by `migrate`."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.models.types import ROOM, Moment

IN_PROGRESS, COMPLETE, WITHDRAWN = "in_progress", "complete", "withdrawn"
PARTIAL, BREAK_OFF = "partial", "break_off"
#: Stopped before the end, whether or not the sweep has closed it.
UNFINISHED = (IN_PROGRESS, PARTIAL, BREAK_OFF)


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
        ROOM,
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
    __table_args__ = ROOM

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


class WaveWord(SQLModel, table=True):
    """The operator's last word on whether a wave is open, over the times in its file."""

    __tablename__ = "wave_word"

    wave: str = Field(primary_key=True, sa_type=Text)
    word: str = Field(sa_type=Text)  # open | close | times
    said_at: datetime = Field(sa_type=Moment)
