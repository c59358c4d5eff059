"""Results given back: from a release to the screens, in every language and width, and to those who asked."""

import asyncio
import json
import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from flows.engine import (
    RESULTS_ONLY,
    Dialled,
    Interview,
    Replied,
    ResultsSeen,
    Resumed,
    dump_interview,
    load_interview,
    restore,
    step,
)
from flows.gsm import parts, septets, unencodable
from flows.instrument import InstrumentError, load, parse
from flows.questionnaire import PROMPTS_ADDED
from flows.results import Figure, Results, services_of, words_of
from flows.results_pages import results_faults, results_pages, results_text, specimens
from flows.wave import Wave, load_wave
from gateway.giving_back import GivingBack, find_results
from gateway.results_by_text import forecast, write
from storage import outbox, sweep
from storage.analysis.release import ReleaseError
from storage.models import Directory, ResultsWanted, table_of
from storage.results_wanted import count_wanted, stop_texts
from tests.gateway_app import CODE, HOOK, KEY, SECRET, Talk, form
from tests.record_material import NOW, SMALL, Dialogue, Entry, ended, fold_all, rows
from tests.record_material import WAVE as SMALL_WAVE
from tests.sending_field import SEAL, messages, number

HERE = Path(__file__).parent
RELEASES = HERE / "material" / "releases"
INSTRUMENT = load(HERE.parent / "flows" / "sdg_16_6_2")
WAVE = Wave(
    "w", INSTRUMENT, ("en", "fr"), "Ghana Statistical Service", "0800 000 000", CODE, sms_sender="1616",
    budgets={"62001": 182, "62006": 120},
)  # fmt: skip
REGIONS = [o.id for o in INSTRUMENT.scales["region"].options]


def found(folder: Path = RELEASES, wave: Wave = WAVE) -> Results:
    it = find_results(folder, wave)
    assert it is not None and it.results is not None
    return it.results


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RELEASES, tmp_path / "releases"))


# ---------------------------------------------------------------- from a release


def test_only_what_may_be_shown_is_read() -> None:
    results = found()
    assert results.national == {
        "health": Figure("61.5", "1240"), "primary": Figure("70.2", "805"),
        "secondary": Figure("66", "640"), "government": Figure("48.9", "915"),
    }  # fmt: skip
    hidden = Figure("", "")
    assert results.regions["gh_aa"] == {
        "health": Figure("64", "310"), "primary": Figure("71", "205"), "secondary": hidden,
        "government": hidden,
    }  # fmt: skip
    assert results.regions["gh_ah"] == dict.fromkeys(results.national, hidden)
    assert list(results.regions) == REGIONS


@pytest.mark.parametrize(
    ("region", "screens"),
    [
        (
            "gh_aa",
            [
                "Satisfied, of those who answered, 2026:\nHealth 61.5% (1240)\nPrimary 70.2% (805)\n"
                "Secondary 66% (640)\nOffices 48.9% (915)\n98 More 0 Back",
                "Satisfied, of those who answered, Greater Accra 2026:\nHealth 64% (310)\n"
                "Primary 71% (205)\nToo few answers: Secondary, Offices\n98 More 0 Back",
                "What we did: More nurses at 40 clinics.\n0 Back",
            ],
        ),
        ("gh_ah", [None, "Satisfied, of those who answered, Ashanti 2026:\nToo few answers: "
                   "Health, Primary, Secondary, Offices\n98 More 0 Back", None]),
    ],
)  # fmt: skip
def test_the_three_screens(region: str, screens: list[str | None]) -> None:
    shown = [text for _, text in results_pages(found(), "en", region, 160)]
    assert [s if wanted else wanted for s, wanted in zip(shown, screens, strict=True)] == screens


