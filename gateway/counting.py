"""Quota cells as the hop asks after them: is one full, and what does this step add to the counts.

    entered   the engine says which cells the answers fall in. If one has all the completes it wants, the
              step is taken anew, and the interview ends there. One read; no other hop makes it
    counted   a step that completes an interview, or withdraws a complete one, changes the counts in the
              write that commits it: repeated, raced or lost, it is counted as it is committed

So a cell overshoots by those at most who were let in before it was full and had not finished yet.

A live store found without the counts (emptied; or what is counted has changed, see `drawn_alike`) counts
from then on and adds, once, what the record has of before. Until that is done nobody is turned away. What
these counts may be off by then: completes that were not in the record yet when they were added, and those
of the moment itself that two gateways' clocks put on both sides of it, or on neither.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from flows.engine import CellsEntered, Dialled, Event, Interview, Replied, Step, step
from flows.quotas import cells_of, count_name, drawn_alike, full_cells
from flows.wave import Wave
from storage.live import LiveStore, Tally, counts_key
from storage.models import COMPLETE
from storage.resp import Unavailable

log = logging.getLogger("dial16.counting")

#: How long a respondent waits for the record's counts; after that they are added in the background.
_PATIENCE_SECONDS = 1.0

#: The record's completes by `count_name` of a wave that ended before a moment, ms; None while it is away.
CountRecorded = Callable[[Wave, int], Awaitable[Mapping[str, int] | None]]


class Counting:
    """The counts of quota cells, in the live store."""

    def __init__(self, live: LiveStore, count_recorded: CountRecorded | None = None):
        """`count_recorded` None: the record cannot be asked, as while it is away."""
        self._live = live
        self._count_recorded = count_recorded
        self._adding: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()  # counts that the log says are missing: not once a hop

    async def step(self, wave: Wave, interview: Interview | None, event: Event) -> Step:
        """The engine's step; it ends the interview if that enters a full cell. Raises Unavailable."""
        taken = step(wave, interview, event)
        if not wave.quotas or not isinstance(event, Dialled | Replied):
            return taken
        for effect in taken.effects:
            if isinstance(effect, CellsEntered) and await self._full(wave, effect.cells, event.at):
                return step(wave, interview, replace(event, full=True))
        return taken

    async def tally(
        self, before: tuple[Wave, Interview] | None, after: tuple[Wave, Interview], at: int
    ) -> Tally | None:
        """What a step from `before` to `after`, each on the wave of its instrument version, changes in the
        counts; None: nothing. Raises Unavailable."""
        wave = after[0]
        if not wave.quotas or (before is None or before[1].disposition != COMPLETE) == (
            after[1].disposition != COMPLETE
        ):
            return None
        changes = Counter(_counted(*after))
        changes.subtract(_counted(*before) if before else ())
        key = counts_key(wave.id, drawn_alike(wave.quotas))
        changed = tuple((name, by) for name, by in sorted(changes.items()) if by)
        if changed and await self._live.read_counts(key, ()) is None:
            await self._add_recorded(wave, key, at)
        return Tally(key, at, changed) if changed else None

    async def _full(self, wave: Wave, cells: Mapping[str, str], at: int) -> bool:
        if not cells:
            return False
        key = counts_key(wave.id, drawn_alike(wave.quotas))
        names = [count_name(quota, its_cell) for quota, its_cell in cells.items()]
        counts = await self._live.read_counts(key, names)
        if counts is None:
            await self._add_recorded(wave, key, at)
            counts = await self._live.read_counts(key, names)
        return counts is not None and bool(full_cells(wave.quotas, cells, counts))

    async def _add_recorded(self, wave: Wave, key: str, at: int) -> None:
        """Begins to count at `at` and adds what the record has of before; waits for that a moment."""
        if key not in self._adding:
            self._adding[key] = asyncio.create_task(self._add(wave, key, at))
            self._adding[key].add_done_callback(lambda _: self._adding.pop(key))
        await asyncio.wait([self._adding[key]], timeout=_PATIENCE_SECONDS)

    async def _add(self, wave: Wave, key: str, at: int) -> None:
        try:
            since = await self._live.begin_counts(key, at)
            recorded = await self._count_recorded(wave, since) if self._count_recorded else None
            if recorded is not None:
                await self._live.add_counts(key, since, recorded)
                self._told.discard(key)
                return
            why = "the record is away"
        except Unavailable as error:
            why = str(error)
        if key not in self._told:
            self._told.add(key)
            log.warning("quotas of wave %s turn nobody away until they are counted: %s", wave.id, why)


def _counted(wave: Wave, interview: Interview) -> list[str]:
    """The cells that a complete interview counts in."""
    if interview.disposition != COMPLETE:
        return []
    cells = cells_of(wave.quotas, wave.instrument, interview.answers, interview.numbers)
    return [count_name(quota, its_cell) for quota, its_cell in cells.items()]
