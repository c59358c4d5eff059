"""How fast the recorder is: fills the event stream with hops of a realistic shape and folds them all.

    python bench/recorder.py --database postgresql+psycopg://... --redis redis://127.0.0.1/15

Give it an empty database and an empty live store: both are written to, and neither is emptied.
It migrates the database, plays interviews of 21 hops by `--respondents` at once, interleaved as they
come in under load, and reports hop entries a second, and the processor time of this process a hop.
`--cpu` pins it to one core; put the database on another.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import redis
from sqlalchemy.engine import make_url

from flows.instrument import PROMPTS, Instrument, parse
from storage.database import migrate, open_engine
from storage.entries import STREAM
from storage.recorder import Recorder, lag

HOPS = 21
_NOW = 1_763_863_000_000

_QUESTIONNAIRE = """
[instrument]
id = "bench"
version = "1"
title = "Bench"
source = "-"
consent_version = "1"
reference_months = 12
default_language = "en"
languages = ["en"]
[nonresponse]
not_applicable = 97
dont_know = 98
refused = 99
[scales]
yes_no = [{ id = "yes", code = 1 }, { id = "no", code = 2 }]
[[blocks]]
id = "begin"
items = [{ id = "consent", role = "consent", label = "Consent", scale = "yes_no" }]
"""


def instrument() -> Instrument:
    """The least that `migrate` takes; the recorder itself does not look at it."""
    texts = ['[language]\nid = "en"\nname = "English"\niso639_3 = "eng"\nstatus = "reviewed"', "[prompts]"]
    texts += [f'{name} = "Prompt"' for name in PROMPTS]
    texts += ['[scales.yes_no]\nyes = "Yes"\nno = "No"', '[items.consent]\ntext = "Go on?"']
    return parse({"questionnaire.toml": _QUESTIONNAIRE, "en.toml": "\n".join(texts)})


def interview(number: int) -> Iterator[dict[str, Any]]:
    """The hops of one complete interview."""
    respondent = sha256(f"r{number}".encode()).hexdigest()[:32]
    common = {
        "kind": "hop", "interview": respondent[:16], "respondent": respondent, "wave": "pilot-2026",
        "session": f"ATUid_{sha256(f's{number}'.encode()).hexdigest()}", "mode": "ussd", "stage": "item",
    }  # fmt: skip
    for hop in range(1, HOPS + 1):
        effects: list[dict[str, Any]]
        extra: dict[str, Any] = {}
        if hop == 1:
            effects = [
                {"kind": "Began", "instrument": "bench@1", "wave": "pilot-2026", "language": "en",
                 "mode": "ussd", "seed": number, "blocks": "health education government",
                 "probabilities": {"health": 1.0, "education": 1.0, "government": 1.0},
                 "items": ""}
            ]  # fmt: skip
            extra = {
                "opened": {"aggregator": "africastalking", "network_code": "62001",
                           "service_code": "*384*16#", "extension": ""}
            }  # fmt: skip
        else:
            effects = [
                {"kind": "ResponseGiven", "item": f"health.item{hop}", "option": "agree", "code": 2,
                 "seconds": 4.2, "tries": 1}
            ]  # fmt: skip
            if hop == 2:
                effects.append({"kind": "Consented", "version": "2026-1"})
            if hop % 7 == 0:
                effects.insert(0, {"kind": "InvalidReply", "item": f"health.item{hop}", "tries": 1})
            if hop == HOPS:
                effects.append({"kind": "Ended", "disposition": "complete"})
        yield {
            **common, "version": hop, "hop": hop, "at": _NOW + number * 50 + hop * 5000,
            "shown": f"health.item{hop + 1}", "ends": hop == HOPS, "effects": effects, **extra,
        }  # fmt: skip


def fill(live: redis.Redis, entries: int, at_once: int) -> int:
    """Write at least `entries` hops, of `at_once` interviews at a time. Returns how many."""
    written = first = 0
    while written < entries:
        for hops in zip(*(interview(first + n) for n in range(at_once)), strict=True):
            with live.pipeline(transaction=False) as pipe:
                for hop in hops:
                    pipe.xadd(STREAM, {"e": json.dumps(hop, separators=(",", ":"))})
                pipe.execute()
            written += len(hops)
        first += at_once
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", required=True, help="URL of an empty database on this machine")
    parser.add_argument("--redis", required=True, help="URL of an empty live store on this machine")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--respondents", type=int, default=500, help="interviews at once")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--cpu", type=int, help="pin this process to one core")
    given = parser.parse_args()
    for name in (make_url(given.database).host, make_url(given.redis).host):
        if name not in (None, "", "localhost", "127.0.0.1", "::1"):
            parser.error("loopback only: this writes made-up interviews")
    if given.cpu is not None:
        os.sched_setaffinity(0, {given.cpu})
    live, engine = redis.Redis.from_url(given.redis), open_engine(given.database)
    migrate(engine, instrument())
    recorder = Recorder(live, engine, f"bench-{os.getpid()}", batch=given.batch)
    fill(live, 2000, given.respondents)
    while lag(live):
        recorder.fold_once(1)
    entries = fill(live, given.entries, given.respondents)
    wall, cpu = time.perf_counter(), time.process_time()
    while lag(live):
        recorder.fold_once(1)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{entries} hop entries, {given.respondents} respondents at once, batches of {given.batch}: "
        f"{entries / wall:,.0f} entries/s, {cpu / entries * 1e6:.0f} us of this process an entry"
    )


if __name__ == "__main__":
    main()
