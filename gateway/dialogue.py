"""One hop, from the aggregator's request to the screen: load, compare, step, commit.

What counts as new (see the table in tests/test_dialogue.py):
    same session, transcript longer by one input     the engine takes a step
    same session, same transcript                     the stored screen again, nothing else
    same session, shorter or diverging transcript     the stored screen, noted as a conflict
    same session, after its end                       the stored END again
    an earlier session of this respondent             END: that session is over
    another session                                   a dial: first, resumed, or after the end
Whoever loses a race reads what the winner stored and answers from that.

While the wave is closed a dial asks no question. A session begun before goes on to its end.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from flows.engine import (
    Consented,
    Dialled,
    Event,
    Interview,
    Replied,
    Screen,
    WithdrawalAsked,
    begins_anew,
    dump_effect,
    step,
)
from flows.instrument import UNANSWERED
from flows.wave import Wave
from gateway.messages import Hop, SessionEnded
from gateway.served_wave import ServedWave
from storage.live import Live, NewerState, Tally, compact, hop_entry, transcript_digest
from storage.resp import Unavailable

log = logging.getLogger("dial16.dialogue")
T = TypeVar("T")

_RACES = 4  # lost races before the respondent is asked to dial again; each means another hop was served
#: What a phone can dial after a code, at a length that networks let through.
_DIALLED_ON = re.compile(r"[0-9*#]{1,20}")


class NotServed(Unavailable):
    """A hop that a store's failure kept from being served; with the interview, where that was read."""

    def __init__(self, why: str, interview: Interview | None):
        self.interview = interview
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Channel:
    """Which door a hop came through."""

    aggregator: str
    cumulative: bool


@dataclass(frozen=True, slots=True)
class _Write:
    """What a turn wants committed, in one write."""

    live: Live
    entry: bytes
    tally: Tally | None = None


