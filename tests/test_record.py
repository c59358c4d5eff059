"""What the engine did comes back from the record: random dialogues on the real questionnaire."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from flows.engine import Dialled, Interview, Replied, dump_effect, restore, step
from flows.instrument import UNANSWERED, load
from flows.wave import Wave, load_wave
from storage.database import open_engine, writing
from storage.entries import read_entry
from storage.fold import fold
from storage.models import Interview as InterviewRow
from storage.models import Response, table_of
from storage.record import find_interview
from storage.respondents import Pseudonyms
from tests.record_material import NOW, rows
from tests.stores import give_schema

HERE = Path(__file__).resolve().parent.parent
INSTRUMENT = load(HERE / "flows" / "sdg_16_6_2")
WAVE = load_wave(HERE / "deploy" / "wave.toml", INSTRUMENT)
PSEUDONYMS = Pseudonyms(bytes(range(32)))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    give_schema(engine, INSTRUMENT)
    yield engine
    engine.dispose()


def play(wave: Wave, respondent: str, chance: random.Random) -> tuple[Interview, list[dict[str, Any]]]:
    """Keys pressed at random, hang-ups and redials; the interview left behind and the stream's entries."""
    entries: list[dict[str, Any]] = []
    interview: Interview | None = None
    at, session, hop, ended = NOW, 0, 0, True
    for version in range(1, chance.randint(5, 150)):
        at += chance.randint(500, 20_000)
        if ended or chance.random() < 0.05:
            session, hop = session + 1, 0
            taken = step(
                wave,
                interview,
                Dialled(
                    at,
                    PSEUDONYMS.interview_id(respondent, f"s{session}"),
                    PSEUDONYMS.seed(respondent, wave.id),
                ),
            )
        else:
            key = chance.choice(["1"] * 8 + ["2"] * 3 + ["3", "4", "99", "0", "98", "x", "34"])
            assert interview is not None
            taken = step(wave, interview, Replied(at, key))
        hop += 1
        interview, ended = taken.interview, taken.screen.ends
        entries.append(
            {"kind": "hop", "interview": interview.id, "respondent": respondent, "wave": interview.wave,
             "version": version, "session": f"s{session}", "hop": hop, "at": at, "shown": interview.at,
             "stage": interview.stage, "mode": interview.mode, "ends": ended,
             "effects": [dump_effect(e) for e in taken.effects]}
        )  # fmt: skip
    assert interview is not None
    return interview, entries


def test_interviews_come_back_as_they_were_left(engine: Engine) -> None:
    chance = random.Random(16)
    left = {}
    entries = []
    for n in range(40):
        respondent = PSEUDONYMS.of(f"+23320000{n:04}")
        left[respondent], played = play(WAVE, respondent, chance)
        entries += played
    chance.shuffle(entries)
    for first in range(0, len(entries), 100):
        with writing(engine) as db:
            fold(db, [read_entry(json.dumps(e)) for e in entries[first : first + 100]])
    dispositions = {i["id"]: i["disposition"] for i in rows(engine, table_of(InterviewRow))}
    answered = {
        (r["interview"], r["item"]): r for r in rows(engine, table_of(Response)) if not r["retracted"]
    }
    seen = set()
    for respondent, interview in left.items():
        found = find_interview(engine, respondent, WAVE.id)
        assert found is not None
        assert found.interview == interview.id
        again = restore(WAVE, found.interview, found.effects, int(found.last_at.timestamp() * 1000))
        for name in ("instrument", "wave", "language", "seed", "blocks", "answers", "disposition", "receipt"):
            assert getattr(again, name) == getattr(interview, name), name
        expected = {
            (interview.id, item.id)
            for item, mark in zip(INSTRUMENT.items, interview.answers, strict=True)
            if mark != UNANSWERED
        }
        assert {key for key in answered if key[0] == interview.id} == expected
        assert dispositions[interview.id] == (interview.disposition or "in_progress")
        seen.add(interview.disposition)
    assert seen >= {"", "complete", "withdrawn"}
