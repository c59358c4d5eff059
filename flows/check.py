"""Proves an instrument before it runs: walks every path with the real engine, in every language and mode.

For each order of the drawn blocks the walk visits every (item, answers that still matter) pair and tries
every key there: options, reasons for skipping, back, more, wrong keys, hanging up and dialling again.
Where the wave offers several languages, their menu too. It proves that every key leads somewhere, that
each answer leads forward only (so every path ends), and that every screen keeps to its budget and
alphabet. All faults are listed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations
from pathlib import Path

from flows.engine import (
    QUOTA_FULL,
    CellsEntered,
    Dialled,
    Interview,
    InvalidReply,
    Replied,
    Screen,
    Step,
    heard_when_closed,
    skip_reasons,
    step,
)
from flows.gsm import fold, parts, septets, unencodable
from flows.instrument import Fault, Instrument, InstrumentError, Item
from flows.interview import order_of
from flows.questionnaire import (
    FIXED_WORDS,
    NONRESPONSE_MARKS,
    ONE_PART_PROMPTS,
    PROMPTS,
    PROMPTS_OF_TEXTING,
    UNANSWERED,
)
from flows.reading import clean, clean_text, command_words, is_keyword, match_option
from flows.results import WORDS
from flows.results_pages import results_faults, specimens
from flows.screen import (
    BACK,
    MORE,
    SKIP,
    LayoutError,
    fixed_text,
    item_pages,
    language_screen,
    option_labels,
    prompt,
    skip_key,
    sms_budget,
)
from flows.wave import Wave, load_wave, read_wave_file
from flows.waves import clashes, find_wave_files, load_instruments

_PASSED = "x"  # an answer that no later condition reads; no option has this mark
_REPLY_MS = 1000
_AROUND_RESULTS = ("results", "which_region", "parting", "visitor", "finished", "closed", "resume")
_MOST_WRONG_KEYS = 10  # after which a menu without any other way out should have ended
#: Stand-ins at least as long as anything a prompt ever inserts.
_LONGEST = {
    "answered": "99", "part": "9", "parts": "9", "receipt": "MMMMMM", "min": "999", "max": "999",
    "hours": "999", "keyword": "M" * 20, "left": "999",
}  # fmt: skip


@dataclass(frozen=True)
class Walked:
    """What a walk found. Hops count requests, from the dial to the last screen of one session."""

    language: str
    status: str
    mode: str
    screens: int  # distinct
    widest: int  # septets
    sms_parts: int  # of the longest
    keys: int  # tried
    routes: int  # distinct sequences of items, over all orders
    median_hops: int  # over routes; each answer on its item's first screen
    most_hops: int  # every option paged to, every question skipped that can be
    median_parts: int  # SMS parts that we send in an interview, over the same routes
    most_parts: int


_Node = tuple[int, str]  # position in the asking order, answers that still matter


@dataclass(frozen=True)
class _Ways:
    """From a node to the end."""

    hops: Counter[int]  # how many routes of each length
    longest: int
    parts: Counter[int]  # the same routes by SMS parts of what we show; each item's first page
    dearest: int  # every page read, every question skipped that can be


@dataclass
class _Walk:
    wave: Wave
    language: str
    mode: str
    budget: int
    faults: dict[Fault, None] = field(default_factory=dict)
    screens: set[str] = field(default_factory=set)
    keys: int = 0

    def __post_init__(self) -> None:
        self.closed = replace(self.wave, closed=True)

    def fault(self, key: str, message: str, file: str = "") -> None:
        self.faults[Fault(file or f"{self.language}.toml", key, message)] = None

    def see(self, key: str, screen: Screen) -> None:
        """Checks a screen that a respondent may meet."""
        if screen.text in self.screens:
            return
        self.screens.add(screen.text)
        if strange := unencodable(screen.text):
            self.fault(key, f"shows {strange}, which GSM 03.38 lacks")
        elif (width := septets(screen.text)) > self.most_septets:
            self.fault(key, f"a screen of {width} septets; at most {self.most_septets} ({self.mode})")

    @property
    def most_septets(self) -> int:
        return self.budget if self.mode == "ussd" else sms_budget(self.wave)

    def take(self, interview: Interview, key: str) -> Step:
        self.keys += 1
        return step(self.wave, interview, Replied(interview.last_at + _REPLY_MS, key))


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
                walk = _Walk(alone, language, mode, budget)
                _layouts(walk)
                if not walk.faults:  # what cannot be laid out cannot be walked
                    found = _walk(walk, words.status)
                    _walk_results(walk)
                    if budget == wave.budget:
                        walked.append(found)
                faults |= walk.faults
    try:
        language_screen(wave, min([wave.budget, *wave.budgets.values()]))
        for budget in sorted({wave.budget, *wave.budgets.values()}):
            faults |= _walk_languages(wave, "ussd", budget)
        faults |= _walk_languages(wave, "sms", wave.budget)
    except LayoutError as error:
        faults[Fault("wave", "languages", str(error))] = None
    if faults:
        raise InstrumentError(faults)
    return walked


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


def _layouts(walk: _Walk) -> None:
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


def _orders(wave: Wave) -> Iterator[str]:
    """`Interview.blocks` for every draw that a respondent may get."""
    blocks = wave.instrument.blocks
    drawn = wave.drawn
    before = [b.index for b in blocks if not b.drawn and (not drawn or b.index < drawn[0])]
    after = [b.index for b in blocks if not b.drawn and b.index not in before]
    for chosen in permutations(drawn, wave.services_each or len(drawn)):
        if wave.shuffle_blocks or list(chosen) == sorted(chosen):
            yield "".join(f"{b:02x}" for b in (*before, *chosen, *after))


def _walk(walk: _Walk, status: str) -> Walked:
    routes: Counter[int] = Counter()
    costs: Counter[int] = Counter()
    most = dearest = 0
    for blocks in _orders(walk.wave):
        seen: dict[_Node, _Ways] = {}
        first = step(walk.wave, None, Dialled(0, "0" * 16, 0, walk.mode, walk.budget))
        interview = replace(first.interview, blocks=blocks)
        walk.see("consent", first.screen)
        try:
            ways = _routes(walk, interview, seen)
        except LayoutError as error:
            walk.fault("prompts", str(error))
            continue
        routes += Counter({hops + 1: n for hops, n in ways.hops.items()})  # + the dial
        most = max(most, ways.longest + 1)
        costs += ways.parts
        dearest = max(dearest, ways.dearest)
    widest = max(walk.screens, key=septets, default="")
    return Walked(
        walk.language, status, walk.mode, len(walk.screens), septets(widest), parts(widest), walk.keys,
        routes.total(), _median(routes), most, _median(costs), dearest,
    )  # fmt: skip


def _walk_languages(wave: Wave, mode: str, budget: int) -> dict[Fault, None]:
    """Every key of the choice of language, at once and after wrong keys; then dialling again."""
    walk = _Walk(wave, wave.languages[0], mode, budget)
    names = [clean(wave.instrument.languages[x].name) for x in wave.languages]
    if len(set(names)) != len(names):
        walk.fault("languages", "two names read alike once folded to the phone's alphabet", "wave")
    here = step(wave, None, Dialled(0, "0" * 16, 0, mode, budget))
    if len(wave.languages) == 1:
        return walk.faults
    for _ in range(_MOST_WRONG_KEYS):
        walk.see("languages", here.screen)
        for key, language in enumerate(wave.languages, 1):
            chosen = walk.take(here.interview, str(key))
            if (chosen.interview.language, chosen.interview.stage) != (language, "item"):
                walk.fault("languages", f"key {key} does not lead on in {language!r}", "wave")
                continue
            walk.see("consent", chosen.screen)
            again = step(wave, chosen.interview, Dialled(_REPLY_MS, "0" * 16, 0, mode, budget))
            if again.interview.stage != "language":
                walk.fault("languages", f"who dials again cannot choose another than {language!r}", "wave")
        here = walk.take(here.interview, "?")
        if here.screen.ends:
            walk.see("prompts.refusal", here.screen)
            return walk.faults
    walk.fault("languages", "wrong keys can go on for ever", "wave")
    return walk.faults


def _routes(walk: _Walk, interview: Interview, seen: dict[_Node, _Ways]) -> _Ways:
    """All ways from this node to the end."""
    node = _node(walk, interview)
    if node in seen:
        return seen[node]
    instrument = walk.wave.instrument
    order = order_of(instrument, interview)
    interview = replace(interview, answers=node[1], last_at=0, shown_at=0)
    item = order.items[node[0]]
    _try_other_keys(walk, interview, item)
    hops: Counter[int] = Counter()
    costs: Counter[int] = Counter()
    longest = dearest = 0
    pages = [parts(page) for page in _pages(walk, interview, item)]
    skipping = parts(walk.take(interview, skip_key(item)).screen.text) if item.nonresponse else 0
    targets: set[_Node | str] = set()
    for key, cost in _answers(walk, interview, item):
        taken, extra = _answer(walk, interview, item, key)
        if any(isinstance(e, CellsEntered) for e in taken.effects):
            _turn_away(walk, interview, item, key, taken)
        if taken.interview.disposition:
            target: _Node | str = taken.interview.disposition
            last, asks = parts(taken.screen.text), 0
            if taken.interview.stage == "by_sms":  # one question more, and the last word after it
                asks, thanks = 1, [walk.take(taken.interview, way).screen for way in ("1", "2")]
                for screen in thanks:
                    walk.see("prompts.thanks", screen)
                last += parts(thanks[0].text)
            onward = _Ways(Counter({asks: 1}), asks, Counter({last: 1}), last)
        else:
            target = _node(walk, taken.interview)
            if target[0] <= node[0]:
                walk.fault(
                    f"items.{item.id}", f"an answer leads back to {taken.interview.at}", "questionnaire.toml"
                )
                continue
            onward = _routes(walk, taken.interview, seen)
        longest = max(longest, cost + extra + onward.longest)
        dearest = max(dearest, sum(pages) + skipping + onward.dearest)
        if target not in targets:
            targets.add(target)
            hops += Counter({1 + extra + n: count for n, count in onward.hops.items()})
            costs += Counter({pages[0] + n: count for n, count in onward.parts.items()})
    seen[node] = _Ways(hops, longest, costs, dearest)
    return seen[node]


def _node(walk: _Walk, interview: Interview) -> _Node:
    """Where an interview stands, without the answers that nothing further on reads."""
    order = order_of(walk.wave.instrument, interview)
    position = order.place[interview.at]
    matter = {i for item in order.items[position:] for every in item.ask_if for i, _ in every}
    answers = [UNANSWERED] * len(interview.answers)
    for item in order.items[:position]:
        answers[item.index] = interview.answers[item.index] if item.index in matter else _PASSED
    return position, "".join(answers)


def _answers(walk: _Walk, interview: Interview, item: Item) -> Iterator[tuple[str, int]]:
    """(key, requests it takes to get to it and press it) of every answer to an item."""
    pages = _pages(walk, interview, item)
    if item.scale is None:
        yield str(item.least), 1
        yield str(item.most), 1
    else:
        labels = option_labels(walk.wave, walk.language, item.index)
        for number, label in enumerate(labels, 1):
            shown = [n for n, page in enumerate(pages) if f"\n{number} {label}" in f"\n{page}"]
            if not shown:
                walk.fault(f"items.{item.id}", f"option {number} is cut; it stands whole on no page")
            yield str(number), 1 + (shown[0] if shown else 0)
    for reason in item.nonresponse:
        yield f"{skip_key(item)}*{reason}", 2


def _answer(walk: _Walk, interview: Interview, item: Item, key: str) -> tuple[Step, int]:
    """The step that an answer takes, and the requests that a pause after it adds."""
    skip, joint, reason = key.partition("*")
    taken = walk.take(interview, skip)
    if joint:
        walk.see(f"items.{item.id}", taken.screen)
        taken = walk.take(taken.interview, str(skip_reasons(item).index(reason) + 1))
        if taken.interview.answers[item.index] != NONRESPONSE_MARKS[reason]:
            walk.fault(f"items.{item.id}", f"skipping as {reason} records something else")
    walk.see(f"items.{item.id}", taken.screen)
    _expect_valid(walk, item, key, taken)
    if taken.interview.stage != "pause":
        return taken, 0
    stopped = walk.take(taken.interview, "2")
    walk.see("prompts.stopped", stopped.screen)
    if not stopped.screen.ends:
        walk.fault("prompts.pause", "stopping does not end the session")
    _wrong_keys(walk, item, taken.interview)
    taken = walk.take(taken.interview, "1")
    walk.see(f"items.{taken.interview.at}", taken.screen)
    return taken, 1


def _turn_away(walk: _Walk, interview: Interview, item: Item, key: str, let_in: Step) -> None:
    """The same answer where a quota cell is full: it ends the interview; a dial is one after the end, or
    goes on where `let_in` does once there is room."""
    here = interview
    key, joint, reason = key.partition("*")
    if joint:
        here = walk.take(interview, key).interview
        key = str(skip_reasons(item).index(reason) + 1)
    walk.keys += 1
    away = step(walk.wave, here, Replied(here.last_at + _REPLY_MS, key, full=True))
    walk.see("prompts.quota_full", away.screen)
    if not away.screen.ends or away.interview.disposition != QUOTA_FULL:
        walk.fault(f"items.{item.id}", "a full quota cell does not end the interview")
        return
    dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget, full=True)
    _menu_again(walk, "finished", step(walk.wave, away.interview, dialled))
    let_in_now = step(walk.wave, away.interview, replace(dialled, full=False))
    walk.see("prompts.welcome_back", let_in_now.screen)
    if let_in_now.interview.at != let_in.interview.at:
        walk.fault(f"items.{item.id}", "once its quota cell has room, the interview does not go on after it")


def _walk_results(walk: _Walk) -> None:
    """The results' screens and texts, as wide as they may come, from every place that leads to them."""
    for number, results in enumerate(specimens(walk.wave, (walk.language,))):
        for fault in results_faults(results, (walk.language,), (walk.budget,), f"{walk.language}.toml"):
            walk.fault("prompts.results_*", fault.message)
        if walk.faults:
            return
        if number:  # the ways there and back are the same
            continue
        out = replace(walk.wave, results=results)
        closed = replace(out, closed=True)
        dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget)
        item = walk.wave.instrument.items[0]
        began = step(out, None, dialled).interview
        agreed = replace(began, answers=_first_answer(item, agrees=True) + began.answers[1:])
        here = [step(out, None, replace(dialled, results=True)), step(closed, None, dialled)]
        for disposition in ("complete", QUOTA_FULL, "refusal", "ineligible", "withdrawn"):
            ended = replace(agreed, disposition=disposition, receipt="MMMMMM")
            here += [step(where, ended, dialled) for where in (out, closed)]
            here.append(step(out, ended, replace(dialled, results=True)))
        here += [step(where, agreed, dialled) for where in (out, closed)]
        for first in here:
            _look_round(walk, out, first)


