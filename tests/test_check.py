"""An instrument with every kind of fault: reading and `check` list all of them, by file and key."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import engine
from flows.check import check, check_files
from flows.instrument import Instrument, InstrumentError, load, parse
from flows.questionnaire import PROMPTS
from flows.wave import Wave

REAL = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")

QUESTIONNAIRE = (
    """\
[instrument]
id = "small"
version = "1"
title = "A small one"
source = "Ours"
consent_version = "2026-01-01"
reference_months = 12
default_language = "en"
languages = ["en", "fr"]

[nonresponse]
not_applicable = 97
dont_know = 98
refused = 99

[scales]
yes_no = [{ id = "yes", code = 1 }, { id = "no", code = 2 }]
four = [
  { id = "best", code = 3 }, { id = "good", code = 2 }, { id = "bad", code = 1 }, { id = "worst", code = 0 },
]

[[blocks]]
id = "opening"

[[blocks.items]]
id = "opening.consent"
role = "consent"
label = "Consent"
scale = "yes_no"
nonresponse = []
ends = { no = "refusal" }

[[blocks.items]]
id = "opening.age"
kind = "number"
role = "age"
label = "Age"
min = 18
max = 110
groups = [{ id = "young", min = 18, max = 39 }, { id = "old", min = 40 }]

[[blocks]]
id = "care"
drawn = true

[[blocks.items]]
id = "care.need"
role = "gate"
label = "Needed"
service = "care"
scale = "yes_no"
"""
    + "".join(
        f"""
[[blocks.items]]
id = "care.{name}"
role = "{role}"
label = "{name}"
service = "care"
attribute = "{name}"
scale = "four"
nonresponse = ["not_applicable", "dont_know", "refused"]
ask_if = [{{ "care.need" = ["yes"] }}]
"""
        for name, role in [*((f"a{n}", "attribute") for n in range(1, 6)), ("all", "overall")]
    )
    + """
[[blocks]]
id = "other"
drawn = true

[[blocks.items]]
id = "other.need"
role = "gate"
label = "Other"
scale = "yes_no"
"""
)


def texts(language: str, name: str) -> str:
    prompts = {p: p.replace("_", " ") for p in PROMPTS}
    prompts |= {
        "invalid_number": "{min} to {max}",
        "withdrawn": "Gone: {receipt}",
        "stopped": "{code} {hours}",
        "stop": "stop here",  # alone it would be the command
        "opted_out": "Gone. {code} {keyword}",
    }
    items = ["opening.consent", "opening.age", "care.need", *(f"care.a{n}" for n in range(1, 6)), "care.all"]
    return "\n".join(
        [
            "[language]",
            f'id = "{language}"',
            f'name = "{name}"',
            f'iso639_3 = "{language}x"',
            'status = "reviewed"',
            "[prompts]",
            *(f'{p} = "{text}"' for p, text in prompts.items()),
            "[services]",
            'care = "Care"',
            "[scales.yes_no]",
            'yes = "Yes"',
            'no = "No"',
            "[scales.four]",
            'best = "Best"',
            'good = "Good"',
            'bad = "Bad"',
            'worst = "Worst"',
            '[groups."opening.age"]',
            'young = "Young"',
            'old = "Old"',
            *(f'[items."{i}"]\ntext = "{i.replace(".", " ")}?"' for i in [*items, "other.need"]),
            "",
        ]
    )


SMALL = {
    "questionnaire.toml": QUESTIONNAIRE,
    "en.toml": texts("en", "English"),
    "fr.toml": texts("fr", "French"),
}

# What one edit of a file must lead to: (file, text replaced, by what, key of the fault, word in its message)
Edit = tuple[str, str, str, str, str]
Q, EN, FR = "questionnaire.toml", "en.toml", "fr.toml"
NEED = 'role = "gate"\nlabel = "Needed"'
OTHER = 'role = "gate"\nlabel = "Other"'
TWO_SEXES = """\
role = "sex"
label = "Other"
scale = "yes_no"
[[blocks.items]]
id = "other.sex"
role = "sex"
label = "Twice\""""

ALL_ON_FOUR = 'attribute = "all"\nscale = "four"'

