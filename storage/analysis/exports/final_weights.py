"""The final weights of releases, on their way from the database into a file of interviews.

Of each wave those of its newest version that has some. Where every block of services was given to
everybody an interview has one weight, column `weight`; where blocks were drawn it has one a block,
`final_weight_BLOCK`.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, exists, func, select

from flows.instrument import Instrument
from storage.models import FinalWeight, ReleasedVersion, table_of

_BATCH = 10_000
_weight, _release = table_of(FinalWeight), table_of(ReleasedVersion)


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """versions: wave -> version of its release. columns: name in the file -> block; "" = of every block."""

    versions: Mapping[str, int]
    columns: Mapping[str, str]

    def labels(self, evened: bool) -> dict[str, str]:
        """Column -> what it is. evened: by the rule for public use."""
        each = ", ".join(f"{wave} version {version}" for wave, version in self.versions.items())
        label = f"Final weight of release {each}" + (", mean of its cell" if evened else "")
        return {name: f"{label}, block {block}" if block else label for name, block in self.columns.items()}

    def put_aside(self, db: Connection, spool: sqlite3.Connection) -> None:
        """All of them into the spool's table of weights."""
        named = {block: name for name, block in self.columns.items()}
        for wave, version in self.versions.items():
            query = select(_weight.c.interview, _weight.c.block, _weight.c.weight).where(
                _weight.c.wave == wave, _weight.c.version == version
            )
            for rows in db.execute(query, execution_options={"yield_per": _BATCH}).partitions(_BATCH):
                spool.executemany(
                    "INSERT INTO weights VALUES (?, ?, ?)",
                    [
                        (row.interview, name, row.weight)
                        for row in rows
                        # One weight for every block goes into each column, in a file that has several.
                        for name in ([named[row.block]] if row.block in named else self.columns)
                    ],
                )


def newest() -> Select[Any]:
    """Wave and version of each wave's newest release that has weights."""
    has = exists().where(_weight.c.wave == _release.c.wave, _weight.c.version == _release.c.version)
    return select(_release.c.wave, func.max(_release.c.version)).where(has).group_by(_release.c.wave)


def stored_weights(db: Connection, instrument: Instrument, wave: str | None) -> StoredWeights | None:
    """Those of a wave, or of every wave; None: no release has any."""
    query = newest().order_by(_release.c.wave)
    if wave is not None:
        query = query.where(_release.c.wave == wave)
    versions = {str(row[0]): int(row[1]) for row in db.execute(query)}
    if not versions:
        return None
    for name, version in versions.items():
        one = select(_weight.c.block).where(_weight.c.wave == name, _weight.c.version == version).limit(1)
        if db.execute(one).scalar_one():
            blocks = dict.fromkeys(
                instrument.blocks[i.block].id for i in instrument.items if i.role == "overall"
            )
            return StoredWeights(versions, {f"final_weight_{block}": block for block in blocks})
    return StoredWeights(versions, {"weight": ""})
