"""A wave file: what it may say, and every fault in it at once."""

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from flows.draw import draw, probabilities
from flows.fielding import Contact, Opening, Thanks
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
modules = ["health", "education"]

[budgets]
"62001" = 182
"62099" = 120

[opening]
opens_at = 2026-12-01T08:00:00+00:00
closes_at = 2026-12-31T20:00:00+01:00

[contacting]
start = 09:30:00
end = 17:00:00
days = ["mon", "sat"]
zone = "Africa/Lagos"
reminders = 3
reminder_hours = 24
rest_days = 30

[thanks]
amount = "1.50"
currency = "GHS"
budget = 3000
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
    assert wave.modules == () and wave.opening == Opening() and wave.thanks is None
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
    assert wave.modules == ("health", "education")
    assert [INSTRUMENT.blocks[index].id for index in wave.drawn] == ["health", "education"]
    opens, closes = datetime(2026, 12, 1, 8, tzinfo=UTC), datetime(2026, 12, 31, 19, tzinfo=UTC)
    assert wave.opening == Opening(opens, closes)
    assert wave.contacting == Contact(
        time(9, 30), time(17), frozenset({0, 5}), ZoneInfo("Africa/Lagos"), 3, 24, 30
    )  # fmt: skip
    assert wave.thanks == Thanks(Decimal("1.50"), "GHS", Decimal(3000))
    assert wave.file == str(tmp_path / "wave.toml")


@pytest.mark.parametrize("each", [0, 1, 2])
def test_only_the_wave_s_modules_are_drawn(each: int, tmp_path: Path) -> None:
    wave = loaded(tmp_path, GOOD.replace("services_each = 2", f"services_each = {each}"))
    blocks = {b.id: b.index for b in INSTRUMENT.blocks}
    asked = [set(draw(wave, seed)) & set(wave.drawn) for seed in range(50)]
    assert set.union(*asked) == {blocks["health"], blocks["education"]}
    assert {len(a) for a in asked} == {each or 2}
    assert all(blocks["government"] not in draw(wave, seed) for seed in range(50))
    share = each / 2 or 1.0
    assert probabilities(wave) == {"health": share, "education": share, "government": 0.0}


def test_what_is_left_out(tmp_path: Path) -> None:
    wave = loaded(tmp_path, "\n".join(GOOD.split("\n")[:6]))
    assert (wave.languages, wave.service_codes, wave.services_each) == (("en",), (), 0)
    assert (wave.shuffle_blocks, wave.shuffle_items, wave.extension) == (True, False, "address")
    assert (wave.resume_hours, wave.budget, wave.countries) == (72, 160, ("+233",))
    assert (wave.keywords, wave.sms_sender) == (("SURVEY",), "")
    assert (wave.modules, wave.opening, wave.thanks) == ((), Opening(), None)
    assert wave.contacting == Contact() and len(wave.drawn) == 3


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
        ('instrument = "sdg_16_6_2"', 'instrument = "sdg_16_6_2@1999"', "instrument", "sdg_16_6_2@2026.3"),
        (
            'instrument = "sdg_16_6_2"',
            'instrument = "other"',
            "instrument",
            "no such one is there; there are: sdg_16_6_2@2026.3",
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
        ("services_each = 2", "services_each = 3", "services_each", "0 (all) to 2"),
        ("services_each = 2", "services_each = -1", "services_each", "0 (all) to 2"),
        ('["health", "education"]', '"health"', "modules", "must be a list"),
        ('["health", "education"]', '["health", "health"]', "modules", "stands twice"),
        ('["health", "education"]', '["health", "police", "education"]', "modules", "'police' is no block"),
        (
            '["health", "education"]',
            '["health", "about_you", "government"]',
            "modules",
            "is no block that is drawn",
        ),
        ("[opening]", "[openings]", "openings", "unknown; known: id"),
        ("opens_at = 2026", "opened_at = 2026", "opening.opened_at", "unknown; known: opens_at, closes_at"),
        (
            "opens_at = 2026-12-01T08:00:00+00:00",
            "opens_at = 2026-12-01T08:00:00",
            "opening.opens_at",
            "offset",
        ),
        (
            "opens_at = 2026-12-01T08:00:00+00:00",
            "opens_at = 2026-12-01",
            "opening.opens_at",
            "with its offset",
        ),
        ("opens_at = 2026-12-01T08:00:00+00:00", 'opens_at = "now"', "opening.opens_at", "with its offset"),
        ("closes_at = 2026-12-31", "closes_at = 2026-11-30", "opening.closes_at", "later than opens_at"),
        (
            "closes_at = 2026-12-31T20:00:00+01:00",
            "closes_at = 2026-12-01T08:00:00Z",
            "opening.closes_at",
            "later",
        ),
        ("[contacting]", "[[contacting]]", "contacting", "write [contacting] on a line"),
        ("start = 09:30:00", 'start = "09:30"', "contacting.start", "such as 08:00:00"),
        ("start = 09:30:00", "start = 17:00:00", "contacting.end", "later than start"),
        ('["mon", "sat"]', "[]", "contacting.days", "name at least one of mon"),
        ('["mon", "sat"]', '["mon", "Sunday"]', "contacting.days", "'Sunday' is none of mon"),
        ('["mon", "sat"]', '["mon", 6]', "contacting.days", "6 is none of mon"),
        ('["mon", "sat"]', '"mon"', "contacting.days", "must be a list"),
        ('"Africa/Lagos"', '"Africa/Legas"', "contacting.zone", "no time zone 'Africa/Legas'"),
        ('"Africa/Lagos"', '"../../etc/passwd"', "contacting.zone", "is no time zone"),
        ("reminders = 3", "reminders = -1", "contacting.reminders", "0 to 10"),
        ("reminders = 3", "reminders = true", "contacting.reminders", "a whole number"),
        ("reminder_hours = 24", "reminder_hours = 0", "contacting.reminder_hours", "1 to 2400"),
        ("rest_days = 30", "rest_days = 4000", "contacting.rest_days", "0 to 3650"),
        ("rest_days = 30", "rest_dais = 30", "contacting.rest_dais", "unknown; known: start"),
        ('amount = "1.50"', "amount = true", "thanks.amount", "an amount in quotation marks"),
        ('amount = "1.50"', 'amount = "1,50"', "thanks.amount", "'1,50' is no amount"),
        ('amount = "1.50"', 'amount = "0.00"', "thanks.amount", "more than 0"),
        ('amount = "1.50"', 'amount = "-1"', "thanks.amount", "more than 0"),
        ('amount = "1.50"', 'amount = "NaN"', "thanks.amount", "more than 0"),
        ('amount = "1.50"', 'amount = "1.505"', "thanks.amount", "at most two decimals"),
        ('amount = "1.50"\n', "", "thanks.amount", "missing; give an amount"),
        ('currency = "GHS"', 'currency = "cedi"', "thanks.currency", "three capital letters"),
        ('currency = "GHS"\n', "", "thanks.currency", "three capital letters"),
        ("budget = 3000", "budget = 1.49", "thanks.budget", "less than one amount"),
        ("budget = 3000", 'budget = "Infinity"', "thanks.budget", "less than 1000000000"),
        ("budget = 3000\n", "", "thanks.budget", "missing"),
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
