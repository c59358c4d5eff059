"""A wave: one fielding period of an instrument, and everything about it that is not wording.

One TOML file a wave, checked like an instrument; several at once: `waves.py`. What a wave may change
without a new instrument version: languages offered, which services each respondent gets, order, codes
dialled, screen budgets, when it is open, when people may be written to.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.fielding import Contact, Opening, Quota, Sharing, Thanks
from flows.gsm import USSD_SEPTETS, fold, unencodable
from flows.instrument import Fault, Instrument, InstrumentError
from flows.quotas import read_quotas
from flows.results import Results

#: The contact of the wave file as delivered: nobody's number.
PLACEHOLDER_CONTACT = "0800 000 000"
#: A wave's id names the folder of its releases, a column's values, a word on the command line.
WAVE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{1,19}\Z")
#: A short code, a number, or a sender's name, of which networks show eleven characters.
_SENDER = re.compile(r"\+?[0-9]{3,15}\Z|(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 ._-]{0,10}\Z")
_CURRENCY = re.compile(r"[A-Z]{3}\Z")  # ISO 4217
_EXTENSION = re.compile(r"[0-9]{1,4}\Z")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
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
    today: "Wave | None" = None  # on an older version: the wave that what begins anew begins in
    keywords: tuple[str, ...] = ("SURVEY",)  # a text that begins with one dials
    sms_sender: str = ""  # short code or name that texts come from; "" = no texting
    modules: tuple[str, ...] = ()  # drawn blocks that this wave asks; empty = all
    contacting: Contact = field(default_factory=Contact)
    thanks: Thanks | None = None  # None: no airtime
    opening: Opening = field(default_factory=Opening)
    quotas: tuple[Quota, ...] = ()
    closed: bool = False  # who dials gets results and withdrawal, and no question; see engine.py
    file: str = ""  # it was read from, for messages
    sharing: Sharing = field(default_factory=Sharing)
    results: Results | None = None  # what is out; put in by the gateway, not by the file

    @property
    def codes(self) -> tuple[str, ...]:
        """The service codes that are its own, where several waves are fielded at once."""
        return self.service_codes or (self.code,)

    @property
    def drawn(self) -> tuple[int, ...]:
        """Indexes of the blocks that respondents draw from."""
        return tuple(
            b.index for b in self.instrument.blocks if b.drawn and (not self.modules or b.id in self.modules)
        )

    def budget_for(self, network_code: str) -> int:
        """Septets that a screen may take on this network."""
        return self.budgets.get(network_code, self.budget)

    def with_instrument(self, instrument: Instrument) -> "Wave":
        """The same wave on another version of its instrument, for an interview begun on that."""
        kept = tuple(x for x in self.languages if x in instrument.languages)
        return replace(
            self, instrument=instrument, today=self, languages=kept or (instrument.default_language,)
        )


def unfit_id(wave: Wave) -> str:
    """What is wrong with the wave's id; "" if nothing is.

    No fault of the file: people may have taken part under it, and under another they would be asked again.
    """
    if WAVE_ID.match(wave.id):
        return ""
    return (
        f"{wave.file}: id: {wave.id!r} cannot name a folder of releases: give 1 to 64 letters (A to Z),"
        " digits, . _ -, a letter or digit first"
    )


_KEYS: dict[str, type] = {
    "id": str, "instrument": str, "languages": list, "allow_drafts": bool, "owner": str, "contact": str,
    "code": str, "free": bool, "service_codes": list, "services_each": int, "shuffle_blocks": bool,
    "shuffle_items": bool, "extension": str, "resume_hours": int, "budget": int, "budgets": dict,
    "sms_parts": int, "countries": list, "keywords": list, "sms_sender": str, "modules": list,
}  # fmt: skip
_MONEY = (str, int, Decimal)
#: The tables of a wave file, and what may stand in each.
_TABLES: dict[str, dict[str, tuple[type, ...]]] = {
    "opening": {"opens_at": (datetime,), "closes_at": (datetime,)},
    "contacting": {
        "start": (time,), "end": (time,), "days": (list,), "zone": (str,), "reminders": (int,),
        "reminder_hours": (int,), "rest_days": (int,),
    },
    "thanks": {"amount": _MONEY, "currency": (str,), "budget": _MONEY},
    "results": {"extension": (str,), "by_sms": (bool,), "earlier": (list,)},
}  # fmt: skip
_HOW = {
    datetime: "a date and time with its offset from UTC, such as 2026-12-01T08:00:00+00:00",
    time: "a time without quotation marks, such as 08:00:00",
    list: "a list", str: "a text", int: "a whole number", bool: "true or false",
}  # fmt: skip
_REQUIRED = ("id", "instrument", "owner", "contact", "code", "free")
_NOT_FREE = (
    "must be true, for the consent says that the call is free: make the code free of charge"
    " (reverse-billed), or change the consent text and raise the instrument's version"
)


def read_wave_file(path: Path) -> tuple[Mapping[str, Any], list[Fault]]:
    """What stands in a wave file, and the faults that can be told without the instrument."""
    name = str(path)
    try:
        data = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, [Fault(name, "-", f"cannot be read: {error}")]
    faults: list[Fault] = []

    def fault(key: str, message: str) -> None:
        faults.append(Fault(name, key, message))

    for key in sorted(data.keys() - _KEYS.keys() - _TABLES.keys() - {"quota"}):
        fault(key, f"unknown; known: {', '.join([*_KEYS, *_TABLES, 'quota'])}")
    for key in _REQUIRED:
        if key != "free" and not data.get(key):
            fault(key, "missing or empty")
    if data.get("free", False) is False:
        fault("free", _NOT_FREE)
    for key, kind in _KEYS.items():
        if key in data and (not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool))):
            fault(key, f"must be a {kind.__name__}")
        elif kind is list and not all(isinstance(x, str) for x in data.get(key, ())):
            fault(key, "must be a list of texts")
    for table, keys in _TABLES.items():
        if table in data:
            faults += [Fault(name, *found) for found in _table_faults(table, data[table], keys)]
    return data, faults


def _table_faults(
    table: str, given: object, keys: Mapping[str, tuple[type, ...]]
) -> Iterator[tuple[str, str]]:
    """Key and message of what is unknown or of another kind."""
    if not isinstance(given, dict):
        yield table, f"must be a table: write [{table}] on a line, and its keys below"
        return
    for key in sorted(given.keys() - keys.keys()):
        yield f"{table}.{key}", f"unknown; known: {', '.join(keys)}"
    for key, kinds in keys.items():
        if key in given and (
            not isinstance(given[key], kinds) or (isinstance(given[key], bool) and bool not in kinds)
        ):
            how = "an amount in quotation marks" if kinds is _MONEY else _HOW[kinds[0]]
            yield f"{table}.{key}", f"must be {how}"


def load_wave(path: Path, *instruments: Instrument) -> Wave:
    """The wave in `path`, on the one of `instruments` that it names. Raises InstrumentError listing
    every fault."""
    data, faults = read_wave_file(path)
    if faults:
        raise InstrumentError(faults)
    name = str(path)
    named = [i for i in instruments if data["instrument"] in (i.id, i.reference)]
    if len(named) != 1:
        there = ", ".join(i.reference for i in instruments)
        what = "several versions of it are there; name one" if named else "no such one is there"
        raise InstrumentError(
            [Fault(name, "instrument", f"is {data['instrument']!r}: {what}; there are: {there}")]
        )
    instrument = named[0]

    def fault(key: str, message: str) -> None:
        faults.append(Fault(name, key, message))

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
    blocks = [b.id for b in instrument.blocks if b.drawn]
    modules = data.get("modules", [])
    for module in modules:
        if module not in blocks:
            fault("modules", f"{module!r} is no block that is drawn; known: {', '.join(blocks) or 'none'}")
    if len(set(modules)) != len(modules):
        fault("modules", "one of them stands twice")
    drawn = len(modules or blocks)
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
    opening = _read_opening(data.get("opening", {}), fault)
    contacting = _read_contacting(data.get("contacting", {}), fault)
    thanks = _read_thanks(data["thanks"], fault) if "thanks" in data else None
    quotas = read_quotas(data.get("quota", []), instrument, fault)
    sharing = _read_sharing(data, fault)
    if faults:
        raise InstrumentError(faults)
    plain: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in data.items()
        if k in _KEYS and k not in ("instrument", "languages", "allow_drafts", "free")
    }
    return Wave(
        instrument=instrument, languages=languages, opening=opening, contacting=contacting, thanks=thanks,
        quotas=quotas, sharing=sharing, file=name, **plain,
    )  # fmt: skip


# ---------------------------------------------------------------- tables

_Told = Callable[[str, str], None]  # of a fault: key, message


def _read_opening(given: Mapping[str, Any], fault: _Told) -> Opening:
    for key, at in given.items():
        if at.tzinfo is None:
            fault(f"opening.{key}", "give its offset from UTC too, such as 2026-12-01T08:00:00+00:00")
            return Opening()
    opening = Opening(**given)
    if opening.opens_at and opening.closes_at and opening.opens_at >= opening.closes_at:
        fault("opening.closes_at", "must be later than opens_at")
    return opening


def _read_contacting(given: Mapping[str, Any], fault: _Told) -> Contact:
    usual = Contact()
    read: dict[str, Any] = {k: given.get(k, getattr(usual, k)) for k in _TABLES["contacting"]}
    if read["start"] >= read["end"]:
        fault("contacting.end", "must be later than start, on the same day")
        return usual
    if "days" in given:
        days = given["days"]
        for day in days:
            if day not in _DAYS:
                fault("contacting.days", f"{day!r} is none of {', '.join(_DAYS)}")
        if not days:
            fault("contacting.days", f"name at least one of {', '.join(_DAYS)}")
            return usual
        read["days"] = frozenset(_DAYS.index(day) for day in days if day in _DAYS)
    if "zone" in given:
        try:
            read["zone"] = ZoneInfo(given["zone"])
        except (ValueError, OSError):  # not found: ZoneInfoNotFoundError, a KeyError
            fault("contacting.zone", f"{given['zone']!r} is no time zone; write one such as Africa/Accra")
        except KeyError:
            fault("contacting.zone", f"no time zone {given['zone']!r} here; write one such as Africa/Accra")
    for key, least, most in (("reminders", 0, 10), ("reminder_hours", 1, 2400), ("rest_days", 0, 3650)):
        if not least <= read[key] <= most:
            fault(f"contacting.{key}", f"must be {least} to {most}")
    return Contact(**read) if read["start"] < read["end"] and read["days"] else usual


def _read_sharing(data: Mapping[str, Any], fault: _Told) -> Sharing:
    given = data.get("results", {})
    extension, earlier = given.get("extension", ""), given.get("earlier", [])
    if extension and not _EXTENSION.match(extension):
        fault("results.extension", 'must be 1 to 4 digits in quotation marks, such as "9" for *384*16*9#')
    if extension and data.get("extension", "address") != "address":
        fault("results.extension", 'keys dialled with the code are answers here; set extension = "address"')
    if given.get("by_sms") and not data.get("sms_sender"):
        fault("results.by_sms", "there is no sms_sender to text from; give one")
    if not all(isinstance(wave, str) and wave for wave in earlier):
        fault("results.earlier", "must be a list of wave ids")
    return Sharing(extension, given.get("by_sms", False), tuple(earlier))


def _read_thanks(given: Mapping[str, Any], fault: _Told) -> Thanks | None:
    money: dict[str, Decimal] = {}
    for key in ("amount", "budget"):
        if key not in given:
            fault(f"thanks.{key}", 'missing; give an amount in quotation marks, such as "1.50"')
            continue
        try:
            amount = Decimal(given[key])
        except InvalidOperation:
            fault(f"thanks.{key}", f'{given[key]!r} is no amount; write one such as "1.50"')
            continue
        exponent = amount.as_tuple().exponent
        if isinstance(exponent, int) and 0 < amount < 10**9 and exponent >= -2:
            money[key] = amount
        else:  # also NaN and Infinity, whose exponent is a letter
            fault(f"thanks.{key}", "must be more than 0 and less than 1000000000, with at most two decimals")
    if not _CURRENCY.match(given.get("currency", "")):
        fault("thanks.currency", "must be three capital letters (ISO 4217), such as GHS")
    if len(money) < 2:
        return None
    if money["budget"] < money["amount"]:
        fault("thanks.budget", "is less than one amount")
    return Thanks(money["amount"], given.get("currency", ""), money["budget"])
