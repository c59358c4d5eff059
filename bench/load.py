"""Plays complete USSD interviews against a gateway on this machine, as Africa's Talking would post them.

Each respondent has a number and a session of its own, posts one hop at a time with every input so
far joined by `*`, reads CON or END, answers by rule and goes on until END; then the next respondent
takes the place (closed loop). One thread over epoll and the standard library only, so that the load
costs little beside what it measures. Loopback only; bounded in interviews and seconds.

    python bench/load.py http://127.0.0.1:8016/hooks/africastalking/SECRET/ussd --interviews 500 --pid 1234
"""

import argparse
import ipaddress
import itertools
import json
import os
import re
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

#: Screens that a bare `1` does not answer, by what they show. First match wins; otherwise "1".
RULES: tuple[tuple[str, str], ...] = (
    (r"(?i)\bold are you\b|\bage\b.*\byears\b", "34"),
)  # fmt: skip

#: National numbers never begin with 0 after the country code (E.164, the Ghanaian numbering plan):
#: nobody has one of these.
NOBODYS = "+2330"

_TICKS = os.sysconf("SC_CLK_TCK")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HOP_SECONDS = 10.0  # as long as Africa's Talking waits
_MOST_HOPS = 300


@dataclass(slots=True)
class Report:
    """What one run measured. Times in ms; hops are requests answered."""

    hops: int = 0
    interviews: int = 0
    seconds: float = 0.0
    hops_per_second: float = 0.0
    hops_per_interview: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0
    server_ms_per_hop: float = 0.0  # user and system CPU of the server's process tree
    other_ms_per_hop: dict[str, float] = field(default_factory=dict)  # of the other processes named
    load_ms_per_hop: float = 0.0
    server_busy: float = 0.0  # share of one core
    machine_others: float = 0.0  # share of the machine's time that went to processes not named
    errors: dict[str, int] = field(default_factory=dict)
    stopped: str = "done"


def cpu_seconds(root: int) -> float:
    """User and system seconds of a process and its descendants, ended ones that were waited for too."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                values = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(values[1]), []).append(int(entry))
            spent[int(entry)] = sum(map(int, values[11:15]))
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += spent.get(pid, 0)
        todo += children.get(pid, [])
    return total / _TICKS


def machine_seconds() -> tuple[float, float]:
    """Busy seconds and all seconds of all cores together."""
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(values) - values[3] - values[4]) / _TICKS, sum(values) / _TICKS


def answer_by(rules: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """A respondent's way of answering: the first rule whose pattern is on the screen, else 1."""
    compiled = [(re.compile(pattern, re.DOTALL), answer) for pattern, answer in rules]
    seen: dict[str, str] = {}  # screens repeat; a search costs more than a lookup

    def answer(screen: str) -> str:
        found = seen.get(screen)
        if found is None:
            found = next((a for pattern, a in compiled if pattern.search(screen)), "1")
            if len(seen) < 10_000:
                seen[screen] = found
        return found

    return answer


class _Respondent:
    """One phone, its connection, and the interview that it is in."""

    __slots__ = ("head", "hops", "received", "sent_at", "sock", "text", "unsent")

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.received = self.unsent = self.head = b""
        self.text, self.hops, self.sent_at = "", 0, 0.0


