"""`run`: the whole service on one machine under one supervisor.

    embedded Valkey ── gateway (serve) ── recorder (record) ── worker (work)

Each is a process as in production and gets its settings from the environment. One that dies is
started again, later each time; SIGTERM or Ctrl-C ends all, the gateway first and the store last, so
that what was acknowledged is recorded. If the supervisor itself is killed, Linux ends its children.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from storage.embedded import EmbeddedError, EmbeddedValkey, die_with_parent

_FIRST_PAUSE = 0.2  # seconds before the first restart; doubled each time
_LONGEST_PAUSE = 15.0
_STEADY_SECONDS = 30.0  # a child that lived this long starts from the first pause again
_STOP_SECONDS = 10.0
_READY_SECONDS = 30.0
_LOOK_EVERY = 0.1

#: The service's parts, in the order in which they start.
_PARTS = {
    "worker": ("work", "--only", "messages"),
    "analysis": ("work", "--only", "analysis"),
    "recorder": ("record",),
    "gateway": ("serve",),
}


class RunError(Exception):
    """`run` cannot start. Says what the operator must do."""


@dataclass(slots=True)
class Child:
    """One supervised process: how to start it, and how it has fared."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause: float = _FIRST_PAUSE


def child_process(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process of ours in a session of its own: a Ctrl-C is for the supervisor, which ends it in order."""
    return subprocess.Popen(
        list(argv),
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )


class Supervisor:
    """Keeps its children alive until it is told to stop. Children end in reverse order of starting."""

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]):
        self.children = list(children)
        self.say = say
        self.stopping = False

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Ask for the end; `watch` returns soon after. Fit to be a signal's handler."""
        self.stopping = True

    def start(self) -> None:
        """Start every child, in order."""
        for child in self.children:
            self._start(child)

    def _start(self, child: Child) -> None:
        child.process = child.start()
        child.started_at = time.monotonic()

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Restart what dies, until `stop` is called or `until` holds."""
        while not self.stopping and not until():
            self.look()
            time.sleep(_LOOK_EVERY)

    def look(self) -> None:
        """One look at every child."""
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                _sweep(child.process)
                if now - child.started_at > _STEADY_SECONDS:
                    child.pause = _FIRST_PAUSE
                child.process = None
                child.restart_at = now + child.pause
                self.say(f"{child.name} ended ({_how(code)}); starting it again in {child.pause:.1f} s")
                child.pause = min(child.pause * 2, _LONGEST_PAUSE)
            elif child.process is None and now >= child.restart_at:
                try:
                    self._start(child)
                except (EmbeddedError, OSError) as error:
                    child.restart_at = now + child.pause
                    child.pause = min(child.pause * 2, _LONGEST_PAUSE)
                    self.say(f"{child.name} does not start: {error}")

    def end(self) -> None:
        """End every child, the last started first; one that does not end in time is killed."""
        for child in reversed(self.children):
            process, child.process = child.process, None
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.say(f"{child.name} did not end in {_STOP_SECONDS:.0f} s and was killed")
                process.kill()
                process.wait()
            _sweep(process)


def _sweep(ended: subprocess.Popen[bytes]) -> None:
    """End what an ended child left in its process group: RQ's scheduler is a process of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(ended.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def refuse_port_in_use(host: str, port: int) -> None:
    """Raise RunError if nothing could listen there: better said once than by a child again and again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError as error:
            raise RunError(
                f"cannot listen on {host} port {port} ({error.strerror}): set DIAL16_PORT to a free port,"
                " or DIAL16_HOST to an address of this machine"
            ) from None


def not_ready(url: str) -> list[str]:
    """Why the service at `url` is not ready, by its own word; empty once it is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine needs no proxy
    try:
        with opener.open(f"{url}/health/ready", timeout=3):
            return []
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            parts = json.load(error)["parts"].items()
            return [f"{name}: {part['detail']}" for name, part in parts if not part["up"]]
        return [f"it answers with status {error.code}"]
    except OSError:
        return ["it does not answer yet"]


def announcement(url: str, secret: str, *, dial: str) -> str:
    """Where to dial, to look and to post; `dial` is the code, "" without a simulator."""
    if not sys.stdout.isatty():  # a log file is no place for a secret
        secret = "<DIAL16_WEBHOOK_SECRET>"
    lines = [f"Dial   {dial} at {url}/handset, or `make dial` in another terminal"] if dial else []
    lines += [
        f"Look   {url}/",
        f"Post   {url}/hooks/africastalking/{secret}/ussd and .../ussd/events",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def run(
    main: Path,
    data_dir: Path,
    environ: Mapping[str, str],
    url: str,
    *,
    embedded: bool,
    prepare: Callable[[], None],
    say: Callable[[str], None],
    announce: Callable[[], None],
) -> None:
    """Run the service until SIGTERM or SIGINT. The caller holds the lock on `data_dir`.

    prepare: called before the first child starts (migrations).
    announce: called once the service is ready.
    """
    environ = dict(environ)
    valkey = None
    children = []
    if embedded:
        valkey = EmbeddedValkey(data_dir)
        environ["DIAL16_REDIS_URL"] = valkey.url
        children.append(Child("live store", valkey.start))
    for name, verb in _PARTS.items():
        argv = (sys.executable, str(main), *verb)
        children.append(Child(name, lambda argv=argv: child_process(argv, environ)))  # type: ignore[misc]
    supervisor = Supervisor(children, say)
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(sign, supervisor.stop)
    try:
        prepare()
        supervisor.start()
        deadline = time.monotonic() + _READY_SECONDS
        reasons: list[str] = ["it does not answer yet"]

        def ready_or_late() -> bool:
            nonlocal reasons
            reasons = not_ready(url)
            return not reasons or time.monotonic() > deadline

        supervisor.watch(ready_or_late)
        if not supervisor.stopping:
            if reasons:
                say(f"not ready after {_READY_SECONDS:.0f} s: {'; '.join(reasons)}. Still trying")
            announce()
        supervisor.watch()
    finally:
        say("ending")
        supervisor.end()
        if valkey is not None:
            valkey.clean()
