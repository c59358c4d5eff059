"""Publishing: a release's folder, written whole under another name and moved into place once.

    <out>/<wave>/<version>/
        release.json            what everything here was made from, with rules, margins and software
        estimates.csv, .xlsx    the figures, one a row; the workbook has the answers too
        answers.csv             how people answered: each option of each item, national, one a row
        16-6-2_*.px             StatsBank (PxWeb), one file a breakdown
        indicator_16-6-2.csv    Open SDG, with 16-6-2.yml
        sdmx_un.*, sdmx_gss.*   where the office has put its structure files: see docs/releases.md
        quality.json, .html     how good the data are, where that was asked for; .fr.html in French
        dcat.jsonld             the catalogue entry
        deviations.md           what differs from the official questionnaire, where the caller gives it
        CHANGELOG.md            every version of this wave and why it was made
        SHA256SUMS              checksum of every other file

A version is never written again: a correction is the next version.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from pathlib import Path

from storage.analysis.differencing import in_short, laid_alike, publishing_faults
from storage.analysis.estimates import Answer, Estimate
from storage.analysis.exports import open_sdg, px
from storage.analysis.exports.dcat import dcat
from storage.analysis.exports.figures import answers_csv, figures_csv, write_figures_xlsx
from storage.analysis.exports.sdmx import csv_1, csv_2, load_mapping, ml_2_1, rows_of
from storage.analysis.exports.sdmx_structure import load_structure
from storage.analysis.labels import Labels
from storage.analysis.material import as_today
from storage.analysis.release import (
    FILE,
    Margin,
    Release,
    ReleaseError,
    Rules,
    all_versions,
    as_json,
    latest,
    leaving,
    make,
    marked_answers,
    wave_folder,
    waves,
)
from storage.analysis.served import ComeBetween, Served

SUMS = "SHA256SUMS"
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
_FIRST = "First version."


@dataclass(frozen=True, slots=True)
class About:
    """What a release says of itself beside its figures."""

    wave: str
    instrument: str  # id@version
    owner: str
    contact: str
    interviews: int
    software: str
    material: str = ""  # digest of the interviews; "" = not known, so every version counts as other people
    weighted: bool = False
    margins: tuple[Margin, ...] = ()
    probability_sample: bool = False
    simulated: int = 0  # of the interviews, made up
    licence: str = LICENCE
    address: str = ""  # where the releases' folder is read on the web; "" = not known
    design_weighted: bool = False  # by the probabilities of the sample's draw
    caps: tuple[float, float] | None = None  # of weights, times their mean
    fewest: int = 1  # respondents that a margin's category needed

    def __post_init__(self) -> None:
        if self.weighted != bool(self.margins):
            raise ReleaseError(
                f"wave {self.wave}: figures weighted to the population name their margins, others have none"
            )


@dataclass(frozen=True, slots=True)
class Sdmx:
    """Where the SDMX files of a release come from: folder of structure files, and mappings by receiver."""

    structures: Path
    mappings: Mapping[str, Path] = field(default_factory=dict)  # "un" -> deploy/sdmx/un.toml


def publish(
    estimates: Sequence[Estimate],
    out: Path,
    about: About,
    labels: Labels,
    *,
    issued: date,
    rules: Rules | None = None,
    reason: str = "",
    sdmx: Sdmx | None = None,
    beside: Mapping[str, str] | None = None,
    answers: Sequence[Answer] = (),
    served: Served | None = None,
    dry_run: bool = False,
) -> Path:
    """Publish exact estimates as the wave's next version; its folder.

    reason: why there is another version; needed from the second on. sdmx None: no SDMX files. beside: more
    files by name, as they may be read outside, such as those of `quality_files.public_files`. answers: how
    people answered, exact; without them there is no answers.csv. served: what queries were answered with,
    heeded like earlier versions. dry_run: make every file, and keep none; the folder is the one there would
    be. Raises ReleaseError, and the errors of the writers and of the database; then nothing is left behind.

    But for one case: the version is in its place, and then the database does not confirm that it took it
    in. It may have, and readers may have the version, so the folder stays and the error says how to go on.
    """
    faults = [e for e in (*estimates, *(a.figure for a in answers)) if e.wave != about.wave]
    if faults or not estimates:
        what = f"an estimate of wave {faults[0].wave}" if faults else "no estimates"
        raise ReleaseError(f"wave {about.wave}: {what}; give this wave's estimates")
    folder = wave_folder(out, about.wave)
    earlier = all_versions(out, about.wave)
    if not dry_run:
        check_reason(about.wave, earlier, reason)
    served = served or Served()
    crosses = {(e.domain[0][0], e.domain[1][0]) for e in estimates if len(e.domain) == 2}
    before = as_today(laid_alike([*earlier, *served.tables], crosses), about.material, served.was)
    try:
        figures = make(estimates, rules or Rules(), before, about.material, served.known)
    except ValueError as error:
        raise ReleaseError(f"wave {about.wave}: {error}") from None
    options = leaving(marked_answers(answers, figures, rules or Rules(), before), rules or Rules())
    if against := publishing_faults(figures, options, about.material, before):
        raise ReleaseError(in_short(against))
    release = Release(
        wave=about.wave,
        version=earlier[-1].version + 1 if earlier else 1,
        issued=issued.isoformat(),
        reason=" ".join(reason.split()) or _FIRST,
        instrument=about.instrument,
        owner=about.owner,
        contact=about.contact,
        licence=about.licence,
        weighted=about.weighted,
        margins=about.margins,
        probability_sample=about.probability_sample,
        interviews=about.interviews,
        simulated=about.simulated,
        material=about.material,
        software=about.software,
        rules=rules or Rules(),
        estimates=figures,
        answers=options,
        design_weighted=about.design_weighted,
        caps=about.caps,
        fewest=about.fewest,
    )
    target = folder / str(release.version)

    def write(into: Path) -> None:
        others = _other_years(out, release)
        _write(release, into, labels, earlier, others, sdmx, about.address, beside or {})

    if dry_run:
        with tempfile.TemporaryDirectory() as aside:
            write(Path(aside))
        return target
    folder.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder, prefix=f".{release.version}."))
    try:
        write(building)
        for path in building.iterdir():
            path.chmod(0o444)
            _to_disk(path)
        building.chmod(0o755)
        _to_disk(building)
        out_now = False
        try:
            with served.turn(release):
                os.rename(building, target)  # refuses a folder that has something in it
                out_now = True
                _to_disk(folder)  # before the database says that it is there
        except ComeBetween as error:
            raise ReleaseError(f"{error}; make the release again, with it") from None
        except Exception as error:
            if out_now:
                raise ReleaseError(
                    f"{target}: is out, but the database did not confirm that it took it in"
                    f" ({type(error).__name__}); see that it runs and its disk has room, then run"
                    " `python main.py migrate`, and `python main.py release weights` for final weights"
                ) from error
            if not isinstance(error, OSError) or error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise ReleaseError(
                f"{target}: is there already: somebody published at the same time; publish again"
            ) from None
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def check_reason(wave: str, earlier: Sequence[Release], reason: str) -> None:
    """Raise ReleaseError where another version has no reason."""
    if earlier and not reason.strip():
        raise ReleaseError(
            f"wave {wave}: version {earlier[-1].version} is out; say why there is to be another one, with"
            " --reason"
        )


def verify(folder: Path) -> list[str]:
    """What differs from the checksums that the release was issued with; none if it is whole."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except OSError as error:
        return [f"{folder / SUMS}: cannot be read: {error.strerror}"]
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {f.name for f in folder.iterdir()} - {SUMS}
    faults = [f"{folder / name}: not part of the release" for name in sorted(there - sums.keys())]
    for name, digest in sums.items():
        if name not in there:
            faults.append(f"{folder / name}: missing")
        elif _digest((folder / name).read_bytes()) != digest:
            faults.append(f"{folder / name}: differs from what was issued")
    return faults


