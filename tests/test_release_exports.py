"""The files of a release, each read back by an independent reader, value by value.

The structures in tests/material are made up, shaped like the SDG structure: the real ones are files of the
UN and of the office.
"""

import csv
import io
import logging
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from pyaxis import pyaxis  # type: ignore[import-untyped]
from pysdmx.io import get_datasets

from storage.analysis.estimates import Estimate
from storage.analysis.exports import open_sdg, px, sdmx
from storage.analysis.exports.sdmx_check import Row, SdmxError, check
from storage.analysis.exports.sdmx_structure import Structure, StructureError, load_structure
from storage.analysis.publishing import Sdmx, publish, verify
from storage.analysis.release import Release, Rules, make, percent
from tests.figures_material import BREAKDOWNS, table
from tests.test_releases import INSTRUMENT, LABELS, about

HERE = Path(__file__).resolve().parent
MATERIAL = HERE / "material"
DEPLOY = HERE.parent / "deploy" / "sdmx"
HOSTILE = [
    'He said "no"; done',
    "A=B",
    "  two  spaces ",
    "=1+1",
    "line\nbreak",
    "Ɛwɔ ŋ – ɖ",
    "a,b",
    "x" * 300,
    "",
]


def release_of(estimates: list[Estimate]) -> Release:
    return Release(
        "w", 1, "2026-11-23", "First version.", "sdg_16_6_2@2026.1", "Statistical Office", "0800", "licence",
        False, (), False, 1200, "m1", "0.1.0", Rules(), make(estimates, Rules()),
    )  # fmt: skip


RELEASE = release_of(table(users=500))


def test_the_material_has_every_mark() -> None:
    assert {e.mark for e in RELEASE.estimates} >= {"", "c", "u"}


# ---------------------------------------------------------------- PC-Axis


