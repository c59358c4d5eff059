"""Interviews with everything in them that an export may stumble over, on an instrument with hostile words."""

import json
from collections.abc import Iterator
from random import Random

from flows.instrument import Instrument, parse
from tests.record_material import SMALL, Dialogue, Entry, ended

KEY = b"k" * 32
#: What a spreadsheet, a statistics package or XML might take for something else than text.
NASTY = "=CMD|'/C calc'!A0 \"quoted\"\nsecond line; $x `y' </labl> & %s \\n Ɛɔ 😀"
LONG = "Ɛ" * 200  # 400 bytes, two a character
OPTION = "=HYPERLINK(\"x\";'b') @ $x; 50% & <b>"

_MORE = """
[[blocks.items]]
id = "sex"
role = "sex"
label = "Sex"
scale = "sex"
[[blocks.items]]
id = "function"  # a word that R keeps for itself
role = "disability"
label = "WG seeing"
scale = "yes_no"
sensitive = true
ask_if = [{ "sex" = ["male", "female"] }]
"""


def hostile() -> Instrument:
    """SMALL, with a sex, a sensitive item, an item that depends on another, and nasty words."""
    asked, words = SMALL.sources["questionnaire.toml"], SMALL.sources["en.toml"]
    asked = asked.replace('label = "water a1"', f"label = {json.dumps(NASTY, ensure_ascii=False)}")
    asked = asked.replace('label = "water a2"', f"label = {json.dumps(LONG, ensure_ascii=False)}")
    asked = asked.replace('title = "Small"', f"title = {json.dumps(NASTY, ensure_ascii=False)}")
    asked = asked.replace('scale = "region"\n[[', f'scale = "region"\n{_MORE}[[', 1)
    asked = asked.replace(
        "[[blocks]]", 'sex = [{ id = "male", code = 1 }, { id = "female", code = 2 }]\n[[blocks]]', 1
    )
    words = words.replace('"=Disagree"', json.dumps(OPTION))
    words = words.replace(
        "[scales.region]", '[scales.sex]\nmale = "Male"\nfemale = "Female"\n[scales.region]'
    )
    words += '\n[items.sex]\ntext = "Male or female?"\n[items.function]\ntext = "Difficulty seeing?"'
    words = words.replace('[items."water.a1"]\ntext = "', '[items."water.a1"]\ntext = "+{owner}: ')
    return parse({"questionnaire.toml": asked, "en.toml": words})


HOSTILE = hostile()
_CODES = {o.id: o.code for s in HOSTILE.scales.values() for o in s.options} | dict(HOSTILE.codes)
_AGREEMENT = [o.id for o in HOSTILE.scales["agreement"].options] + list(HOSTILE.codes)


def number_of(wave: str) -> int:
    return sum(wave.encode())


class Taken(Dialogue):
    """A dialogue on HOSTILE."""

    def start(self, blocks: str = "water roads", chance: float = 1.0, wave: str = "pilot-2026") -> None:
        began = self.begin()
        self.interview = f"{number_of(wave):04x}{self.interview[4:]}"
        began |= {"wave": wave, "interview": self.interview}
        began["effects"][0] |= {
            "wave": wave, "blocks": blocks, "probabilities": dict.fromkeys(blocks.split(), chance),
        }  # fmt: skip
        self.wave = wave

    def hop(self, *effects: Entry, **about: object) -> Entry:
        entry = super().hop(*effects, **about)  # type: ignore[arg-type]
        entry["wave"] = getattr(self, "wave", entry["wave"])
        return entry

    def give(self, item: str, option: str | int, *more: Entry) -> None:
        given = {
            "kind": "ResponseGiven", "item": item, "seconds": 4.2, "tries": 1,
            "option": "" if isinstance(option, int) else option,
            "code": option if isinstance(option, int) else _CODES[option],
        }  # fmt: skip
        self.hop(given, *more, shown=item, ends=any(m["kind"] == "Ended" for m in more))


def interviews(count: int, seed: int = 16, wave: str = "pilot-2026", first: int = 1) -> Iterator[Taken]:
    """Complete, left half-way, refused, withdrawn and made-up interviews, in all sorts of cells."""
    random = Random(seed)
    for number in range(first, first + count):
        d = Taken(number)
        kind = random.choices(["complete", "left", "refused", "withdrawn", "simulated"], [70, 20, 4, 3, 3])[0]
        if kind == "simulated":
            d.aggregator = "simulator"
        split = random.random() < 0.3
        blocks = random.choice(["water", "roads"]) if split else "water roads"
        d.start(blocks, 0.5 if split else 1.0, wave)
        if kind == "refused":
            d.give("consent", "no", ended("refusal"))
            yield d
            continue
        d.give("consent", "yes", {"kind": "Consented", "version": "2026-1"})
        answers: list[tuple[str, str | int]] = [
            ("age", random.choice([18, 30, 34, 35, 97, 98, 110]) if random.random() < 0.9 else "refused"),
            ("region", random.choices(["gh_aa", "gh_af", "abroad", "dont_know"], [60, 30, 5, 5])[0]),
            ("sex", random.choices(["male", "female", "refused"], [50, 47, 3])[0]),
        ]
        if answers[2][1] != "refused":
            answers.append(("function", random.choice(["yes", "no", "dont_know"])))
        items = [i.id for i in HOSTILE.items if i.service in blocks.split()]
        answers += [(item, random.choice(_AGREEMENT)) for item in items]
        if kind == "left":
            answers = answers[: random.randint(0, len(answers) - 1)]
        for n, (item, option) in enumerate(answers):
            last = kind in ("complete", "simulated") and n == len(answers) - 1
            d.give(item, option, *([ended()] if last else []))
        if kind == "withdrawn":
            d.withdraw()
        yield d


def entries(dialogues: Iterator[Taken]) -> list[Entry]:
    return [e for d in dialogues for e in d.entries]
