"""Samples: numbers read from a CSV file, or drawn at random from a country's number plan.

    CSV     a column `msisdn`, and if wanted `language`, `stratum`, `probability`, `replicate`.
            Every fault is listed by row, column and what to do; a fault never shows the number.
    draw    random digit dialling: a simple random sample without replacement of all numbers of the
            plan's blocks. Number i of the frame is drawn with count / frame size, and seed, plan and
            count give the same numbers again (`draw`).

Rows are counted as a spreadsheet shows them: the heading is row 1. Nothing here reads a clock, a
network or a database.
"""

import csv
import json
import random
import re
import tomllib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType, ValidationResult

from flows.questionnaire import Fault

COLUMNS = ("msisdn", "language", "stratum", "probability", "replicate")
PLANS = Path(__file__).with_name("number_plans.toml")
_MOBILE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
_DRAW = "sha256 counter 1"  # how `draw` makes numbers of a seed; another way gets another name
_ROUNDED = re.compile(r"[0-9][eE][+0-9]|\.[0-9]{1,2}\Z")  # 2.33E+11, 233244000000.0
_MOST_TEXT = 100  # characters of a stratum's name


class SampleError(Exception):
    """A sample or number plan cannot be used. `faults` lists every one; mend them, then load again."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class Sampled:
    """One number of a sample. `network`: whom its prefix was given to, as MCC and MNC."""

    msisdn: str = field(repr=False)  # E.164 with +
    source: str  # csv, rdd
    replicate: int = 1
    probability: float | None = None
    stratum: str | None = None
    network: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """`draw`: JSON of what draws the same numbers again; None if they were not drawn here."""

    numbers: tuple[Sampled, ...]
    faults: tuple[Fault, ...] = ()
    draw: str | None = None


# ---------------------------------------------------------------- number plans


@dataclass(frozen=True, slots=True)
class Block:
    """All numbers that begin with `prefix`, after the calling code."""

    prefix: str
    operator: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A country's mobile numbers: `digits` after the calling code, in blocks of consecutive numbers."""

    country: str  # ISO 3166-1
    calling_code: str
    digits: int
    blocks: tuple[Block, ...]
    source: str = ""

    @property
    def size(self) -> int:
        return sum(self.block_size(b) for b in self.blocks)

    def block_size(self, block: Block) -> int:
        return int(10 ** (self.digits - len(block.prefix)))

    def number(self, block: Block, n: int) -> str:
        """Number n, from 0, of a block, in E.164."""
        return f"+{self.calling_code}{block.prefix}{n:0{self.digits - len(block.prefix)}d}"

    def block_of(self, msisdn: str) -> Block | None:
        national = msisdn.removeprefix(f"+{self.calling_code}")
        return next((b for b in self.blocks if national != msisdn and national.startswith(b.prefix)), None)

    def only(self, prefixes: Collection[str]) -> "Plan":
        """The blocks that begin with one of these prefixes. Raises SampleError if one names none."""
        for prefix in prefixes:
            if not any(b.prefix.startswith(prefix) for b in self.blocks):
                known = " ".join(b.prefix for b in self.blocks)
                raise SampleError(
                    [Fault("number plan", prefix or "-", f"no block begins with it; there are {known}")]
                )
        kept = tuple(b for b in self.blocks if b.prefix.startswith(tuple(prefixes)))
        return replace(self, blocks=kept)