def read_px(text: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    path = folder / "t.px"
    path.write_text(text, "utf-8", newline="")
    # As in the file's own DATASYMBOLs: "." and "..." stay as they are, ".." is pyaxis's nan.
    read = pyaxis.parse(str(path), encoding="utf-8", null_values=r"^never$", sd_values=r"^never$")
    return read["METADATA"], read["DATA"].to_dict("records")


@pytest.mark.parametrize("variables", px.tables(RELEASE.estimates))
def test_pyaxis_reads_every_cell(variables: tuple[str, ...], tmp_path: Path) -> None:
    metadata, records = read_px(px.px(RELEASE, LABELS, variables), tmp_path)
    names = ["Figure", *(LABELS.variable(v) for v in variables)]
    assert metadata["STUB"] == names
    assert metadata["HEADING"] == ["Statistic", "Year"]
    assert metadata["DATASYMBOL1"] and metadata["CONTACT"] == ["0800"]
    got = {tuple(str(v) for k, v in r.items() if k != "DATA"): r["DATA"] for r in records}
    checked = 0
    for e in RELEASE.estimates:
        if any(v not in variables for v, _ in e.domain) or [v for v, _ in e.domain] != [
            v for v in variables if v in dict(e.domain)
        ]:
            continue
        of = dict(e.domain)
        place = [LABELS.option(v, of[v]) if v in of else "All" for v in variables]
        for statistic, value in (
            ("Per cent", e.share), ("Lower end of the 95 % interval", e.low),
            ("Upper end of the 95 % interval", e.high), ("Respondents", e.n),
        ):  # fmt: skip
            cell = got.pop((LABELS.figure(e), *place, statistic, "2026"))
            checked += 1
            if e.mark == "c":
                assert cell == '"."'
            elif statistic == "Respondents":
                assert cell == str(value)
            elif e.mark == "u":
                assert cell == '".."'
            else:
                assert value is not None
                assert float(cell) == pytest.approx(100 * value, abs=1e-9)
    assert checked >= 96
    assert set(got.values()) <= {'"..."'}  # what is left was not computed


def test_regions_have_their_official_codes(tmp_path: Path) -> None:
    metadata, _ = read_px(px.px(RELEASE, LABELS, ("region",)), tmp_path)
    assert sorted(metadata["CODES(Region)"][1:], key=int) == [str(n) for n in range(1, 17)]
    codes = dict(zip(metadata["VALUES(Region)"], metadata["CODES(Region)"], strict=True))
    assert (codes["Greater Accra"], codes["Ahafo"], codes["All"]) == ("3", "8", "_T")


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_in_px(label: str, tmp_path: Path) -> None:
    labels = replace(LABELS, options={**LABELS.options, "sex": {"male": label, "female": label}})
    release = replace(RELEASE, contact=label, owner=f"{label} {label}")
    text = px.px(release, labels, ("sex",))
    metadata, records = read_px(text, tmp_path)
    assert len(records) == 28 * 3 * 4
    assert len(set(metadata["VALUES(Sex)"])) == 3
    assert all(
        len(line) <= 256
        for line in text.splitlines()
        if '"' in line and "DATA" not in line and "," not in line
    )


def test_more_than_one_year_in_px(tmp_path: Path) -> None:
    before = release_of(table(users=500, wave="v", period="2024", seed=2))
    metadata, records = read_px(px.px(RELEASE, LABELS, (), [before]), tmp_path)
    assert metadata["VALUES(Year)"] == ["2024", "2026"]
    assert len(records) == 28 * 4 * 2


def test_no_such_table() -> None:
    with pytest.raises(ValueError, match="no table by age, region"):
        px.px(RELEASE, LABELS, ("age", "region"))


# ---------------------------------------------------------------- Open SDG


def read_open_sdg(text: str) -> list[dict[str, str]]:
    """By the builder's rules, not our own: sdg-build's `headline` and `edges` read columns and blanks."""
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = list(rows[0])
    assert (columns[0], columns[-1], columns[-2]) == ("Year", "Value", "GeoCode")
    assert not {"LOWER_BOUND", "UPPER_BOUND", "Units", "n"} & set(columns)
    for row in rows:
        assert row["Year"].isdecimal()
        assert row["Value"] == "" or 0 <= float(row["Value"]) <= 100
        for name, cell in row.items():
            assert cell == cell.strip()
            assert cell.lower() not in ("total", "all", "national")
            assert name == name.strip() != ""
    return rows


def menus(rows: list[dict[str, str]]) -> list[str]:
    special = {"Year", "Value", "GeoCode", "SERIES", "UNIT_MEASURE", "COMMENT_OBS"}
    return [name for name in rows[0] if name not in special]


def test_open_sdg_rows() -> None:
    rows = read_open_sdg(open_sdg.data(RELEASE, LABELS))
    assert menus(rows) == [LABELS.variable(v) for v in BREAKDOWNS]
    assert len(rows) == len(RELEASE.estimates)
    headline = [r for r in rows if not any(r[m] for m in menus(rows))]
    assert len(headline) == len({r["SERIES"] for r in headline}) == 28
    assert len({tuple(v for k, v in r.items() if k not in ("Value", "COMMENT_OBS")) for r in rows}) == len(
        rows
    )
    for e, row in zip(RELEASE.estimates, rows, strict=True):
        assert row["SERIES"] == LABELS.figure(e)
        assert row["Value"] == ("" if e.mark in ("c", "u") else percent(e.share))
        assert bool(row["COMMENT_OBS"]) == (e.mark in ("c", "u"))
        for variable in BREAKDOWNS:
            option = dict(e.domain).get(variable)
            assert row[LABELS.variable(variable)] == (LABELS.option(variable, option) if option else "")


def test_the_map_finds_its_regions() -> None:
    rows = read_open_sdg(open_sdg.data(RELEASE, LABELS))
    assert {r["GeoCode"] for r in rows if r["Region"]} == {str(n) for n in range(1, 17)}
    assert {r["GeoCode"] for r in rows if not r["Region"]} == {""}


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_in_open_sdg(label: str) -> None:
    labels = replace(LABELS, options={**LABELS.options, "sex": {"male": label or "m", "female": "f"}})
    rows = read_open_sdg(open_sdg.data(RELEASE, labels))
    assert not [c for r in rows for c in r.values() if c.startswith(("=", "+", "-", "@"))]


def test_two_rows_that_would_be_one() -> None:
    labels = replace(LABELS, options={**LABELS.options, "sex": {"male": "X", "female": "X"}})
    with pytest.raises(ValueError, match="two rows alike"):
        open_sdg.data(RELEASE, labels)
    with pytest.raises(ValueError, match="two rows alike"):
        open_sdg.data(RELEASE, LABELS, [release_of(table(wave="v"))])
    with pytest.raises(ValueError, match="is no year"):
        open_sdg.data(release_of([replace(e, period="2026-06") for e in table()[:8]]), LABELS)


def test_open_sdg_metadata_is_yaml() -> None:
    nasty = replace(RELEASE, owner="A: # 'b' \"c\"\n- d")
    read = yaml.safe_load(open_sdg.metadata(nasty, LABELS))
    assert read["reporting_status"] == "complete"
    assert read["source_organisation_1"] == nasty.owner
    assert read["data_start_values"] == [{"field": "SERIES", "value": "Health care: overall satisfaction"}]
    assert "Not a probability sample" in read["data_footnote"]


# ---------------------------------------------------------------- SDMX


@pytest.fixture(scope="module", params=["un", "gss"])
def made(request: pytest.FixtureRequest) -> tuple[str, sdmx.SdmxMapping, Structure, list[Row]]:
    mapping = sdmx.load_mapping(DEPLOY / f"{request.param}.toml")
    structure = load_structure(MATERIAL / f"test_structure_{request.param}.xml", mapping.agency, mapping.id)
    return request.param, mapping, structure, sdmx.rows_of(RELEASE, mapping, structure)


Made = tuple[str, sdmx.SdmxMapping, Structure, list[Row]]


def text_of(value: Any) -> str:
    """A cell of the reader's table as we wrote it; "" for its ways to say that there is none."""
    if value is None or value != value or str(value) in ("nan", "None", "NaN", "<NA>"):
        return ""
    try:
        return percent(float(value) / 100)
    except ValueError:
        return str(value)


def same(rows: list[Row], read: list[dict[str, Any]], structure: Structure) -> None:
    keys = [*structure.dimensions, structure.time]
    got = {tuple(str(r[k]) for k in keys): r for r in read}
    assert len(read) == len(got) == len(rows)
    for row in rows:
        back = got[tuple(row[k] for k in keys)]
        for name, text in row.items():
            if name not in keys:
                assert text_of(back[name]) == text_of(text), (name, row)
        for name, value in back.items():
            assert name in row or text_of(value) == "", (name, value)


def write(text: str, path: Path) -> Path:
    path.write_text(text, "utf-8", newline="")
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("form", ["csv_1", "csv_2", "ml"])
def test_pysdmx_reads_every_value(form: str, made: Made, tmp_path: Path) -> None:
    name, mapping, structure, rows = made
    if form == "csv_1":
        path = write(sdmx.csv_1(rows, mapping, structure), tmp_path / "d.csv")
        (read,) = get_datasets(path, validate=False)
    elif form == "csv_2":
        path = write(sdmx.csv_2(rows, structure), tmp_path / "d.csv")
        (read,) = get_datasets(path, MATERIAL / f"test_structure_{name}.xml", validate=True)
    else:
        path = write(message(rows, structure), tmp_path / "d.xml")
        (read,) = get_datasets(path, MATERIAL / f"test_structure_{name}.xml", validate=True)
    same(rows, read.data.to_dict("records"), structure)
    if form != "csv_1":
        assert read.short_urn == f"DataStructure={structure.reference}"


def message(rows: list[Row], structure: Structure) -> str:
    return sdmx.ml_2_1(
        rows, structure, sender="GSS", prepared=datetime(2026, 11, 23, tzinfo=UTC), message="T 1"
    )


def test_hidden_for_the_un_and_for_the_office(made: Made) -> None:
    name, _, structure, rows = made
    mine = [e for e in RELEASE.estimates if e.measure in ("overall", "attributes")]
    if name == "un":
        mine = [e for e in mine if "region" not in dict(e.domain)]
        assert len(rows) == len(mine)
        for e, row in zip(mine, rows, strict=True):
            assert (row["OBS_STATUS"] == "Q") == (e.mark in ("c", "u")) == ("OBS_VALUE" not in row)
            assert ("LOWER_BOUND" in row) == (e.mark not in ("c", "u"))
            assert "modelled as if" in row["COMMENT_OBS"]
            assert ("Respondents" in row["COMMENT_OBS"]) == (e.mark != "c")
    else:
        assert len(rows) == len([e for e in mine if e.mark not in ("c", "u")]) < len(mine)
        assert all("OBS_VALUE" in row for row in rows)
        assert {row["OBS_STATUS"] for row in rows} == {"A"}
        assert {row["REF_AREA"] for row in rows} <= {"GH", *map(str, range(1, 17))}
        assert "UNIT_MEASURE" in structure.dimensions and "UNIT_MEASURE" not in structure.attributes


def test_the_offices_builder_reads_each_observation() -> None:
    """As its code does: Series with their attributes, each Obs with a number, dataScope DataStructure."""
    mapping = sdmx.load_mapping(DEPLOY / "gss.toml")
    structure = load_structure(MATERIAL / "test_structure_gss.xml")
    rows = sdmx.rows_of(RELEASE, mapping, structure)
    root = ElementTree.fromstring(message(rows, structure))
    assert root.tag.endswith("}StructureSpecificData")
    data = next(e for e in root if e.tag.endswith("}DataSet"))
    assert [v for k, v in data.attrib.items() if k.endswith("}dataScope")] == ["DataStructure"]
    read = [(dict(s.attrib), o) for s in data.iter("Series") for o in s.iter("Obs")]
    assert len(read) == len(rows)
    assert len(list(data.iter("Series"))) == len({tuple(s.values()) for s, _ in read})
    for series, obs in read:
        assert list(series) == list(structure.dimensions)
        assert float(obs.attrib["OBS_VALUE"]) >= 0
        assert set(obs.attrib) == {
            "TIME_PERIOD", "OBS_VALUE", "OBS_STATUS", "UNIT_MULT", "NATURE", "TIME_DETAIL", "SOURCE_DETAIL",
        }  # fmt: skip


def test_disability_is_not_swapped(made: Made) -> None:
    """PD is WITH, PWD is WITHOUT disability."""
    _, mapping, _, rows = made
    assert mapping.variables["disability"] == ("DISABILITY_STATUS", {"with": "PD", "without": "PWD"})
    many = next(
        e for e in RELEASE.estimates
        if (e.service, e.measure, e.domain) == ("health", "overall", (("disability", "without"),))
    )  # fmt: skip
    row = next(r for r in rows if r["SERIES"] == "SP_PSR_OSATIS_HLTH" and r["DISABILITY_STATUS"] == "PWD")
    assert row["OBS_VALUE"] == percent(many.share)


def test_every_category_of_the_instrument_is_mapped(made: Made) -> None:
    _, mapping, structure, _ = made
    for variable in ("sex", "age", "region", "residence", "disability", "wealth"):
        if variable in mapping.left_out_variables:
            continue
        dimension, codes = mapping.variables[variable]
        assert set(LABELS.options[variable]) == set(codes)
        allowed = structure.dimensions[dimension]
        assert allowed is not None and set(codes.values()) <= allowed
        assert len(set(codes.values())) == len(codes)
    if "region" in mapping.variables:
        assert mapping.variables["region"][1] == LABELS.codes["region"]
    items = {i.id for i in INSTRUMENT.items if i.role == "attribute"}
    assert mapping.left_out_measures == items
    assert {c for s in mapping.series.values() for c in s.values()} <= (
        structure.dimensions["SERIES"] or set()
    )


# ---- refused


def mapped(folder: Path, old: str, new: str, name: str = "un") -> Path:
    text = (DEPLOY / f"{name}.toml").read_text("utf-8")
    assert old in text
    path = folder / "m.toml"
    path.write_text(text.replace(old, new), "utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (', y65_plus = "Y_GE65"', "", sdmx.MappingError, "variable age: no code for y65_plus"),
        ("[variables.wealth]", "[variables.riches]", sdmx.MappingError, "variable wealth: no dimension"),
        ('"health.cost", ', "", sdmx.MappingError, "series.health: measure health.cost has no series"),
        ('variables = ["region"]', "variables = []", sdmx.MappingError, "variable region: no dimension"),
        ('"Y_GE65"', '"Y65T999"', SdmxError, "AGE: the code 'Y65T999' is not in the structure's code list"),
        ('UNIT_MEASURE = "PT"\n', "", SdmxError, "attribute UNIT_MEASURE is mandatory and missing"),
        ('PRODUCT = "_T"\n', "", SdmxError, "dimension PRODUCT is missing"),
        ('NATURE = "C"', 'NATUR = "C"', SdmxError, "NATUR is neither a dimension nor an attribute"),
        ('male = "M"', 'male = "F"', SdmxError, "the same key as row"),
        ('"SP_PSR_SATIS_HLTH"', '"SP_PSR_SATIS"', sdmx.MappingError, "SP_PSR_SATIS is retired"),
        (
            'suppressed = "Q"',
            'suppressed = "A"',
            SdmxError,
            "no value, and OBS_STATUS 'A' says that there is one",
        ),
        ('shown = "G"', 'shown = "Q"', SdmxError, "a value, and OBS_STATUS Q says that there is none"),
        ('sender = "GSS"\n', "", sdmx.MappingError, "sender: give a text"),
        ("[status]", "[stati]", sdmx.MappingError, "stati: unknown"),
        ('"{low}"', '"{lo}"', sdmx.MappingError, "attributes.LOWER_BOUND: in braces may stand low"),
        ("[constants]", "[constants", sdmx.MappingError, "cannot be read"),
    ],
)
def test_a_mapping_that_does_not_fit(
    old: str, new: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    structure = load_structure(MATERIAL / "test_structure_un.xml")
    with pytest.raises(error, match=re.escape(message)):
        sdmx.rows_of(RELEASE, sdmx.load_mapping(mapped(tmp_path, old, new)), structure)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('series = ["health"]', "series: must be a table: [series]"),
        ('series.health = "X"', "series.health: must be a table"),
        ("series.health.overall = 5", "series.health.overall: give a text"),
        ('variables = ["sex"]', "variables: must be a table"),
        ('variables = {sex = "SEX"}', "variables.sex: must be a table"),
        ("variables = {sex = {}}", "variables.sex.dimension: missing"),
        (
            'variables = {sex = {dimension = "SEX", options = ["M"]}}',
            "variables.sex.options: must be a table",
        ),
        ('attributes = ["a"]', "attributes: must be a table"),
        ("attributes = {X = 5}", 'attributes.X: give a list of texts: ["..."]'),
        ("attributes = {X = [5]}", "attributes.X: give a list of texts"),
        ('attributes = {X = "{low[a]}"}', "attributes.X: in braces may stand low"),
        ('left_out = "overall"', "left_out: must be a table"),
        ('left_out.measures = "overall"', "left_out.measures: give a list of texts"),
        ("left_out.variables = 5", "left_out.variables: give a list of texts"),
        ('left_out.measure = ["overall"]', "left_out.measure: unknown; known: measures, variables"),
        ("agency = 5", "agency: give a text"),
        ("constants = 0", "constants: must be a table"),
        ("", ""),
    ],
)
def test_a_mapping_of_other_types(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f'structure = "a.xml"\nsender = "A"\ndataflow = "A:B(1)"\nsuppressed = "Q"\n{text}\n')
    if not message:
        assert sdmx.load_mapping(path).series == {}
        return
    with pytest.raises(sdmx.MappingError, match=re.escape(f"{path}: {message}")):
        sdmx.load_mapping(path)