def test_figures_weighted_to_the_population_or_by_the_draw_are_told_as_estimates(releases: Path) -> None:
    path = releases / "w" / "1" / "release.json"
    for kind in ({"weighted": True}, {"weighted": False, "design_weighted": True}):
        change(path, **kind)
        national, region, _ = (text for _, text in results_pages(found(releases), "en", "gh_aa", 160))
        assert national.startswith("Satisfied, estimate from answers, 2026:\nHealth 61.5% (1240)\n")
        assert region.startswith("Satisfied, estimate from answers, Greater Accra 2026:\n")
        assert "of those who answered" not in national + region


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_text_names_the_office_and_says_what_the_brackets_hold_in_one_part(language: str) -> None:
    seen = set()
    for results in specimens(WAVE, (language,)):  # as wide as they come
        words = replace(results.words[language], did="")
        regions = {
            region: {s: replace(f, answers=f.answers[1:]) for s, f in figures.items()}  # under a thousand
            for region, figures in results.regions.items()
        }
        results = replace(results, words={language: words}, regions=regions)
        for region in ("", *REGIONS) if not results.made_up else ():
            text = results_text(results, language, region)
            head = text.split("\n")[0]
            assert parts(text) == 1 and head.startswith(WAVE.owner) and head.endswith(")")
            assert ("estim" in head) is results.weighted
            seen.add((results.weighted, bool(region)))
    assert len(seen) == 4
    # With the line on what was done there are two; a name that would make three of them is left out.
    long = replace(next(specimens(WAVE, (language,))), owner="Office " * 12)
    text = results_text(long, language, "gh_wn")
    assert parts(text) == 2 and "Office" not in text.split("\n")[0] and "mmm" in text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_first_screen_of_a_newcomer_offers_the_results(language: str) -> None:
    """Of the wave as delivered, whole and on the usual screen: who asks, both answers, the results."""
    shipped = load_wave(HERE.parent / "deploy" / "wave.toml", INSTRUMENT)
    assert shipped.sharing.extension == "9"  # *384*16*9#
    wave = replace(shipped, languages=(language,), results=found())
    words = INSTRUMENT.languages[language]
    consent = [*words.options["consent"].values(), words.prompts["see_results"]]
    first = step(wave, None, Dialled(0, "0" * 16, 7))
    head, *options, more = first.screen.text.split("\n")
    assert options == [f"{key} {label}" for key, label in enumerate(consent, 1)] and more.startswith("98 ")
    assert head.startswith(wave.owner) and head.endswith("?") and septets(first.screen.text) <= 160


def test_a_wave_without_a_release_shows_an_earlier_one_s_if_its_file_says_so(releases: Path) -> None:
    next_year = replace(WAVE, id="w2")
    assert find_results(releases, next_year) is not None and find_results(releases, next_year, ()) is None
    named = replace(next_year, sharing=replace(WAVE.sharing, earlier=("w1", "w")))
    assert found(releases, named).wave == "w"


def change(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | values))


FAULTS = [
    ("release.json", "{", ReleaseError, "cannot be read"),
    ("release.json", '{"format": 9}', ReleaseError, "not a release of format 1"),
    ("release.json", '{"format": 1}', ReleaseError, "incomplete"),
    ("did.toml", "en = ", InstrumentError, "cannot be read"),
    ("did.toml", 'en = "x"', InstrumentError, 'fr: missing; write fr = "what was done"'),
    ("did.toml", 'en = "x"\nfr = "y"\nxx = "z"', InstrumentError, "xx: is no language"),
    ("did.toml", f'en = "{"long " * 40}"\nfr = "y"', InstrumentError, "shorten the line on what was done"),
    ("did.toml", 'en = "x"\nfr = "日"', InstrumentError, "is not in GSM 03.38"),
]


