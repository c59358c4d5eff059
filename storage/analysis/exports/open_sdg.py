"""The indicator for an Open SDG platform: indicator_16-6-2.csv, and its metadata as 16-6-2.yml.

What its builder (sdg-build) asks for:

    Year first, Value last, GeoCode second-last; any other column is a menu of the platform
    a blank cell means "all": the national row of a figure has every menu blank; no word "Total"
    Value is a number or empty, without marks
    SERIES, UNIT_MEASURE and COMMENT_OBS are no menus; ends of intervals would be, so they are left out
    GeoCode: the region's code, 1 to 16, which the office's map joins on (REGIONID)

A row that may not be shown stays, with an empty Value and the reason as its footnote.
"""

import csv
import io
import json
from collections.abc import Sequence

from storage.analysis.estimates import OVERALL
from storage.analysis.labels import Labels
from storage.analysis.release import Release, cautions, percent

DATA, METADATA = "indicator_16-6-2.csv", "16-6-2.yml"
UNIT = "PERCENT"
MAPPED = "region"  # the variable whose official codes are on the map
_RESERVED = ("Year", "SERIES", "UNIT_MEASURE", "COMMENT_OBS", "GeoCode", "Value", "Units", "Series")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WHY = {
    "c": "Not shown, so that nobody can be recognised.",
    "u": "Not shown: too few respondents to be reliable.",
}


def data(release: Release, labels: Labels, others: Sequence[Release] = ()) -> str:
    """The CSV. `others`: of other waves, for more years.

    Raises ValueError where two rows would be one: two waves of one year, or two categories of one name.
    """
    estimates = [e for r in (release, *others) for e in r.estimates]
    variables = list(dict.fromkeys(v for e in estimates for v, _ in e.domain))
    menus = {v: _menu(labels.variable(v)) for v in variables}
    if len(set(menus.values())) < len(menus):
        raise ValueError(
            f"two variables are called alike: {', '.join(menus.values())}; give them other words"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Year", "SERIES", "UNIT_MEASURE", *menus.values(), "COMMENT_OBS", "GeoCode", "Value"])
    seen: set[tuple[str, ...]] = set()
    for e in sorted(estimates, key=lambda e: e.period):
        if not e.period.isdecimal():
            raise ValueError(f"wave {e.wave}: period {e.period!r} is no year; Open SDG takes years only")
        options = dict(e.domain)
        row = [e.period, _cell(labels.figure(e)), UNIT]
        row += [_cell(labels.option(v, options[v])) if v in options else "" for v in variables]
        if tuple(row) in seen:
            raise ValueError(
                f"{labels.figure(e)}, {labels.domain(e.domain)}, {e.period}: two rows alike; "
                "give one wave a year, and each category its own words"
            )
        seen.add(tuple(row))
        place = labels.code(MAPPED, options[MAPPED]) if MAPPED in options else ""
        shown = e.mark not in _WHY
        writer.writerow([*row, _WHY.get(e.mark, ""), place, percent(e.share) if shown else ""])
    return out.getvalue()


def metadata(release: Release, labels: Labels, others: Sequence[Release] = ()) -> str:
    """The indicator's configuration and metadata; `others` as in `data`.

    Texts are written as JSON strings, which are YAML.
    """
    figures = [labels.figure(e) for e in release.estimates if e.measure == OVERALL]
    values: dict[str, object] = {
        "indicator": "16.6.2",
        "indicator_number": "16.6.2",
        "indicator_sort_order": "16-06-02",
        "goal_number": "16",
        "target_number": "16.6",
        "target_id": "16.6",
        "indicator_name": "Proportion of population satisfied with their last experience of public services",
        "graph_title": release.title,
        "graph_type": "line",
        "computation_units": "per cent",
        "data_non_statistical": False,
        "data_show_map": any(dict(e.domain).get(MAPPED) for e in release.estimates),
        "published": True,
        "reporting_status": "complete",
        "data_start_values": [{"field": "SERIES", "value": figures[0]}] if figures else [],
        "data_footnote": cautions(release, others),
        "source_active_1": True,
        "source_organisation_1": release.owner,
        "source_contact_1": release.contact,
        "source_release_date_1": release.issued,
        "source_other_info_1": f"Wave {release.wave}, version {release.version}, {release.instrument}",
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "---\n" + "\n".join(lines) + "\n"


def _menu(name: str) -> str:
    name = _cell(name)
    return f"{name} (category)" if name in _RESERVED else name


def _cell(text: str) -> str:
    """No white space around or within lines, and nothing that a spreadsheet takes for a formula."""
    clean = " ".join(text.split())
    return "'" + clean if clean.startswith(_FORMULA) else clean
