"""Quotas: which cells an interview falls in, and the `[[quota]]` tables of a wave file.

    [[quota]]
    name = "sex_age"
    items = ["respondent.sex", "respondent.age"]
    [quota.cells]
    "female,18-34" = 400       # completes wanted
    "female,35+" = 350

Only items that everybody is asked before the services can be crossed, so that who is turned away has
been asked all of them, and nothing else. Who gives no answer to one of a quota's items, or one that no
band holds, is in none of its cells and goes on. Counting is the host's: see gateway/counting.py.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from flows.fielding import Band, Quota
from flows.questionnaire import MARK_NONRESPONSE, NUMBER_GIVEN, UNANSWERED, Instrument, Item

#: Stands in names of counts and in the record: nothing that a store or a shell could read otherwise.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z")
_BAND = re.compile(r"(\d{1,9})(?:-(\d{1,9})|(\+))?\Z")
_KEYS = ("name", "items", "cells")

# ---------------------------------------------------------------- cells


def cell(quota: Quota, values: Sequence[str | int | None]) -> str | None:
    """The cell of these answers to the quota's items, in its order: an option id, a number, None for no
    answer. None: in none."""
    parts = []
    for item, value in zip(quota.items, values, strict=True):
        if isinstance(value, int):
            value = next((b.text for b in quota.bands.get(item, ()) if b.least <= value <= b.most), None)
        if not value:
            return None
        parts.append(value)
    return ",".join(parts)


def strata(quotas: Iterable[Quota], instrument: Instrument) -> list[Item]:
    """The items that the quotas cross; of an older version of the instrument, those that it has."""
    ids = dict.fromkeys(item for quota in quotas for item in quota.items)
    return [instrument.by_id[item] for item in ids if item in instrument.by_id]


def cells_of(quotas: Iterable[Quota], instrument: Instrument, answers: str, numbers: str) -> dict[str, str]:
    """Quota name -> cell, of these answers (see `Interview`); a quota of which no cell fits is absent."""
    given = dict(pair.split("=") for pair in numbers.split())

    def value(item_id: str) -> str | int | None:
        item = instrument.by_id.get(item_id)
        if item is None:
            return None
        mark = answers[item.index]
        if item.scale is not None:
            return next((o.id for o in item.scale.options if o.mark == mark), None)
        return int(given[item_id]) if mark == NUMBER_GIVEN and item_id in given else None

    found = {quota.name: cell(quota, [value(item) for item in quota.items]) for quota in quotas}
    return {name: its for name, its in found.items() if its is not None}


def all_asked(quotas: Iterable[Quota], instrument: Instrument, answers: str) -> bool:
    """Whether every item that any of the quotas crosses has been answered or skipped."""
    return all(answers[item.index] != UNANSWERED for item in strata(quotas, instrument))


def full_cells(quotas: Iterable[Quota], entered: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
    """Those of the cells entered that have all the completes they want. `counts`: by `count_name`."""
    wanted = {quota.name: quota.cells for quota in quotas}
    return [
        count_name(name, its)
        for name, its in entered.items()
        if counts.get(count_name(name, its), 0) >= wanted.get(name, {}).get(its, 1 << 62)
    ]


def count_name(quota: str, its_cell: str) -> str:
    return f"{quota}:{its_cell}"


def drawn_alike(quotas: Iterable[Quota]) -> str:
    """Tells apart what is counted: quotas whose items and bands are the same have the same, whatever
    their targets. 16 hex digits."""
    drawn = sorted(
        f"{q.name} {' '.join(q.items)} {' '.join(b.text for i in q.items for b in q.bands.get(i, ()))}"
        for q in quotas
    )
    return hashlib.blake2b("\n".join(drawn).encode(), digest_size=8).hexdigest()


# ---------------------------------------------------------------- the wave file


def read_quotas(tables: Any, instrument: Instrument, fault: Callable[[str, str], None]) -> tuple[Quota, ...]:
    """The quotas of a wave file. `fault(key, message)` is told everything that is wrong with them."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        fault("quota", "must be tables, each begun with [[quota]]")
        return ()
    read: list[Quota] = []
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        key = f"quota {name}" if isinstance(name, str) and name else f"quota {number}"
        for unknown in sorted(table.keys() - set(_KEYS)):
            fault(f"{key}.{unknown}", f"unknown; known: {', '.join(_KEYS)}")
        if not isinstance(name, str) or not _NAME.match(name):
            fault(f"{key}.name", "must be one word of at most 40 letters, digits, - and _")
        elif any(name == other.name for other in read):
            fault(f"{key}.name", "another quota has it; give each its own")
        items = _read_items(table.get("items"), instrument, partial(fault, f"{key}.items"))
        crossed = {frozenset(other.items): other.name for other in read}
        if items and (other := crossed.get(frozenset(i.id for i in items))):
            fault(f"{key}.items", f"are those of quota {other}; put all their cells into one quota")
        known = items if items and len(items) == len(table["items"]) else []
        cells, bands = _read_cells(table.get("cells"), known, partial(fault, f"{key}.cells"))
        read.append(Quota(str(name), tuple(i.id for i in items), cells, bands))
    return tuple(read)


