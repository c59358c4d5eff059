"""The benchmark: a complete hop beside two floors, in one interleaved run; the recorder; the store's size.

    python bench/run.py            some 10 minutes; writes bench/results/latest.json and README's table
    python bench/run.py --quick    a look, about a minute; writes nothing

One server process is pinned to core 0; the load, the live store and PostgreSQL to core 1. Repeats go
round the servers in turn and the median of each is kept, because a machine's speed moves by the hour
and only ratios inside one run mean something. See bench/README.md.
"""

import argparse
import contextlib
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import redis

from bench.load import NOBODYS, RULES, Load, Report, machine_seconds
from bench.report import (
    ALWAYS,
    EVERYSEC,
    FLOOR_BARE,
    FLOOR_FORM,
    TEXTS_ALWAYS,
    TEXTS_EVERYSEC,
    Results,
    machine,
    table,
)
from bench.servers import OTHER_CORE, ROOT, SERVER_CORE, floor, gateway, live_store, pinned
from bench.texts import TextLoad, script
from flows.instrument import load as load_instrument
from flows.interview import Interview
from flows.wave import Wave, load_wave
from storage.live import EVENTS, Live, dump_live, transcript_digest


@dataclass(frozen=True)
class Size:
    """How much is played."""

    repeats: int = 5
    interviews: int = 800
    respondents: int = 64
    few: int = 1_000
    many: int = 1_000_000
    flat_interviews: int = 400
    entries: int = 100_000


QUICK = Size(repeats=1, interviews=200, many=50_000, flat_interviews=150, entries=10_000)


class Numbers:
    """Numbers that have not dialled before in this run."""

    next = 0

    @classmethod
    def take(cls, count: int) -> int:
        first, cls.next = cls.next, cls.next + count
        return first


def play(
    url: str,
    pid: int,
    size: Size,
    interviews: int,
    others: dict[str, int] | None = None,
    texts: list[str] | None = None,
) -> Report:
    """Load one server, by SMS if `texts` is what to text; a run with an error is no measurement."""
    warmup = size.respondents * 2
    wait_for_quiet()
    how: dict[str, Any] = {
        "respondents": size.respondents, "interviews": interviews, "warmup": warmup, "server": pid,
        "others": others, "first_number": Numbers.take(interviews + warmup), "seconds": 300,
    }  # fmt: skip
    report = (TextLoad(url.replace("/ussd", "/sms"), texts, **how) if texts else Load(url, **how)).run()
    if report.errors or report.stopped != "done":
        raise SystemExit(f"the run failed, {report.stopped}: {report.errors}")
    return report


def play_servers(folder: Path, size: Size, results: Results) -> None:
    """The floors and Dial 16 in turn, `repeats` times."""
    with live_store(folder / "probe", "everysec") as (url, _), gateway(folder / "probe", url) as (hook, pid):
        probe = play(hook, pid, replace(size, respondents=8), 16)
    results.hops_per_interview = probe.hops / max(1, probe.interviews)
    hops = round(results.hops_per_interview)
    texts = script(delivered_wave(), RULES)
    results.texts_per_interview = len(texts)
    say(f"one interview is {hops} hops, or {len(texts)} messages")
    for repeat in range(size.repeats):
        order = (FLOOR_BARE, FLOOR_FORM, EVERYSEC, ALWAYS, TEXTS_EVERYSEC, TEXTS_ALWAYS)
        for name in order if repeat % 2 == 0 else tuple(reversed(order)):
            with contextlib.ExitStack() as stack:
                others = {}
                if name in (FLOOR_BARE, FLOOR_FORM):
                    app = "bare" if name == FLOOR_BARE else "form"
                    hook, pid = stack.enter_context(floor(app, hops))
                else:
                    place = folder / f"{repeat}-{order.index(name)}"
                    fsync = "always" if name in (ALWAYS, TEXTS_ALWAYS) else "everysec"
                    url, others["live store"] = stack.enter_context(live_store(place, fsync))
                    hook, pid = stack.enter_context(gateway(place, url))
                by_text = texts if name in (TEXTS_EVERYSEC, TEXTS_ALWAYS) else None
                report = play(hook, pid, size, size.interviews, others, by_text)
                if others:
                    refuse_incomplete(url, report)
            results.servers.setdefault(name, []).append(asdict(report))
            say(f"{repeat + 1}/{size.repeats} {name}: {line(report)}")


