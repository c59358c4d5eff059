"""How what somebody typed is read: a reply to a question, or a command in a text message.

Everything is compared as `clean` makes it: folded, lower case, without accents, emoji's trimmings,
quotation marks around it and full stops after it. What was typed is never kept.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from flows.gsm import fold
from flows.instrument import Instrument
from flows.interview import LAPSED, Interview
from flows.questionnaire import FIXED_WORDS
from flows.wave import Wave

#: The longest reply looked at. Handsets send 160 at most; more is not an answer.
MAX_REPLY = 160

#: Left out: what makes an emoji of a digit (U+FE0F, U+20E3), joiners and marks of direction.
_UNSEEN = dict.fromkeys(
    [0x00AD, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0x20E3,
     *range(0x2066, 0x206A), *range(0xFE00, 0xFE10), 0xFEFF], "",
) | {0x1F51F: "10"}  # fmt: skip
_BEFORE = "\"'(["
_AFTER = "\"')].,;:! "

#: Two answers in one message stand apart by these; a number and its own label count as one.
_BETWEEN = re.compile(r"[\s,;:/&+|.)]+|\b(?:and|et|then|puis)\b")
_NUMBERED = re.compile(r"(\d{1,3})[\s.):=-]+(\D.*)\Z")


def clean(text: str) -> str:
    """A reply as compared: folded, lower case, no accents, one space between words; digits of any
    script plain. People type "tres" for "très", "1." or "“1”" for 1.

    Used for matching only. Replies over MAX_REPLY characters read as nothing.
    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_REPLY:
        return text
    text = text.strip()
    if len(text) > MAX_REPLY:
        return ""
    plain = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in text.translate(_UNSEEN))
    folded = fold(unicodedata.normalize("NFKC", plain).casefold()).casefold()
    bare = (c for c in unicodedata.normalize("NFD", folded) if not unicodedata.combining(c))
    words = " ".join("".join(bare).split())
    return words.lstrip(_BEFORE).rstrip(_AFTER) if words[:1] in _BEFORE or words[-1:] in _AFTER else words


def clean_text(text: str) -> str:
    """A text message as compared: also without the # that people are used to end an input with."""
    return clean(text).rstrip("# ")


def match_option(reply: str, labels: Sequence[str]) -> int | None:
    """The 0-based option that a cleaned reply names: by number, by its text, by both as they stand on
    the screen, by its first word where no other option begins with the same one, or nearly."""
    number = reply.rstrip(".) ")  # "1 2" is two answers, not option 12
    if number.isascii() and number.isdigit():
        position = int(number) if len(number) < 4 else 0
        return position - 1 if 1 <= position <= len(labels) and not number.startswith("0") else None
    plain = _cleaned(tuple(labels))
    if reply in plain:
        return plain.index(reply)
    if both := _NUMBERED.match(reply):
        named = match_option(both[1], labels)
        return named if named is not None and both[2] == plain[named] else None
    first = [label.split(" ")[0].strip(".,;:!?") for label in plain]
    return first.index(reply) if first.count(reply) == 1 else _near(reply, plain)


@lru_cache(maxsize=4096)
def _cleaned(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(clean(label) for label in labels)


def _near(reply: str, plain: Sequence[str]) -> int | None:
    """The one option that a reply misspells: one edit in five letters or more, two in nine or more.

    Nobody's answer may be turned round by a guess: every other option must be two edits further off,
    and the first letter right, for that is where languages put "un-", "dis-" and "in-".
    """
    letters = sum(c.isalpha() for c in reply)
    most = 2 if letters >= 9 else 1 if letters >= 5 else 0
    if not most or any(c.isdigit() for c in reply):
        return None
    found = None
    far = [distance(reply, label, most + 2) for label in plain]
    for position, label in enumerate(plain):
        if far[position] <= most and label[:1] == reply[:1]:
            found = position
    if found is None:
        return None
    clear = all(other >= far[found] + 2 for n, other in enumerate(far) if n != found)
    return found if clear else None


def distance(one: str, other: str, enough: int) -> int:
    """Edits (Levenshtein: one letter put in, left out or changed) from one to the other; `enough` for
    that many or more."""
    if abs(len(one) - len(other)) >= enough:
        return enough
    row = list(range(len(other) + 1))
    for n, c in enumerate(one, 1):
        above, row = row, [n]
        for m, d in enumerate(other, 1):
            row.append(min(above[m] + 1, row[m - 1] + 1, above[m - 1] + (c != d)))
        if min(row) >= enough:
            return enough
    return min(row[-1], enough)


def several(reply: str, labels: Sequence[str]) -> bool:
    """Whether a cleaned reply holds several answers at once: "1 2", "1,3,2", "yes no"."""
    words = [word for word in _BETWEEN.split(reply) if word]
    return len(words) > 1 and all(
        (word.isascii() and word.isdigit()) or match_option(word, labels) is not None for word in words
    )


def read_number(reply: str, least: int, most: int) -> int | None:
    """A cleaned reply as a whole number within bounds; spaces between digits are ignored."""
    number = reply.replace(" ", "").rstrip(".")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        return None
    value = int(number)
    return value if least <= value <= most else None


# ---------------------------------------------------------------- text messages


def command_words(instrument: Instrument, command: str) -> frozenset[str]:
    """The messages that mean `command` (stop, help or results), cleaned: those of every language, whatever
    the respondent's, and the English ones that everybody knows."""
    words = [*FIXED_WORDS[command]]
    for language in instrument.languages.values():
        words += language.words.get(command, ())
    return frozenset(clean(word) for word in words)


@lru_cache(maxsize=64)
def _commands(wave: Wave) -> dict[str, str]:
    return {
        word: name for name in ("results", "help", "stop") for word in command_words(wave.instrument, name)
    }


def read_text(wave: Wave, interview: Interview | None, text: str, *, opted_out: bool, lapsed: bool) -> str:
    """What a text message is to be taken as.

    stop, help, results     the whole message is one of their words
    dial         it begins with the wave's keyword, or is the first text that this interview sees:
                 what was asked on a USSD screen is not answered by a text
    reply        an answer to what the last text asked
    none         from somebody who has opted out, or after the end of what there was to say: an
                 answer would only begin an exchange with an answering machine
    """
    words = clean_text(text)
    if words in _commands(wave):
        return _commands(wave)[words]
    if is_keyword(wave, words):
        return "dial"
    if opted_out:
        return "none"
    if interview is None or interview.mode != "sms":
        return "dial"
    if lapsed and interview.disposition != LAPSED:  # else the last text was a menu that says so
        return "dial"
    return "none" if interview.stage == "over" else "reply"


def is_keyword(wave: Wave, words: str) -> bool:
    """Whether a cleaned message begins with one of the wave's keywords."""
    return words.split(" ")[0].strip(".,;:!?") in _cleaned(wave.keywords)
