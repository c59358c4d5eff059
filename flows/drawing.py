"""A picture of the questionnaire's flow, as SVG, made from the data alone.

One column a block, one box an item. A shaded group of boxes is asked under the condition written on
it. A line at the right of a column leads from an answer to where it goes when that is not the next
box; where the lines go is found by walking every path, not by reading conditions. All shapes stand in
one coordinate system without transforms, and colours are plain attributes, so that the picture looks
the same as a file, in a page and under a strict content policy.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from flows.printed import answers_of, condition_in_words, ways_on
from flows.questionnaire import Block, Instrument, Item

_INK, _SOFT, _LINE, _EDGE, _SHADE = "#1f2933", "#52606d", "#2b5c8a", "#8593a3", "#e6ecf3"
_PAUSE, _END, _DONE = ("#fdf5dc", "#a8862c"), ("#fbeaea", "#a85d5d"), ("#e7f4ea", "#4a8a5a")
_STEP, _FRAME = ("#ffffff", "#8593a3"), ("#f5f7fa", "#8593a3")

_MARGIN = 24
_BOX = 236  # width of a box
_NUMBER = 44  # of its part with the official number
_LEADING = 16  # from one line of text to the next
_HEAD = 32  # height of a block's head
_LANE = 11  # from one skip line to the next
_CHANNEL = 30  # between two columns
_SPINE = 22  # where the way down runs, from the left of a box
_EM = 0.58  # width of an average letter of the widest common system font
_EM_BOLD = 0.61

_Target = int | str  # an item's index, "foot" of the column, or a disposition
_WAYS_ON = "foot"


@dataclass
class _Canvas:
    """Shapes in three layers: what lies under, lines, boxes with their text."""

    under: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, *, size: int = 12, bold: bool = False, fill: str = _INK,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        weight = ' font-weight="600"' if bold else ""
        where = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self.boxes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{weight}{where}>{_xml(text)}</text>'
        )

    def line(self, *points: tuple[float, float], fill: str = _LINE, arrow: bool = False) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self.lines.append(f'<polyline points="{path}" fill="none" stroke="{fill}" stroke-width="1.3"{tip}/>')

    def pill(self, kind: str, x: float, y: float, text: str, look: tuple[str, str], width: float) -> None:
        self.boxes.append(_rect(kind, x, y, width, 26, look[0], look[1], round_=13))
        self.text(x + width / 2, y + 17, text, anchor="middle")


def _rect(
    kind: str, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none",
    *, round_: int = 4, dashed: bool = False, item: str = "",
) -> str:  # fmt: skip
    more = ' stroke-dasharray="6 4"' if dashed else ""
    more += f" data-item={quoteattr(item)}" if item else ""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_}"'
        f' fill="{fill}" stroke="{stroke}"{more}/>'
    )


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    return escape(_NOT_XML.sub("", text))


def _wrapped(text: str, width: float, size: int = 12, most: int = 40) -> list[str]:
    """Lines that fit `width`; a word too long is broken, and what does not fit `most` lines is cut."""
    room = max(4, int(width / (size * _EM)))
    lines = [""]
    for word in re.split("[ \t\n]+", text.strip()):  # not at a no-break space
        pieces = [word[n : n + room] for n in range(0, len(word), room)]
        for n, piece in enumerate(pieces):
            if lines[-1] and (n or len(lines[-1]) + 1 + len(piece) > room):
                lines.append(piece)
            else:
                lines[-1] = f"{lines[-1]} {piece}".strip(" ")
    if len(lines) > most:
        last = lines[most - 1]
        lines = [*lines[: most - 1], (last if len(last) < room else last[:-1]) + "…"]
    return lines


# ---------------------------------------------------------------- where answers lead


def _exits(
    instrument: Instrument, item: Item, block: Block, ways: dict[int | str, set[str]]
) -> tuple[bool, list[tuple[_Target, str]]]:
    """Whether the way leads down to the next box, and every other way: where to, and on which answers."""
    targets: dict[_Target, set[str]] = {}
    for to, marks in ways.items():
        inside: _Target = to if isinstance(to, str) or to in block.items else _WAYS_ON
        targets.setdefault(inside, set()).update(marks)
    below: _Target = item.index + 1 if item.index + 1 in block.items else _WAYS_ON
    exits = [
        (to, _on(item, marks, [m for t, m in targets.items() if t != to]))
        for to, marks in targets.items()
        if to != below
    ]
    return below in targets, sorted(exits, key=lambda e: (isinstance(e[0], str), e[0]))


def _on(item: Item, marks: set[str], others: Sequence[set[str]]) -> str:
    """The answers of an exit, in words."""
    names = answers_of(item)
    if marks == names.keys():
        return "otherwise" if others else "any answer"
    words = [name for mark, name in names.items() if mark in marks]
    if len(words) > 4:
        rest = [name for mark, name in names.items() if mark not in marks]
        words = ["other than " + ", ".join(rest)] if len(rest) < 4 else [*words[:3], f"{len(words) - 3} more"]
    depends = any(marks & other for other in others)
    return _unbroken(", ".join(words)) + (" (depends on earlier answers)" if depends else "")


def _unbroken(words: str) -> str:
    """Keeps the names of nonresponse together at the end of a line."""
    return words.replace("don't know", "don't\u00a0know").replace("not applicable", "not\u00a0applicable")


# ---------------------------------------------------------------- one column


@dataclass(frozen=True)
class _Column:
    left: float
    right: float  # lanes included
    bottom: float


def _column(
    canvas: _Canvas, instrument: Instrument, block: Block, ways: list[dict[int | str, set[str]]],
    left: float, top: float, foot: tuple[str, str, tuple[str, str]],
) -> _Column:  # fmt: skip
    """Draws a block with its left edge at `left`; `foot`: kind, text and look of what stands last."""
    right = left + _BOX
    canvas.boxes.append(_rect("block", left, top, _BOX, _HEAD, _INK))
    canvas.text(
        left + 12, top + 21, _wrapped(block.id, _BOX - 90, 15, most=1)[0], size=15, bold=True, fill="#ffffff"
    )
    count = f"{len(block.items)} item{'s' if len(block.items) > 1 else ''}"
    canvas.text(right - 12, top + 21, count, fill="#ffffff", anchor="end")

    bottom = y = top + _HEAD  # of the last shape, and of the last text under it
    down = True
    shade = 0.0
    entry: dict[_Target, float] = {}
    exits: list[tuple[_Target, float]] = []
    for place, index in enumerate(block.items):
        item = instrument.items[index]
        before = instrument.items[block.items[place - 1]].ask_if if place else None
        if item.ask_if and item.ask_if != before:
            shade = y + 12
            y = shade + 6
            for line in _wrapped("if " + _unbroken(condition_in_words(instrument, item)), _BOX - 38):
                y += _LEADING
                canvas.text(left + 36, y - 3, line, fill=_SOFT)
            y += 6
        else:
            y += 18
        if down:
            canvas.line((left + _SPINE, bottom), (left + _SPINE, y - 1), fill=_EDGE, arrow=True)
        height = _box(canvas, item, left, y)
        entry[index] = y + height / 2
        y = bottom = y + height
        down, others = _exits(instrument, item, block, ways[index])
        if others:
            trunk = right - 12
            y += 4
            for to, words in others:
                lines = _wrapped(words, _BOX - 56)
                for line in lines:
                    y += _LEADING
                    canvas.text(trunk - 8, y - 4, line, anchor="end", fill=_LINE)
                exits.append((to, y - 8))
            canvas.line((trunk, bottom), (trunk, y - 8))
            y += 2
        after = instrument.items[block.items[place + 1]].ask_if if place + 1 < len(block.items) else None
        if item.ask_if and item.ask_if != after:
            y += 8
            canvas.under.append(_rect("group", left - 8, shade, _BOX + 16, y - shade, _SHADE, round_=6))

    for disposition in sorted({to for to, _ in exits if isinstance(to, str) and to != _WAYS_ON}):
        y += 14
        canvas.pill("end", left + 46, y, f"end: {disposition}", _END, _BOX - 46)
        entry[disposition] = y + 13
        y += 26
    y += 18
    if down:
        canvas.line((left + _SPINE, bottom), (left + _SPINE, y - 1), fill=_EDGE, arrow=True)
    canvas.pill(foot[0], left, y, foot[1], foot[2], _BOX)
    entry[_WAYS_ON] = y + 13
    lanes = _skips(canvas, right, entry, exits)
    return _Column(left, right + 16 + _LANE * lanes, y + 26)


def _box(canvas: _Canvas, item: Item, left: float, y: float) -> float:
    """A box with the item's number, id and label; its height."""
    room = _BOX - _NUMBER - 14
    name = _id_lines(item.id, room)
    label = f" {item.label} ".replace(f" {item.number} ", " ", 1) if item.number else item.label
    lines = _wrapped(label, room, most=3)
    height = 14 + _LEADING * (len(name) + len(lines))
    routes = item.routes or bool(item.ends)
    stroke = _LINE if routes else _EDGE
    canvas.boxes.append(_rect("item", left, y, _BOX, height, "#ffffff", stroke, item=item.id))
    canvas.boxes.append(
        f'<path d="M{left + _NUMBER:g},{y:g} v{height:g}" stroke="{stroke}"'
        f' stroke-width="{2 if routes else 1}"/>'
    )
    size = 13 if len(item.number) < 5 else 11
    number = _wrapped(item.number or "–", _NUMBER - 6, size, most=1)[0]
    canvas.text(
        left + _NUMBER / 2, y + 20, number, size=size, bold=True, anchor="middle",
        fill=stroke if routes else _INK,
    )  # fmt: skip
    for n, line in enumerate([*name, *lines], 1):
        first = n <= len(name)
        canvas.text(left + _NUMBER + 9, y + 4 + _LEADING * n, line, bold=first, fill=_INK if first else _SOFT)
    return height


