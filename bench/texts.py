"""Plays complete interviews by SMS, as Africa's Talking would post them: `load.py`'s phones, texting.

What a message is answered with goes out by a worker, so the reply to the request says nothing of it: the
phones text by a script, which the engine itself has told beforehand. After the reply, the next message.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus

from bench.load import NOBODYS, Load, _Respondent, answer_by
from flows.engine import Dialled, Replied, step
from flows.wave import Wave


def script(wave: Wave, rules: Sequence[tuple[str, str]]) -> list[str]:
    """What a phone texts from the keyword to the end. Raises ValueError if that depends on the draw."""
    answer, scripts = answer_by(rules), set()
    for seed in range(200):
        taken = step(wave, None, Dialled(0, f"{seed:016x}", seed, "sms"))
        texts = [wave.keywords[0]]
        while not taken.screen.ends:
            texts.append(answer(taken.screen.text))
            taken = step(wave, taken.interview, Replied(len(texts) * 1000, texts[-1]))
        scripts.add(tuple(texts))
    if len(scripts) != 1:
        raise ValueError("the script depends on the order drawn: give rules that answer every order alike")
    return list(scripts.pop())


class TextLoad(Load):
    """`Load`, each hop a message with an id of its own."""

    def __init__(self, url: str, texts: Sequence[str], *, short_code: str = "1616", **more: Any):
        super().__init__(url, **more)
        self.texts = [quote_plus(text).encode() for text in texts]
        self.fields = (
            f"date={quote_plus('2026-11-23 08:00:00')}&to={short_code}&networkCode=62001&cost=GHS+0.00"
        )

    def begin(self, respondent: _Respondent) -> None:
        """The keyword from a number that has not texted before."""
        self.begun += 1
        number = next(self.numbers)
        respondent.head = (
            f"{self.fields}&from={quote_plus(NOBODYS)}{number % 10**8:08d}&id=bench-{self.run_id}-{number}-"
        ).encode()
        respondent.hops = 0
        self.post(respondent)

    def body(self, respondent: _Respondent) -> bytes:
        hop = respondent.hops
        return b"%b%d&text=%b" % (respondent.head, hop, self.texts[hop])

    def read(self, respondent: _Respondent, status: bytes, body: bytes) -> None:
        self.note(respondent)
        if status != b"200" or body != b"OK":
            self.fail(respondent, f"status {status.decode()}")
        elif respondent.hops < len(self.texts):
            self.post(respondent)
        else:
            self.counted += 1
            self.finish(respondent)
