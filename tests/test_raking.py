"""Raking: margins met, missing categories, joins, caps, and what it refuses and how."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.instrument import load
from storage.analysis.domains import OfficeFileError
from storage.analysis.margins import load_margins
from storage.analysis.raking import Limits, RakingError, Target, rake

ROOT = Path(__file__).resolve().parent.parent
INSTRUMENT = load(ROOT / "flows" / "sdg_16_6_2")


def target(
    name: str, totals: list[float], of: list[int], joins: dict[str, str] | None = None, fewest: int = 1
) -> Target:
    categories = tuple("abcdefgh"[: len(totals)])
    return Target(name, categories, np.array(totals, dtype=float), np.array(of), joins or {}, fewest)


ONE = np.ones(4)
FOUR = np.array([10, 20, 30, 40])


def test_one_table_is_post_stratification() -> None:
    raked = rake(ONE, FOUR, [target("sex", [600.0, 400.0], [0, 0, 1, 1])])
    assert raked.weights == pytest.approx([20, 20, 400 / 70, 400 / 70])
    assert raked.report.population == pytest.approx(1000)
    assert raked.report.deff_before == 1 and raked.report.deff_after > 1


def test_two_tables_are_both_met() -> None:
    """2 x 2 by hand: rows 50, 50; columns 30, 70; independent start, so w f = row x column / N."""
    counts = np.array([1, 1, 1, 1])
    raked = rake(
        ONE, counts, [target("r", [50.0, 50.0], [0, 0, 1, 1]), target("c", [30.0, 70.0], [0, 1, 0, 1])]
    )
    assert raked.weights == pytest.approx([15, 35, 15, 35])
    assert raked.report.margin_error < 1e-11


def test_who_lacks_the_item_keeps_their_base_weighted_share() -> None:
    base = np.array([1.0, 1.0, 2.0])
    raked = rake(base, np.array([30, 40, 15]), [target("sex", [600.0, 400.0], [0, 1, -1])])
    share = 30 / 100
    assert raked.weights * [30, 40, 15] == pytest.approx([600 * (1 - share), 400 * (1 - share), 1000 * share])
    ((table, n, part),) = raked.report.missing
    assert (table, n) == ("sex", 15) and part == pytest.approx(share)
    assert list(raked.categories[0]) == [0, 1, 2]


def test_a_small_category_joins_by_the_file_s_rule_and_the_report_says_so() -> None:
    tables = [target("region", [50.0, 30.0, 20.0], [0, 0, 0, 1], {"c": "b", "b": "a"}, fewest=2)]
    raked = rake(ONE, np.array([10, 20, 30, 40]), tables)
    assert [(j.category, j.into, j.respondents) for j in raked.report.joined] == [("c", "b", 0)]
    assert raked.weights == pytest.approx([50 / 60, 50 / 60, 50 / 60, 50 / 40])


def test_caps_hold_where_they_can_and_totals_always() -> None:
    base, counts = np.array([1.0, 20.0, 1.0, 20.0]), np.array([45, 5, 45, 5])
    tables = [target("sex", [500.0, 500.0], [0, 0, 1, 1])]
    free = rake(base, counts, tables)
    capped = rake(base, counts, tables, Limits(0.3, 3.0))
    assert free.report.most_weight > 6 * free.report.mean_weight
    assert capped.weights == pytest.approx([350 / 45, 30, 350 / 45, 30])  # 5 x 30 at the cap, the rest shared
    assert capped.report.margin_error == pytest.approx(0, abs=1e-12) and capped.report.at_cap == 10
    assert capped.report.deff_after < free.report.deff_after


def test_caps_that_cannot_hold_are_told_and_totals_hold_all_the_same() -> None:
    raked = rake(ONE, FOUR, [target("sex", [950.0, 50.0], [0, 0, 1, 1])], Limits(0.5, 2.0))
    assert raked.weights == pytest.approx([950 / 30, 950 / 30, 50 / 70, 50 / 70])
    assert raked.report.at_cap == 100


def test_caps_need_room() -> None:
    with pytest.raises(ValueError, match="one below 1 and one above"):
        Limits(1.5, 3.0)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([target("r", [50.0, 50.0], [0, 0, 1, 1]), target("c", [30.0, 60.0], [0, 1, 0, 1])],
         ["table c", "90", "100", "-10", "one population"]),
        ([target("r", [50.0, 30.0, 20.0], [0, 0, 1, 1])], ["table r, c", "20", "no respondent", "join"]),
        ([target("r", [50.0, 0.0], [0, 0, 1, 1])], ["table r, b", "70 respondents", "give its total"]),
        ([target("r", [50.0, -1.0], [0, 0, 1, 1])], ["table r, b", "0 or more"]),
        ([target("r", [50.0, float("nan")], [0, 0, 1, 1])], ["table r, b", "0 or more"]),
        ([target("r", [50.0, 50.0], [-1, -1, -1, -1])], ["table r", "no respondent"]),
        ([target("r", [50.0, 30.0, 20.0], [0, 0, 0, 0], {"b": "c", "c": "b"})], ["circle"]),
        ([], ["no margin"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(tables: list[Target], words: list[str]) -> None:
    with pytest.raises(RakingError) as refused:
        rake(ONE, FOUR, tables)
    for word in words:
        assert word in str(refused.value)


def test_tables_that_cannot_both_hold_are_refused_after_enough_sweeps() -> None:
    """Every a is in category 0 of the other table, which wants fewer than there must be of a."""
    tables = [target("r", [80.0, 20.0], [0, 1]), target("c", [30.0, 70.0], [0, 1])]
    with pytest.raises(RakingError, match="cannot all hold"):
        rake(np.ones(2), np.array([5, 5]), tables)


def test_no_respondents_is_said_so() -> None:
    with pytest.raises(RakingError, match="no respondent to rake"):
        rake(np.zeros(0), np.zeros(0, dtype=np.int64), [target("r", [1.0], [])])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_of_any_full_table_every_margin_is_met_whatever_the_order(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 4))
    cells = rows * columns
    counts = np.array(data.draw(st.lists(st.integers(1, 50), min_size=cells, max_size=cells)))
    base = np.array(data.draw(st.lists(st.floats(0.2, 5), min_size=cells, max_size=cells)))
    r = data.draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows))
    c = data.draw(st.lists(st.integers(1, 9), min_size=columns, max_size=columns))
    tables = [
        target("r", [1000 * x / sum(r) for x in r], [k // columns for k in range(cells)]),
        target("c", [1000 * x / sum(c) for x in c], [k % columns for k in range(cells)]),
    ]
    raked = rake(base, counts, tables)
    for table in tables:
        met = np.bincount(table.of, raked.weights * counts)
        assert met == pytest.approx(table.totals, rel=1e-9)
    assert (raked.weights > 0).all()
    assert rake(base, counts, tables[::-1]).weights == pytest.approx(raked.weights, rel=1e-8)
    assert rake(base * 7, counts, tables).weights == pytest.approx(raked.weights, rel=1e-8)


# ---------------------------------------------------------------- the office's file

HEAD = "table,source,date,variables,category,total,joins\n"
SEX = "sex,census,2021-06-27,sex,male,48,\nsex,census,2021-06-27,sex,female,52,\n"


def read(folder: Path, text: str) -> list[str]:
    path = folder / "margins.csv"
    path.write_text(text, "utf-8")
    try:
        load_margins(path, INSTRUMENT)
    except OfficeFileError as error:
        return [str(f).removeprefix(str(folder)) for f in error.faults]
    return []


def test_the_example_file_is_whole() -> None:
    margins = load_margins(ROOT / "deploy" / "margins.example.csv", INSTRUMENT)
    assert {v for t in margins.tables for v in t.variables} == {"region", "sex", "age", "residence"}
    assert all(t.source for t in margins.tables) and len(margins.digest) == 16


def test_a_cross_needs_every_combination(tmp_path: Path) -> None:
    rows = [f"sr,census,2021-06-27,sex*residence,{s}*{r},25," for s in ("male", "female")
            for r in ("urban", "rural")]  # fmt: skip
    assert read(tmp_path, HEAD + "\n".join(rows)) == []
    faults = read(tmp_path, HEAD + "\n".join(rows[:3]))
    assert len(faults) == 1 and "no row for female*rural; give its total" in faults[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["row 1", "heading"]),
        (HEAD, ["no table"]),
        (HEAD + SEX.replace("52", "5 2"), ["row 3", "'5 2' is no number"]),
        *((HEAD + SEX.replace("52", bad), ["row 3", f"'{bad}' is no number", "write digits only"])
          for bad in ("-1", "-0", "inf", "1e400", "1_000", "9" * 400, "")),
        (HEAD + SEX.replace("52", "52.5"), []),
        (HEAD + SEX.replace("48", "0").replace("52", "0"), ["table sex", "every total is 0"]),
        (HEAD.replace("joins", "join") + SEX, ["row 1", "must be the heading", "total,joins"]),
        (HEAD.replace("joins", "joins,note") + SEX, ["row 1", "must be the heading"]),
        (HEAD.replace(",joins", "") + SEX.replace(",\n", "\n"), []),
        (HEAD.replace(",joins", "") + SEX, ["row 2", "a cell for each heading"]),
        (HEAD + SEX.replace("female", "woman"), ["row 3", "'woman' is unknown", "male|female"]),
        (HEAD + SEX.replace("female", "male"), ["row 3", "stands twice"]),
        (HEAD + SEX.replace(",sex,male", ",gender,male"), ["row 2", "'gender' is unknown", "residence"]),
        (HEAD + SEX.replace("2021-06-27,sex,male", "27.6.2021,sex,male"), ["row 2", "is none; write"]),
        (HEAD + SEX.replace("census", ""), ["row 2", "source is empty"]),
        (HEAD + SEX.replace("sex,census,2021-06-27,sex,female", "sex,survey,2021-06-27,sex,female"),
         ["row 3", "differ from the first row"]),
        (HEAD + SEX.replace("48,", "48,female"), []),
        (HEAD + SEX.replace("48,", "48,nobody"), ["joins 'nobody'"]),
        (HEAD + SEX.replace("48,", "48,female").replace("52,", "52,male"), ["circle"]),
        (HEAD + SEX + "home,census,2021-06-27,residence,urban,60,\n"
         "home,census,2021-06-27,residence,rural,41,\n",
         ["table home", "101", "100", "+1"]),
        (HEAD + "sex,census, 18+,2021-06-27,sex,male,48,\n", ["row 2", "quote a cell"]),
    ],
)  # fmt: skip
def test_faults_name_file_row_and_fix(tmp_path: Path, text: str, words: list[str]) -> None:
    faults = read(tmp_path, text)
    assert bool(faults) == bool(words)
    told = "\n".join(faults)
    for word in words:
        assert word in told, told
    assert all("margins.csv" in fault for fault in faults)


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    faults = read(tmp_path, HEAD + SEX.replace("48", "many").replace("female", "woman"))
    assert {"row 2", "row 3"} <= {f.split(": ")[1] for f in faults}


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "margins.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OfficeFileError, match="save it as CSV in UTF-8"):
        load_margins(path, INSTRUMENT)