def _id_lines(name: str, width: float) -> list[str]:
    """An item's id in full, broken after its point where it does not fit, at any letter if it must."""
    room = int(width / (12 * _EM_BOLD))
    if len(name) <= room:
        return [name]
    point = name[:room].rfind(".") + 1 or room
    return [name[:point], *_id_lines(name[point:], width)]


def _skips(
    canvas: _Canvas, right: float, entry: dict[_Target, float], exits: list[tuple[_Target, float]]
) -> int:
    """The lines from exits to where they lead, one lane a target, short ones inside. Returns lanes."""
    spans = {to: min(y for t, y in exits if t == to) for to, _ in exits}
    taken: list[list[tuple[float, float]]] = []
    for to in sorted(spans, key=lambda t: (entry[t] - spans[t], entry[t])):
        top, low = spans[to], entry[to]
        lane = next(
            (n for n, used in enumerate(taken) if all(low < a or b < top for a, b in used)), len(taken)
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((top, low))
        x = right + 18 + _LANE * lane
        starts = [y for t, y in exits if t == to]
        canvas.line((right - 12, top), (x, top), (x, low), (right + 2, low), arrow=True)
        for y in starts[1:]:
            canvas.line((right - 12, y), (x, y))
            canvas.lines.append(f'<circle cx="{x:g}" cy="{y:g}" r="2.6" fill="{_LINE}"/>')
    return len(taken)


# ---------------------------------------------------------------- the picture


def draw_flow(instrument: Instrument) -> str:
    """The flow of the questionnaire as an SVG document. The same instrument gives the same picture."""
    canvas = _Canvas()
    ways = ways_on(instrument)
    drawn = [b for b in instrument.blocks if b.drawn]
    top = _words(canvas, instrument) + (58 if drawn else 18)
    way_in = top + _HEAD / 2
    x: float = _MARGIN + 8
    low = inside = frame = 0.0  # the lowest point; that of the drawn blocks; the left edge of their frame
    leaves: tuple[float, float] | None = None  # where the way on starts
    for block in instrument.blocks:
        if leaves is not None:
            turn, channel = leaves[1] + 14, x - 17
            canvas.line(
                leaves, (leaves[0], turn), (channel, turn), (channel, way_in), (x - 1, way_in), arrow=True
            )
            leaves = None
        if drawn and block is drawn[0]:
            frame = x
            x += 22
        column = _column(canvas, instrument, block, ways, x, top, _foot(instrument, block))
        low = max(low, column.bottom + 14)
        x = column.right + _CHANNEL
        if not block.drawn:
            leaves = (column.left + _SPINE, column.bottom)
            continue
        inside = max(inside, column.bottom + 22)
        if block is drawn[-1]:
            edge = column.right + 12
            look = _rect(
                "frame", frame, top - 42, edge - frame, inside - top + 42, *_FRAME, round_=10, dashed=True
            )
            canvas.under.insert(0, look)
            words = "in random order" + (", with a pause between any two" if len(drawn) > 1 else "")
            canvas.text(frame + 22, top - 16, words, size=13, bold=True)
            x = edge + _CHANNEL
            canvas.line((edge, way_in), (x - 1, way_in), arrow=True)
            if block is instrument.blocks[-1]:
                canvas.pill("end", x, top + 3, "complete", _DONE, 110)
                x += 110 + _CHANNEL
    width = max(x - _CHANNEL + _MARGIN, _room(instrument) + 2 * _MARGIN)
    return _document(instrument, canvas, width, max(low, inside) + _MARGIN)


def _foot(instrument: Instrument, block: Block) -> tuple[str, str, tuple[str, str]]:
    """What stands at the end of a column: kind, words, look."""
    if block.drawn:
        if sum(b.drawn for b in instrument.blocks) > 1:
            return "pause", "pause, then the next of these", _PAUSE
        return "step", "on to what follows", _STEP
    if block is instrument.blocks[-1]:
        return "end", "complete", _DONE
    after = instrument.blocks[block.index + 1]
    words = "on to the blocks in random order" if after.drawn else f"on to {after.id}"
    return "step", _wrapped(words, _BOX - 12, most=1)[0], _STEP


_LEGEND = (
    "A box is a question: its official number (– for none), its id, its label. It leads to the box below.",
    "Shaded: asked only under the condition written there. Blue: answers that lead elsewhere, and where to.",
    "A dot joins two lines; lines that cross without a dot do not meet.",
)


def _room(instrument: Instrument) -> float:
    """Width for the words above the picture, which is at least as wide."""
    return max(592, len(instrument.blocks) * (_BOX + 16 + _CHANNEL) - 2 * _MARGIN)


def _words(canvas: _Canvas, instrument: Instrument) -> float:
    """Title, source and legend; how far down they reach."""
    room = _room(instrument)
    y = 20.0
    for line in _wrapped(instrument.title, room, 21, most=3):
        y += 26
        canvas.text(_MARGIN, y, line, size=20, bold=True)
    for line in _wrapped(f"{instrument.reference} · {instrument.source}", room, 13, most=3):
        y += 20
        canvas.text(_MARGIN, y, line, size=13, fill=_SOFT)
    y += 10
    for sentence in _LEGEND:
        for line in _wrapped(sentence, room):
            y += 18
            canvas.text(_MARGIN, y, line, fill=_SOFT)
    return y


def _document(instrument: Instrument, canvas: _Canvas, width: float, height: float) -> str:
    blocks = "; ".join(
        f"{b.id} ({len(b.items)} item{'s' if len(b.items) > 1 else ''}{', drawn' if b.drawn else ''})"
        for b in instrument.blocks
    )
    desc = f"Flow of the questionnaire, block by block: {blocks}. Drawn blocks come in random order."
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
            f' height="{height:g}" role="img" aria-labelledby="flow-title flow-desc"'
            " font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif\">",
            f'<title id="flow-title">{_xml(instrument.title)}: flow</title>',
            f'<desc id="flow-desc">{_xml(desc)}</desc>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
            f' orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{_LINE}"/></marker></defs>',
            f'<rect class="paper" width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *canvas.under,
            *canvas.lines,
            *canvas.boxes,
            "</svg>",
            "",
        )
    )