ON_READING: list[Edit] = [
    # the file itself
    (Q, "[instrument]", "[instrument", "-", "not TOML"),
    (FR, "[language]", "language]", "-", "not TOML"),
    # the head
    (Q, 'version = "1"\n', "", "instrument.version", "missing"),
    (Q, 'version = "1"', "version = 1", "instrument.version", "must be a str"),
    (Q, 'title = "A small one"', 'titel = "A small one"', "instrument.titel", "unknown"),
    (Q, "reference_months = 12", 'reference_months = "12"', "instrument.reference_months", "must be a int"),
    (Q, "reference_months = 12", "reference_months = true", "instrument.reference_months", "must be a int"),
    (Q, 'default_language = "en"', 'default_language = "de"', "instrument.default_language", "not among"),
    (Q, '["en", "fr"]', '["en"]', "instrument.languages", "fr.toml stands in the folder"),
    (Q, '["en", "fr"]', '["en", "fr", "ak"]', "-", "not found"),
    (Q, "[nonresponse]", "[nonresponses]", "top level.nonresponses", "unknown"),
    (Q, "refused = 99", "refused = 98", "nonresponse", "three different codes"),
    (Q, "refused = 99\n", "", "nonresponse", "three different codes"),
    (Q, "refused = 99", 'refused = "99"', "nonresponse", "three different codes"),
    (Q, "refused = 99", "refused = [99]", "nonresponse", "three different codes"),
    # scales
    (Q, '{ id = "no", code = 2 }', '{ id = "no", code = 1 }', "scales.yes_no[2]", "stands twice"),
    (Q, '{ id = "no", code = 2 }', '{ id = "yes", code = 2 }', "scales.yes_no[2]", "stands twice"),
    (Q, '{ id = "no", code = 2 }', '{ id = "no", code = 98 }', "scales.yes_no[2].code", "nonresponse code"),
    (Q, '{ id = "no", code = 2 }', '{ id = "No", code = 2 }', "scales.yes_no[2].id", "lower case"),
    (Q, '{ id = "no", code = 2 }', '{ id = "refused", code = 2 }', "scales.yes_no[2].id", "nonresponse name"),
    (Q, '{ id = "no", code = 2 }', '{ id = "no" }', "scales.yes_no[2].code", "missing"),
    (Q, '{ id = "no", code = 2 }', '{ id = "no", code = 2, key = 1 }', "scales.yes_no[2].key", "unknown"),
    (Q, ', { id = "no", code = 2 }]', "]", "scales.yes_no", "2 to 35"),
    (
        Q,
        "yes_no = [{",
        'spare = [{ id = "a", code = 1 }, { id = "b", code = 2 }]\nyes_no = [{',
        "scales.spare",
        "no item",
    ),
    # blocks
    (Q, 'id = "care"\n', 'id = "opening"\n', "blocks[2].id", "stand once"),
    (Q, 'id = "care"\ndrawn = true', 'id = "care"\ndrawn = "yes"', "blocks.care.drawn", "must be a bool"),
    (Q, 'id = "care"\ndrawn = true', 'id = "care"\nrandom = true', "blocks.care.random", "unknown"),
    (Q, 'id = "opening"\n', 'id = "opening"\n[[blocks]]\nid = "x"\n', "blocks.opening.items", "missing"),
    (
        Q,
        'id = "opening"\n',
        'id = "opening"\nitems = []\n[[blocks]]\nid = "x"\n',
        "blocks.opening.items",
        "at least one",
    ),
    (
        Q,
        'id = "opening"\n',
        'id = "opening"\ndrawn = true\n[[blocks]]\nid = "x"\n',
        "blocks.care.drawn",
        "stand together",
    ),
    # items
    (Q, 'role = "consent"', 'role = "sex"', "items.opening.consent", "must have role consent"),
    (Q, NEED, 'role = "consent"\nlabel = "Needed"', "blocks", "exactly one"),
    (Q, 'role = "age"', 'role = "years"', "items.opening.age.role", "unknown"),
    (Q, 'id = "care.need"', 'id = "opening.age"', "items.opening.age.id", "stand once"),
    (Q, 'id = "care.need"', 'id = "care.need.more"', "items.care.need.more.id", "lower case"),
    (Q, 'id = "care.need"\n', "", "items[3].id", "missing"),
    (Q, 'label = "Age"\n', "", "items.opening.age.label", "missing"),
    (Q, 'label = "Age"\n', 'label = "Age"\nhint = "x"\n', "items.opening.age.hint", "unknown"),
    (Q, 'kind = "number"', 'kind = "text"', "items.opening.age.kind", "choice or number"),
    (Q, "min = 18\nmax = 110", "min = 0\nmax = 110", "items.opening.age.min", "at least 1"),
    (Q, "min = 18\nmax = 110", "min = 110\nmax = 18", "items.opening.age.min", "below max"),
    (
        Q,
        'service = "care"\nscale = "yes_no"',
        'service = "care"\nscale = "maybe"',
        "items.care.need.scale",
        "unknown",
    ),
    (Q, "nonresponse = []", 'nonresponse = ["dunno"]', "items.opening.consent.nonresponse", "must be one of"),
    (Q, 'no = "refusal"', 'maybe = "refusal"', "items.opening.consent.ends", "must be an option"),
    (Q, 'no = "refusal"', 'no = "complete"', "items.opening.consent.ends", "refusal or ineligible"),
    (Q, 'no = "refusal"', 'no = ["refusal"]', "items.opening.consent.ends", "refusal or ineligible"),
    (Q, OTHER, 'skips_block = "maybe"\n' + OTHER, "items.other.need.skips_block", "not an option"),
    (Q, "groups = [{", 'groups = "all" # [{', "items.opening.age.groups", "must be a list"),
    (Q, "min = 18, max = 39 }", 'min = 18, max = "39" }', "items.opening.age.groups[1].max", "must be a int"),
    (Q, "min = 18, max = 39 }", "min = 18, most = 39 }", "items.opening.age.groups[1].most", "unknown"),
    (Q, 'id = "young", min = 18', 'id = "young"', "items.opening.age.groups[1].min", "missing"),
    # conditions
    (
        Q,
        NEED,
        'ask_if = [{ "care.a1" = ["best"] }]\n' + NEED,
        "items.care.need.ask_if[1]",
        "not an earlier item",
    ),
    (
        Q,
        OTHER,
        'ask_if = [{ "care.need" = ["yes"] }]\n' + OTHER,
        "items.other.need.ask_if[1]",
        "place is drawn",
    ),
    (
        Q,
        NEED,
        'ask_if = [{ "opening.age" = ["yes"] }]\n' + NEED,
        "items.care.need.ask_if[1]",
        "out of dont_know, refused, given",
    ),
    (Q, NEED, "ask_if = [{}]\n" + NEED, "items.care.need.ask_if[1]", "at least one item"),
    (Q, NEED, 'ask_if = "always"\n' + NEED, "items.care.need.ask_if", "list of tables"),
    # texts
    (FR, 'stop = "stop here"\n', "", "prompts.stop", "missing"),
    (FR, 'stop = "stop here"', 'stop = ""', "prompts.stop", "empty"),
    (FR, 'stop = "stop here"', 'stop = "stop "', "prompts.stop", "white space"),
    (FR, 'stop = "stop here"', 'stop = "stop {code}"', "prompts.stop", "may not insert {code}"),
    (FR, 'stop = "stop here"', 'stop = "stop {"', "prompts.stop", "brace"),
    (FR, 'stop = "stop here"', 'stop = "stop }"', "prompts.stop", "brace"),
    (FR, "Gone: {receipt}", "Gone: {receipt!x}", "prompts.withdrawn", "brace"),
    (FR, 'stop = "stop here"', 'stop = "stop `now`"', "prompts.stop", "U+0060"),
    (FR, 'stop = "stop here"', 'stop = "стоп"', "prompts.stop", "not in GSM 03.38"),
    (FR, 'stop = "stop here"', "stop = 1", "prompts.stop", "must be a str"),
    (FR, 'stop = "stop here"', 'stop = "stop"\nhalt = "halt"', "prompts.halt", "unknown"),
    (FR, 'worst = "Worst"\n', "", "scales.four.worst", "missing"),
    (FR, 'worst = "Worst"', 'worst = "bad"', "scales.four.worst", "reads like bad"),
    (FR, "[scales.four]", '[scales.five]\nx = "x"\n[scales.four]', "scales.five", "unknown"),
    (FR, 'young = "Young"\n', "", "groups.opening.age.young", "missing"),
    (FR, '[items."care.need"]\ntext = "care need?"', "", "items.care.need", "missing"),
    (FR, '[items."care.need"]', '[items."care.needs"]', "items.care.needs", "unknown"),
    (FR, 'text = "care need?"', 'test = "care need?"', "items.care.need.test", "unknown"),
    (FR, 'text = "care need?"', 'text = "care {min}?"', "items.care.need.text", "may not insert {min}"),
    (FR, 'text = "care need?"', 'text = "care {owner?"', "items.care.need.text", "brace"),
    (
        FR,
        'text = "care need?"',
        'text = "ok?"\ndetail = "{x}"',
        "items.care.need.detail",
        "may not insert {x}",
    ),
    (FR, 'text = "care need?"', 'text = "ok?"\nsms = "ʘ"', "items.care.need.sms", "not in GSM 03.38"),
    (FR, 'one_answer = "one answer"\n', "", "prompts.one_answer", "missing"),
    (FR, "[scales.yes_no]", "[words]\nhalt = []\n[scales.yes_no]", "words.halt", "unknown"),
    (FR, "[scales.yes_no]", '[words]\nstop = "x"\n[scales.yes_no]', "words.stop", "must be a list"),
    (FR, "[scales.yes_no]", '[words]\nstop = [" x"]\n[scales.yes_no]', "words.stop", "blanks"),
    (FR, "[scales.yes_no]", "[words]\nstop = [1]\n[scales.yes_no]", "words.stop", "list of texts"),
    (FR, "[scales.yes_no]", '[words]\nstop = ["x", "X"]\n[scales.yes_no]', "words.stop", "twice"),
    (FR, 'status = "reviewed"', 'status = "done"', "language.status", "draft or reviewed"),
    (FR, 'id = "fr"', 'id = "en"', "language.id", "like the file's name"),
]

