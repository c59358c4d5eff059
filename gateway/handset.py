"""The terminal handset: `python main.py dial`. A small phone in the terminal, on the simulator's webhook.

Reads answers and commands line by line, from a person or from a pipe. Standard library and rich only, as
it runs where the gateway runs. The wire: gateway/aggregators/simulator.py.
"""

import json
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from flows.gsm import SEPTETS

FAILURE = "Connection problem or invalid MMI code."
HELP = """\
Type an answer and press Enter, or a command:
  again     the network sends the last hop once more
  hang up   end the call; the gateway is told
  redial    dial again; a call still open is dropped, and nobody tells the gateway
  dial ...  the same with more keys, such as dial *384*16*1#
  quit      hang up and leave, as the end of input does
  help      this text
A line that begins with > is an answer whatever it says: > again"""

_DEADLINE_SECONDS = 10  # as long as an aggregator waits
_WIDTH = 38  # of the drawn phone, in columns


class CallFailed(Exception):
    """A hop got no screen. The message says why, and what to do; it never holds the secret."""


@dataclass(slots=True)
class _Session:
    id: str
    began: float
    sequence: int = 1
    input: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    text: str
    more: bool  # a reply is wanted


@dataclass(slots=True)
class Handset:
    """One phone: where it posts, the session it is in, and the dialogue so far as a transcript's lines."""

    base_url: str
    secret: str = field(repr=False)
    code: str
    msisdn: str
    network: str
    session: _Session | None = None
    transcript: list[str] = field(default_factory=list)
    answered: bool = False  # a screen has come, at least once

    def dial(self, keys: str) -> Shown:
        """Dials the code, or the code with more keys before its #.

        A session still open is dropped: the gateway hears nothing of that.
        """
        if self.session is not None:
            self.transcript.append("# connection dropped")
            self.session = None
        stem = self.code.removesuffix("#") + "*"
        if keys != self.code and not (keys.startswith(stem) and keys.endswith("#")):
            raise CallFailed(f"This network knows {self.code} and {stem}...# only.")
        self.transcript.append(f"dial {keys}")
        self.session = _Session("terminal_" + secrets.token_hex(8), time.monotonic())
        self.session.input = keys.removeprefix(stem).removesuffix("#") if keys != self.code else ""
        return self._hop(self.session)

    def reply(self, session: _Session, text: str) -> Shown:
        self.transcript.append(f"> {text}")
        session.sequence += 1
        session.input = text
        return self._hop(session)

    def again(self, session: _Session) -> Shown:
        self.transcript.append("again")
        return self._hop(session)

    def hang_up(self) -> None:
        if self.session is not None:
            self.transcript.append("hang up")
            self._end(self.session, "Incomplete")

    def _hop(self, session: _Session) -> Shown:
        try:
            reply = self._post(session, "/ussd", {"sequence": session.sequence, "input": session.input})
            try:
                answered = json.loads(reply)
                shown = Shown(str(answered["screen"]), bool(answered["more"]))
            except (ValueError, KeyError, TypeError):
                raise CallFailed("What the gateway answered is not a screen.") from None
        except CallFailed:
            self.transcript.append(f"# {FAILURE}")
            self._end(session, "Failed")
            raise
        self.answered = True
        self.transcript.append(("CON " if shown.more else "END ") + shown.text)
        if not shown.more:
            self._end(session, "Success")
        return shown

    def _end(self, session: _Session, status: str) -> None:
        """Sends the notice that the session is over. If that is lost, so be it, as in the field."""
        self.session = None
        spent = round((time.monotonic() - session.began) * 1000)
        with suppress(CallFailed):
            notice = {"status": status, "hops": session.sequence, "duration_ms": spent}
            self._post(session, "/ussd/events", notice)

    def _post(self, session: _Session, path: str, fields: dict[str, Any]) -> bytes:
        body = {"session": session.id, "msisdn": self.msisdn, "network": self.network, "code": self.code}
        request = Request(
            f"{self.base_url.rstrip('/')}/hooks/simulator/{self.secret}{path}",
            json.dumps(body | fields).encode(),
            {"Content-Type": "application/json"},
        )
        # No proxy: the gateway is this machine or near it, and the address holds the secret.
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=_DEADLINE_SECONDS) as reply:
                return bytes(reply.read())
        except HTTPError as error:
            raise CallFailed(_explain(error)) from None
        except URLError as error:
            raise CallFailed(f"No gateway at {self.base_url}: {error.reason}. Is it running?") from None
        except (OSError, HTTPException) as error:  # it was there, and broke off or took too long
            raise CallFailed(f"The gateway at {self.base_url} did not answer: {error}.") from None


