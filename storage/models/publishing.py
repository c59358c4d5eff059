"""What leaves: releases with their figures and weights, queries beside them, exports of rows."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Text
from sqlmodel import Field, SQLModel

from storage.models.types import Moment


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


class ExportFetch(SQLModel, table=True):
    """One time that somebody was sent an export's archive, whole or in part. Never deleted."""

    __tablename__ = "export_fetch"
    __table_args__ = (
        ForeignKeyConstraint(("export",), ("export_audit.id",)),
        Index("export_fetch_export", "export"),
    )

    id: str = Field(primary_key=True, sa_type=Text)  # 32 hex
    export: str = Field(sa_type=Text)
    fetched_at: datetime = Field(sa_type=Moment)
    fetched_by: str = Field(sa_type=Text)  # as export_audit.asked_by
    part: bool  # asked for by Range: a download that goes on, or one in pieces