def _first_answer(item: Item, agrees: bool) -> str:
    """The mark of the consent item's first option that ends the interview, or does not."""
    options = item.scale.options if item.scale else ()
    return next((o.mark for o in options if (o.id in item.ends) != agrees), UNANSWERED)


def _look_round(walk: _Walk, wave: Wave, first: Step) -> None:
    """Every key of the results' screens that `first` leads to, each screen once."""
    seen: set[tuple[str, int, str]] = set()
    waiting = [first]
    while waiting:
        taken = waiting.pop()
        walk.see("prompts.results_*", taken.screen)
        here = taken.interview
        at = (here.stage, here.page, here.region)
        if taken.screen.ends or at in seen or here.stage not in _AROUND_RESULTS:
            continue
        seen.add(at)
        for key in ("1", "2", "16", BACK, MORE, SKIP, "?"):
            walk.keys += 1
            following = step(wave, here, Replied(here.last_at + _REPLY_MS, key))
            waiting.append(following)
            if following.interview.answers != here.answers and following.interview.stage != "over":
                walk.fault("prompts.results_*", f"key {key!r} on a screen of results changes an answer")


def _pages(walk: _Walk, interview: Interview, item: Item) -> tuple[str, ...]:
    back = order_of(walk.wave.instrument, interview).previous(item.id, interview.answers) is not None
    return item_pages(walk.wave, walk.language, item.index, walk.mode, walk.budget, back, "")


