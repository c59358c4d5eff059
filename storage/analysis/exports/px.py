"""PC-Axis files (.px), the form of the office's StatsBank (PxWeb): one table a breakdown.

    stub      Figure (service and measure), then the breakdown's variables, each with the total first
    heading   Statistic (per cent, both ends of the 95 % interval, respondents), Year
    symbols   "." hidden for disclosure, ".." too unreliable, "..." not computed or no respondents

Keywords as in the PC-Axis file format 2013; quotes in texts become apostrophes, since the format has no
escape, texts longer than a line are split, and values longer than one are cut.
"""

from collections.abc import Iterable, Sequence
from itertools import product

from storage.analysis.estimates import ATTRIBUTES, OVERALL, Domain, Estimate
from storage.analysis.labels import Labels
from storage.analysis.release import Release, cautions, percent

_PIECE = 200  # characters of a string on one line; PC-Axis reads about 256
_VALUE = 190  # characters of a value, which is never split: some readers take the pieces for two values
_MATRIX = 20  # characters of a table's name
HIDDEN, UNRELIABLE, NONE = '"."', '".."', '"..."'
_STATISTICS = {
    "percent": "Per cent",
    "low": "Lower end of the 95 % interval",
    "high": "Upper end of the 95 % interval",
    "n": "Respondents",
}
TOTAL = "_T"  # the code of "all" in a breakdown


def tables(estimates: Iterable[Estimate]) -> list[tuple[str, ...]]:
    """The breakdowns among the estimates: () for the national table, then each in order of appearance."""
    return list(dict.fromkeys(tuple(v for v, _ in e.domain) for e in estimates))


def file_name(variables: Sequence[str]) -> str:
    """Of the table by these variables."""
    return f"16-6-2_{'-'.join(variables) or 'national'}.px"


def px(release: Release, labels: Labels, variables: Sequence[str], others: Sequence[Release] = ()) -> str:
    """The table by `variables` as text. `others`: of other waves, for more years.

    Raises ValueError where the release has no such table.
    """
    mine = [e for r in (release, *others) for e in r.estimates if _fits(e.domain, variables)]
    if not any(tuple(v for v, _ in e.domain) == tuple(variables) for e in mine):
        raise ValueError(f"wave {release.wave}: no table by {', '.join(variables)}; the release has none")
    cells = {(e.service, e.measure, e.domain, e.period): e for e in mine}
    figures = {(e.service, e.measure): labels.figure(e) for e in mine}
    years = sorted({e.period for e in mine})
    options = [
        [TOTAL, *dict.fromkeys(o for e in mine for variable, o in e.domain if variable == v)]
        for v in variables
    ]
    stub = ["Figure", *(labels.variable(v) for v in variables)]
    texts: list[Sequence[str]] = [list(figures.values())]
    codes: list[Sequence[str]] = [[m if m not in (OVERALL, ATTRIBUTES) else f"{s}.{m}" for s, m in figures]]
    for variable, choice in zip(variables, options, strict=True):
        texts.append([labels.total if o == TOTAL else labels.option(variable, o) for o in choice])
        codes.append([labels.code(variable, o) or o for o in choice])
    names = [*stub, "Statistic", "Year"]
    texts += [[*_STATISTICS.values()], years]
    codes += [[*_STATISTICS], years]

    issued = release.issued.replace("-", "") + " 09:00"
    by = f" by {', '.join(stub[1:]).lower()}" if variables else ""
    title = f"{release.title}{by}, {', '.join(years)}"
    lines = [
        _line("CHARSET", "ANSI"), _line("AXIS-VERSION", "2013"), _line("CODEPAGE", "utf-8"),
        _line("LANGUAGE", labels.language), _line("CREATION-DATE", issued), "DECIMALS=1;", "SHOWDECIMALS=1;",
        _line("MATRIX", _matrix(variables)), "COPYRIGHT=YES;", _line("SUBJECT-CODE", "SDG16"),
        _line("SUBJECT-AREA", "Sustainable Development Goal 16"), _line("DESCRIPTION", title),
        _line("TITLE", title), "DESCRIPTIONDEFAULT=YES;", _line("CONTENTS", release.title),
        _line("UNITS", "per cent"), _line("STUB", *stub), _line("HEADING", "Statistic", "Year"),
    ]  # fmt: skip
    seen = [_distinct(t) for t in texts]
    lines += [_line("VALUES", *t, of=name) for name, t in zip(names, seen, strict=True)]
    lines.append('TIMEVAL("Year")=TLIST(A1),' + ",".join(_quoted(y) for y in years) + ";")
    lines += [_line("CODES", *c, of=name) for name, c in zip(names, codes, strict=True)]
    lines += [f"PRECISION({_quoted('Statistic')},{_quoted(_STATISTICS['n'])})=0;"]
    lines += [
        _line("LAST-UPDATED", issued), _line("SOURCE", f"{release.owner}, wave {release.wave}"),
        _line("CONTACT", release.contact), _line("NOTE", _note(release, others)),
        _line("DATASYMBOL1", "c: hidden so that nobody can be recognised"),
        _line("DATASYMBOL2", "u: too few respondents to be reliable"),
        _line("DATASYMBOL3", "no respondents, or not computed"),
    ]  # fmt: skip
    rows = []
    for (service, measure), *chosen in product(figures, *options):
        domain = tuple((v, str(o)) for v, o in zip(variables, chosen, strict=True) if o != TOTAL)
        row = [_cell(cells.get((service, measure, domain, y)), s) for s in _STATISTICS for y in years]
        rows.append(" ".join(row))
    return "\n".join([*lines, "DATA=", *rows]) + ";\n"