ON_CHECKING: list[Edit] = [
    (FR, "care need?", "x" * 161, "items.care.need", "does not fit on a screen"),
    (FR, 'best = "Best"', f'best = "{"x" * 150}"', "items.care.a1", "does not fit on a screen"),
    (FR, 'thanks = "thanks"', f'thanks = "{"x" * 161}"', "prompts.thanks", "takes 161 septets; at most 160"),
    (FR, 'stop = "stop here"', f'stop = "{"x" * 150}"', "prompts", "menu stuck takes 2 screens"),
    (FR, "{code} {hours}", "{code} {hours} " + "x" * 153, "prompts.stopped", "at most 160"),
    (FR, 'worst = "Worst"', 'worst = "Bád"', "items.care.a1", "read alike"),
    (Q, "min = 18, max = 39", "min = 18, max = 38", "items.opening.age.groups", "without gaps"),
    (Q, "min = 18, max = 39", "min = 20, max = 39", "items.opening.age.groups", "without gaps"),
    (Q, "min = 18, max = 39", "min = 18, max = 45", "items.opening.age.groups", "without gaps"),
    (
        Q,
        'role = "attribute"\nlabel = "a5"',
        'role = "wealth"\nlabel = "a5"',
        "service care",
        "has 4 attribute",
    ),
    (Q, 'role = "overall"', 'role = "wealth"', "service care", "0 overall items"),
    (Q, 'service = "care"\nattribute = "a1"', 'attribute = "a1"', "service -", "1 attribute and 0 overall"),
    (Q, OTHER, TWO_SEXES, "role sex", "more than one"),
    # the indicator's items: four points, 3 to 0
    (
        Q,
        'id = "best", code = 3',
        'id = "best", code = 4',
        "items.care.all",
        "four, codes [0, 1, 2, 4]; give it",
    ),
    (
        Q,
        ALL_ON_FOUR,
        ALL_ON_FOUR.replace("four", "yes_no"),
        "items.care.all",
        "scale yes_no, codes [1, 2];",
    ),
    (
        Q,
        ALL_ON_FOUR,
        ALL_ON_FOUR.replace('scale = "four"', 'kind = "number"\nmin = 1\nmax = 10'),
        "items.care.all",
        "role overall on a number; give it a scale of four options with codes 3, 2, 1, 0",
    ),
    # commands of text messages
    (
        FR,
        "[scales.yes_no]",
        '[words]\nhelp = ["worst"]\n[scales.yes_no]',
        "scales.four",
        "reads as an answer",
    ),
    (
        FR,
        "[scales.yes_no]",
        '[words]\nstop = ["Bést."]\n[scales.yes_no]',
        "scales.four",
        "reads as an answer",
    ),
    (
        FR,
        "[scales.yes_no]",
        '[words]\nstop = ["7"]\nhelp = ["7."]\n[scales.yes_no]',
        "words.help",
        "both help and",
    ),
    (FR, "[scales.yes_no]", '[words]\nstop = ["..."]\n[scales.yes_no]', "words.stop", "reads as nothing"),
    (
        FR,
        "[scales.yes_no]",
        '[words]\nstop = ["Stop hère!"]\n[scales.yes_no]',
        "prompts.stop",
        "write it otherwise",
    ),
    (
        FR,
        "[scales.yes_no]",
        '[words]\nhelp = ["survey what"]\n[scales.yes_no]',
        "words.help",
        "begins with a keyword",
    ),
    (FR, 'bad = "Bad"', 'bad = "Survey"', "scales.four", "reads as an answer"),
    (FR, 'bad = "Bad"', 'bad = "Quit it"', "scales.four", "reads as an answer"),
    (FR, 'bad = "Bad"', 'bad = "Unsubscribes"', "scales.four", "reads as an answer"),
    (FR, 'help = "help"', f'help = "{"x" * 161}"', "prompts.help", "at most 160, one SMS"),
    (
        FR,
        "Gone. {code} {keyword}",
        "Gone. {keyword}" + "x" * 149,
        "prompts.opted_out",
        "at most 160, one SMS",
    ),
    (FR, 'invitation = "invitation"', f'invitation = "{"x" * 161}"', "prompts.invitation", "at most 160"),
    (
        FR,
        'reminder_break_off = "reminder break off"',
        f'reminder_break_off = "{{left}} {"x" * 159}"',
        "prompts.reminder_break_off",
        "at most 160, one SMS",
    ),
    (FR, 'one_answer = "one answer"', f'one_answer = "{"x" * 460}"', "prompts.one_answer", "at most 459"),
    # an answer that no reply reads as: numbers have nine digits at most
    (Q, "max = 110", "max = 11000000000", "items.opening.age", "leads nowhere"),
]


