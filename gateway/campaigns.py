"""Who is invited into a wave, and when: what a running campaign does each time workers tick.

    released, not come, not invited    invitation
    not come since                     reminder, each `reminder_hours` after the last, `reminders` at most
    stopped half-way since             the same reminders, saying how many questions are left
    only looked at the results         as if they had not come
    finished, refused, opted out, withdrawn, refused in another wave, ...    nothing more
    the last message did not arrive    nothing more: there is nothing to remind of

A number is written to in the language that its respondent chose last, else that of its row in the sample,
else the wave's first. Only within the wave's hours, only while it is open (the operator's
word before its times), and only so many at a time that
the outbox holds a few minutes' sending: so what a message says is of now, and a pause leaves little behind.

`look_at` decides, and is pure. What is asked for here still passes `dispatch.py`, which asks again at the
moment of sending.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flows.fielding import Contact
from flows.gsm import parts
from flows.instrument import InstrumentError, parse
from flows.interview import RESULTS_ONLY, most_left, restore
from flows.screen import fixed_text
from flows.wave import Wave
from gateway.lookup import find_instrument
from gateway.sampling import Sample
from storage.campaigns import Candidate, Invites, Look, candidates, running_campaigns, waiting, write_looks
from storage.models import UNFINISHED
from storage.outbox import CANCELLED, DUE, FAILED, HELD, INVITATION, REMINDER, SENDING
from storage.record import find_interview
from storage.respondents import Pseudonyms
from storage.sample import Number
from storage.sealing import Seal
from storage.waves import is_open, read_words

BREAK_OFF_REMINDER = "reminder_break_off"
_NOT_GONE = (DUE, SENDING, HELD)
_LOOK_AGAIN = timedelta(hours=1)
_TURN = "dial16:campaigns:turn"

log = logging.getLogger("dial16.campaigns")


def look_at(
    number: Candidate, wave: Wave, now: datetime, look_again: timedelta = _LOOK_AGAIN
) -> tuple[Look, str]:
    """What to do about a number now, and the prompt to write to it, "" for none (the text is not in
    the Look yet). look_again: after that at a message that has not gone yet."""
    contact = wave.contacting
    reason = number.reason or ("" if number.has_number else "no_number")
    if reason:  # who was written to before is not excluded: their messages tell what happened
        return Look(number.id, number.respondent, None, None if number.contacts else reason), ""

    def later(at: datetime | None) -> tuple[Look, str]:
        return Look(number.id, number.respondent, at), ""

    came = number.interview is not None and number.disposition != RESULTS_ONLY
    if not number.contacts and not came:
        return _write(number, INVITATION, 1, INVITATION, contact, now)
    last = number.contacts[-1] if number.contacts else None
    sent = sum(c.kind == REMINDER for c in number.contacts)
    if sent >= contact.reminders:
        return later(None)
    if last is not None:
        if last.state in _NOT_GONE:
            return later(now + look_again)
        if last.state == FAILED or (last.state == CANCELLED and number.interview is None):
            return later(None)
    hop = number.last_at if came else None
    touched = max(t for t in (last.at if last else None, hop) if t is not None)
    due = touched + timedelta(hours=contact.reminder_hours)
    if due > now:
        return later(due)
    window = timedelta(hours=wave.resume_hours)  # beyond it the interview begins anew
    resumable = (
        number.disposition in UNFINISHED and number.last_at is not None and now - number.last_at <= window
    )
    return _write(number, REMINDER, sent + 1, BREAK_OFF_REMINDER if resumable else REMINDER, contact, now)


def _write(
    number: Candidate, kind: str, ordinal: int, prompt: str, contact: Contact, now: datetime
) -> tuple[Look, str]:
    reminded = ordinal if kind == REMINDER else 0
    again = now + timedelta(hours=contact.reminder_hours) if reminded < contact.reminders else None
    look = Look(
        number.id, number.respondent, again, kind=kind, ordinal=ordinal, network=number.network
    )  # fmt: skip
    return look, prompt


class Campaigns:
    """The running campaigns of these waves, by wave id. `room`: messages of one that may wait at once."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        live: redis.Redis,
        waves: Mapping[str, Wave],
        *,
        room: int = 2000,
        every_seconds: float = 10.0,
        look_again: timedelta = _LOOK_AGAIN,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self._engine, self.live, self.waves = engine, live, waves
        self.room, self.every_ms, self.clock = room, int(every_seconds * 1000), clock
        self.look_again = look_again
        self._instruments: dict[str, Wave | None] = {}

    def tick(self) -> int:
        """One look at what is due, if no other worker just had it; messages written."""
        if not self.live.set(_TURN, 1, nx=True, px=self.every_ms):
            return 0
        return self.look()

    def look(self) -> int:
        """Look at the numbers of every running campaign whose time has come; messages written."""
        now, written = self.clock(), 0
        running = running_campaigns(self._engine())
        words = read_words(self._engine()) if running else {}
        for campaign in running:
            wave = self.waves.get(campaign.wave)
            if wave is None:
                log.warning("campaign %s is of a wave that no file here is of", campaign.id)
            elif wave.contacting.allows(now) and is_open(wave.opening, words.get(wave.id), now):
                written += self._look(campaign, wave, now)
        return written

    def _look(self, campaign: Invites, wave: Wave, now: datetime) -> int:
        engine = self._engine()
        room = self.room - waiting(engine, campaign.id)
        if room <= 0:
            return 0
        found = candidates(engine, campaign, now, room, wave.contacting.rest_days)
        looks = [self._with_text(engine, c, *look_at(c, wave, now, self.look_again), wave) for c in found]
        written = write_looks(engine, campaign, looks, now)
        if written:
            log.info("campaign %s: %d messages", campaign.id, written)
        return written

    def _with_text(self, engine: Engine, number: Candidate, look: Look, prompt: str, wave: Wave) -> Look:
        if not prompt:
            return look
        left = 0
        if prompt == BREAK_OFF_REMINDER:
            left = self._left(engine, number, wave)
            if not left:  # the record cannot tell: say nothing of it
                prompt = REMINDER
        language = next((x for x in number.languages if x in wave.languages), wave.languages[0])
        text = fixed_text(wave, language, prompt, left)
        return Look(
            look.id, look.respondent, look.next_at, kind=look.kind, ordinal=look.ordinal, text=text,
            network=look.network,
        )  # fmt: skip

    def _left(self, engine: Engine, number: Candidate, wave: Wave) -> int:
        """How many questions are left at most to who stopped half-way; 0 if the record cannot tell."""
        recorded = find_interview(engine, number.respondent, wave.id)
        if recorded is None or recorded.instrument is None:
            return 0
        on = self._wave_on(engine, wave, recorded.instrument)
        if on is None:
            return 0
        last_at = int(recorded.last_at.timestamp() * 1000)
        try:
            interview = restore(on, recorded.interview, recorded.effects, last_at)
        except ValueError:
            return 0
        return most_left(on.instrument, interview)

    def _wave_on(self, engine: Engine, wave: Wave, reference: str) -> Wave | None:
        """The wave on the instrument version that an interview began with."""
        if reference == wave.instrument.reference:
            return wave
        key = f"{wave.id} {reference}"
        if key not in self._instruments:
            sources = find_instrument(engine, reference)
            try:
                on = wave.with_instrument(parse(sources, fielded=True)) if sources else None
            except InstrumentError:
                on = None
            self._instruments[key] = on
        return self._instruments[key]

    def watch(self, stop: threading.Event) -> None:
        """Tick until stopped, whatever is away meanwhile."""
        while not stop.wait(1):
            try:
                self.tick()
            except (redis.RedisError, SQLAlchemyError, OSError) as error:
                log.warning("campaigns wait: %s", type(error).__name__)
                stop.wait(2)


