"""The questionnaire on paper: one language of an instrument as Markdown, for reviewers and archives.

Made from the data alone. Words other than the instrument's own are English.
"""

import re
from collections.abc import Iterable, Iterator

from flows.questionnaire import (
    NONRESPONSE_MARKS,
    NUMBER_GIVEN,
    PROMPTS,
    UNANSWERED,
    Block,
    Instrument,
    Item,
    Language,
)
from flows.screen import MORE, skip_key

_NONRESPONSE_WORDS = {
    "not_applicable": "not applicable",
    "dont_know": "don't know",
    "refused": "refused",
}
_STATUS = {
    "draft": "**Draft.** This wording has not been reviewed. It is offered to respondents only where "
    "a wave allows drafts.",
    "reviewed": "**Reviewed.** This wording may be offered to respondents once the office that asks has "
    "approved it.",
}


# ---------------------------------------------------------------- words shared with the drawing


def answers_of(item: Item) -> dict[str, str]:
    """Every answer that an item may get, nonresponse last: its mark -> its name in words."""
    given = {NUMBER_GIVEN: "any number"}
    if item.scale is not None:
        given = {o.mark: o.id.replace("_", " ") for o in item.scale.options}
    return given | {NONRESPONSE_MARKS[n]: _NONRESPONSE_WORDS[n] for n in item.nonresponse}


def condition_in_words(instrument: Instrument, item: Item) -> str:
    """`health.got = yes or health.visit = yes`; "" for an item that everybody is asked."""
    alternatives = []
    for every in item.ask_if:
        terms = [
            f"{instrument.items[index].id} = {_either(answers_of(instrument.items[index]), marks)}"
            for index, marks in every
        ]
        both = " and ".join(terms)
        alternatives.append(f"({both})" if len(terms) > 1 and len(item.ask_if) > 1 else both)
    return " or ".join(alternatives)


def _either(names: dict[str, str], marks: str) -> str:
    words = [name for mark, name in names.items() if mark in marks]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


# ---------------------------------------------------------------- where answers lead

_PASSED = "x"  # an answer that no later condition reads; no option has this mark


def ways_on(instrument: Instrument) -> list[dict[int | str, set[str]]]:
    """For each item: what may come next (an index, the number of items for the end, or the
    disposition that ends the interview) and the marks of the answers that may lead there.

    Found by walking every path. Drawn blocks are walked in the order of the file: conditions never
    reach from one of them into another."""
    items = instrument.items
    last_read = [0] * len(items)
    for item in items:
        for every in item.ask_if:
            for index, _ in every:
                last_read[index] = item.index
    ways: list[dict[int | str, set[str]]] = [{} for _ in items]

    def following(after: int, answers: str) -> int:
        return next((i.index for i in items[after:] if i.applies(answers)), len(items))

    first = UNANSWERED * len(items)
    waiting = [(following(0, first), first)]
    seen = set(waiting)
    while waiting:
        at, answers = waiting.pop()
        if at == len(items):
            continue
        item = items[at]
        options = item.scale.options if item.scale else ()
        ending = {o.mark: item.ends[o.id] for o in options if o.id in item.ends}
        for mark in answers_of(item):
            if mark in ending:
                ways[at].setdefault(ending[mark], set()).add(mark)
                continue
            given = answers[:at] + mark + answers[at + 1 :]
            to = following(at + 1, given)
            ways[at].setdefault(to, set()).add(mark)
            kept = "".join(a if last_read[i] >= to else _PASSED for i, a in enumerate(given[:to]))
            node = (to, kept + given[to:])
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return ways


def _then(instrument: Instrument, item: Item, ways: dict[int | str, set[str]]) -> dict[str, str]:
    """What an answer leads to, by mark, where that is always the same and not the next item."""
    block = instrument.blocks[item.block].items
    out = {}
    for mark in answers_of(item):
        targets = [to for to, marks in ways.items() if mark in marks]
        if len(targets) != 1 or targets[0] == item.index + 1:
            continue
        to = targets[0]
        if isinstance(to, str):
            out[mark] = f"the interview ends ({to})"
        elif to in block:
            out[mark] = f"go to `{instrument.items[to].id}`"
        elif item.index != block[-1]:
            out[mark] = "the rest of this block is skipped"
    return out


# ---------------------------------------------------------------- the questionnaire


def print_questionnaire(instrument: Instrument, language: str, *, owner: str, contact: str, code: str) -> str:
    """The whole questionnaire in `language`, as Markdown.

    owner, contact, code: what a wave inserts into the texts. Raises KeyError for an unknown language.
    """
    words = instrument.languages[language]
    values = {"owner": owner, "contact": contact, "code": code}
    ways = ways_on(instrument)
    lines = [*_front(instrument, words, values)]
    for block in instrument.blocks:
        lines += _block_head(instrument, block)
        for index in block.items:
            lines += _item(instrument, words, instrument.items[index], values, ways[index])
    lines += _appendix(words, values)
    return "\n".join(lines).rstrip() + "\n"


