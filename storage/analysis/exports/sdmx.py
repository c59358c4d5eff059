"""SDMX for the UN and for the office: which code each figure has, and the files in their three shapes.

The structure is a file of the office (`sdmx_structure`), the mapping a TOML file (`deploy/sdmx/`): series of
each measure, code of each category, attributes, and what is left out, on purpose and by name. A measure
or category that is neither mapped nor left out is refused. Every row is checked against the structure's code
lists (`sdmx_check`) before anything is written.

    SDMX-CSV 1.0        DATAFLOW,<dimensions>,TIME_PERIOD,OBS_VALUE,<attributes>
    SDMX-CSV 2.0        STRUCTURE,STRUCTURE_ID,ACTION,<the same>
    SDMX-ML 2.1         structure-specific, one Series a key, which the office's platform reads

What may not be shown is written as the receiver reads it: for the UN a row without a value and status Q
(suppressed); for the office's platform no observation at all, because its builder stops at one without.
"""

import csv
import io
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from storage.analysis.estimates import Estimate
from storage.analysis.exports.sdmx_check import Row, SdmxError, check
from storage.analysis.exports.sdmx_structure import PLACES, Structure
from storage.analysis.release import Release, percent

LEAVE_OUT = "leave_out"
RETIRED = "SP_PSR_SATIS"  # the old single series of 16.6.2: UN metadata mark it retired
_MESSAGE = "http://www.sdmx.org/resources/sdmxml/schemas/v2_1/message"
_COMMON = "http://www.sdmx.org/resources/sdmxml/schemas/v2_1/common"
_SPECIFIC = "http://www.sdmx.org/resources/sdmxml/schemas/v2_1/data/structurespecific"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_KEYS = {
    "structure", "agency", "id", "sender", "dataflow", "suppressed", "status", "series", "constants",
    "variables", "attributes", "left_out",
}  # fmt: skip
_MAY_LACK = ("agency", "id")
#: What an attribute's text may take from the figure.
_FIELDS = ("low", "high", "n", "caution", "owner", "wave", "version", "period")


class MappingError(ValueError):
    """A mapping file is wrong, or lacks a code: names the file, the variable and the code."""


@dataclass(frozen=True, slots=True)
class SdmxMapping:
    """A mapping file, read."""

    file: str
    structure: str  # name of the structure file
    agency: str  # of the data structure wanted from it; "" = the only one in it
    id: str
    sender: str  # the header's sender, an SDMX id
    dataflow: str  # AGENCY:FLOW(VERSION), for SDMX-CSV 1.0
    suppressed: str  # the status of what is not shown, or LEAVE_OUT
    status: Mapping[str, str]  # shown, review -> OBS_STATUS
    series: Mapping[str, Mapping[str, str]]  # service -> measure -> code
    constants: Mapping[str, str]  # dimension -> code where no variable says otherwise
    variables: Mapping[str, tuple[str, Mapping[str, str]]]  # variable -> dimension, category -> code
    attributes: Mapping[str, tuple[str, ...]]  # attribute -> sentences with {fields}
    left_out_measures: frozenset[str]  # measures or item ids
    left_out_variables: frozenset[str]


