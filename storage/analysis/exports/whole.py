"""Files that appear whole or not at all: written under another name, on disk, then renamed.

What is being written has a name that begins with a dot, by which what a killed process left is found later.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_MODE = 0o640
_DAY = 24 * 3600  # seconds
_UNFINISHED = (".export.", ".making.")


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A name beside `path`, with its ending, for a library to write to; it becomes `path` at the end."""
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f"{_UNFINISHED[0]}{path.stem}.", suffix=path.suffix
    )
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, _MODE)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def whole_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    """A text file that takes its name once it is complete and on disk; until then the old one stands."""
    with whole_path(path) as name, name.open("w", encoding=encoding, newline="") as file:
        yield file


def remove_leftovers(folder: Path) -> None:
    """Take away what exports that were killed left in `folder`: rows that nobody is to find there.

    A day old or more: a younger one may be at work.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if not path.name.startswith(_UNFINISHED):
            continue
        with suppress(FileNotFoundError):  # it got its name meanwhile, or another sweep was first
            if time.time() - path.stat().st_mtime <= _DAY:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