def _try_other_keys(walk: _Walk, interview: Interview, item: Item) -> None:
    """Every key that is no answer: paging there and back, back, wrong keys, dialling again."""
    key = f"items.{item.id}"
    pages = _pages(walk, interview, item)
    here = interview
    for number, page in enumerate(pages):
        walk.see(key, Screen(page))
        if number + 1 < len(pages):
            turned = walk.take(here, MORE)
            _expect_valid(walk, item, MORE, turned)
            here = turned.interview
    for _ in pages[1:]:
        turned = walk.take(here, BACK)
        _expect_valid(walk, item, BACK, turned)
        here = turned.interview
    if f" {BACK} " in " " + pages[0].rpartition("\n")[2]:  # not the 0 of "00 Skip"
        back = walk.take(interview, BACK)
        walk.see(f"items.{back.interview.at}", back.screen)
        _expect_valid(walk, item, BACK, back)
    _wrong_keys(walk, item, interview)
    if item.nonresponse:
        _wrong_keys(walk, item, walk.take(interview, skip_key(item)).interview)
    _dial_again(walk, interview)


def _wrong_keys(walk: _Walk, item: Item, interview: Interview) -> None:
    """Wrong keys three times over, then every way out that is offered."""
    here = interview
    for _ in range(3):
        wrong = walk.take(here, "?")
        walk.see(f"items.{item.id}", wrong.screen)
        here = wrong.interview
        if wrong.screen.ends:
            return
        if here.stage == "item":
            _page_on(walk, item, wrong)
    if here.stage != "stuck":
        walk.fault(f"items.{item.id}", "three wrong keys lead to no other way out")
        return
    for way in ("1", "2", "3") if item.nonresponse else ("1", "2"):
        out = walk.take(here, way)
        walk.see(f"items.{item.id}", out.screen)
        _expect_valid(walk, item, way, out)
    _wrong_keys_end(walk, item, here)