def load_mapping(path: Path) -> SdmxMapping:
    """The mapping in `path`. Raises MappingError."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MappingError(f"{path}: cannot be read: {error}") from None
    if unknown := sorted(data.keys() - _KEYS):
        raise MappingError(f"{path}: {unknown[0]}: unknown; known: {', '.join(sorted(_KEYS))}")
    for name in ("structure", "sender", "dataflow", "suppressed", "agency", "id"):
        if not isinstance(data.get(name, ""), str) or (name not in _MAY_LACK and not data.get(name)):
            raise MappingError(f"{path}: {name}: give a text in quotes")
    series = {
        s: _texts(path, f"series.{s}", of) for s, of in _table(path, "series", data.get("series")).items()
    }
    for service, measures in series.items():
        for measure, code in measures.items():
            if code == RETIRED:
                raise MappingError(
                    f"{path}: series.{service}.{measure}: {RETIRED} is retired; use the four after it"
                )
    variables = {}
    for variable, given in _table(path, "variables", data.get("variables")).items():
        row = _table(path, f"variables.{variable}", given)
        if not isinstance(row.get("dimension"), str):
            raise MappingError(f"{path}: variables.{variable}.dimension: missing; name a dimension")
        variables[variable] = (
            row["dimension"], _texts(path, f"variables.{variable}.options", row.get("options"))
        )  # fmt: skip
    attributes: dict[str, tuple[str, ...]] = {}
    for name, value in _table(path, "attributes", data.get("attributes")).items():
        attributes[name] = _list(path, f"attributes.{name}", [value] if isinstance(value, str) else value)
        try:
            for text in attributes[name]:
                text.format(**dict.fromkeys(_FIELDS, ""))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise MappingError(
                f"{path}: attributes.{name}: in braces may stand {', '.join(_FIELDS)}, and nothing else"
            ) from None
    left = _table(path, "left_out", data.get("left_out"))
    if unknown := sorted(left.keys() - {"measures", "variables"}):
        raise MappingError(f"{path}: left_out.{unknown[0]}: unknown; known: measures, variables")
    left_out = {
        name: frozenset(_list(path, f"left_out.{name}", left.get(name, ())))
        for name in ("measures", "variables")
    }
    return SdmxMapping(
        str(path), data["structure"], data.get("agency", ""), data.get("id", ""), data["sender"],
        data["dataflow"], data["suppressed"], _texts(path, "status", data.get("status")), series,
        _texts(path, "constants", data.get("constants")), variables, attributes, left_out["measures"],
        left_out["variables"],
    )  # fmt: skip


def _table(path: Path, key: str, found: object) -> dict[str, Any]:
    """What stands under `key`, {} for nothing. Raises MappingError where that is no table."""
    if not isinstance(found, dict | None):
        raise MappingError(f"{path}: {key}: must be a table: [{key}]")
    return found or {}


def _texts(path: Path, key: str, found: object) -> dict[str, str]:
    texts = _table(path, key, found)
    for name, text in texts.items():
        if not isinstance(text, str):
            raise MappingError(f"{path}: {key}.{name}: give a text in quotes")
    return texts


def _list(path: Path, key: str, found: object) -> tuple[str, ...]:
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise MappingError(f'{path}: {key}: give a list of texts: ["..."]')
    return tuple(found)


def rows_of(release: Release, mapping: SdmxMapping, structure: Structure) -> list[Row]:
    """The release's rows by this mapping, checked. Raises MappingError and SdmxError listing all faults."""
    faults: list[str] = []
    rows: list[Row] = []
    for e in release.estimates:
        if e.measure in mapping.left_out_measures or any(
            v in mapping.left_out_variables for v, _ in e.domain
        ):
            continue
        row = _row(e, release, mapping, structure, faults)
        if row is not None:
            rows.append(row)
    if faults:
        raise MappingError("\n".join(dict.fromkeys(faults)))
    if not rows:
        raise MappingError(f"{mapping.file}: nothing of the release is mapped or may be shown")
    check(rows, structure)
    return rows


def _row(
    e: Estimate, release: Release, mapping: SdmxMapping, structure: Structure, faults: list[str]
) -> Row | None:
    def fault(what: str) -> None:
        faults.append(f"{mapping.file}: {what}; map it, or name it under left_out")

    row = dict(mapping.constants)
    code = mapping.series.get(e.service, {}).get(e.measure)
    if code is None:
        fault(f"series.{e.service}: measure {e.measure} has no series")
    row["SERIES"] = code or ""
    for variable, option in e.domain:
        dimension, options = mapping.variables.get(variable, ("", {}))
        if not dimension:
            fault(f"variable {variable}: no dimension")
        elif option not in options:
            fault(f"variable {variable}: no code for {option}")
        else:
            row[dimension] = options[option]
    shown = e.mark in ("", "*") and e.share is not None
    if not shown and mapping.suppressed == LEAVE_OUT:
        return None
    row[structure.time] = e.period
    if shown:
        row[structure.measure] = percent(e.share)
        row["OBS_STATUS"] = mapping.status.get("review" if e.mark == "*" else "shown", "A")
    else:
        row["OBS_STATUS"] = mapping.suppressed
    values = {
        "low": percent(e.low) if shown else "", "high": percent(e.high) if shown else "",
        "n": str(e.n) if e.mark != "c" else "", "caution": release.caution, "owner": release.owner,
        "wave": release.wave, "version": str(release.version), "period": e.period,
    }  # fmt: skip
    for name, texts in mapping.attributes.items():
        # A sentence about a number that is not shown is left out.
        said = [t for t in texts if all(values[f] for f in _FIELDS if f"{{{f}}}" in t)]
        if filled := " ".join(" ".join(said).format(**values).split()):
            row[name] = filled
    return row