class Load:
    """One run: `respondents` at a time until `interviews` have ended after `warmup` ones."""

    def __init__(
        self,
        url: str,
        *,
        respondents: int = 64,
        interviews: int = 1000,
        warmup: int = 64,
        seconds: float = 120.0,
        server: int = 0,
        others: dict[str, int] | None = None,
        rules: Sequence[tuple[str, str]] = RULES,
        first_number: int = 0,
        service_code: str = "*384*16#",
        network_code: str = "62001",
    ):
        target = urlsplit(url)
        host = target.hostname or ""
        try:
            ours = target.scheme == "http" and ipaddress.ip_address(host).is_loopback
        except ValueError:
            ours = False  # a name, which could lead anywhere
        if not ours:
            raise ValueError("the target must be http on a loopback address, by number: 127.0.0.1")
        self.address = (host, target.port or 80)
        self.prefix = (
            f"POST {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
        ).encode()
        self.fields = f"serviceCode={quote_plus(service_code)}&networkCode={quote_plus(network_code)}"
        self.answer = answer_by(rules)
        self.respondents, self.interviews, self.warmup, self.seconds = (
            respondents,
            interviews,
            warmup,
            seconds,
        )
        self.server, self.others = server, others or {}
        self.numbers = itertools.count(first_number)
        self.run_id = f"{os.getpid():x}{time.time_ns() & 0xFFFFFFFF:08x}"
        self.epoll = select.epoll()
        self.by_file: dict[int, _Respondent] = {}
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()
        self.begun = self.ended = self.counted = 0
        self.marks: dict[str, float] = {}

    def run(self) -> Report:
        """Play it; the figures are of what came after the warm-up."""
        stopped = "done"
        deadline = time.perf_counter() + self.seconds
        self.mark()
        try:
            for _ in range(min(self.respondents, self.warmup + self.interviews)):
                self.connect()
            while self.by_file:
                now = time.perf_counter()
                if now > deadline:
                    stopped = "out of time"
                    break
                events = self.epoll.poll(1.0)
                if not events:
                    self.give_up_on_late(now)
                for file, mask in events:
                    self.serve(self.by_file[file], mask)
            return self.report(stopped)
        finally:
            for respondent in self.by_file.values():
                respondent.sock.close()
            self.epoll.close()

    def connect(self) -> None:
        """A phone with a new connection starts its first interview."""
        sock = socket.create_connection(self.address, timeout=5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        respondent = _Respondent(sock)
        self.by_file[sock.fileno()] = respondent
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        self.begin(respondent)

    def begin(self, respondent: _Respondent) -> None:
        """Dial from a number that has not dialled before."""
        self.begun += 1
        number = next(self.numbers)
        respondent.head = (
            f"{self.fields}&sessionId=bench-{self.run_id}-{number}"
            f"&phoneNumber={quote_plus(NOBODYS)}{number % 10**8:08d}&text="
        ).encode()
        respondent.text, respondent.hops = "", 0
        self.post(respondent)

    def post(self, respondent: _Respondent) -> None:
        body = self.body(respondent)
        respondent.unsent = b"%b%d\r\n\r\n%b" % (self.prefix, len(body), body)
        respondent.received = b""
        respondent.sent_at = time.perf_counter()
        self.flush(respondent)

    def body(self, respondent: _Respondent) -> bytes:
        """The request of this phone's next hop."""
        return respondent.head + respondent.text.encode()

    def flush(self, respondent: _Respondent) -> None:
        try:
            sent = respondent.sock.send(respondent.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.fail(respondent, type(error).__name__)
            return
        respondent.unsent = respondent.unsent[sent:]
        if respondent.unsent:
            self.epoll.modify(respondent.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def serve(self, respondent: _Respondent, mask: int) -> None:
        """What the network has for this phone."""
        if mask & select.EPOLLOUT and respondent.unsent:
            self.epoll.modify(respondent.sock.fileno(), select.EPOLLIN)
            self.flush(respondent)
        if not mask & ~select.EPOLLOUT:
            return
        try:
            data = respondent.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(respondent, type(error).__name__)
            return
        if not data:
            self.fail(respondent, "closed by the server")
            return
        respondent.received += data
        end = respondent.received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(respondent.received, 0, end + 2)
        if length is None:
            self.fail(respondent, "no content-length")
        elif len(respondent.received) >= end + 4 + int(length[1]):
            self.read(respondent, respondent.received[9:12], respondent.received[end + 4 :])

    def read(self, respondent: _Respondent, status: bytes, body: bytes) -> None:
        """A whole reply: note its time, answer the screen."""
        self.note(respondent)
        if status != b"200":
            self.fail(respondent, f"status {status.decode()}")
        elif body.startswith(b"END "):
            self.counted += 1
            self.finish(respondent)
        elif not body.startswith(b"CON "):
            self.fail(respondent, "neither CON nor END")
        elif respondent.hops >= _MOST_HOPS:
            self.fail(respondent, "never ended")
        else:
            answer = quote_plus(self.answer(body[4:].decode()))
            respondent.text = f"{respondent.text}*{answer}" if respondent.text else answer
            self.post(respondent)

    def note(self, respondent: _Respondent) -> None:
        self.latencies.append(time.perf_counter() - respondent.sent_at)
        respondent.hops += 1

    def finish(self, respondent: _Respondent) -> None:
        """An interview is over: begin the next one, or hang up for good."""
        self.ended += 1
        if self.ended == self.warmup:
            self.mark()
        if self.begun < self.warmup + self.interviews:
            self.begin(respondent)
        else:
            self.drop(respondent)

    def fail(self, respondent: _Respondent, why: str) -> None:
        self.errors[why] += 1
        self.drop(respondent)
        self.ended += 1
        if self.begun < self.warmup + self.interviews and sum(self.errors.values()) < 100:
            try:
                self.connect()
            except OSError as error:
                self.errors[type(error).__name__] += 1

    def drop(self, respondent: _Respondent) -> None:
        file = respondent.sock.fileno()
        self.epoll.unregister(file)
        del self.by_file[file]
        respondent.sock.close()

    def give_up_on_late(self, now: float) -> None:
        for respondent in list(self.by_file.values()):
            if now - respondent.sent_at > _HOP_SECONDS:
                self.fail(respondent, "no reply in time")

    # ---- figures

    def mark(self) -> None:
        """Count from here."""
        self.latencies = array("d")
        self.errors.clear()
        self.counted = 0
        self.marks = self.read_clocks()

    def read_clocks(self) -> dict[str, float]:
        busy, all_ = machine_seconds()
        clocks = {"wall": time.perf_counter(), "load": time.process_time(), "busy": busy, "all": all_}
        clocks |= {f"other {name}": cpu_seconds(pid) for name, pid in self.others.items()}
        return clocks | {"server": cpu_seconds(self.server) if self.server else 0.0}

    def report(self, stopped: str) -> Report:
        spent = {name: value - self.marks[name] for name, value in self.read_clocks().items()}
        times = sorted(self.latencies)
        hops = len(times) or 1

        def percentile(share: float) -> float:
            return round(1000 * times[min(len(times) - 1, int(share * len(times)))], 3) if times else 0.0

        others = {name: round(1000 * spent[f"other {name}"] / hops, 4) for name in self.others}
        named = spent["server"] + spent["load"] + sum(spent[f"other {name}"] for name in self.others)
        return Report(
            hops=len(times),
            interviews=self.counted,
            seconds=round(spent["wall"], 3),
            hops_per_second=round(len(times) / spent["wall"], 1),
            hops_per_interview=round(len(times) / max(1, self.counted), 2),
            p50=percentile(0.5),
            p95=percentile(0.95),
            p99=percentile(0.99),
            p999=percentile(0.999),
            max=percentile(1.0),
            server_ms_per_hop=round(1000 * spent["server"] / hops, 4),
            other_ms_per_hop=others,
            load_ms_per_hop=round(1000 * spent["load"] / hops, 4),
            server_busy=round(spent["server"] / spent["wall"], 3),
            machine_others=round(max(0.0, spent["busy"] - named) / spent["all"], 3) if spent["all"] else 0.0,
            errors=dict(self.errors),
            stopped=stopped,
        )


def main() -> None:
    """The load by itself, against a gateway that runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--respondents", type=int, default=64)
    parser.add_argument("--interviews", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--first-number", type=int, default=0)
    parser.add_argument("--pid", type=int, default=0, help="the server, for its CPU")
    given = parser.parse_args()
    load = Load(
        given.url, respondents=given.respondents, interviews=given.interviews, warmup=given.warmup,
        seconds=given.seconds, server=given.pid, first_number=given.first_number,
    )  # fmt: skip
    print(json.dumps(asdict(load.run()), indent=1))


if __name__ == "__main__":
    main()
