"""How long the table of indicator 16.6.2 takes over many interviews on PostgreSQL, and in how much memory.

    python bench/estimation.py                        1,000,000 interviews, in a PostgreSQL of its own
    python bench/estimation.py --responses            with their 30 million responses beside them
    python bench/estimation.py --interviews 50000     a look

The interviews are made up: answers drawn by NumPy from the instrument's own routes, written by COPY. Then a
process of its own computes the whole table (national, every breakdown, two-way crosses), raked and unraked,
and reports its wall time and peak memory; the parent checks its counts against SQL's.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psycopg
from sqlalchemy import text

from flows.instrument import UNANSWERED, Instrument, load
from storage.analysis.domains import Marks, options_of, variables
from storage.analysis.margins import CROSS, load_margins
from storage.analysis.table import table_16_6_2
from storage.database import migrate, open_engine, reading

ROOT = Path(__file__).resolve().parent.parent
WAVE = "bench"
CROSSES = (("region", "sex"), ("region", "residence"), ("sex", "age"), ("sex", "residence"))
_CHUNK = 100_000
_NONRESPONSE = 0.04  # of answers to items that allow it


def made_up(instrument: Instrument, count: int, rng: np.random.Generator) -> Marks:
    """Marks of complete interviews along the instrument's routes."""
    marks = np.full((count, len(instrument.items)), ord(UNANSWERED), dtype=np.uint8)
    for item in instrument.items:
        applies = np.zeros(count, dtype=np.bool_) if item.ask_if else np.ones(count, dtype=np.bool_)
        for every in item.ask_if:
            met = np.ones(count, dtype=np.bool_)
            for index, wanted in every:
                met &= np.isin(marks[:, index], np.frombuffer(wanted.encode(), dtype=np.uint8))
            applies |= met
        letters = "".join(o.mark for o in item.scale.options) if item.scale else "123456"[: len(item.groups)]
        odds = np.ones(len(letters)) if len(letters) > 4 else np.array([0.3, 0.4, 0.2, 0.1][: len(letters)])
        if item.role in ("consent", "adult"):
            odds = np.array([1.0, 0.0])
        drawn = rng.choice(np.frombuffer(letters.encode(), dtype=np.uint8), count, p=odds / odds.sum())
        if item.nonresponse:
            reasons = {"not_applicable": "N", "dont_know": "D", "refused": "R"}
            other = np.frombuffer("".join(reasons[n] for n in item.nonresponse).encode(), dtype=np.uint8)
            drawn = np.where(rng.random(count) < _NONRESPONSE, rng.choice(other, count), drawn)
        marks[:, item.index] = np.where(applies, drawn, ord(UNANSWERED))
    return marks


def fill(dsn: str, instrument: Instrument, count: int, responses: bool) -> int:
    """Write respondents and interviews, and on request responses; how many of those."""
    rng = np.random.default_rng(16)
    drawn = [b.id for b in instrument.blocks if b.drawn]
    shares = json.dumps(dict.fromkeys(drawn, 1.0), sort_keys=True)
    at = "2026-11-02 10:00:00+00"
    with psycopg.connect(dsn, autocommit=True) as db:
        for first in range(0, count, _CHUNK):
            marks = made_up(instrument, min(_CHUNK, count - first), rng)
            lines = marks.tobytes().decode("ascii")
            wide = marks.shape[1]
            people, rows = io.StringIO(), io.StringIO()
            for k in range(len(marks)):
                n = first + k
                people.write(f"{n:032x}\t{at}\t{at}\t2026-11-23\n")
                rows.write(
                    f"{n:016x}\t{n:032x}\t{WAVE}\t1\tt\t{instrument.reference}\ten\tussd\tsimulator\t{n}\t"
                    f"{' '.join(drawn)}\t{shares}\t\t{at}\t{at}\t{at}\tcomplete\thousehold.open_fire\titem\t"
                    f"{lines[k * wide : (k + 1) * wide]}\t{at}\t2026-11-23\t55\t1\t2\tcomplete\t{at}\t55\t"
                    "54\n"
                )
            with db.cursor().copy(
                "COPY respondent (pseudonym, first_seen_at, consented_at, consent_version) FROM STDIN"
            ) as copy:
                copy.write(people.getvalue())
            with db.cursor().copy(
                "COPY interview (id, respondent, wave, attempt, counted, instrument, language, mode,"
                " aggregator, seed, blocks, probabilities, item_order, began_at, last_at, ended_at,"
                " disposition, last_item, last_stage, marks, consented_at, consent_version, version,"
                " language_version, consented_version, outcome, outcome_at, outcome_version,"
                " answered_version) FROM STDIN"
            ) as copy:
                copy.write(rows.getvalue())
        written = _responses(db, instrument) if responses else 0
        db.execute("VACUUM ANALYZE")
        return written


