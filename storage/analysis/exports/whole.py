"""Files that appear whole or not at all: written under another name, on disk, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_MODE = 0o640


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A name beside `path`, with its ending, for a library to write to; it becomes `path` at the end."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
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
