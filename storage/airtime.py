"""The airtime ledger: what who completed has earned, and what became of it. One payment a wave each.

    due ──claim──> sending ──taken──> sent ──status──> succeeded | failed
     │ ^  └─no money─> refused_budget ──money again──> due
     │ └──try again────┘│ └─nobody knows──> unknown ──status, look-up, a person──> succeeded | failed
     │                  └─refused──> failed ──a person──> due
     └──opted out, withdrawn, no number──> cancelled

**Never twice.** A payment's id is a hash of wave and respondent; whoever folds, sweeps or completes again
finds the row. It is claimed before the aggregator is called, and only a due one can be claimed. What may
have been paid is `unknown` and never due again by itself.

**Never past the budget.** `airtime_budget.committed` is at every commit the sum of the wave's payments in
the states of COMMITTED. One guarded UPDATE takes an amount out of what is left, in the transaction that
claims; the transaction that ends a payment without paying gives it back.

**The Idempotency-Key** is made of the payment and the number of its refusals. It stays the same for as long
as the last try may have been paid after all, so that the aggregator itself can recognise the second order;
once the aggregator has said that nothing was paid, the next try has a fresh one, or it would get the same
refusal again. It is derived, not drawn: after a restored backup the same payment has the same key.

Amounts are whole hundredths here, Decimal outside. No number is ever here: see `sealing.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, exists, func, or_, select, update

from storage.database import Write, among, moments, reading, writing
from storage.entries import AirtimeReported
from storage.models import (
    WITHDRAWN,
    AirtimeBudget,
    AirtimePayment,
    AirtimeReport,
    Directory,
    Interview,
    Respondent,
    table_of,
)
from storage.outbox import OPTED_OUT

DUE, SENDING, SENT, SUCCEEDED, FAILED = "due", "sending", "sent", "succeeded", "failed"
UNKNOWN, REFUSED_BUDGET, CANCELLED = "unknown", "refused_budget", "cancelled"

#: The money is gone, or may be.
COMMITTED = (SENDING, SENT, UNKNOWN, SUCCEEDED)

STATUS, VALIDATION, LOOKUP = "status", "validation", "lookup"
VALIDATED, REFUSED = "Validated", "Failed"
#: What a status word says; any other is kept and says nothing. `Success` holds over `Failed`: of two words
#: that contradict each other, the one that says that the money is gone.
_RANKS = {"success": 2, "failed": 1}

_payment, _budget, _report = table_of(AirtimePayment), table_of(AirtimeBudget), table_of(AirtimeReport)
_respondent, _interview, _directory = table_of(Respondent), table_of(Interview), table_of(Directory)

_REPORT = ("aggregator", "kind", "reference", "status", "at", "respondent", "amount", "currency", "detail")
_first = "CASE WHEN excluded.at < airtime_report.at THEN excluded.at ELSE airtime_report.at END"
write_reports = Write(AirtimeReport, _REPORT, {"at": _first})


def payment_id(wave: str, respondent: str) -> str:
    """The id of the payment that a respondent can earn in a wave: 32 hex."""
    return blake2b(f"airtime:{wave}:{respondent}".encode(), digest_size=16).hexdigest()


def hundredths(amount: Decimal) -> int:
    """Raises ValueError on what is no whole number of hundredths."""
    scaled = amount * 100
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError("an amount has at most two decimals")
    return int(scaled)


def decimal(amount: int) -> Decimal:
    return (Decimal(amount) / 100).quantize(Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment with what decides whether it may go. The sealed number stays out of logs."""

    id: str
    wave: str
    respondent: str
    aggregator: str
    amount: Decimal
    currency: str
    state: str
    not_before: datetime
    earned_at: datetime
    attempts: int
    key: str | None
    transaction_id: str | None
    sealed: str | None

    def __repr__(self) -> str:
        return f"Payment({self.id}, {self.state})"


# ---------------------------------------------------------------- one payment


#: Said since they completed, or before, and they have not come back: nothing is sent to them.
_UNWANTED = exists().where(_respondent.c.pseudonym == _payment.c.respondent, OPTED_OUT)
_ERASED = exists().where(
    _interview.c.respondent == _payment.c.respondent,
    _interview.c.wave == _payment.c.wave,
    _interview.c.disposition == WITHDRAWN,
)


