"""The demonstration: simulated respondents through the real webhook, and the proof that what they said is
recorded, once.

What the gateway acknowledged to each with a next screen (demo_respondents.py) is compared with the database
at the end.
"""

import asyncio
import contextlib
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, bindparam, text

from flows.wave import Wave
from gateway.demo_respondents import Reader, Respondent, Tally
from gateway.supervisor import not_ready
from storage.database import reading
from storage.respondents import Pseudonyms

_AT_ONCE = 48  # respondents
_RECORD_SECONDS = 30.0
_START_SECONDS = 60.0
_ASK_AT_ONCE = 500  # respondents a query
PREFIX = "DIAL16_"


class DemoError(Exception):
    """The demonstration cannot go on. Says what the operator must do."""


# ---------------------------------------------------------------- the record


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the database has of the demonstration's respondents."""

    given: int  # answers as events
    answers: Mapping[str, Mapping[str, tuple[str, int]]]  # pseudonym -> item -> option, code or number


def recorded(engine: Engine, pseudonyms: Sequence[str]) -> Recorded:
    """Read it back."""
    events = text(
        "SELECT count(*) FROM event e JOIN interview i ON i.id = e.interview"
        " WHERE e.kind = 'ResponseGiven' AND i.respondent IN :who"
    ).bindparams(bindparam("who", expanding=True))
    responses = text(
        "SELECT i.respondent, r.item, r.option, r.code, r.number FROM response r"
        " JOIN interview i ON i.id = r.interview WHERE NOT r.retracted AND i.respondent IN :who"
    ).bindparams(bindparam("who", expanding=True))
    given, answers = 0, dict[str, dict[str, tuple[str, int]]]()
    with reading(engine) as db:
        for first in range(0, len(pseudonyms), _ASK_AT_ONCE):
            who = {"who": pseudonyms[first : first + _ASK_AT_ONCE]}
            given += int(db.execute(events, who).scalar_one())
            for respondent, item, option, code, number in db.execute(responses, who):
                answers.setdefault(respondent, {})[item] = (option, number if option == "" else code)
    return Recorded(given, answers)


def await_record(engine: Engine, pseudonyms: Sequence[str], given: int) -> tuple[Recorded, float]:
    """The record once the recorder has caught up, or as it stands when it takes too long; and the wait."""
    began = time.monotonic()
    while True:
        found = recorded(engine, pseudonyms)
        waited = time.monotonic() - began
        if found.given >= given or waited > _RECORD_SECONDS:
            return found, waited
        time.sleep(0.2)


# ---------------------------------------------------------------- the demonstration


def demo(
    wave: Wave,
    url: str,
    engine: Engine,
    pseudonym_key: bytes,
    count: int,
    seed: int,
    show_table: Callable[[], None],
) -> bool:
    """Play `count` respondents against the webhook at `url`; whether all that was acknowledged is recorded.

    Raises DemoError when no number is left to dial from.
    """
    console = Console()
    tally = Tally()
    respondents = asyncio.run(_play(wave, url, count, seed, tally, console))
    pseudonyms = Pseudonyms(pseudonym_key)
    said = {pseudonyms.of(r.msisdn): r.answers for r in respondents}
    found, waited = await_record(engine, list(said), tally.acknowledged)
    show_table()
    wrong = sum(found.answers.get(who, {}) != answers for who, answers in said.items())
    console.print(
        f"{count} respondents, {tally.sessions} sessions, {tally.hops} hops: {tally.finished} sessions"
        f" played to an end, {tally.hung_up} hung up, {tally.wrong_keys} wrong keys; of the requests"
        f" {tally.repeated} were repeated and {tally.at_the_same_time} sent twice at once,"
        f" {tally.answered_apart} of these answered differently."
    )
    console.print(
        f"Answers acknowledged: {tally.acknowledged}. Recorded: {found.given}, {waited:.1f} s after the last."
        f" Respondents whose record differs from what they pressed: {wrong}."
    )
    for fault, times in tally.faults.items():
        console.print(f"Fault: {fault}, {times} times.")
    passed = found.given == tally.acknowledged and not (wrong or tally.answered_apart or tally.faults)
    console.print("Everything acknowledged is recorded, once." if passed else "NOT EQUAL: see above.")
    return passed


async def _play(
    wave: Wave, url: str, count: int, seed: int, tally: Tally, console: Console
) -> list[Respondent]:
    reader = Reader(wave, wave.budget_for("62001"))
    # No national number begins with 0 (ITU-T E.164; Ghana's numbering plan), so these are nobody's.
    first = secrets.randbelow(10**8 - count)
    respondents = [
        Respondent(f"{wave.countries[0]}0{first + n:08d}", reader, url, random.Random(f"{seed}-{n}"), tally)
        for n in range(count)
    ]
    turn = asyncio.Semaphore(_AT_ONCE)
    bar = Progress(
        TextColumn("respondents"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("respondents", total=count)

        async def one(respondent: Respondent) -> None:
            async with turn:
                await respondent.take_part()
            bar.advance(task)

        await asyncio.gather(*(one(r) for r in respondents))
    return respondents


@contextlib.contextmanager
def temporary_service(
    main: Path, environ: Mapping[str, str], waves: Sequence[Path], instruments: Sequence[Path]
) -> Iterator[Path]:
    """The whole service on a free port and in a temporary folder for the length of the block; the folder
    of its `.env`. It takes nothing from our settings but the waves and the instruments."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="dial16-demo-") as name:
        place = Path(name)
        (place / ".env").write_text(
            f"{PREFIX}DATA_DIR='{place}'\n{PREFIX}PORT={port}\n{PREFIX}LOG_LEVEL=warning\n"
            f"{PREFIX}WAVE_FILE='{','.join(map(str, waves))}'\n"
            f"{PREFIX}INSTRUMENT_DIR='{','.join(map(str, instruments))}'\n"
        )
        service = subprocess.Popen(
            [sys.executable, str(main), "run"],
            env={k: v for k, v in environ.items() if not k.startswith(PREFIX)},
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while reasons := not_ready(f"http://127.0.0.1:{port}"):
                if service.poll() is not None:
                    raise DemoError("the service did not start; try `main.py run` and see what it says")
                if time.monotonic() > deadline:
                    raise DemoError(f"the service does not become ready: {'; '.join(reasons)}")
                time.sleep(0.1)
            yield place
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(_START_SECONDS)
