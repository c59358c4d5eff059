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
    uses and the file leaves out, such as disability. So after that everybody has the mean of their cell, and
    cells with fewer than ten weights, since not everybody has one, have one mean together. A file of weights
    given with `--weights` is the office's own, and is taken as it is.

A mean of 6 or 7 is over ten weights at least: where there are fewer, the cell that has the next fewest joins
them, again until they are ten. Where the wave has fewer than ten in all, they are left out.

Always whole cells: a part of one would leave the rest smaller. What stands in a cell after step 1 or 2
either had ten already or goes on to the next step, so no step makes a new small cell.

Source: survey statistics facts of the project, disclosure control, rule f; the threshold of ten is that of
the ONS Longitudinal Study.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

THRESHOLD = 10

Means = dict[tuple[Any, ...], float | None]  # of a cell, by its wave and values; None: no weight is told


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
        means: Means = {}
        for cells in _weights(db, keys, weight):
            pool, _ = _pooled(cells, [c for c in cells if code in c.key[1:]], threshold)
            means |= {c.key: _mean(pool, threshold) for c in pool}
        _give(db, keys, weight, means)
    return Protection(withheld, left_out)


def even_out(
    db: sqlite3.Connection, keys: Sequence[str], weights: Sequence[str], threshold: int = THRESHOLD
) -> None:
    """Step 7: the mean of its cell for each weight; cells with fewer than ten weights have one together."""
    for weight in weights:
        means: Means = {}
        for cells in _weights(db, keys, weight):
            pool, rest = _pooled(cells, [c for c in cells if c.n < threshold], threshold)
            means |= {c.key: _mean(pool, threshold) for c in pool}
            means |= {c.key: _mean([c], threshold) for c in rest}
        _give(db, keys, weight, means)


@dataclass(frozen=True, slots=True)
class _Cell:
    key: tuple[Any, ...]  # wave, then the values
    n: int  # weights
    total: float  # their sum


def _weights(db: sqlite3.Connection, keys: Sequence[str], weight: str) -> list[list[_Cell]]:
    """Of each wave the cells that have weights, those with the fewest first."""
    cell, column = ", ".join(["wave", *map(_named, keys)]), _named(weight)
    found = db.execute(
        f"SELECT COUNT({column}), SUM({column}), {cell} FROM wide WHERE {column} IS NOT NULL"
        f" GROUP BY {cell} ORDER BY wave, COUNT({column}), {cell}"
    )
    cells = [_Cell(tuple(key), n, total) for n, total, *key in found]
    return [list(of_wave) for _, of_wave in groupby(cells, key=lambda c: c.key[0])]


def _pooled(cells: Sequence[_Cell], pool: list[_Cell], threshold: int) -> tuple[list[_Cell], list[_Cell]]:
    """`pool`, with as many of the next smallest cells as it needs for enough weights; and the other cells."""
    rest = [c for c in cells if c not in pool]
    while pool and rest and sum(c.n for c in pool) < threshold:
        pool = [*pool, rest.pop(0)]
    return pool, rest


def _mean(pool: Sequence[_Cell], threshold: int) -> float | None:
    n = sum(c.n for c in pool)
    return sum(c.total for c in pool) / n if n >= threshold else None


def _give(db: sqlite3.Connection, keys: Sequence[str], weight: str, means: Means) -> None:
    """Put these into `weight` of the cells' interviews that have one."""
    names, column = ["wave", *map(_named, keys)], _named(weight)
    same = " AND ".join(f"wide.{k} IS s.{k}" for k in names)
    # Its columns are of the types of wide's, or the index would not be used.
    db.execute(f"CREATE TEMP TABLE means AS SELECT {', '.join(names)}, 0.0 AS mean FROM wide LIMIT 0")
    places = ", ".join("?" * (len(names) + 1))
    db.executemany(f"INSERT INTO means VALUES ({places})", [(*key, mean) for key, mean in means.items()])
    db.execute(f"CREATE INDEX temp.cell ON means ({', '.join(names)})")
    db.execute(
        f"UPDATE wide SET {column} = (SELECT s.mean FROM means s WHERE {same})"
        f" WHERE {column} IS NOT NULL AND EXISTS (SELECT 1 FROM means s WHERE {same})"
    )
    db.execute("DROP TABLE means")


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
