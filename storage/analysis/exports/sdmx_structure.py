"""An SDMX structure file of the office, read: which dimensions and attributes there are, and their codes.

SDMX-ML 2.1 structure messages, with the standard library: data structure, code lists, concepts. Nothing is
fetched. A file that is none is refused by name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

#: The full SDG structure is about 10 MB; more than this is something else.
MOST_BYTES = 64 * 1024 * 1024
_MES = "{http://www.sdmx.org/resources/sdmxml/schemas/v2_1/message}"
_STR = "{http://www.sdmx.org/resources/sdmxml/schemas/v2_1/structure}"
_URN = re.compile(r"=(?P<agency>[^:]+):(?P<id>[^(]+)\((?P<version>[^)]+)\)(?:\.(?P<item>.+))?\Z")

PLACES = ("dataset", "series", "obs")  # where an attribute is attached


class StructureError(ValueError):
    """A file is not the structure it is to be. Names the file, what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the structure. attached: "obs", "series" or "dataset"."""

    id: str
    mandatory: bool
    attached: str
    codes: frozenset[str] | None  # None: free text


@dataclass(frozen=True, slots=True)
class Structure:
    """A data structure definition with its code lists. Dimensions in order, without the time dimension."""

    agency: str
    id: str
    version: str
    dimensions: Mapping[str, frozenset[str] | None]
    time: str
    measure: str
    attributes: Mapping[str, Attribute]
    file: str = ""

    @property
    def reference(self) -> str:
        """AGENCY:ID(VERSION)"""
        return f"{self.agency}:{self.id}({self.version})"


def load_structure(path: Path, agency: str = "", name: str = "") -> Structure:
    """The data structure in `path`; of several, that of `agency` and id `name`. Raises StructureError."""

    def refuse(why: str) -> StructureError:
        return StructureError(f"{path}: {why}")

    try:
        if path.stat().st_size > MOST_BYTES:
            raise refuse(f"more than {MOST_BYTES // 1024**2} MB; give the structure only, without data")
        raw = path.read_bytes()
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}; put the structure file there") from None
    # An entity can make a small file fill the memory, and no SDMX message needs one.
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise refuse("has a document type declaration; give a plain SDMX-ML 2.1 structure message")
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise refuse(f"not XML: {error}; give an SDMX-ML 2.1 structure message") from None
    if root.tag != f"{_MES}Structure":
        found = root.tag.rpartition("}")[2]
        raise refuse(
            f"its root is {found}, not an SDMX-ML 2.1 Structure; ask for format sdmx-2.1, detail full"
        )
    found_all = [
        d
        for d in root.iter(f"{_STR}DataStructure")
        if d.get("agencyID", agency) == (agency or d.get("agencyID")) and d.get("id") == (name or d.get("id"))
    ]
    if len(found_all) != 1:
        wanted = f"{agency}:{name}" if name else "one"
        raise refuse(f"holds {len(found_all)} data structures where {wanted} is wanted")
    return _Reader(root, path).read(found_all[0])


class _Reader:
    def __init__(self, root: Element, path: Path):
        self.path = path
        self.lists = {
            (c.get("agencyID", ""), c.get("id", ""), c.get("version", "1.0")): frozenset(
                code.get("id", "") for code in c.iter(f"{_STR}Code")
            )
            for c in root.iter(f"{_STR}Codelist")
        }
        #: (scheme, concept) -> the list that the concept's values come from
        self.concepts: dict[tuple[str, str], Element] = {}
        for scheme in root.iter(f"{_STR}ConceptScheme"):
            for concept in scheme.iter(f"{_STR}Concept"):
                core = concept.find(f"{_STR}CoreRepresentation")
                if core is not None:
                    self.concepts[scheme.get("id", ""), concept.get("id", "")] = core

    def refuse(self, why: str) -> StructureError:
        return StructureError(f"{self.path}: {why}")

    def read(self, dsd: Element) -> Structure:
        dimensions = {
            self.id(d): self.codes(d)
            for d in sorted(self.parts(dsd, "Dimension"), key=lambda d: int(d.get("position") or 0))
        }
        time = next((self.id(d) for d in self.parts(dsd, "TimeDimension")), "")
        measure = next((self.id(d) for d in self.parts(dsd, "PrimaryMeasure")), "")
        if not dimensions or not time or not measure:
            raise self.refuse(
                "its data structure has no dimensions, time dimension or primary measure; it was perhaps "
                "fetched as a stub: ask for detail full, references children"
            )
        attributes = {
            self.id(a): Attribute(
                self.id(a), a.get("assignmentStatus") == "Mandatory", self.attached(a), self.codes(a)
            )
            for a in self.parts(dsd, "Attribute")
        }
        return Structure(
            dsd.get("agencyID", ""), dsd.get("id", ""), dsd.get("version", "1.0"), dimensions, time, measure,
            attributes, str(self.path),
        )  # fmt: skip

    def parts(self, dsd: Element, tag: str) -> list[Element]:
        """Its components of a kind. Deeper down, attributes name dimensions by the same tags."""
        return dsd.findall(f"{_STR}DataStructureComponents/*/{_STR}{tag}")

    def id(self, component: Element) -> str:
        if found := component.get("id"):
            return found
        _, _, _, item = self.reference(component.find(f"{_STR}ConceptIdentity"))
        if not item:
            raise self.refuse("a component has neither an id nor a concept")
        return item

    def codes(self, component: Element) -> frozenset[str] | None:
        """The codes that it may take; None for free text."""
        representation = component.find(f"{_STR}LocalRepresentation")
        if representation is None:
            _, scheme, _, item = self.reference(component.find(f"{_STR}ConceptIdentity"))
            representation = self.concepts.get((scheme, item))
        enumeration = None if representation is None else representation.find(f"{_STR}Enumeration")
        if enumeration is None:
            return None
        agency, name, version, _ = self.reference(enumeration)
        codes = self.lists.get((agency, name, version))
        if codes is None:
            raise self.refuse(
                f"{self.id(component)}: the code list {agency}:{name}({version}) is not in the file; "
                "ask for references children"
            )
        return codes

    def reference(self, element: Element | None) -> tuple[str, str, str, str]:
        """agency, id, version and item of what an element refers to: a Ref, or a URN."""
        if element is None:
            return "", "", "", ""
        ref, urn = element.find("Ref"), element.find("URN")
        if ref is not None:
            if ref.get("maintainableParentID"):
                return (
                    ref.get("agencyID", ""), ref.get("maintainableParentID", ""),
                    ref.get("maintainableParentVersion", "1.0"), ref.get("id", ""),
                )  # fmt: skip
            return ref.get("agencyID", ""), ref.get("id", ""), ref.get("version", "1.0"), ""
        match = _URN.search((urn.text or "") if urn is not None else "")
        return (
            (match["agency"], match["id"], match["version"], match["item"] or "")
            if match
            else ("", "", "", "")
        )

    def attached(self, attribute: Element) -> str:
        relationship = attribute.find(f"{_STR}AttributeRelationship")
        inside = {e.tag.rpartition("}")[2] for e in self.children(relationship)}
        if "PrimaryMeasure" in inside:
            return "obs"
        return "series" if inside & {"Dimension", "Group", "AttachmentGroup"} else "dataset"

    def children(self, element: Element | None) -> Iterator[Element]:
        yield from () if element is None else element
