"""The picture of the flow and the printed questionnaire: complete, escaped, nothing over anything else."""

import re
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flows.drawing import draw_flow
from flows.instrument import Instrument, load, parse
from flows.printed import condition_in_words, print_questionnaire
from flows.questionnaire import PROMPTS

SVG = "{http://www.w3.org/2000/svg}"
HEAD = """
[instrument]
id = "tiny"
version = "1"
title = "Water & <light>"
source = "Made up & <short>"
consent_version = "1"
reference_months = 12
default_language = "en"
languages = ["en"]
[nonresponse]
not_applicable = 97
dont_know = 98
refused = 99
[scales]
yes_no = [{ id = "yes", code = 1 }, { id = "no", code = 2 }]
"""
CONSENT = """
[[blocks]]
id = "opening"
[[blocks.items]]
id = "opening.consent"
role = "consent"
label = "Consent & <more>"
scale = "yes_no"
nonresponse = []
ends = { no = "refusal" }
"""
TINY = (
    CONSENT
    + """
[[blocks.items]]
id = "opening.age"
kind = "number"
role = "age"
label = "Age"
min = 18
max = 110
[[blocks.items]]
id = "opening.sex"
role = "sex"
label = "Sex"
scale = "yes_no"
ask_if = [{ "opening.age" = ["refused"] }]
"""
)
LONG = "a_very_long_name_of_a_block_that_no_column_can_hold_on_one_line"
#: Drawn blocks last, two conditions at once, a way that depends on earlier answers, a skipped block.
AWKWARD = (
    CONSENT
    + f"""
[[blocks]]
id = "{LONG}"
drawn = true
[[blocks.items]]
id = "{LONG}.start"
role = "block_gate"
label = "A label {"that goes on and on " * 8}"
scale = "yes_no"
number = "123456.7890"
skips_block = "no"
[[blocks.items]]
id = "water.a"
role = "gate"
label = "First"
scale = "yes_no"
ask_if = [{{ "{LONG}.start" = ["yes"] }}]
[[blocks.items]]
id = "water.b"
role = "attribute"
label = "Second"
scale = "yes_no"
ask_if = [{{ "{LONG}.start" = ["yes"], "water.a" = ["yes"] }}, {{ "water.a" = ["no"] }}]
[[blocks.items]]
id = "water.c"
role = "attribute"
label = "Third"
scale = "yes_no"
ask_if = [{{ "water.a" = ["yes", "dont_know"] }}]
[[blocks.items]]
id = "water.d"
role = "overall"
label = "Fourth"
scale = "yes_no"
ask_if = [{{ "water.a" = ["no"] }}]
[[blocks]]
id = "light"
drawn = true
[[blocks.items]]
id = "light.a"
role = "overall"
label = "Only"
scale = "yes_no"
nonresponse = ["not_applicable", "dont_know", "refused"]
"""
)


def made(blocks: str) -> Instrument:
    """An instrument of these blocks, with texts full of characters that need escaping."""
    items = re.findall(r'^\[\[blocks\.items\]\]\nid = "(.+)"', blocks, re.MULTILINE)
    words = [
        '[language]\nid = "en"\nname = "English"\niso639_3 = "eng"\nstatus = "draft"\n[prompts]',
        *(f'{name} = "{name} & <b>"' for name in PROMPTS),
        '[scales.yes_no]\nyes = "Yes & <always>"\nno = "No | never"',
        *(f'[items."{i}"]\ntext = "{i} <at> {{owner}} & *all*?"\ndetail = "Call {{contact}}"' for i in items),
    ]
    return parse({"questionnaire.toml": HEAD + blocks, "en.toml": "\n".join(words)})


REAL = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")
ALL = {"real": REAL, "tiny": made(TINY), "awkward": made(AWKWARD), "one": made(CONSENT)}
every = pytest.mark.parametrize("instrument", ALL.values(), ids=ALL)

Rect = tuple[float, float, float, float]


def rects(svg: ElementTree.Element, *kinds: str) -> list[Rect]:
    found = [r for r in svg.iter(f"{SVG}rect") if r.get("class") in kinds]
    return [
        (x, y, x + float(r.attrib["width"]), y + float(r.attrib["height"]))
        for r in found
        for x, y in [(float(r.attrib["x"]), float(r.attrib["y"]))]
    ]


def apart(a: Rect, b: Rect) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def within(a: Rect, b: Rect) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def spoken(svg: ElementTree.Element) -> str:
    """All text of the picture as one line."""
    texts = [t.text or "" for t in svg.iter(f"{SVG}text")]
    return " ".join(" ".join(texts).replace("\u00a0", " ").split())


def printed(instrument: Instrument, language: str = "en") -> str:
    return print_questionnaire(instrument, language, owner="Us & <co>", contact="0800", code="*384*16#")


# ---------------------------------------------------------------- the picture


@every
def test_a_box_for_every_item_and_no_other(instrument: Instrument) -> None:
    svg = ElementTree.fromstring(draw_flow(instrument))
    boxes = [r.attrib["data-item"] for r in svg.iter(f"{SVG}rect") if r.get("class") == "item"]
    assert boxes == [i.id for i in instrument.items]
    assert not list(svg.iter(f"{SVG}script"))
    assert (svg.findtext(f"{SVG}title") or "").startswith(instrument.title)
    assert all(b.id in (svg.findtext(f"{SVG}desc") or "") for b in instrument.blocks)


