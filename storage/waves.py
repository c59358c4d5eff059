"""The operator's word on whether a wave is open, and how each wave stands in the record.

The database keeps the word for good. The live store has a copy, in which gateways look every two seconds
(`gateway/words.py`); the later of two words holds, wherever it is found.

    dial16:waves    wave id -> "{ms} {word}"; "" -> "0 -" once the copy has been made
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
from sqlalchemy import Engine, case, func, insert, select, update

from flows.fielding import Opening
from storage.database import reading, writing
from storage.live import WAVES
from storage.models import COMPLETE, Interview, WaveWord, table_of

OPEN, CLOSE, TIMES = "open", "close", "times"  # the last: let the file's times decide again

_word, _interview = table_of(WaveWord), table_of(Interview)


@dataclass(frozen=True, slots=True, order=True)
class Word:
    at: int  # ms
    word: str  # open | close | times

    def dumped(self) -> str:
        return f"{self.at} {self.word}"


def load_word(text: str) -> Word:
    """What `dumped` wrote. Raises ValueError."""
    at, _, word = text.partition(" ")
    return Word(int(at), word)


def read_words(engine: Engine) -> dict[str, Word]:
    """The last word on each wave that there was one on."""
    with reading(engine) as db:
        rows = db.execute(select(_word.c.wave, _word.c.word, _word.c.said_at))
        return {wave: Word(int(at.timestamp() * 1000), word) for wave, word, at in rows}


def is_open(opening: Opening, word: Word | None, at: datetime) -> bool:
    """Whether a wave takes interviews: by the operator's word, else by its file's times. `at`: aware."""
    if word is None or word.word == TIMES:
        return opening.is_open(at)
    return word.word == OPEN


def say_word(engine: Engine, wave: str, word: str) -> Word:
    """Keeps a word for good; later than any before it, whatever this machine's clock says."""
    with writing(engine) as db:
        before = db.execute(select(_word.c.said_at).where(_word.c.wave == wave).with_for_update()).scalar()
        least = 0 if before is None else int(before.timestamp() * 1000) + 1
        at = max(int(datetime.now(UTC).timestamp() * 1000), least)
        values = {"word": word, "said_at": datetime.fromtimestamp(at / 1000, UTC)}
        if before is None:
            db.execute(insert(_word).values(wave=wave, **values))
        else:
            db.execute(update(_word).where(_word.c.wave == wave).values(**values))
    return Word(at, word)


def copy_word(live: "redis.Redis", wave: str, word: Word) -> None:
    """Tells the gateways. Raises redis.RedisError; they then find it in the database, half a minute later."""
    live.hset(WAVES, wave, word.dumped())


@dataclass(frozen=True, slots=True)
class Progress:
    """One wave in the record."""

    interviews: int  # that count: one a respondent
    completes: int


def tallies(engine: Engine) -> Mapping[str, Progress]:
    """By wave id."""
    complete = func.sum(case((_interview.c.disposition == COMPLETE, 1), else_=0))
    asked = (
        select(_interview.c.wave, func.count(), complete)
        .where(_interview.c.counted)
        .group_by(_interview.c.wave)
    )
    with reading(engine) as db:
        return {wave: Progress(int(n), int(done)) for wave, n, done in db.execute(asked)}