def edited(*edits: Edit) -> dict[str, str]:
    """The small instrument after some edits; each must change something."""
    files = dict(SMALL)
    for file, old, new, _, _ in edits:
        assert old in files[file], old
        files[file] = files[file].replace(old, new, 1)
    return files


def faults(files: Mapping[str, str]) -> list[tuple[str, str, str]]:
    with pytest.raises(InstrumentError) as raised:
        check(wave(parse(files)))
    return [(f.file, f.key, f.message) for f in raised.value.faults]


def wave(instrument: Instrument) -> Wave:
    return Wave(
        id="w", instrument=instrument, languages=tuple(instrument.languages), owner="Owner", contact="1",
        code="*1#",
    )  # fmt: skip


def found(edit: Edit, among: list[tuple[str, str, str]]) -> bool:
    file, _, _, key, word = edit
    # A listed file that is absent is itself at fault; a key that is shown is so in each language.
    elsewhere = word in ("not found", "leads nowhere")
    return any((f == file or elsewhere) and k == key and word in m for f, k, m in among)


def test_the_small_instrument_is_sound() -> None:
    walked = check(wave(parse(SMALL)))
    assert [(w.language, w.mode) for w in walked] == [
        ("en", "ussd"),
        ("en", "sms"),
        ("fr", "ussd"),
        ("fr", "sms"),
    ]
    # Two orders of three ways each. No consent: 2 hops. Dial, consent, age, need twice, a pause: 6. And
    # with six ratings 12.
    assert {(w.median_hops, w.routes) for w in walked if w.mode == "ussd"} == {(6, 6)}
    assert {(w.median_hops, w.routes) for w in walked if w.mode == "sms"} == {(5, 6)}  # no pause
    # By SMS each message is one part: no consent 2; the median way 5 (no pause) ...
    assert {(w.median_parts, w.most_parts) for w in walked if w.mode == "sms"} == {(5, 20)}


