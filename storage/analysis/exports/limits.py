"""Labels as statistics packages take them: one line, cut to so many bytes, safe in each one's quotes."""

from storage.analysis.dictionary import Variable
from storage.analysis.exports.microdata import ExportError, Microdata

#: Bytes. SPSS: 255 and 120 (IBM, GET DATA and VALUE LABELS); Stata: 80 (help label), 32,000 a value label.
SPSS_LABEL, SPSS_VALUE_LABEL, STATA_LABEL, STATA_VALUE_LABEL = 255, 120, 80, 32_000
SPSS_NAME, STATA_NAME = 64, 32

#: Words that SPSS or Stata keep for themselves.
_RESERVED = frozenset(
    "all and by eq ge gt le lt ne not or to with"
    " byte double float if in int long str strl using _all _b _coef _cons _n _pi _pred _rc _skip".split()
)


def one_line(text: str, most: int) -> str:
    """`text` without line breaks, in at most `most` bytes of UTF-8, cut between characters."""
    text = " ".join(text.split())
    encoded = text.encode()
    return text if len(encoded) <= most else encoded[:most].decode(errors="ignore").rstrip()


def check_names(data: Microdata, most: int, package: str) -> None:
    """Raises ExportError for a variable that `package` could not name."""
    for v in data.variables:
        if len(v.name.encode()) > most or v.name.lower() in _RESERVED:
            raise ExportError(
                f"{v.name}: not a name that {package} takes ({most} bytes at most, no word of its own): give"
                " the item a shorter id, or export another format"
            )


def missing_range(variable: Variable) -> tuple[int, int] | None:
    """The lowest and highest code of a missing answer; all between are missing too."""
    codes = [c.code for c in variable.missing]
    return (min(codes), max(codes)) if codes else None