def _columns(structure: Structure, rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    used = {name for row in rows for name in row}
    keys = [*structure.dimensions, structure.time]
    return keys, [name for name in structure.attributes if name in used]


def csv_1(rows: Sequence[Row], mapping: SdmxMapping, structure: Structure) -> str:
    """SDMX-CSV 1.0."""
    return _csv(rows, structure, {"DATAFLOW": mapping.dataflow})


def csv_2(rows: Sequence[Row], structure: Structure) -> str:
    """SDMX-CSV 2.0."""
    return _csv(
        rows, structure, {"STRUCTURE": "datastructure", "STRUCTURE_ID": structure.reference, "ACTION": "R"}
    )


def _csv(rows: Sequence[Row], structure: Structure, head: Mapping[str, str]) -> str:
    keys, attributes = _columns(structure, rows)
    names = [*keys, structure.measure, *attributes]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, *names])
    writer.writerows([*head.values(), *(row.get(name, "") for name in names)] for row in rows)
    return out.getvalue()


def ml_2_1(
    rows: Sequence[Row], structure: Structure, *, sender: str, prepared: datetime, message: str
) -> str:
    """SDMX-ML 2.1, structure-specific, in Series. sender: an SDMX id; message: the header's ID."""
    for prefix, uri in (("mes", _MESSAGE), ("com", _COMMON), ("ss", _SPECIFIC), ("xsi", _INSTANCE)):
        ElementTree.register_namespace(prefix, uri)
    own = f"urn:sdmx:org.sdmx.infomodel.datastructure.DataStructure={structure.reference}"
    own += f":ObsLevelDim:{structure.time}"
    reference = re.sub(r"\W+", "_", structure.reference).strip("_")
    # Declared by hand: only the value of xsi:type uses it.
    root = ElementTree.Element(f"{{{_MESSAGE}}}StructureSpecificData", {"xmlns:ns1": own})
    header = ElementTree.SubElement(root, f"{{{_MESSAGE}}}Header")

    def told(name: str, text: str) -> None:
        ElementTree.SubElement(header, f"{{{_MESSAGE}}}{name}").text = text

    told("ID", re.sub(r"[^A-Za-z0-9_-]", "_", message))
    told("Test", "false")
    told("Prepared", prepared.astimezone(UTC).isoformat(timespec="seconds"))
    ElementTree.SubElement(header, f"{{{_MESSAGE}}}Sender", {"id": sender})
    shape = {"structureID": reference, "namespace": own, "dimensionAtObservation": structure.time}
    wrapper = ElementTree.SubElement(
        ElementTree.SubElement(header, f"{{{_MESSAGE}}}Structure", shape), f"{{{_COMMON}}}Structure"
    )
    maintained = {"agencyID": structure.agency, "id": structure.id, "version": structure.version}
    ElementTree.SubElement(wrapper, "Ref", {**maintained, "class": "DataStructure"})
    told("DataSetAction", "Replace")
    told("DataSetID", structure.id)
    data = ElementTree.SubElement(
        root,
        f"{{{_MESSAGE}}}DataSet",
        {
            f"{{{_INSTANCE}}}type": "ns1:DataSetType",
            f"{{{_SPECIFIC}}}structureRef": reference,
            f"{{{_SPECIFIC}}}action": "Replace",
            f"{{{_SPECIFIC}}}dataScope": "DataStructure",
        },
    )
    _series(data, rows, structure)
    ElementTree.indent(root)
    return str(ElementTree.tostring(root, encoding="unicode", xml_declaration=True)) + "\n"


def _series(data: ElementTree.Element, rows: Sequence[Row], structure: Structure) -> None:
    """The rows below the data set: one Series a key, attributes where the structure attaches them."""
    _, attributes = _columns(structure, rows)
    at = {place: [a for a in attributes if structure.attributes[a].attached == place] for place in PLACES}
    series: dict[tuple[str, ...], ElementTree.Element] = {}
    for row in rows:
        key = tuple(row[name] for name in structure.dimensions)
        own = {a: row[a] for a in at["series"] if a in row}
        if key not in series:
            series[key] = ElementTree.SubElement(
                data, "Series", {**dict(zip(structure.dimensions, key, strict=True)), **own}
            )
        one_value = [(data, a) for a in at["dataset"] if a in row] + [(series[key], a) for a in own]
        for element, a in one_value:
            if element.get(a, row[a]) != row[a]:
                raise SdmxError([f"{'.'.join(key)}: two values of {a}, which has one for all; give one"])
            element.set(a, row[a])
        inside = [structure.time, structure.measure, *at["obs"]]
        ElementTree.SubElement(series[key], "Obs", {name: row[name] for name in inside if name in row})
