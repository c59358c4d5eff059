"""What is done over all airtime payments from time to time: see `airtime.py` for one of them.

Who completed and has no payment yet gets one, whatever became of the events, jobs and workers in between;
what was claimed and not heard of again becomes unknown; what is unknown is settled where a status leaves
no doubt; what the budget refused is due again once there is room. And the ledger as staff see it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, case, exists, func, or_, select, update

from flows.fielding import Thanks
from storage.airtime import (
    COMMITTED,
    DUE,
    LOOKUP,
    REFUSED_BUDGET,
    SENDING,
    SENT,
    STATUS,
    SUCCEEDED,
    UNKNOWN,
    apply_reports,
    decimal,
    hundredths,
    move,
    payment_id,
    settle_unknown,
    write_reports,
)
from storage.database import Write, moments, reading, writing
from storage.models import (
    COMPLETE,
    AirtimeBudget,
    AirtimePayment,
    AirtimeReport,
    Event,
    Interview,
    UssdSession,
    table_of,
)

MOST = 500  # payments earned, reopened or settled a turn

_payment, _budget, _report = table_of(AirtimePayment), table_of(AirtimeBudget), table_of(AirtimeReport)
_interview, _event, _session = table_of(Interview), table_of(Event), table_of(UssdSession)

_write_payments = Write(
    AirtimePayment,
    ("id", "wave", "respondent", "interview", "aggregator", "amount", "currency", "state", "not_before",
     "attempts", "refusals", "earned_at", "created_at", "updated_at"),
)  # fmt: skip
_write_budgets = Write(
    AirtimeBudget, ("wave", "currency", "budget", "committed"), ("budget",),
    where="excluded.budget <> airtime_budget.budget",
)  # fmt: skip


def keep_budget(engine: Engine, wave: str, thanks: Thanks) -> None:
    """The wave's budget as its file has it now; what is committed stays."""
    with writing(engine) as db:
        _write_budgets(db, [(wave, thanks.currency, hundredths(thanks.budget), 0)])


