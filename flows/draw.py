"""Chance, all of it from the seed of an interview: which services, and what comes when."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flows.instrument import UNANSWERED, Instrument, Item
from flows.wave import Wave


def mix(seed: int, salt: int) -> int:
    """64 well-mixed bits (splitmix64, Steele, Lea and Flood 2014): the same on every machine and
    Python version, which `random` does not promise for shuffles."""
    z = (seed + (salt + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


def _shuffled(things: Sequence[int], seed: int, salt: int) -> list[int]:
    """Fisher-Yates. The remainder's bias is under 2**-60 for the few things shuffled here."""
    out = list(things)
    for i in range(len(out) - 1, 0, -1):
        j = mix(seed, salt * 1000 + i) % (i + 1)
        out[i], out[j] = out[j], out[i]
    return out


def draw(wave: Wave, seed: int) -> list[int]:
    """Block indexes in the order for this respondent; blocks not selected are absent."""
    drawn = wave.drawn
    chosen: Sequence[int] = drawn
    if wave.services_each:
        chosen = sorted(_shuffled(drawn, seed, salt=1)[: wave.services_each])
    if wave.shuffle_blocks:
        chosen = _shuffled(chosen, seed, salt=2)
    waiting = iter(chosen)
    fixed = [b.index for b in wave.instrument.blocks if not b.drawn]
    if not drawn:
        return fixed
    before = [b for b in fixed if b < drawn[0]]
    return before + list(waiting) + [b for b in fixed if b > drawn[0]]


def probabilities(wave: Wave) -> dict[str, float]:
    """Of each block that can be drawn, having been selected: 0 for one that is not the wave's."""
    share = wave.services_each / len(wave.drawn) if wave.services_each else 1.0
    return {b.id: share if b.index in wave.drawn else 0.0 for b in wave.instrument.blocks if b.drawn}


@dataclass(frozen=True, slots=True)
class AskingOrder:
    """Items in the order a respondent meets them, and the ways along it."""

    items: tuple[Item, ...]
    place: dict[str, int]  # item id -> position in items

    def following(self, answers: str) -> Item | None:
        """The first item that applies and has no answer; None when all is asked."""
        for item in self.items:
            if answers[item.index] == UNANSWERED and item.applies(answers):
                return item
        return None

    def previous(self, at: str, answers: str) -> Item | None:
        """The item answered before the one at `at`, if one may go back to it."""
        for item in reversed(self.items[: self.place[at]]):
            if item.role in ("consent", "adult"):
                return None
            if answers[item.index] != UNANSWERED:
                return item
        return None


@lru_cache(maxsize=4096)
def asking_order(instrument: Instrument, blocks: str, shuffle_seed: int | None) -> AskingOrder:
    """The order for `blocks` (indexes, two hex digits each). With a `shuffle_seed` the attribute
    items of each service are shuffled among their places."""
    order: list[int] = []
    for k in range(0, len(blocks), 2):
        order += instrument.blocks[int(blocks[k : k + 2], 16)].items
    if shuffle_seed is not None:
        batteries: dict[str, list[int]] = {}
        for position, index in enumerate(order):
            item = instrument.items[index]
            if item.role == "attribute":
                batteries.setdefault(item.service, []).append(position)
        for salt, positions in enumerate(batteries.values(), 10):
            mixed = _shuffled([order[p] for p in positions], shuffle_seed, salt)
            for position, index in zip(positions, mixed, strict=True):
                order[position] = index
    items = tuple(instrument.items[i] for i in order)
    return AskingOrder(items, {item.id: n for n, item in enumerate(items)})


_RECEIPT_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # no 0/O, 1/I: read aloud on the phone


def receipt(seed: int, interview_id: str) -> str:
    """Six letters, 30 bits: tells one withdrawal from another; it is no secret."""
    bits = mix(seed, int(interview_id[:12] or "0", 16))
    return "".join(_RECEIPT_LETTERS[(bits >> (5 * k)) & 31] for k in range(6))
