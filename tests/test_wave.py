"""A wave file: what it may say, and every fault in it at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.instrument import Instrument, InstrumentError, load
from flows.wave import PLACEHOLDER_CONTACT, Wave, load_wave

ROOT = Path(__file__).parent.parent
INSTRUMENT = load(ROOT / "flows" / "sdg_16_6_2")

GOOD = """\
id = "w1"
instrument = "sdg_16_6_2"
owner = "Ghana Statistical Service"
contact = "0800 000 000"
code = "*384*16#"
free = true
languages = ["en", "fr"]
allow_drafts = true
service_codes = ["*384*16#"]
services_each = 2
shuffle_blocks = true
shuffle_items = true
extension = "answers"
resume_hours = 24
budget = 150
sms_parts = 2
countries = ["+233", "+228"]
keywords = ["SURVEY", "Sondage2"]
sms_sender = "1616"

[budgets]
"62001" = 182
"62099" = 120
"""


def loaded(folder: Path, text: str, instrument: Instrument = INSTRUMENT) -> Wave:
    path = folder / "wave.toml"
    path.write_text(text, "utf-8")
    return load_wave(path, instrument)


def faults(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(InstrumentError) as raised:
        loaded(folder, text)
    assert {f.file for f in raised.value.faults} == {str(folder / "wave.toml")}
    return [(f.key, f.message) for f in raised.value.faults]


def test_the_wave_that_is_delivered_is_sound() -> None:
    wave = load_wave(ROOT / "deploy" / "wave.toml", INSTRUMENT)
    assert wave.languages == ("en",)  # drafts are not offered out of the box
    assert wave.services_each == 0  # all three services: the official rule
    assert wave.resume_hours == 72
    assert wave.budget == 160
    assert wave.contact == PLACEHOLDER_CONTACT


def test_every_key_is_read(tmp_path: Path) -> None:
    wave = loaded(tmp_path, GOOD)
    assert (wave.id, wave.instrument, wave.languages) == ("w1", INSTRUMENT, ("en", "fr"))
    assert (wave.owner, wave.contact, wave.code) == ("Ghana Statistical Service", "0800 000 000", "*384*16#")
    assert (wave.service_codes, wave.countries) == (("*384*16#",), ("+233", "+228"))
    assert (wave.services_each, wave.shuffle_blocks, wave.shuffle_items) == (2, True, True)
    assert (wave.extension, wave.resume_hours, wave.budget, wave.sms_parts) == ("answers", 24, 150, 2)
    assert (wave.keywords, wave.sms_sender) == (("SURVEY", "Sondage2"), "1616")


def test_what_is_left_out(tmp_path: Path) -> None:
    wave = loaded(tmp_path, "\n".join(GOOD.split("\n")[:6]))
    assert (wave.languages, wave.service_codes, wave.services_each) == (("en",), (), 0)
    assert (wave.shuffle_blocks, wave.shuffle_items, wave.extension) == (True, False, "address")
    assert (wave.resume_hours, wave.budget, wave.countries) == (72, 160, ("+233",))
    assert (wave.keywords, wave.sms_sender) == (("SURVEY",), "")


@pytest.mark.parametrize("sender", ["1616", "+233240000001", "GSS", "GSS Survey", "A", "STATSOFFICE", ""])
def test_who_texts_may_come_from(tmp_path: Path, sender: str) -> None:
    assert loaded(tmp_path, GOOD.replace('"1616"', f'"{sender}"')).sms_sender == sender


def test_a_budget_for_each_network(tmp_path: Path) -> None:
    wave = loaded(tmp_path, GOOD)
    assert [wave.budget_for(n) for n in ("62001", "62099", "62002", "")] == [182, 120, 150, 150]


def test_an_instrument_version_may_be_named(tmp_path: Path) -> None:
    named = GOOD.replace('instrument = "sdg_16_6_2"', f'instrument = "{INSTRUMENT.reference}"')
    assert loaded(tmp_path, named).instrument is INSTRUMENT


@pytest.mark.parametrize(
    ("old", "new", "key", "word"),
    [
        ('id = "w1"\n', "", "id", "missing or empty"),
        ('id = "w1"', 'id = ""', "id", "missing or empty"),
        ('id = "w1"', "id = 1", "id", "must be a str"),
        ('id = "w1"', 'id = "w1"\nname = "x"', "name", "unknown; known: id"),
        ('instrument = "sdg_16_6_2"', 'instrument = "sdg_16_6_2@1999"', "instrument", "sdg_16_6_2@2026.2"),
        (
            'instrument = "sdg_16_6_2"',
            'instrument = "other"',
            "instrument",
            "no such one is there; there are: sdg_16_6_2@2026.2",
        ),
        ('owner = "Ghana Statistical Service"\n', "", "owner", "missing or empty"),
        ('owner = "Ghana Statistical Service"', 'owner = "中"', "owner", "U+4E2D"),
        ('contact = "0800 000 000"', 'contact = "`"', "contact", "U+0060"),
        ('code = "*384*16#"\n', 'code = "*384*1ю#"\n', "code", "U+044E"),
        ("free = true\n", "", "free", "free of charge (reverse-billed), or change the consent text"),
        ("free = true", "free = false", "free", "raise the instrument's version"),
        ("free = true", "free = 1", "free", "must be a bool"),
        ("free = true", 'free = ""', "free", "must be a bool"),
        ('["en", "fr"]', '["en", "ak"]', "languages", "'ak' has no text file; known: en, fr"),
        ('["en", "fr"]', "[]", "languages", "name at least one"),
        ('["en", "fr"]', '"en"', "languages", "must be a list"),
        ('["en", "fr"]', '["en", "en"]', "languages", "stands twice"),
        ('["en", "fr"]', '[["en"]]', "languages", "must be a list of texts"),
        ("allow_drafts = true", "allow_drafts = false", "languages", "'fr' is a draft"),
        ("allow_drafts = true\n", "", "languages", "'fr' is a draft"),
        ("services_each = 2", "services_each = 4", "services_each", "0 (all) to 3"),
        ("services_each = 2", "services_each = -1", "services_each", "0 (all) to 3"),
        ("services_each = 2", "services_each = true", "services_each", "must be a int"),
        ('extension = "answers"', 'extension = "menu"', "extension", "address or answers"),
        ("resume_hours = 24", "resume_hours = 0", "resume_hours", "at least 1"),
        ("budget = 150", "budget = 79", "budget", "80 to 182"),
        ("budget = 150", "budget = 183", "budget", "80 to 182"),
        ('"62001" = 182', '"62001" = 183', "budgets.62001", "80 to 182"),
        ('"62001" = 182', '"62001" = "wide"', "budgets.62001", "80 to 182"),
        ('"62001" = 182', '"62001" = true', "budgets.62001", "80 to 182"),
        ("sms_parts = 2", "sms_parts = 0", "sms_parts", "1 to 6"),
        ("sms_parts = 2", "sms_parts = 7", "sms_parts", "1 to 6"),
        ('["+233", "+228"]', "[233]", "countries", "must be a list of texts"),
        ('["+233", "+228"]', '["233"]', "countries", "begin with +"),
        ('["+233", "+228"]', "[]", "countries", "name at least one"),
        ('["SURVEY", "Sondage2"]', "[]", "keywords", "name at least one"),
        ('["SURVEY", "Sondage2"]', '"SURVEY"', "keywords", "must be a list"),
        ('["SURVEY", "Sondage2"]', '["SURVEY", "survey"]', "keywords", "stands twice"),
        ('["SURVEY", "Sondage2"]', '["MY SURVEY"]', "keywords", "one word"),
        ('["SURVEY", "Sondage2"]', '["16"]', "keywords", "a letter first"),
        ('["SURVEY", "Sondage2"]', '["Enquête"]', "keywords", "one word"),
        ('["SURVEY", "Sondage2"]', '["S"]', "keywords", "2 to 20"),
        ('sms_sender = "1616"', "sms_sender = 1616", "sms_sender", "must be a str"),
        ('sms_sender = "1616"', 'sms_sender = "16"', "sms_sender", "short code"),
        ('sms_sender = "1616"', 'sms_sender = "STATISTICS OFFICE"', "sms_sender", "at most 11"),
        ('sms_sender = "1616"', 'sms_sender = "Büro"', "sms_sender", "short code"),
        (
            'service_codes = ["*384*16#"]',
            "service_codes = [38416]",
            "service_codes",
            "must be a list of texts",
        ),
    ],
)
def test_a_fault(tmp_path: Path, old: str, new: str, key: str, word: str) -> None:
    assert old in GOOD
    among = faults(tmp_path, GOOD.replace(old, new))
    assert [k for k, m in among if word in m] == [key], among
    assert len(among) == 1, among


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    wrong = (
        GOOD.replace("services_each = 2", "services_each = 9")
        .replace("resume_hours = 24", "resume_hours = 0")
        .replace("allow_drafts = true", "")
        .replace('"62099" = 120', '"62099" = 12')
        .replace("sms_parts = 2", "sms_parts = 9")
    )
    assert {k for k, _ in faults(tmp_path, wrong)} == {
        "services_each", "resume_hours", "languages", "budgets.62099", "sms_parts",
    }  # fmt: skip
    wrong = GOOD.replace('id = "w1"', 'name = "x"').replace("budget = 150", 'budget = "150"')
    assert {k for k, _ in faults(tmp_path, wrong)} == {"id", "name", "budget"}


@pytest.mark.parametrize("raw", [b'id = "w1', b'id = "\xff"', None])
def test_a_file_that_cannot_be_read(tmp_path: Path, raw: bytes | None) -> None:
    path = tmp_path / "wave.toml"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(InstrumentError, match="cannot be read"):
        load_wave(path, INSTRUMENT)


def test_another_version_of_the_instrument(tmp_path: Path) -> None:
    """An interview goes on with the version it began with, in the languages that this one has."""
    wave = loaded(tmp_path, GOOD)
    assert wave.with_instrument(INSTRUMENT).languages == ("en", "fr")
    french = replace(INSTRUMENT, languages={"fr": INSTRUMENT.languages["fr"]})
    assert wave.with_instrument(french).languages == ("fr",)
    assert wave.with_instrument(french).instrument is french
    german = replace(INSTRUMENT, languages={"de": INSTRUMENT.languages["fr"]}, default_language="de")
    assert wave.with_instrument(german).languages == ("de",)
