"""Every dialogue in tests/transcripts, on the bare engine and over HTTP; together they cover the instrument.

The format: tests/transcript.py. UPDATE_TRANSCRIPTS=1 writes the screens anew, from what the engine shows.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import httpx2
import pytest
import redis
from starlette.applications import Starlette

from flows.engine import BlockSkipped, Effect, Ended, ResponseGiven
from flows.gsm import fold
from flows.instrument import load
from flows.wave import Wave
from gateway.dialogue import Dialogue
from gateway.switchboard import Switchboard
from gateway.webhooks import Doors, webhook_routes
from storage.live import LiveStore
from storage.record import Recorded
from storage.sealing import Seal
from tests.stores import running_live
from tests.transcript import (
    ARROWS,
    KEY,
    Clock,
    EnginePhone,
    FixedPseudonyms,
    HttpPhone,
    Mismatch,
    play,
    read_transcript,
    told,
)

FOLDER = Path(__file__).parent / "transcripts"
FILES = sorted(FOLDER.glob("*.txt"))
INSTRUMENT = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")
ITEMS = INSTRUMENT.by_id
SECRET = "not-a-secret"
UPDATE = os.environ.get("UPDATE_TRANSCRIPTS") == "1"

#: Said by the gateway, not by the dialogue: tests/test_dialogue.py, tests/test_campaigns.py.
OF_THE_GATEWAY = {
    "unavailable", "not_covered", "wave_closed", "session_over", "invitation", "reminder",
    "reminder_break_off",
}  # fmt: skip


@lru_cache
def on_engine(path: Path) -> EnginePhone:
    """The engine after the dialogue in `path`. Raises Mismatch."""
    transcript = read_transcript(path)
    wave = transcript.wave(INSTRUMENT)
    clock = Clock()
    phone = EnginePhone(wave, transcript.seed(wave), clock)
    try:
        asyncio.run(play(transcript, phone, clock, ITEMS, write=UPDATE))
    finally:
        if UPDATE:
            path.write_text(transcript.written(), "utf-8")
    return phone


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_on_the_engine(path: Path) -> None:
    on_engine(path)


# ---------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with running_live("valkey") as server:
        yield server.url


async def nothing_recorded(respondent: str, wave: str, born: int) -> Recorded | None:
    return None


async def nothing_counted(wave: Wave, before: int) -> dict[str, int]:
    return {}


async def over_http(path: Path, url: str) -> tuple[list[Effect], int, int]:
    """Plays `path` over HTTP: the effects in the event stream, hops in it, conflicts in it."""
    transcript = read_transcript(path)
    wave = transcript.wave(INSTRUMENT)
    clock = Clock()
    live = LiveStore(url, keep_days=30)
    with redis.Redis.from_url(url) as client:
        client.flushall()
        dialogue = Dialogue(
            wave, live, FixedPseudonyms(transcript.seed(wave)), nothing_recorded, lambda: clock.now,
            count_recorded=nothing_counted,
        )  # fmt: skip
        board = Switchboard([dialogue], Seal(KEY))
        app = Starlette(routes=webhook_routes(board, Doors({"africastalking": [SECRET]})))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:

            def close() -> None:
                dialogue.word = "close"

            phone = HttpPhone(http, f"/hooks/africastalking/{SECRET}/ussd", client, wave, close)
            try:
                await play(transcript, phone, clock, ITEMS)
            finally:
                await live.close()
        return await phone.effects(), len(phone.entries("hop")), len(phone.entries("conflict"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_over_http_with_every_request_sent_twice(path: Path, store: str) -> None:
    engine = on_engine(path)
    effects, hops, conflicts = asyncio.run(over_http(path, store))
    assert effects == engine.recorded
    assert (hops, conflicts) == (engine.hops, 0)


# ---------------------------------------------------------------- what the files cover together


def everywhere() -> list[EnginePhone]:
    return [on_engine(path) for path in FILES]


def answered() -> set[tuple[str, str]]:
    return {(e.item, e.option) for p in everywhere() for e in p.recorded if isinstance(e, ResponseGiven)}


def test_every_item_is_answered() -> None:
    assert ITEMS.keys() - {item for item, _ in answered()} == set()


def test_every_answer_that_routes_or_ends_is_given() -> None:
    wanted = set()
    for item in INSTRUMENT.items:
        if item.scale and (item.routes or item.ends or item.skips_block):
            wanted |= {(item.id, option.id) for option in item.scale.options}
            wanted |= {(item.id, reason) for reason in item.nonresponse}
    # Reasons route nothing since every level has its own gate; META's ends at Q8 are shown all the same.
    wanted |= {("education.reason", r) for r in ("private", "home_schooled", "other")}
    assert wanted - answered() == set()


def test_every_code_of_nonresponse_and_of_the_scales_is_given() -> None:
    codes = {
        e.code for p in everywhere() for e in p.recorded if isinstance(e, ResponseGiven) and "." in e.item
    }
    assert codes >= {97, 98, 99, 0, 1, 2, 3}


def test_every_way_to_end() -> None:
    ended = {e.disposition for p in everywhere() for e in p.recorded if isinstance(e, Ended)}
    assert ended == {"complete", "refusal", "ineligible", "quota_full", "results_only"}
    assert any(isinstance(e, BlockSkipped) for p in everywhere() for e in p.recorded)


def test_every_arrow_of_the_stage_diagram_is_taken() -> None:
    assert {arrow for p in everywhere() for arrow in p.arrows} == ARROWS


def shown_as(name: str, text: str) -> str:
    """A pattern of the prompt `name` on a screen: footers and options come after their key."""
    pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(fold(text)))
    key = {"more": "98 ", "back": "0 ", "skip": "(99|00) "}.get(name, "")
    return f"{key}{pattern}"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_prompt_is_shown(language: str) -> None:
    screens = [s for p in everywhere() if language in p.wave.languages for s in p.screens | p.texts]
    text = "\n".join(screens)
    prompts = INSTRUMENT.languages[language].prompts
    wanted = prompts if language == "en" else ["more", "back", "skip", "why", "thanks", "invalid_number"]
    missing = [n for n in wanted if n not in OF_THE_GATEWAY and not re.search(shown_as(n, prompts[n]), text)]
    assert missing == []


# ---------------------------------------------------------------- the player itself


def transcript_file(folder: Path, text: str) -> Path:
    path = folder / "t.txt"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dial *384*16#\nCON Something else\n", "t.txt:1: shows"),
        ("dial *384*16#\n", "t.txt:1: shows"),
        ("keys 1\n", "t.txt:1: nobody is on the line"),
    ],
)
def test_a_transcript_can_fail(tmp_path: Path, text: str, line: str) -> None:
    path = transcript_file(tmp_path, text)
    with pytest.raises((Mismatch, ValueError), match=re.escape(line)):
        asyncio.run(_played(path))


async def _played(path: Path) -> None:
    transcript, clock = read_transcript(path), Clock()
    phone = EnginePhone(transcript.wave(INSTRUMENT), 0, clock)
    await play(transcript, phone, clock, ITEMS)


@pytest.mark.parametrize(
    ("statement", "holds"),
    [
        ("consent given", True),
        ("consent not given", False),
        ("opening.adult yes", True),
        ("opening.adult yes 1", True),
        ("opening.adult yes 2", False),
        ("opening.adult no", False),
        ("respondent.sex not answered", True),
        ("respondent.sexe not answered", False),
        ("opening.adult not answered", False),
        ("in progress", True),
        ("complete", False),
        ("withdrawn", False),
        ("2 answers", True),
        ("3 answers", False),
        ("1 interviews", True),
        ("1 wrong keys", True),
        ("0 wrong keys", False),
        ("opening.adult given 1 times", True),
        ("opening.adult given 2 times", False),
        ("language en", True),
        ("disability skipped", False),
        ("probability health 1.0000", True),
        ("probability health 0.3333", False),
    ],
)
def test_a_statement_can_fail(statement: str, holds: bool) -> None:
    clock = Clock()
    phone = EnginePhone(Wave("w", INSTRUMENT, ("en",), "GSS", "0800", "*384*16#"), 0, clock)
    for reply in ("", "1", "7", "1"):
        asyncio.run(phone.reply(reply) if reply else phone.dial(""))
    assert (told(statement, phone.recorded, ITEMS) is True) == holds


@pytest.mark.parametrize(
    "text", ["dail *384*16#\n", "CON nothing asked for this\n", "dial *384*16#\nlanguage en\n"]
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"t\.txt:"):
        read_transcript(transcript_file(tmp_path, text))