@pytest.mark.parametrize("edit", ON_READING, ids=lambda e: f"{e[0][:2]}-{e[3]}-{e[4]}")
def test_a_fault_found_on_reading(edit: Edit) -> None:
    with pytest.raises(InstrumentError) as raised:
        parse(edited(edit))
    among = [(f.file, f.key, f.message) for f in raised.value.faults]
    assert found(edit, among), among
    assert len(among) < 20  # named, not buried


@pytest.mark.parametrize("edit", ON_CHECKING, ids=lambda e: f"{e[0][:2]}-{e[3]}-{e[4]}")
def test_a_fault_found_by_check(edit: Edit) -> None:
    files = edited(edit)
    if "other.sex" in edit[2]:
        for language in (EN, FR):
            files[language] += '[items."other.sex"]\ntext = "x"\n'
    among = faults(files)
    assert found(edit, among), among


def test_all_faults_of_a_file_are_listed_at_once() -> None:
    chosen = [
        e
        for e in ON_READING
        if e[0] == FR and e[2] and e[4] in ("U+0060", "reads like bad", "like the file's name")
    ]
    others = [
        (FR, "care need?", "care {min}?", "items.care.need.text", "may not insert"),
        (EN, 'worst = "Worst"\n', "", "scales.four.worst", "missing"),
        (EN, 'go_on = "go on"\n', "", "prompts.go_on", "missing"),
    ]
    every = [*chosen, *others]
    with pytest.raises(InstrumentError) as raised:
        parse(edited(*every))
    among = [(f.file, f.key, f.message) for f in raised.value.faults]
    assert [e for e in every if not found(e, among)] == []
    for fault in raised.value.faults:
        assert f"{fault.file}: {fault.key}: {fault.message}" in str(raised.value)


