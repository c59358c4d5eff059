"""DDI-Codebook 2.5 (https://ddialliance.org, namespace ddi:codebook:2_5): what a data catalogue imports.

The study, the files, and every variable with its wording in each language, whom it was asked of, its
codes, and how often each was given. A catalogue is public even where the data are not: a variable has its
frequencies only if each that is not 0 is ten or more, and no number has its smallest and largest value.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from storage.analysis.dictionary import PUBLIC, Variable, is_final_weight
from storage.analysis.exports.microdata import Microdata, Progress
from storage.analysis.exports.public_use import THRESHOLD
from storage.analysis.exports.read_me import LABEL, paragraphs

NAMESPACE = "ddi:codebook:2_5"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_FILE = "F1"


def write_ddi(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """ddi.xml, about wide.csv."""
    ET.register_namespace("", NAMESPACE)
    root = ET.Element(_tag("codeBook"), {"version": "2.5", _LANG: data.instrument.default_language})
    _study(root, data)
    about = _add(_add(root, "fileDscr", ID=_FILE), "fileTxt")
    _add(about, "fileName", "wide.csv")
    size = _add(about, "dimensns")
    _add(size, "caseQnty", str(data.count))
    _add(size, "varQnty", str(len(data.variables)))
    _add(about, "fileType", "text/csv; charset=utf-8")
    described = _add(root, "dataDscr")
    for n, v in enumerate(data.variables, 1):
        _variable(described, data, v, n)
        told("ddi.xml", n, len(data.variables))
    path = folder / "ddi.xml"
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    return [path]


def _study(root: ET.Element, data: Microdata) -> None:
    """Elements in the order of the schema."""
    instrument, about = data.instrument, data.about
    study = _add(root, "stdyDscr")
    citation = _add(study, "citation")
    title = _add(citation, "titlStmt")
    _add(title, "titl", instrument.title)
    _add(title, "IDNo", "-".join([instrument.reference.replace("@", "-"), *data.waves, data.asked.variant]))
    if about.owner:
        _add(_add(citation, "rspStmt"), "AuthEnty", about.owner)
    produced = _add(citation, "prodStmt")
    if about.owner:
        _add(produced, "producer", about.owner)
    _add(produced, "prodDate", data.made_at.date().isoformat(), date=data.made_at.date().isoformat())
    _add(produced, "software", "Dial 16")
    if about.owner:
        _add(_add(citation, "distStmt"), "distrbtr", about.owner)
    _add(_add(citation, "verStmt"), "version", instrument.version, date=data.made_at.date().isoformat())

    info = _add(study, "stdyInfo")
    subject = _add(info, "subject")
    for word in dict.fromkeys(i.service.replace("_", " ") for i in instrument.items if i.service):
        _add(subject, "keyword", word)
    _add(info, "abstract", f"{instrument.title}. Source of the questionnaire: {instrument.source}.")
    summary = _add(info, "sumDscr")
    if data.first_day:
        _add(summary, "collDate", data.first_day, date=data.first_day, event="start")
        _add(summary, "collDate", data.last_day, date=data.last_day, event="end")
    for code in sorted({c.iso[:2] for v in data.variables for c in v.codes if c.iso}):
        _add(summary, "nation", about.nation or code, abbr=code)
    _add(summary, "anlyUnit", "Individual")
    asked_of = [i.label for i in instrument.items if i.role == "adult"]
    _add(summary, "universe", "; ".join(["Persons with the use of a mobile phone", *asked_of]))
    _add(summary, "dataKind", "Sample survey data")

    collected = _add(_add(study, "method"), "dataColl")
    _add(collected, "timeMeth", "Cross-section, by wave")
    if about.owner:
        _add(collected, "dataCollector", about.owner)
    _add(collected, "sampProc", LABEL)
    _add(collected, "collMode", "Self-administered by mobile phone: USSD, SMS")
    _add(collected, "resInstru", "Structured questionnaire")
    final = [f"{v.label}: {v.name}." for v in data.variables if is_final_weight(v.name)]
    _add(collected, "weight", " ".join(final) or "Base weights only; no final weight.")

    access = _add(_add(study, "dataAccs"), "useStmt")
    if about.contact:
        _add(access, "contact", about.contact)
    if about.owner:
        _add(access, "citReq", f"{about.owner}: {instrument.title}, {instrument.reference}.")
    _add(access, "conditions", " ".join(paragraphs(data)))


def _variable(described: ET.Element, data: Microdata, v: Variable, number: int) -> None:
    about = {"ID": f"V{number}", "name": v.name, "files": _FILE}
    about["intrvl"] = "contin" if v.kind == "number" else "discrete"
    if v.name.startswith("weight") or is_final_weight(v.name):
        about["wgt"] = "wgt"
    var = _add(described, "var", **about)
    _add(var, "labl", v.label)
    if v.question:
        asked = _add(var, "qstn")
        for language, wording in v.question.items():
            _add(asked, "qstnLit", wording, language)
    _add(var, "universe", v.universe or "Every interview")
    counts = dict(_counts(data, v))
    missing = {c.code for c in v.missing}
    if counts:
        out = sum(n for code, n in counts.items() if code is None or code in missing)
        _add(var, "sumStat", str(sum(counts.values()) - out), type="vald")
        _add(var, "sumStat", str(out), type="invd")
    for c in v.codes:
        category = _add(var, "catgry", **({"missing": "Y"} if c.missing else {}))
        _add(category, "catValu", str(c.code))
        for language, label in c.labels.items():
            _add(category, "labl", label, language)
        if counts:
            _add(category, "catStat", str(counts.get(c.code, 0)), type="freq")
    _add(var, "varFormat", type="character" if v.kind in ("text", "month", "date") else "numeric")


def _counts(data: Microdata, v: Variable) -> Iterator[tuple[int | None, int]]:
    """Of a category, how often each code is there; nothing where that tells of few."""
    if not v.codes:
        return
    counts = data.counts(v)
    if data.asked.variant == PUBLIC or all(n >= THRESHOLD for n in counts.values()):
        yield from counts.items()


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _add(parent: ET.Element, name: str, text: str = "", language: str = "", /, **about: str) -> ET.Element:
    element = ET.SubElement(parent, _tag(name), {_LANG: language, **about} if language else about)
    element.text = "".join(c for c in text if c >= " " or c in "\t\n") or None  # what XML 1.0 can hold
    return element
