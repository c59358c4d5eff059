"""Exports of row-level data: the formats by name, and writing a set of files, whole or not at all.

A folder holds one set. An export takes the place of one of the same kind (variant and wave) and is refused
beside another: a public file next to a scientific one would be handed on with it.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from flows.instrument import Instrument
from storage.analysis.deviations import deviations_of
from storage.analysis.exports.csv_files import write_csv
from storage.analysis.exports.data_package import digest, write_data_package
from storage.analysis.exports.ddi import write_ddi
from storage.analysis.exports.microdata import Asked, ExportError, Microdata, Progress, Values, collect
from storage.analysis.exports.parquet import write_parquet
from storage.analysis.exports.read_me import kind, line, markdown
from storage.analysis.exports.spss import write_spss
from storage.analysis.exports.stata import write_stata
from storage.analysis.exports.syntax import write_syntax
from storage.analysis.exports.whole import remove_leftovers
from storage.analysis.exports.xlsx import write_xlsx

#: Name -> what writes its files into a folder and returns them. In the order of writing.
EXPORTS: dict[str, Callable[[Microdata, Path, Progress], list[Path]]] = {
    "csv": write_csv,
    "xlsx": write_xlsx,
    "spss": write_spss,
    "stata": write_stata,
    "parquet": write_parquet,
    "syntax": write_syntax,
    "ddi": write_ddi,
    "datapackage": write_data_package,
}
#: Formats that describe or read the files of another one, which then comes along.
_NEEDS = {"syntax": "csv", "ddi": "csv", "datapackage": "csv"}
#: Modules of the `analysis` extra that a format loads.
_LIBRARIES = {"xlsx": "xlsxwriter", "spss": "pyreadstat", "stata": "pyreadstat", "parquet": "duckdb"}
SUMS = "SHA256SUMS"
README = "README.md"
#: What the formats write.
_WRITTEN = re.compile(
    r"((wide|long|wide_labels|wide\.part[0-9]+)\.(csv|sav|dta|parquet)"
    r"|data\.xlsx|codebook\.csv|read\.(R|sps|do)|ddi\.xml|datapackage\.json)\Z"
)


@dataclass(frozen=True, slots=True)
class Made:
    files: tuple[Path, ...]
    rows: int  # interviews
    digest: str  # SHA-256 of SHA256SUMS, which has that of every other file


def formats_named(names: Iterable[str]) -> tuple[str, ...]:
    """The formats, with those they need, in the order of writing. Raises ExportError for an unknown one."""
    asked = set(names)
    for name in sorted(asked - EXPORTS.keys()):
        raise ExportError(f"format {name!r} is unknown; give one of {', '.join(EXPORTS)}")
    asked |= {_NEEDS[name] for name in asked if name in _NEEDS}
    return tuple(name for name in EXPORTS if name in asked)


def export_files(
    engine: Engine,
    instrument: Instrument,
    asked: Asked,
    key: bytes,
    folder: Path,
    formats: Sequence[str],
    *,
    weights: Path | None = None,
    about: Values | None = None,
    progress: Progress | None = None,
) -> Made:
    """Write the files of `formats` into `folder`, with README.md and SHA256SUMS.

    All are made, and on disk, before the first takes its name; until then what stood there stands. Then it
    goes, and SHA256SUMS comes last: a folder without is of an export that was killed in that moment.
    The arguments are those of `collect`. Raises ExportError, DictionaryError.
    """
    told = progress or (lambda what, done, total: None)
    wanted = formats_named(formats)
    _need_libraries(wanted)
    _refuse_others(folder, asked)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as place,
        collect(
            engine, instrument, asked, key, Path(place), weights=weights, about=about, progress=told
        ) as data,
    ):
        making = Path(place) / "files"
        making.mkdir()
        files = [path for name in wanted for path in EXPORTS[name](data, making, told)]
        for name, text in deviations_of(instrument).items():
            (making / name).write_text(text, "utf-8")
            files.append(making / name)
        read_me = making / README
        read_me.write_text(markdown(data, [path.name for path in files]), "utf-8")
        files.append(read_me)
        sums = making / SUMS
        sums.write_text(sums_of(files), "utf-8")
        files.append(sums)
        total = digest(sums)
        for path in files:
            _to_disk(path)
        (folder / SUMS).unlink(missing_ok=True)
        names = {path.name for path in files}
        for old in _written(folder):
            if old.name not in names:
                old.unlink()
        for path in files:
            os.replace(path, folder / path.name)
        return Made(tuple(folder / path.name for path in files), data.count, total)


def is_for_others(folder: Path) -> bool:
    """Whether `folder` holds an export in the formats above, and not the plain files of the office."""
    return bool(_written(folder)) and any(x.startswith(line("For", "")) for x in _read_me(folder))


def _refuse_others(folder: Path, asked: Asked) -> None:
    """Raises ExportError if the folder holds files of an export of another kind."""
    found, said = _written(folder), _read_me(folder)
    if not found:
        return
    for name, value in kind(asked):
        there = next((x for x in said if x.startswith(line(name, ""))), "")
        if not there and name == "Of" and line(*kind(asked)[0]) in said:
            continue  # by earlier software, which did not say it: the same use, as often before
        if there != line(name, value):
            raise ExportError(
                f"{folder}: holds {found[0].name} of another export"
                + (f" ({there.removeprefix('- ')})" if there else "")
                + "; give another folder, or empty this one"
            )


def _written(folder: Path) -> list[Path]:
    """The files there that an export may have written, but for README.md and SHA256SUMS."""
    return sorted(p for p in folder.iterdir() if _WRITTEN.match(p.name)) if folder.is_dir() else []


def _read_me(folder: Path) -> list[str]:
    path = folder / README
    return path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []


def sums_of(files: Iterable[Path]) -> str:
    """What `sha256sum` writes of the files, and checks with -c."""
    return "".join(f"{digest(path)}  {path.name}\n" for path in files)


def _need_libraries(formats: Iterable[str]) -> None:
    """Raises ExportError naming what is not installed, before anything is read."""
    from importlib.util import find_spec

    for name in formats:
        library = _LIBRARIES.get(name)
        if library is not None and find_spec(library) is None:
            raise ExportError(
                f"format {name} needs {library}, which is not installed: install the extra `analysis`"
                " (pip install '.[analysis]'), or take csv"
            )


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    os.chmod(path, 0o640)
