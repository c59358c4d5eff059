"""What is published, in the database: a copy of each release's figures for SQL and the results API.

The folder of a release stays the original (`publishing`); this is made from it and can be made again. So the
folder has to be the one that it was made from: `check_kept` asks that before anything new comes out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select

from storage.analysis.estimates import Estimate
from storage.analysis.release import Release, ReleaseError, load_release, versions, wave_folder, waves
from storage.analysis.served import take_wave
from storage.database import writing
from storage.models import ReleasedEstimate, ReleasedVersion, table_of

_release, _estimate = table_of(ReleasedVersion), table_of(ReleasedEstimate)
_HIDDEN, _UNRELIABLE = "c", "u"
#: What a figure may show; of a mark "u" the base and the counts alone, of "c" nothing.
_COUNTS = ("n", "not_applicable", "dont_know", "refused", "not_reached")
_SHARES = ("share", "se", "low", "high")
#: Of a version: what its folder said when it was taken in, and says for good. Not the caution, whose words
#: are the software's, nor the title, which files of older software lack.
_SAID = tuple(c.name for c in _release.columns if c.name not in ("caution", "title"))
#: Of a figure: what it is of, and what a reader sees first.
_SEEN = tuple("period service measure variable category variable_2 category_2 n share mark".split())


def keep_releases(engine: Engine, out: Path, only: str = "") -> int:
    """Take in the versions under `out` that the database does not have yet, of one wave or of all; how many.

    Safe to run at any time. Raises ReleaseError for a folder that is no release, after taking in the others.
    """
    faults = []
    taken = 0
    for wave in [only] if only else waves(out):
        for version in versions(out, wave):
            try:
                with writing(engine) as db:
                    take_wave(db, wave)  # whoever publishes a version is taking it in
                    if not _has(db, wave, version):
                        keep_release(db, load_release(wave_folder(out, wave) / str(version)))
                        taken += 1
            except ReleaseError as error:
                faults.append(str(error))
    if faults:
        raise ReleaseError("\n".join(faults))
    return taken


def keep_release(db: Connection, release: Release) -> None:
    """Take in one release. A version that is there already stays as it is: releases never change."""
    if _has(db, release.wave, release.version):
        return
    same = {c.name: getattr(release, c.name) for c in _release.columns}
    db.execute(insert(_release), [same])
    rows = [_row(release, position, e) for position, e in enumerate(release.estimates)]
    if rows:
        db.execute(insert(_estimate), rows)


def check_kept(db: Connection, out: Path, wave: str) -> None:
    """Raise ReleaseError unless every version of the wave that the database has is in its folder, the same.

    Else the next version would take the number of one that is out, and be protected beside none or others.
    Versions that only the folder has are no fault: `keep_releases` takes them in.
    """
    there = versions(out, wave)
    for number, issued in versions_kept(db, wave).items():
        if number not in there:
            has = "does not have it"
        elif not _same(db, load_release(wave_folder(out, wave) / str(number))):
            has = "has another one of this number"
        else:
            continue
        # Not the whole path: who asks a query over the API may read this.
        raise ReleaseError(
            f"{wave}/{number}: the database has this version, of {issued}, and the folder of releases {has};"
            " restore that folder from its backup, or set DIAL16_RELEASES_DIR to where it is"
        )


def versions_kept(db: Connection, wave: str) -> dict[int, str]:
    """The wave's versions that the database has, ascending: number -> day of issue."""
    query = select(_release.c.version, _release.c.issued).where(_release.c.wave == wave)
    return {row.version: row.issued for row in db.execute(query.order_by(_release.c.version))}


def _same(db: Connection, release: Release) -> bool:
    """Whether the database's version of this number is this one."""
    ours = (_release.c.wave == release.wave, _release.c.version == release.version)
    said = db.execute(select(*(_release.c[name] for name in _SAID)).where(*ours)).first()
    if said is None or tuple(said) != tuple(getattr(release, name) for name in _SAID):
        return False
    c = _estimate.c
    figures = db.execute(
        select(*(c[name] for name in _SEEN))
        .where(c.wave == release.wave, c.version == release.version)
        .order_by(c.position)
    ).all()
    rows = (_row(release, position, e) for position, e in enumerate(release.estimates))
    return [tuple(f) for f in figures] == [tuple(row[name] for name in _SEEN) for row in rows]


def tables_of(db: Connection, wave: str) -> tuple[int, frozenset[tuple[str, str]], frozenset[str]]:
    """Of the wave's newest version: its number, its measures (service, measure) and the variables it breaks
    down by; version 0: there is none."""
    newest = db.execute(select(func.max(_release.c.version)).where(_release.c.wave == wave)).scalar() or 0
    c = _estimate.c
    rows = db.execute(
        select(c.service, c.measure, c.variable)
        .where(c.wave == wave, c.version == newest, c.variable_2 == "")
        .distinct()
    ).all()
    measures = frozenset((row.service, row.measure) for row in rows)
    return newest, measures, frozenset(row.variable for row in rows if row.variable)


def _has(db: Connection, wave: str, version: int) -> bool:
    found = select(_release.c.version).where(_release.c.wave == wave, _release.c.version == version)
    return db.execute(found).first() is not None


def cells_of(e: Estimate) -> dict[str, Any]:
    """A figure as a reader sees it, column by column; what it does not show is None."""
    (variable, category), (variable_2, category_2) = (*e.domain, ("", ""), ("", ""))[:2]
    counts = dict.fromkeys(_COUNTS) if e.mark == _HIDDEN else {name: getattr(e, name) for name in _COUNTS}
    hidden = e.mark in (_HIDDEN, _UNRELIABLE)
    shares = dict.fromkeys(_SHARES) if hidden else {name: getattr(e, name) for name in _SHARES}
    return {
        "variable": variable, "category": category, "variable_2": variable_2, "category_2": category_2,
        **counts, **shares, "mark": e.mark, "notes": "; ".join(e.notes),
    }  # fmt: skip


def _row(release: Release, position: int, e: Estimate) -> Mapping[str, Any]:
    return {
        "wave": release.wave, "version": release.version, "position": position, "period": e.period,
        "service": e.service, "measure": e.measure, **cells_of(e),
    }  # fmt: skip
