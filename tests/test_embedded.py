"""The embedded Valkey: one server a folder, durable, gone with its parent, stale ones ended."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from storage.embedded import DURABLE, EmbeddedError, EmbeddedValkey, lock_folder

SHORT = "a"
LONG = "b" * 100  # its socket's path would not fit in sun_path


@pytest.fixture(params=[SHORT, LONG], ids=["short path", "long path"])
def valkey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(tmp_path / request.param)
    yield valkey
    valkey.clean()


def client(valkey: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(valkey.url, decode_responses=True)


def test_answers_on_a_socket_of_its_owner_and_nowhere_else(valkey: EmbeddedValkey) -> None:
    process = valkey.start()
    try:
        with client(valkey) as live:
            assert live.config_get("port")["port"] == "0"
            assert live.config_get("appendfsync")["appendfsync"] == DURABLE[-1] == "always"
        assert stat.S_IMODE(valkey.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(valkey.socket.stat().st_mode) == 0o700
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_a_killed_server_has_all_it_acknowledged(valkey: EmbeddedValkey) -> None:
    process = valkey.start()
    with client(valkey) as live:
        for n in range(200):
            live.set(f"k{n}", n)
    process.kill()
    process.wait()
    process = valkey.start()
    with client(valkey) as live:
        assert live.dbsize() == 200
    process.terminate()
    process.wait(10)


def test_a_stale_server_is_ended_and_its_data_kept(valkey: EmbeddedValkey) -> None:
    stale = valkey.start()
    with client(valkey) as live:
        live.set("kept", "yes")
    process = EmbeddedValkey(valkey.folder.parent).start()
    assert stale.wait(10) == 0 and process.poll() is None
    with client(valkey) as live:
        assert live.get("kept") == "yes"
    process.terminate()
    process.wait(10)


def test_a_pid_file_that_names_somebody_else_harms_nobody(valkey: EmbeddedValkey) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        valkey.pid_file.write_text(str(other.pid))
        assert valkey.stale_pid() is None
        valkey.end_stale()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_server_ends_when_its_parent_is_killed(valkey: EmbeddedValkey) -> None:
    code = (
        "import sys, time; from pathlib import Path; from storage.embedded import EmbeddedValkey;"
        "print(EmbeddedValkey(Path(sys.argv[1])).start().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(valkey.folder.parent)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while valkey.answers() or _alive(pid):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_second_run_on_one_folder_is_told_whose_it_is(tmp_path: Path) -> None:
    held = lock_folder(tmp_path / "data")
    with pytest.raises(EmbeddedError, match=rf"process {os.getpid()}.*DIAL16_DATA_DIR"):
        lock_folder(tmp_path / "data")
    held.close()
    lock_folder(tmp_path / "data").close()


def test_a_server_that_cannot_start_says_where_to_look(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.embedded.find_binary", lambda: Path("/bin/false"))
    with pytest.raises(EmbeddedError, match=r"valkey\.log"):
        valkey.start()


def test_no_server_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(EmbeddedError, match="DIAL16_REDIS_URL"):
        EmbeddedValkey.command(EmbeddedValkey.__new__(EmbeddedValkey))


def test_signals_of_the_terminal_do_not_reach_the_server(valkey: EmbeddedValkey) -> None:
    process = valkey.start()
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