# ---------------------------------------------------------------- samples, and what they will cost


def sealed_numbers(sample: Sample, pseudonyms: Pseudonyms, seal: Seal) -> Iterator[Number]:
    """The sample as it is stored: pseudonyms, and numbers sealed.

    In the order of pseudonyms: a draw can be repeated from its seed, and rows in the order of the draw
    would then tell each pseudonym's number to who has no key.
    """
    by_pseudonym = sorted(((pseudonyms.of(n.msisdn), n) for n in sample.numbers), key=lambda pair: pair[0])
    for respondent, n in by_pseudonym:
        yield Number(
            respondent, seal.seal(n.msisdn, respondent), seal.key_id, n.replicate, n.source, n.probability,
            n.stratum, n.network, n.language,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would be sent: between all coming at the invitation and nobody coming at all."""

    invitations: int
    most_reminders: int
    invitation_parts: int
    most_parts: int  # with every reminder


def forecast(wave: Wave, numbers: Iterable[tuple[str | None, int]]) -> Forecast:
    """For so many numbers of each language. Parts are counted on the texts as they will be sent."""
    invitations = invitation_parts = reminder_parts = 0
    for given, count in numbers:
        language = given if given in wave.languages else wave.languages[0]
        invitations += count
        invitation_parts += count * parts(fixed_text(wave, language, INVITATION))
        longest = max(
            parts(fixed_text(wave, language, REMINDER)),
            parts(fixed_text(wave, language, BREAK_OFF_REMINDER, len(wave.instrument.items))),
        )
        reminder_parts += count * longest * wave.contacting.reminders
    return Forecast(
        invitations, invitations * wave.contacting.reminders, invitation_parts,
        invitation_parts + reminder_parts,
    )  # fmt: skip
