"""How people answered, option by option: shares by hand, what may be shown of them, and where they stand."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openpyxl  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from flows.instrument import Scale, parse
from gateway.commands import release as release_command
from storage.analysis import disclosure, display
from storage.analysis.differencing import revision_faults
from storage.analysis.disclosure import DisclosureRules, protect_answers
from storage.analysis.display import DisplayRules
from storage.analysis.estimates import Answer, Estimate
from storage.analysis.publishing import publish, verify
from storage.analysis.release import (
    DESIGN_ONLY,
    Release,
    ReleaseError,
    Rules,
    all_versions,
    leaving,
    load_release,
    make,
    marked_answers,
)
from storage.analysis.shares import item_states
from storage.analysis.table import table_16_6_2
from storage.database import migrate, open_engine
from tests.estimation_material import put
from tests.figures_material import estimate
from tests.test_estimation import REAL, found, user
from tests.test_releases import DAY, INSTRUMENT, LABELS, about, released

SCALE = (("very_satisfied", 3), ("satisfied", 2), ("dissatisfied", 1), ("very_dissatisfied", 0))
Counts = Sequence[int]


def answers(counts: Counts, scale: Sequence[tuple[str, int]] = SCALE) -> list[Answer]:
    """Of health care overall, so many for each option."""
    return [Answer(o, c, estimate((), sum(counts), k)) for (o, c), k in zip(scale, counts, strict=True)]


def item(counts: Counts, scale: Sequence[tuple[str, int]] = SCALE) -> Estimate:
    """The figure that they are the answers to."""
    return estimate((), sum(counts), sum(k for k, (_, c) in zip(counts, scale, strict=True) if c >= 2))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'record.sqlite3'}")
    migrate(engine, REAL)
    yield engine
    engine.dispose()


# ---------------------------------------------------------------- the shares


def test_shares_by_hand_and_on_the_item_s_base(sqlite: Engine) -> None:
    """Weights 1 and 3; who says 98 or stops is in no option's base."""
    said = [
        "very_satisfied",
        "satisfied",
        "satisfied",
        "dissatisfied",
        "very_dissatisfied",
        "dont_know",
        None,
    ]
    names = put(sqlite, REAL, [user(option) for option in said])
    draw = {p: ("all", 3.0 if n % 2 else 1.0) for n, p in enumerate(names)}
    made = table_16_6_2(sqlite, REAL, "w", draw=draw, probability_sample=True)
    got = [a for a in made.answers if (a.figure.service, a.figure.measure) == ("health", "overall")]
    assert [(a.option, a.code) for a in got] == list(SCALE)
    assert [a.figure.share for a in got] == pytest.approx([1 / 9, 4 / 9, 3 / 9, 1 / 9])
    assert {(a.figure.n, a.figure.dont_know, a.figure.not_reached, a.figure.domain) for a in got} == {
        (5, 1, 1, ())
    }
    assert [a.figure.positive for a in got] == [1, 2, 1, 1]
    whole = found(made, "health", "overall")
    assert got[0].figure.df == whole.df and got[0].figure.notes == whole.notes == ()


def test_options_add_up_in_every_item_and_stand_in_the_instrument_s_order(sqlite: Engine) -> None:
    """1 among 40 of equal weight: the textbook's error; every item's positive options make its share."""
    put(sqlite, REAL, [user("satisfied")] * 15 + [user("dissatisfied")] * 24 + [user("very_satisfied")])
    made = table_16_6_2(sqlite, REAL, "w")
    national = {(e.service, e.measure): e for e in made.estimates if not e.domain}
    by_item: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for a in made.answers:
        by_item[a.figure.service, a.figure.measure].append(a)
    assert list(by_item) == [k for k in national if k[1] != "attributes"]
    assert all([a.code for a in of] == [3, 2, 1, 0] for of in by_item.values())
    health = by_item["health", "overall"]
    assert health[1].figure.se == pytest.approx((0.375 * 0.625 / 39) ** 0.5)
    assert sum(a.figure.share or 0 for a in health[:2]) == pytest.approx(0.4, abs=1e-12)
    assert by_item["primary", "overall"][0].figure.share is None  # nobody was asked: no base, no share


