"""The one text to each respondent who asked for the results: what it says, and bringing it to the outbox.

Nothing is sent from here. Workers send it like anything that nobody waits for: within the wave's hours, at
the sender's rate, after everything else, not to who has opted out or withdrawn (`dispatch.py`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from flows.gsm import parts
from flows.results import Results, region_item
from flows.results_pages import results_text
from flows.wave import Wave
from storage.results_wanted import Reader, readers, write_texts

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, or would be."""

    messages: int
    parts: int
    by_language: dict[str, int]


def text_for(reader: Reader, wave: Wave, results: Results) -> tuple[str, str]:
    """Language and text."""
    language = reader.language if reader.language in wave.languages else wave.languages[0]
    assert language is not None
    return language, results_text(results, language, reader.region)


def forecast(engine: Engine, wave: Wave, results: Results, most: int) -> Written:
    """What `write` would write."""
    return _counted(wave, results, _readers(engine, wave, most))


def write(engine: Engine, wave: Wave, results: Results, most: int, now: datetime) -> Written:
    """Write the texts of at most `most` respondents to the outbox. Run again, it writes nobody's twice."""
    written: list[Reader] = []
    while len(written) < most:
        batch = _readers(engine, wave, min(_BATCH, most - len(written)))
        if not batch:
            break
        texts = [(reader, text_for(reader, wave, results)[1]) for reader in batch]
        write_texts(engine, wave.id, wave.sms_sender, texts, now)
        written += batch
    return _counted(wave, results, written)


def _readers(engine: Engine, wave: Wave, most: int) -> list[Reader]:
    item = region_item(wave.instrument)
    return readers(engine, wave.id, item.id if item else "", most)


def _counted(wave: Wave, results: Results, who: list[Reader]) -> Written:
    said = list(_said(wave, results, who))
    return Written(len(said), sum(parts(text) for _, text in said), dict(Counter(x for x, _ in said)))


def _said(wave: Wave, results: Results, who: list[Reader]) -> Iterator[tuple[str, str]]:
    for reader in who:
        yield text_for(reader, wave, results)