@pytest.mark.parametrize(("file", "text", "kind", "says"), FAULTS)
def test_what_cannot_be_shown_is_refused_by_name_and_the_results_stay(
    file: str, text: str, kind: type[Exception], says: str, releases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Talk("redis://127.0.0.1:1/0", WAVE) as talk:  # no store is asked
            giving = GivingBack([talk.dialogue], releases)
            await giving.refresh()
            before = talk.dialogue.wave.results
            assert before is not None and before.version == 1
            shutil.copytree(releases / "w" / "1", releases / "w" / "2")
            broken = releases / "w" / ("2/" + file if file == "release.json" else file)
            broken.write_text(text, "utf-8")
            with pytest.raises(kind, match="w/"):
                find_results(releases, WAVE)
            with caplog.at_level(logging.ERROR, "dial16.results"):
                await giving.refresh()
                await giving.refresh()
            assert talk.dialogue.wave.results is before
            (line,) = caplog.messages  # once
            assert says in line and file in line
            shutil.rmtree(releases / "w" / "2")
            shutil.copy(RELEASES / "w" / "did.toml", releases / "w")
            shutil.copytree(releases / "w" / "1", releases / "w" / "3")
            change(releases / "w" / "3" / "release.json", version=3)
            await giving.refresh()
            assert talk.dialogue.wave.results is not None and talk.dialogue.wave.results.version == 3

    asyncio.run(main())


# ---------------------------------------------------------------- whatever the figures


FIGURE = st.builds(
    lambda tenths, n: Figure(f"{tenths / 10:.1f}".removesuffix(".0"), str(n)),
    st.integers(0, 1000), st.integers(30, 1999).map(lambda n: 5 * n),
)  # fmt: skip
SERVICES = services_of(INSTRUMENT)
PLACE = st.fixed_dictionaries({s: st.one_of(st.just(Figure("", "")), FIGURE) for s in SERVICES})
LINE = st.text("abc XYZ 123,.'", max_size=110).map(lambda text: " ".join(text.split()))
RANDOM = st.builds(
    lambda national, regions, did, made_up, weighted: Results(
        "w", 1, "2026", national, regions, {x: words_of(INSTRUMENT, x, did) for x in ("en", "fr")}, made_up,
        weighted, WAVE.owner,
    ),
    PLACE, st.fixed_dictionaries(dict.fromkeys(REGIONS, PLACE)), LINE, st.booleans(), st.booleans(),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(RANDOM)
def test_every_screen_fits_for_any_release(results: Results) -> None:
    assert list(results_faults(results, ("en", "fr"), (120, 160, 182), "did.toml")) == []
    for language in ("en", "fr"):
        for budget in (120, 160, 182):
            for region in ("", *REGIONS):
                pages = results_pages(results, language, region, budget)
                assert len(pages) <= (3 if budget >= 160 else 9)
                for _, text in pages:
                    assert not unencodable(text) and septets(text) <= budget
                assert parts(results_text(results, language, region)) <= 2
                shown = results.regions.get(region, results.national)
                for figure in shown.values():
                    share = figure.share.replace(".", "," if language == "fr" else ".")
                    assert not figure.shown or f"{share}% ({figure.answers})" in str(pages)


KEYS = st.lists(st.sampled_from(["0", "1", "2", "3", "16", "98", "99", "?", ""]), max_size=25)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["", "111", "1112#", "1112#2"]), KEYS, st.booleans(), st.sampled_from(["ussd", "sms"]))
def test_no_key_on_the_results_changes_an_answer(
    given_: str, keys: list[str], closed: bool, mode: str
) -> None:
    wave = replace(WAVE, results=found(), closed=closed)
    marks = given_ + "." * (len(INSTRUMENT.items) - len(given_))
    began = step(WAVE, None, Dialled(0, "0" * 16, 7)).interview
    here = step(
        wave,
        replace(began, answers=marks) if given_ else None,
        Dialled(1000, "1" * 16, 7, mode, results=True),
    )
    seen = [e.screen for e in here.effects if isinstance(e, ResultsSeen)]
    assert seen or here.interview.stage == "language" or (closed and not given_)
    for key in keys:
        before = load_interview(json.loads(json.dumps(dump_interview(here.interview))))
        if before.stage not in ("results", "which_region"):
            return
        here = step(wave, before, Replied(before.last_at + 1000, key))
        assert here.interview.answers == before.answers
        assert (here.interview.language, here.interview.numbers) == (before.language, before.numbers)
        assert septets(here.screen.text) <= 160


def test_an_interview_on_an_older_version_sees_them_in_today_s_words() -> None:
    sources = dict(INSTRUMENT.sources)
    sources["questionnaire.toml"] = sources["questionnaire.toml"].replace("2026.3", "2026.0", 1)
    for name in ("en.toml", "fr.toml"):
        before, _, after = sources[name].partition("[services]")
        lines = (before + after[after.index("[scales.") :]).split("\n")
        lacking = tuple(p for p in PROMPTS_ADDED if p.startswith(("results_", "by_sms_")))
        sources[name] = "\n".join(x for x in lines if not x.startswith(lacking))
    older = replace(
        WAVE, languages=("en",), results=found(), sharing=replace(WAVE.sharing, by_sms=True)
    ).with_instrument(parse(sources, fielded=True))
    done = replace(_complete(older), disposition="complete")
    menu = step(older, done, Dialled(1000, "1" * 16, 7))
    first = step(older, menu.interview, Replied(2000, "1"))
    assert first.screen.text.startswith("Satisfied, of those who answered, 2026:")
    asked = step(older, None, Dialled(0, "0" * 16, 7))  # still at its consent when they came out
    seen = step(older, asked.interview, Replied(1000, "3"))
    assert seen.screen.text == first.screen.text and seen.interview.disposition == RESULTS_ONLY


