"""What is done over all messages from time to time: see `outbox.py` for one of them.

What may go now is found for the queues, whatever jobs they lost; what was claimed and not heard of again
becomes unknown; what is unknown is settled where a delivery report leaves no doubt; numbers that nothing
is to be sent to any more are forgotten.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Engine, and_, delete, false, func, or_, select, true, update

from storage.database import moments, reading, writing
from storage.models import DeliveryReport, Directory, OutboundMessage, table_of
from storage.outbox import (
    DUE,
    HALTED,
    HELD,
    NONE_CAME,
    SENDING,
    UNKNOWN,
    WANTS_RESULTS,
    apply_reports,
    know_report,
    settle_contacts,
)

_message, _report, _directory = table_of(OutboundMessage), table_of(DeliveryReport), table_of(Directory)


def due_messages(
    engine: Engine, now: datetime, most: int, paused: Collection[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Id and kind of messages that may go now, the most urgent first; none of the paused
    (aggregator, sender), none whose campaign does not run."""
    asleep = [
        and_(_message.c.aggregator == aggregator, func.coalesce(_message.c.sender, "") == sender)
        for aggregator, sender in paused
    ]
    with reading(engine) as db:
        found = db.execute(
            select(_message.c.id, _message.c.kind)
            .where(_message.c.state == DUE, _message.c.not_before <= now, ~or_(false(), *asleep), ~HALTED)
            .order_by(_message.c.priority, _message.c.not_before)
            .limit(most)
        )
        return [(row.id, row.kind) for row in found]


def lose_stuck(engine: Engine, before: datetime) -> int:
    """Claimed before `before` and not heard of since: whoever sent it died. How many are unknown now."""
    with writing(engine) as db:
        lost = db.execute(
            update(_message)
            .where(_message.c.state == SENDING, _message.c.claimed_at < before)
            .values(state=UNKNOWN, failure_reason="worker_lost")
        )
        return lost.rowcount


def release(engine: Engine, aggregators: Collection[str], *, unopened: bool = True) -> int:
    """held -> due, of aggregators that there is an account at now; not those whose number did not open,
    unless `unopened`: the key has been given anew."""
    with writing(engine) as db:
        if not aggregators:
            return 0
        freed = db.execute(
            update(_message)
            .where(
                _message.c.state == HELD,
                _message.c.aggregator.in_(list(aggregators)),
                true() if unopened else _message.c.failure_reason != "not_opened",
            )
            .values(state=DUE, failure_reason=None)
        )
        return freed.rowcount


def settle_unknown(engine: Engine, before: datetime) -> int:
    """Give reports of messages that we do not know to the unknown message that they must be about.

    Of an unknown message we never learnt the aggregator's id, so a report is matched by respondent, and
    only if one alone can be meant: one such report, one unknown message. The reports are older than
    `before`, so that no sender is still to come with their ids. How many were settled.
    """
    with writing(engine) as db:
        stray = db.execute(
            select(
                _report.c.aggregator, _report.c.respondent, func.max(_report.c.message_id).label("message_id")
            )
            .where(~_report.c.known, _report.c.respondent.is_not(None), _report.c.at < before)
            .group_by(_report.c.aggregator, _report.c.respondent)
            .having(func.count() == 1)
        ).all()
        settled = 0
        for row in stray:
            unknown = (
                db.execute(
                    select(_message.c.id).where(
                        _message.c.respondent == row.respondent,
                        _message.c.aggregator == row.aggregator,
                        _message.c.message_id.is_(None),
                        _message.c.state.in_((UNKNOWN, SENDING)),
                    )
                )
                .scalars()
                .all()
            )
            if len(unknown) != 1:
                continue
            know_report(db, [(row.aggregator, row.message_id, NONE_CAME, moments(db)(before), True)])
            matched = db.execute(
                update(_message)
                .where(_message.c.id == unknown[0], _message.c.state == UNKNOWN)
                .values(message_id=row.message_id)
            )
            settled += matched.rowcount
            apply_reports(db, [row.message_id])
        return settled


def counts(engine: Engine) -> list[tuple[str, str, str, int]]:
    """How many messages there are by kind, state and why: no number and no text."""
    reason = func.coalesce(_message.c.failure_reason, "")
    with reading(engine) as db:
        found = db.execute(
            select(_message.c.kind, _message.c.state, reason, func.count(), func.min(_message.c.priority))
            .group_by(_message.c.kind, _message.c.state, reason)
            .order_by(func.min(_message.c.priority), _message.c.state, reason)
        )
        return [(row[0], row[1], row[2], int(row[3])) for row in found]


def held_count(engine: Engine) -> int:
    """How many wait for an account."""
    held = select(func.count()).select_from(_message).where(_message.c.state == HELD)
    with reading(engine) as db:
        return int(db.execute(held).scalar_one())


def forget_numbers(engine: Engine, before: datetime) -> int:
    """Forget numbers that were last used before `before`, and those of `settle_contacts`; how many. Not
    those that the results are still to be sent to: their respondents asked for that."""
    with writing(engine) as db:
        had = db.execute(select(func.count()).select_from(_directory)).scalar_one()
        db.execute(delete(_directory).where(_directory.c.added_at < before, ~WANTS_RESULTS))
        settle_contacts(db)
        return int(had - db.execute(select(func.count()).select_from(_directory)).scalar_one())
