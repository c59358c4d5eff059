"""How fast one worker sends: messages from the outbox to a stand-in of the aggregator's API, on this machine.

    python bench/sending.py --database postgresql+psycopg://... --redis redis://127.0.0.1/15

Give it an empty database and an empty live store: both are written to, and neither is emptied. The
stand-in answers after `--latency` seconds; the worker's own work is what it takes with 0.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy.engine import make_url

from bench.recorder import instrument
from storage.database import migrate, open_engine
from storage.outbox import SENT
from tests.at_api import Habits, serving
from tests.sending_field import ask_for, states, work_at, working


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", required=True, help="URL of an empty database on this machine")
    parser.add_argument("--redis", required=True, help="URL of an empty live store on this machine")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.0, help="of the aggregator's answer, in seconds")
    given = parser.parse_args()
    for name in (make_url(given.database).host, make_url(given.redis).host):
        if name not in (None, "", "localhost", "127.0.0.1", "::1"):
            parser.error("loopback only: this writes made-up messages")
    engine = open_engine(given.database)
    migrate(engine, instrument())
    with serving(Habits(latency_seconds=given.latency)) as api, tempfile.TemporaryDirectory() as folder:
        work = work_at(api, given.database, given.redis, timeout=(2, 10))
        with working(work, Path(folder), given.workers):
            ask_for(engine, [0])
            while not states(engine).get(SENT):  # they are up
                time.sleep(0.05)
            ask_for(engine, range(1, given.messages + 1))
            began = time.perf_counter()
            while states(engine)[SENT] <= given.messages:
                time.sleep(0.05)
            wall = time.perf_counter() - began
        assert len(api.books.messages) == given.messages + 1
    print(
        f"{given.messages} messages, {given.workers} workers, {given.latency * 1000:.0f} ms of the"
        f" aggregator's: {given.messages / wall:,.0f} messages/s"
    )


if __name__ == "__main__":
    main()
