"""Folding what is to be sent into the record: messages, sealed numbers, opt-outs, delivery reports.

As with the rest (`fold.py`), the same rows come out whatever the order and however often: a message's id
is a hash of what asked for it, a number keeps the time of its entry, the latest word on wanting messages
holds, and of reports the one that says most. The caller holds the respondents' lock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, update

from storage.database import Write, among, moments
from storage.entries import PRIORITY, STOP, DeliveryReported, Hop, OptedOut, Outgoing, TextCommand
from storage.models import DeliveryReport, Directory, OutboundMessage, table_of
from storage.models import Respondent as _Respondent
from storage.outbox import DUE, apply_reports, rank_of, settle_contacts

Due = tuple[str, str]  # message id, kind: what a queue needs to know

_respondent, _report = table_of(_Respondent), table_of(DeliveryReport)
_write_messages = Write(
    OutboundMessage,
    ("id", "natural_key", "wave", "respondent", "interview", "kind", "priority", "text", "sender",
     "aggregator", "network_code", "state", "not_before", "attempts", "created_at"),
)  # fmt: skip
_write_directory = Write(
    Directory,
    ("respondent", "sealed", "key_id", "added_at"),
    ("sealed", "key_id", "added_at"),
    where="excluded.added_at > directory.added_at",
)
_REPORT = ("rank", "at", "status", "failure_reason")
_MORE = (
    "(excluded.rank > delivery_report.rank OR (excluded.rank = delivery_report.rank"
    " AND excluded.at > delivery_report.at))"
)
_write_reports = Write(
    DeliveryReport,
    ("aggregator", "message_id", *_REPORT, "network_code", "respondent", "known"),
    {name: f"CASE WHEN {_MORE} THEN excluded.{name} ELSE delivery_report.{name} END" for name in _REPORT}
    | {name: f"COALESCE(excluded.{name}, delivery_report.{name})" for name in ("network_code", "respondent")},
)


def message_id_of(natural_key: str) -> str:
    """The id of the message that `natural_key` asked for."""
    return blake2b(natural_key.encode(), digest_size=16).hexdigest()


def fold_outgoing(
    db: Connection, hops: Sequence[Hop], commands: Sequence[TextCommand], opt_outs: Sequence[OptedOut]
) -> list[Due]:
    """Fold in what these entries ask to send. Returns the messages that they are about, new or not."""
    store = moments(db)
    messages: dict[str, tuple[Any, ...]] = {}
    numbers: dict[str, tuple[datetime, str, str | None]] = {}

    def note(
        asked_by: str, wave: str | None, respondent: str, interview: str | None, at: datetime, out: Outgoing,
        network_code: str | None = None,
    ) -> None:  # fmt: skip
        if out.sealed is not None and (respondent not in numbers or numbers[respondent][0] < at):
            numbers[respondent] = (at, out.sealed, out.key_id)
        for n, (kind, text) in enumerate(out.sends):
            key = f"{asked_by}:{n}"
            row_id = message_id_of(key)
            messages[row_id] = (
                row_id, key, wave, respondent, interview, kind, PRIORITY[kind], text, out.sender,
                out.aggregator or "", out.network_code or network_code, DUE, store(at), 0, store(at),
            )  # fmt: skip

    for hop in hops:
        if hop.outgoing is not None:
            network = hop.opened.get("network_code") if hop.opened else None
            note(
                f"{hop.interview}:{hop.version}", hop.wave, hop.respondent, hop.interview, hop.at,
                hop.outgoing, network,
            )  # fmt: skip
    for command in commands:
        if command.outgoing is not None:
            asked_by = command.message_id or f"{command.respondent}:{int(command.at.timestamp() * 1000)}"
            note(f"text:{asked_by}", command.wave, command.respondent, None, command.at, command.outgoing)
    stops = _latest(
        [(o.respondent, o.at) for o in opt_outs] + [(c.respondent, c.at) for c in commands if c.what == STOP]
    )
    returns = _latest([(h.respondent, h.at) for h in hops if h.opted_in])
    touched = numbers.keys() | stops.keys() | returns.keys() | {row[3] for row in messages.values()}
    if not touched:
        return []
    _write_messages(db, sorted(messages.values()))
    _write_directory(
        db, [(who, sealed, key, store(at)) for who, (at, sealed, key) in sorted(numbers.items())]
    )
    for column, moments_of in ((_respondent.c.opted_out_at, stops), (_respondent.c.opted_in_at, returns)):
        for respondent, at in sorted(moments_of.items()):
            db.execute(
                update(_respondent)
                .where(_respondent.c.pseudonym == respondent, column.is_(None) | (column < at))
                .values({column: at})
            )
    settle_contacts(db, touched)
    return [(row[0], row[5]) for row in messages.values()]


def _latest(told: Iterable[tuple[str, datetime]]) -> dict[str, datetime]:
    """The latest moment of each respondent."""
    return dict(sorted(told, key=itemgetter(1)))


def fold_reports(db: Connection, reports: Sequence[DeliveryReported]) -> None:
    """Keep the report that says most of each message, and bring the messages that we know up to it."""
    best: dict[tuple[str, str], DeliveryReported] = {}
    told: dict[tuple[str, str], dict[str, str | None]] = {}
    for report in sorted(reports, key=lambda r: (rank_of(r.status), r.at, r.status)):
        key = (report.aggregator, report.message_id)
        best[key] = report
        also = told.setdefault(key, {"network_code": None, "respondent": None})
        also["network_code"] = report.network_code or also["network_code"]
        also["respondent"] = report.respondent or also["respondent"]
    store = moments(db)
    _write_reports(
        db,
        [
            (*key, rank_of(r.status), store(r.at), r.status, r.failure_reason, told[key]["network_code"],
             told[key]["respondent"], False)
            for key, r in sorted(best.items())
        ],
    )  # fmt: skip
    ids = {report.message_id for report in best.values()}
    apply_reports(db, ids)
    known = table_of(OutboundMessage).c.message_id
    db.execute(
        update(_report)
        .where(among(db, _report.c.message_id, ids), ~_report.c.known, _report.c.message_id.in_(
            table_of(OutboundMessage).select().with_only_columns(known).where(among(db, known, ids))
        ))
        .values(known=True)
    )  # fmt: skip
