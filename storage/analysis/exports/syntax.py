"""Syntax that reads wide.csv: read.R, read.sps and read.do, for who has no use for a binary file.

Each declares names, types, labels and missing values as in the binary formats. They are run from the
folder that they stand in.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from storage.analysis.dictionary import Variable
from storage.analysis.exports.limits import (
    SPSS_LABEL,
    SPSS_NAME,
    SPSS_VALUE_LABEL,
    STATA_LABEL,
    STATA_NAME,
    STATA_VALUE_LABEL,
    check_names,
    missing_range,
    one_line,
)
from storage.analysis.exports.microdata import Microdata, Progress
from storage.analysis.exports.spss import spss_format
from storage.analysis.exports.stata import letters


def write_syntax(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """The three files, for a wide.csv of the same data."""
    check_names(data, STATA_NAME, "Stata")
    check_names(data, SPSS_NAME, "SPSS")
    written = []
    for name, lines in _SYNTAX.items():
        path = folder / name
        path.write_text("\n".join(lines(data)) + "\n", "utf-8")
        told(name, 1, 1)
        written.append(path)
    return written


# ---------------------------------------------------------------- R


def r_text(text: str) -> str:
    """An R string in ASCII, so that it reads the same in any locale."""
    out = []
    for c in text:
        code = ord(c)
        if c in '"\\':
            out.append("\\" + c)
        elif 32 <= code < 127:
            out.append(c)
        elif code:  # R has no character 0
            out.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _r_name(name: str) -> str:
    """In backticks, in which R takes its own words too, such as function or next."""
    return f"`{name}`"


def _r(data: Microdata) -> Iterator[str]:
    kinds = {"text": "character", "month": "character", "date": "Date", "category": "integer"}
    classes = [
        f"  {_r_name(v.name)} = {r_text(kinds.get(v.kind, 'integer' if v.whole else 'numeric'))}"
        for v in data.variables
    ]
    yield f"# {one_line(data.instrument.reference, 200)}: reads wide.csv in base R; run it in its folder."
    yield "# dial16: the codes as they are, with attributes label, labels and na_range as haven has them."
    yield "# dial16_valid: the same with every missing answer as NA."
    yield 'dial16 <- read.csv("wide.csv", fileEncoding = "UTF-8-BOM", na.strings = "", check.names = FALSE,'
    yield "  colClasses = c("
    yield ",\n".join(classes)
    yield "  ))"
    yield "described <- function(column, label, labels = NULL, missing = NULL) {"
    yield '  attr(column, "label") <- label'
    yield '  if (!is.null(labels)) attr(column, "labels") <- labels'
    yield '  if (!is.null(missing)) attr(column, "na_range") <- missing'
    yield "  column"
    yield "}"
    for v in data.variables:
        column = f"dial16${_r_name(v.name)}"
        parts = [column, r_text(v.label)]
        if v.codes:
            # Not c("Yes" = 1): a name written so would be turned into the locale's own alphabet.
            codes = ", ".join(f"{c.code}L" for c in v.codes)
            words = ", ".join(r_text(c.labels[data.language]) for c in v.codes)
            parts.append(f"setNames(c({codes}), c({words}))")
        if found := missing_range(v):
            parts.append(f"c({found[0]}, {found[1]})")
        yield f"{column} <- described({', '.join(parts)})"
    yield "dial16_valid <- as.data.frame(lapply(dial16, function(column) {"
    yield '  range <- attr(column, "na_range")'
    yield "  if (!is.null(range)) column[!is.na(column) & column >= range[1] & column <= range[2]] <- NA"
    yield "  column"
    yield "}), check.names = FALSE)"


# ---------------------------------------------------------------- SPSS


def spss_text(text: str, most: int) -> str:
    return "'" + one_line(text, most).replace("'", "''") + "'"


def _sps(data: Microdata) -> Iterator[str]:
    yield "* Encoding: UTF-8."
    yield f"* {one_line(data.instrument.reference, 200)}: reads wide.csv. Run it in the file's folder."
    yield "SET DECIMAL=DOT."
    yield "GET DATA /TYPE=TXT /FILE='wide.csv' /ENCODING='UTF8' /ARRANGEMENT=DELIMITED /DELIMITERS=','"
    yield "  /QUALIFIER='\"' /FIRSTCASE=2 /VARIABLES="
    yield from (f"  {v.name} {_spss_type(data, v)}" for v in data.variables)
    yield "."
    yield "VARIABLE LABELS"
    yield from (f"  {v.name} {spss_text(v.label, SPSS_LABEL)}" for v in data.variables)
    yield "."
    for v in data.variables:
        if v.codes:
            yield f"VALUE LABELS {v.name}"
            yield from (f"  {c.code} {spss_text(c.labels[data.language], SPSS_VALUE_LABEL)}" for c in v.codes)
            yield "."
        if found := missing_range(v):
            codes = " THRU ".join(map(str, dict.fromkeys(found)))  # PSPP warns of a range of one
            yield f"MISSING VALUES {v.name} ({codes})."
    for v in data.variables:
        yield f"VARIABLE LEVEL {v.name} ({v.measure.upper()})."
    yield "EXECUTE."


def _spss_type(data: Microdata, variable: Variable) -> str:
    if variable.kind == "date":
        return "SDATE10"
    if variable.kind in ("text", "month"):
        # At least 64, so that files fit together; an apostrophe may stand before a text.
        return f"A{max(64, data.longest(variable) + 1)}"
    return spss_format(variable)


# ---------------------------------------------------------------- Stata


def stata_text(text: str, most: int) -> str:
    """A Stata string: no quote that would end it, no ` or $ that would begin a macro."""
    plain = text.translate({ord('"'): "'", ord("`"): "'", ord("$"): "\uff04"})
    return '"' + one_line(plain, most) + '"'


def _do(data: Microdata) -> Iterator[str]:
    letter = letters(data.instrument)
    at = {v.name: str(n) for n, v in enumerate(data.variables, 1)}
    texts = [at[v.name] for v in data.variables if v.kind in ("text", "month", "date")]
    numbers = [at[v.name] for v in data.variables if v.kind not in ("text", "month", "date")]
    yield f"* {one_line(data.instrument.reference, 200)}: reads wide.csv. Run it in the file's folder."
    yield "version 14"
    yield 'import delimited using "wide.csv", clear varnames(1) case(preserve) encoding("UTF-8") ///'
    yield f"  bindquote(strict) stringcols({' '.join(texts)}) numericcols({' '.join(numbers)})"
    for v in data.variables:
        if v.kind == "date":
            yield f'generate double {v.name}_d = daily({v.name}, "YMD")'
            yield f"order {v.name}_d, after({v.name})"
            yield f"drop {v.name}"
            yield f"rename {v.name}_d {v.name}"
            yield f"format {v.name} %td"
    for v in data.variables:
        yield f"label variable {v.name} {stata_text(v.label, STATA_LABEL)}"
        if v.missing:
            known = " \\ ".join(f"{c.code}=.{letter[c.code]}" for c in v.missing)
            yield f"mvdecode {v.name}, mv({known})"
        if v.codes:
            for n, c in enumerate(v.codes):
                value = f".{letter[c.code]}" if c.missing else str(c.code)
                words = stata_text(c.labels[data.language], STATA_VALUE_LABEL)
                yield f"label define {v.name} {value} {words}{', replace' if n == 0 else ', add'}"
            yield f"label values {v.name} {v.name}"


_SYNTAX: dict[str, Callable[[Microdata], Iterator[str]]] = {"read.R": _r, "read.sps": _sps, "read.do": _do}
