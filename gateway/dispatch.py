"""Sending the outbox: whether a message may go, sending it, and what then stands in its row.

    may it go?   opted out, withdrawn, no number, too late, came by themselves: cancelled
                 its campaign stopped: cancelled; paused: later
                 no account at its aggregator: held
                 an invitation or reminder into a wave that is closed: later
                 an invitation, reminder, thanks or results outside its wave's hours: later
                 the sender paused, or too fast: later
    claim it     from here on nobody else sends it
                 an invitation or reminder to who has opted out meanwhile, by the live store: cancelled
    send it      one call of the aggregator, within seconds
    write down   sent; refused; try again; hold the sender; nobody knows

It runs in workers (`jobs.py`). A second pair of eyes runs beside them (`tick`): it gives every row that is
due a job, whatever became of an earlier one. Logs hold message ids and codes.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flows.fielding import Contact, Opening
from flows.gsm import parts
from gateway.sending import Sender, SendError
from storage import outbox, sweep
from storage.database import open_engine
from storage.live import opted_out_key
from storage.rates import Gate, Rate, paused_senders
from storage.sealing import Seal, SealError
from storage.waves import is_open, read_words

#: Kinds that go whenever they are due, and past the rest in the rate: somebody is waiting for them.
AWAITED = ("reply", "confirmation")
#: Kinds that nobody waits for: only within the window of their wave.
UNASKED = ("invitation", "reminder", "thanks", "results")

_MOST = 500  # jobs that wait: more would only be forgotten with the queue
_TURN, _SWEEP, _FORGET = (f"dial16:outbox:{what}" for what in ("turn", "sweep", "forget"))
_FORGET_MS = 600_000
_TURN_MS = 900
_CLOSED = timedelta(minutes=10)  # until a message into a closed wave is looked at again

log = logging.getLogger("dial16.sending")


@dataclass(frozen=True, slots=True)
class Habits:
    """How messages are sent; what differs between installations."""

    rate: Rate = field(default_factory=Rate)
    contact: Contact = field(default_factory=Contact)  # of waves that have none of their own below
    hours: Mapping[str, Contact] = field(default_factory=dict)  # by wave id
    openings: Mapping[str, Opening] = field(default_factory=dict)  # by wave id; not named: always
    directory_days: int = 90
    backoff_seconds: tuple[float, ...] = (15, 60, 240, 960)  # after the first, second, .. failed try
    stuck_seconds: float = 300  # well beyond a job's time-out
    reply_hours: float = 24  # a reply that is older answers nothing any more
    settle_seconds: float = 120  # a report whose message is not known by then belongs to an unknown one
    sweep_seconds: float = 30

    def contact_of(self, wave: str | None) -> Contact:
        """When people of this wave may be written to unasked."""
        return self.hours.get(wave or "", self.contact)

    @property
    def most_attempts(self) -> int:
        return len(self.backoff_seconds) + 1


class Jobs(Protocol):
    """The queues as the outbox uses them."""

    def enqueue(self, due: Sequence[tuple[str, str]]) -> int:
        """Jobs for those of these messages (id, kind) that have none; how many."""
        ...

    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        ...


class Dispatch:
    """The outbox of one installation. `accounts`: by aggregator."""

    def __init__(
        self,
        database_url: str,
        live: redis.Redis,
        seal: Seal,
        accounts: Mapping[str, Sender],
        jobs: Jobs,
        habits: Habits | None = None,
    ):
        self.habits = habits or Habits()
        self.live, self.seal, self.accounts, self.jobs = live, seal, accounts, jobs
        self.gate = Gate(live, self.habits.rate)
        self._database_url = database_url
        self._engine: Engine | None = None
        self._process = 0
        self._swept = False  # by this process, since it began

    @property
    def engine(self) -> Engine:
        """Opened in the process that uses it: a fork must not share connections."""
        if self._engine is None or self._process != os.getpid():
            self._engine, self._process = open_engine(self._database_url), os.getpid()
        return self._engine

    # ---- one message

    def send(self, message_id: str) -> str:
        """Send the message if it may go now; what became of it, in one word. Safe to call at any time."""
        now = datetime.now(UTC)
        message = outbox.find_message(self.engine, message_id)
        if message is None or message.state != outbox.DUE or message.not_before > now:
            return "not due"
        if reason := self._never(message, now):
            outbox.cancel(self.engine, message, now, reason)
            return outbox.CANCELLED
        if message.campaign not in (None, outbox.RUNNING):
            return "campaign paused"
        account = self.accounts.get(message.aggregator)
        if account is None:
            outbox.hold(self.engine, message.id, "no_account")
            return outbox.HELD
        contact = self.habits.contact_of(message.wave)
        if message.kind in UNASKED and (opens := contact.next_open(now)) > now:
            outbox.defer(self.engine, message.id, opens)
            return "quiet hours"
        if message.kind in (outbox.INVITATION, outbox.REMINDER) and not self._is_open(message.wave, now):
            outbox.defer(self.engine, message.id, now + _CLOSED)  # it may be opened again
            return "wave closed"
        try:
            msisdn = self.seal.open(message.sealed or "", message.respondent)
        except SealError as error:
            log.error("message %s held: %s", message.id, error)
            outbox.hold(self.engine, message.id, "not_opened")
            return outbox.HELD
        wait = self.gate.ask(
            message.aggregator, message.sender, message.network_code, parts(message.text),
            urgent=message.kind in AWAITED,
        )  # fmt: skip
        if wait is None:
            return "paused"
        if wait > 0:
            outbox.defer(self.engine, message.id, now + timedelta(seconds=wait))
            return "later"
        if not outbox.claim(self.engine, message.id, datetime.now(UTC)):
            return "not due"
        if message.kind in UNASKED and (halted := self._halt(message)):
            return halted
        return self._send_claimed(account, message, msisdn)

    def _is_open(self, wave: str | None, now: datetime) -> bool:
        opening = self.habits.openings.get(wave or "", Opening())
        return is_open(opening, read_words(self.engine).get(wave or ""), now)

    def _halt(self, message: outbox.Message) -> str:
        """Of a claimed message: whether the live store knows of an opt-out, which the record may be
        seconds behind. What became of it then; empty to go on."""
        now = datetime.now(UTC)
        try:
            opted_out = self.live.exists(opted_out_key(message.respondent))
        except redis.RedisError:
            outbox.try_again(self.engine, message.id, now, "live_store_away", counted=False)
            return "later"
        if opted_out:
            outbox.withhold(self.engine, message, now, "opted_out")
            return outbox.CANCELLED
        return ""

    def _never(self, message: outbox.Message, now: datetime) -> str:
        """Why this message must not go at all; empty if it may."""
        if message.unwanted:
            return "opted_out"
        if message.sealed is None:
            return "no_number"
        if not message.text.strip():
            return "withdrawn"
        if message.kind == "reply" and now - message.created_at > timedelta(hours=self.habits.reply_hours):
            return "too_late"
        if message.campaign == outbox.STOPPED:
            return "campaign_stopped"
        if message.needless:
            return "came_by_themselves"
        return ""

    def _send_claimed(self, account: Sender, message: outbox.Message, msisdn: str) -> str:
        try:
            sent = account.send_sms(msisdn, message.text, message.sender)
        except SendError as error:
            failure = error
        except BaseException as error:  # the job's time is up, or a bug: it may have been sent
            log.error("message %s unknown: %s", message.id, type(error).__name__)
            self.keep(lambda: outbox.lose(self.engine, message, "interrupted"))
            if not isinstance(error, Exception):
                raise
            return outbox.UNKNOWN
        else:
            now = datetime.now(UTC)
            self.keep(
                lambda: outbox.take(
                    self.engine, message, now,
                    message_id=sent.message_id, status_raw=sent.status_raw, parts=sent.parts,
                    cost_amount=None if sent.cost is None else format(sent.cost, "f"),
                    cost_currency=sent.currency or None,
                )
            )  # fmt: skip
            self.note(lambda: self.gate.note_success(message.aggregator, message.sender))
            return outbox.SENT
        return self._refused(message, failure)

    def _refused(self, message: outbox.Message, error: SendError) -> str:
        now = datetime.now(UTC)
        if error.hold:
            self.keep(lambda: outbox.try_again(self.engine, message.id, now, error.code, counted=False))
            if self.note(lambda: self.gate.pause(message.aggregator, message.sender, error.code)):
                log.error(
                    "ALARM sender %s at %s is paused: %s. Mend it, then run `main.py sending --resume`",
                    message.sender or "(default)", message.aggregator, error.code,
                )  # fmt: skip
            return "paused"
        if error.alarm:
            log.error("ALARM message %s: %s", message.id, error.code)
        if error.alarm or error.unknown or error.retryable:  # not this number's fault
            note = self.note(lambda: self.gate.note_failure(message.aggregator, message.sender, error.code))
            if note:
                log.error(
                    "ALARM sender %s paused for a minute: %s", message.sender or "(default)", error.code
                )
        if error.unknown:
            self.keep(lambda: outbox.lose(self.engine, message, error.code))
            return outbox.UNKNOWN
        tries = message.attempts + 1
        if error.retryable and tries < self.habits.most_attempts:
            until = now + timedelta(seconds=self.habits.backoff_seconds[tries - 1])
            self.keep(lambda: outbox.try_again(self.engine, message.id, until, error.code))
            return outbox.DUE
        self.keep(lambda: outbox.fail(self.engine, message, now, error.code))
        return outbox.FAILED

    def keep(self, write: Callable[[], bool]) -> None:
        """Write down what happened; worth some seconds' trying, because it will not be known again."""
        for wait in (0.1, 0.3, 1.0, 3.0, 5.0):
            try:
                write()
                return
            except SQLAlchemyError as error:
                log.warning("outcome not written yet: %s", type(error).__name__)
                time.sleep(wait)
        write()

    def note(self, note: Callable[[], object]) -> bool:
        """Tell the live store; while it is away, no."""
        try:
            return bool(note())
        except redis.RedisError as error:
            log.warning("sender's state not noted: %s", type(error).__name__)
            return False

    # ---- all of them

    def tick(self) -> int:
        """Give what is due its jobs, if no other worker just did; how many messages are due."""
        if not self.live.set(_TURN, 1, nx=True, px=_TURN_MS):
            return 0
        room = _MOST - self.jobs.waiting()
        due: list[tuple[str, str]] = []
        if room > 0:
            paused = [(p.aggregator, p.sender) for p in paused_senders(self.live)]
            due = sweep.due_messages(self.engine, datetime.now(UTC), room, paused)
            self.jobs.enqueue(due)
        if self.live.set(_SWEEP, 1, nx=True, px=int(self.habits.sweep_seconds * 1000)):
            self.sweep(datetime.now(UTC))
        return len(due)

    def sweep(self, now: datetime) -> None:
        """Look over all messages: lost, unknown, held, numbers to forget."""
        habits = self.habits
        sweep.release(self.engine, [*self.accounts], unopened=not self._swept)
        self._swept = True
        if lost := sweep.lose_stuck(self.engine, now - timedelta(seconds=habits.stuck_seconds)):
            log.error("%d messages are unknown: their worker ended while it sent them", lost)
        sweep.settle_unknown(self.engine, now - timedelta(seconds=habits.settle_seconds))
        if self.live.set(_FORGET, 1, nx=True, px=_FORGET_MS):
            sweep.forget_numbers(self.engine, now - timedelta(days=habits.directory_days))
        if held := sweep.held_count(self.engine):
            log.warning("%d messages held, see DIAL16_AT_API_KEY and `main.py messages`", held)

    def watch(self, stop: threading.Event) -> None:
        """Tick until stopped, whatever is away meanwhile."""
        while not stop.is_set():
            try:
                self.tick()
            except (redis.RedisError, SQLAlchemyError, OSError) as error:
                log.warning("outbox waits: %s", type(error).__name__)
                stop.wait(2)
            stop.wait(1)

    def close(self) -> None:
        if self._engine is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._engine.dispose()
            self._engine = None