def test_the_way_back_to_the_question_is_no_new_dial() -> None:
    wave = replace(WAVE, languages=("en",), results=found())
    taken = step(wave, None, Dialled(0, "0" * 16, 7))
    effects = [*taken.effects]
    for key, disposition in (("3", RESULTS_ONLY), ("0", ""), ("3", RESULTS_ONLY), ("0", "")):
        taken = step(wave, taken.interview, Replied(1000, key))
        effects += taken.effects
        assert taken.interview.disposition == disposition
        assert restore(wave, taken.interview.id, effects, 0).disposition == disposition
    assert taken.interview.stage == "item" and not any(isinstance(e, Resumed) for e in effects)


def _complete(wave: Wave) -> Interview:
    return step(replace(wave, results=None), None, Dialled(0, "0" * 16, 7)).interview


# ---------------------------------------------------------------- through the gateway


def test_a_new_release_takes_the_place_of_the_old_in_mid_session(redis_url: str, releases: Path) -> None:
    async def main() -> None:
        wave = replace(WAVE, languages=("en",), sharing=replace(WAVE.sharing, extension="2"))
        async with Talk(redis_url, wave) as talk:
            giving = GivingBack([talk.dialogue], releases)
            await giving.refresh()
            assert "Health 61.5% (1240)" in (await talk.hop("2")).text
            assert (await talk.hop("2*98")).text.startswith("Results of which region?")
            shutil.copytree(releases / "w" / "1", releases / "w" / "2")
            path = releases / "w" / "2" / "release.json"
            path.write_text(
                path.read_text().replace("0.64,", "0.74,").replace('"version": 1', '"version": 2')
            )
            (releases / "w" / "did.toml").unlink()
            await giving.refresh()
            shown = await talk.hop("2*98*7")
            assert "Greater Accra" in shown.text and "Health 74% (310)" in shown.text
            assert shown.text.endswith("\n0 Back")  # the third screen has gone with the line
            assert (await talk.hop("2*98*7")).text == shown.text  # the network asks again
            shutil.rmtree(releases / "w")
            await giving.refresh()
            assert (await talk.hop("2*98*7*0")).text.startswith("The results are not published yet.")
            seen = [
                e["screen"] for h in talk.entries("hop") for e in h["effects"] if e["kind"] == "ResultsSeen"
            ]
            assert seen == ["national", "region"]
            assert not [h for h in talk.entries("hop") if "sealed" in h]  # nobody consented

    asyncio.run(main())


def test_over_http_from_a_folder(redis_url: str, tmp_path: Path, releases: Path) -> None:
    from gateway.app import create_app

    wave = replace(WAVE, languages=("en",), sharing=replace(WAVE.sharing, extension="2"))
    app = create_app(
        waves=[wave], live_url=redis_url, database_url=f"sqlite:///{tmp_path / 'd.sqlite3'}",
        pseudonym_key=KEY, secrets=(SECRET,), simulator_secret=None, live_days=90, releases=releases,
    )  # fmt: skip

    async def main() -> None:
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http,
        ):

            async def hop(text: str, session: str) -> str:
                kind = {"content-type": "application/x-www-form-urlencoded"}
                return (await http.post(HOOK, content=form(text, session), headers=kind)).text

            assert (await hop("2", "A")).startswith(
                "CON Satisfied, of those who answered, 2026:\nHealth 61.5%"
            )
            assert (await hop("2*98", "A")).startswith("CON Results of which region?\n1 Ahafo")
            assert await hop("2*98*99", "A") == "CON What we did: More nurses at 40 clinics.\n0 Back"
            assert (await hop("", "B")).startswith("CON Ghana Statistical Service asks")
            assert (await hop("2", "B")).endswith("\n1 See results")
            assert (await hop("2*1", "B")).startswith("CON Satisfied, of those who answered")

    asyncio.run(main())


# ---------------------------------------------------------------- by text, to those who asked


SMALL_RESULTS = Results(
    SMALL_WAVE, 1, "2026", {"water": Figure("60", "100")}, {"gh_aa": {"water": Figure("70", "50")}},
    {"en": words_of(SMALL, "en")},
)  # fmt: skip
TEXTS = {
    "results_national": "All {period}:", "results_region": "{region} {period}:",
    "results_figure": "{service} {share}% ({answers})",
}  # fmt: skip
SMALL_RESULTS = replace(
    SMALL_RESULTS,
    words={"en": replace(words_of(SMALL, "en"), prompts={**words_of(SMALL, "en").prompts, **TEXTS})},
)
SENDING_WAVE = Wave(SMALL_WAVE, SMALL, ("en",), "Office", "0800", CODE, sms_sender="1616")
WANTED, DIRECTORY = table_of(ResultsWanted), table_of(Directory)
LATER = datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(days=400)