class Dialogue(ServedWave):
    """The hop's shell around the engine. Holds no state of a respondent."""

    async def hop(self, channel: Channel, hop: Hop) -> Screen:
        """The screen that answers a hop. Raises Unavailable; nothing is committed then."""
        if (refusal := self._refusal(hop)) is not None:
            return self.phrase(refusal)
        respondent = self.pseudonyms.of(hop.msisdn)
        live, born = await self.live.read(self.wave.id, respondent)
        try:
            return await self._answer(channel, hop, respondent, live, born)
        except Unavailable as error:
            raise NotServed(str(error), live.interview if live else None) from None

    async def _answer(
        self, channel: Channel, hop: Hop, respondent: str, live: Live | None, born: int
    ) -> Screen:
        """Compare, step, commit."""

        async def turn(live: Live | None, born: int) -> tuple[Screen, _Write | None]:
            if live is not None and live.session == hop.session:
                new = _new_input(live, hop, channel.cumulative)
                if isinstance(new, _Conflict):
                    await self._note_conflict(live, respondent, new.what)
                if new is None or isinstance(new, _Conflict):
                    if live.over and not live.ends:
                        return self.phrase("session_over", live.interview), None
                    return Screen(live.screen, live.ends), None
                event: Event = Replied(self.clock(), new)
            elif live is not None and live.knows_past(hop.session):
                return self.phrase("session_over", live.interview), None
            else:
                live = live or await self.recorded(respondent, born)
                event = self._dialled(hop, respondent, live)
                if not self.open_at(event.at) and not await self.heard(live):
                    return self.phrase("wave_closed", live.interview if live else None), None
            return await self._step(channel, hop, respondent, live, event)

        return await self._in_turn(self.wave.id, respondent, live, born, turn)

    async def _in_turn(
        self,
        wave: str,
        respondent: str,
        live: Live | None,
        born: int,
        turn: Callable[[Live | None, int], Awaitable[tuple[T, _Write | None]]],
    ) -> T:
        """What `turn` answers to the live record as it stands, once what it wants stored there (None:
        nothing) is committed; again, on what the winner stored, for whoever loses a race."""
        for _ in range(_RACES):
            if born != self.home:
                born = await self.settle(born)
            answer, write = await turn(live, born)
            if write is None:
                return answer
            try:
                stored = live.version if live else 0
                await self.live.commit(stored, respondent, write.live, write.entry, write.tally)
                return answer
            except NewerState as newer:
                live = newer.live
                if live is None:  # lost since it was read, perhaps with the whole store
                    live, born = await self.live.read(wave, respondent)
        raise Unavailable("live store: too many hops of one respondent at once")

    def _refusal(self, request: Hop | SessionEnded) -> str | None:
        """The phrase for a number or a code that this wave does not serve."""
        if not request.msisdn.startswith(self.wave.countries):
            return "not_covered"
        if self.wave.service_codes and request.service_code not in self.wave.service_codes:
            return "wave_closed"
        return None

    async def _step(
        self, channel: Channel, hop: Hop, respondent: str, live: Live | None, event: Event
    ) -> tuple[Screen, _Write]:
        """The engine's step on `live`: the screen, and what to store."""
        interview = live.interview if live else None
        wave = self.wave  # what begins anew begins on the instrument of today
        if interview and (isinstance(event, Replied) or not begins_anew(wave, interview, event.at)):
            wave = await self.wave_on(interview.instrument)
        taken = await self.counting.step(self.at(wave, event.at), interview, event)
        screen = taken.screen
        seen, digest = _seen(hop, channel.cumulative)
        effects = [dump_effect(e) for e in taken.effects]
        if live is not None and isinstance(event, Replied):
            after = Live(
                live.version + 1, live.session, seen, digest, live.hop + 1, screen.ends, live.past,
                screen.text, screen.ends, taken.interview,
            )  # fmt: skip
            consented = any(isinstance(e, Consented) for e in taken.effects)
            sealed = self._sealed(hop.msisdn, respondent, taken.interview) if consented else {}
            entry = hop_entry(after, respondent, event.at, effects, None, **sealed)
            return screen, _Write(after, entry, await self.tally(live, after))
        after = Live(
            (live.version if live else 0) + 1, hop.session, seen, digest, 1, screen.ends,
            live.past_with(live.session) if live else "", screen.text, screen.ends, taken.interview,
        )  # fmt: skip
        opened = {
            "aggregator": channel.aggregator,
            "network_code": hop.network_code,
            "service_code": hop.service_code,
            "extension": _address(wave, live, hop.text),
        }
        sealed = self._sealed(hop.msisdn, respondent, taken.interview)
        entry = hop_entry(after, respondent, event.at, effects, opened, **sealed)
        return screen, _Write(after, entry, await self.tally(live, after))

    def _sealed(self, msisdn: str, respondent: str, interview: Interview) -> dict[str, str]:
        """The sealed number of somebody who has consented, for reminders: with the consent, and with the
        first hop of every later session."""
        if self.seal is None or not has_consented(interview):
            return {}
        return {"sealed": self.seal.seal(msisdn, respondent), "key_id": self.seal.key_id}

    def _dialled(self, hop: Hop, respondent: str, live: Live | None) -> Dialled:
        wave = self.wave
        ahead = tuple(hop.text.split("*")) if hop.text and wave.extension == "answers" else ()
        at = self.clock()
        return Dialled(
            at=at,
            # The moment too: where the live store was emptied in mid-session, one session begins twice.
            id=self.pseudonyms.interview_id(f"{respondent} {at}", hop.session),
            seed=self.pseudonyms.seed(respondent, wave.id),
            budget=wave.budget_for(hop.network_code),
            ahead=ahead if live is None else (),
            results=bool(wave.sharing.extension) and hop.text == wave.sharing.extension,
        )

    # ---- the session's end, and notes

    async def session_ended(self, channel: Channel, notice: SessionEnded) -> None:
        """Closes the session in the live record if it is the current one; notes it for the record.

        Of people and codes that are not served, nothing is kept.
        """
        if self._refusal(notice) is not None:
            return
        respondent = self.pseudonyms.of(notice.msisdn)
        entry: dict[str, object] = {
            "kind": "session_ended",
            "session": notice.session,
            "respondent": respondent,
            "at": self.clock(),
            "aggregator": channel.aggregator,
            "status": notice.status,
            "duration_ms": notice.duration_ms,
            "hops": notice.hops,
            "cost": notice.cost,
            "network_code": notice.network_code,
            "service_code": notice.service_code,
            "error": notice.error,
        }

        async def turn(live: Live | None, born: int) -> tuple[bool, _Write | None]:
            if live is None or live.session != notice.session or live.over:
                return False, None
            return True, _Write(replace(live, version=live.version + 1, over=True), compact(entry))

        live, born = await self.live.read(self.wave.id, respondent)
        if not await self._in_turn(self.wave.id, respondent, live, born, turn):
            await self.live.append(compact(entry))

    async def withdraw(self, msisdn: str, wave_id: str | None = None) -> str | None:
        """Withdraws a respondent who asked the office for it, from this wave or an earlier one; the
        receipt, None where live store and record know nobody of that number. Raises Unavailable."""
        respondent, wave_id = self.pseudonyms.of(msisdn), wave_id or self.wave.id

        async def turn(live: Live | None, born: int) -> tuple[str | None, _Write | None]:
            if live is None and wave_id == self.wave.id:
                live = await self.recorded(respondent, born)
            if live is None:
                return None, None
            at = self.clock()
            wave = await self.wave_on(live.interview.instrument)
            taken = step(wave, live.interview, WithdrawalAsked(at))
            after = replace(
                live, version=live.version + 1, session=live.session or "office", over=True,
                screen=taken.screen.text, ends=True, interview=taken.interview,
            )  # fmt: skip
            entry = hop_entry(after, respondent, at, [dump_effect(e) for e in taken.effects], None)
            return taken.interview.receipt, _Write(after, entry, await self.tally(live, after))

        live, born = await self.live.read(wave_id, respondent)
        # Of somebody unknown nothing is written: under a wrong key, an empty store would be made that key's.
        if live is None and (wave_id != self.wave.id or await self.recorded(respondent, born) is None):
            return None
        return await self._in_turn(wave_id, respondent, live, born, turn)

    async def _note_conflict(self, live: Live, respondent: str, what: str) -> None:
        log.info("conflict %s interview=%s session=%s", what, live.interview.id, live.session)
        entry = {
            "kind": "conflict",
            "interview": live.interview.id,
            "respondent": respondent,
            "session": live.session,
            "at": self.clock(),
            "what": what,
        }
        await self.live.append(compact(entry))