def test_versions_of_the_instrument_are_joined_by_option(sqlite: Engine) -> None:
    text = REAL.sources["questionnaire.toml"].replace('version = "2026.3"', 'version = "2025.9"')
    lines = [f'  {{ id = "{o}", code = {c} }},\n' for o, c in SCALE]
    turned = text.replace("".join(lines), "".join(reversed(lines)))
    assert turned != text
    older = parse({**REAL.sources, "questionnaire.toml": turned})
    migrate(sqlite, older)
    put(sqlite, REAL, [user("very_satisfied")] * 3 + [user("dissatisfied")])
    put(sqlite, older, [user("very_satisfied")] * 2 + [user("very_dissatisfied")] * 4, first=4)
    made = table_16_6_2(sqlite, REAL, "w")
    got = {a.option: a.figure.positive for a in made.answers if a.figure.measure == "overall"
           and a.figure.service == "health"}  # fmt: skip
    assert got == {"very_satisfied": 5, "satisfied": 0, "dissatisfied": 1, "very_dissatisfied": 4}
    assert list(got) == [o for o, _ in SCALE]  # in the order of today's scale


def test_an_option_that_only_an_older_version_had_keeps_its_place_on_its_side() -> None:
    now = REAL.by_id["health.overall"]
    assert now.scale is not None
    gone = replace(now.scale.options[0], id="delighted", mark="9")
    other = replace(now, scale=Scale("satisfaction", (*now.scale.options, gone)))
    older = replace(REAL, by_id={**REAL.by_id, now.id: other})
    marks = np.full((3, len(REAL.items)), ord("-"), dtype=np.uint8)
    marks[:, now.index] = [ord(now.scale.options[3].mark), ord("9"), ord("9")]
    states = item_states(REAL, "health", [(REAL, marks[:0]), (older, marks)])
    by_state, by_option = states.counts(np.zeros(3, dtype=np.int64), 1)
    assert states.options[now.id] == (*SCALE, ("delighted", 3))
    assert by_option[now.id].tolist() == [[0, 0, 0, 1, 2]]
    assert by_state[now.id][0, :2].tolist() == [1, 2]  # negative, positive


# ---------------------------------------------------------------- what may be shown


@pytest.mark.parametrize(
    ("counts", "hidden", "why"),
    [
        ((40, 30, 20, 10), [], set()),
        # fewer than ten chose one: the other on its side goes with it, whichever is the small one
        ((4, 60, 30, 20), [3, 2], {disclosure.FEW_CHOSE, disclosure.PARTNER}),
        ((60, 30, 20, 9), [1, 0], {disclosure.FEW_CHOSE, disclosure.PARTNER}),
        ((5, 4, 30, 20), [3, 2], {disclosure.FEW_CHOSE}),
        ((9, 90, 5, 90), [3, 2, 1, 0], {disclosure.FEW_CHOSE, disclosure.PARTNER}),
        ((0, 7, 30, 20), [3, 2], {disclosure.FEW_CHOSE, disclosure.PARTNER}),
        # that nobody chose an option tells of nobody
        ((0, 60, 30, 20), [], set()),
        # a small base, and a small group of one mind
        ((3, 2, 2, 2), [3, 2, 1, 0], {disclosure.SMALL}),
        ((0, 29, 0, 0), [3, 2, 1, 0], {disclosure.ALIKE}),
        ((0, 30, 0, 0), [], set()),
    ],
)
def test_what_is_hidden(counts: Counts, hidden: list[int], why: set[str]) -> None:
    got = protect_answers(answers(counts), (), DisclosureRules())
    assert [a.code for a in got if a.figure.mark == "c"] == hidden
    assert {a.figure.notes[-1] for a in got if a.figure.notes} == why


