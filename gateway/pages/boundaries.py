"""The office's own map: a GeoJSON of regions, made into a small drawing once at start-up.

Features join a region by its ISO 3166-2 code or its official number, under one of the usual property names.
Longitudes are drawn narrower by the cosine of the middle latitude (plate carree), as true as a map of a few
hundred kilometres near the equator needs; then every point goes to a grid that is made coarser until the
drawing is small. Neighbours share their points, so their borders stay shared. What is not small on the
coarsest grid, or has lost a region on the way, is refused.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

#: Property names seen: statistical offices' files, Natural Earth, geoBoundaries.
_NAMES = (
    "iso_3166_2",
    "ISO_3166_2",
    "iso",
    "ISO",
    "shapeISO",
    "iso31662",
    "REGIONID",
    "regionid",
    "code",
    "id",
)
_MOST_OCTETS = 14_000  # of all outlines: a page has 60,000
_GRIDS = (600, 480, 380, 300, 240, 190, 150, 120, 90, 60, 45, 35)

Point = tuple[int, int]


class MapError(ValueError):
    """The office's map cannot be used: names the file, what is wrong, and the fix."""


@dataclass(frozen=True, slots=True)
class Shape:
    outline: str  # of an SVG path
    x: int  # where its number stands
    y: int


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Outlines by ISO 3166-2 code, in a box of `width` x `height`."""

    width: int
    height: int
    shapes: Mapping[str, Shape]


def load_boundaries(path: Path, regions: Mapping[str, str]) -> Boundaries:
    """The map in `path`. `regions`: ISO 3166-2 code -> official number. Raises MapError."""
    try:
        data = json.loads(path.read_text("utf-8"))
        features = list(data["features"])
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise MapError(
            f"{path}: no GeoJSON feature collection: {type(error).__name__}; give one, in degrees (WGS 84)"
        ) from None
    by_number = {number: iso for iso, number in regions.items() if number}
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for n, feature in enumerate(features, 1):
        try:
            properties = {**(feature.get("properties") or {}), "id": feature.get("id")}
            told = [str(properties[name]).strip() for name in _NAMES if properties.get(name) is not None]
            rings = list(_rings(feature["geometry"]))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            raise MapError(
                f"{path}: feature {n}: is no polygon; leave it out, or mend its geometry"
            ) from None
        iso = next((t for t in told if t in regions), None) or next(
            (by_number[t] for t in told if t in by_number), None
        )
        if iso is None:
            said = ", ".join(told) or "no code"
            raise MapError(
                f"{path}: feature {n} ({said}): is no region of the questionnaire; give it a property"
                " REGIONID (official number) or iso_3166_2, or leave it out"
            )
        found.setdefault(iso, []).extend(rings)
    if missing := sorted(regions.keys() - found.keys()):
        raise MapError(f"{path}: no feature for {', '.join(missing)}; add it, or use the grid of tiles")
    if any(
        not (-180 <= x <= 180 and -90 <= y <= 90) for rings in found.values() for r in rings for x, y in r
    ):
        raise MapError(f"{path}: its coordinates are no degrees; export it in WGS 84")
    drawn = _drawn(found)
    size = sum(len(s.outline) for s in drawn.shapes.values())
    if size > _MOST_OCTETS:
        raise MapError(
            f"{path}: its outlines take {size:,} characters on the coarsest grid, and a page has room for"
            f" {_MOST_OCTETS:,}; simplify it first (in QGIS: Simplify), and leave out small islands"
        )
    if lost := sorted(iso for iso, s in drawn.shapes.items() if not s.outline):
        raise MapError(
            f"{path}: nothing is left of {', '.join(lost)} at the size of a page; simplify the other regions'"
            " outlines first (in QGIS: Simplify), leave out islands far away, or use the grid of tiles"
        )
    return drawn


def _rings(geometry: Mapping[str, Any]) -> Iterator[list[tuple[float, float]]]:
    polygons = {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}[
        geometry["type"]
    ]
    for polygon in polygons:
        for ring in polygon:
            yield [(float(p[0]), float(p[1])) for p in ring]


def _drawn(found: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> Boundaries:
    points = [p for rings in found.values() for ring in rings for p in ring]
    west, east = min(x for x, _ in points), max(x for x, _ in points)
    south, north = min(y for _, y in points), max(y for _, y in points)
    narrow = math.cos(math.radians((south + north) / 2))
    for grid in _GRIDS:
        scale = grid / max(north - south, (east - west) * narrow)

        def placed(p: tuple[float, float], scale: float = scale) -> Point:
            return round((p[0] - west) * narrow * scale), round((north - p[1]) * scale)

        shapes = {iso: _shape([[placed(p) for p in ring] for ring in rings]) for iso, rings in found.items()}
        if sum(len(s.outline) for s in shapes.values()) <= _MOST_OCTETS:
            break
    return Boundaries(round((east - west) * narrow * scale), round((north - south) * scale), shapes)


def _shape(rings: Sequence[Sequence[Point]]) -> Shape:
    """The outline in steps from point to point, and the middle of its largest ring."""
    outline, largest, middle = [], -1.0, (0, 0)
    for ring in rings:
        kept = [p for n, p in enumerate(ring) if n == 0 or p != ring[n - 1]]
        if kept and kept[0] == kept[-1]:
            kept.pop()
        area, centre = _middle(kept) if len(kept) > 2 else (0.0, ring[0])
        if area > largest:
            largest, middle = area, centre
        if len(kept) > 2:
            steps = " ".join(f"{b[0] - a[0]} {b[1] - a[1]}" for a, b in pairwise(kept))
            outline.append(f"M{kept[0][0]} {kept[0][1]}l{steps}z".replace(" -", "-"))
    return Shape("".join(outline), *middle)


def _middle(ring: Sequence[Point]) -> tuple[float, Point]:
    """Area and centre of gravity of a ring (shoelace formula)."""
    twice = x = y = 0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        cross = x0 * y1 - x1 * y0
        twice, x, y = twice + cross, x + (x0 + x1) * cross, y + (y0 + y1) * cross
    if not twice:
        return 0.0, ring[0]
    return abs(twice / 2), (round(x / (3 * twice)), round(y / (3 * twice)))
