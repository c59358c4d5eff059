"""How text messages are read: near misses, several answers, commands. See also test_screen.py."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.engine import Dialled, Replied, step
from flows.instrument import load
from flows.reading import clean, clean_text, distance, match_option, read_text, several
from flows.screen import option_labels
from flows.wave import Wave

INSTRUMENT = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")
WAVE = Wave("w", INSTRUMENT, ("en", "fr"), "Office", "0800", "*384*16#", sms_sender="1616")
SATISFIED = ["Very satisfied", "Satisfied", "Dissatisfied", "Very dissatisfied"]
AGREE = ["Strongly agree", "Agree", "Disagree", "Strongly disagree"]
FRENCH = ["Très satisfait", "Satisfait", "Insatisfait", "Très insatisfait"]


@pytest.mark.parametrize(
    ("reply", "labels", "position"),
    [
        ("satified", SATISFIED, 1),
        ("satisfyed", SATISFIED, 1),
        ("sattisfied", SATISFIED, 1),
        ("verysatisfied", SATISFIED, 0),
        ("very satisfeid", SATISFIED, 0),
        ("disatisfied", SATISFIED, None),  # two edits from "satisfied", one from the other
        ("dissatisfed", SATISFIED, 2),
        ("unsatisfied", SATISFIED, None),
        ("insatisfied", SATISFIED, None),
        ("not satisfied", SATISFIED, None),
        ("dis satisfied", SATISFIED, 2),
        ("satisfaction", SATISFIED, None),
        ("agre", AGREE, None),  # four letters
        ("agreee", AGREE, 1),
        ("dagree", AGREE, None),  # either
        ("disagre", AGREE, 2),
        ("strongly dagree", AGREE, None),
        ("strongly disagre", AGREE, 3),
        ("stronglyagree", AGREE, 0),
        ("insatisfai", FRENCH, 2),
        ("satisfai", FRENCH, 1),
        ("unsatisfait", FRENCH, None),
        ("available", ["Unavailable", "Closed"], None),  # never a prefix more or less
        ("unavailable", ["Available", "Closed"], None),
        ("impossible", ["Possible", "Closed"], None),
        ("s4tisfied", SATISFIED, None),  # a digit in it is no slip
        ("1 satisfied", SATISFIED, None),  # number and word disagree
        ("2 satisfied", SATISFIED, 1),
        ("2. satisfied", SATISFIED, 1),
        ("2) satisfied", SATISFIED, 1),
        ("2=satisfied", SATISFIED, 1),
        ("2 satified", SATISFIED, None),
        ("vilage", ["Town or city", "Village"], 1),
    ],
)
def test_near_misses(reply: str, labels: list[str], position: int | None) -> None:
    assert match_option(clean(reply), labels) == position


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("labels", [SATISFIED, AGREE, FRENCH], ids=["satisfied", "agree", "french"])
def test_one_slip_never_turns_an_opinion_round(labels: list[str]) -> None:
    """Every one-letter slip in every option is that option or none."""
    for position, label in enumerate(clean(x) for x in labels):
        for n in range(len(label) + 1):
            slips = {label[:n] + label[n + 1 :]}
            slips |= {label[:n] + c + label[n:] for c in LETTERS}
            slips |= {label[:n] + c + label[n + 1 :] for c in LETTERS}
            for slip in slips - {clean(x) for x in labels}:
                assert match_option(slip, labels) in (None, position), slip


def test_one_slip_in_every_option_of_the_instrument_is_that_option_or_none() -> None:
    for language in INSTRUMENT.languages:
        for item in INSTRUMENT.items:
            labels = option_labels(WAVE, language, item.index)
            plain = [clean(x) for x in labels]
            for position, label in enumerate(plain):
                for n in range(len(label)):
                    slip = label[:n] + label[n + 1 :]
                    if slip not in plain:
                        first = [x.split(" ")[0].strip(".,;:!?") for x in plain]
                        allowed = (None, position, first.index(slip) if slip in first else position)
                        assert match_option(slip, labels) in allowed, (item.id, slip)


def slow_distance(one: str, other: str) -> int:
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return slow_distance(one[1:], other[1:])
    return 1 + min(
        slow_distance(one[1:], other), slow_distance(one, other[1:]), slow_distance(one[1:], other[1:])
    )


@settings(derandomize=True, deadline=None)
@given(st.text("ab", max_size=6), st.text("ab", max_size=6), st.integers(1, 7))
def test_distance(one: str, other: str, enough: int) -> None:
    assert distance(one, other, enough) == min(slow_distance(one, other), enough)


@pytest.mark.parametrize(
    ("reply", "yes"),
    [
        ("1 2", True), ("1,2", True), ("1, 2, 3", True), ("1\n2\n3", True), ("1/2", True), ("1 and 2", True),
        ("1.2", True), ("1. 2. 3.", True), ("1 & 4", True), ("1;9", True), ("agree disagree", True),
        ("1 agree", True), ("agree, agree", True),
        ("1", False), ("agree", False), ("strongly", False), ("12", False), ("", False), ("and", False),
        ("i agree", False), ("1 or so", False), (",", False), ("👍 👍", False),
    ],
)  # fmt: skip
def test_several_at_once(reply: str, yes: bool) -> None:
    assert several(clean(reply), AGREE) == yes


@pytest.mark.parametrize(
    ("text", "what"),
    [
        *(
            (word, "stop")
            for word in ("STOP", "stop", " Stop. ", "“stop”", "STOP#", "stop!", "ＳＴＯＰ", "StopAll")
        ),
        *(
            (word, "stop")
            for word in ("stop all", "UNSUBSCRIBE", "cancel", "Quit", "END", "remove me", "Arrêt")
        ),
        *((word, "stop") for word in ("ARRETER", "Désabonnement", "fin")),
        *((word, "help") for word in ("HELP", "info", "Help?!".replace("?", ""), "aide", "Who is this")),
        *(
            (word, "dial")
            for word in ("survey", "SURVEY", "Survey!", "survey please", "“Survey”", "survey\n1")
        ),
        *(
            (word, "reply")
            for word in ("1", "", "  ", "stop it", "I want to stop", "the end", "stopp", "helpful")
        ),
        *((word, "reply") for word in ("surveys", "my survey", "👍", "x" * 1600, "stop " * 400)),
    ],
)
def test_what_a_text_is_taken_as(text: str, what: str) -> None:
    """In the middle of an interview by SMS; of somebody who opted out; first; too late; after the end."""
    asked = step(WAVE, None, Dialled(0, "0" * 16, 0, "sms")).interview
    assert read_text(WAVE, asked, text, opted_out=False, lapsed=False) == what
    out = "none" if what == "reply" else what
    assert read_text(WAVE, asked, text, opted_out=True, lapsed=False) == out
    first = "dial" if what == "reply" else what
    assert read_text(WAVE, None, text, opted_out=False, lapsed=False) == first
    assert read_text(WAVE, asked, text, opted_out=False, lapsed=True) == first
    assert read_text(WAVE, replace(asked, mode="ussd"), text, opted_out=False, lapsed=False) == first
    over = "none" if what == "reply" else what
    assert read_text(WAVE, replace(asked, stage="over"), text, opted_out=False, lapsed=False) == over


def test_a_hash_ends_a_text_and_nothing_else() -> None:
    assert [clean_text(t) for t in ("1#", "1 #", "#", "#1", "1##", "yes#")] == [
        "1",
        "1",
        "",
        "#1",
        "1",
        "yes",
    ]
    asked = step(WAVE, None, Dialled(0, "0" * 16, 0, "sms")).interview
    assert step(WAVE, asked, Replied(1, "1#")).interview.language == "en"
    assert step(WAVE, replace(asked, mode="ussd"), Replied(1, "1#")).interview.stage == "language"


def test_slips_are_counted_from_five_and_from_nine_letters() -> None:
    words = ["four", "fives", "eightten", "nineteens"]
    for one, other in pairwise(words):
        assert match_option(one + "x", [other, "-"]) is None
    assert [match_option(w[:-1], [w, "-"]) for w in ("fours", "sixxes", "ninetee")] == [None, 0, 0]
    assert [match_option(w[:-2] + "qq", [w, "-"]) for w in ("eighttee", "nineteens")] == [None, 0]