def _cell(e: Estimate | None, statistic: str) -> str:
    if e is None:
        return NONE
    if e.mark == "c":
        return HIDDEN
    if statistic == "n":
        return str(e.n)
    if e.mark == "u":
        return UNRELIABLE
    value = {"percent": e.share, "low": e.low, "high": e.high}[statistic]
    return NONE if value is None else percent(value)


def _fits(domain: Domain, variables: Sequence[str]) -> bool:
    """In the table: its cells, and the margins that its totals are."""
    return all(v in variables for v, _ in domain) and [v for v, _ in domain] == [
        v for v in variables if v in dict(domain)
    ]


def _matrix(variables: Sequence[str]) -> str:
    name = "SDG1662" + "".join("_" + v[:5] for v in variables)
    return name[:_MATRIX]


def _note(release: Release, others: Sequence[Release]) -> str:
    rules = release.rules
    said = [
        cautions(release, others),
        f"Version {release.version} of {release.issued}.",
        f"Hidden: fewer than {rules.disclosure.least} respondents, all answers alike, or needed to hide such"
        " a figure. Not shown as unreliable: NCHS standard for proportions. "
        f"Respondents are rounded to {rules.disclosure.rounding}.",
    ]
    return " ".join(s for s in said if s)


def _distinct(texts: Sequence[str]) -> list[str]:
    """Values of one variable must differ; two categories of one name get a number."""
    found: list[str] = []
    for text in (_clean(t)[:_VALUE] for t in texts):
        name, n = text, 2
        while name in found:
            name, n = f"{text} ({n})", n + 1
        found.append(name)
    return found


def _clean(text: str) -> str:
    """Fit to stand in quotes: no quote, no line break, and not empty."""
    return " ".join(text.replace('"', "'").replace(";", ",").split()) or "-"


def _quoted(text: str) -> str:
    clean = _clean(text)
    pieces = [clean[i : i + _PIECE] for i in range(0, len(clean), _PIECE)]
    return "\n".join(f'"{piece}"' for piece in pieces)


def _line(keyword: str, *texts: str, of: str = "") -> str:
    about = f"({_quoted(of)})" if of else ""
    separator = ",\n" if len(texts) > 4 else ","
    return f"{keyword}{about}={separator.join(_quoted(t) for t in texts)};"
