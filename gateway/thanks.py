"""Thanking who completed with airtime: who has earned it, whether it may go, ordering it, what then stands.

Off unless the wave's file has `[thanks]`. The ledger is `storage/airtime.py`; this runs in workers, beside
the outbox and after its replies, with the same accounts, numbers, rates and pauses (`dispatch.py`).

    may it go?   no account, paused, too fast: later. At night: later, unless they have just completed
    claim it     with its money; opted out, withdrawn, no number: cancelled; no money: refused_budget
    order it     one call of the aggregator, within seconds
    write down   sent; failed; try again; hold; nobody knows

What the next try's key is: see `storage/airtime.py`. A refusal that the aggregator itself gave spends the
key. A mere HTTP status or a connection that was not made does not: whoever answered it may not know. Where
it comes after the aggregator had our validation, it is not even tried again: it may have been paid.

Logs hold payment ids and codes.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import redis
from sqlalchemy.exc import SQLAlchemyError

from flows.fielding import Thanks
from gateway.dispatch import Dispatch
from gateway.sending import Sender, SendError
from storage import airtime, airtime_sweep
from storage.airtime import Payment
from storage.live import opted_out_key
from storage.rates import paused_senders
from storage.sealing import SealError

#: The breaker's and the rate's name for airtime: no sender of texts can be called so.
SENDER = "(airtime)"

_MOST = 200  # payments that have jobs at once
_TURN, _SWEEP, _ALL = (f"dial16:airtime:{what}" for what in ("turn", "sweep", "all"))
_TURN_MS = 900
_ALL_MS = 600_000
_RECENT = timedelta(hours=1)  # who completed since then is awake; and what each sweep looks through
_HEARD = timedelta(minutes=5)  # until the record surely knows of an opt-out that the live store has
_SILENT = timedelta(hours=1)  # an order of which nothing is heard is looked up, and again
_LOOKUPS = 10  # a sweep

log = logging.getLogger("dial16.sending")


class Jobs(Protocol):
    def enqueue_payments(self, payments: Sequence[str]) -> int:
        """Jobs for those of these payments that have none; how many."""
        ...


class Thanking:
    """The airtime of one installation. `thanks`: by wave, of those that give any."""

    def __init__(self, dispatch: Dispatch, jobs: Jobs, thanks: Mapping[str, Thanks]):
        self.dispatch, self.jobs, self.thanks = dispatch, jobs, thanks
        self.habits = dispatch.habits

    # ---- one payment

    def send(self, payment_id: str) -> str:
        """Order the payment if it may go now; what became of it, in one word. Safe to call at any time."""
        d, now = self.dispatch, datetime.now(UTC)
        payment = airtime.find_payment(d.engine, payment_id)
        if payment is None or payment.state != airtime.DUE or payment.not_before > now:
            return "not due"
        account = d.accounts.get(payment.aggregator)
        if account is None or payment.wave not in self.thanks:
            return "not now"
        opens = self.habits.contact_of(payment.wave).next_open(now)
        if opens > now and now - payment.earned_at > _RECENT:
            airtime.defer(d.engine, payment.id, opens, now)
            return "quiet hours"
        msisdn = ""
        if payment.sealed is not None:
            try:
                msisdn = d.seal.open(payment.sealed, payment.respondent)
            except SealError as error:
                log.error("payment %s waits: %s", payment.id, error)
                airtime.defer(d.engine, payment.id, now + _SILENT, now)
                return "not opened"
            if d.live.exists(opted_out_key(payment.respondent)):  # the record will say so within seconds
                airtime.defer(d.engine, payment.id, now + _HEARD, now)
                return "opted out"
            wait = d.gate.ask(payment.aggregator, SENDER, None, 1, urgent=False)
            if wait is None:
                return "paused"
            if wait > 0:
                airtime.defer(d.engine, payment.id, now + timedelta(seconds=wait), now)
                return "later"
        claimed = airtime.claim(d.engine, payment.id, datetime.now(UTC))
        if claimed == airtime.SENDING:
            return self._send_claimed(account, payment.id, msisdn)
        if claimed in (airtime.REFUSED_BUDGET, airtime.UNKNOWN):
            log.error("ALARM payment %s: %s, see `main.py airtime`", payment.id, claimed)
        return claimed or "not due"

    def _send_claimed(self, account: Sender, payment_id: str, msisdn: str) -> str:
        d = self.dispatch
        payment = airtime.find_payment(d.engine, payment_id)
        if payment is None or payment.key is None:
            raise RuntimeError(f"payment {payment_id} was claimed and has no key")
        try:
            sent = account.send_airtime(msisdn, payment.currency, payment.amount, payment.key)
        except SendError as error:
            failure = error
        except BaseException as error:  # the job's time is up, or a bug: it may have been paid
            log.error("payment %s unknown: %s", payment.id, type(error).__name__)
            d.keep(lambda: airtime.lose(d.engine, payment.id, datetime.now(UTC), "interrupted"))
            if not isinstance(error, Exception):
                raise
            return airtime.UNKNOWN
        else:
            d.keep(
                lambda: airtime.take(
                    d.engine, payment.id, datetime.now(UTC),
                    request_id=sent.request_id, status_raw=sent.status_raw,
                )
            )  # fmt: skip
            d.note(lambda: d.gate.note_success(payment.aggregator, SENDER))
            return airtime.SENT
        return self._refused(payment, failure)

    def _refused(self, payment: Payment, error: SendError) -> str:
        d, now, code = self.dispatch, datetime.now(UTC), error.code
        # What no aggregator's ledger has said, but a web server or the network.
        on_the_way = code.startswith("http_") or code in ("not_connected", "certificate_not_valid")
        if error.hold:
            if d.note(lambda: d.gate.pause(payment.aggregator, SENDER, code)):
                log.error(
                    "ALARM airtime at %s is paused: %s. Mend it, then run `main.py sending --resume`",
                    payment.aggregator, code,
                )  # fmt: skip
        else:
            if error.alarm:
                log.error("ALARM payment %s: %s", payment.id, code)
            if error.alarm or error.unknown or error.retryable:  # not this number's fault
                d.note(lambda: d.gate.note_failure(payment.aggregator, SENDER, code))
        if error.unknown or (on_the_way and self._validated(payment)):
            d.keep(lambda: airtime.lose(d.engine, payment.id, now, code))
            return airtime.UNKNOWN
        if error.hold or (error.retryable and payment.attempts < self.habits.most_attempts):
            tries = min(payment.attempts, len(self.habits.backoff_seconds))
            until = now if error.hold else now + timedelta(seconds=self.habits.backoff_seconds[tries - 1])
            d.keep(
                lambda: airtime.try_again(
                    d.engine, payment.id, now, until, code, refused=not on_the_way, counted=not error.hold
                )
            )
            return "paused" if error.hold else airtime.DUE
        d.keep(lambda: airtime.fail(d.engine, payment.id, now, code))
        return airtime.FAILED

    def _validated(self, payment: Payment) -> bool:
        """Whether the aggregator has had our yes to an order with this key; a yes too if we cannot tell."""
        try:
            found = airtime.find_payment(self.dispatch.engine, payment.id)
        except SQLAlchemyError:
            return True
        return found is None or found.transaction_id is not None

    # ---- all of them

    def tick(self) -> int:
        """Give what is due its jobs, if no other worker just did; how many payments are due."""
        d = self.dispatch
        if not self.thanks or not d.live.set(_TURN, 1, nx=True, px=_TURN_MS):
            return 0
        if d.live.set(_SWEEP, 1, nx=True, px=int(self.habits.sweep_seconds * 1000)):
            self.sweep(datetime.now(UTC), everything=bool(d.live.set(_ALL, 1, nx=True, px=_ALL_MS)))
        paused = {p.aggregator for p in paused_senders(d.live) if p.sender == SENDER}
        awake = d.accounts.keys() - paused
        due = airtime_sweep.due_payments(d.engine, datetime.now(UTC), _MOST, self.thanks, awake)
        self.jobs.enqueue_payments(due)
        return len(due)

    def sweep(self, now: datetime, everything: bool = True) -> None:
        """Look over the record and all payments: earned, lost, unknown, money again.

        `everything`: also who completed long ago, while a recorder or a worker was away, or before the
        wave's file had `[thanks]`."""
        engine, habits = self.dispatch.engine, self.habits
        since = None if everything else now - _RECENT
        for wave, thanks in self.thanks.items():
            airtime_sweep.keep_budget(engine, wave, thanks)
            # Where there is a real account the budget is that one's: the simulator takes nothing from it.
            accounts = self.dispatch.accounts.keys()
            paying = accounts - {"simulator"} or accounts
            while airtime_sweep.earn(engine, wave, thanks, paying, now, since) == airtime_sweep.MOST:
                pass
        if lost := airtime_sweep.lose_stuck(engine, now - timedelta(seconds=habits.stuck_seconds), now):
            log.error("%d payments are unknown: their worker ended while it ordered them", lost)
        airtime_sweep.settle(engine, now, now - timedelta(seconds=habits.settle_seconds))
        airtime_sweep.reopen(engine, now)
        self._look_up(now)

    def _look_up(self, now: datetime) -> None:
        """Ask about orders of which nothing was heard: not every status need come."""
        d = self.dispatch
        for payment, aggregator, reference in airtime_sweep.silent(d.engine, now, now - _SILENT, _LOOKUPS):
            account = d.accounts.get(aggregator)
            word = None
            if account is not None:
                try:
                    word = account.find_airtime(reference)
                except SendError as error:
                    log.warning("payment %s not looked up: %s", payment, error.code)
            airtime_sweep.note_lookup(d.engine, payment, aggregator, reference, word, now, now + _SILENT)

    def watch(self, stop: threading.Event) -> None:
        """Tick until stopped, whatever is away meanwhile."""
        while not stop.is_set():
            try:
                self.tick()
            except (redis.RedisError, SQLAlchemyError, OSError) as error:
                log.warning("airtime waits: %s", type(error).__name__)
                stop.wait(2)
            stop.wait(1)