def _explain(error: HTTPError) -> str:
    if error.code == 404:
        return "The gateway has no such webhook: check the secret, and that the simulator is on."
    with suppress(OSError, HTTPException):
        if said := error.read(500).decode(errors="replace").strip():
            return f"The gateway answered {error.code}: {said}"
    return f"The gateway answered {error.code}."


def dial(
    base_url: str, secret: str, code: str, msisdn: str, network: str = "99999", save: Path | None = None
) -> int:
    """Dials, then converses until `quit` or the end of input. Returns an exit status: 1 if a hop failed.

    `save`: a new file that gets the dialogue as a transcript, for tests/transcripts.
    """
    console = Console(highlight=False)
    handset = Handset(base_url, secret, code, msisdn, network)
    status = 0
    if save is not None and (save.exists() or not save.parent.is_dir()):
        console.print(f"{save}: {'exists already' if save.exists() else 'no such folder'}.", style="red")
        return 1
    line = "redial"
    try:
        while line != "quit":
            try:
                _obey(line, handset, console)
            except CallFailed as error:
                status = 1
                _draw(console, handset, Shown(FAILURE, False))
                console.print(str(error), style="red", markup=False)
                if not handset.answered:  # not even the first dial: nobody to converse with
                    return status
            line = _read_line(handset.session is not None)
    except KeyboardInterrupt:
        console.print()
    finally:
        handset.hang_up()
        if save is not None and handset.answered:
            save.write_text("\n".join(handset.transcript) + "\n", "utf-8")
            console.print(f"Saved to {save}", style="dim", markup=False)
    return status


def _obey(line: str, handset: Handset, console: Console) -> None:
    session = handset.session
    if line == "help":
        console.print(HELP, markup=False)
    elif line == "redial" or line.startswith("dial "):
        keys = line.removeprefix("dial").replace(" ", "") if line != "redial" else handset.code
        _draw(console, handset, handset.dial(keys))
    elif session is None:
        console.print("No call in progress: redial, or quit.", style="dim")
    elif line == "again":
        _draw(console, handset, handset.again(session))
    elif line == "hang up":
        handset.hang_up()
        console.print("Call ended. redial, or quit.", style="dim")
    else:
        text = line[1:].removeprefix(" ") if line.startswith(">") else line
        _draw(console, handset, handset.reply(session, text))


def _draw(console: Console, handset: Handset, shown: Shown) -> None:
    size = sum(SEPTETS.get(c, 1) for c in shown.text)
    console.print(
        Panel(
            Text(shown.text),
            title=Text(handset.msisdn, "bold"),
            subtitle=Text(f"{size} characters" + ("" if shown.more else ", call over"), "dim"),
            border_style="green" if shown.more else "dim",
            width=_WIDTH,
            padding=(0, 1),
        )
    )


def _read_line(in_call: bool) -> str:
    """The next line, trimmed; "quit" at the end of input. A piped line is shown, as a typed one would be."""
    prompt = "> " if in_call else "(no call) "
    if sys.stdin.isatty():
        try:
            return input(prompt).strip()
        except EOFError:
            return "quit"
    line = sys.stdin.readline()
    if not line:
        return "quit"
    print(prompt + line.strip())
    return line.strip()