ROW = {
    "FREQ": "A", "REPORTING_TYPE": "N", "SERIES": "SP_PSR_OSATIS_HLTH", "REF_AREA": "288", "SEX": "_T",
    "AGE": "_T", "URBANISATION": "_T", "INCOME_WEALTH_QUANTILE": "_T", "EDUCATION_LEV": "_T",
    "OCCUPATION": "_T", "CUST_BREAKDOWN": "_T", "COMPOSITE_BREAKDOWN": "_T",
    "DISABILITY_STATUS": "_T", "ACTIVITY": "_T",
    "PRODUCT": "_T",
    "TIME_PERIOD": "2026", "OBS_VALUE": "49.6", "OBS_STATUS": "A", "UNIT_MULT": "0", "UNIT_MEASURE": "PT",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"SEX": "X"}, "SEX: the code 'X'"),
        ({"SEX": ""}, "dimension SEX is missing"),
        ({"OBS_VALUE": "<5"}, "'<5' is no number"),
        ({"OBS_VALUE": "NaN"}, "'NaN' is no number"),
        ({"OBS_VALUE": "1e2"}, "'1e2' is no number"),
        ({"OBS_VALUE": "-0.5"}, ""),
        ({"TIME_PERIOD": "2026-Q1"}, "is no year"),
        ({"TIME_PERIOD": ""}, "is no year"),
        ({"OBS_STATUS": "Q"}, "says that there is none"),
        ({"OBS_STATUS": "Ä"}, "OBS_STATUS: the code 'Ä'"),
        ({"UNIT_MULT": ""}, "attribute UNIT_MULT is mandatory"),
        ({"COLOUR": "red"}, "COLOUR is neither"),
    ],
)
def test_the_checker(change: dict[str, str], message: str) -> None:
    structure = load_structure(MATERIAL / "test_structure_un.xml")
    row = {**ROW, **change}
    if not message:
        check([row], structure)
        return
    with pytest.raises(SdmxError, match=re.escape(message)):
        check([row], structure)