def _read_items(given: Any, instrument: Instrument, fault: Callable[[str], None]) -> list[Item]:
    if not isinstance(given, list) or not given or not all(isinstance(x, str) for x in given):
        fault('name the items that are crossed, such as ["respondent.sex", "respondent.region"]')
        return []
    items = []
    services = [block.index for block in instrument.blocks if block.drawn]
    for item_id in dict.fromkeys(given):
        item = instrument.by_id.get(item_id)
        if given.count(item_id) > 1:
            fault(f"{item_id} stands twice")
        if item is None:
            fault(f"{item_id!r} is no item of {instrument.reference}")
            continue
        items.append(item)
        if item.ask_if:
            fault(f"{item_id} is not asked of everybody; take one that is")
        elif item.ends:
            fault(f"{item_id} ends the interview by one of its answers; take one that does not")
        elif services and item.block >= services[0]:
            fault(f"{item_id} is asked after the services begin; take one that comes before them")
    return items


def _read_cells(
    given: Any, items: Sequence[Item], fault: Callable[[str], None]
) -> tuple[dict[str, int], dict[str, tuple[Band, ...]]]:
    """Cells with their targets, and the bands that they use."""
    if not isinstance(given, dict) or not given:
        fault('give each cell its target under [quota.cells], such as "female,18-34" = 400')
        return {}, {}
    cells: dict[str, int] = {}
    bands: dict[str, dict[str, Band]] = {item.id: {} for item in items if item.scale is None}
    for text, target in given.items():
        if type(target) is not int or target < 0:
            fault(f"{text!r}: the target must be a whole number, 0 or more")
        words = [word.strip() for word in text.split(",")]
        if not items:
            continue
        if len(words) != len(items):
            fault(f"{text!r} has {len(words)} parts; the quota crosses {len(items)} items")
            continue
        named = [_named(word, item, bands, text, fault) for word, item in zip(words, items, strict=True)]
        if None in named:
            continue
        its_cell = ",".join(map(str, named))
        if its_cell in cells:
            fault(f"{text!r} stands twice")
        cells[its_cell] = target
    in_order = {
        item_id: tuple(sorted(found.values(), key=lambda band: (band.least, band.most)))
        for item_id, found in bands.items()
    }
    for item_id, found in in_order.items():
        for one, other in combinations(found, 2):
            if other.least <= one.most:
                fault(f"{one.text} and {other.text} of {item_id} overlap")
    return cells, in_order


def _named(
    word: str, item: Item, bands: Mapping[str, dict[str, Band]], text: str, fault: Callable[[str], None]
) -> str | None:
    """A part of a cell as it is kept: the option's id, or the band's text."""
    if item.scale is not None:
        options = [option.id for option in item.scale.options]
        if word in options:
            return word
        no_answer = word in MARK_NONRESPONSE.values()
        why = "; who gives no answer goes on" if no_answer else f"; known: {', '.join(options)}"
        fault(f"{text!r}: {word!r} is no answer of {item.id}{why}")
        return None
    match = _BAND.match(word)
    if match is None:
        fault(f"{text!r}: {word!r} is no band of {item.id}; write 18-34, or 65+")
        return None
    least = int(match[1])
    most = int(match[2]) if match[2] else item.most if match[3] else least
    if not item.least <= least <= most <= item.most:
        fault(f"{text!r}: {word!r} must lie within {item.least} to {item.most}, the smaller number first")
        return None
    band = Band(f"{least}+" if most == item.most else f"{least}-{most}", least, most)
    bands[item.id][band.text] = band
    return band.text
