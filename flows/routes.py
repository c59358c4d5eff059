"""All ways from consent to the end: every answer at every item, in every order of the drawn blocks.

For each order the walk visits every (item, answers that still matter) pair once, and counts the ways on
from there: their hops, and the SMS parts that we send. An answer must lead forward, so every path ends.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from flows.engine import CellsEntered, Dialled, Interview, Step, skip_reasons, step
from flows.gsm import parts, septets
from flows.instrument import Item
from flows.interview import order_of
from flows.questionnaire import NONRESPONSE_MARKS, UNANSWERED
from flows.screen import LayoutError, option_labels, skip_key
from flows.walk import Walk, expect_valid, pages_of, try_other_keys, turn_away, wrong_keys
from flows.wave import Wave

_PASSED = "x"  # an answer that no later condition reads; no option has this mark


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


def walk_routes(walk: Walk, status: str) -> Walked:
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


def _orders(wave: Wave) -> Iterator[str]:
    """`Interview.blocks` for every draw that a respondent may get."""
    blocks = wave.instrument.blocks
    drawn = wave.drawn
    before = [b.index for b in blocks if not b.drawn and (not drawn or b.index < drawn[0])]
    after = [b.index for b in blocks if not b.drawn and b.index not in before]
    for chosen in permutations(drawn, wave.services_each or len(drawn)):
        if wave.shuffle_blocks or list(chosen) == sorted(chosen):
            yield "".join(f"{b:02x}" for b in (*before, *chosen, *after))


def _routes(walk: Walk, interview: Interview, seen: dict[_Node, _Ways]) -> _Ways:
    """All ways from this node to the end."""
    node = _node(walk, interview)
    if node in seen:
        return seen[node]
    instrument = walk.wave.instrument
    order = order_of(instrument, interview)
    interview = replace(interview, answers=node[1], last_at=0, shown_at=0)
    item = order.items[node[0]]
    try_other_keys(walk, interview, item)
    hops: Counter[int] = Counter()
    costs: Counter[int] = Counter()
    longest = dearest = 0
    pages = [parts(page) for page in pages_of(walk, interview, item)]
    skipping = parts(walk.take(interview, skip_key(item)).screen.text) if item.nonresponse else 0
    targets: set[_Node | str] = set()
    for key, cost in _answers(walk, interview, item):
        taken, extra = _answer(walk, interview, item, key)
        if any(isinstance(e, CellsEntered) for e in taken.effects):
            turn_away(walk, interview, item, key, taken)
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


def _node(walk: Walk, interview: Interview) -> _Node:
    """Where an interview stands, without the answers that nothing further on reads."""
    order = order_of(walk.wave.instrument, interview)
    position = order.place[interview.at]
    matter = {i for item in order.items[position:] for every in item.ask_if for i, _ in every}
    answers = [UNANSWERED] * len(interview.answers)
    for item in order.items[:position]:
        answers[item.index] = interview.answers[item.index] if item.index in matter else _PASSED
    return position, "".join(answers)


def _answers(walk: Walk, interview: Interview, item: Item) -> Iterator[tuple[str, int]]:
    """(key, requests it takes to get to it and press it) of every answer to an item."""
    pages = pages_of(walk, interview, item)
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


def _answer(walk: Walk, interview: Interview, item: Item, key: str) -> tuple[Step, int]:
    """The step that an answer takes, and the requests that a pause after it adds."""
    skip, joint, reason = key.partition("*")
    taken = walk.take(interview, skip)
    if joint:
        walk.see(f"items.{item.id}", taken.screen)
        taken = walk.take(taken.interview, str(skip_reasons(item).index(reason) + 1))
        if taken.interview.answers[item.index] != NONRESPONSE_MARKS[reason]:
            walk.fault(f"items.{item.id}", f"skipping as {reason} records something else")
    walk.see(f"items.{item.id}", taken.screen)
    expect_valid(walk, item, key, taken)
    if taken.interview.stage != "pause":
        return taken, 0
    stopped = walk.take(taken.interview, "2")
    walk.see("prompts.stopped", stopped.screen)
    if not stopped.screen.ends:
        walk.fault("prompts.pause", "stopping does not end the session")
    wrong_keys(walk, item, taken.interview)
    taken = walk.take(taken.interview, "1")
    walk.see(f"items.{taken.interview.at}", taken.screen)
    return taken, 1


def _median(routes: Counter[int]) -> int:
    """The lower median of a multiset given as value -> count."""
    half, passed = (routes.total() + 1) // 2, 0
    for value, count in sorted(routes.items()):
        passed += count
        if passed >= half:
            return value
    return 0