def _page_on(walk: _Walk, item: Item, wrong: Step) -> None:
    """Under the line that a wrong key brings, every option must still be paged to."""
    here, rows = wrong, wrong.screen.text.split("\n")
    while f" {MORE} " in " " + rows[-1]:
        here = walk.take(here.interview, MORE)
        walk.see(f"items.{item.id}", here.screen)
        _expect_valid(walk, item, MORE, here)
        if here.effects and isinstance(here.effects[0], InvalidReply):
            return
        rows += here.screen.text.split("\n")
    for number, label in enumerate(option_labels(walk.wave, walk.language, item.index), 1):
        if f"{number} {label}" not in rows:
            walk.fault(f"items.{item.id}", f"option {number} is not shown after a wrong key")


def _wrong_keys_end(walk: _Walk, item: Item, stuck: Interview) -> None:
    here = stuck
    for _ in range(3):
        wrong = walk.take(here, "?")
        walk.see("prompts.stuck", wrong.screen)
        here = wrong.interview
    if not wrong.screen.ends:
        walk.fault(f"items.{item.id}", "wrong keys can go on for ever")


def _dial_again(walk: _Walk, interview: Interview) -> None:
    if heard_when_closed(walk.closed, interview):
        dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget)
        _menu_again(walk, "wave_closed", step(walk.closed, interview, dialled))
    again = step(walk.wave, interview, Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget))
    if again.interview.stage == "resume":
        _menu_again(walk, "welcome_back", again)
    else:
        walk.see("prompts.welcome_back", again.screen)


def _menu_again(walk: _Walk, name: str, again: Step) -> None:
    """Every way out of the menu that a dial shows."""
    walk.see(f"prompts.{name}", again.screen)
    for way in range(1, again.screen.text.count("\n") + 1):
        taken = walk.take(again.interview, str(way))
        walk.see(f"prompts.{name}", taken.screen)
        if taken.interview.stage == "withdraw":
            for choice in ("1", "2"):
                walk.see("prompts.withdraw_confirm", walk.take(taken.interview, choice).screen)


def _expect_valid(walk: _Walk, item: Item, key: str, taken: Step) -> None:
    if any(isinstance(e, InvalidReply) for e in taken.effects):
        walk.fault(f"items.{item.id}", f"key {key!r} is shown but leads nowhere")


def _median(routes: Counter[int]) -> int:
    """The lower median of a multiset given as value -> count."""
    half, passed = (routes.total() + 1) // 2, 0
    for value, count in sorted(routes.items()):
        passed += count
        if passed >= half:
            return value
    return 0