def wait_for_quiet() -> None:
    """Return once nobody else uses the machine much, or after half a minute all the same."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        busy, every = machine_seconds()
        time.sleep(0.5)
        busy_then, every_then = machine_seconds()
        if busy_then - busy < 0.05 * (every_then - every):
            return


def refuse_incomplete(url: str, report: Report) -> None:
    """A hop that left no event in the stream would be a cheap one, and no measurement."""
    with redis.Redis.from_url(url) as client:
        entries = client.xlen(EVENTS)
    if entries < report.hops:
        raise SystemExit(f"{report.hops} hops left {entries} entries in the event stream")


def line(report: Report) -> str:
    return (
        f"{report.server_ms_per_hop:.3f} ms CPU a hop, {report.hops_per_second:,.0f} hops/s,"
        f" p50 {report.p50:.1f} p99 {report.p99:.1f} p99.9 {report.p999:.1f} ms"
    )


def synthetic(wave: Wave) -> Live:
    """A live record in the middle of an interview, as the hop leaves it."""
    instrument = wave.instrument
    half = len(instrument.items) // 2
    interview = Interview(
        id=secrets.token_hex(8), instrument=instrument.reference, wave=wave.id, language="en", mode="ussd",
        budget=wave.budget, seed=secrets.randbits(32),
        blocks="".join(f"{b.index:02x}" for b in instrument.blocks),
        answers="1" * half + "." * (len(instrument.items) - half),
        at=instrument.items[half].id,
        shown_at=time.time_ns() // 1_000_000, last_at=time.time_ns() // 1_000_000,
    )  # fmt: skip
    screen = (
        "How easy was it to reach the place? Was it..\n1 Very easy\n2 Easy\n3 Difficult\n4 Very difficult"
    )
    session, text = f"ATUid_{secrets.token_hex(16)}", "1*1*1*2*34*1*2*1*3"
    return Live(12, session, len(text), transcript_digest(text), 9, False, "", screen, False, interview)


def preload(url: str, wave: Wave, count: int) -> float:
    """Put `count` interviews in progress into the store; octets of memory that each one takes."""
    client = redis.Redis.from_url(url)
    before = int(client.info("memory")["used_memory"])
    raw = dump_live(synthetic(wave))
    for first in range(0, count, 5_000):
        with client.pipeline(transaction=False) as pipe:
            for _ in range(first, min(first + 5_000, count)):
                pipe.set(f"dial16:interview:{wave.id}:{secrets.token_hex(16)}", raw, ex=90 * 86_400)
            pipe.execute()
    after = int(client.info("memory")["used_memory"])
    client.close()
    return (after - before) / count


def delivered_wave() -> Wave:
    return load_wave(ROOT / "deploy/wave.toml", load_instrument(ROOT / "flows/sdg_16_6_2"))


def play_flat(folder: Path, size: Size, results: Results) -> None:
    """The cost of a hop with few and with many interviews in the store."""
    wave = delivered_wave()
    with contextlib.ExitStack() as stack:
        places = {}
        for name, count in ((f"{size.few:,} interviews", size.few), (f"{size.many:,} interviews", size.many)):
            place = folder / name.replace(" ", "-")
            url, store = stack.enter_context(live_store(place, "everysec"))
            results.octets[f"in progress, of {count:,}"] = round(preload(url, wave, count), 1)
            say(f"{name} in the store, {results.octets[f'in progress, of {count:,}']:.0f} octets each")
            hook, pid = stack.enter_context(gateway(place, url))
            places[name] = (url, store, hook, pid)
        for repeat in range(size.repeats):
            for name in places if repeat % 2 == 0 else reversed(places):
                url, store, hook, pid = places[name]
                report = play(hook, pid, size, size.flat_interviews, {"live store": store})
                results.flat.setdefault(name, []).append(asdict(report))
                say(f"{repeat + 1}/{size.repeats} {name}: {line(report)}")
        url = next(iter(places.values()))[0]
        results.octets["finished"] = finished_octets(url)


def finished_octets(url: str) -> float:
    """Mean memory of the records that the load has just played to their end."""
    client = redis.Redis.from_url(url)
    sizes = []
    for key in client.scan_iter("dial16:interview:*", count=1000):
        raw = client.get(key)
        if raw is not None and b"complete" in raw:
            sizes.append(client.memory_usage(key, samples=0) or 0)
        if len(sizes) >= 500:
            break
    client.close()
    return round(statistics.fmean(sizes), 1) if sizes else 0.0


def play_recorder(folder: Path, size: Size, results: Results) -> None:
    """The recorder on core 0, into a PostgreSQL that syncs each commit, both stores on core 1."""
    from tests.stores import PostgreSQL, postgres_bin, private_folder

    programs = postgres_bin()
    if programs is None:
        results.recorder = "not measured: no PostgreSQL on this machine"
        return
    with private_folder() as place, live_store(folder / "recorder", "everysec") as (url, _):
        server = PostgreSQL(place, programs)
        server.command = [
            *pinned(OTHER_CORE),
            *("fsync=on" if x == "fsync=off" else x for x in server.command),
        ]
        server.start()
        try:
            server.execute("CREATE DATABASE bench")
            done = subprocess.run(
                [
                    *pinned(SERVER_CORE), sys.executable, str(HERE / "recorder.py"),
                    "--database", server.url("bench"), "--redis", url, "--entries", str(size.entries),
                ],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            server.stop()
    results.recorder = done.stdout.strip().splitlines()[-1]


def write(results: Results) -> None:
    """Keep the figures: JSON whole, and the table between README's two marks."""
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "latest.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    readme = HERE / "README.md"
    text = readme.read_text("utf-8")
    begin, end = "<!-- results -->\n", "<!-- /results -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    readme.write_text(f"{head}{begin}\n{table(results)}\n\n{end}{tail}", "utf-8")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a look of about a minute; writes nothing")
    parser.add_argument("--repeats", type=int, help="of each server; 5 unless --quick")
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    if given.repeats:
        size = replace(size, repeats=given.repeats)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(1))  # and so end the servers too
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {OTHER_CORE})
    else:
        say("one core only: server and load share it, so latencies mean little")
    say(f"numbers dialled begin with {NOBODYS}: nobody's")
    results = Results(machine())
    with tempfile.TemporaryDirectory(prefix="dial16-bench-") as folder:
        play_servers(Path(folder) / "servers", size, results)
        play_flat(Path(folder) / "flat", size, results)
        play_recorder(Path(folder), size, results)
    print(table(results))
    if not given.quick:
        write(results)


if __name__ == "__main__":
    main()