def _write(
    release: Release,
    folder: Path,
    labels: Labels,
    earlier: Sequence[Release],
    others: Sequence[Release],
    sdmx: Sdmx | None,
    address: str,
    beside: Mapping[str, str],
) -> None:
    texts = {
        **beside,
        FILE: as_json(release),
        "estimates.csv": figures_csv(release, labels),
        open_sdg.DATA: open_sdg.data(release, labels, others),
        open_sdg.METADATA: open_sdg.metadata(release, labels, others),
        "CHANGELOG.md": _change_log(release, earlier),
        **({"answers.csv": answers_csv(release, labels)} if release.answers else {}),
    }
    for variables in px.tables(release.estimates):
        texts[px.file_name(variables)] = px.px(release, labels, variables, others)
    for receiver, path in (sdmx.mappings if sdmx else {}).items():
        assert sdmx is not None
        mapping = load_mapping(path)
        structure = load_structure(sdmx.structures / mapping.structure, mapping.agency, mapping.id)
        rows = rows_of(release, mapping, structure)
        texts[f"sdmx_{receiver}.csv"] = csv_1(rows, mapping, structure)
        texts[f"sdmx_{receiver}_2.csv"] = csv_2(rows, structure)
        texts[f"sdmx_{receiver}.xml"] = ml_2_1(
            rows,
            structure,
            sender=mapping.sender,
            prepared=datetime.combine(date.fromisoformat(release.issued), time(9), UTC),
            message=f"SDG_16_6_2_{release.wave}_{release.version}",
        )
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8", newline="")
    write_figures_xlsx(release, labels, folder / "estimates.xlsx")
    files = {f.name: (f.stat().st_size, _digest(f.read_bytes())) for f in folder.iterdir()}
    (folder / "dcat.jsonld").write_text(dcat(release, files, address), "utf-8")
    sums = "".join(f"{_digest(f.read_bytes())}  {f.name}\n" for f in sorted(folder.iterdir()))
    (folder / SUMS).write_text(sums, "utf-8")


def _change_log(release: Release, earlier: Sequence[Release]) -> str:
    said = [f"# Wave {release.wave}: versions", ""]
    for r in (release, *reversed(earlier)):
        said += [f"## {r.version} ({r.issued})", "", r.reason, ""]
        said += [f"Questionnaire {r.instrument}, {r.interviews} interviews, software {r.software}.", ""]
    return "\n".join(said)


def _other_years(out: Path, release: Release) -> list[Release]:
    """The newest figures of waves in other years, for files that hold a series: each year's release, cut to
    that year. Of two waves in one year the one issued last speaks for it.

    Of the same questionnaire, in whatever version; and never made-up figures beside real ones.
    """
    years = {e.period for e in release.estimates}
    by_year: dict[str, Release] = {}
    for wave in waves(out):
        other = latest(out, wave) if wave != release.wave else None
        if other is None or other.questionnaires != release.questionnaires:
            continue
        if other.simulated and not release.simulated:
            continue
        for year in {e.period for e in other.estimates}:
            if year not in years and (year not in by_year or by_year[year].issued < other.issued):
                by_year[year] = other
    return [
        replace(r, estimates=tuple(e for e in r.estimates if e.period == year), answers=())
        for year, r in sorted(by_year.items())
    ]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