def test_with_the_item_s_figure_all_its_options_are_hidden() -> None:
    whole = replace(item((40, 30, 20, 10)), mark="c")
    got = marked_answers(answers((40, 30, 20, 10)), [whole], Rules())
    assert {(a.figure.mark, a.figure.notes) for a in got} == {("c", ("overall is hidden",))}
    left: list[Any] = [a.figure for a in leaving(got, Rules())]
    assert {(e.n, e.positive, e.share, e.se, e.notes) for e in left} == {(0, 0, None, None, ())}


OPEN = Rules(
    DisclosureRules(least=3, group=5, rounding=1),
    DisplayRules(n=1, n_eff=0.0, narrow=0.999, wide=1.0, fine_n_eff=0.0, decimals=9),
)


def reckoned(
    most: int, scale: Sequence[tuple[str, int]], hide: Callable[[list[Answer]], list[Answer]] = list
) -> list[tuple[Counts, str]]:
    """Of all populations up to `most` people: each with a hidden option whose count a reader can tell.

    The reader has the release, its rules, and all the time there is: every population that would have been
    published in the same way, unrounded. An option that has one count in all of them is known.
    """
    alike: dict[tuple[tuple[Estimate, ...], tuple[Answer, ...]], list[Counts]] = defaultdict(list)
    for counts in product(range(most + 1), repeat=len(scale)):
        if not 0 < sum(counts) <= most:
            continue
        figures = make([item(counts, scale)], OPEN)
        out = leaving(hide(marked_answers(answers(counts, scale), figures, OPEN)), OPEN)
        alike[figures, out].append(counts)
    return [
        (populations[0], a.option)
        for (_, out), populations in alike.items()
        for place, a in enumerate(out)
        if a.figure.mark == "c" and len({counts[place] for counts in populations}) == 1
    ]


def test_no_hidden_count_can_be_reckoned() -> None:
    assert reckoned(11, SCALE) == []
    assert reckoned(8, (*SCALE, ("delighted", 3))) == []


def test_the_reader_finds_what_is_there_to_find() -> None:
    """The test above can fail: without partners the small count is the item's less the other's."""

    def without_partners(marked: list[Answer]) -> list[Answer]:
        return [
            replace(a, figure=replace(a.figure, mark="")) if disclosure.PARTNER in a.figure.notes else a
            for a in marked
        ]

    assert ((1, 3, 0, 0), "very_satisfied") not in reckoned(5, SCALE)
    assert ((1, 4, 0, 0), "very_satisfied") in reckoned(5, SCALE, without_partners)


def test_the_display_standard_comes_next_and_option_by_option() -> None:
    """What is unreliable is no secret: its partner stays."""
    counts = (11, 149, 0, 140)
    got = marked_answers(answers(counts), [item(counts)], Rules())
    wide = [replace(a, figure=replace(a.figure, mark="", width=0.06)) for a in got]
    assert [a.figure.mark for a in display.display_answers(wide, DisplayRules())] == ["u", "", "u", ""]
    assert [(a.figure.mark, a.figure.notes) for a in got][2] == ("*", (display.ALL_OR_NONE,))
    assert [(a.figure.n, a.figure.positive) for a in leaving(got, Rules())][:2] == [(300, 10), (300, 150)]


# ---------------------------------------------------------------- the folder, and its versions


def issue(out: Path, counts: Counts, **values: object) -> Path:
    reason = str(values.pop("reason", ""))
    return publish(
        [item(counts)], out, about(**values), LABELS, issued=DAY, reason=reason, answers=answers(counts)
    )  # fmt: skip