@every
def test_nothing_overlaps_or_leaves_the_picture(instrument: Instrument) -> None:
    svg = ElementTree.fromstring(draw_flow(instrument))
    x, y, width, height = map(float, svg.attrib["viewBox"].split())
    paper = (x, y, x + width, y + height)
    solid = rects(svg, "item", "block", "end", "pause", "step")
    assert all(within(r, paper) for r in [*solid, *rects(svg, "frame", "group")])
    assert [pair for pair in combinations(solid, 2) if not apart(*pair)] == []
    groups, frames = rects(svg, "group"), rects(svg, "frame")
    assert [pair for pair in combinations(groups, 2) if not apart(*pair)] == []
    assert all(within(s, g) or apart(s, g) for s in solid for g in groups + frames)
    assert all(within(g, f) or apart(g, f) for g in groups for f in frames)
    points = [p for line in svg.iter(f"{SVG}polyline") for p in line.attrib["points"].split()]
    for across, down in (map(float, p.split(",")) for p in points):
        assert 0 <= across <= width and 0 <= down <= height


@every
def test_skip_lines_cross_no_box(instrument: Instrument) -> None:
    svg = ElementTree.fromstring(draw_flow(instrument))
    solid = rects(svg, "item", "block", "end", "pause", "step")
    for line in svg.iter(f"{SVG}polyline"):
        points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
        for (x1, y1), (x2, y2) in pairwise(points):
            piece = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            assert all(apart(piece, box) for box in solid), piece


@every
def test_conditions_and_ends_are_named(instrument: Instrument) -> None:
    words = spoken(ElementTree.fromstring(draw_flow(instrument)))
    for item in instrument.items:
        if item.ask_if:  # wrapped, and names too long for a line are broken
            assert f"if {condition_in_words(instrument, item)}".replace(" ", "") in words.replace(" ", "")
    for end in {"complete", *(f"end: {e}" for i in instrument.items for e in i.ends.values())}:
        assert words.count(end) == 1


def test_the_real_flow_reads_as_intended() -> None:
    words = spoken(ElementTree.fromstring(draw_flow(REAL)))
    assert "if health.need = yes" in words
    assert "if health.got = yes or health.visit = yes" in words
    assert "if household.gas = no, don't know or refused" in words
    assert "in random order, with a pause between any two" in words
    assert words.count("pause, then the next of these") == 3
    # after Q2: "no" leads down, the others to the added gate or straight to Q4
    assert "2 health.got Health got care every time don't know, refused yes if health.got = no" in words


def test_a_way_that_depends_on_earlier_answers_says_so() -> None:
    words = spoken(ElementTree.fromstring(draw_flow(ALL["awkward"])))
    assert "water.b Second otherwise" in words  # down after a yes, to the fourth after a no


@every
def test_the_same_instrument_gives_the_same_outputs(instrument: Instrument) -> None:
    again = parse(instrument.sources)
    assert draw_flow(instrument) == draw_flow(again)
    assert printed(instrument) == printed(again)


def test_special_characters_are_escaped() -> None:
    svg, paper = draw_flow(ALL["tiny"]), printed(ALL["tiny"])
    assert "Water &amp; &lt;light&gt;" in svg and "Consent &amp; &lt;more&gt;" in svg
    for text in (svg, paper):
        assert "<light>" not in text and "<more>" not in text and "& " not in text
    assert "Us &amp; &lt;co&gt;" in paper and r"\*all\*" in paper and r"\*384\*16\#" in paper
    assert r"| 2 | 2 | `no` | No \| never |" in paper


# ---------------------------------------------------------------- the questionnaire


@every
def test_the_questionnaire_names_every_item_option_and_code(instrument: Instrument) -> None:
    for language in instrument.languages.values():
        paper = printed(instrument, language.id)
        status = paper.index(f"**{language.status.capitalize()}.**")
        assert status < paper.index("## ")
        sections = re.split(r"^### (?:\S+ · )?`(.+)`$", paper.split("## Appendix")[0], flags=re.MULTILINE)
        found = dict(zip(sections[1::2], sections[2::2], strict=True))
        assert list(found) == [i.id for i in instrument.items]
        for item in instrument.items:
            text = found[item.id]
            if item.number:
                assert f"### {item.number} · `{item.id}`" in paper
            asked = f"**Asked:** if {condition_in_words(instrument, item)}".replace("_", r"\_")
            assert (asked if item.ask_if else "**Asked:** everybody") in text
            for key, option in enumerate(item.scale.options if item.scale else (), 1):
                assert f"| {key} | {option.code} | `{option.id}` | " in text
            if item.kind == "number":
                assert f"A whole number from {item.least} to {item.most}" in text
            assert all(f"`{group.id}`" in text for group in item.groups)
            assert all(f"{instrument.codes[name]} " in text for name in item.nonresponse)
            for disposition in item.ends.values():
                assert f"the interview ends ({disposition}) |" in text
            if item.skips_block:
                assert "the rest of this block is skipped |" in text
        assert all(f"| `{name}` | " in paper for name in PROMPTS)


def test_the_real_questionnaire_says_where_answers_lead() -> None:
    got = printed(REAL).split("`health.got`\n", 1)[1].split("###")[0]
    assert "| 1 | 1 | `yes` | Yes | go to `health.access` |" in got
    assert "| 2 | 2 | `no` | No |  |" in got
    assert got.rstrip().endswith("; then go to `health.visit`.")
    french = printed(REAL, "fr")
    assert "Français" in french and "**Draft.**" in french and "Très satisfait" in french
    assert "{owner}" not in french and "{contact}" not in french and "{code}" not in french
