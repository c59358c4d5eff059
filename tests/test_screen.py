"""Screens: paging within a budget of septets, and reading what comes back."""

import re
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.gsm import septets, unencodable
from flows.instrument import load
from flows.reading import MAX_REPLY, clean, match_option, read_number
from flows.screen import (
    LayoutError,
    Menu,
    item_pages,
    language_screen,
    lay_out,
    menu_screen,
    option_labels,
    prompt,
    skip_key,
)
from flows.wave import Wave

INSTRUMENT = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")
WAVE = Wave(
    id="w", instrument=INSTRUMENT, languages=("en", "fr"), owner="Ghana Statistical Service",
    contact="0800 000 000", code="*384*16#",
)  # fmt: skip
ITEMS = [i.id for i in INSTRUMENT.items]

# ---------------------------------------------------------------- laying out


def pages(
    head: str, *lines: str, budget: int, detail: str = "", first_back: bool = False, **hints: str
) -> list[str]:
    return list(lay_out(head, lines, budget=budget, detail=detail, first_back=first_back, **hints))


def test_what_fits_is_one_page_without_more() -> None:
    assert pages("How?", "1 Well", "2 Badly", budget=40, more="98 More", back="0 Back") == [
        "How?\n1 Well\n2 Badly"
    ]


@pytest.mark.parametrize(
    ("lines", "budget", "first_back", "shown"),
    [
        (["1 Well", "2 Badly"], 50, True, ["How is it?\n1 Well\n2 Badly\n99 Skip 0 Back"]),
        (
            ["1 Well", "2 Badly", "3 Ill"],
            42,
            True,
            ["How is it?\n1 Well\n98 More 99 Skip 0 Back", "2 Badly\n3 Ill\n99 Skip 0 Back"],
        ),
        (
            ["1 Well", "2 Badly", "3 Very ill"],
            41,
            False,
            ["How is it?\n1 Well\n2 Badly\n98 More 99 Skip", "3 Very ill\n99 Skip 0 Back"],
        ),
    ],
)
def test_footers(lines: list[str], budget: int, first_back: bool, shown: list[str]) -> None:
    assert shown == pages(
        "How is it?", *lines, budget=budget, first_back=first_back, more="98 More", back="0 Back",
        skip="99 Skip",
    )  # fmt: skip


def test_exactly_the_budget_fits_and_one_less_does_not() -> None:
    text = "How?\n1 Well\n2 Badly"
    assert pages("How?", "1 Well", "2 Badly", budget=septets(text), more="98 More") == [text]
    assert len(pages("How?", "1 Well", "2 Badly", budget=septets(text) - 1, more="98 More")) == 2


def test_extension_characters_count_twice() -> None:
    assert len(pages("€€€€", "1 A", budget=12, more="98 M")) == 1
    with pytest.raises(LayoutError):
        pages("€€€€", "1 A", budget=11, more="98 M")


def test_detail_stands_on_pages_of_its_own_after_the_options() -> None:
    assert pages(
        "Q?", "1 Yes", "2 No", budget=30, detail="Some more words.", more="98 More", back="0 Back"
    ) == [
        "Q?\n1 Yes\n2 No\n98 More",
        "Some more words.\n0 Back",
    ]


def test_a_long_head_is_broken_between_words_and_keeps_its_lines() -> None:
    found = pages("One two three\nfour five six", "1 Yes", budget=22, more="98 More", back="0 Back")
    assert found == ["One two three\n98 More", "four\n98 More 0 Back", "five six\n1 Yes\n0 Back"]


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("Extraordinarily", ["1 A", "2 B"]),
        ("Q", ["1 An option too long to stand"]),
        ("", ["1 Wwwwwwwwwwwwwwwwwwwwww"]),
    ],
)
def test_what_cannot_fit_is_refused_by_name(head: str, lines: list[str]) -> None:
    with pytest.raises(LayoutError, match=r"does not fit on a screen of 20 septets: .(Extra|1 )"):
        pages(head, *lines, budget=20, more="98 More", back="0 Back")


WORDS = st.text("abc€ é", min_size=1, max_size=12).map(str.split).map(" ".join).filter(bool)