def test_check_lists_faults_of_all_languages_at_once() -> None:
    every = [
        (EN, "care need?", "x" * 161, "items.care.need", "does not fit"),
        (FR, 'thanks = "thanks"', f'thanks = "{"x" * 161}"', "prompts.thanks", "takes 161"),
        (Q, "min = 18, max = 39", "min = 18, max = 38", "items.opening.age.groups", "without gaps"),
    ]
    among = faults(edited(*every))
    assert [e for e in every if not found(e, among)] == []


def test_a_file_that_is_no_utf_8(tmp_path: Path) -> None:
    for name, text in SMALL.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert load(tmp_path).reference == "small@1"
    (tmp_path / "fr.toml").write_bytes(b'[language]\nname = "Fran\xe7ais"\n')
    with pytest.raises(InstrumentError, match=r"fr\.toml: -: cannot be read"):
        load(tmp_path)


def test_a_folder_without_a_questionnaire(tmp_path: Path) -> None:
    with pytest.raises(InstrumentError, match="not found; an instrument needs this file"):
        load(tmp_path)


def test_more_languages_than_a_screen_holds() -> None:
    files = dict(SMALL)
    codes = [f"l{chr(97 + n)}" for n in range(20)]
    for code in codes:
        files[f"{code}.toml"] = texts(code, f"Language {code}")
    names = ", ".join(f'"{c}"' for c in ["en", "fr", *codes])
    files[Q] = files[Q].replace('languages = ["en", "fr"]', f"languages = [{names}]")
    assert ("wave", "languages") in [(f, k) for f, k, _ in faults(files)]


def test_two_languages_that_read_alike() -> None:
    files = SMALL | {"fr.toml": texts("fr", "Énglish")}
    assert ("wave", "languages", "two names read alike once folded to the phone's alphabet") in faults(files)