def test_the_checker_lists_every_fault() -> None:
    structure = load_structure(MATERIAL / "test_structure_un.xml")
    with pytest.raises(SdmxError) as caught:
        check([{**ROW, "SEX": "X", "AGE": "Y"}, ROW, ROW], structure)
    assert len(caught.value.faults) == 3
    assert "row 3: the same key as row 2" in caught.value.faults[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "not XML"),
        ("Series;Code\n1;2\n", "not XML"),
        ("<html><body>404</body></html>", "its root is html, not an SDMX-ML 2.1 Structure"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "document type declaration"),
        ("MESSAGE", "its root is StructureSpecificData"),
        ("EMPTY", "holds 0 data structures"),
        ("STUB", "fetched as a stub"),
        ("NO LIST", "the code list IAEG-SDGs:CL_SEX(1.0) is not in the file"),
    ],
)
def test_a_file_that_is_no_structure(text: str | None, message: str, tmp_path: Path) -> None:
    good = (MATERIAL / "test_structure_un.xml").read_text("utf-8")
    part = "<str:DataStructureComponents>"
    made_up = {
        "MESSAGE": "<m:StructureSpecificData xmlns:m='http://x'/>",
        "EMPTY": re.sub(r"<str:DataStructures>.*</str:DataStructures>", "", good, flags=re.DOTALL),
        "STUB": re.sub(f"{part}.*</str:DataStructureComponents>", "", good, flags=re.DOTALL),
        "NO LIST": good.replace('Codelist id="CL_SEX"', 'Codelist id="CL_GENDER"'),
    }
    path = tmp_path / "DSD.xml"
    if text is not None:
        path.write_text(made_up.get(text, text), "utf-8")
    with pytest.raises(StructureError, match=re.escape(message)) as caught:
        load_structure(path)
    assert str(caught.value).startswith(str(path))


