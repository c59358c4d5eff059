"""The files of a quality report: for the public, beside a release's figures, and for staff.

quality.json, quality.html, quality.fr.html     public: small counts hidden, no pseudonym in them
quality_staff.json, quality_staff.html, ...     exact, for staff
interview_flag.csv                              staff: interview, and a column a flag, 0 or 1
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.instrument import Instrument
from storage.analysis.estimates import Estimate
from storage.analysis.flags import DOUBTS, FLAGS, Flags
from storage.analysis.quality import Report
from storage.analysis.quality_page import WORDS, file_name, page
from storage.analysis.quality_parts import FILE, STAFF_FILE, Quality, as_json
from storage.analysis.quality_rules import hidden_keys, public
from storage.analysis.release import Rules, versions, wave_folder

FLAGGED = "interview_flag.csv"
_STAFF = "quality_staff"


def public_files(
    report: Quality,
    instrument: Instrument,
    rules: Rules,
    released: Iterable[Sequence[Estimate]] = (),
    earlier: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Name -> text, for a release's folder. released: the figures of the wave's versions, this one too;
    earlier: `earlier_reports`.
    """
    shown = public(report, rules, hidden_keys(released), earlier)
    pages = {file_name(language): page(shown, instrument, language) for language in WORDS}
    return {FILE: as_json(shown), **pages}


def earlier_reports(out: Path, wave: str) -> list[dict[str, Any]]:
    """The quality.json of every version of the wave that is out and has one. Raises OSError, ValueError."""
    folders = [wave_folder(out, wave) / str(v) for v in versions(out, wave)]
    return [json.loads((f / FILE).read_text("utf-8")) for f in folders if (f / FILE).is_file()]


def staff_files(report: Report, instrument: Instrument) -> dict[str, str]:
    """Name -> text; exact, and by interview."""
    pages = {
        file_name(language, stem=_STAFF): page(report.quality, instrument, language, _STAFF)
        for language in WORDS
    }
    return {STAFF_FILE: as_json(report.quality), **pages, FLAGGED: flags_csv(report.flags)}


def flags_csv(flags: Flags) -> str:
    """Every flagged interview, a column a flag; `doubtful`: left out in the comparison."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["interview", *FLAGS, "doubtful"])
    for interview, names in flags.by_interview().items():
        writer.writerow([interview, *(int(f in names) for f in FLAGS), int(any(f in names for f in DOUBTS))])
    return out.getvalue()


def write_files(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write them into `folder`, made if it is not there; each appears whole. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files.items():
        path, new = folder / name, folder / f".{name}.new"
        new.write_text(text, "utf-8", newline="")
        os.replace(new, path)
        written.append(path)
    return written
