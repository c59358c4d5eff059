"""One wave as this gateway serves it, by USSD and by text: open or closed, with its results, and with what
the live store has lost or never had.

An interview goes on with the instrument version that it began with, also after a deploy. One that the live
store has lost is rebuilt from the record. What serves a hop: dialogue.py; a text: texting.py.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from flows.engine import Interview, Screen, heard_when_closed, restore
from flows.instrument import InstrumentError, parse
from flows.results import Results, region_of
from flows.results_pages import results_text
from flows.screen import fixed_text
from flows.wave import Wave
from gateway.counting import Counting, CountRecorded
from storage.live import Live, LiveStore, Tally
from storage.record import Recorded
from storage.resp import Unavailable
from storage.respondents import OtherKeyError, Pseudonyms
from storage.sealing import Seal

log = logging.getLogger("dial16.dialogue")

#: After a rebuild the version jumps past anything that was lost on its way to the record.
_VERSION_JUMP = 1000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class ServedWave:
    """What a dialogue needs of its wave. Holds no state of a respondent."""

    def __init__(
        self,
        wave: Wave,
        live: LiveStore,
        pseudonyms: Pseudonyms,
        find_recorded: Callable[[str, str, int], Awaitable[Recorded | None]],
        clock: Callable[[], int] = now_ms,
        find_instrument: Callable[[str], Awaitable[Mapping[str, str] | None]] | None = None,
        seal: Seal | None = None,
        find_opt_out: Callable[[str, int], Awaitable[bool]] | None = None,
        count_recorded: CountRecorded | None = None,
    ):
        """`find_recorded(respondent, wave, born)` looks a respondent up in the record, where the live
        store born at `born` may have lost what the record has; None also while the record is away.
        `find_instrument(reference)` has the sources of an instrument that the live store has lost.
        `find_opt_out(respondent, born)`: whether the record knows an opt-out that the live store has lost.
        `seal`: numbers of those who have consented are kept, sealed; None: none is kept.
        `count_recorded(wave, before)`: the record's completes by quota cell, see gateway/counting.py."""
        self.wave = wave
        self.live = live
        self.pseudonyms = pseudonyms
        self.seal = seal
        self._find_recorded = find_recorded
        self._find_instrument = find_instrument
        self._find_opt_out = find_opt_out
        self.clock = clock
        self.counting = Counting(live, count_recorded)
        self.home = -1  # birth of the live store that keeps our instrument; none yet
        self._waves = {wave.instrument.reference: wave}
        self._while_closed: dict[Wave, Wave] = {}
        self.word = ""  # the operator's, over the file's times: open | close; "" = none
        opening = wave.opening
        self.opens_ms = opening.opens_at.timestamp() * 1000 if opening.opens_at else float("-inf")
        self.closes_ms = opening.closes_at.timestamp() * 1000 if opening.closes_at else float("inf")

    def publish(self, results: Results | None) -> None:
        """Shows these results from the next hop on, None: none. Sessions under way go on."""
        self.wave = replace(self.wave, results=results)
        self._waves = {
            reference: self.wave
            if reference == self.wave.instrument.reference
            else self.wave.with_instrument(wave.instrument)
            for reference, wave in self._waves.items()
        }
        self._while_closed = {}

    def open_at(self, at: int) -> bool:
        """Whether the wave takes interviews at `at`, ms."""
        return self.word == "open" if self.word else self.opens_ms <= at < self.closes_ms

    def at(self, wave: Wave, at: int) -> Wave:
        """`wave` as it is at `at`: closed or not."""
        if self.open_at(at):
            return wave
        if wave not in self._while_closed:
            self._while_closed[wave] = replace(wave, closed=True)
        return self._while_closed[wave]

    async def heard(self, live: Live | None) -> bool:
        """Whether a dial has a dialogue while the wave is closed: with results everybody's has."""
        return self.wave.results is not None or await self.has_a_say(live)

    async def has_a_say(self, live: Live | None) -> bool:
        """Whether there are answers of theirs to withdraw."""
        if live is None:
            return False
        return heard_when_closed(await self.wave_on(live.interview.instrument), live.interview)

    async def tally(self, live: Live | None, after: Live) -> Tally | None:
        """What storing `after` over `live`, which may be rebuilt from the record, changes in the counts of
        quota cells."""
        if not self.wave.quotas or after.interview.wave != self.wave.id:
            return None
        before = (await self.wave_on(live.interview.instrument), live.interview) if live else None
        now = (await self.wave_on(after.interview.instrument), after.interview)
        return await self.counting.tally(before, now, after.interview.last_at)

    # ---- what is not in the live store

    async def keep_instrument(self) -> bool:
        """Makes a live store ours: notes the pseudonym key and keeps our instrument there, for interviews
        that outlive it. False if the store has other data under the same version. Raises OtherKeyError
        if its interviews are kept under another key; Unavailable."""
        ours = self.wave.instrument
        born = await self.live.mark_born(self.clock())
        if not await self.live.keep_key(self.pseudonyms.key_id):
            raise OtherKeyError()
        stands = await self.live.keep_instrument(ours.reference, ours.digest, dict(ours.sources))
        if stands == ours.digest:
            self.home = born
        return stands == ours.digest

    async def settle(self, born: int) -> int:
        """In a live store that was away at our start, or has been emptied; when it was born."""
        if not born:
            log.warning("live store found empty; interviews are rebuilt from the record as people dial")
        try:
            ours = await self.keep_instrument()
        except OtherKeyError as error:
            raise Unavailable(str(error)) from None
        if not ours:
            reference = self.wave.instrument.reference
            raise Unavailable(f"{reference} has been fielded with other texts; raise the version")
        return self.home

    async def recorded(self, respondent: str, born: int) -> Live | None:
        """The interview rebuilt from the record, where the live store may have lost it."""
        found = await self._find_recorded(respondent, self.wave.id, born)
        if found is None or found.instrument is None:  # not there, or its beginning is still on its way
            return None
        wave = await self.wave_on(found.instrument)
        last_at = int(found.last_at.timestamp() * 1000)
        interview = restore(wave, found.interview, found.effects, last_at)
        version = (found.version // _VERSION_JUMP + 1) * _VERSION_JUMP
        return Live(version, "", 0, "", 0, True, "", "", True, interview)

    async def recorded_opt_out(self, respondent: str, born: int) -> bool:
        """Whether the record knows of an opt-out that the live store may have lost."""
        return self._find_opt_out is not None and await self._find_opt_out(respondent, born)

    async def wave_on(self, reference: str) -> Wave:
        """This wave on the instrument version that an interview began with, also after a deploy."""
        known = self._waves.get(reference)
        if known is not None:
            return known
        sources: Mapping[str, str] | None = await self.live.instrument_sources(reference)
        if sources is None and self._find_instrument is not None:
            sources = await self._find_instrument(reference)
        if sources is None:
            raise Unavailable(f"instrument {reference} is in no store; deploy the release that had it")
        try:
            wave = self.wave.with_instrument(parse(sources, fielded=True))
        except InstrumentError:
            raise Unavailable(f"instrument {reference} as stored is not readable") from None
        self._waves[reference] = wave
        return wave

    # ---- words outside any interview

    async def results_by_text(self, interview: Interview | None) -> str:
        """The results in one text, in the respondent's language and of their region where these are known."""
        wave = self.wave
        if wave.results is None:
            return self.phrase("results_unpublished", interview).text
        if interview is None:
            return results_text(wave.results, wave.languages[0], "")
        region = region_of((await self.wave_on(interview.instrument)).instrument, interview.answers)
        return results_text(wave.results, interview.language, region)

    def phrase(self, name: str, interview: Interview | None = None) -> Screen:
        """A last screen outside any interview, in the respondent's language where it is known."""
        wave = self.wave
        language = interview.language if interview else wave.languages[0]
        if language not in wave.instrument.languages:
            language = wave.languages[0]
        return Screen(fixed_text(wave, language, name), ends=True)
