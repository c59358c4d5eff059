"""Stata: wide.dta with variable labels, value labels and extended missing values.

The reasons why an answer is missing become .a (not applicable), .b (don't know), .c (refused), .d (not
reached) and .e (withheld), each with its label; not asked is the plain missing value. Format 118 (Stata
14 and later). A big export comes in parts, wide.part1.dta, ..: join them with append.
"""

from pathlib import Path
from typing import Any

from flows.instrument import Instrument
from storage.analysis.dictionary import missing_codes
from storage.analysis.exports.limits import STATA_LABEL, STATA_NAME, STATA_VALUE_LABEL, check_names, one_line
from storage.analysis.exports.microdata import Microdata, Progress
from storage.analysis.exports.spss import PART, frame, parts


def letters(instrument: Instrument) -> dict[int, str]:
    """Code of a missing answer -> the letter of Stata's extended missing value."""
    return dict(zip(missing_codes(instrument).values(), "abcde", strict=True))


def write_stata(data: Microdata, folder: Path, told: Progress, part: int = PART) -> list[Path]:
    """wide.dta, or its parts. Raises ExportError for a name that Stata does not take."""
    import pyreadstat

    check_names(data, STATA_NAME, "Stata")
    letter = letters(data.instrument)
    recode = {v.name: {c.code: letter[c.code] for c in v.missing} for v in data.variables if v.missing}
    labels: dict[str, Any] = {  # a letter is as good a key as a number, whatever the library's types say
        v.name: {
            letter[c.code] if c.missing else c.code: one_line(c.labels[data.language], STATA_VALUE_LABEL)
            for c in v.codes
        }
        for v in data.variables
        if v.codes
    }
    written = []
    for path, rows, done in parts(data, folder, "dta", part):
        pyreadstat.write_dta(
            frame(data.variables, rows, recode),
            str(path),
            file_label=one_line(data.instrument.title, STATA_LABEL),
            column_labels=[one_line(v.label, STATA_LABEL) for v in data.variables],
            variable_value_labels=labels,
            missing_user_values={name: sorted(known.values()) for name, known in recode.items()},
            version=15,
        )
        written.append(path)
        told(path.name, done, data.count)
    return written
