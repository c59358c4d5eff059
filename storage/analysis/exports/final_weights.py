"""The final weights of releases, on their way from the database into a file of interviews.

Of each wave on the file's questionnaire those of its newest version that has some. Where every block of
services was given to everybody an interview has one weight, column `weight`; where blocks were drawn it has
one a block, `final_weight_BLOCK`. Weights of a block that the questionnaire does not have, as an older
version may have named it otherwise, are left out: the file has no item of it that they would belong to.
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
        columns_of = {block: [name] for name, block in self.columns.items()}
        # One weight for every block goes into each column, in a file that has several.
        columns_of[""] = list(self.columns)
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
                        for name in columns_of.get(row.block, ())
                    ],
                )


def newest() -> Select[Any]:
    """Wave and version of each wave's newest release that has weights."""
    has = exists().where(_weight.c.wave == _release.c.wave, _weight.c.version == _release.c.version)
    return select(_release.c.wave, func.max(_release.c.version)).where(has).group_by(_release.c.wave)


def stored_weights(db: Connection, instrument: Instrument, wave: str | None) -> StoredWeights | None:
    """Those of a wave on `instrument`, or of every one; None: no release has any."""
    ours = f"{instrument.id}@"
    query = newest().where(func.substr(_release.c.instrument, 1, len(ours)) == ours).order_by(_release.c.wave)
    if wave is not None:
        query = query.where(_release.c.wave == wave)
    known = dict.fromkeys(instrument.blocks[i.block].id for i in instrument.items if i.role == "overall")
    versions: dict[str, int] = {}
    drawn = False
    for name, version in db.execute(query).all():
        of_blocks = select(_weight.c.block).where(_weight.c.wave == name, _weight.c.version == version)
        blocks = set(db.execute(of_blocks.distinct()).scalars())
        if "" in blocks or blocks & known.keys():
            versions[str(name)] = int(version)
            drawn |= "" not in blocks
    if not versions:
        return None
    return StoredWeights(versions, {f"final_weight_{b}": b for b in known} if drawn else {"weight": ""})