def asks(n: int, region: str = "gh_aa", wants: bool = True) -> Dialogue:
    """Somebody who completes and asks for the results, or not."""
    d = Dialogue(n)
    d.begin()
    consent = d.consent()
    consent |= {"sealed": SEAL.seal(number(n), d.respondent), "key_id": SEAL.key_id}
    d.answer("age", 30)
    d.answer("region", region, ended())
    menu: Entry = {"kind": "MenuChosen", "menu": "by_sms", "option": "by_sms_yes" if wants else "by_sms_no"}
    d.hop(menu, *([{"kind": "ResultsWanted"}] if wants else []), stage="over", ends=True)
    return d


def sent_texts(engine: Engine) -> dict[str, str]:
    return {m["respondent"]: m["text"] for m in messages(engine) if m["kind"] == "results"}


def test_each_who_asked_is_written_to_once_with_the_region_s_figures(engine: Engine) -> None:
    people = [asks(1), asks(2, "gh_af"), asks(3, wants=False)]
    for _ in range(2):
        fold_all(engine, [e for p in people for e in p.entries])
    assert len(rows(engine, WANTED)) == 2 and count_wanted(engine, SMALL_WAVE) == (2, 0)
    assert forecast(engine, SENDING_WAVE, SMALL_RESULTS, 99).messages == 2 and not sent_texts(engine)
    for wanted in (1, 1, 0):  # two steps, and nobody is left
        assert write(engine, SENDING_WAVE, SMALL_RESULTS, 1, LATER).messages == wanted
    newer = replace(SMALL_RESULTS, version=2)
    assert write(engine, SENDING_WAVE, newer, 99, LATER).messages == 0
    assert sent_texts(engine) == {
        people[0].respondent: "Greater Accra 2026:\nwater 70% (50)",
        people[1].respondent: "All 2026:\nwater 60% (100)",
    }
    rows_ = [m for m in messages(engine) if m["kind"] == "results"]
    assert {(m["sender"], m["aggregator"], m["priority"], m["network_code"]) for m in rows_} == {
        ("1616", "africastalking", 6, "62001")
    }
    assert (
        stop_texts(engine, SMALL_WAVE, LATER) == 2
        and write(engine, SENDING_WAVE, newer, 99, LATER).messages == 0
    )


@pytest.mark.parametrize("how", ["stop", "withdrawal"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_nobody_is_written_to_after_stop_or_withdrawal(engine: Engine, how: str, when: str) -> None:
    person = asks(1)
    entries = person.entries[:]
    if how == "stop":
        leave: Entry = {"kind": "opted_out", "respondent": person.respondent, "at": person.at + 1000,
                        "aggregator": "africastalking"}  # fmt: skip
    else:
        leave = person.withdraw()
    fold_all(engine, entries)
    if when == "after":
        written_at = datetime.fromtimestamp((person.at - 1) / 1000, UTC)
        assert write(engine, SENDING_WAVE, SMALL_RESULTS, 9, written_at).messages == 1
    fold_all(engine, [leave])
    fold_all(engine, entries)  # come again, late
    assert rows(engine, WANTED) == [] and rows(engine, DIRECTORY) == []
    assert write(engine, SENDING_WAVE, SMALL_RESULTS, 9, LATER).messages == 0
    assert {m["state"] for m in messages(engine)} <= {outbox.CANCELLED}


def test_a_number_is_kept_until_the_results_are_sent_and_no_longer(engine: Engine) -> None:
    fold_all(engine, [*asks(1).entries, *asks(2, wants=False).entries])
    assert sweep.forget_numbers(engine, LATER) == 1
    assert [row["respondent"] for row in rows(engine, DIRECTORY)] == [f"{1:032x}"]
    write(engine, SENDING_WAVE, SMALL_RESULTS, 9, LATER)
    assert sweep.forget_numbers(engine, LATER) == 0  # it is due
    (due,) = [m for m in messages(engine) if m["kind"] == "results"]
    message = outbox.find_message(engine, due["id"])
    assert message is not None and outbox.claim(engine, message.id, LATER)
    assert outbox.take(engine, message, LATER, message_id="m", status_raw="ok", parts=1, cost_amount=None,
                       cost_currency=None)  # fmt: skip
    assert sweep.forget_numbers(engine, LATER) == 1 and rows(engine, DIRECTORY) == []