def test_urns_are_references_too(tmp_path: Path) -> None:
    """Registries write either; the codes found are the same."""
    text = (MATERIAL / "test_structure_un.xml").read_text("utf-8")
    lists = re.compile(
        r'<Ref id="(CL_\w+)" agencyID="([^"]+)" version="([^"]+)" package="codelist" class="Codelist"/>'
    )
    text = lists.sub(r"<URN>urn:sdmx:org.sdmx.infomodel.codelist.Codelist=\2:\1(\3)</URN>", text)
    scheme = re.compile(
        r'<Ref id="(\w+)" maintainableParentID="(\w+)" maintainableParentVersion="([^"]+)"'
        r' agencyID="([^"]+)"[^>]*/>'
    )
    text = scheme.sub(r"<URN>urn:sdmx:org.sdmx.infomodel.conceptscheme.Concept=\4:\2(\3).\1</URN>", text)
    assert "<URN>" in text
    path = write(text, tmp_path / "urns.xml")
    assert replace(load_structure(path), file="") == replace(
        load_structure(MATERIAL / "test_structure_un.xml"), file=""
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=40))
def test_any_owner_in_sdmx(owner: str) -> None:
    """Whatever the office is called, the message is XML and says it."""
    structure = load_structure(MATERIAL / "test_structure_gss.xml")
    release = replace(RELEASE, owner=owner, estimates=RELEASE.estimates[:1])
    rows = sdmx.rows_of(release, sdmx.load_mapping(DEPLOY / "gss.toml"), structure)
    obs = next(ElementTree.fromstring(message(rows, structure)).iter("Obs"))
    said = " ".join(f"{owner}, wave w, version 1".split())
    assert obs.attrib["SOURCE_DETAIL"] == said
    (row,) = csv.DictReader(io.StringIO(sdmx.csv_2(rows, structure)))
    assert row["SOURCE_DETAIL"] == said


