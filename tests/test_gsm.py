"""The alphabet of phones, as literal tables from 3GPP TS 23.038, and the folding to it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.gsm import SEPTETS, fold, parts, septets, unencodable

# TS 23.038 section 6.2.1, row by row; 0x1B is the escape to the extension and no character.
ROWS = [
    "@£$¥èéùìòÇ\nØø\rÅå",
    "Δ_ΦΓΛΩΠΨΣΘΞ" + "ÆæßÉ",
    " !\"#¤%&'()*+,-./",
    "0123456789:;<=>?",
    "¡ABCDEFGHIJKLMNO",
    "PQRSTUVWXYZÄÖÑÜ§",
    "¿abcdefghijklmno",
    "pqrstuvwxyzäöñüà",
]
EXTENSION = "\f^{}\\[~]|€"


def test_the_alphabet_is_the_standard_one() -> None:
    basic = "".join(ROWS)
    assert len(basic) == 127  # 128 places, one of them the escape
    assert {c for c, cost in SEPTETS.items() if cost == 1} == set(basic)
    assert {c for c, cost in SEPTETS.items() if cost == 2} == set(EXTENSION)
    assert len(SEPTETS) == 137


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a", 1), ("€", 2), ("[1]", 5), ("Où ?", 4), ("1 Yes\n2 No", 10), ("{}~|^\\\f", 14)],
)
def test_septets(text: str, count: int) -> None:
    assert septets(text) == count


@pytest.mark.parametrize("outside", ["`", "’", "ê", "ç", "ɛ", "₵", "\u0301", "\t", "\u00a0", "😀"])
def test_what_is_outside_has_no_cost(outside: str) -> None:
    with pytest.raises(KeyError):
        septets(outside)


def test_unencodable_names_each_character_once_in_order() -> None:
    assert unencodable("Akɔ ŋti kɔ €") == ["ɔ", "ŋ"]
    assert unencodable("plain [text]") == []


# facts on characters, section 4, pair by pair; French and the typographic marks besides
FOLDED = {
    "ɛ": "e", "Ɛ": "E", "ɔ": "o", "Ɔ": "O", "ŋ": "n", "Ŋ": "N", "ƒ": "f", "Ƒ": "F", "ɖ": "d", "Ɖ": "D",
    "ʋ": "v", "Ʋ": "V", "ɣ": "g", "Ɣ": "G", "ɩ": "i", "Ɩ": "I", "ʊ": "u", "Ʊ": "U", "ə": "e", "Ə": "E",
    "ɓ": "b", "Ɓ": "B", "ɗ": "d", "Ɗ": "D", "ƙ": "k", "Ƙ": "K", "ʒ": "z", "Ʒ": "Z", "ƴ": "y", "Ƴ": "Y",
    "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "•": "*", "₵": "GHS",
    "œ": "oe", "Œ": "OE", "«": '"', "»": '"', "\u00a0": " ", "\u202f": " ",
    "á": "a", "â": "a", "ã": "a", "À": "A", "ê": "e", "ë": "e", "È": "E", "Ê": "E", "î": "i", "ï": "i",
    "í": "i", "ó": "o", "ô": "o", "õ": "o", "û": "u", "ú": "u", "ũ": "u", "ç": "c", "ÿ": "y", "Î": "I",
    "ẽ": "e", "ā": "a", "ǎ": "a", "ŵ": "w",
}  # fmt: skip


@pytest.mark.parametrize(("letter", "plain"), FOLDED.items(), ids=lambda s: ascii(s))
def test_folding_letter_by_letter(letter: str, plain: str) -> None:
    assert fold(letter) == plain
    assert fold(f"x{letter}x") == f"x{plain}x"


@pytest.mark.parametrize("inside", "àèéìòùÉÇäöüñÄÖÜÑÅåÆæØøß£¥§¿¡€[]")
def test_letters_inside_the_alphabet_stay(inside: str) -> None:
    assert fold(inside) == inside
    assert fold(inside + "ɔ") == inside + "o"  # also beside one that is folded


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Cœur à l’école : « très bien »…", 'Coeur à l\'école : " très bien "...'),
        ("Yɛn ara asaase ni", "Yen ara asaase ni"),
        ("Ŋutsu, ɖevi, ƒome, ʋu", "Nutsu, devi, fome, vu"),
        ("ɛ\u0301", "e"),  # tone marked on a letter that has no composed form
        ("ɔ\u0303ŋ\u0300", "on"),
        ("e\u0301", "é"),  # composed first: what the alphabet has is not stripped
        ("c\u0327a", "ca"),
        ("n\u0303o", "ño"),
    ],
)
def test_folding_of_words(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert unencodable(folded) == []


@pytest.mark.parametrize("strange", ["`", "ю", "中", "ع", "😀", "√", "\t"])
def test_what_no_rule_covers_stays_and_is_named(strange: str) -> None:
    assert fold(f"a{strange}b") == f"a{strange}b"
    assert unencodable(fold(f"a{strange}b")) == [strange]


@settings(derandomize=True, max_examples=300)
@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


# (text, parts): TS 23.038 6.1.2 and the six octets of a header in each part of several
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("a" * 460, 4),
        ("a" * 612, 4),
        ("€" * 80, 1),  # 160 septets
        ("€" * 81, 2),
        ("€" * 152, 2),  # 76 in each part: the 153rd septet stays empty
        ("€" * 153, 3),
        ("a" * 152 + "€" + "a" * 152, 3),  # 306 septets, but the sign may not straddle two parts
        ("a" * 151 + "€" + "a" * 153, 2),
        ("ɔ" + "a" * 69, 1),  # UCS-2
        ("ɔ" + "a" * 70, 2),
        ("ɔ" + "a" * 133, 2),
        ("ɔ" + "a" * 134, 3),
        ("ɔ" + "a" * 200, 3),
        ("ɔ" + "a" * 201, 4),
        ("😀" * 35, 1),  # two units each
        ("😀" * 36, 2),
    ],
)  # fmt: skip
def test_parts(text: str, count: int) -> None:
    assert parts(text) == count


def test_a_surrogate_pair_is_not_split_over_two_parts() -> None:
    # 67 units a part: the emoji at units 67 and 68 moves to the second part whole.
    assert parts("ɔ" + "a" * 65 + "😀" + "a" * 65) == 2
    assert parts("ɔ" + "a" * 65 + "😀" + "a" * 66) == 3
