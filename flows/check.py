"""Proves an instrument before it runs: walks every path with the real engine, in every language and mode.

For each order of the drawn blocks the walk visits every (item, answers that still matter) pair and tries
every key there: options, reasons for skipping (routes.py), back, more, wrong keys, hanging up and dialling
again; where the wave offers several languages, their menu too (walk.py). It proves that every key leads
somewhere, that each answer leads forward only (so every path ends), and that every screen keeps to its
budget and alphabet. What can be seen without walking is looked at first, here. All faults are listed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from flows.gsm import fold, parts, septets, unencodable
from flows.instrument import Fault, Instrument, InstrumentError, Item
from flows.questionnaire import FIXED_WORDS, ONE_PART_PROMPTS, PROMPTS, PROMPTS_OF_TEXTING
from flows.reading import clean, clean_text, command_words, is_keyword, match_option
from flows.results import WORDS
from flows.routes import Walked, walk_routes
from flows.screen import LayoutError, fixed_text, item_pages, language_screen, option_labels, prompt
from flows.walk import Walk, walk_languages, walk_results
from flows.wave import Wave, load_wave, read_wave_file
from flows.waves import clashes, find_wave_files, load_instruments

#: Stand-ins at least as long as anything a prompt ever inserts.
_LONGEST = {
    "answered": "99", "part": "9", "parts": "9", "receipt": "MMMMMM", "min": "999", "max": "999",
    "hours": "999", "keyword": "M" * 20, "left": "999",
}  # fmt: skip

#: UN metadata 16.6.2: attributes and overall satisfaction are asked on four points; 3 and 2 are positive.
_CODES = [0, 1, 2, 3]


def check_files(files: Sequence[Path], folders: Sequence[Path]) -> list[tuple[Wave, list[Walked]]]:
    """Reads and walks every wave of these files, or folders of them, on the instruments in `folders`.
    Raises InstrumentError with all faults of all, as far as each can be read without the other."""
    paths = find_wave_files(files)
    try:
        instruments = load_instruments(folders)
    except InstrumentError as error:
        theirs = [fault for path in paths for fault in read_wave_file(path)[1]]
        raise InstrumentError([*error.faults, *theirs]) from None
    faults: dict[Fault, None] = {}
    checked, sound = [], []
    for path in paths:
        try:
            wave = load_wave(path, *instruments)
            sound.append(wave)
        except InstrumentError as error:
            faults |= dict.fromkeys(error.faults)
            wave = _without_faults(read_wave_file(path)[0], instruments)
        try:
            checked.append((wave, check(wave)))
        except InstrumentError as error:
            faults = dict.fromkeys(error.faults) | faults
    faults |= dict.fromkeys(clashes(sound))
    if faults:
        raise InstrumentError(list(faults))
    return checked


def _without_faults(data: Mapping[str, object], instruments: Sequence[Instrument]) -> Wave:
    """A wave to walk with on the instrument that a faulty file names; what cannot be shown is left out."""
    given = [data.get(key) for key in ("owner", "contact", "code")]
    owner, contact, code = (v if isinstance(v, str) and not unencodable(fold(v)) else "-" for v in given)
    named = [i for i in instruments if data.get("instrument") in (i.id, i.reference)]
    instrument = (named or list(instruments))[0]
    return Wave("-", instrument, (instrument.default_language,), owner, contact, code)


def check(wave: Wave) -> list[Walked]:
    """Walks everything. Raises InstrumentError with all faults, each naming file and key."""
    faults: dict[Fault, None] = dict.fromkeys([*_data_faults(wave.instrument), *_word_faults(wave)])
    walked = []
    for language, words in wave.instrument.languages.items():
        # Drafts are proved too: they are what a reviewer reads next.
        alone = replace(wave, languages=(language,))
        for mode in ("ussd", "sms"):
            budgets = sorted({wave.budget, *wave.budgets.values()}) if mode == "ussd" else [wave.budget]
            for budget in budgets:
                walk = Walk(alone, language, mode, budget)
                _layouts(walk)
                if not walk.faults:  # what cannot be laid out cannot be walked
                    found = walk_routes(walk, words.status)
                    walk_results(walk)
                    if budget == wave.budget:
                        walked.append(found)
                faults |= walk.faults
    try:
        language_screen(wave, min([wave.budget, *wave.budgets.values()]))
        for budget in sorted({wave.budget, *wave.budgets.values()}):
            faults |= walk_languages(wave, "ussd", budget)
        faults |= walk_languages(wave, "sms", wave.budget)
    except LayoutError as error:
        faults[Fault("wave", "languages", str(error))] = None
    if faults:
        raise InstrumentError(faults)
    return walked


# ---------------------------------------------------------------- without walking


def _data_faults(instrument: Instrument) -> Iterator[Fault]:
    """What the indicator needs of the data, whatever the wording."""
    attributes = Counter(i.service for i in instrument.items if i.role == "attribute")
    overall = Counter(i.service for i in instrument.items if i.role == "overall")
    for service in attributes.keys() | overall.keys():
        # Metadata 16.6.2: the mean of five attribute shares, and one overall item, for each service.
        if attributes[service] != 5 or overall[service] != 1 or not service:
            yield Fault(
                "questionnaire.toml",
                f"service {service or '-'}",
                f"has {attributes[service]} attribute and {overall[service]} overall items; give 5 and 1",
            )
        for language in instrument.languages.values():
            if service not in language.services:
                message = f"missing; write {service} = its short name, which stands beside its result"
                yield Fault(f"{language.id}.toml", f"services.{service}", message)
    for role in ("sex", "age", "region", "residence", "adult"):
        if sum(i.role == role for i in instrument.items) > 1:
            yield Fault("questionnaire.toml", f"role {role}", "more than one item has it")
    for item in instrument.items:
        if item.role in ("attribute", "overall"):
            codes = sorted(o.code for o in item.scale.options) if item.scale else []
            if codes != _CODES:
                scale = f"scale {item.scale.id}, codes {codes}" if item.scale else "a number"
                yield Fault(
                    "questionnaire.toml",
                    f"items.{item.id}",
                    f"has role {item.role} on {scale}; give it a scale of four options with codes 3, 2, 1, 0"
                    " (3 and 2 are the positive ones)",
                )
        if item.groups:
            bounds = [(g.least, item.most if g.most is None else g.most) for g in item.groups]
            whole = [item.least, *(least for least, _ in bounds[1:])]
            if [b[0] for b in bounds] != whole or any(
                most + 1 != after for (_, most), (after, _) in pairwise(bounds)
            ):
                yield Fault(
                    "questionnaire.toml", f"items.{item.id}.groups", "must cover min to max without gaps"
                )


def _word_faults(wave: Wave) -> Iterator[Fault]:
    """No command of a text message may be anything else: an answer, a choice, or another command."""
    commands = {command: command_words(wave.instrument, command) for command in FIXED_WORDS}
    known = frozenset[str]().union(*commands.values())
    keywords = {clean_text(k) for k in wave.keywords}
    for language, texts in wave.instrument.languages.items():
        for command, word in ((c, clean_text(w)) for c, words in texts.words.items() for w in words):
            where = f"{language}.toml", f"words.{command}"
            if not word:
                yield Fault(*where, "one of them reads as nothing")
            elif also := [other for other in FIXED_WORDS if other != command and word in commands[other]]:
                yield Fault(*where, f"{word!r} means both {command} and {also[0]}")
            elif is_keyword(wave, word):
                yield Fault(*where, f"{word!r} begins with a keyword")
        for name, text in texts.prompts.items():  # a menu's options: their first word may be a command's
            if not PROMPTS.get(name) and clean(fold(text)) in known:
                yield Fault(f"{language}.toml", f"prompts.{name}", "reads as a command; write it otherwise")
        for scale, options in texts.options.items():
            labels = [fold(text) for text in options.values()]
            for label in labels:
                if is_keyword(wave, clean(label)):
                    yield Fault(f"{language}.toml", f"scales.{scale}", f"{label!r} begins with a keyword")
            for word in sorted(known | keywords):
                if match_option(word, labels) is not None:
                    yield Fault(
                        f"{language}.toml",
                        f"scales.{scale}",
                        f"{word!r}, a command, reads as an answer of it",
                    )


def _layouts(walk: Walk) -> None:
    """Every item under every notice, and every prompt with its longest values, must lay out."""
    wave, language = walk.wave, walk.language
    for item in wave.instrument.items:
        labels = [clean(label) for label in option_labels(wave, language, item.index)]
        if len(set(labels)) != len(labels):
            walk.fault(f"items.{item.id}", "two options read alike once folded to the phone's alphabet")
        notices = [prompt(wave, language, _notice(item), _values(_notice(item), wave))]
        if walk.mode == "sms":
            notices.append(prompt(wave, language, "one_answer"))
        for notice in ("", *notices):
            for back in (False, True):
                try:
                    item_pages(wave, language, item.index, walk.mode, walk.budget, back, notice)
                except LayoutError as error:
                    walk.fault(f"items.{item.id}", str(error))
    for name in PROMPTS:
        if (walk.mode == "ussd" and name in PROMPTS_OF_TEXTING) or name in WORDS:
            continue
        text = prompt(wave, language, name, _values(name, wave))
        if septets(text) > walk.most_septets:
            walk.fault(f"prompts.{name}", f"takes {septets(text)} septets; at most {walk.most_septets}")
    for name in ONE_PART_PROMPTS:
        text = fixed_text(wave, language, name, left=len(wave.instrument.items))
        if walk.mode == "sms" and parts(text) > 1:
            walk.fault(f"prompts.{name}", f"takes {septets(text)} septets; at most 160, one SMS")


def _notice(item: Item) -> str:
    return "invalid_number" if item.kind == "number" else "invalid_choice"


def _values(name: str, wave: Wave) -> tuple[tuple[str, str], ...]:
    ours = {"code": wave.code, "owner": wave.owner, "contact": wave.contact}
    return tuple((v, ours.get(v) or _LONGEST[v]) for v in sorted(PROMPTS[name]))
