"""Our own check of SDMX rows against a structure, before anything is written.

The libraries' validation passes unknown codes and missing mandatory attributes, and the message schema says
nothing about code lists; so every row is held against the office's own file here:

    every dimension is there, and no other            code in its code list
    mandatory attributes are there, others known      one row a key and period
    value a number                                    no value where the status says there is none, and back
    TIME_PERIOD: a year
"""

import re
from collections.abc import Iterable, Mapping

from storage.analysis.exports.sdmx_structure import Structure

#: A row: dimension, time, measure and attribute ids -> text. No value: the measure's key is not there.
Row = Mapping[str, str]
#: CL_OBS_STATUS 2.1: suppressed; missing; missing, data cannot exist; missing, data exist but not collected
NO_VALUE = frozenset("QOML")
_YEAR = re.compile(r"[12][0-9]{3}\Z")  # SDG convention: annual only; other times go to TIME_DETAIL
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z")


class SdmxError(ValueError):
    """Rows that the structure does not allow, all of them, each with its place and the fix."""

    def __init__(self, faults: Iterable[str]):
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def check(rows: Iterable[Row], structure: Structure, status: str = "OBS_STATUS") -> None:
    """Raises SdmxError listing every fault of the rows. status: the attribute that says what a value is."""
    faults: list[str] = []
    keys: dict[tuple[str, ...], int] = {}
    for n, row in enumerate(rows, 1):
        faults += (f"{structure.reference}, row {n}: {fault}" for fault in _faults(row, structure, status))
        key = tuple(row.get(name, "") for name in (*structure.dimensions, structure.time))
        if key in keys:
            faults.append(f"{structure.reference}, row {n}: the same key as row {keys[key]}; map them apart")
        keys.setdefault(key, n)
    if faults:
        raise SdmxError(dict.fromkeys(faults))


def _faults(row: Row, structure: Structure, status: str) -> Iterable[str]:
    known = {*structure.dimensions, structure.time, structure.measure, *structure.attributes}
    for name in row:
        if name not in known:
            yield f"{name} is neither a dimension nor an attribute of the structure; unmap it"
    for name, codes in structure.dimensions.items():
        if not row.get(name):
            yield f"dimension {name} is missing; map it or give it a constant"
        elif codes is not None and row[name] not in codes:
            yield f"{name}: the code {row[name]!r} is not in the structure's code list; correct the mapping"
    for name, attribute in structure.attributes.items():
        if not row.get(name):
            if attribute.mandatory:
                yield f"attribute {name} is mandatory and missing; give it in the mapping"
        elif attribute.codes is not None and row[name] not in attribute.codes:
            yield f"{name}: the code {row[name]!r} is not in the structure's code list; correct the mapping"
    if not _YEAR.match(row.get(structure.time, "")):
        yield f"{structure.time} {row.get(structure.time, '')!r} is no year"
    value = row.get(structure.measure)
    if value is not None and not _NUMBER.match(value):
        yield f"{structure.measure} {value!r} is no number"
    if status in structure.attributes:
        none = row.get(status, "") in NO_VALUE
        if none and value is not None:
            yield f"a value, and {status} {row[status]} says that there is none"
        if not none and value is None:
            yield f"no value, and {status} {row.get(status, '')!r} says that there is one"
