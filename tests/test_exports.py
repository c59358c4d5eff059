"""Every format of row-level data, opened by the tool it is for, and compared value by value.

The tools are real: R with haven and foreign, PSPP, openpyxl, DuckDB, frictionless. Stata cannot be had;
what stands in for it is R's reader of its files, and a reading of the do-file line by line.
"""

import csv
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import Engine, text

from storage.analysis.codebook import FILE_COLUMNS
from storage.analysis.dictionary import (
    PUBLIC,
    SCIENTIFIC,
    VARIANTS,
    Variable,
    file_variables,
    item_variables,
    long_variables,
)
from storage.analysis.exports.data_package import digest
from storage.analysis.exports.ddi import NAMESPACE
from storage.analysis.exports.formats import EXPORTS, SUMS, export_files
from storage.analysis.exports.limits import STATA_LABEL, one_line
from storage.analysis.exports.microdata import Asked, Values, export_id
from storage.analysis.exports.spss import write_spss
from storage.analysis.exports.stata import write_stata
from storage.analysis.exports.xlsx import COUNT_COLUMNS
from storage.database import open_engine, reading
from storage.record import close_unfinished
from tests.ddi_schema import faults
from tests.export_material import HOSTILE, KEY, LONG, NASTY, OPTION, entries, interviews
from tests.record_material import fold_all
from tests.stores import give_schema, missing

ABOUT = Values(owner='Office "of" <Statistics>', contact="0800", code="*384*16#")
Table = list[dict[str, str]]


@dataclass(frozen=True)
class Files:
    """One export in every format, and its values as the plainest reader has them."""

    folder: Path
    asked: Asked
    variables: tuple[Variable, ...]
    wide: Table
    long: Table

    @property
    def named(self) -> dict[str, Variable]:
        return {v.name: v for v in self.variables}