def read_plan(country: str, path: Path = PLANS) -> Plan:
    """The country's number plan. Raises SampleError listing every fault."""
    name = path.name
    try:
        plans = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SampleError([Fault(name, "-", f"cannot be read: {error}")]) from None
    table = plans.get(country)
    if not isinstance(table, dict):
        raise SampleError([Fault(name, country, f"is not in it; there are {', '.join(plans) or 'none'}")])
    faults = []
    calling_code, digits, blocks = table.get("calling_code"), table.get("digits"), table.get("blocks")
    if not isinstance(calling_code, str) or not calling_code.isdecimal():
        faults.append(Fault(name, f"{country}.calling_code", "must be digits in quotes"))
    if type(digits) is not int or not 4 <= digits <= 14:  # E.164: at most 15 digits with the calling code
        faults.append(Fault(name, f"{country}.digits", "must be a whole number from 4 to 14"))
    if not isinstance(blocks, list) or not blocks:
        faults.append(Fault(name, f"{country}.blocks", "must list at least one block"))
    if faults:
        raise SampleError(faults)
    read: list[Block] = []
    for n, one in enumerate(blocks or (), 1):
        key = f"{country}.blocks, number {n}"
        unknown = set(one) - {"prefix", "operator", "network"} if isinstance(one, dict) else {"-"}
        if unknown or not all(isinstance(v, str) for v in one.values()) or not one.get("prefix"):
            faults.append(Fault(name, key, "must hold prefix and if wanted operator, network, in quotes"))
            continue
        block = Block(**one)
        if not block.prefix.isdecimal() or not block.prefix.isascii() or len(block.prefix) >= (digits or 0):
            faults.append(Fault(name, key, f"prefix must have 1 to {(digits or 0) - 1} digits"))
        elif any(b.prefix.startswith(block.prefix) or block.prefix.startswith(b.prefix) for b in read):
            faults.append(Fault(name, key, f"{block.prefix} overlaps another block; leave one out"))
        else:
            read.append(block)
    plan = Plan(country, calling_code or "", digits or 0, tuple(read), str(table.get("source", "")))
    faults += [Fault(name, f"{country}.blocks", message) for message in _strange_blocks(plan)]
    if faults:
        raise SampleError(faults)
    return plan


def plan_serving(countries: Collection[str], path: Path = PLANS) -> Plan | None:
    """The first plan in the file of a country whose prefix, such as +233, is among these."""
    plans = (read_plan(country, path) for country in tomllib.loads(path.read_text("utf-8")))
    return next((plan for plan in plans if f"+{plan.calling_code}" in countries), None)