def _front(instrument: Instrument, words: Language, values: dict[str, str]) -> Iterator[str]:
    yield from (f"# {_plain(instrument.title)}", "")
    yield from (f"> {_STATUS.get(words.status, _plain(words.status))}", "")
    yield from _table(
        ("", ""),
        [
            ("Language", f"{_plain(words.name)} (`{words.id}`, `{words.iso639_3}`), {words.status}"),
            ("Version", f"`{instrument.reference}`"),
            ("Source", _plain(instrument.source)),
            ("Version of the consent", _plain(instrument.consent_version)),
            ("Reference period", f"{instrument.reference_months} months"),
            ("Asked by", _plain(values["owner"])),
            ("Contact", _plain(values["contact"])),
            ("Service code", _plain(values["code"])),
        ],
    )
    drawn = [f"`{b.id}`" for b in instrument.blocks if b.drawn]
    yield from ("## How to read this", "")
    yield "- **Key** is what the respondent presses, **code** is what stands in the data."
    yield (
        f"- *Behind {MORE}* is text that the respondent sees on asking for more. "
        "The reasons for no answer are never read out; the skip key leads to them."
    )
    yield "- Conditions name items and answers by their ids. Each answer leads to the next item that applies."
    if len(drawn) > 1:
        yield f"- The blocks {', '.join(drawn)} come in random order, with a pause between any two."
    yield ""


def _block_head(instrument: Instrument, block: Block) -> list[str]:
    number = len(block.items)
    about = f"{number} item{'s' if number > 1 else ''}."
    if block.drawn:
        about += " Its place among the drawn blocks is random; a wave may leave it out for some respondents."
    return [f"## Block {block.index + 1} of {len(instrument.blocks)}: {_plain(block.id)}", "", about, ""]


def _item(
    instrument: Instrument,
    words: Language,
    item: Item,
    values: dict[str, str],
    ways: dict[int | str, set[str]],
) -> Iterator[str]:
    then = _then(instrument, item, ways)
    number = f"{_plain(item.number)} · " if item.number else ""
    yield from (f"### {number}`{item.id}`", "")
    facts = (("service", item.service), ("attribute", item.attribute), ("role", item.role))
    about = [_plain(item.label), *(f"{name} `{value}`" for name, value in facts if value)]
    yield from (" · ".join(about + ["sensitive"] * item.sensitive), "")
    condition = condition_in_words(instrument, item)
    yield from (f"**Asked:** {'if ' + _plain(condition) if condition else _everybody(instrument, item)}", "")
    text = words.items[item.id]
    yield from _quoted(text.text.format(**values))
    forms = ((f"Behind {MORE}", text.detail), ("On a USSD screen", text.ussd), ("By SMS", text.sms))
    for name, form in forms:
        if form:
            yield from (f"*{name}:*", "", *_quoted(form.format(**values)))
    if item.scale is not None:
        yield from _options(words, item, then)
    else:
        lead = then.get(NUMBER_GIVEN, "")
        yield from (f"A whole number from {item.least} to {item.most}{lead and '; then ' + lead}.", "")
    if item.groups:
        rows = [
            (f"{g.least} to {g.most}" if g.most is not None else f"{g.least} or more", f"`{g.id}`",
             _plain(words.groups[item.id][g.id]))
            for g in item.groups
        ]  # fmt: skip
        yield from ("Groups for analysis:", "", *_table(("Number", "Group", "Text"), rows))
    yield from (_no_answer(instrument, words, item, then), "")


def _everybody(instrument: Instrument, item: Item) -> str:
    return "everybody who gets this block" if instrument.blocks[item.block].drawn else "everybody"


def _options(words: Language, item: Item, then: dict[str, str]) -> Iterator[str]:
    assert item.scale is not None
    texts = words.options[item.scale.id]
    rows = [
        (str(key), str(option.code), f"`{option.id}`", _plain(texts[option.id]), then.get(option.mark, ""))
        for key, option in enumerate(item.scale.options, 1)
    ]
    if any(row[-1] for row in rows):
        yield from _table(("Key", "Code", "Option", "Text", "Then"), rows)
    else:
        yield from _table(("Key", "Code", "Option", "Text"), [row[:-1] for row in rows])


def _no_answer(instrument: Instrument, words: Language, item: Item, then: dict[str, str]) -> str:
    if not item.nonresponse:
        return "Without an answer: not possible; the item has no skip key."
    leads = [then.get(NONRESPONSE_MARKS[name], "") for name in item.nonresponse]
    same = len(set(leads)) == 1
    reasons = [
        f"{instrument.codes[name]} {_NONRESPONSE_WORDS[name]} (“{_plain(words.prompts[name])}”)"
        + (f", then {lead}" if lead and not same else "")
        for name, lead in zip(item.nonresponse, leads, strict=True)
    ]
    after = f"; then {leads[0]}" if same and leads[0] else ""
    return f"Without an answer (key {skip_key(item)}): {', '.join(reasons)}{after}."


def _appendix(words: Language, values: dict[str, str]) -> Iterator[str]:
    yield from ("## Appendix: fixed prompts", "")
    yield from ("Phrases of the dialogue itself. A name in braces stands for a value put in when shown.", "")
    rows = []
    for name in PROMPTS:
        text = words.prompts[name]
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        rows.append((f"`{name}`", _plain(text)))
    yield from _table(("Prompt", "Text"), rows)


# ---------------------------------------------------------------- Markdown

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")
_LIST_START = re.compile(r"^(\s*)([-+]|\d+[.)])(?=\s)", re.MULTILINE)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SPECIAL.sub(r"\\\1", text)
    return _LIST_START.sub(lambda m: f"{m[1]}{m[2][:-1]}\\{m[2][-1]}", text)


def _quoted(text: str) -> list[str]:
    """A quotation that keeps line breaks, and an empty line after it."""
    lines = _plain(text).split("\n")
    return ["> " + "\\\n> ".join(lines), ""]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace(chr(10), '<br>') for cell in row)} |"
    yield ""
