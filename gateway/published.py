"""What has been published, read from the releases' folder for the pages: nothing else, and never the record.

A release never changes once it is out, so what was read of one is kept: of each what a trend is drawn from,
of the few last asked for all figures. Which there are is looked up each time: a new one is on the page at
once.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from storage.analysis.estimates import OVERALL, Estimate
from storage.analysis.release import Release, ReleaseError, load_release, versions, wave_folder, waves

log = logging.getLogger("dial16.published")

SUMS = "SHA256SUMS"
_KEPT = 4  # releases with all their figures, some 5 MB each


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of one wave: what stays in memory of each, some 0.1 MB."""

    wave: str
    version: int
    issued: str
    reason: str
    interviews: int
    weighted: bool  # to the population
    simulated: int
    questionnaires: frozenset[str]
    period: str
    national: tuple[Estimate, ...]
    groups: tuple[Estimate, ...]  # overall satisfaction by one variable, of every service
    newest: bool  # of its wave


class Published:
    """The releases under a folder. Safe to use from several threads."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._editions: dict[tuple[str, int], Edition | None] = {}
        self._releases: OrderedDict[tuple[str, int], Release] = OrderedDict()
        self._lock = Lock()

    def editions(self) -> tuple[Edition, ...]:
        """Every version of every wave, the one issued last first."""
        with self._lock:
            found = []
            for wave in waves(self._folder):
                for version in versions(self._folder, wave):
                    edition = self._edition(wave, version)
                    if edition is not None:
                        found.append(edition)
        newest: dict[str, int] = {e.wave: e.version for e in found}  # ascending within a wave
        marked = [replace(e, newest=newest[e.wave] == e.version) for e in found]
        return tuple(sorted(marked, key=lambda e: (e.issued, e.period, e.wave, e.version), reverse=True))

    def release(self, wave: str, version: int) -> Release | None:
        """That version with all its figures; None if there is none, or none that can be read."""
        with self._lock:
            return self._release(wave, version) if self._is_there(wave, version) else None

    def folder(self, wave: str, version: int) -> Path | None:
        """Where its files are."""
        return wave_folder(self._folder, wave) / str(version) if self._is_there(wave, version) else None

    def sums(self, wave: str, version: int) -> Mapping[str, str]:
        """File name -> SHA-256, of every file that was issued with it."""
        folder = self.folder(wave, version)
        if folder is None:
            return {}
        try:
            lines = (folder / SUMS).read_text("utf-8").splitlines()
        except OSError as error:
            log.error("%s: cannot be read: %s", folder / SUMS, error.strerror)
            return {}
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def _is_there(self, wave: str, version: int) -> bool:
        try:
            return version in versions(self._folder, wave)
        except ReleaseError:  # a wave that can name no folder
            return False

    def _edition(self, wave: str, version: int) -> Edition | None:
        if (wave, version) not in self._editions:
            release = self._release(wave, version)
            self._editions[wave, version] = None if release is None else _summary(release)
        return self._editions[wave, version]

    def _release(self, wave: str, version: int) -> Release | None:
        if (wave, version) not in self._releases:
            if not self._is_there(wave, version):
                return None
            try:
                release = load_release(wave_folder(self._folder, wave) / str(version))
            except ReleaseError as error:
                log.error("%s", error)
                return None
            self._releases[wave, version] = release
            while len(self._releases) > _KEPT:
                self._releases.popitem(last=False)
        self._releases.move_to_end((wave, version))
        return self._releases[wave, version]


def _summary(release: Release) -> Edition:
    return Edition(
        wave=release.wave, version=release.version, issued=release.issued, reason=release.reason,
        interviews=release.interviews, weighted=release.weighted, simulated=release.simulated,
        questionnaires=release.questionnaires,
        period=max((e.period for e in release.estimates), default=""),
        national=tuple(e for e in release.estimates if not e.domain),
        groups=tuple(e for e in release.estimates if e.measure == OVERALL and len(e.domain) == 1),
        newest=False,
    )  # fmt: skip


def comparable(editions: Sequence[Edition], release: Release) -> list[Edition]:
    """Those that may stand in a trend with it: on its questionnaire, and not made up unless it is."""
    return [
        e
        for e in editions
        if e.questionnaires == release.questionnaires and (release.simulated or not e.simulated)
    ]


def trend(editions: Sequence[Edition], service: str, measure: str) -> list[tuple[Edition, Estimate]]:
    """The national figure of each wave's newest version, in the order of time."""
    found = [
        (edition, e)
        for edition in editions
        if edition.newest
        for e in edition.national
        if (e.service, e.measure) == (service, measure)
    ]
    return sorted(found, key=lambda pair: (pair[0].period, pair[0].issued, pair[0].wave))
