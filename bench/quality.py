"""How long the quality report of a wave takes over many interviews on PostgreSQL, and in how much memory.

    python bench/quality.py                        1,000,000 interviews, in a PostgreSQL of its own
    python bench/quality.py --interviews 20000     a look
    python bench/quality.py --save FILE            and the exact report, to compare with another one

The interviews are made up as in `estimation`, and with them all that the report counts: an answer's time and
mode, wrong keys, redials, sessions, requests that did not fit, a sample with its messages and their reports.
Some are broken off, answered in a hurry or alike throughout, a few say that they came through the simulator.
Every draw follows from the interview's number, so two runs write the same rows. Then a process of its own
makes the report, and tells its wall time and peak memory; the parent checks its counts against SQL's.
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
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psycopg
from sqlalchemy import text

from bench.estimation import WAVE, made_up, margins_file, say
from flows.instrument import UNANSWERED, Instrument, load
from storage.analysis.domains import Marks, options_of
from storage.analysis.margins import load_margins
from storage.analysis.quality import aapor_rates, quality
from storage.analysis.quality_parts import as_json
from storage.database import migrate, open_engine, reading

ROOT = Path(__file__).resolve().parent.parent
_CHUNK = 100_000
_AT, _NULL = "2026-11-02 10:00:00+00", r"\N"
#: Share of interviews, each: stopped half-way, no consent, alike throughout, through the simulator.
_STOPPED, _REFUSED, _ALIKE, _SIMULATED = 0.10, 0.03, 0.04, 0.02

#: A number from 0 to 1 that follows from an interview's seed and an item's place: as good as random here.
_LOT = "((hashint8(i.seed * 131 + a.place)::bigint & 65535) / 65536.0)"


def fill(dsn: str, instrument: Instrument, count: int) -> dict[str, int]:
    """Write it all; how many rows of what."""
    rng = np.random.default_rng(16)
    with psycopg.connect(dsn, autocommit=True) as db:
        for first in range(0, count, _CHUNK):
            _interviews(db, instrument, first, made_up(instrument, min(_CHUNK, count - first), rng), rng)
        written = {"interviews": count} | _what_happened(db, instrument) | _messages(db)
        db.execute("VACUUM ANALYZE")
        return written


def _interviews(
    db: "psycopg.Connection[tuple[object, ...]]",
    instrument: Instrument,
    first: int,
    marks: Marks,
    rng: np.random.Generator,
) -> None:
    n, wide = marks.shape
    drawn = [b.id for b in instrument.blocks if b.drawn]
    shares = json.dumps(dict.fromkeys(drawn, 1.0), sort_keys=True)
    lot = rng.random((4, n))
    for item in instrument.items:
        if item.role == "attribute" and item.scale:
            alike = (lot[0] < _ALIKE) & (marks[:, item.index] != ord(UNANSWERED))
            marks[alike, item.index] = ord(item.scale.options[1].mark)
    stop = np.where(lot[1] < _STOPPED, rng.integers(3, wide, n), wide)
    stop = np.where(lot[1] > 1 - _REFUSED, 0, stop)
    marks[np.arange(wide)[None, :] >= stop[:, None]] = ord(UNANSWERED)
    lines = marks.tobytes().decode("ascii")
    people, rows, sessions = io.StringIO(), io.StringIO(), io.StringIO()
    for k in range(n):
        who, at = first + k, int(stop[k])
        disposition = "complete" if at == wide else "refusal" if not at else "break_off"
        disposition = "partial" if disposition == "break_off" and who % 3 == 0 else disposition
        mode = "sms" if lot[2][k] < 0.2 else "ussd"
        aggregator = "simulator" if lot[3][k] < _SIMULATED else "africastalking"
        ended, consented = (_AT if at == wide else _NULL), (_AT if at else _NULL)
        last = f"2026-11-0{3 if who % 50 == 0 else 2} 10:09:00+00"
        people.write(f"{who:032x}\t{_AT}\t{_AT}\t2026-11-23\n")
        rows.write(
            f"{who:016x}\t{who:032x}\t{WAVE}\t1\tt\t{instrument.reference}\t{('en', 'fr')[who % 5 == 0]}\t"
            f"{mode}\t{aggregator}\t{who}\t{' '.join(drawn)}\t{shares}\t\t{_AT}\t{last}\t{ended}\t"
            f"{disposition}\t{instrument.items[min(at, wide - 1)].id}\titem\t"
            f"{lines[k * wide : (k + 1) * wide]}\t{consented}\t2026-11-23\t55\t1\t2\t55\t54\n"
        )
        sessions.write(
            f"s{who}\t{who:032x}\t{aggregator}\t6200{(1, 2, 6)[who % 3]}\t{_AT}\t{last}\t{at + 2}\n"
        )
    for table, columns, told in (
        ("respondent", "pseudonym, first_seen_at, consented_at, consent_version", people),
        ("interview", "id, respondent, wave, attempt, counted, instrument, language, mode, aggregator, seed,"
         " blocks, probabilities, item_order, began_at, last_at, ended_at, disposition, last_item,"
         " last_stage, marks, consented_at, consent_version, version, language_version, consented_version,"
         " outcome_version, answered_version", rows),
        ("session", "id, respondent, aggregator, network_code, opened_at, last_at, hops", sessions),
    ):  # fmt: skip
        with db.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write(told.getvalue())


def _what_happened(db: "psycopg.Connection[tuple[object, ...]]", instrument: Instrument) -> dict[str, int]:
    """A row an answer, from the marks, and a row for each thing that happened, as the fold writes them."""
    db.execute("CREATE UNLOGGED TABLE answer (place int, letter text, item text, option text, code int)")
    with db.cursor().copy("COPY answer FROM STDIN") as copy:
        for item in instrument.items:
            letters = [o.mark for o in item.scale.options] if item.scale else "123456"
            codes = [o.code for o in item.scale.options] if item.scale else [g.least for g in item.groups]
            for letter, option, code in zip(letters, options_of(item), codes, strict=False):
                copy.write_row((item.index + 1, letter, item.id, option if item.scale else "", code))
            for letter, option in (("N", "not_applicable"), ("D", "dont_know"), ("R", "refused")):
                copy.write_row((item.index + 1, letter, item.id, option, instrument.codes[option]))
    for table in ("response", "event"):
        db.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey, DROP CONSTRAINT {table}_interview_fkey"
        )
    # A tenth of the answers were dialled in advance; one interview in 25 is in a hurry.
    seconds = (
        f"CASE WHEN {_LOT} < 0.1 THEN 0 ELSE round(((1.5 + a.place % 5 + 9 * {_LOT} * {_LOT})"
        " * CASE WHEN i.seed % 25 = 0 THEN 0.2 ELSE 1 END * CASE WHEN i.mode = 'sms' THEN 20 ELSE 1 END)"
        "::numeric, 1) END"
    )
    done = {
        "responses": db.execute(
            f"INSERT INTO response SELECT i.id, a.item, a.option, a.code, NULL, i.began_at, {seconds},"
            f" CASE WHEN {_LOT} > 0.97 THEN 2 ELSE 1 END, i.mode, 's' || i.seed, a.place, false"
            " FROM interview i CROSS JOIN LATERAL"
            " (SELECT * FROM answer WHERE letter = substr(i.marks, place, 1)) a"
        ).rowcount,
        "events": db.execute(
            "INSERT INTO event SELECT interview, version, 0, 'ResponseGiven', item,"
            """ '{"item": "' || item || '", "option": "' || option || '", "code": ' || code || '}',"""
            " given_at, session FROM response UNION ALL"
            " SELECT interview, version, 1, 'InvalidReply', item, '{}', given_at, session FROM response"
            " WHERE tries > 1 UNION ALL"
            " SELECT id, 0, n, CASE n WHEN 2 THEN 'Resumed' ELSE 'LanguageChosen' END, NULL, '{}', began_at,"
            " 's' || seed FROM interview CROSS JOIN generate_series(1, 3) n"
            " WHERE n = 1 OR (n = 2 AND seed % 10 = 0) OR (n = 3 AND seed % 40 = 0)"
        ).rowcount,
        "conflicts": db.execute(
            "INSERT INTO conflict SELECT 's' || seed, respondent, began_at,"
            " CASE seed % 2 WHEN 0 THEN 'late' ELSE 'diverging' END, id FROM interview WHERE seed % 77 = 0"
        ).rowcount,
    }
    db.execute("ALTER TABLE response ADD PRIMARY KEY (interview, item)")
    db.execute("ALTER TABLE event ADD PRIMARY KEY (interview, version, position)")
    # Some who completed one more, which does not count.
    done["interviews again"] = db.execute(
        "INSERT INTO interview (id, respondent, wave, attempt, counted, instrument, mode, aggregator, seed,"
        " began_at, last_at, ended_at, disposition, last_item, last_stage, version, language_version,"
        " consented_version, outcome_version, answered_version)"
        " SELECT 'f' || substr(id, 2), respondent, wave, 2, false, instrument, mode, aggregator, seed,"
        " began_at, last_at, ended_at, disposition, '', '', 1, -1, -1, -1, -1 FROM interview"
        " WHERE seed % 200 = 0"
    ).rowcount
    return done


def _messages(db: "psycopg.Connection[tuple[object, ...]]") -> dict[str, int]:
    """A sample of a fifth of those interviewed and as many others, with invitations; and a reply to some."""
    db.execute(
        "INSERT INTO campaign (id, wave, state, aggregator, created_at, state_at)"
        f" VALUES ('c', '{WAVE}', 'running', 'africastalking', '{_AT}', '{_AT}')"
    )
    db.execute(
        "INSERT INTO respondent (pseudonym, first_seen_at)"
        " SELECT 'a' || substr(respondent, 2), began_at FROM interview WHERE seed % 5 = 0 AND counted"
    )
    sample = db.execute(
        "INSERT INTO sample_number (id, wave, respondent, campaign, replicate, source, loaded_at,"
        f" released_at) SELECT md5(p), '{WAVE}', p, 'c', 1, 'csv', '{_AT}', '{_AT}' FROM ("
        "  SELECT respondent AS p FROM interview WHERE seed % 5 = 0 AND counted UNION ALL"
        "  SELECT 'a' || substr(respondent, 2) FROM interview WHERE seed % 5 = 0 AND counted) g"
    ).rowcount
    states = "(ARRAY['delivered','delivered','delivered','delivered','sent','failed','unknown','cancelled'])"
    told = db.execute(
        "INSERT INTO outbound_message (id, natural_key, wave, respondent, kind, priority, text, aggregator,"
        " network_code, state, not_before, attempts, message_id, status_raw, failure_reason, created_at,"
        f" sent_at) SELECT id, id, '{WAVE}', respondent, kind, 1, '', 'africastalking', '62001', state,"
        f" '{_AT}', 1, id, CASE state WHEN 'failed' THEN 'Failed' END,"
        " CASE state WHEN 'failed' THEN 'UserDoesNotExist' WHEN 'unknown' THEN 'no_answer' END,"
        f" '{_AT}', CASE WHEN state <> 'cancelled' THEN TIMESTAMPTZ '{_AT}' END FROM ("
        f"  SELECT md5(id || kind) AS id, respondent, kind,"
        f"   {states}[1 + (hashtext(respondent || kind) & 7)] AS state"
        "  FROM sample_number CROSS JOIN (VALUES ('invitation'), ('reply')) k (kind)) m"
    ).rowcount
    return {"sample": sample, "messages": told}


def measure(url: str, margins: Path, save: Path | None) -> None:
    """In a process of its own: the report once; prints a line of JSON."""
    instrument = load(ROOT / "flows/sdg_16_6_2")
    engine = open_engine(url)
    given = load_margins(margins, instrument)
    started, before = time.perf_counter(), time.process_time()
    rates = aapor_rates(engine, WAVE)
    took_rates = time.perf_counter() - started
    made = quality(engine, instrument, WAVE, made=date(2026, 11, 23), rates=rates, margins=given).quality
    wall, cpu = time.perf_counter() - started, time.process_time() - before
    if save is not None:
        save.write_text(as_json(made), "utf-8")
    found = {
        "interviews": made.interviews,
        "complete": made.completion.n,
        "sample": sum(n or 0 for n in rates.counts.values()) if rates else 0,
        "wrong keys": sum(i.invalid or 0 for i in made.items),
    }
    print(
        json.dumps(
            {
                "wall_s": round(wall, 2),
                "rates_s": round(took_rates, 2),
                "cpu_s": round(cpu, 2),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "doubtful": made.doubtful.n,
                "found": found,
            }
        )
    )


def counted_by_sql(url: str) -> dict[str, int]:
    """The same counts by SQL alone."""
    real = "counted AND aggregator <> 'simulator'"
    with reading(open_engine(url)) as db:
        return {
            name: int(db.execute(text(statement)).scalar_one())
            for name, statement in (
                ("interviews", f"SELECT COUNT(*) FROM interview WHERE {real}"),
                (
                    "complete",
                    f"SELECT COUNT(*) FROM interview WHERE {real} AND disposition = 'complete'",
                ),
                ("sample", "SELECT COUNT(*) FROM sample_number"),
                (
                    "wrong keys",
                    "SELECT COUNT(*) FROM event JOIN interview ON interview.id = interview"
                    f" WHERE kind = 'InvalidReply' AND {real}",
                ),
            )
        }


def main() -> None:
    """Fill, measure, check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--interviews", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the exact report, JSON")
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--margins", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure, given.margins, given.save)
    from tests.stores import running_postgres

    instrument = load(ROOT / "flows/sdg_16_6_2")
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        server.execute("CREATE DATABASE bench")
        url = server.url("bench")
        migrate(open_engine(url), instrument)
        started = time.perf_counter()
        written = fill(f"host={server.folder} user=dial16 dbname=bench", instrument, given.interviews)
        took = time.perf_counter() - started
        say(f"{', '.join(f'{n:,} {what}' for what, n in written.items())} in {took:.0f} s")
        truth = counted_by_sql(url)
        extra = ["--margins", str(margins_file(Path(folder), instrument))]
        extra += ["--save", str(given.save.resolve())] if given.save else []
        runs = []
        for _ in range(given.repeats):
            done = subprocess.run(
                [sys.executable, str(Path(__file__)), "--measure", url, *extra],
                check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            runs.append(json.loads(done.stdout))
            if runs[-1]["found"] != truth:
                raise SystemExit(f"the report's counts differ from SQL's: {runs[-1]['found']}, {truth}")
        middle = sorted(runs, key=lambda r: r["wall_s"])[len(runs) // 2]
        print(
            f"quality report of {truth['interviews']:,} interviews, {middle['doubtful']:,} of them doubtful,"
            f" in {middle['wall_s']:.1f} s (median of {len(runs)}; response rates"
            f" {middle['rates_s']:.1f} s of it; this process {middle['cpu_s']:.1f} s of processor), peak"
            f" memory {max(r['peak_mib'] for r in runs)} MiB"
        )


if __name__ == "__main__":
    main()