_of_the_engine: Callable[[Any, str], Any] = engine._REPLY["language"]


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (lambda turn, reply: _of_the_engine(turn, "1" if reply == "2" else reply), "key 2 does not lead on"),
        (lambda turn, reply: _of_the_engine(turn, "2" if turn.tries else reply), "key 1 does not lead on"),
        (lambda turn, reply: turn.show_menu("language") if reply == "?" else _of_the_engine(turn, reply),
         "go on for ever"),
    ],
)  # fmt: skip
def test_the_choice_of_language_is_walked(
    broken: Callable[[Any, str], Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine._REPLY, "language", broken)
    assert [k for f, k, m in faults(SMALL) if f == "wave" and word in m] == ["languages"]
    check(replace(wave(parse(SMALL)), languages=("en",)))  # one alone is not asked for


WAVE_FILE = """\
id = "w"
instrument = "small"
owner = "Office"
contact = "1"
code = "*1#"
free = true
"""


def files_faults(folder: Path, instrument: Mapping[str, str], wave_file: str) -> set[tuple[str, str]]:
    """Name of the file and key of each fault that `check_files` lists."""
    for name, text in instrument.items():
        (folder / name).write_text(text, "utf-8")
    (folder.parent / "w.toml").write_text(wave_file, "utf-8")
    with pytest.raises(InstrumentError) as raised:
        check_files([folder.parent / "w.toml"], [folder])
    return {(Path(f.file).name, f.key) for f in raised.value.faults}


def test_faults_of_the_wave_file_are_listed_with_the_instrument_s(tmp_path: Path) -> None:
    unread = edited((EN, 'go_on = "go on"\n', "", "", ""))
    too_wide = edited((FR, 'thanks = "thanks"', f'thanks = "{"x" * 161}"', "", ""))
    plain, folder = WAVE_FILE.replace("free = true", "fee = 1"), tmp_path / "instrument"
    folder.mkdir()
    found = files_faults(folder, unread, plain)
    assert found == {("en.toml", "prompts.go_on"), ("w.toml", "fee"), ("w.toml", "free")}
    assert files_faults(folder, unread, "id =") == {("en.toml", "prompts.go_on"), ("w.toml", "-")}
    assert files_faults(folder, too_wide, plain) == {
        ("fr.toml", "prompts.thanks"), ("w.toml", "fee"), ("w.toml", "free"),
    }  # fmt: skip
    other = WAVE_FILE.replace('"small"', '"large"')
    assert files_faults(folder, too_wide, other) == {("fr.toml", "prompts.thanks"), ("w.toml", "instrument")}
    assert files_faults(folder, SMALL, plain) == {("w.toml", "fee"), ("w.toml", "free")}
    (tmp_path / "w.toml").write_text(WAVE_FILE, "utf-8")
    ((read, walked),) = check_files([tmp_path / "w.toml"], [folder])
    assert read.id == "w" and {w.language for w in walked} == {"en", "fr"}


# ---------------------------------------------------------------- the real instrument


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"budget": 120},
        {"budget": 182},
        {"services_each": 1},
        {"services_each": 2},
        {"shuffle_blocks": False},
    ],
    ids=str,
)
def test_the_real_instrument_passes_in_all_languages(changes: dict[str, int]) -> None:
    walked = check(replace(wave(REAL), owner="Ghana Statistical Service", contact="0800 000 000", **changes))  # type: ignore[arg-type]
    assert {(w.language, w.mode) for w in walked} == {(x, m) for x in ("en", "fr") for m in ("ussd", "sms")}
    for w in walked:
        assert w.widest <= (changes.get("budget", 160) if w.mode == "ussd" else 459)
        assert w.sms_parts <= 3


def test_the_width_of_each_network_is_proved() -> None:
    with pytest.raises(InstrumentError, match="at most 100"):
        check(replace(wave(REAL), budgets={"62001": 100}))


def test_how_long_the_real_interview_is() -> None:
    usual = check(replace(wave(REAL), languages=("en",)))[0]
    assert usual.routes == 6 * 4610
    assert 35 <= usual.median_hops <= 45
    by_sms = check(replace(wave(REAL), languages=("en",)))[1]
    assert by_sms.median_hops <= by_sms.median_parts < usual.median_hops * 1.2  # one part nearly always
    assert by_sms.most_parts > by_sms.most_hops
    one = check(replace(wave(REAL), services_each=1))[0]
    assert one.median_hops < usual.median_hops
