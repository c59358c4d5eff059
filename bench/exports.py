"""How long row-level exports of many interviews take, from PostgreSQL, and in how much memory.

    python bench/exports.py                                     100,000 interviews, every format
    python bench/exports.py --interviews 1000000 --format csv --format parquet

Interviews and their responses are made up and written as bench/estimation.py does, in a PostgreSQL of its
own. Then a process of its own makes each format, collecting included, and reports wall time, what it wrote
and its peak memory; the parent counts the rows of the CSV files.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psycopg

from bench.estimation import ROOT, fill, say
from flows.instrument import load
from storage.analysis.dictionary import SCIENTIFIC
from storage.analysis.exports.formats import EXPORTS, export_files
from storage.analysis.exports.microdata import Asked
from storage.database import migrate, open_engine

_KEY = b"bench" * 8


def measure(url: str, name: str, folder: Path) -> None:
    """In a process of its own: one format once; prints a line of JSON."""
    instrument = load(ROOT / "flows/sdg_16_6_2")
    steps: dict[str, float] = {}
    started, before = time.perf_counter(), time.process_time()

    def told(what: str, done: int, total: int) -> None:
        steps[what] = time.perf_counter() - started

    made = export_files(
        open_engine(url), instrument, Asked(SCIENTIFIC, "bench", simulated=True), _KEY, folder, [name],
        progress=told,
    )  # fmt: skip
    print(
        json.dumps(
            {
                "wall_s": round(time.perf_counter() - started, 1),
                "cpu_s": round(time.process_time() - before, 1),
                "interviews": made.rows,
                "octets": sum(path.stat().st_size for path in made.files),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "steps": {what: round(at, 1) for what, at in steps.items()},
            }
        )
    )


def lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def main() -> None:
    """Fill, measure, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--interviews", type=int, default=100_000)
    parser.add_argument("--format", action="append", choices=list(EXPORTS), dest="formats")
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure, given.formats[0], given.folder)
    from tests.stores import running_postgres

    instrument = load(ROOT / "flows/sdg_16_6_2")
    with running_postgres() as server, tempfile.TemporaryDirectory() as place:
        server.execute("CREATE DATABASE bench")
        url = server.url("bench")
        migrate(open_engine(url), instrument)
        started = time.perf_counter()
        dsn = f"host={server.folder} user=dial16 dbname=bench"
        responses = fill(dsn, instrument, given.interviews, responses=True)
        with psycopg.connect(dsn, autocommit=True) as db:  # a number stands in its own column
            db.execute("UPDATE response SET number = code, code = NULL WHERE option = ''")
        took = time.perf_counter() - started
        say(f"{given.interviews:,} interviews, {responses:,} responses in {took:.0f} s")
        print("| format | seconds | of processor | interviews/s | MB written | peak MiB |")
        print("|---|---|---|---|---|---|")
        for name in given.formats or list(EXPORTS):
            folder = Path(place) / name
            done = subprocess.run(
                [sys.executable, __file__, "--measure", url, "--format", name, "--folder", str(folder)],
                check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            found = json.loads(done.stdout)
            say(f"{name}: {found['steps']}")
            rate = found["interviews"] / found["wall_s"]
            print(
                f"| {name} | {found['wall_s']:.0f} | {found['cpu_s']:.0f} | {rate:,.0f}"
                f" | {found['octets'] / 1e6:,.0f} | {found['peak_mib']:,} |",
                flush=True,
            )
            if (folder / "wide.csv").exists():
                wide = lines_of(folder / "wide.csv") - 1
                if wide != given.interviews:
                    raise SystemExit(f"wide.csv: {wide} rows, not {given.interviews}")
            for path in folder.iterdir():
                path.unlink()


if __name__ == "__main__":
    main()