# ---------------------------------------------------------------- in the folder


@pytest.fixture()
def structures(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "structures"
    folder.mkdir()
    for name, file in (("un", "IAEG-SDGs_SDG.xml"), ("gss", "GSS_DSD.xml")):
        (folder / file).write_bytes((MATERIAL / f"test_structure_{name}.xml").read_bytes())
    yield folder


def test_a_release_with_sdmx(structures: Path, tmp_path: Path) -> None:
    both = Sdmx(structures, {"un": DEPLOY / "un.toml", "gss": DEPLOY / "gss.toml"})
    folder = publish(table(), tmp_path / "out", about(), LABELS, issued=date(2026, 11, 23), sdmx=both)
    names = {f.name for f in folder.iterdir()}
    assert {f"sdmx_{r}{s}" for r in ("un", "gss") for s in (".csv", "_2.csv", ".xml")} <= names
    assert verify(folder) == []
    head = (folder / "sdmx_un.csv").read_text("utf-8").splitlines()[0]
    assert head.startswith("DATAFLOW,FREQ,REPORTING_TYPE,SERIES,REF_AREA,SEX,AGE,")
    assert "TIME_PERIOD,OBS_VALUE,UNIT_MEASURE" in head


def test_no_release_with_a_broken_structure(structures: Path, tmp_path: Path) -> None:
    (structures / "GSS_DSD.xml").write_text("<html/>")
    both = Sdmx(structures, {"un": DEPLOY / "un.toml", "gss": DEPLOY / "gss.toml"})
    with pytest.raises(StructureError, match=r"GSS_DSD\.xml: its root is html"):
        publish(table(), tmp_path / "out", about(), LABELS, issued=date(2026, 11, 23), sdmx=both)
    assert list((tmp_path / "out" / "w").iterdir()) == []


def test_the_mapping_files_are_toml() -> None:
    for name in ("un", "gss"):
        assert tomllib.loads((DEPLOY / f"{name}.toml").read_text("utf-8"))["series"]["health"]


logging.getLogger("pyaxis").setLevel(logging.ERROR)