def read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(engine: Engine) -> None:
    from datetime import UTC, datetime

    give_schema(engine, HOSTILE)
    fold_all(engine, entries(interviews(300)))
    fold_all(engine, entries(interviews(150, seed=17, wave="second-2027", first=1)))
    fold_all(engine, entries(interviews(5, seed=3, wave="tiny" * 20, first=900)))
    close_unfinished(engine, datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('exports') / 'd.sqlite3'}")
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session", params=VARIANTS)
def files(
    request: pytest.FixtureRequest, database: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Files:
    folder = tmp_path_factory.mktemp(request.param)
    asked = Asked(request.param, "a purpose")
    made = export_files(database, HOSTILE, asked, KEY, folder, list(EXPORTS), about=ABOUT)
    assert sorted(p.name for p in made.files) == sorted(p.name for p in folder.iterdir())
    variables = file_variables(HOSTILE, request.param, values=ABOUT.inserted())
    wide = read_csv(folder / "wide.csv")
    assert len(wide) == made.rows > 100
    return Files(folder, asked, variables, wide, read_csv(folder / "long.csv"))


def number(value: Any) -> float | None:
    return None if value in (None, "", "NA") else float(value)


def same(files: Files, name: str, found: list[Any]) -> None:
    """The column as another reader has it, codes of missing answers included."""
    expected = [row[name] for row in files.wide]
    if files.named[name].kind in ("text", "month", "date"):
        assert [f or "" for f in found] == expected, name
    else:
        assert [number(f) for f in found] == [number(e) for e in expected], name


# ---------------------------------------------------------------- against the view


def view(engine: Engine) -> list[dict[str, Any]]:
    with reading(engine) as db:
        return [dict(r._mapping) for r in db.execute(text("SELECT * FROM interviews_wide"))]


def day(at: Any) -> str:
    return at[:10] if isinstance(at, str) else at.date().isoformat()


DISPOSITIONS = {"complete": "1", "partial": "2", "break_off": "3", "refusal": "5"}
GROUPS = {"young": "1", "old": "2"}


def as_in_file(row: Mapping[str, Any], asked: Asked) -> dict[str, str]:
    """What the file should hold of a row of the view, worked out apart from the code under test."""
    out = {
        "interview": export_id(KEY, asked, "interview", row["interview"]),
        "respondent": export_id(KEY, asked, "respondent", row["respondent"]),
        "wave": row["wave"], "instrument": row["instrument"], "language": row["language"], "mode": "1",
        "began_on": day(row["began_at"]), "disposition": DISPOSITIONS[row["disposition"]],
        "stratum": "", "weight_base": "1.0",
    }  # fmt: skip
    for block in ("water", "roads"):
        chance = json.loads(row["probabilities"]).get(block)
        out[f"weight_{block}"] = "" if chance is None else str(1 / chance)
    for name in ("consent", "age", "age_nonresponse", "region", "sex", "function", *(
        v.name for v in item_variables(HOSTILE) if v.item is not None and v.item.service
    )):  # fmt: skip
        out[name] = "" if row[name] is None else str(row[name])
    out["age_group"] = GROUPS.get(row["age_group"], out["age_nonresponse"])
    return out


@pytest.mark.parametrize("excel", [False, True])
def test_the_scientific_file_holds_the_view_value_by_value(
    database_url: str, tmp_path: Path, excel: bool
) -> None:
    engine = open_engine(database_url)
    fill(engine)
    asked = Asked(SCIENTIFIC, "a purpose", excel=excel)
    export_files(engine, HOSTILE, asked, KEY, tmp_path, ["csv"])
    raw = (tmp_path / "wide.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf") == excel
    found = {row["interview"]: row for row in csv.DictReader(raw.decode("utf-8-sig").splitlines())}
    rows = [r for r in view(engine) if r["disposition"] != "withdrawn" and r["aggregator"] != "simulator"]
    assert len(rows) < len(view(engine))  # some of each were there to leave out
    expected = {r["interview"]: r for r in (as_in_file(row, asked) for row in rows)}
    assert found.keys() == expected.keys() and len(found) > 300
    for key, row in found.items():
        plain = {
            name: "" if value == "100" and name not in ("age",) else value for name, value in row.items()
        }
        assert plain == expected[key]
    assert list(found) == sorted(found)  # by the new ids, not by time
    engine.dispose()


def test_the_long_file_holds_the_values_of_the_wide_one(files: Files) -> None:
    assert list(files.long[0]) == [v.name for v in long_variables(HOSTILE, files.variables)]
    found = {(r["interview"], r["variable"]): r for r in files.long}
    expected = {
        (row["interview"], v.name): row[v.name]
        for row in files.wide
        for v in files.variables
        if v.item is not None and row[v.name]
    }
    assert {key: r["number"] or r["code"] for key, r in found.items()} == expected
    assert len(found) == len(files.long)
    for (_, name), row in found.items():
        v = files.named[name]
        answer = next((c.labels["en"] for c in v.codes if str(c.code) == row["code"]), "")
        assert row["answer"] in (answer, f"'{answer}") and (row["answer"] == answer or answer == OPTION)
        assert (row["missing"] == "1") == (row["code"] in {str(c.code) for c in v.missing})
        assert v.item is not None and row["item"] == v.item.id


# ---------------------------------------------------------------- CSV


def test_no_cell_of_any_csv_begins_a_formula(files: Files) -> None:
    seen = 0
    for name in ("wide.csv", "wide_labels.csv", "long.csv", "codebook.csv"):
        for row in read_csv(files.folder / name):
            for cell in row.values():
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), name
                seen += cell.startswith("'=")
    assert seen > 10  # nasty words were there


def test_the_labels_file_says_each_code_in_words(files: Files) -> None:
    labels = read_csv(files.folder / "wide_labels.csv")
    for coded, worded in zip(files.wide, labels, strict=True):
        for v in files.variables:
            words = {str(c.code): c.labels["en"] for c in v.codes}
            expected = words.get(coded[v.name], coded[v.name])
            assert worded[v.name] == (f"'{expected}" if expected == OPTION else expected)