def find_payment(engine: Engine, payment: str) -> Payment | None:
    columns = [_payment.c[n] for n in Payment.__slots__ if n != "sealed"]
    with reading(engine) as db:
        row = db.execute(
            select(*columns, _directory.c.sealed)
            .join_from(_payment, _directory, _directory.c.respondent == _payment.c.respondent, isouter=True)
            .where(_payment.c.id == payment)
        ).first()
    return Payment(**dict(row._mapping) | {"amount": decimal(row.amount)}) if row is not None else None


def claim(engine: Engine, payment: str, now: datetime) -> str:
    """Take a due payment for sending, with its money. Whoever gets SENDING sends it, nobody else will.

    Else why not: CANCELLED, REFUSED_BUDGET, UNKNOWN (a try that seemed to fail was paid), or "" (not due).
    """
    with writing(engine) as db:
        row = db.execute(
            select(
                _payment, _UNWANTED.label("unwanted"), _ERASED.label("erased"),
                exists().where(_directory.c.respondent == _payment.c.respondent).label("reachable"),
            )
            .where(_payment.c.id == payment, _payment.c.state == DUE, _payment.c.not_before <= now)
            .with_for_update(of=_payment, skip_locked=True)
        ).first()  # fmt: skip
        if row is None:
            return ""
        why = next(
            (why for why, holds in (("opted_out", row.unwanted), ("withdrawn", row.erased),
                                    ("no_number", not row.reachable)) if holds), "",
        )  # fmt: skip
        if why:
            move(db, payment, (DUE,), CANCELLED, now, reason=why)
            return CANCELLED
        if row.attempts and any(rank_of(s.status) == 2 for s in _strays(db, row)):
            move(db, payment, (DUE,), UNKNOWN, now, reason="paid_after_all")
            return UNKNOWN
        taken = db.execute(
            update(_budget)
            .where(
                _budget.c.wave == row.wave, _budget.c.currency == row.currency,
                _budget.c.committed + row.amount <= _budget.c.budget,
            )
            .values(committed=_budget.c.committed + row.amount)
        )  # fmt: skip
        if taken.rowcount != 1:
            move(db, payment, (DUE,), REFUSED_BUDGET, now, reason="over_budget")
            return REFUSED_BUDGET
        db.execute(
            update(_payment)
            .where(_payment.c.id == payment)
            .values(
                state=SENDING, claimed_at=now, updated_at=now, attempts=row.attempts + 1, reason=None,
                key=f"d16-{row.id}-{row.refusals}",
            )
        )  # fmt: skip
        return SENDING


def defer(engine: Engine, payment: str, until: datetime, now: datetime) -> bool:
    """due -> due, not before `until`."""
    return _moved(engine, payment, (DUE,), DUE, now, not_before=until)


def take(engine: Engine, payment: str, now: datetime, *, request_id: str, status_raw: str) -> bool:
    """sending -> sent, and at once whatever a status that was quicker has said.

    Also from unknown: who was given up as lost may come back with the answer.
    """
    with writing(engine) as db:
        values = {"request_id": request_id, "status_raw": status_raw, "reason": None}
        done = move(db, payment, (SENDING, UNKNOWN), SENT, now, **values)
        if not done:  # a status or a person was quicker
            db.execute(
                update(_payment)
                .where(_payment.c.id == payment, _payment.c.request_id.is_(None))
                .values(request_id=request_id)
            )
        apply_reports(db, [request_id], now)
        return done


def lose(engine: Engine, payment: str, now: datetime, reason: str) -> bool:
    """sending -> unknown: it may have been paid."""
    return _moved(engine, payment, (SENDING,), UNKNOWN, now, reason=reason)


def fail(engine: Engine, payment: str, now: datetime, reason: str) -> bool:
    """sending -> failed: refused, and certainly not paid."""
    return _moved(engine, payment, (SENDING,), FAILED, now, reason=reason)


def try_again(
    engine: Engine, payment: str, now: datetime, until: datetime, reason: str, *,
    refused: bool, counted: bool = True,
) -> bool:  # fmt: skip
    """sending -> due: it was not paid. `refused`: by the aggregator's own word on this order, so that its
    key and its validation are spent. Not `counted`: the fault was the account's."""
    spent: dict[str, Any] = {"refusals": _payment.c.refusals + 1, "transaction_id": None} if refused else {}
    if not counted:
        # One at least: a key that has been used is a try to look back on.
        spent["attempts"] = func.coalesce(func.nullif(_payment.c.attempts - 1, 0), 1)
    return _moved(engine, payment, (SENDING,), DUE, now, not_before=until, reason=reason, **spent)


