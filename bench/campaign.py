"""A whole campaign against the stand-in of the aggregator's API, with everything going wrong.

    python bench/campaign.py                      20,000 invitations, 4 workers; some minutes
    python bench/campaign.py --invitations 2000 --workers 2 --reminders 1

All is real but the far side: PostgreSQL, Redis (or Valkey), the gateway and the recorder as `main.py` runs
them, RQ workers in processes of their own. The stand-in refuses 5 %, leaves 2 % without an answer, sends
its delivery reports to the gateway's own webhook, three in ten of them twice and three in ten messages'
out of order. 5 % of the numbers opt out meanwhile, half by texting STOP, half by the aggregator's
callback. Workers are killed with SIGKILL throughout and started again.

Then: every message is in a final or explained state, no number was contacted twice for the same reason,
none after its opt-out, and the cost of what we sent is what the stand-in's books say. Exit 1 if not.
It ends by itself. This machine only.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as of_day
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import redis
from sqlalchemy import Engine, func, select

from bench.servers import ROOT, free_port, wait_for
from flows.fielding import Contact
from flows.instrument import load
from flows.wave import Wave, load_wave
from gateway.aggregators.africastalking_api import AfricasTalkingApi
from gateway.campaigns import Campaigns, sealed_numbers
from gateway.dispatch import Dispatch, Habits
from gateway.jobs import Composition, Sends, connect, work
from gateway.sampling import draw, read_plan
from storage.campaigns import create_campaign, set_state
from storage.database import migrate, open_engine, reading
from storage.models import OutboundMessage, Respondent, SampleNumber, table_of
from storage.outbox import (
    CANCELLED,
    DELIVERED,
    DUE,
    FAILED,
    INVITATION,
    REMINDER,
    RUNNING,
    SENDING,
    SENT,
    UNKNOWN,
)
from storage.progress import numbers_by_state
from storage.rates import Rate
from storage.recorder import lag
from storage.respondents import Pseudonyms
from storage.sample import load_numbers, release
from storage.sealing import Seal
from tests.stores import Live, live_program, running_live, running_postgres

KEY = b"a key for the bench of campaigns."
SECRET = "bench0123456789abcdefghijklmnopqrstuvwxyz"
API_KEY, USERNAME = "key-of-the-stand-in", "dial16"
CAMPAIGN = "bench"
_MESSAGE, _SAMPLE = table_of(OutboundMessage), table_of(SampleNumber)
_RESPONDENT = table_of(Respondent)
#: The far side: what of it goes wrong. Slow answers are slower than our patience (TIMEOUT).
FAR_SIDE = {
    "refused": 0.05, "slow": 0.02, "slow_seconds": 0.9, "cut": 0.002, "passing": 0.01, "busy": 0.005,
    "report_seconds": 1.0, "undelivered": 0.04, "twice": 0.3, "unordered": 0.3, "unknown_words": 0.1,
    "price": "0.0371",
}  # fmt: skip
TIMEOUT = (2.0, 0.6)
HABITS: dict[str, Any] = {
    "backoff_seconds": (0.5, 1.0, 2.0, 4.0), "stuck_seconds": 5.0, "settle_seconds": 3.0,
    "sweep_seconds": 1.0,
}  # fmt: skip


def fielded(reminders: int) -> Wave:
    """The wave of deploy/, at every hour of every day; a reminder follows as soon as it may."""
    wave = load_wave(ROOT / "deploy" / "wave.toml", load(ROOT / "flows" / "sdg_16_6_2"))
    always = Contact(
        of_day.min, of_day.max, frozenset(range(7)), reminders=reminders, reminder_hours=0
    )  # fmt: skip
    return replace(wave, contacting=always)


# ---------------------------------------------------------------- a worker


@dataclass(frozen=True)
class Job:
    """What a worker's process is told."""

    database_url: str
    redis_url: str
    at_url: str
    reminders: int
    room: int
    remember_seconds: float  # that a message has its job; then it is given another


