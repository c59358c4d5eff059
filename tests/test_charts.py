"""Where the marks of the results pages' charts stand, as numbers."""

from dataclasses import replace

import pytest

from gateway.pages import charts
from gateway.pages.diverging import diverging, together
from gateway.results_page import regions_of
from storage.analysis.estimates import Domain, Estimate
from tests.figures_material import estimate
from tests.results_material import instrument

REGION: Domain = (("region", "gh_aa"),)


def figure(n: int, positive: int, mark: str = "") -> Estimate:
    e = replace(estimate(REGION, n, positive), mark=mark)
    assert e.share is not None and e.low is not None and e.high is not None
    return replace(e, share=round(e.share, 3), low=round(e.low, 3), high=round(e.high, 3), se=0.01, width=0.1)


def test_a_mark_stands_at_its_percentage() -> None:
    drawn = charts.chart([("A", figure(200, 100)), ("B", figure(400, 300))], figure(600, 400))
    assert [(m.label, m.share, m.low, m.high) for m in drawn.marks] == [
        ("B", "75.0", "70.8", "79.2"),
        ("A", "50.0", "43.1", "56.9"),
    ]
    assert drawn.national == "66.7"
    assert [m.y for m in drawn.marks] == sorted(m.y for m in drawn.marks)


def test_what_is_hidden_is_in_no_chart() -> None:
    rows = [("A", figure(200, 100, "c")), ("B", figure(200, 100, "u")), ("C", figure(200, 100, "*"))]
    drawn = charts.chart(rows, figure(600, 400, "u"))
    assert [(m.label, m.review) for m in drawn.marks] == [("C", True)]
    assert [label for label, _ in drawn.hidden] == ["A", "B"]
    assert drawn.national == ""
    assert charts.trend(rows).ribbon == ""


def test_a_trend_runs_from_wave_to_wave() -> None:
    drawn = charts.trend([("2024", figure(400, 200)), ("2026", figure(400, 300))])
    assert [(p.label, p.x, p.share) for p in drawn.points] == [("2024", "25", "50.0"), ("2026", "75", "75.0")]
    assert drawn.line == "M25,50L75,25"
    assert drawn.ribbon == "M25,45.1L75,20.8L75,29.2L25,54.9Z"


@pytest.mark.parametrize(("waves", "crowded"), [(9, False), (10, True)])
def test_shares_above_a_long_trend_do_not_touch(waves: int, crowded: bool) -> None:
    drawn = charts.trend([(str(2010 + n), figure(400, 200)) for n in range(waves)])
    assert drawn.crowded is crowded and not drawn.points[-1].spare


def test_a_wave_that_is_hidden_or_lacks_a_figure_breaks_the_line() -> None:
    shown, hidden = figure(400, 200), figure(400, 200, "c")
    drawn = charts.trend([("1", shown), ("2", hidden), ("3", shown), ("4", shown), ("5", None)])
    assert [(p.label, p.x) for p in drawn.points] == [("1", "10"), ("3", "50"), ("4", "70")]
    assert drawn.line == "M50,50L70,50"
    assert drawn.ribbon.count("M") == 2 and drawn.ribbon.startswith("M8.5,45.1L11.5,45.1")
    assert drawn.dots == "M10,50h0M50,50h0M70,50h0"
    assert [label for label, *_ in drawn.ticks] == ["1", "2", "3", "4", "5"]


def answered(*shares: float, marks: str = "    ") -> dict[int, list[Estimate]]:
    """Figures of codes 3, 2, 1, 0."""
    return {
        code: [replace(figure(1000, round(1000 * share)), mark=mark.strip())]
        for code, share, mark in zip((3, 2, 1, 0), shares, marks, strict=True)
    }


def test_answers_stand_on_their_side_of_the_line() -> None:
    """An axis from 50 left to 75 right: 125 per cent are its whole width, its middle is at 40."""
    drawn = diverging(
        [
            ("A", figure(1000, 550), answered(0.2, 0.35, 0.4, 0.05)),
            ("B", figure(1000, 600), answered(0.3, 0.3, 0.3, 0.1)),
        ],
        ("All", figure(1000, 700), answered(0.5, 0.2, 0.2, 0.1)),
    )  # fmt: skip
    assert [(r.label, r.apart) for r in drawn.rows] == [("B", False), ("A", False), ("All", True)]
    assert [t for _, t in drawn.ticks] == ["50", "25", "0", "25", "50", "75"]
    assert drawn.ticks[2] == ("40", "0")
    assert [(s.code, s.x, s.width, s.text) for s in drawn.rows[1].segments] == [
        ("0", "4", "4", ""), ("1", "8", "32", "40"), ("2", "40", "28", "35"), ("3", "68", "16", "20"),
    ]  # fmt: skip
    assert (drawn.rows[1].low, drawn.rows[1].high) == ("81.52", "86.48")


@pytest.mark.parametrize(
    ("marks", "codes", "widths"),
    [
        ("  c ", "x23", [45, 35, 20]), (" c  ", "01x", [5, 40, 55]), ("u  c", "xx", [45, 55]),
    ],
)  # fmt: skip
def test_a_half_with_hidden_answers_is_drawn_whole(marks: str, codes: str, widths: list[int]) -> None:
    drawn = diverging([("A", figure(1000, 550), answered(0.2, 0.35, 0.4, 0.05, marks=marks))])
    assert "".join(s.code for s in drawn.rows[0].segments) == codes
    assert [round(float(s.width) * 1.25) for s in drawn.rows[0].segments] == widths
    assert not any(s.text for s in drawn.rows[0].segments if s.code == "x")


@pytest.mark.parametrize(
    ("mark", "codes", "last"), [("", "0123", "20"), ("c", "01x", ""), ("u", "01x", "")]
)  # fmt: skip
def test_options_of_one_code_are_taken_together(mark: str, codes: str, last: str) -> None:
    """As "very satisfied" and the word that took its place within a wave."""
    chosen = answered(0.05, 0.35, 0.4, 0.05)
    chosen[3].append(replace(figure(1000, 150), mark=mark))
    (row,) = diverging([("A", figure(1000, 550), chosen)]).rows
    assert "".join(s.code for s in row.segments) == codes
    assert row.segments[-1].text == last
    assert together(chosen[3]) == ("" if mark else "20.0")


def test_an_item_whose_share_is_hidden_has_no_bar() -> None:
    drawn = diverging([("A", figure(200, 100, "c"), answered(0.2, 0.35, 0.4, 0.05))])
    assert not drawn.rows and [label for label, _ in drawn.hidden] == ["A"]


def test_every_region_has_a_tile_of_its_own() -> None:
    assert set(charts.TILES) == set(regions_of(instrument()))
    assert len(set(charts.TILES.values())) == 16


@pytest.mark.parametrize(
    ("share", "shade"), [(0.0, 0), (0.499, 0), (0.5, 1), (0.599, 1), (0.6, 2), (0.799, 3), (0.8, 4), (1.0, 4)]
)
def test_classes_of_the_map(share: float, shade: int) -> None:
    e = replace(figure(200, 100), share=share)
    assert charts.shade_of(e) == shade
    assert charts.shade_of(replace(e, mark="u")) == -1