def settle_by_hand(engine: Engine, payment: str, paid: bool, now: datetime) -> bool:
    """unknown -> succeeded or failed, on the word of somebody who has asked the aggregator."""
    return _moved(engine, payment, (UNKNOWN,), SUCCEEDED if paid else FAILED, now, reason="by_hand")


def retry_failed(engine: Engine, wave: str, now: datetime) -> int:
    """failed -> due, all of a wave; how many. For after a mend. A key that only a web server or the network
    refused stays, see above."""
    on_the_way = or_(
        _payment.c.reason.startswith("http_"),
        _payment.c.reason.in_(("not_connected", "certificate_not_valid")),
    )
    with writing(engine) as db:
        failed = db.execute(
            update(_payment)
            .where(_payment.c.wave == wave, _payment.c.state == FAILED)
            .values(
                state=DUE, not_before=now, updated_at=now, reason="by_hand", attempts=1,
                refusals=_payment.c.refusals + case((on_the_way, 0), else_=1), transaction_id=None,
                request_id=None,
            )
        )  # fmt: skip
        return failed.rowcount


def move(
    db: Connection, payment: str, states: Sequence[str], to: str, now: datetime, **values: Any
) -> bool:  # fmt: skip
    """Change a payment's state, and its budget with it: the one way between states but `claim`'s."""
    row = db.execute(
        select(_payment.c.state, _payment.c.amount, _payment.c.wave, _payment.c.currency)
        .where(_payment.c.id == payment, _payment.c.state.in_(states))
        .with_for_update()
    ).first()
    if row is None:
        return False
    db.execute(
        update(_payment).where(_payment.c.id == payment).values(state=to, updated_at=now, **values)
    )  # fmt: skip
    spent = row.amount * ((to in COMMITTED) - (row.state in COMMITTED))
    if spent:
        # Unguarded: giving back, or what we learn to have been paid, which no guard can undo.
        db.execute(
            update(_budget)
            .where(_budget.c.wave == row.wave, _budget.c.currency == row.currency)
            .values(committed=_budget.c.committed + spent)
        )
    return True


def _moved(
    engine: Engine, payment: str, states: Sequence[str], to: str, now: datetime, **values: Any
) -> bool:  # fmt: skip
    with writing(engine) as db:
        return move(db, payment, states, to, now, **values)


# ---------------------------------------------------------------- what aggregators say and ask


def rank_of(status: str) -> int:
    """2 paid, 1 not paid, 0 neither."""
    return _RANKS.get(status.strip().lower(), 0)


def fold_airtime(db: Connection, reports: Sequence[AirtimeReported]) -> None:
    """Keep these statuses, and bring the payments that they name up to them. Any order, any repeats."""
    store = moments(db)
    rows: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for r in sorted(reports, key=lambda r: r.at, reverse=True):
        rows[r.aggregator, r.request_id, r.status] = (
            r.aggregator, STATUS, r.request_id, r.status, store(r.at), r.respondent, r.amount, r.currency,
            r.detail,
        )  # fmt: skip
    write_reports(db, sorted(rows.values(), key=lambda row: row[:4]))
    if reports:
        apply_reports(db, {r.request_id for r in reports}, max(r.at for r in reports))


def apply_reports(db: Connection, references: Collection[str], now: datetime) -> int:
    """Bring the payments that have these request or transaction ids up to what was said; how many moved."""
    found: dict[str, Any] = {}
    for column in (_payment.c.request_id, _payment.c.transaction_id):
        for row in db.execute(
            select(_payment.c.id, _report.c.status)
            .join(_report, and_(_report.c.aggregator == _payment.c.aggregator, _report.c.reference == column))
            .where(among(db, column, references), _report.c.kind != VALIDATION)
        ):
            known = found.get(row.id)
            if known is None or rank_of(row.status) > rank_of(known.status):
                found[row.id] = row
    if not found:
        return 0
    # All payments before any budget, in one order: whoever holds a budget waits for no payment.
    held = db.execute(
        select(_payment.c.id)
        .where(among(db, _payment.c.id, found))
        .order_by(_payment.c.wave, _payment.c.currency, _payment.c.id)
        .with_for_update()
    ).scalars()
    moved = 0
    for ident in held.all():
        word = found[ident].status
        rank = rank_of(word)
        if rank == 2:
            states = (SENDING, SENT, UNKNOWN, FAILED)
            moved += move(db, ident, states, SUCCEEDED, now, status_raw=word, reason=None)
        elif rank == 1:
            moved += move(
                db, ident, (SENDING, SENT, UNKNOWN), FAILED, now, status_raw=word, reason="not_delivered"
            )
        else:
            db.execute(
                update(_payment)
                .where(_payment.c.id == ident, _payment.c.state.in_((SENDING, SENT, UNKNOWN)))
                .values(status_raw=word)
            )
    return moved


