"""The rule for public use: in a wave, nobody stands in a cell of region × age group × sex below ten.

"Don't know", "refused" and "not reached" count as values of their own. The rule, in this order:

 1. Wherever a cell has fewer than ten interviews, their age group is withheld.
 2. Wherever a cell still has fewer, their region is withheld too.
 3. Wherever a cell still has fewer, their sex is withheld too: nothing of the three is then left.
 4. If those of whom nothing is left are fewer than ten, the smallest other cell joins them, whole; again
    until they are ten.
 5. A wave with fewer than ten interviews in all stays out of the file.
 6. A final weight would tell the cell that somebody was taken out of. So those with something withheld get
    the mean of their weights, in the wave, which leaves the wave's sum as it was.
 7. The final weight of a release would tell more than the file does: the stratum, or an answer that a margin
    uses and the file leaves out, such as disability. So after that everybody has the mean of their cell. A
    file of weights given with `--weights` is the office's own, and is taken as it is.

Always whole cells: a part of one would leave the rest smaller. What stands in a cell after step 1 or 2
either had ten already or goes on to the next step, so no step makes a new small cell.

Source: survey statistics facts of the project, disclosure control, rule f; the threshold of ten is that of
the ONS Longitudinal Study.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

THRESHOLD = 10


@dataclass(frozen=True, slots=True)
class Protection:
    """What the rule did. `withheld`: column -> interviews in which it was withheld."""

    withheld: dict[str, int]
    left_out: int  # interviews of waves that were too small


def protect(
    db: sqlite3.Connection,
    keys: Sequence[str],
    code: int,
    threshold: int = THRESHOLD,
    weights: Sequence[str] = (),
) -> Protection:
    """Apply the rule to the table `wide`.

    keys: its columns of region, age group and sex, as far as there are; code: what stands for withheld;
    weights: the columns of final weights, if there are any.
    """
    named = [_named(k) for k in keys]
    # Age first, for a region is what most readers look for; sex last.
    for column in (named[1:2] + named[:1] + named[2:]) if len(named) > 1 else named:
        _withhold(db, named, [column], code, f"HAVING COUNT(*) < {threshold}")
    left_out = 0
    for (wave,) in db.execute("SELECT DISTINCT wave FROM wide").fetchall():
        left_out += _fill(db, named, code, threshold, wave)
    withheld = {
        k: db.execute(f"SELECT COUNT(*) FROM wide WHERE {n} = ?", (code,)).fetchone()[0]
        for k, n in zip(keys, named, strict=True)
    }
    for weight in weights if named else ():
        hidden = " OR ".join(f"{n} = {code}" for n in named)
        # All means first: taken while they are put in, each would count those before it twice.
        means = db.execute(
            f"SELECT AVG({_named(weight)}), wave FROM wide WHERE ({hidden}) GROUP BY wave"
        ).fetchall()
        db.executemany(
            f"UPDATE wide SET {_named(weight)} = ? WHERE wave = ? AND ({hidden})"
            f" AND {_named(weight)} IS NOT NULL",
            means,
        )
    return Protection(withheld, left_out)


def even_out(
    db: sqlite3.Connection, keys: Sequence[str], weights: Sequence[str], threshold: int = THRESHOLD
) -> None:
    """Step 7: the mean of its cell for each weight; cells with fewer than ten weights have one together."""
    cell = ", ".join(["wave", *map(_named, keys)])
    same = " AND ".join(f"wide.{k} IS s.{k}" for k in ["wave", *map(_named, keys)])
    for weight in map(_named, weights):
        db.execute(
            f"CREATE TEMP TABLE cells AS SELECT {cell}, AVG({weight}) AS mean, COUNT({weight}) AS n,"
            f" SUM({weight}) AS total FROM wide GROUP BY {cell}"
        )
        db.execute(
            f"UPDATE cells SET mean = (SELECT SUM(s.total) / SUM(s.n) FROM cells s"
            f" WHERE s.wave = cells.wave AND s.n < {threshold}) WHERE n < {threshold}"
        )
        db.execute(f"CREATE INDEX temp.cell ON cells ({cell})")
        db.execute(
            f"UPDATE wide SET {weight} = (SELECT s.mean FROM cells s WHERE {same}) WHERE {weight} IS NOT NULL"
        )
        db.execute("DROP TABLE cells")


def _withhold(
    db: sqlite3.Connection, keys: Sequence[str], columns: Sequence[str], code: int, which: str
) -> None:
    """Put `code` into `columns` of every interview in a cell that `which` picks."""
    cell = ", ".join(["wave", *keys])
    same = " AND ".join(f"wide.{k} IS s.{k}" for k in ["wave", *keys])
    db.execute(f"CREATE TEMP TABLE small AS SELECT {cell} FROM wide GROUP BY {cell} {which}")
    change = ", ".join(f"{c} = {code}" for c in columns)
    db.execute(f"UPDATE wide SET {change} WHERE EXISTS (SELECT 1 FROM small s WHERE {same})")
    db.execute("DROP TABLE small")


def _fill(db: sqlite3.Connection, keys: Sequence[str], code: int, threshold: int, wave: str) -> int:
    """Steps 4 and 5 for one wave; interviews left out."""
    total = db.execute("SELECT COUNT(*) FROM wide WHERE wave = ?", (wave,)).fetchone()[0]
    if total < threshold:
        db.execute("DELETE FROM wide WHERE wave = ?", (wave,))
        return int(total)
    nothing = " AND ".join(f"{k} IS {code}" for k in keys)
    while keys:
        n = db.execute(f"SELECT COUNT(*) FROM wide WHERE wave = ? AND {nothing}", (wave,)).fetchone()[0]
        if n == 0 or n >= threshold:
            break
        quoted = "'" + wave.replace("'", "''") + "'"
        smallest = f"HAVING wave = {quoted} AND NOT ({nothing}) ORDER BY COUNT(*), {', '.join(keys)} LIMIT 1"
        _withhold(db, keys, keys, code, smallest)
    return 0


def _named(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