def test_a_release_has_the_answers_in_every_form(tmp_path: Path) -> None:
    folder = issue(tmp_path, (400, 300, 196, 4))
    assert verify(folder) == [] and "answers.csv" in (folder / "SHA256SUMS").read_text()
    release = load_release(folder)
    assert [a.figure.mark for a in release.answers] == ["", "", "c", "c"]
    assert release.answers[0].figure.share == 0.444 and release.answers[0].figure.n == 900
    rows = list(csv.DictReader(io.StringIO((folder / "answers.csv").read_text("utf-8"))))
    words = INSTRUMENT.languages["en"].options["satisfaction"]
    assert [(r["option"], r["code"], r["label"]) for r in rows] == [(o, str(c), words[o]) for o, c in SCALE]
    assert [(r["percent"], r["n"], r["mark"]) for r in rows[1:3]] == [("33.3", "900", ""), ("", "", "c")]
    assert "196" not in (folder / "answers.csv").read_text("utf-8")
    book = openpyxl.load_workbook(folder / "estimates.xlsx", read_only=True)
    assert book.sheetnames == ["Read me", "Figures", "Answers", "Columns"]
    sheet = list(book["Answers"].iter_rows(values_only=True))
    assert list(sheet[0]) == list(rows[0]) and sheet[1][9] == 44.4
    assert "Answers: percent" in dict(list(book["Columns"].iter_rows(values_only=True)))
    book.close()


def test_a_folder_of_older_software_still_loads(tmp_path: Path) -> None:
    folder = issue(tmp_path, (40, 30, 20, 10))
    data = json.loads((folder / "release.json").read_text("utf-8"))
    del data["answers"], data["design_weighted"]
    (tmp_path / "release.json").write_text(json.dumps(data))
    older = load_release(tmp_path)
    assert (older.answers, older.design_weighted) == ((), False)
    assert older.estimates == load_release(folder).estimates


def test_between_versions(tmp_path: Path) -> None:
    """Hidden once, hidden for good; and what changed must rest on 15 people more or fewer."""
    issue(tmp_path, (40, 30, 21, 9))
    with pytest.raises(ReleaseError, match="health overall, national, satisfied: base 100 in version 1"):
        issue(
            tmp_path, (36, 34, 21, 9), reason="Late answers.", material="m2"
        )  # the item's share is the same
    folder = issue(tmp_path, (50, 40, 30, 30), reason="Late answers.", material="m2")
    assert [a.figure.mark for a in load_release(folder).answers] == ["", "", "c", "c"]
    first = all_versions(tmp_path, "w")[0]
    other = leaving(answers((36, 34, 21, 9)), Rules())
    assert revision_faults([], "m1", first, other) == []  # the same people, weighted otherwise
    assert len(revision_faults([], "m2", first, other)) == 2  # of the two that version 1 shows


SHORT = (("very_satisfied", 3), ("satisfied", 2), ("dissatisfied", 1))


def told_apart(rounding: int, group: int) -> list[tuple[Counts, Counts]]:
    """Pairs of versions of which a reader can tell what fewer than five people, all who came, said alike.

    The reader knows the rules, has shares to nine decimals, knows that nobody left (or, the pair turned
    round, that nobody came), and tries every pair: up to six people, and one to six more. `group`: what
    `revision_faults` goes by.
    """
    shown = replace(OPEN, disclosure=replace(OPEN.disclosure, rounding=rounding))
    asked = replace(shown, disclosure=replace(shown.disclosure, group=group))

    def issued(counts: Counts) -> Release:
        figures = make([item(counts, SHORT)], shown)
        out = leaving(marked_answers(answers(counts, SHORT), figures, shown), shown)
        return replace(released([]), rules=asked, estimates=figures, answers=out)

    few = [c for c in product(range(7), repeat=len(SHORT)) if 0 < sum(c) <= 6]
    seen = {c: issued(c) for c in product(range(13), repeat=len(SHORT)) if 0 < sum(c) <= 12}
    number: dict[object, int] = {}  # of all that look alike
    looks = {c: number.setdefault((r.estimates, r.answers), len(number)) for c, r in seen.items()}
    may: dict[tuple[int, int], bool] = {}
    alike: dict[tuple[int, int], list[tuple[Counts, Counts, str]]] = defaultdict(list)
    for first, came in product(few, few):
        then = tuple(a + b for a, b in zip(first, came, strict=True))
        mind = "negative" if not came[0] + came[1] else "positive" if not came[2] else ""
        if sum(came) >= OPEN.disclosure.group:
            mind = ""
        for old, new in ((first, then), (then, first)):
            pair = looks[old], looks[new]
            if pair not in may:
                may[pair] = not revision_faults(seen[new].estimates, "m2", seen[old], seen[new].answers)
            if may[pair]:
                alike[pair].append((old, new, mind))
    told = [pairs for pairs in alike.values() if {mind for *_, mind in pairs} in ({"negative"}, {"positive"})]
    # Where all of the larger version are of one mind, it tells that by itself, and may (rule 2).
    return [
        (old, new)
        for pairs in told
        for old, new, _ in pairs
        if (most := max(old, new, key=sum))[2] and most[0] + most[1]
    ]


