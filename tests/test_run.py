"""`run` for real: the whole service in a temporary folder, its children killed, its end."""

import csv
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from gateway.supervisor import Child, RunError, Supervisor, not_ready, refuse_port_in_use
from tests.stores import wait_until

HERE = Path(__file__).resolve().parent.parent
MAIN = HERE / "main.py"

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(folder: Path, port: int, **more: str) -> dict[str, str]:
    ours = {"DIAL16_DATA_DIR": str(folder), "DIAL16_PORT": str(port), **more}
    return {k: v for k, v in os.environ.items() if not k.startswith("DIAL16_")} | ours


def children(pid: int) -> dict[str, int]:
    """The supervisor's children by what they are."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        except FileNotFoundError:  # it ended since
            continue
        found["live store" if "valkey" in words[0] else words[-1]] = int(child)
    return found


def descendants(pid: int) -> set[int]:
    """All of them: RQ's scheduler is the worker's own child."""
    found = {int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return found.union(*(descendants(child) for child in found))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@dataclass
class Running:
    process: subprocess.Popen[str]
    folder: Path
    url: str
    port: int
    log: Path

    def secret(self) -> str:
        lines = (self.folder / "run.env").read_text().splitlines()
        return next(x.partition("=")[2] for x in lines if x.startswith("DIAL16_WEBHOOK_SECRET="))

    def dial(self, session: str, text: str = "") -> str:
        form = (
            f"sessionId={session}&serviceCode=*384*16%23&networkCode=62001"
            f"&phoneNumber=%2B233000000001&text={text}"
        )
        url = f"{self.url}/hooks/africastalking/{self.secret()}/ussd"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, form.encode()), timeout=5) as reply:
            return str(reply.read().decode())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    port, folder, log = free_port(), tmp_path / "data", tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(MAIN), "run"],
            env=environment(folder, port),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    # The wave and the instrument are found from any folder.
    running = Running(process, folder, f"http://127.0.0.1:{port}", port, log)
    try:
        wait_until(lambda: process.poll() is not None or not not_ready(running.url), "the service", 60)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@linux
def test_the_whole_service_comes_up_restarts_what_dies_and_leaves_nothing(running: Running) -> None:
    began = children(running.process.pid)
    assert began.keys() == {"live store", "serve", "record", "messages", "analysis"}
    wait_until(lambda: "Ctrl-C ends it." in running.log.read_text(), "the announcement")
    said = running.log.read_text()
    assert f"{running.url}/handset" in said and "/hooks/africastalking/" in said
    assert running.secret() not in said  # a log is no terminal

    first = running.dial("before")
    assert first.startswith("CON ")
    second = running.dial("before", "1")
    assert second.startswith("CON ") and second != first

    wait_until(lambda: len(descendants(began["messages"])) == 1, "RQ's scheduler")
    all_of_them = descendants(running.process.pid)
    for name in began:
        os.kill(children(running.process.pid)[name], signal.SIGKILL)
    wait_until(
        lambda: children(running.process.pid).keys() == began.keys() and not not_ready(running.url),
        "the service after the kills",
        60,
    )
    after = children(running.process.pid)
    assert all(after[name] != began[name] for name in began)
    assert running.dial("before", "1") == second  # what was acknowledged is still there

    all_of_them |= descendants(running.process.pid)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    assert all(gone(pid) for pid in all_of_them)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", running.port), timeout=1)
    assert not (running.folder / "valkey" / "valkey.pid").exists()


@linux
def test_killing_the_supervisor_ends_its_children(running: Running) -> None:
    began = descendants(running.process.pid)
    running.process.kill()
    running.process.wait()
    wait_until(lambda: all(gone(pid) for pid in began), "the end of the children")


def test_a_second_run_on_the_same_folder_or_port_says_so(running: Running, tmp_path: Path) -> None:
    for folder, port, words in (
        (running.folder, free_port(), "another `run`"),
        (tmp_path / "other", running.port, "set DIAL16_PORT"),
    ):
        refused = subprocess.run(
            [sys.executable, str(MAIN), "run"],
            env=environment(folder, port), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 1 and words in refused.stderr
        assert "Traceback" not in refused.stderr


def verb(
    running: Running, tmp_path: Path, *words: str, said: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAIN), *words],
        env=environment(running.folder, running.port, **more), cwd=tmp_path,
        capture_output=True, text=True, timeout=120, input=said,
    )  # fmt: skip


def respondents(running: Running) -> int:
    with sqlite3.connect(running.folder / "dial16.sqlite3") as db:
        return int(db.execute("SELECT count(*) FROM respondent").fetchone()[0])


def test_a_respondent_is_erased_beside_the_running_service(running: Running, tmp_path: Path) -> None:
    running.dial("mine")
    assert running.dial("mine", "1").startswith("CON ")
    wait_until(lambda: respondents(running) == 1, "the record")
    done = verb(running, tmp_path, "erase", said="+233 000 000 001\n")
    assert done.returncode == 0, done.stderr
    receipt = done.stdout.partition("Receipt: ")[2][:6]
    assert "Interviews: 1." in done.stdout and receipt in running.dial("again")
    nobody = verb(running, tmp_path, "erase", said="+233000000002\n")
    assert nobody.returncode == 1 and "nobody is known" in nobody.stderr
    other = verb(
        running, tmp_path, "erase", said="+233000000001\n", DIAL16_PSEUDONYM_KEY="another key of " + 30 * "x"
    )
    assert other.returncode == 1 and "PSEUDONYM_KEY: is not the one" in other.stderr

    running.process.send_signal(signal.SIGTERM)
    running.process.wait(60)
    away = verb(running, tmp_path, "erase", said="+233000000001\n")
    assert away.returncode == 1 and "try again" in away.stderr and "Traceback" not in away.stderr


def test_a_demonstration_brings_its_own_service(running: Running, tmp_path: Path) -> None:
    done = verb(running, tmp_path, "demo", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "temporary folder" in done.stderr and respondents(running) == 0
    nowhere = Running(None, tmp_path / "no", "", free_port(), tmp_path)  # type: ignore[arg-type]
    refused = verb(nowhere, tmp_path, "demo", "2", "--really")
    assert refused.returncode == 1 and "no service is ready here" in refused.stderr


SECRETS_SET = {
    "DIAL16_WEBHOOK_SECRET": "a-secret-of-the-tests-0123456789abcdef",
    "DIAL16_PSEUDONYM_KEY": "a-key-of-the-tests-0123456789abcdefghij",
}


@pytest.mark.parametrize("name", ["serve", "work"])
def test_another_release_s_schema_is_refused_in_words(name: str, tmp_path: Path) -> None:
    nowhere = Running(None, tmp_path, "", free_port(), tmp_path)  # type: ignore[arg-type]
    more = SECRETS_SET | {"DIAL16_REDIS_URL": "redis://127.0.0.1:9/0", "DIAL16_SIMULATOR": "on"}
    assert verb(nowhere, tmp_path, "migrate").returncode == 0
    with sqlite3.connect(tmp_path / "dial16.sqlite3") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = verb(nowhere, tmp_path, name, **more)
    assert refused.returncode == 1 and "newer than this release" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["serve", "run"])
def test_a_placeholder_is_no_contact_for_respondents(name: str, tmp_path: Path) -> None:
    nowhere = Running(None, tmp_path, "", free_port(), tmp_path)  # type: ignore[arg-type]
    more = SECRETS_SET | {"DIAL16_SIMULATOR": "off"}
    if name == "serve":
        more["DIAL16_REDIS_URL"] = "redis://127.0.0.1:9/0"
    refused = verb(nowhere, tmp_path, name, **more)
    assert refused.returncode == 1 and "0800 000 000 is a placeholder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_verb_whose_live_store_is_away_says_so(tmp_path: Path) -> None:
    nowhere = Running(None, tmp_path, "", free_port(), tmp_path)  # type: ignore[arg-type]
    more = {"DIAL16_REDIS_URL": "redis://127.0.0.1:9/0", **SECRETS_SET}
    assert verb(nowhere, tmp_path, "migrate").returncode == 0
    for words in (("work",), ("record", "--replay")):
        refused = verb(nowhere, tmp_path, *words, **more)
        assert refused.returncode == 1 and "DIAL16_REDIS_URL" in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr


def shares(csv_text: str) -> list[list[str]]:
    """The rows without what they say of waves and dates."""
    return [row[:9] for row in csv.reader(csv_text.splitlines())]


def test_demo_and_results_beside_the_running_service(running: Running, tmp_path: Path) -> None:
    done = verb(running, tmp_path, "demo", "25", "--really")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything acknowledged is recorded, once." in done.stdout
    assert "SDG indicator 16.6.2" in done.stdout and "temporary folder" not in done.stderr

    table = verb(running, tmp_path, "indicator", "--csv")
    assert table.returncode == 0 and len(table.stdout.splitlines()) == 1 + 4 * 7
    with sqlite3.connect(running.folder / "dial16.sqlite3") as db:
        db.execute("UPDATE interview SET wave = 'another' WHERE wave = 'pilot-2026'")
    ours = verb(running, tmp_path, "indicator", "--csv").stdout
    named = verb(running, tmp_path, "indicator", "--csv", "--wave", "another").stdout
    pooled = verb(running, tmp_path, "indicator", "--csv", "--all-waves").stdout
    assert shares(pooled) == shares(named) == shares(table.stdout) != shares(ours)
    assert verb(running, tmp_path, "indicator", "--all-waves", "--wave", "another").returncode == 2
    exported = verb(running, tmp_path, "export", "out")
    assert exported.returncode == 0, exported.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"long.csv", "wide.csv", "codebook.csv", "deviations.md"}
    assert len((tmp_path / "out" / "wide.csv").read_text().splitlines()) == 1 + 25

    dialled = verb(running, tmp_path, "dial")  # its input ends at once: it hangs up
    assert dialled.returncode == 0 and "Take part?" in dialled.stdout


def test_waves_are_closed_opened_and_listed_beside_the_running_service(
    running: Running, tmp_path: Path
) -> None:
    def listed() -> str:
        return verb(running, tmp_path, "wave", "list").stdout

    began = listed()
    assert began.startswith("pilot-2026: open, for its file gives no times\n")
    assert "SURVEY to 1616" in began and "sdg_16_6_2@" in began
    closed = verb(running, tmp_path, "wave", "close", "pilot-2026")
    assert closed.returncode == 0 and closed.stdout.startswith(
        "pilot-2026: closed, by the operator's word of "
    )
    assert "the live store is not reached" not in closed.stderr  # or it would take half a minute
    sessions = count()
    wait_until(lambda: running.dial(f"s{next(sessions)}").startswith("END No survey is open"), "the close")
    assert listed().startswith("pilot-2026: closed, by the operator's word of ")
    assert verb(running, tmp_path, "wave", "times", "pilot-2026").returncode == 0
    wait_until(lambda: running.dial(f"s{next(sessions)}").startswith("CON "), "the opening")
    running.dial(f"s{next(sessions) - 1}", "1")
    wait_until(lambda: "interviews  1, of them complete 0" in listed(), "the record")
    assert verb(running, tmp_path, "sending").stdout == "No sender is paused.\n"
    unknown = verb(running, tmp_path, "wave", "open", "pilot-2025")
    assert unknown.returncode == 1 and "there are: pilot-2026" in unknown.stderr


def test_verbs_with_several_waves(tmp_path: Path) -> None:
    text = (HERE / "deploy" / "wave.toml").read_text("utf-8")
    changed = [("pilot-2026", "second"), ("*384*16#", "*384*17#"), ('"SURVEY"', '"SECOND"')]
    waves = tmp_path / "waves"
    waves.mkdir()
    (waves / "a.toml").write_text(text, "utf-8")
    for old, new in changed:
        text = text.replace(old, new)
    (waves / "b.toml").write_text(text, "utf-8")
    here = Running(None, tmp_path, "", free_port(), tmp_path)  # type: ignore[arg-type]
    secrets = {"DIAL16_PSEUDONYM_KEY": "0123456789abcdef" * 2, "DIAL16_WEBHOOK_SECRET": "fedcba98" * 4}
    more = {"DIAL16_WAVE_FILE": "waves", **secrets}
    assert verb(here, tmp_path, "migrate", **more).returncode == 0
    listed = verb(here, tmp_path, "wave", "list", **more).stdout
    assert "pilot-2026: open" in listed and "second: open" in listed and str(waves / "b.toml") in listed
    which = verb(here, tmp_path, "dial", **more)
    assert which.returncode == 1 and "--code, one of *384*16#, *384*17#" in which.stderr
    each = verb(here, tmp_path, "indicator", **more)
    assert each.returncode == 0 and "wave pilot-2026" in each.stderr and "wave second" in each.stderr
    assert verb(here, tmp_path, "indicator", "--csv", **more).returncode == 1
    # A word is kept also while the live store is away.
    told = verb(here, tmp_path, "wave", "close", "second", **more)
    assert told.returncode == 0 and "within half a minute" in told.stderr
    (waves / "b.toml").write_text(text.replace("*384*17#", "*384*16#"), "utf-8")
    clash = verb(here, tmp_path, "check", **more)
    assert clash.returncode == 1 and "a.toml: code: *384*16# is in " in clash.stderr
    assert str(waves / "b.toml") in clash.stderr and "Traceback" not in clash.stderr
    change = "2026-01-01T00:00:00Z"
    first = (waves / "a.toml").read_text("utf-8").replace("[opening]", f"[opening]\ncloses_at = {change}")
    (waves / "a.toml").write_text(first, "utf-8")
    later = text.replace("*384*17#", "*384*16#").replace("[opening]", f"[opening]\nopens_at = {change}")
    (waves / "b.toml").write_text(later, "utf-8")
    assert verb(here, tmp_path, "wave", "open", "second", **more).returncode == 0
    refused = verb(here, tmp_path, "wave", "open", "pilot-2026", **more)
    assert refused.returncode == 1 and "second" in refused.stderr and "close it first" in refused.stderr


def test_verbs_without_a_service_or_a_database_say_what_to_do(tmp_path: Path) -> None:
    nowhere = Running(None, tmp_path / "no" / "data", "", free_port(), tmp_path)  # type: ignore[arg-type]
    for words, expected in ((("dial",), "make run"), (("indicator",), "DIAL16_DATABASE_URL")):
        refused = verb(nowhere, tmp_path, *words)
        assert refused.returncode == 1 and expected in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["serve", "record", "work"])
def test_production_verbs_refuse_to_start_without_their_settings(name: str, tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, str(MAIN), name],
        env=environment(tmp_path, 8016), cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1 and "DIAL16_REDIS_URL: is not set" in refused.stderr
    assert ("DIAL16_PSEUDONYM_KEY: is not set" in refused.stderr) == (name != "record")
    assert "Traceback" not in refused.stderr and not list(tmp_path.iterdir())


def test_help_names_every_verb() -> None:
    shown = subprocess.run(
        [sys.executable, str(MAIN), "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = "run serve record work migrate check dial demo export indicator erase".split()
    assert "SMS" not in shown  # not yet
    assert all(f" {name} " in shown for name in verbs)


# ---------------------------------------------------------------- the supervisor by itself


def sleeper(seconds: float = 60) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def test_a_child_that_keeps_dying_is_started_later_and_later() -> None:
    said: list[str] = []
    child = Child("short", lambda: sleeper(0))
    supervisor = Supervisor([child], said.append)
    supervisor.start()
    deadline = time.monotonic() + 20
    while len(said) < 3 and time.monotonic() < deadline:
        supervisor.look()
        time.sleep(0.01)
    supervisor.end()
    assert [x.split(" in ")[1] for x in said[:3]] == ["0.2 s", "0.4 s", "0.8 s"]
    assert said[0].startswith("short ended (exit 0)")


def test_a_child_that_cannot_start_again_is_told_of_and_tried_again() -> None:
    said: list[str] = []
    starts = iter([sleeper, None, sleeper])

    def start() -> subprocess.Popen[bytes]:
        begin = next(starts)
        if begin is None:
            raise OSError("no room")
        return begin()

    child = Child("unlucky", start)
    supervisor = Supervisor([child], said.append)
    supervisor.start()
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    deadline = time.monotonic() + 20
    while not (len(said) == 2 and child.process is not None) and time.monotonic() < deadline:
        supervisor.look()
        time.sleep(0.01)
    assert "SIGKILL" in said[0] and "no room" in said[1] and child.process is not None
    supervisor.end()


def test_children_end_in_reverse_order() -> None:
    ended: list[str] = []

    class Noted(subprocess.Popen[bytes]):
        def terminate(self) -> None:
            ended.append(str(self.args[-1]))  # type: ignore[index]
            super().terminate()

    def noted(name: str) -> Child:
        return Child(name, lambda: Noted([sys.executable, "-c", "import time; time.sleep(60)", name]))

    supervisor = Supervisor([noted("store"), noted("recorder"), noted("gateway")], print)
    supervisor.start()
    supervisor.end()
    assert ended == ["gateway", "recorder", "store"]


def test_a_port_in_use_is_refused_with_what_to_set() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(RunError, match="DIAL16_PORT"):
            refuse_port_in_use("127.0.0.1", s.getsockname()[1])
    refuse_port_in_use("127.0.0.1", free_port())


def test_not_ready_gives_the_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_ready(f"http://127.0.0.1:{free_port()}") == ["it does not answer yet"]
    parts = {
        "database": {"up": False, "detail": "run migrate"},
        "live store": {"up": True, "detail": "answers"},
    }
    body = json.dumps({"ready": False, "parts": parts}).encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(4096)
                line.sendall(b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        thread = threading.Thread(target=answer)
        thread.start()
        assert not_ready(f"http://127.0.0.1:{server.getsockname()[1]}") == ["database: run migrate"]
        thread.join()
