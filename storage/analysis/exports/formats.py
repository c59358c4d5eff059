"""Exports of row-level data: the formats by name, and writing a set of files, whole or not at all."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from flows.instrument import Instrument
from storage.analysis.exports.csv_files import write_csv
from storage.analysis.exports.data_package import digest, write_data_package
from storage.analysis.exports.ddi import write_ddi
from storage.analysis.exports.microdata import Asked, ExportError, Microdata, Progress, Values, collect
from storage.analysis.exports.parquet import write_parquet
from storage.analysis.exports.read_me import markdown
from storage.analysis.exports.spss import write_spss
from storage.analysis.exports.stata import write_stata
from storage.analysis.exports.syntax import write_syntax
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
_DAY = 24 * 3600  # seconds


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

    All are made, and on disk, before the first takes its name; until then what stood there stands.
    The arguments are those of `collect`. Raises ExportError, DictionaryError.
    """
    told = progress or (lambda what, done, total: None)
    wanted = formats_named(formats)
    _need_libraries(wanted)
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
        read_me = making / "README.md"
        read_me.write_text(markdown(data, [path.name for path in files]), "utf-8")
        files.append(read_me)
        sums = making / SUMS
        sums.write_text(sums_of(files), "utf-8")
        files.append(sums)
        total = digest(sums)
        for path in files:
            _to_disk(path)
        for path in files:
            os.replace(path, folder / path.name)
        return Made(tuple(folder / path.name for path in files), data.count, total)


def remove_leftovers(folder: Path) -> None:
    """Take away what exports that were killed left in `folder`: rows that nobody is to find there.

    A day old or more: a younger one may be at work.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith((".export.", ".making.")) and time.time() - path.stat().st_mtime > _DAY:
            shutil.rmtree(path, ignore_errors=True)


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
