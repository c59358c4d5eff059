"""The record as the hop asks it: rarely, with a deadline, and never while it is away."""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine, select

from flows.wave import Wave
from gateway.faults import where
from storage.database import reading
from storage.models import StoredInstrument, table_of
from storage.quota import completes
from storage.record import Recorded, find_interview, has_opted_out, knows_before

log = logging.getLogger("dial16.lookup")
T = TypeVar("T")

#: A respondent who dials while the record is slow is served as new after this long; the recorder
#: settles the double.
_RECORD_SECONDS = 1.0
_RECORD_AWAY_SECONDS = 10.0  # how long the record is left alone after it failed
_ASK_AGAIN_SECONDS = 60.0
_COUNT_SECONDS = 60.0  # all completes of a wave; nobody waits for it to the end


class RecordLookup:
    """The record as the hop uses it: only where the live store may have lost what the record has.

    Most first dials must not wait for SQL. The live store is complete since its birth, for as long as
    it keeps interviews; so the record can only know more if it has interviews from before that, which
    is asked once a minute, not once a dial.
    """

    def __init__(self, engine: Engine, keep_days: int):
        self._engine = engine
        self._keep = timedelta(days=keep_days)
        self._knows_more: dict[int, tuple[bool, float]] = {}
        self._away_until = 0.0

    async def find(self, respondent: str, wave: str, born: int) -> Recorded | None:
        """What the record has of a respondent whom the live store, born at `born` ms (0: it is empty), does
        not know."""
        return await self._asked(self._find(respondent, wave, born))

    async def instrument(self, reference: str) -> Mapping[str, str] | None:
        """The sources of an instrument fielded earlier, by file name."""
        return await self._asked(asyncio.to_thread(find_instrument, self._engine, reference))

    async def opted_out(self, respondent: str, born: int) -> bool:
        """Whether a respondent whom the live store, born at `born` ms, does not know has opted out."""
        return bool(await self._asked(self._opted_out(respondent, born)))

    async def _opted_out(self, respondent: str, born: int) -> bool:
        return await self._knows_before(born) and await asyncio.to_thread(
            has_opted_out, self._engine, respondent
        )

    async def _find(self, respondent: str, wave: str, born: int) -> Recorded | None:
        if not await self._knows_before(born):
            return None
        return await asyncio.to_thread(find_interview, self._engine, respondent, wave)

    async def _knows_before(self, born: int) -> bool:
        """Whether the record has anything from before the live store's birth; asked once a minute."""
        now = time.monotonic()
        knows, asked_at = self._knows_more.get(born, (False, -_ASK_AGAIN_SECONDS))
        if now - asked_at > _ASK_AGAIN_SECONDS:
            alive = datetime.fromtimestamp(born / 1000, UTC) if born else datetime.now(UTC)
            moment = max(alive, datetime.now(UTC) - self._keep)
            knows = await asyncio.to_thread(knows_before, self._engine, moment)
            self._knows_more = {born: (knows, now)}
        return knows

    async def completes(self, wave: Wave, before: int) -> Mapping[str, int] | None:
        """How many completes each quota cell of `wave` had before a moment, ms."""
        moment = datetime.fromtimestamp(before / 1000, UTC)
        return await self._asked(asyncio.to_thread(completes, self._engine, wave, moment), _COUNT_SECONDS)

    async def _asked(self, question: Coroutine[Any, Any, T], seconds: float = _RECORD_SECONDS) -> T | None:
        """The record's answer; None while it is away or slow, and for some seconds after."""
        now = time.monotonic()
        if now < self._away_until:
            question.close()
            return None
        try:
            async with asyncio.timeout(seconds):
                return await question
        except Exception as error:
            self._away_until = now + _RECORD_AWAY_SECONDS
            log.warning("record not reached for a dial: %s at %s", type(error).__name__, where(error))
            return None


def find_instrument(engine: Engine, reference: str) -> Mapping[str, str] | None:
    """The sources of a stored instrument, by file name."""
    stored = table_of(StoredInstrument)
    with reading(engine) as db:
        sources = db.execute(select(stored.c.sources).where(stored.c.reference == reference)).scalar()
    return None if sources is None else dict(json.loads(sources))