def run_worker(job: Job) -> None:
    """As `main.py work` composes it, with less patience."""
    from flows.fielding import Contact

    live = connect(job.redis_url)
    account = AfricasTalkingApi(USERNAME, API_KEY, job.at_url, timeout=TIMEOUT)
    window = Contact(of_day.min, of_day.max, frozenset(range(7)))
    dispatch = Dispatch(
        job.database_url, live, Seal(KEY), {"africastalking": account}, Sends(live, job.remember_seconds),
        Habits(rate=Rate(1000.0), contact=window, **HABITS),
    )  # fmt: skip
    wave = fielded(job.reminders)
    campaigns = Campaigns(
        lambda: dispatch.engine, live, {wave.id: wave}, room=job.room, every_seconds=1.0,
        look_again=timedelta(seconds=2),
    )  # fmt: skip
    work(job.redis_url, Composition(lambda now: 0, dispatch=dispatch, campaigns=campaigns))


class Worker:
    """A worker in a process group of its own, so that SIGKILL by pid ends it and RQ's scheduler."""

    def __init__(self, job: Job, log: Path):
        self.command = [sys.executable, str(Path(__file__).resolve()), "worker", json.dumps(asdict(job))]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


# ---------------------------------------------------------------- the field


@contextmanager
def child(command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def standing_in(folder: Path, habits: Mapping[str, object]) -> Iterator[str]:
    """The stand-in in a process of its own. Yields its URL."""
    port = free_port()
    words = [f"{name}={value}" for name, value in habits.items()]
    command = [sys.executable, "-m", "tests.at_api", "--port", str(port), *words]
    with child(command, folder / "stand-in.log"):
        wait_for(f"http://127.0.0.1:{port}/_books")
        yield f"http://127.0.0.1:{port}"


def books_of(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/_books", timeout=60) as reply:
        return dict(json.load(reply))


@dataclass
class Field:
    """The stores and the services of one run."""

    folder: Path
    engine: Engine
    database_url: str
    live: Live
    hooks: str
    at_url: str
    numbers: dict[str, str]  # pseudonym -> MSISDN; this process only

    def post(self, path: str, form: Mapping[str, str]) -> None:
        """To the gateway as the aggregator does it: again until it is answered 200."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(20):
            request = urllib.request.Request(f"{self.hooks}/{path}", urllib.parse.urlencode(form).encode())
            try:
                with opener.open(request, timeout=10):
                    return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"the gateway does not take {path}")

    def opt_out(self, respondent: str, n: int) -> None:
        number = self.numbers[respondent]
        if n % 2:
            self.post("sms/opt-out", {"senderId": "1616", "phoneNumber": number})
        else:
            form = {
                "from": number,
                "to": "1616",
                "text": "STOP",
                "id": f"stop-{n}",
                "date": "2026-11-23 12:00:00",
            }
            self.post("sms", form)


@contextmanager
def in_the_field(folder: Path, invitations: int, reminders: int, seed: int) -> Iterator[Field]:
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        postgres.execute("CREATE DATABASE run")
        url = postgres.url("run")
        live = stack.enter_context(running_live("redis" if live_program("redis") else "valkey"))
        engine = open_engine(url)
        stack.callback(engine.dispose)
        wave = fielded(reminders)
        migrate(engine, wave.instrument)
        sample = draw(read_plan("GH"), invitations, f"bench {seed}")
        made = create_campaign(
            engine, CAMPAIGN, wave.id, "africastalking", wave.sms_sender, datetime.now(UTC)
        )
        pseudonyms = Pseudonyms(KEY)
        began = time.perf_counter()
        rows = sealed_numbers(sample, pseudonyms, Seal(KEY))
        load_numbers(engine, made.id, made.wave, rows, datetime.now(UTC), draw=sample.draw)
        print(f"{invitations:,} numbers drawn and loaded in {time.perf_counter() - began:.1f} s", flush=True)
        port = free_port()
        environ = {
            "DIAL16_DATABASE_URL": url, "DIAL16_REDIS_URL": live.url, "DIAL16_PORT": str(port),
            "DIAL16_WEBHOOK_SECRET": SECRET, "DIAL16_PSEUDONYM_KEY": KEY.decode(),
            "DIAL16_SIMULATOR": "on",  # the delivered wave has a placeholder for a contact
            "DIAL16_DATA_DIR": str(folder), "DIAL16_WAVE_FILE": str(ROOT / "deploy" / "wave.toml"),
        }  # fmt: skip
        python = [sys.executable, str(ROOT / "main.py")]
        stack.enter_context(child([*python, "record"], folder / "recorder.log", environ))
        stack.enter_context(child([*python, "serve"], folder / "gateway.log", environ))
        wait_for(f"http://127.0.0.1:{port}/health/live")
        hooks = f"http://127.0.0.1:{port}/hooks/africastalking/{SECRET}"
        at_url = stack.enter_context(
            standing_in(folder, {**FAR_SIDE, "seed": seed, "reports": f"{hooks}/sms/delivery"})
        )
        numbers = {pseudonyms.of(n.msisdn): n.msisdn for n in sample.numbers}
        yield Field(folder, engine, url, live, hooks, at_url, numbers)


# ---------------------------------------------------------------- the run


@dataclass
class Result:
    """What a run did. `faults`: what must not be; each in words."""

    invitations: int
    workers: int
    seconds: float = 0.0
    sends: int = 0  # calls of the stand-in by which something was sent or refused
    kills: int = 0
    opt_outs: int = 0
    withheld: int = 0  # messages not sent because of them
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    numbers: list[tuple[str, str, int]] = field(default_factory=list)
    callbacks: int = 0
    ours: Decimal = Decimal(0)  # cost by our rows
    theirs: Decimal = Decimal(0)  # by the stand-in's books
    not_known: Decimal = Decimal(0)  # of theirs: what `unknown` rows may have cost
    faults: list[str] = field(default_factory=list)


def run(
    folder: Path, invitations: int, *, workers: int = 4, reminders: int = 0, kill_seconds: float = 8.0,
    most_seconds: float = 1800.0, seed: int = 16, remember_seconds: float = 20.0,
) -> Result:  # fmt: skip
    """One campaign to its end, or to `most_seconds`; then everything is checked."""
    chance = random.Random(seed)
    result = Result(invitations, workers)
    with in_the_field(folder, invitations, reminders, seed) as field:
        live = redis.Redis.from_url(field.live.url)
        room = max(50, min(2000, invitations // 5))
        job = Job(field.database_url, field.live.url, field.at_url, reminders, room, remember_seconds)
        crew = [Worker(job, folder / f"worker-{n}.log") for n in range(workers)]
        quitters = chance.sample(sorted(field.numbers), invitations // 20)
        now = datetime.now(UTC)
        release(field.engine, CAMPAIGN, 1, now)
        set_state(field.engine, CAMPAIGN, RUNNING, now)
        try:
            for worker in crew:
                worker.start()
            began = time.monotonic()
            next_kill, opted = began + kill_seconds, 0
            while time.monotonic() < began + most_seconds:
                time.sleep(0.5)
                gone, open_rows, to_look = _progress(field.engine)
                # Opt-outs keep pace with the campaign: some before their invitation, some after.
                while opted < len(quitters) and opted < len(quitters) * gone / (invitations * 0.9):
                    field.opt_out(quitters[opted], opted)
                    opted += 1
                if time.monotonic() > next_kill:
                    killed = chance.choice(crew)
                    killed.kill()
                    killed.start()
                    result.kills += 1
                    next_kill = time.monotonic() + kill_seconds
                if not open_rows and not to_look and opted == len(quitters) and not lag(live):
                    break
            else:
                result.faults.append(f"not at its end after {most_seconds:.0f} s")
            result.opt_outs = opted
            _let_reports_come(field.at_url, live)
        finally:
            for worker in crew:
                worker.kill()
            live.close()
        _check(field, books_of(field.at_url), result)
    return result


def _progress(engine: Engine) -> tuple[int, int, int]:
    """Messages that have gone, that have not, and numbers still to be looked at."""
    with reading(engine) as db:
        rows = db.execute(select(_MESSAGE.c.state, func.count()).group_by(_MESSAGE.c.state))
        states = {row[0]: int(row[1]) for row in rows}
        to_look = db.execute(select(func.count()).where(_SAMPLE.c.next_at.is_not(None))).scalar_one()
    still = states.get(DUE, 0) + states.get(SENDING, 0)
    return sum(states.values()) - still, still, int(to_look)


def _let_reports_come(at_url: str, live: redis.Redis) -> None:
    had = -1
    for _ in range(60):
        time.sleep(1.5)
        now = len(books_of(at_url)["callbacks"])
        if now == had and not lag(live):
            break
        had = now
    time.sleep(5)  # the sweep settles what was unknown


def _check(field: Field, books: Mapping[str, Any], result: Result) -> None:
    fault = result.faults.append
    with reading(field.engine) as db:
        rows = db.execute(select(_MESSAGE)).all()
        gone = db.execute(
            select(_RESPONDENT.c.pseudonym, _RESPONDENT.c.opted_out_at).where(
                _RESPONDENT.c.opted_out_at.is_not(None)
            )
        )
        out = {row[0]: row[1] for row in gone}
    result.outcomes = Counter((r.kind, r.state, r.failure_reason or "") for r in rows)
    result.numbers = numbers_by_state(field.engine, CAMPAIGN)
    result.callbacks = len(books["callbacks"])
    ours = [r for r in rows if r.kind in (INVITATION, REMINDER)]
    moments = sorted(r.claimed_at for r in rows if r.claimed_at)
    result.seconds = (moments[-1] - moments[0]).total_seconds() if moments else 0.0
    taken = [m for m in books["messages"] if m["state"] == "accepted"]
    result.sends = len(books["messages"])

    # Every message in a final or explained state, every number in one.
    for (kind, state, why), count in result.outcomes.items():
        if state not in (DELIVERED, SENT, FAILED, UNKNOWN, CANCELLED) or (
            state in (FAILED, UNKNOWN, CANCELLED) and not why
        ):
            fault(f"{count} {kind} messages are {state} without a reason")
    if sum(count for _, _, count in result.numbers) != result.invitations:
        fault("a number stands in no state, or in two")
    # Nobody contacted twice for the same reason.
    twice = [key for key, times in Counter((m["number"], m["text"]) for m in taken).items() if times > 1]
    if twice:
        fault(f"{len(twice)} texts went twice to the same number")
    asked = Counter((r.respondent, r.kind) for r in ours)
    if max(asked.values(), default=0) > 1 and max(c for (_, k), c in asked.items() if k == INVITATION) > 1:
        fault("an invitation was asked for twice")
    # Nobody contacted after their opt-out.
    after = [r for r in ours if r.respondent in out and r.claimed_at and r.claimed_at > out[r.respondent]]
    if late := [r for r in after if r.state != CANCELLED]:
        fault(f"{len(late)} invitations or reminders left after the opt-out")
    if len(out) != result.opt_outs:
        fault(f"{result.opt_outs} opted out, the record knows {len(out)}")
    result.withheld = sum(r.state == CANCELLED and r.failure_reason == "opted_out" for r in ours)
    # Our costs are the stand-in's books.
    theirs = {m["id"]: m for m in taken}
    known = {r.message_id: r for r in rows if r.message_id}
    result.theirs = sum((Decimal(m["cost"]) for m in taken), Decimal(0))
    for message_id, row in known.items():
        line = theirs.get(message_id)
        if line is None:
            fault("a message of ours is not in the books")
        elif row.cost_amount is None:  # settled by its report alone
            result.not_known += Decimal(line["cost"])
        elif Decimal(row.cost_amount) != Decimal(line["cost"]) or row.parts != line["parts"]:
            fault("a message's cost or parts are not those of the books")
        else:
            result.ours += Decimal(row.cost_amount)
    unknown = {field.numbers[r.respondent] for r in rows if r.state == UNKNOWN}
    for message_id, line in theirs.items():
        if message_id not in known:
            result.not_known += Decimal(line["cost"])
            if line["number"] not in unknown:
                fault("the books hold a message that none of our unknown rows can be")
    if result.ours + result.not_known != result.theirs:
        fault("the sum of costs is not that of the books")
    for message_id, row in known.items():
        if row.state == DELIVERED and theirs[message_id]["delivery"] != "Success":
            fault("a message counts as delivered that was not")


# ---------------------------------------------------------------- the stand-in by itself


def limit_of_the_stand_in(folder: Path, seconds: float = 3.0, clients: int = 4) -> float:
    """Requests a second that it takes from bare clients with connections of their own."""
    with standing_in(folder, {"price": FAR_SIDE["price"]}) as url:
        host = urllib.parse.urlsplit(url).netloc
        counts = [0] * clients
        until = time.monotonic() + seconds

        def blast(client: int) -> None:
            connection = http.client.HTTPConnection(host, timeout=10)
            n = 0
            while time.monotonic() < until:
                form = {
                    "username": USERNAME, "to": f"+23324{client}{n:06d}", "message": "x", "bulkSMSMode": "1",
                    "from": "1616",
                }  # fmt: skip
                headers = {"apikey": API_KEY, "content-type": "application/x-www-form-urlencoded"}
                connection.request("POST", "/version1/messaging", urllib.parse.urlencode(form), headers)
                reply = connection.getresponse()
                reply.read()
                assert reply.status == 201, reply.status
                n += 1
            counts[client] = n
            connection.close()

        threads = [threading.Thread(target=blast, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / seconds


def told(result: Result, limit: float | None) -> str:
    a_second = result.sends / result.seconds if result.seconds else 0.0
    lines = [
        f"{result.invitations:,} invitations, {result.workers} workers, {result.kills} killed,"
        f" {result.opt_outs:,} opt-outs, {result.callbacks:,} callbacks; {result.seconds:.0f} s",
        f"sending: {a_second:,.0f} messages/s, {a_second / result.workers:,.0f} a worker"
        + (f"; the stand-in by itself takes {limit:,.0f}/s" if limit else ""),
        "",
    ]
    lines += [
        f"  {kind:12} {state:10} {why:26} {n:>8,}"
        for (kind, state, why), n in sorted(result.outcomes.items())
    ]
    lines += ["", *(f"  numbers: {state:14} {detail:12} {n:>8,}" for state, detail, n in result.numbers), ""]
    lines += [
        f"cost: ours {result.ours}, of unknown outcome {result.not_known}, the books {result.theirs}",
        f"not sent because of an opt-out: {result.withheld:,}",
        "checks: " + ("all hold" if not result.faults else "; ".join(sorted(set(result.faults)))),
    ]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        run_worker(Job(**json.loads(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--invitations", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--reminders", type=int, default=0, choices=(0, 1))
    parser.add_argument("--kill-seconds", type=float, default=8.0, help="from one SIGKILL to the next")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--out", type=Path, help="write what is printed there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limit = limit_of_the_stand_in(Path(folder))
        result = run(
            Path(folder), given.invitations, workers=given.workers, reminders=given.reminders,
            kill_seconds=given.kill_seconds, seed=given.seed,
        )  # fmt: skip
    text = told(result, limit)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", "utf-8")
    sys.exit(1 if result.faults else 0)


if __name__ == "__main__":
    main()