def _strange_blocks(plan: Plan) -> Iterator[str]:
    """Blocks whose numbers phonenumbers does not know as the country's mobile numbers."""
    for block in plan.blocks:
        size = plan.block_size(block)
        for n in (0, *(size * k // 97 for k in range(1, 97)), size - 1):  # spread over the block
            number = phonenumbers.parse(plan.number(block, n))
            region = phonenumbers.region_code_for_number(number)
            if phonenumbers.number_type(number) not in _MOBILE or region != plan.country:
                yield (
                    f"{block.prefix}: not all of its numbers are mobile numbers of {plan.country};"
                    " give longer prefixes, or leave it out"
                )
                break


# ---------------------------------------------------------------- random digit dialling


def draw(plan: Plan, count: int, seed: str) -> Sample:
    """`count` different numbers of the plan, each equally likely, in random order.

    The i-th candidate is SHA-256 of the seed and i, as a number below 2**64, modulo the frame's size;
    the few beyond the last multiple of that size, which would favour low numbers, and those drawn
    already are passed over. So a seed gives the same numbers on any machine, and more of them begin
    with the fewer. Raises SampleError if the plan has not so many.
    """
    frame = plan.size
    if not 1 <= count <= frame:
        raise SampleError([Fault("draw", "count", f"must be 1 to {frame}, the numbers of the plan's blocks")])
    starts = [0, *accumulate(plan.block_size(b) for b in plan.blocks)]
    limit = 2**64 // frame * frame
    probability = count / frame
    chosen: dict[int, None] = {}
    i = 0
    while len(chosen) < count:
        value = int.from_bytes(sha256(f"dial16 draw 1:{seed}:{i}".encode()).digest()[:8], "big")
        i += 1
        if value < limit:
            chosen[value % frame] = None
    numbers = []
    for index in chosen:
        at = bisect_right(starts, index) - 1
        block = plan.blocks[at]
        numbers.append(
            Sampled(
                plan.number(block, index - starts[at]),
                "rdd",
                probability=probability,
                stratum=block.operator or None,
                network=block.network or None,
            )
        )
    how = {
        "how": _DRAW, "seed": seed, "count": count, "frame": frame, "country": plan.country,
        "calling_code": plan.calling_code, "digits": plan.digits, "source": plan.source,
        "blocks": [[b.prefix, b.operator, b.network] for b in plan.blocks],
    }  # fmt: skip
    return Sample(tuple(numbers), draw=json.dumps(how))


def draw_again(drawn: str) -> Sample:
    """The sample that `Sample.draw` tells of. Raises SampleError if this release draws otherwise."""
    how = json.loads(drawn)
    if how["how"] != _DRAW:
        raise SampleError([Fault("draw", "how", f"{how['how']!r} is not known to this release")])
    blocks = tuple(Block(*b) for b in how["blocks"])
    plan = Plan(how["country"], how["calling_code"], how["digits"], blocks, how["source"])
    return draw(plan, how["count"], how["seed"])


def in_replicates(sample: Sample, count: int, seed: str) -> Sample:
    """The sample in `count` replicates of equal size, each a random part of it.

    A drawn sample stands in random order already; the order of a file is made random by `seed`.
    """
    order = list(range(len(sample.numbers)))
    if sample.draw is None:
        random.Random(f"dial16 replicates 1:{seed}").shuffle(order)
    numbers = list(sample.numbers)
    for place, index in enumerate(order):
        numbers[index] = replace(numbers[index], replicate=place * count // len(order) + 1)
    return replace(sample, numbers=tuple(numbers))


# ---------------------------------------------------------------- CSV


def read_sample(
    lines: Iterable[str],
    name: str,
    *,
    countries: Sequence[str],
    languages: Collection[str],
    plan: Plan | None = None,
) -> Sample:
    """The sample in the lines of a CSV file; `name` is the file's, for faults.

    countries: prefixes served, such as +233. With one alone, numbers may stand as they are dialled
    inside that country. languages: those of the wave. plan: for the networks of numbers.
    """
    lines = iter(lines)
    first = next(lines, "").lstrip("﻿")
    delimiter = max(",;\t", key=first.count)
    heading = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    if faults := [Fault(name, "row 1", message) for message in _heading_faults(heading)]:
        return Sample((), tuple(faults))
    reader = _Rows(name, heading, countries, languages, plan)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    try:
        for number, row in enumerate(rows, 2):
            if any(cell.strip() for cell in row):
                reader.read(number, row)
    except csv.Error:
        reader.fault(number + 1, "-", "a quotation mark is not closed; close it")
    return Sample(tuple(reader.numbers), tuple(reader.faults))


def _heading_faults(heading: Sequence[str]) -> Iterator[str]:
    if "msisdn" not in heading:
        yield "has no column msisdn; the first row must name the columns"
        return  # it may be a number: show nothing of it
    for column in dict.fromkeys(heading):
        if column not in COLUMNS:
            yield f"column {column[:20]!r} is unknown; there are {', '.join(COLUMNS)}"
        elif heading.count(column) > 1:
            yield f"column {column} stands twice"


class _Rows:
    """Reads row by row; remembers numbers seen, so that the second of two is the fault."""

    def __init__(
        self,
        name: str,
        heading: Sequence[str],
        countries: Sequence[str],
        languages: Collection[str],
        plan: Plan | None,
    ):
        self.name, self.heading, self.countries, self.languages = name, heading, countries, languages
        self.plan = plan
        self.numbers: list[Sampled] = []
        self.faults: list[Fault] = []
        self.seen: dict[str, int] = {}
        home = {c.lstrip("+") for c in countries}
        code = home.pop() if len(home) == 1 else ""
        self.region = phonenumbers.region_code_for_country_code(int(code)) if code.isdecimal() else None

    def fault(self, row: int, column: str, message: str) -> None:
        self.faults.append(Fault(self.name, f"row {row}, {column}", message))

    def read(self, row: int, cells: Sequence[str]) -> None:
        had = len(self.faults)
        if len(cells) > len(self.heading):
            self.fault(row, "-", f"has {len(cells)} cells, the heading {len(self.heading)}; remove the rest")
        given = dict(zip(self.heading, (c.strip() for c in cells), strict=False))
        msisdn = self.msisdn(row, given.get("msisdn", ""))
        language = given.get("language") or None
        if language is not None and language not in self.languages:
            self.fault(row, "language", f"is not one of the wave's: {', '.join(self.languages)}")
        probability = self.probability(row, given.get("probability", ""))
        replicate = given.get("replicate") or "1"
        if not (replicate.isascii() and replicate.isdecimal() and 1 <= int(replicate[:9]) <= 9999):
            self.fault(row, "replicate", "must be a whole number from 1 to 9999")
        stratum = given.get("stratum") or None
        if stratum is not None and (len(stratum) > _MOST_TEXT or not stratum.isprintable()):
            self.fault(row, "stratum", f"must be at most {_MOST_TEXT} printable characters")
        if len(self.faults) == had and msisdn is not None:
            block = self.plan.block_of(msisdn) if self.plan else None
            network = block.network or None if block else None
            self.numbers.append(
                Sampled(msisdn, "csv", int(replicate), probability, stratum, network, language)
            )

    def msisdn(self, row: int, text: str) -> str | None:
        """The number in E.164, or a fault that does not show it."""
        if not text:
            self.fault(row, "msisdn", "is empty; give the number, or remove the row")
            return None
        message = ""
        if _ROUNDED.search(text):
            message = "a spreadsheet has made a fraction of it; format the column as text, write it anew"
        else:
            try:
                number = phonenumbers.parse(text, self.region)
            except NumberParseException as error:
                short = (
                    NumberParseException.TOO_SHORT_AFTER_IDD, NumberParseException.TOO_SHORT_NSN,
                )  # fmt: skip
                message = {
                    NumberParseException.INVALID_COUNTRY_CODE: "begins with no country's code; write +233...",
                    NumberParseException.TOO_LONG: "is too long; one number a row",
                    **dict.fromkeys(short, "is too short; write all its digits"),
                }.get(error.error_type, "is no phone number; write it as +233 and nine digits, or as dialled")
            else:
                message = self._strange(number)
        if message:
            self.fault(row, "msisdn", message)
            return None
        msisdn = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        first = self.seen.setdefault(msisdn, row)
        if first != row:
            self.fault(row, "msisdn", f"is the number of row {first} again; remove one")
            return None
        return msisdn

    def _strange(self, number: phonenumbers.PhoneNumber) -> str:
        """What is wrong with a number that reads as one; empty if nothing is."""
        if number.extension:
            return "has an extension; a text cannot be sent to one"
        if not f"+{number.country_code}{number.national_number}".startswith(tuple(self.countries)):
            return f"is not of a country of the wave: {', '.join(self.countries)}"
        match phonenumbers.is_possible_number_with_reason(number):
            case ValidationResult.TOO_LONG:
                return "has too many digits for its country; compare it with its source"
            case ValidationResult.TOO_SHORT | ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
                return "has too few digits for its country; compare it with its source"
        kind = phonenumbers.number_type(number)
        if kind == PhoneNumberType.UNKNOWN:
            return "is in no block of numbers in use; compare it with its source"
        return "" if kind in _MOBILE else "is no mobile number; a text cannot be sent to it"

    def probability(self, row: int, text: str) -> float | None:
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:  # not a number is not either
            self.fault(row, "probability", "must be above 0 and at most 1, with a point")
            return None
        return value