@settings(derandomize=True, max_examples=400)
@given(
    head=st.lists(WORDS, min_size=1, max_size=20),
    lines=st.lists(WORDS, max_size=12),
    detail=st.lists(WORDS, max_size=10),
    budget=st.integers(60, 182),
    first_back=st.booleans(),
    skip=st.sampled_from(["", "99 Skip"]),
)
def test_any_text_keeps_to_the_budget_and_loses_nothing(
    head: list[str], lines: list[str], detail: list[str], budget: int, first_back: bool, skip: str
) -> None:
    options = [f"{n} {line}" for n, line in enumerate(lines, 1)]
    found = lay_out(
        " ".join(head), options, budget=budget, more="98 More", back="0 Back", first_back=first_back,
        skip=skip, detail=" ".join(detail),
    )  # fmt: skip
    bodies = []
    for n, page in enumerate(found):
        assert septets(page) <= budget
        last = n + 1 == len(found)
        hints = ("" if last else "98 More", skip, "0 Back" if n or first_back else "")
        footer = " ".join(h for h in hints if h)
        assert page.endswith(f"\n{footer}") if footer else True
        bodies.append(page.removesuffix(f"\n{footer}") if footer else page)
    rows = "\n".join(bodies).split("\n")
    assert " ".join("\n".join(bodies).split()) == " ".join(" ".join([*head, *options, *detail]).split())
    for option in options:
        assert option in rows  # whole, on one line of one page


# ---------------------------------------------------------------- the instrument, at every width


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_item_at_every_width_keeps_its_options_whole(language: str) -> None:
    prompts = INSTRUMENT.languages[language].prompts
    for item in INSTRUMENT.items:
        labels = option_labels(WAVE, language, item.index)
        options = [f"{n} {label}" for n, label in enumerate(labels, 1)]
        name = "invalid_number" if item.kind == "number" else "invalid_choice"
        wrong = prompts[name].format(min=item.least, max=item.most)
        for budget in range(80, 183):
            for notice in ("", wrong):
                found = item_pages.__wrapped__(WAVE, language, item.index, "ussd", budget, True, notice)
                rows = [row for page in found for row in page.split("\n")]
                assert all(septets(page) <= budget for page in found)
                assert [row for row in rows if row in options] == options
                for page in found[:-1]:
                    assert page.rpartition("\n")[2].startswith(f"98 {prompts['more']}")
                assert not found[-1].rpartition("\n")[2].startswith("98 ")
                assert all(page.endswith(f"0 {prompts['back']}") for page in found)


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("item", ITEMS)
def test_by_sms_back_leads_to_the_question_only_and_nothing_is_outside_the_alphabet(
    language: str, item: str
) -> None:
    found = item_pages(WAVE, language, INSTRUMENT.by_id[item].index, "sms", 160, True, "")
    back = INSTRUMENT.languages[language].prompts["back"]
    assert all(septets(page) <= 459 for page in found)
    assert [page.endswith(f"0 {back}") for page in found] == [n > 0 for n in range(len(found))]


def test_one_key_skips_everywhere_and_is_never_an_answer() -> None:
    assert {skip_key(i) for i in INSTRUMENT.items} == {"99"}
    for item in INSTRUMENT.items:
        if item.kind == "number":
            assert all(read_number(key, item.least, item.most) is None for key in ("0", "98", "99"))
    large = replace(INSTRUMENT.by_id["respondent.age"], most=9999)  # here 99 may be an answer
    assert skip_key(large) == "00"
    assert read_number("00", 1, 9999) is None


def test_menus_and_prompts() -> None:
    menu = Menu("pause", ("go_on", "stop_for_now"))
    shown = menu_screen(WAVE, "en", menu, "ussd", 160, "", (("part", "1"), ("parts", "3")))
    assert shown == "Part 1 of 3 done. Thank you.\n1 Go on\n2 Stop for now"
    shown = menu_screen(WAVE, "en", Menu("why", ("dont_know",), back=True), "ussd", 160, "Hm.", ())
    assert shown == "Hm.\nSkip because:\n1 I don't know\n0 Back"
    with pytest.raises(LayoutError, match="menu pause takes 2 screens"):
        menu_screen(WAVE, "en", menu, "ussd", 40, "", (("part", "1"), ("parts", "3")))
    assert language_screen(WAVE, 160) == "Ghana Statistical Service\n1 English\n2 Francais"
    assert prompt(WAVE, "fr", "invalid_number", (("min", "18"), ("max", "110"))) == (
        "Tapez un nombre de 18 à 110."
    )


@pytest.mark.parametrize("language", ["en", "fr"])
def test_values_are_inserted_and_no_placeholder_is_left(language: str) -> None:
    for item in INSTRUMENT.items:
        for page in item_pages(WAVE, language, item.index, "ussd", 160, True, ""):
            assert not re.search(r"[{}]", page) and not unencodable(page)


