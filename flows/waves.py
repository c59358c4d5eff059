"""Several waves at once: their files, the instruments they name, and that none answers for another.

A dial belongs to the wave of its service code, a text to that of its short code and keyword. Waves may
share both only if they are never open at the same time, as last year's and this year's.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from flows.instrument import Fault, Instrument, InstrumentError, load
from flows.wave import Wave, load_wave

_QUESTIONNAIRE = "questionnaire.toml"
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def find_wave_files(given: Sequence[Path]) -> list[Path]:
    """The wave files: each of `given`, and of a folder every *.toml in it. Raises InstrumentError."""
    found, faults = [], []
    for path in given:
        if not path.is_dir():
            found.append(path)
        elif inside := sorted(path.glob("*.toml")):
            found += inside
        else:
            faults.append(Fault(str(path), "-", "holds no *.toml; put the wave files there, or name them"))
    if faults:
        raise InstrumentError(faults)
    return list(dict.fromkeys(found))


def find_instrument_folders(given: Sequence[Path]) -> list[Path]:
    """The instrument folders: each of `given`, or where it is none itself, those in it."""
    found: list[Path] = []
    for path in given:
        inside = [] if (path / _QUESTIONNAIRE).exists() else sorted(path.glob(f"*/{_QUESTIONNAIRE}"))
        found += [file.parent for file in inside] or [path]
    return list(dict.fromkeys(found))


def load_instruments(given: Sequence[Path]) -> list[Instrument]:
    """The instruments in these folders, checked. Raises InstrumentError with the faults of all."""
    loaded: dict[str, Instrument] = {}
    faults: list[Fault] = []
    for folder in find_instrument_folders(given):
        try:
            instrument = load(folder)
        except InstrumentError as error:
            faults += error.faults
            continue
        if instrument.reference in loaded:
            message = f"{instrument.reference} is in another folder too; take one out"
            faults.append(Fault(str(folder / _QUESTIONNAIRE), "instrument.version", message))
        loaded[instrument.reference] = instrument
    if faults:
        raise InstrumentError(faults)
    return list(loaded.values())


def load_waves(files: Sequence[Path], folders: Sequence[Path]) -> tuple[Wave, ...]:
    """The waves in these files or folders of files, on the instruments in `folders`; one at least.

    Raises InstrumentError with the faults of all.
    """
    instruments = load_instruments(folders)
    waves: list[Wave] = []
    faults: list[Fault] = []
    for file in find_wave_files(files):
        try:
            waves.append(load_wave(file, *instruments))
        except InstrumentError as error:
            faults += error.faults
    faults += clashes(waves)
    if faults:
        raise InstrumentError(faults)
    return tuple(waves)


def clashes(waves: Sequence[Wave]) -> Iterator[Fault]:
    """Where two of these would answer for each other."""
    for one, other in combinations(waves, 2):
        if one.id == other.id:
            yield Fault(one.file, "id", f"{one.id!r} is the id of {other.file} too; give each its own")
        if not open_together(one, other):
            continue
        for key, what in shared_ways(one, other):
            how = "give each its own, or opening times that do not overlap"
            yield Fault(one.file, key, f"{what} is in {other.file} at the same time: {how}")


def shared_ways(one: Wave, other: Wave) -> Iterator[tuple[str, str]]:
    """Service codes, and keywords sent to one number, by which both would be reached: key and what."""
    for code in sorted({*one.codes} & {*other.codes}):
        yield "service_codes" if one.service_codes else "code", code
    if one.sms_sender and one.sms_sender == other.sms_sender:
        shared = {k.casefold() for k in one.keywords} & {k.casefold() for k in other.keywords}
        for keyword in sorted(shared):
            yield "keywords", f"{keyword.upper()} to {one.sms_sender}"


def open_together(one: Wave, other: Wave) -> bool:
    """Whether there is a moment at which both are open, by their files."""
    opens = max(w.opening.opens_at or _FIRST for w in (one, other))
    return opens < min(w.opening.closes_at or _LAST for w in (one, other))