def _strays(db: Connection, payment: Any) -> Sequence[Any]:
    """Statuses of no payment that we know which this one alone, by number and amount, can be about."""
    known = exists().where(
        or_(
            _payment.c.request_id == _report.c.reference,
            _payment.c.transaction_id == _report.c.reference,
        )
    )
    return db.execute(
        select(_report.c.reference, _report.c.status).where(
            _report.c.aggregator == payment.aggregator, _report.c.kind == STATUS,
            _report.c.respondent == payment.respondent, _report.c.amount == payment.amount,
            _report.c.currency == payment.currency, ~known,
        )
    ).all()  # fmt: skip


def settle_unknown(db: Connection, now: datetime, before: datetime) -> int:
    """Give statuses that name no payment to the unknown one that they must be about; how many.

    Of an unknown payment we never learnt the aggregator's id, so a status is matched by respondent, amount
    and currency, and only where one request and one payment can be meant. `before`: unknown since then, so
    that no sender is still to come with the id.
    """
    lost = db.execute(
        select(_payment).where(
            _payment.c.state == UNKNOWN, _payment.c.request_id.is_(None), _payment.c.updated_at < before
        )
    ).all()
    same: dict[tuple[str, ...], list[Any]] = {}
    for row in lost:
        same.setdefault((row.aggregator, row.respondent, row.currency, str(row.amount)), []).append(row)
    settled = 0
    for rows in same.values():
        references = {s.reference for s in _strays(db, rows[0])}
        if len(rows) == len(references) == 1:
            (reference,) = references
            db.execute(
                update(_payment)
                .where(_payment.c.id == rows[0].id, _payment.c.request_id.is_(None))
                .values(request_id=reference)
            )
            settled += apply_reports(db, [reference], now)
    return settled


def validate(
    engine: Engine, aggregator: str, transaction_id: str, respondent: str, amount: Decimal, currency: str,
    now: datetime,
) -> bool:  # fmt: skip
    """Whether this transaction is our payment: one that is being sent, of this number and amount, and not
    validated by another transaction. The same transaction gets the same answer again.

    Raises sqlalchemy.exc.SQLAlchemyError while the database is away: then the answer is no.
    """
    try:
        wanted: int | None = hundredths(amount)
    except ValueError:  # no amount of ours: equal to none
        wanted = None
    with writing(engine) as db:
        fits = _validated(db, aggregator, transaction_id, respondent, wanted, currency)
        said = VALIDATED if fits else REFUSED
        write_reports(
            db,
            [(aggregator, VALIDATION, transaction_id, said, moments(db)(now), respondent, wanted, currency,
              fits or None)],
        )  # fmt: skip
        return bool(fits)


def _validated(
    db: Connection, aggregator: str, transaction_id: str, respondent: str, amount: int | None, currency: str
) -> str:
    """The payment that this transaction may pay; empty if none."""
    ours = and_(
        _payment.c.aggregator == aggregator, _payment.c.respondent == respondent,
        _payment.c.amount == amount, _payment.c.currency == currency,
        _payment.c.state.in_((SENDING, SENT, UNKNOWN)), ~_UNWANTED, ~_ERASED,
    )  # fmt: skip
    asked_before = db.execute(
        select(_report.c.reference).where(
            _report.c.aggregator == aggregator, _report.c.kind == VALIDATION,
            _report.c.reference == transaction_id,
        )
    ).first()  # fmt: skip
    if asked_before is None:
        free = (
            select(_payment.c.id)
            .where(ours, _payment.c.transaction_id.is_(None))
            .order_by(_payment.c.claimed_at)
            .limit(1)
            .with_for_update()
        )
        found = db.execute(free).scalar()
        taken = exists().where(
            _payment.c.transaction_id == transaction_id, _payment.c.aggregator == aggregator
        )
        if found is not None and not db.execute(select(taken)).scalar():
            db.execute(
                update(_payment)
                .where(_payment.c.id == found, _payment.c.transaction_id.is_(None))
                .values(transaction_id=transaction_id)
            )
    held = db.execute(select(_payment.c.id).where(ours, _payment.c.transaction_id == transaction_id))
    return str(held.scalar() or "")