def test_the_codebook_explains_every_column_and_every_code(files: Files) -> None:
    rows = read_csv(files.folder / "codebook.csv")
    assert list(rows[0]) == list(FILE_COLUMNS)
    for name, table in (("wide.csv", files.wide), ("long.csv", files.long)):
        mine = [r for r in rows if r["file"] == name]
        assert list(dict.fromkeys(r["variable"] for r in mine)) == list(table[0])
    coded: dict[str, set[str]] = {}
    for r in rows:
        if r["file"] == "wide.csv" and r["type"] == "category":
            coded.setdefault(r["variable"], {""}).add(r["code"])
    for variable, codes in coded.items():
        assert {row[variable] for row in files.wide} <= codes, variable
    assert {r["iso"] for r in rows if r["variable"] == "region"} >= {"GH-AA", "GH-AF"}
    wording = next(r for r in rows if r["variable"] == "water_a1")["wording"]
    assert wording == f"'+{ABOUT.owner}: water a1?"


def test_the_sums_are_those_of_the_files(files: Files) -> None:
    listed = dict(line.split("  ")[::-1] for line in (files.folder / SUMS).read_text("utf-8").splitlines())
    assert listed == {p.name: digest(p) for p in files.folder.iterdir() if p.name != SUMS}


# ---------------------------------------------------------------- Excel


def test_excel_s_own_reader_finds_text_and_no_formula(files: Files) -> None:
    import openpyxl  # type: ignore[import-untyped,unused-ignore]

    book = openpyxl.load_workbook(files.folder / "data.xlsx")
    assert book.sheetnames == ["codes", "labels", "codebook", "counts", "read me"]
    for sheet in book:
        assert not [
            c.coordinate for row in sheet.iter_rows() for c in row if c.data_type == "f" or c.hyperlink
        ]
    rows = list(book["codes"].iter_rows(values_only=True))
    assert rows[0] == tuple(v.name for v in files.variables)
    for at, v in enumerate(files.variables):
        column = [row[at] for row in rows[1:]]
        if v.kind == "date":
            assert all(c is None or c.time().isoformat() == "00:00:00" for c in column)
            column = [c and c.date().isoformat() for c in column]
        same(files, v.name, column)
    labels = list(book["labels"].iter_rows(values_only=True))
    answers = {row[rows[0].index("water_a1")] for row in labels[1:]}
    assert OPTION in answers  # as it is: nobody takes it for a formula here
    assert (NASTY,) in {(r[2],) for r in book["codebook"].iter_rows(values_only=True)}


def test_the_counts_are_those_of_the_rows(files: Files) -> None:
    import openpyxl  # type: ignore[import-untyped,unused-ignore]

    book = openpyxl.load_workbook(files.folder / "data.xlsx", read_only=True)
    head, *rows = book["counts"].iter_rows(values_only=True)
    assert head == COUNT_COLUMNS
    counted = {row[0]: dict(zip(COUNT_COLUMNS[2:], row[2:], strict=True)) for row in rows}
    assert counted.keys() == {v.name for v in files.variables if v.item is not None and v.codes}
    for name, counts in counted.items():
        seen = Counter(row[name] for row in files.wide)
        reasons = {"not applicable": "97", "don't know": "98", "refused": "99", "not reached": "100",
                   "withheld": "101", "empty": ""}  # fmt: skip
        assert {n: c or 0 for n, c in counts.items() if n != "valid"} == {
            n: seen[code] for n, code in reasons.items()
        }
        assert counts["valid"] == sum(n for code, n in seen.items() if code not in reasons.values())


# ---------------------------------------------------------------- R


def run(tool: str, *arguments: str, folder: Path, locale: str = "C.UTF-8") -> str:
    """The tool's output. Skips by name where it is not installed."""
    if shutil.which(tool) is None:
        missing(tool)
    done = subprocess.run(
        [tool, *arguments], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "LC_ALL": locale},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


