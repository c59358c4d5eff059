"""The words of the results' pages, for everybody and for staff, by language, and how numbers are written."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "fr")
_HERE = Path(__file__).parent
_MONTHS = {
    "en": "January February March April May June July August September October November December".split(),
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split(),
}


@dataclass(frozen=True, slots=True)
class Words:
    """Texts by key, and numbers, in one language."""

    code: str
    texts: Mapping[str, str]
    files: Mapping[str, str]  # of a release: name or ending -> what it is
    says: Mapping[str, str]  # what the program says of itself, from English: states, reasons

    def __getitem__(self, key: str) -> str:
        return self.texts[key]

    def say(self, key: str, **values: object) -> str:
        return self.texts[key].format(**values)

    def said(self, text: str) -> str:
        """What the program says in English, where this language has it; else as it is."""
        return self.says.get(text, text)

    def share(self, percent: str) -> str:
        """ "64.7" -> 64.7% or 64,7 %; "" stays empty."""
        if not percent:
            return ""
        return f"{percent}%" if self.code == "en" else self.bare(percent) + "\N{NO-BREAK SPACE}%"

    def bare(self, percent: str) -> str:
        """The same without its sign."""
        return percent if self.code == "en" else percent.replace(".", ",")

    def number(self, n: int) -> str:
        return f"{n:,}".replace(",", "," if self.code == "en" else "\N{NARROW NO-BREAK SPACE}")

    def date(self, iso: str) -> str:
        """ "2026-11-20" -> 20 November 2026."""
        day = date.fromisoformat(iso)
        return f"{day.day}\N{NO-BREAK SPACE}{_MONTHS[self.code][day.month - 1]} {day.year}"

    def file(self, name: str) -> str:
        """What a file of a release is."""
        return self.files.get(name) or self.files.get(name[name.rfind(".") :], "")


@cache
def words_of(code: str) -> Words:
    """The words of one of LANGUAGES."""
    data = tomllib.loads((_HERE / f"results.{code}.toml").read_text("utf-8"))
    staff = tomllib.loads((_HERE / f"staff.{code}.toml").read_text("utf-8"))
    files, said = data.pop("files"), staff.pop("said", {})
    return Words(code, data | staff, files, said)


def language_of(asked: str, accepted: str) -> str:
    """One of LANGUAGES: what `?lang=` asks for, else what the browser prefers most, else the first."""
    if asked in LANGUAGES:
        return asked
    ranked = []
    for n, part in enumerate(accepted.split(",")[:20]):
        name, _, weight = part.partition(";")
        code = name.strip().lower().partition("-")[0]
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        if code in LANGUAGES and quality > 0:
            ranked.append((-quality, n, code))
    return min(ranked)[2] if ranked else LANGUAGES[0]