def earn(
    engine: Engine, wave: str, thanks: Thanks, aggregators: Collection[str], now: datetime,
    since: datetime | None = None,
) -> int:  # fmt: skip
    """Payments for who completed (since `since`) and has none; how many.

    Only where the interview ended through one of `aggregators`, those that there is an account at: a
    simulated handset can name any number.
    """
    through = (
        select(_session.c.aggregator)
        .join_from(_event, _session, _session.c.id == _event.c.session)
        .where(
            _event.c.interview == _interview.c.id, _event.c.kind == "Ended",
            _session.c.respondent == _interview.c.respondent,
        )
        .order_by(_event.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )  # fmt: skip
    unpaid = (
        select(_interview.c.respondent, _interview.c.id, _interview.c.ended_at, through.label("aggregator"))
        .where(
            _interview.c.wave == wave, _interview.c.disposition == COMPLETE, _interview.c.counted,
            ~exists().where(
                _payment.c.wave == _interview.c.wave, _payment.c.respondent == _interview.c.respondent
            ),
        )
        .order_by(_interview.c.ended_at)
    )  # fmt: skip
    if since is not None:
        unpaid = unpaid.where(_interview.c.ended_at >= since)
    found = unpaid.subquery()
    with reading(engine) as db:  # of many interviews it takes seconds: nobody's writing waits for it
        rows = db.execute(
            select(found).where(found.c.aggregator.in_(sorted(aggregators))).limit(MOST)
        ).all()  # fmt: skip
    if not rows:
        return 0
    with writing(engine) as db:
        store = moments(db)
        at = store(now)
        _write_payments(
            db,
            [
                (payment_id(wave, row.respondent), wave, row.respondent, row.id, row.aggregator,
                 hundredths(thanks.amount), thanks.currency, DUE, at, 0, 0, store(row.ended_at), at, at)
                for row in rows
            ],
        )  # fmt: skip
    return len(rows)


def due_payments(
    engine: Engine, now: datetime, most: int, waves: Collection[str], aggregators: Collection[str]
) -> list[str]:
    """Payments that may go now, who completed first first."""
    with reading(engine) as db:
        found = db.execute(
            select(_payment.c.id)
            .where(
                _payment.c.state == DUE, _payment.c.not_before <= now, _payment.c.wave.in_(sorted(waves)),
                _payment.c.aggregator.in_(sorted(aggregators)),
            )
            .order_by(_payment.c.earned_at)
            .limit(most)
        )  # fmt: skip
        return list(found.scalars())


def lose_stuck(engine: Engine, before: datetime, now: datetime) -> int:
    """Claimed before `before` and not heard of since: whoever sent it died. How many are unknown now."""
    with writing(engine) as db:
        lost = db.execute(
            update(_payment)
            .where(_payment.c.state == SENDING, _payment.c.claimed_at < before)
            .values(state=UNKNOWN, reason="worker_lost", updated_at=now)
        )
        return lost.rowcount


def reopen(engine: Engine, now: datetime) -> int:
    """refused_budget -> due, the earliest first, as far as there is money again; how many. The claim
    asks for the money again: this only gives it something to ask for."""
    opened = 0
    with writing(engine) as db:
        room = {
            (b.wave, b.currency): b.budget - b.committed
            for b in db.execute(select(_budget).where(_budget.c.committed < _budget.c.budget))
        }
        for (wave, currency), left in room.items():
            refused = db.execute(
                select(_payment.c.id, _payment.c.amount)
                .where(
                    _payment.c.state == REFUSED_BUDGET, _payment.c.wave == wave,
                    _payment.c.currency == currency,
                )
                .order_by(_payment.c.earned_at)
                .limit(MOST)
            ).all()  # fmt: skip
            for row in refused:
                if row.amount > left:
                    break
                left -= row.amount
                opened += move(db, row.id, (REFUSED_BUDGET,), DUE, now, reason=None)
    return opened


def settle(engine: Engine, now: datetime, before: datetime) -> int:
    """Bring payments up to statuses that came while nobody knew whose they were; how many moved.

    A status recorded at the very moment at which the call of its order returned may have been missed by
    both: here it is found.
    """
    with writing(engine) as db:
        named = select(_payment.c.request_id, _payment.c.transaction_id).where(
            _payment.c.state.in_((SENDING, SENT, UNKNOWN)),
            exists().where(
                _report.c.kind.in_((STATUS, LOOKUP)), _report.c.aggregator == _payment.c.aggregator,
                func.lower(_report.c.status).in_(("success", "failed")),
                or_(
                    _report.c.reference == _payment.c.request_id,
                    _report.c.reference == _payment.c.transaction_id,
                ),
            ),
        )  # fmt: skip
        references = {value for row in db.execute(named.limit(MOST)) for value in row if value}
        moved = apply_reports(db, references, now) if references else 0
        return moved + settle_unknown(db, now, before)


def silent(engine: Engine, now: datetime, before: datetime, most: int) -> list[tuple[str, str, str]]:
    """Payment, aggregator and a reference to look up, of orders that nothing was heard of since `before`."""
    reference = func.coalesce(_payment.c.request_id, _payment.c.transaction_id)
    with reading(engine) as db:
        found = db.execute(
            select(_payment.c.id, _payment.c.aggregator, reference)
            .where(
                _payment.c.state.in_((SENT, UNKNOWN)), reference.is_not(None),
                _payment.c.updated_at < before, _payment.c.not_before <= now,
            )
            .order_by(_payment.c.not_before)
            .limit(most)
        )  # fmt: skip
        return [(row[0], row[1], row[2]) for row in found]


def note_lookup(
    engine: Engine, payment: str, aggregator: str, reference: str, word: str | None, now: datetime,
    again: datetime,
) -> int:  # fmt: skip
    """Keep what a look-up said, and when to look next; how many payments it moved."""
    with writing(engine) as db:
        db.execute(update(_payment).where(_payment.c.id == payment).values(not_before=again))
        if word is None:
            return 0
        row = (aggregator, LOOKUP, reference, word, moments(db)(now), None, None, None, payment)
        write_reports(db, [row])
        return apply_reports(db, [reference], now)


# ---------------------------------------------------------------- the ledger, as staff see it


@dataclass(frozen=True, slots=True)
class Balance:
    """A wave's budget. budget = spent + reserved + left; `left` is negative where it was lowered."""

    wave: str
    currency: str
    budget: Decimal
    spent: Decimal  # succeeded
    reserved: Decimal  # on its way, or nobody knows
    booked: bool  # what is committed is the sum of these payments


@dataclass(frozen=True, slots=True)
class Total:
    wave: str
    state: str
    reason: str
    payments: int
    amount: Decimal
    currency: str


def balances(engine: Engine) -> list[Balance]:
    """Each wave's budget and what has become of it."""
    mine = (_payment.c.wave == _budget.c.wave) & (_payment.c.currency == _budget.c.currency)
    spent = func.sum(case((_payment.c.state == SUCCEEDED, _payment.c.amount), else_=0))
    held = func.sum(case((_payment.c.state.in_(COMMITTED), _payment.c.amount), else_=0))
    with reading(engine) as db:
        rows = db.execute(
            select(_budget, func.coalesce(spent, 0).label("spent"), func.coalesce(held, 0).label("held"))
            .join_from(_budget, _payment, mine, isouter=True)
            .group_by(*_budget.c)
            .order_by(_budget.c.wave, _budget.c.currency)
        )
        return [
            Balance(
                r.wave, r.currency, decimal(r.budget), decimal(int(r.spent)),
                decimal(int(r.held) - int(r.spent)), r.committed == r.held,
            )
            for r in rows
        ]  # fmt: skip


def totals(engine: Engine) -> list[Total]:
    """Payments by wave, state and why."""
    reason = func.coalesce(_payment.c.reason, "")
    with reading(engine) as db:
        rows = db.execute(
            select(
                _payment.c.wave, _payment.c.state, reason, func.count(), func.sum(_payment.c.amount),
                _payment.c.currency,
            )
            .group_by(_payment.c.wave, _payment.c.state, reason, _payment.c.currency)
            .order_by(_payment.c.wave, _payment.c.state, reason)
        )  # fmt: skip
        return [Total(r[0], r[1], r[2], int(r[3]), decimal(int(r[4])), r[5]) for r in rows]


def strays(engine: Engine) -> int:
    """Requests that statuses name and no payment does: money that left the account in another way?"""
    known = exists().where(
        or_(
            _payment.c.request_id == _report.c.reference, _payment.c.transaction_id == _report.c.reference
        )
    )  # fmt: skip
    with reading(engine) as db:
        count = select(func.count(_report.c.reference.distinct())).where(_report.c.kind == STATUS, ~known)
        return int(db.execute(count).scalar_one())


def ledger(engine: Engine) -> Iterator[dict[str, Any]]:
    """Every payment, for a spreadsheet; neither number nor pseudonym."""
    names = (
        "id", "wave", "aggregator", "state", "reason", "amount", "currency", "attempts", "key", "request_id",
        "transaction_id", "earned_at", "created_at", "claimed_at", "updated_at",
    )  # fmt: skip
    with reading(engine) as db:
        found = db.execution_options(yield_per=1000).execute(
            select(*(_payment.c[n] for n in names)).order_by(_payment.c.wave, _payment.c.earned_at)
        )
        for row in found:
            yield dict(row._mapping) | {"amount": decimal(row.amount)}