_R = r"""
say <- function(kind, ...) cat(kind, ..., sep = "\037", fill = FALSE)
code_of <- c(a = 97, b = 98, c = 99, d = 100, e = 101)
tell <- function(data) {
  for (name in names(data)) {
    x <- data[[name]]
    label <- attr(x, "label", exact = TRUE)
    say("label", name, if (is.null(label)) "" else gsub("\n", "\036", label)); cat("\n")
    l <- attr(x, "labels", exact = TRUE)
    for (n in seq_along(l)) {
      code <- l[[n]]
      if (is.na(code)) code <- code_of[[haven::na_tag(l[n])]]
      say("value", name, code, gsub("\n", "\036", names(l)[n])); cat("\n")
    }
    range <- attr(x, "na_range", exact = TRUE)
    if (is.null(range)) range <- rep(attr(x, "na_values", exact = TRUE), 2)  # a range of one, as haven has it
    if (!is.null(range)) { say("missing", name, range[1], range[2]); cat("\n") }
    if (inherits(x, "Date")) v <- format(x)
    else if (is.character(x)) v <- x
    else {
      v <- as.numeric(unclass(x))
      tags <- if (is.double(x)) haven::na_tag(x) else rep(NA, length(x))
      v <- ifelse(is.na(tags), v, code_of[tags])
    }
    v <- ifelse(is.na(v), "", as.character(v))
    say("column", name, paste(v, collapse = "\035")); cat("\n")
  }
}
"""


@dataclass
class Read:
    """What another program read."""

    labels: dict[str, str]
    values: dict[str, dict[int, str]]
    missing: dict[str, tuple[int, int]]
    columns: dict[str, list[str]]


def in_r(files: Files, script: str) -> Read:
    path = files.folder.parent / f"{files.folder.name}.R"
    path.write_text(_R + script, "utf-8")
    read = Read({}, {}, {}, {})
    for line in run("Rscript", "--vanilla", str(path), folder=files.folder).rstrip("\n").split("\n"):
        kind, name, *rest = line.replace("\036", "\n").split("\037")
        if kind == "label":
            read.labels[name] = rest[0]
        elif kind == "value":
            read.values.setdefault(name, {})[int(float(rest[0]))] = rest[1]
        elif kind == "missing":
            read.missing[name] = (int(rest[0]), int(rest[1]))
        elif kind == "column":
            read.columns[name] = rest[0].split("\035")
    return read


def r_package(name: str) -> None:
    if shutil.which("Rscript") is None:
        missing("Rscript")
    found = subprocess.run(["Rscript", "-e", f"quit(status = !requireNamespace('{name}', quietly = TRUE))"])
    if found.returncode:
        missing(f"R package {name}")


def described(read: Read, files: Files, most: int, value_label: int) -> None:
    """Labels, codes and values are the dictionary's and the CSV's."""
    assert list(read.columns) == [v.name for v in files.variables]
    for v in files.variables:
        assert read.labels[v.name] == one_line(v.label, most) or read.labels[v.name] == v.label
        assert read.values.get(v.name, {}) == {c.code: one_line(c.labels["en"], value_label) for c in v.codes}
        same(files, v.name, read.columns[v.name])


def ranges(files: Files) -> dict[str, tuple[int, int]]:
    return {
        v.name: (min(c.code for c in v.missing), max(c.code for c in v.missing))
        for v in files.variables
        if v.missing
    }


def test_haven_reads_the_spss_file(files: Files) -> None:
    r_package("haven")
    read = in_r(files, 'tell(haven::read_sav("wide.sav", user_na = TRUE))')
    described(read, files, 255, 120)
    assert read.missing == ranges(files)


def test_haven_reads_the_stata_file(files: Files) -> None:
    r_package("haven")
    read = in_r(files, 'tell(haven::read_dta("wide.dta"))')
    described(read, files, STATA_LABEL, 32_000)
    assert len(LONG.encode()) > STATA_LABEL and read.labels["water_a2"] == "Ɛ" * 40  # 80 bytes, none halved
    tags = {c for v in ranges(files).values() for c in v}
    assert 100 in tags  # the letters were there to turn back