def _responses(db: "psycopg.Connection[tuple[object, ...]]", instrument: Instrument) -> int:
    """A row an answer, from the marks, as the fold would have written it."""
    db.execute("CREATE UNLOGGED TABLE answer (place int, letter text, item text, option text, code int)")
    with db.cursor().copy("COPY answer FROM STDIN") as copy:
        for item in instrument.items:
            letters = [o.mark for o in item.scale.options] if item.scale else "123456"
            codes = [o.code for o in item.scale.options] if item.scale else [g.least for g in item.groups]
            for letter, option, code in zip(letters, options_of(item), codes, strict=False):
                copy.write_row((item.index + 1, letter, item.id, option if item.scale else "", code))
            for letter, option in (("N", "not_applicable"), ("D", "dont_know"), ("R", "refused")):
                copy.write_row((item.index + 1, letter, item.id, option, instrument.codes[option]))
    db.execute("ALTER TABLE response DROP CONSTRAINT response_pkey, DROP CONSTRAINT response_interview_fkey")
    done = db.execute(
        "INSERT INTO response SELECT i.id, a.item, a.option, a.code, NULL, i.began_at, 4.5, 1, 'ussd',"
        " 'ATUid_0', a.place, false FROM interview i CROSS JOIN LATERAL"
        " (SELECT * FROM answer WHERE letter = substr(i.marks, place, 1)) a"
    ).rowcount
    db.execute("ALTER TABLE response ADD PRIMARY KEY (interview, item)")
    return done


def margins_file(folder: Path, instrument: Instrument) -> Path:
    """Made-up totals: every category weighs otherwise than the interviews do."""
    lines = ["table,source,date,variables,category,total,joins"]
    known = {v.id: v for v in variables(instrument)}
    population = 18_000_000
    for names in (("region",), ("sex", "age"), ("residence",)):
        cells = [""]
        for name in names:
            cells = [f"{c}{CROSS}{o}" if c else o for c in cells for o in known[name].categories]
        shares = np.linspace(1.0, 2.0, len(cells))
        totals = shares / shares.sum() * population
        lines += [
            f"{'*'.join(names)},made up,2026-01-01,{'*'.join(names)},{c},{t:.6f},"
            for c, t in zip(cells, totals, strict=True)
        ]
    path = folder / "margins.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def measure(url: str, margins: Path | None) -> None:
    """In a process of its own: the table once; prints a line of JSON."""
    instrument = load(ROOT / "flows/sdg_16_6_2")
    engine = open_engine(url)
    given = load_margins(margins, instrument) if margins else None
    started, before = time.perf_counter(), time.process_time()
    made = table_16_6_2(engine, instrument, WAVE, margins=given, crosses=CROSSES)
    wall, cpu = time.perf_counter() - started, time.process_time() - before
    overall = {
        e.service: (e.n, e.positive) for e in made.estimates if e.measure == "overall" and not e.domain
    }
    print(
        json.dumps(
            {
                "respondents": made.basis.respondents,
                "estimates": len(made.estimates),
                "wall_s": round(wall, 2),
                "cpu_s": round(cpu, 2),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "overall": overall,
            }
        )
    )


def counted_by_sql(url: str, instrument: Instrument) -> dict[str, list[int]]:
    """Base and positive answers of each overall item, by SQL alone."""
    counts = {}
    with reading(open_engine(url)) as db:
        for item in (i for i in instrument.items if i.role == "overall"):
            n, positive = db.execute(
                text(
                    "SELECT COUNT(*) FILTER (WHERE m BETWEEN '1' AND '4'),"
                    " COUNT(*) FILTER (WHERE m IN ('1', '2'))"
                    f" FROM (SELECT substr(marks, {item.index + 1}, 1) AS m FROM interview) s"
                )
            ).one()
            counts[item.service] = [int(n), int(positive)]
    return counts


def main() -> None:
    """Fill, measure, check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--interviews", type=int, default=1_000_000)
    parser.add_argument("--responses", action="store_true", help="write the responses too (minutes, 6 GiB)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--margins", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure, given.margins)
    from tests.stores import running_postgres

    instrument = load(ROOT / "flows/sdg_16_6_2")
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        server.execute("CREATE DATABASE bench")
        url = server.url("bench")
        migrate(open_engine(url), instrument)
        started = time.perf_counter()
        responses = fill(f"host={server.folder} user=dial16 dbname=bench", instrument, given.interviews,
                         given.responses)  # fmt: skip
        took = time.perf_counter() - started
        say(f"{given.interviews:,} interviews, {responses:,} responses in {took:.0f} s")
        truth = counted_by_sql(url, instrument)
        margins = margins_file(Path(folder), instrument)
        for name, extra in (("unweighted", []), ("raked to three tables", ["--margins", str(margins)])):
            runs = []
            for _ in range(given.repeats):
                done = subprocess.run(
                    [sys.executable, str(Path(__file__)), "--measure", url, *extra],
                    check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
                )  # fmt: skip
                runs.append(json.loads(done.stdout))
                if runs[-1]["overall"] != truth:
                    raise SystemExit(f"the table's counts differ from SQL's: {runs[-1]['overall']}, {truth}")
            best = sorted(runs, key=lambda r: r["wall_s"])[len(runs) // 2]
            print(
                f"{name}: {best['estimates']:,} estimates over {best['respondents']:,} respondents in"
                f" {best['wall_s']:.2f} s (median of {len(runs)}; this process {best['cpu_s']:.2f} s of"
                f" processor), peak memory {max(r['peak_mib'] for r in runs)} MiB"
            )


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
