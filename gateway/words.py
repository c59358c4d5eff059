"""The operator's word on the waves, brought to this gateway's dialogues without costing a hop anything.

Every two seconds one small read of the live store's copy. Where that is gone with a wiped store, and every
half minute, the database is asked too: it has the last word for good, and the copy is made anew.
"""

import asyncio
import contextlib
import logging
import time

from sqlalchemy import Engine

from gateway.faults import where
from gateway.switchboard import Switchboard
from storage.live import LiveStore
from storage.resp import Unavailable
from storage.waves import TIMES, Word, load_word, read_words

log = logging.getLogger("dial16.words")

_EVERY_SECONDS = 2.0
_DATABASE_SECONDS = 30.0
_ANSWER_SECONDS = 1.0  # that the database is waited for
_COPIED = ""  # a field of the copy that no wave has: the copy has been made


class Words:
    """What the operator last said of each wave, as far as this gateway has heard."""

    def __init__(self, board: Switchboard, live: LiveStore, engine: Engine):
        self._board, self._live, self._engine = board, live, engine
        self._heard: dict[str, Word] = {}
        self._asked_at = float("-inf")

    async def keep_up(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self.refresh()
            except Exception as error:  # one odd value must not end the looking
                log.error("words on waves not read: %s at %s", type(error).__name__, where(error))

    async def refresh(self) -> None:
        """One look. A store that is away changes nothing: the last word heard holds."""
        copied: dict[str, str] | None = None
        try:
            copied = await self._live.wave_words()
            self._hear({w: load_word(text) for w, text in copied.items() if w != _COPIED})
        except Unavailable:
            pass  # hops say so, and readiness
        if (copied is not None and _COPIED not in copied) or self._overdue():
            await self._ask(copied)
        for dialogue in self._board.dialogues:
            word = self._heard.get(dialogue.wave.id)
            dialogue.word = "" if word is None or word.word == TIMES else word.word

    def _overdue(self) -> bool:
        return time.monotonic() - self._asked_at > _DATABASE_SECONDS

    async def _ask(self, copied: dict[str, str] | None) -> None:
        """Look in the database, and bring the copy up to it; `copied` None: there is no store to copy to."""
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._hear(await asyncio.to_thread(read_words, self._engine))
        except Exception as error:  # away, or without its schema: readiness says so
            log.info("words on waves not read: %s at %s", type(error).__name__, where(error))
            return
        if copied is None:
            return
        ours = {wave: word.dumped() for wave, word in self._heard.items()} | {_COPIED: "0 -"}
        with contextlib.suppress(Unavailable):
            await self._live.copy_wave_words({w: text for w, text in ours.items() if copied.get(w) != text})

    def _hear(self, words: dict[str, Word]) -> None:
        for wave, word in words.items():
            self._heard[wave] = max(word, self._heard.get(wave, word))