# ---------------------------------------------------------------- reading a reply


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1", "1"),
        ("007", "007"),
        ("", ""),
        ("   ", ""),
        (" 1 ", "1"),
        ("YES", "yes"),
        ("  Strongly \t AGREE ", "strongly agree"),
        ("١٢", "12"),  # Arabic-Indic
        ("۳۴", "34"),  # Persian
        ("５６", "56"),  # full-width
        ("१", "1"),  # Devanagari
        ("①", "1"),
        ("1️⃣", "1"),  # keycap emoji: a digit, a variation selector, an enclosing keycap
        ("🔟", "10"),
        ("\u200e1\u200f", "1"),  # marks of direction
        ("👍", "👍"),
        ("1.", "1"),
        ("“1”", "1"),
        ("(1)", "1"),
        ("«yes»", "yes"),
        ("yes!", "yes"),
        ("No time (work)", "no time (work"),  # labels are compared in the same form
        ("-5", "-5"),  # no 5
        ("1#", "1#"),  # a text alone may end with it: clean_text
        ("...", ""),
        ("Ｙｅｓ", "yes"),
        ("Français", "francais"),
        ("FRANÇAIS", "francais"),  # capital Ç is in the alphabet, small ç is not
        ("Réessayer", "reessayer"),  # é is in the alphabet; people type e all the same
        ("reessayer", "reessayer"),
        ("cœur", "coeur"),
        ("₵", "ghs"),
        ("Ŋ Ɛ", "n e"),
        ("D’accord", "d'accord"),
        ("a\u0000b", "a\u0000b"),
        ("1" * 160, "1" * 160),
        ("1" * 161, ""),
        ("a" * 10_240, ""),
    ],
)
def test_clean(text: str, read: str) -> None:
    assert clean(text) == read


AGREEMENT = ["Strongly agree", "Agree", "Disagree", "Strongly disagree"]
REGIONS = option_labels(WAVE, "en", INSTRUMENT.by_id["respondent.region"].index)
FRENCH = option_labels(WAVE, "fr", INSTRUMENT.by_id["health.access"].index)


@pytest.mark.parametrize(
    ("reply", "labels", "position"),
    [
        ("1", AGREEMENT, 0),
        ("4", AGREEMENT, 3),
        ("5", AGREEMENT, None),
        ("0", AGREEMENT, None),
        ("01", AGREEMENT, None),  # 0 is the Back key; what begins with it is no option
        ("-1", AGREEMENT, None),
        ("1.", AGREEMENT, 0),
        ("2)", AGREEMENT, 1),
        ("1.5", AGREEMENT, None),
        ("1 2", AGREEMENT, None),
        ("1 6", REGIONS, None),
        ("1111111111", AGREEMENT, None),
        ("", AGREEMENT, None),
        (".", AGREEMENT, None),
        ("strongly agree", AGREEMENT, 0),
        ("strongly", AGREEMENT, None),  # begins two
        ("agree", AGREEMENT, 1),
        ("disagree", AGREEMENT, 2),
        ("agre", AGREEMENT, None),
        ("agree disagree", AGREEMENT, None),
        ("bono", REGIONS, 2),  # the whole text of one, though it begins another
        ("bono east", REGIONS, 3),
        ("greater", REGIONS, 6),
        ("upper", REGIONS, None),
        ("western", REGIONS, 14),
        ("d'accord", FRENCH, 1),
        ("pas", FRENCH, None),
        ("tout", FRENCH, 0),
    ],
)
def test_match_option(reply: str, labels: list[str], position: int | None) -> None:
    assert match_option(reply, labels) == position


@pytest.mark.parametrize("label", ["Oui, les effacer", "OUI, LES EFFACER", "oui"])
def test_a_label_is_matched_however_it_is_written(label: str) -> None:
    assert match_option(clean(label), ["Oui, les effacer", "Non, les garder"]) == 0


def test_every_option_can_be_typed_as_its_text() -> None:
    for language in ("en", "fr"):
        for item in INSTRUMENT.items:
            labels = option_labels(WAVE, language, item.index)
            texts = INSTRUMENT.languages[language].options[item.scale.id].values() if item.scale else ()
            for n, (label, text) in enumerate(zip(labels, texts, strict=True)):
                assert match_option(clean(label), labels) == n, (language, item.id, label)
                assert match_option(clean(text), labels) == n, (language, item.id, text)
                assert match_option(clean(text.upper()), labels) == n, (language, item.id, text.upper())
                ascii_only = normalize("NFD", text).encode("ascii", "ignore").decode()
                assert match_option(clean(ascii_only), labels) == n, (language, item.id, ascii_only)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("18", 18),
        ("110", 110),
        ("17", None),
        ("111", None),
        ("3 4", 34),
        ("034", 34),
        ("34.", 34),
        ("34.5", None),
        ("-34", None),
        ("+34", None),
        ("34 years", None),
        ("thirty", None),
        ("", None),
        (" ", None),
        ("0000000034", None),  # ten digits are no age
        ("9" * 160, None),
    ],
)
def test_read_number(reply: str, value: int | None) -> None:
    assert read_number(reply, 18, 110) == value


@settings(derandomize=True, max_examples=500)
@given(st.text(max_size=200))
def test_no_reply_raises(text: str) -> None:
    plain = clean(text)
    assert len(text) <= MAX_REPLY or not plain
    assert match_option(plain, AGREEMENT) in (None, 0, 1, 2, 3)
    assert read_number(plain, 18, 110) in (None, *range(18, 111))