@pytest.mark.parametrize("rounding", [1, 2, 3])
def test_two_versions_do_not_tell_that_a_small_group_was_of_one_mind(rounding: int) -> None:
    assert told_apart(rounding, group=OPEN.disclosure.group) == []


def test_the_reader_of_two_versions_finds_what_is_there_to_find() -> None:
    """The test above can fail: asked for `least` (3) alone, four newcomers of one mind are told."""
    assert ((1, 1, 3), (5, 1, 3)) in told_apart(1, group=3)


@pytest.mark.parametrize(
    ("after", "unreliable", "refused"),
    [
        ((60, 30, 20, 10), False, ["national"]),  # 20 more, all very satisfied: the item's share says so
        ((50, 30, 30, 10), False, []),  # 10 and 10: sure to be of two minds
        ((42, 30, 38, 10), False, ["national"]),  # 2 and 18: rounded, it could be 0 and 20
        ((65, 40, 25, 10), False, []),  # 40 more are no small group, whatever they said
        # without the item's share nothing tells that minds differed
        ((50, 30, 30, 10), True, [f"national, {option}" for option, _ in SCALE]),
        ((65, 40, 25, 10), True, []),
    ],
)
def test_newcomers_of_one_mind(after: Counts, unreliable: bool, refused: list[str]) -> None:
    counts = (40, 30, 20, 10)
    mark = "u" if unreliable else ""
    was = replace(released([item(counts)]), answers=leaving(answers(counts), Rules()))
    now = [replace(e, mark=mark) for e in make([item(after)], Rules())]
    faults = revision_faults(now, "m2", was, leaving(answers(after), Rules()))
    assert [fault.split(": ")[0].removeprefix("health overall, ") for fault in faults] == refused
    assert all("fewer than 30 people who all answered alike" in fault for fault in faults)


# ---------------------------------------------------------------- weighted by design


def test_weighted_by_design_is_not_unweighted(tmp_path: Path) -> None:
    folder = issue(tmp_path, (40, 30, 20, 10), probability_sample=True, design_weighted=True)
    release: Release = load_release(folder)
    assert release.design_weighted and not release.weighted and release.caution == DESIGN_ONLY
    assert DESIGN_ONLY in json.loads((folder / "dcat.jsonld").read_text())["dct:description"][0]["@value"]
    for name in ("16-6-2.yml", "16-6-2_national.px", "release.json"):
        assert "nweighted" not in (folder / name).read_text("utf-8"), name
    issue(tmp_path, (40, 30, 20, 10), reason="Unweighted, by mistake.")
    context: Any = lambda run_folder: SimpleNamespace(releases_dir=tmp_path)  # noqa: E731
    listed = CliRunner().invoke(release_command.commands(context), ["list"], env={"COLUMNS": "160"})
    rows = [line.split("│") for line in listed.stdout.splitlines() if line.startswith("│")]
    assert [row[5].strip() for row in rows] == ["design", "none"]