@dataclass(frozen=True, slots=True)
class _Conflict:
    what: str  # older_text | diverging_text | after_end | out_of_order


def has_consented(interview: Interview) -> bool:
    """Whether consent was given and has not been withdrawn. It is the first item, "no" ends it."""
    given = interview.answers[:1] != UNANSWERED
    return given and interview.disposition not in ("refusal", "ineligible", "withdrawn")


def _address(wave: Wave, live: Live | None, text: str) -> str:
    """The keys dialled with the code, for the record; "" where they may not be that but answers."""
    if wave.extension != "address" or not _DIALLED_ON.fullmatch(text):
        return ""
    # An interview rebuilt from the record was perhaps in the middle of this very session.
    return "" if live is not None and not live.session else text


def _seen(hop: Hop, cumulative: bool) -> tuple[int, str]:
    """How much of the session is taken in with this hop."""
    if cumulative:
        return len(hop.text), transcript_digest(hop.text)
    return hop.sequence, ""


def _new_input(live: Live, hop: Hop, cumulative: bool) -> str | _Conflict | None:
    """The input that is new with this hop; None for a repeat of the last one.

    A cumulative transcript is compared as a whole: inputs may hold `*`, so it is never split.
    """
    if not cumulative:
        if hop.sequence == live.seen:
            return None
        if hop.sequence != live.seen + 1:
            return _Conflict("out_of_order")
        return _Conflict("after_end") if live.over else hop.text
    text, seen = hop.text, live.seen
    if len(text) < seen:
        return _Conflict("older_text")
    if transcript_digest(text[:seen]) != live.digest:
        return _Conflict("diverging_text")
    if len(text) == seen:
        return None
    if live.over:
        return _Conflict("after_end")
    if seen == 0:
        # A blank first input leaves the transcript as it was; the next one then begins with the joint.
        return text.removeprefix("*")
    if text[seen] != "*":
        return _Conflict("diverging_text")
    return text[seen + 1 :]