def test_foreign_reads_the_spss_file(files: Files) -> None:
    r_package("foreign")
    r_package("haven")
    script = """
    data <- suppressWarnings(foreign::read.spss("wide.sav", use.value.labels = FALSE, to.data.frame = FALSE))
    names(data) <- tolower(names(data))
    for (n in names(data)) if (is.character(data[[n]])) data[[n]] <- trimws(data[[n]])
    for (n in names(data)) attributes(data[[n]]) <- NULL
    tell(data)
    """
    read = in_r(files, script)
    for v in files.variables:
        if v.kind == "date":  # foreign gives SPSS's seconds since 1582-10-14
            start = date(1582, 10, 14).toordinal()
            days = [
                date.fromordinal(start + int(float(c)) // 86_400).isoformat() for c in read.columns[v.name]
            ]
            same(files, v.name, days)
        else:
            same(files, v.name, read.columns[v.name])


def test_the_r_syntax_runs_and_reads_the_csv(files: Files) -> None:
    r_package("haven")
    script = """
    source("read.R")
    tell(dial16)
    for (n in names(dial16)) { range <- attr(dial16[[n]], "na_range")
      if (!is.null(range)) stopifnot(!any(dial16_valid[[n]] %in% range[1]:range[2])) }
    """
    read = in_r(files, script)
    assert read.labels["water_a1"] == NASTY  # in full, with its line break
    assert read.missing == ranges(files)
    for v in files.variables:
        assert read.labels[v.name] == v.label
        assert read.values.get(v.name, {}) == {c.code: c.labels["en"] for c in v.codes}
        same(files, v.name, read.columns[v.name])


def test_the_r_syntax_reads_alike_in_a_plain_locale(files: Files) -> None:
    words = 'names(attr(dial16$water_a1, "labels"))[3]'
    code = f'source("read.R"); cat(utf8ToInt(attr(dial16$water_a2, "label")), {words})'
    said = run("Rscript", "--vanilla", "-e", code, folder=files.folder, locale="C")
    assert said == " ".join(["400"] * 200) + " " + OPTION


# ---------------------------------------------------------------- SPSS


def in_pspp(files: Files, syntax: str) -> Table:
    """The rows that PSPP has after `syntax`, as it writes them itself."""
    out = files.folder.parent / f"{files.folder.name}.pspp.csv"
    out.unlink(missing_ok=True)
    path = out.with_suffix(".sps")
    save = f"SAVE TRANSLATE /OUTFILE='{out}' /TYPE=CSV /FIELDNAMES /CELLS=VALUES /REPLACE.\n"
    path.write_text(syntax + save, "utf-8")
    said = run("pspp", "--syntax-encoding=UTF-8", "--no-statrc", str(path), folder=files.folder)
    assert "warning" not in said
    return read_csv(out)


def same_in_pspp(files: Files, rows: Table) -> None:
    assert list(rows[0]) == [v.name for v in files.variables]
    for v in files.variables:
        column = [row[v.name].strip() for row in rows]
        if v.kind == "date":
            column = [iso(cell) for cell in column]
        same(files, v.name, column)


def iso(cell: str) -> str:
    """A day as PSPP writes it: 11/23/2025, 23-NOV-2025 or 2025/11/23."""
    from datetime import datetime

    for form in ("%m/%d/%Y", "%d-%b-%Y", "%Y/%m/%d"):
        try:
            return datetime.strptime(cell.title(), form).date().isoformat()  # noqa: DTZ007
        except ValueError:
            continue
    return cell


def test_pspp_reads_the_spss_file(files: Files) -> None:
    same_in_pspp(files, in_pspp(files, "GET FILE='wide.sav'.\n"))


def test_the_spss_syntax_runs_and_makes_the_same_file(files: Files) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    made = files.folder.parent / f"{files.folder.name}.from_csv.sav"
    syntax = (files.folder / "read.sps").read_text("utf-8")
    same_in_pspp(files, in_pspp(files, f"{syntax}SAVE OUTFILE='{made}'.\n"))
    _, theirs = pyreadstat.read_sav(made, user_missing=True)
    _, ours = pyreadstat.read_sav(files.folder / "wide.sav", user_missing=True)
    for what in (
        "column_names",
        "column_labels",
        "variable_value_labels",
        "missing_ranges",
        "variable_measure",
    ):
        assert getattr(theirs, what) == getattr(ours, what), what
    assert "\n" not in ours.column_names_to_labels["water_a1"]


# ---------------------------------------------------------------- Stata


def test_the_stata_syntax_says_what_the_stata_file_has(files: Files) -> None:
    """Line by line, for want of Stata: each statement is of a known form, and all together are the labels."""
    pyreadstat = pytest.importorskip("pyreadstat")
    labels: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    recoded: dict[str, str] = {}
    head, *lines = (files.folder / "read.do").read_text("utf-8").splitlines()
    assert head.startswith("* ")
    for line in lines:
        assert line.count('"') % 2 == 0 and "`" not in line and "$" not in line
        if m := re.fullmatch(r'label variable (\w+) "(.*)"', line):
            labels[m[1]] = m[2]
        elif m := re.fullmatch(r'label define (\w+) (\S+) "(.*)", (replace|add)', line):
            assert (m[4] == "replace") == (m[1] not in values)
            values.setdefault(m[1], {})[m[2]] = m[3]
        elif m := re.fullmatch(r"mvdecode (\w+), mv\((.*)\)", line):
            recoded[m[1]] = m[2]
        else:
            assert re.match(
                r"version 14|import delimited|  bindquote|generate|order|drop|rename|format|label values",
                line,
            )
    _, theirs = pyreadstat.read_dta(files.folder / "wide.dta", user_missing=True)
    plain = str.maketrans({'"': "'", "`": "'", "$": "\uff04"})
    assert labels == {n: label.translate(plain) for n, label in theirs.column_names_to_labels.items()}
    assert values == {
        n: {(f".{c}" if isinstance(c, str) else str(c)): w.translate(plain) for c, w in known.items()}
        for n, known in theirs.variable_value_labels.items()
    }
    letters = {97: "a", 98: "b", 99: "c", 100: "d", 101: "e"}
    assert recoded == {
        v.name: " \\ ".join(f"{c.code}=.{letters[c.code]}" for c in v.missing)
        for v in files.variables
        if v.missing
    }


@pytest.mark.parametrize("ending", ["sav", "dta"])
def test_a_big_file_comes_in_parts(database: Engine, tmp_path: Path, ending: str) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    from storage.analysis.exports.microdata import collect

    write = {"sav": write_spss, "dta": write_stata}[ending]
    read = {"sav": pyreadstat.read_sav, "dta": pyreadstat.read_dta}[ending]
    with collect(database, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path) as data:
        written = write(data, tmp_path, lambda what, done, total: None, part=150)
        assert [p.name for p in written] == [f"wide.part{n}.{ending}" for n in range(1, len(written) + 1)]
        assert len(written) == -(-data.count // 150) > 1
        ids = [i for path in written for i in read(path)[0]["interview"]]
        assert ids == [row[0] for row in data.rows()]


# ---------------------------------------------------------------- Parquet, Data Package, DDI


@pytest.mark.parametrize("name", ["wide", "long"])
def test_duckdb_and_arrow_read_the_parquet_files(files: Files, name: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    table = files.wide if name == "wide" else files.long
    variables = files.variables if name == "wide" else long_variables(HOSTILE, files.variables)
    path = files.folder / f"{name}.parquet"
    with duckdb.connect() as db:
        types = {n: kind for n, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()}
        rows = db.execute(f"SELECT * FROM '{path}'").fetchall()
        (kept,) = db.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata('{path}') WHERE decode(key) = 'dial16.schema'"
        ).fetchone()
    kinds = {"category": "SMALLINT", "date": "DATE", "text": "VARCHAR", "month": "VARCHAR"}
    assert types == {v.name: kinds.get(v.kind, "BIGINT" if v.whole else "DOUBLE") for v in variables}
    for at, v in enumerate(variables):
        found = ["" if row[at] is None else str(row[at]) for row in rows]
        expected = [row[v.name].removeprefix("'") if v.name == "answer" else row[v.name] for row in table]
        assert found == expected, v.name
    assert [f["name"] for f in json.loads(kept)["fields"]] == list(types)
    arrow = pytest.importorskip("pyarrow.parquet").read_table(path)
    assert arrow.column_names == list(types) and arrow.num_rows == len(table)


def test_frictionless_validates_the_data_package(files: Files, tmp_path: Path) -> None:
    frictionless = pytest.importorskip("frictionless")
    report = frictionless.validate(str(files.folder / "datapackage.json"))
    assert report.valid, report.flatten(["type", "message"])
    assert {t.name: t.stats["rows"] for t in report.tasks} | {"codebook": 0} == {
        "wide": len(files.wide), "long": len(files.long), "codebook": 0,
    }  # fmt: skip
    package = json.loads((files.folder / "datapackage.json").read_text("utf-8"))
    assert package["$schema"].startswith("https://datapackage.org/profiles/2.0/")
    fields = {f["name"]: f for f in package["resources"][0]["schema"]["fields"]}
    for v in files.variables:
        known = {c["value"]: c["label"] for c in fields[v.name].get("categories", [])}
        absent = {m["value"]: m["label"] for m in fields[v.name].get("missingValues", []) if m["value"]}
        assert known == {c.code: c.labels["en"] for c in v.codes if not c.missing}
        assert absent == {str(c.code): c.labels["en"] for c in v.missing}
    for name in ("datapackage.json", "wide.csv", "long.csv", "codebook.csv"):
        shutil.copy(files.folder / name, tmp_path)
    with (tmp_path / "wide.csv").open("a", encoding="utf-8") as file:
        file.write(files.wide[0]["interview"] + ",x\n")
    assert not frictionless.validate(str(tmp_path / "datapackage.json")).valid


def test_the_ddi_describes_every_variable(files: Files) -> None:
    root = ET.parse(files.folder / "ddi.xml").getroot()
    space = {"d": NAMESPACE}
    assert root.tag == f"{{{NAMESPACE}}}codeBook" and root.get("version") == "2.5"
    assert root.findtext("d:stdyDscr/d:citation/d:titlStmt/d:titl", "", space) == NASTY
    assert root.findtext(".//d:caseQnty", "", space) == str(len(files.wide))
    described = root.findall("d:dataDscr/d:var", space)
    assert [v.get("name") for v in described] == [v.name for v in files.variables]
    frequencies = 0
    for element, v in zip(described, files.variables, strict=True):
        assert element.findtext("d:labl", "", space) == v.label
        asked = {
            q.get("{http://www.w3.org/XML/1998/namespace}lang"): q.text
            for q in element.findall(".//d:qstnLit", space)
        }
        assert asked == v.question
        found = element.findall("d:catgry", space)
        assert [(c.findtext("d:catValu", "", space), c.get("missing") == "Y") for c in found] == [
            (str(c.code), c.missing) for c in v.codes
        ]
        seen = Counter(row[v.name] for row in files.wide)
        stated = {c.findtext("d:catValu", "", space): c.findtext("d:catStat", None, space) for c in found}
        if any(stated.values()):
            frequencies += 1
            assert stated == {str(c.code): str(seen[str(c.code)]) for c in v.codes}
            assert files.asked.variant == PUBLIC or min(seen.values()) >= 10
        else:
            assert not v.codes or files.asked.variant == SCIENTIFIC
    assert frequencies


def test_the_ddi_is_as_its_schema_has_it(files: Files) -> None:
    """Children in order and number, attributes and their values: the table of `ddi_schema`."""
    root = ET.parse(files.folder / "ddi.xml").getroot()
    assert list(faults(root)) == []
    space = {"d": NAMESPACE}
    spoilt: list[tuple[str, Callable[[ET.Element], object], str]] = [
        ("d:stdyDscr/d:citation/d:titlStmt", lambda e: e.remove(e[0]), "titlStmt: has ['IDNo']"),
        ("d:dataDscr/d:var", lambda e: e.append(ET.Element(f"{{{NAMESPACE}}}labl")), "var: has ['labl'"),
        ("d:dataDscr/d:var[2]", lambda e: e.attrib.pop("name"), "var: lacks name"),
        ("d:dataDscr/d:var[3]", lambda e: e.set("ID", "V1"), "var: ID 'V1' is no xs:ID, or not the only one"),
        ("d:dataDscr/d:var[4]", lambda e: e.set("intrvl", "nominal"), "var: intrvl is 'nominal'"),
    ]
    for path, spoil, said in spoilt:
        element = root.find(path, space)
        assert element is not None
        spoil(element)
        assert any(fault.startswith(said) for fault in faults(root)), said


def test_the_read_me_says_what_was_left_out(files: Files) -> None:
    said = (files.folder / "README.md").read_text("utf-8")
    assert f"- Interviews: {len(files.wide)}" in said and "made up with the simulator" in said
    assert ("withheld, then the region" in said) == (files.asked.variant == PUBLIC)
