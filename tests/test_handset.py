"""The terminal handset as a process with piped input, against the stand-in; and the simulator's wire."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.aggregators.simulator import Simulator
from gateway.handset import FAILURE
from gateway.messages import Hop, SessionEnded, WireError
from tests.stand_in import AGE, BACK_AGAIN, CODE, CONSENT, HEALTH, ROOT, SECRET, THANKS, StandIn, serving
from tests.stores import wait_until
from tests.transcript import read_transcript

NUMBER = "+233240000001"
CALL = """
import sys
from pathlib import Path
from gateway.handset import dial
url, secret, code, msisdn, save = sys.argv[1:]
sys.exit(dial(url, secret, code, msisdn, save=Path(save) if save else None))
"""


@pytest.fixture
def gateway() -> Iterator[StandIn]:
    with serving(StandIn()) as stand_in:
        yield stand_in


def converse(
    url: str, lines: str, save: Path | None = None, secret: str = SECRET
) -> subprocess.CompletedProcess[str]:
    """The handset as its own process; `lines` on standard input."""
    arguments = [url, secret, CODE, NUMBER, str(save or "")]
    return subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        input=lines,
        text=True,
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "", "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"},
    )


def test_an_interview_saved_as_a_transcript(gateway: StandIn, tmp_path: Path) -> None:
    save = tmp_path / "interview.txt"
    done = converse(gateway.url, "1\nagain\n34\nhang up\nredial\n1\nredial\n1\n2\nquit\n", save)
    assert (done.returncode, done.stderr) == (0, "")
    assert save.read_text("utf-8") == (
        f"dial {CODE}\n"
        f"CON {CONSENT}\n"
        f"> 1\n"
        f"CON {AGE}\n"
        f"again\n"
        f"CON {AGE}\n"
        f"> 34\n"
        f"CON {HEALTH}\n"
        f"hang up\n"
        f"dial {CODE}\n"
        f"CON {BACK_AGAIN}\n"
        f"> 1\n"
        f"CON {HEALTH}\n"
        f"# connection dropped\n"
        f"dial {CODE}\n"
        f"CON {BACK_AGAIN}\n"
        f"> 1\n"
        f"CON {HEALTH}\n"
        f"> 2\n"
        f"END {THANKS}\n"
    )
    read_transcript(save)  # the player of tests/transcripts understands it
    assert [(hop.sequence, hop.text) for hop in gateway.hops] == [
        (1, ""), (2, "1"), (2, "1"), (3, "34"), (1, ""), (2, "1"), (1, ""), (2, "1"), (3, "2"),
    ]  # fmt: skip
    assert {(hop.msisdn, hop.network_code, hop.service_code) for hop in gateway.hops} == {
        (NUMBER, "99999", CODE)
    }
    assert len({hop.session for hop in gateway.hops}) == 3
    # the dropped session has no notice
    assert [(n.status, n.hops) for n in gateway.notices] == [("Incomplete", 3), ("Success", 3)]
    assert gateway.notices[0].session == gateway.hops[0].session


def test_the_drawn_screen(gateway: StandIn) -> None:
    done = converse(gateway.url, "")
    assert done.stdout == (
        "╭────────── +233240000001 ───────────╮\n"
        "│ Survey on public services. Free,   │\n"
        "│ 10 min, private.                   │\n"
        "│ Take part?                         │\n"
        "│ 1 Yes                              │\n"
        "│ 2 No                               │\n"
        "╰────────── 71 characters ───────────╯\n"
    )
    # the end of input hangs up
    assert [notice.status for notice in gateway.notices] == ["Incomplete"]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("> again", "again"),
        (">quit", "quit"),
        (">", ""),
        ("", ""),
        ("*1#", "*1#"),
        (" 7 ", "7"),
        ("[b]", "[b]"),
    ],
)
def test_any_text_can_be_an_answer(gateway: StandIn, typed: str, sent: str) -> None:
    converse(gateway.url, typed + "\n")
    assert [hop.text for hop in gateway.hops] == ["", sent]


def test_more_keys_dialled_with_the_code(gateway: StandIn) -> None:
    done = converse(gateway.url, "dial *384*16*1*2#\ndial *100#\n1\n")
    assert [(hop.sequence, hop.text, hop.service_code) for hop in gateway.hops] == [
        (1, "", CODE),
        (1, "1*2", CODE),
    ]
    assert "This network knows *384*16# and *384*16*...# only." in done.stdout
    assert "No call in progress" in done.stdout


def test_help_lists_the_commands(gateway: StandIn) -> None:
    text = converse(gateway.url, "help\n").stdout
    for command in ("again", "hang up", "redial", "dial", "quit", "help"):
        assert f"\n  {command} " in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(gateway.hops) == 1


def test_no_gateway(tmp_path: Path) -> None:
    save = tmp_path / "none.txt"
    done = converse("http://127.0.0.1:9", "1\n", save)
    assert done.returncode == 1
    assert "No gateway at http://127.0.0.1:9" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert FAILURE.split()[0] in done.stdout
    assert not save.exists()


def test_a_wrong_secret_is_explained_and_never_shown(gateway: StandIn) -> None:
    done = converse(gateway.url, "1\n", secret="wrong-secret")
    assert done.returncode == 1
    assert "check the secret" in done.stdout
    assert "wrong-secret" not in done.stdout + done.stderr


def test_a_gateway_that_fails_in_the_middle(gateway: StandIn, tmp_path: Path) -> None:
    gateway.fails_from = 2
    save = tmp_path / "failed.txt"
    done = converse(gateway.url, "1\n2\n", save)
    assert done.returncode == 1
    assert 'The gateway answered 503: {"error":"away"}' in done.stdout
    assert "No call in progress" in done.stdout
    assert save.read_text() == f"dial {CODE}\nCON {CONSENT}\n> 1\n# {FAILURE}\n"
    wait_until(lambda: bool(gateway.notices), "the notice", 5)
    assert [notice.status for notice in gateway.notices] == ["Failed"]


def test_a_saved_transcript_is_never_written_over(gateway: StandIn, tmp_path: Path) -> None:
    save = tmp_path / "kept.txt"
    save.write_text("kept\n")
    assert converse(gateway.url, "1\n", save).returncode == 1
    assert save.read_text() == "kept\n"
    assert converse(gateway.url, "1\n", tmp_path / "nowhere" / "a.txt").returncode == 1
    assert gateway.hops == []


# ---------------------------------------------------------------- the wire, literally

HOP = '{"session":"s1","msisdn":"+233240000001","network":"62001","code":"*384*16#","sequence":2,"input":"1"}'
NOTICE = (
    '{"session":"s1","msisdn":"+233240000001","network":"62001","code":"*384*16#",'
    '"status":"Incomplete","hops":3,"duration_ms":41200}'
)


def test_a_hop_on_the_wire() -> None:
    expected = Hop("s1", NUMBER, "62001", CODE, "1", 2)
    assert Simulator().read_hop(HOP.encode()) == expected
    # an unknown network and a field of tomorrow are the partner's business
    other = HOP.replace("62001", "athena").replace('"1"}', '"é *#","new":[1]}')
    assert Simulator().read_hop(other.encode()) == Hop("s1", NUMBER, "athena", CODE, "é *#", 2)


def test_a_screen_on_the_wire() -> None:
    assert json.loads(Simulator().write_screen('É "a"\nb', False)) == {"screen": 'É "a"\nb', "more": True}
    assert Simulator().write_screen("Bye", True) == b'{"screen": "Bye", "more": false}'


def test_a_notice_on_the_wire() -> None:
    read = Simulator().read_session_ended
    assert read(NOTICE.encode()) == SessionEnded("s1", NUMBER, "62001", CODE, "Incomplete", 41200, 3)
    # what is only for statistics may be missing or odd; an unknown status is kept raw
    odd = NOTICE.replace("Incomplete", "Gone").replace('"hops":3', '"hops":"3"').replace("41200", "-1")
    assert read(odd.encode()) == SessionEnded("s1", NUMBER, "62001", CODE, "Gone")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be JSON in UTF-8"),
        (b"session=s1", "the body must be JSON in UTF-8"),
        (HOP.replace("s1", "\xe9").encode("latin-1"), "the body must be JSON in UTF-8"),
        (b"[" * 60_000, "the body must be JSON in UTF-8"),
        (HOP.replace("2,", "9" * 5000 + ",").encode(), "the body must be JSON in UTF-8"),
        (b"[]", "the body must be a JSON object"),
        (b"{}", "missing: session, msisdn, network, code, input"),
        (HOP.replace('"input":"1"', '"input":"1","input":"2"').encode(), "a field is given twice"),
        (HOP.replace('"1"', "1").replace('"62001"', "null").encode(), "must be a string: network, input"),
        (HOP.replace('"1"', '"\\ud800"').encode(), "must be a string: input"),
        (HOP.replace("s1", "s" * 129).encode(), "too long: session"),
        (HOP.replace('"1"', '"' + "1" * 16_001 + '"').encode(), "too long: input"),
        (HOP.replace("s1", " ").encode(), "empty: session"),
        *(
            (
                HOP.replace(NUMBER, wrong).encode(),
                "msisdn: must be in international form, + and 7 to 15 digits",
            )
            for wrong in ("0240000001", "233240000001", "+23324000000a", "+233240000001\\n", "+٢٣٣٢٤٠٠٠٠٠٠١")
        ),
        *(
            (HOP.replace("2,", wrong + ",").encode(), "sequence: must be a whole number, 1 to 10000")
            for wrong in ("0", "-1", "10001", "true", '"2"', "2.0", "null")
        ),
        (HOP.replace('"sequence":2,', "").encode(), "sequence: must be a whole number, 1 to 10000"),
    ],
)
def test_a_malformed_hop_names_fields_and_no_values(body: bytes, message: str) -> None:
    with pytest.raises(WireError) as raised:
        Simulator().read_hop(body)
    assert (raised.value.status, str(raised.value)) == (400, message)


def test_a_malformed_notice() -> None:
    with pytest.raises(WireError, match=r"^missing: status$"):
        Simulator().read_session_ended(HOP.encode())
