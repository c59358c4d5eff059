"""Bringing what is out back to people: the latest release of each wave, as its dialogue shows it.

    <releases>/<wave>/<version>/release.json    the figures, by `main.py release make`; see docs/releases.md
    <releases>/<wave>/did.toml                  what was done with them: en = "..", fr = "..", by the office

Every half minute the folders are looked at, beside the hops and not by them. What is new is read, laid out
in every language on every screen it may meet, and only then put into the dialogue; what is wrong is told in
the log, once, and the results of before stay. A version that is broken is not passed over for an older one.
"""

import asyncio
import logging
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.instrument import Fault, InstrumentError
from flows.results import Figure, Results, region_item, services_of, words_of
from flows.results_pages import results_faults
from flows.wave import Wave
from gateway.dialogue import Dialogue
from gateway.faults import where
from storage.analysis.estimates import OVERALL, Domain, Estimate
from storage.analysis.release import FILE, Release, ReleaseError, load_release, percent, versions, wave_folder

log = logging.getLogger("dial16.results")

DID_FILE = "did.toml"
_EVERY_SECONDS = 30.0
_SHOWN = ("", "*")  # marks of figures that may be shown: see docs/releases.md

#: What a wave's results were made from: paths with their times, in nanoseconds.
Stamp = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What is out for a wave."""

    stamp: Stamp
    results: Results | None  # None: nothing yet


def find_results(folder: Path, wave: Wave, seen: Stamp | None = None) -> Found | None:
    """The results of `wave`, or of the first of its earlier ones that has any; None if they are those `seen`.

    Raises ReleaseError or InstrumentError for a release or a line that cannot be shown, each naming the file
    and what to do. Reads files: not on a hop.
    """
    for name in (wave.id, *wave.sharing.earlier):
        known = versions(folder, name)
        if not known:
            continue
        release_folder = wave_folder(folder, name) / str(known[-1])
        did_file = wave_folder(folder, name) / DID_FILE
        stamp = _stamp(release_folder / FILE, did_file)
        if stamp == seen:
            return None
        release = load_release(release_folder)
        results = results_of(release, wave, read_did(did_file, wave))
        budgets = sorted({wave.budget, *wave.budgets.values()})
        faults = list(results_faults(results, wave.languages, budgets, str(did_file)))
        if faults:
            raise InstrumentError(faults)
        return Found(stamp, results)
    return None if seen == () else Found((), None)


def _stamp(*paths: Path) -> Stamp:
    return tuple((str(path), path.stat().st_mtime_ns) for path in paths if path.exists())


def read_did(path: Path, wave: Wave) -> Mapping[str, str]:
    """What the office has done with the results, by language; none without a file. Raises
    InstrumentError."""
    if not path.exists():
        return {}
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InstrumentError([Fault(str(path), "-", f"cannot be read: {error}")]) from None
    faults = []
    for language in wave.languages:
        line = data.get(language)
        if not isinstance(line, str) or not line.strip():
            faults.append(Fault(str(path), language, f'missing; write {language} = "what was done"'))
    for key in data.keys() - wave.instrument.languages.keys():
        known = ", ".join(wave.instrument.languages)
        faults.append(Fault(str(path), key, f"is no language of the questionnaire; known: {known}"))
    if faults:
        raise InstrumentError(faults)
    return {language: " ".join(data[language].split()) for language in wave.languages}


def results_of(release: Release, wave: Wave, did: Mapping[str, str]) -> Results:
    """A release as `wave` shows it: overall satisfaction by service, nothing that is hidden."""
    overall = {(e.service, e.domain): e for e in release.estimates if e.measure == OVERALL}
    services = services_of(wave.instrument)
    item = region_item(wave.instrument)

    def figures(domain: Domain) -> Mapping[str, Figure]:
        return {service: _figure(overall.get((service, domain))) for service in services}

    regions = [option.id for option in item.scale.options] if item and item.scale else []
    tabulated = any(domain and domain[0][0] == "region" and len(domain) == 1 for _, domain in overall)
    return Results(
        wave=release.wave,
        version=release.version,
        period=max((e.period for e in release.estimates), default=release.issued[:4]),
        national=figures(()),
        regions={region: figures((("region", region),)) for region in regions} if tabulated else {},
        words={x: words_of(wave.instrument, x, did.get(x, "")) for x in wave.languages},
        made_up=bool(release.simulated),
        weighted=release.weighted or release.design_weighted,
        owner=wave.owner,
    )


def _figure(estimate: Estimate | None) -> Figure:
    if estimate is None or estimate.mark not in _SHOWN or estimate.share is None:
        return Figure("", "")
    return Figure(percent(estimate.share), str(estimate.n))


class GivingBack:
    """The results in the dialogues of one gateway."""

    def __init__(self, dialogues: Iterable[Dialogue], folder: Path):
        self._dialogues, self._folder = tuple(dialogues), folder
        self._seen: dict[str, Stamp] = {}
        self._told: dict[str, str] = {}  # the fault that the log has, by wave

    async def keep_up(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """One look. A fault changes nothing but the log."""
        for dialogue in self._dialogues:
            wave = dialogue.wave
            try:
                found = await asyncio.to_thread(find_results, self._folder, wave, self._seen.get(wave.id))
            except (ReleaseError, InstrumentError) as error:
                self._tell(wave.id, str(error))
            except Exception as error:  # a folder that cannot be read, or a bug: hops go on
                self._tell(wave.id, f"{type(error).__name__} at {where(error)}")
            else:
                self._told.pop(wave.id, None)
                if found is not None:
                    self._seen[wave.id] = found.stamp
                    dialogue.publish(found.results)
                    if found.results is not None:
                        log.info(
                            "wave %s shows the results of %s, version %d",
                            wave.id, found.results.wave, found.results.version,
                        )  # fmt: skip

    def _tell(self, wave: str, fault: str) -> None:
        if self._told.get(wave) != fault:
            self._told[wave] = fault
            log.error("results of wave %s stay as they are: %s", wave, fault.replace("\n", "; "))
