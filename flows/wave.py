"""A wave: one fielding period of an instrument, and everything about it that is not wording.

One TOML file a wave, checked like an instrument. What a wave may change without a new instrument
version: languages offered, which services each respondent gets, order, codes dialled, screen
budgets, windows.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.fielding import Thanks
from flows.gsm import USSD_SEPTETS, fold, unencodable
from flows.instrument import Fault, Instrument, InstrumentError

_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{1,19}\Z")
#: A short code, a number, or a sender's name, of which networks show eleven characters.
_SENDER = re.compile(r"\+?[0-9]{3,15}\Z|(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 ._-]{0,10}\Z")
_DEFAULT_BUDGET = 160  # the least that every network read of shows, bar one at 120


@dataclass(frozen=True, slots=True, eq=False)  # by identity, like Instrument
class Wave:
    """`services_each` 0 = all drawn blocks (the official rule); n = n of them, drawn equally."""

    id: str
    instrument: Instrument
    languages: tuple[str, ...]
    owner: str  # who asks, as named to respondents
    contact: str
    code: str  # the service code as people dial it
    service_codes: tuple[str, ...] = ()  # accepted; empty = any
    services_each: int = 0
    shuffle_blocks: bool = True
    shuffle_items: bool = False
    extension: str = "address"  # keys dialled with the code: address | answers
    resume_hours: int = 72
    budget: int = _DEFAULT_BUDGET  # septets
    budgets: Mapping[str, int] = field(default_factory=dict)  # by network code
    sms_parts: int = 3  # the longest SMS, in parts
    countries: tuple[str, ...] = ("+233",)  # number prefixes served
    keywords: tuple[str, ...] = ("SURVEY",)  # a text that begins with one dials
    sms_sender: str = ""  # short code or name that texts come from; "" = no texting
    thanks: Thanks | None = None  # airtime for who completes; None: none

    def budget_for(self, network_code: str) -> int:
        """Septets that a screen may take on this network."""
        return self.budgets.get(network_code, self.budget)

    def with_instrument(self, instrument: Instrument) -> "Wave":
        """The same wave on another version of its instrument, for an interview begun on that."""
        kept = tuple(x for x in self.languages if x in instrument.languages)
        return replace(self, instrument=instrument, languages=kept or (instrument.default_language,))


_KEYS: dict[str, type] = {
    "id": str, "instrument": str, "languages": list, "allow_drafts": bool, "owner": str, "contact": str,
    "code": str, "service_codes": list, "services_each": int, "shuffle_blocks": bool, "shuffle_items": bool,
    "extension": str, "resume_hours": int, "budget": int, "budgets": dict, "sms_parts": int,
    "countries": list, "keywords": list, "sms_sender": str,
}  # fmt: skip
_REQUIRED = ("id", "instrument", "owner", "contact", "code")


def load_wave(path: Path, instrument: Instrument) -> Wave:
    """The wave in `path`, for `instrument`. Raises InstrumentError listing every fault."""
    name = str(path)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InstrumentError([Fault(name, "-", f"cannot be read: {error}")]) from None
    faults: list[Fault] = []

    def fault(key: str, message: str) -> None:
        faults.append(Fault(name, key, message))

    for key in data.keys() - _KEYS.keys():
        fault(key, f"unknown; known: {', '.join(_KEYS)}")
    for key in _REQUIRED:
        if not data.get(key):
            fault(key, "missing or empty")
    for key, kind in _KEYS.items():
        if key in data and (not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool))):
            fault(key, f"must be a {kind.__name__}")
        elif kind is list and not all(isinstance(x, str) for x in data.get(key, ())):
            fault(key, "must be a list of texts")
    if faults:
        raise InstrumentError(faults)
    if data["instrument"] not in (instrument.id, instrument.reference):
        fault("instrument", f"is {data['instrument']!r}; the instrument read is {instrument.reference}")
    for key in ("owner", "contact", "code"):
        for c in unencodable(fold(data[key])):
            fault(key, f"{c!r} (U+{ord(c):04X}) is not in GSM 03.38 and does not fold; write it otherwise")
    languages = tuple(data.get("languages", [instrument.default_language]))
    for language in languages:
        known = instrument.languages.get(language)
        if known is None:
            fault("languages", f"{language!r} has no text file; known: {', '.join(instrument.languages)}")
        elif known.status != "reviewed" and not data.get("allow_drafts", False):
            fault("languages", f"{language!r} is a draft; have it reviewed, or set allow_drafts = true")
    if not languages:
        fault("languages", "name at least one")
    if len(set(languages)) != len(languages):
        fault("languages", "one of them stands twice")
    countries = data.get("countries", ["+"])
    if not countries:
        fault("countries", "name at least one number prefix, such as +233")
    elif not all(prefix.startswith("+") for prefix in countries):
        fault("countries", "each must begin with +")
    keywords = data.get("keywords", ["SURVEY"])
    if not keywords:
        fault("keywords", "name at least one, such as SURVEY")
    for keyword in keywords:
        if not _KEYWORD.match(keyword):
            fault("keywords", f"{keyword!r} must be one word of 2 to 20 letters and digits, a letter first")
    if len({k.casefold() for k in keywords}) != len(keywords):
        fault("keywords", "one of them stands twice")
    if data.get("sms_sender") and not _SENDER.match(data["sms_sender"]):
        fault("sms_sender", "must be a short code, a number, or a name of at most 11 characters; or empty")
    drawn = sum(b.drawn for b in instrument.blocks)
    if not 0 <= data.get("services_each", 0) <= drawn:
        fault("services_each", f"must be 0 (all) to {drawn}")
    if data.get("extension", "address") not in ("address", "answers"):
        fault("extension", "must be address or answers")
    if data.get("resume_hours", 72) < 1:
        fault("resume_hours", "must be at least 1")
    budgets: Mapping[str, Any] = {"budget": data.get("budget", _DEFAULT_BUDGET)} | {
        f"budgets.{k}": v for k, v in data.get("budgets", {}).items()
    }
    for key, value in budgets.items():
        if not isinstance(value, int) or not 80 <= value <= USSD_SEPTETS:
            fault(key, f"must be 80 to {USSD_SEPTETS} septets")
    if not 1 <= data.get("sms_parts", 3) <= 6:
        fault("sms_parts", "must be 1 to 6")
    if faults:
        raise InstrumentError(faults)
    plain = {k: v for k, v in data.items() if k not in ("instrument", "languages", "allow_drafts")}
    for key in ("service_codes", "countries", "keywords"):
        if key in plain:
            plain[key] = tuple(plain[key])
    return Wave(instrument=instrument, languages=languages, **plain)
