"""Reading an instrument, and every check that needs only its own files: all faults at once.

    questionnaire.toml   what is asked, in what order, under which conditions, with which codes
    en.toml, fr.toml, .. one text file a language, the same keys in each

`load` reads a folder, `parse` the same texts from memory (a live interview goes on with the
version it began with, which then comes from the live store).
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows import gsm
from flows.questionnaire import (
    DISPOSITIONS_BY_ANSWER,
    FIXED_WORDS,
    ITEM_VALUES,
    MARK_NONRESPONSE,
    NONRESPONSE,
    NONRESPONSE_MARKS,
    NUMBER_GIVEN,
    POSITIONS,
    PROMPTS,
    PROMPTS_ADDED,
    ROLES,
    UNANSWERED,
    Block,
    Condition,
    Fault,
    Group,
    Instrument,
    InstrumentError,
    Item,
    ItemText,
    Language,
    Option,
    Scale,
)

__all__ = [
    "MARK_NONRESPONSE", "NONRESPONSE", "NONRESPONSE_MARKS", "NUMBER_GIVEN", "PROMPTS", "UNANSWERED",
    "Block", "Fault", "Group", "Instrument", "InstrumentError", "Item", "ItemText", "Language", "Option",
    "Scale", "load", "parse",
]  # fmt: skip

_ISO = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}\Z")  # ISO 3166-2
_ID = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?\Z")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def load(folder: Path) -> Instrument:
    """The instrument in `folder`, with what its README.md says of deviations from the official one.

    Raises InstrumentError listing every fault with file and key.
    """
    main = folder / "questionnaire.toml"
    if not main.is_file():
        raise InstrumentError([Fault(str(main), "-", "not found; an instrument needs this file")])
    sources: dict[str, str] = {}
    told = folder / "README.md"
    for path in (*sorted(folder.glob("*.toml")), *([told] if told.is_file() else ())):
        try:
            sources[path.name] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InstrumentError([Fault(path.name, "-", f"cannot be read: {error}")]) from None
    deviations = sources.pop(told.name, "")
    return replace(parse(sources), deviations=deviations)


def parse(sources: Mapping[str, str], *, fielded: bool = False) -> Instrument:
    """The instrument from its files' texts, by file name. Raises InstrumentError.

    `fielded`: a version that a store has kept, which may lack what the format has gained since.
    """
    return _Reader(sources, fielded).read()


class _Reader:
    """Collects faults while it builds; nothing is returned while there is one."""

    def __init__(self, sources: Mapping[str, str], fielded: bool):
        self.sources = dict(sorted(sources.items()))
        self.fielded = fielded
        self.faults: list[Fault] = []
        self.file = ""

    def fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(self.file, key, message))

    def stop_on_faults(self) -> None:
        if self.faults:
            raise InstrumentError(self.faults)

    def get(self, table: Any, key: str, kind: type, where: str, default: Any = None) -> Any:
        """`table[key]` if it is of `kind`; a fault and an empty value otherwise."""
        value = table.get(key, default) if isinstance(table, dict) else default
        if value is None:
            self.fault(f"{where}.{key}", f"missing; give a {kind.__name__}")
            return kind()
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fault(f"{where}.{key}", f"must be a {kind.__name__}")
            return kind()
        return value

    def unknown(self, table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
        for key in table.keys() - set(allowed):
            self.fault(f"{where}.{key}", f"unknown; known here: {', '.join(sorted(allowed))}")

    def toml(self, name: str) -> dict[str, Any]:
        self.file = name
        try:
            return tomllib.loads(self.sources[name])
        except tomllib.TOMLDecodeError as error:
            self.fault("-", f"not TOML: {error}")
            return {}

    # ---- questionnaire.toml

    def read(self) -> Instrument:
        data = self.toml("questionnaire.toml")
        self.stop_on_faults()
        self.unknown(data, ("instrument", "nonresponse", "scales", "blocks"), "top level")
        head = self.get(data, "instrument", dict, "top level")
        names = ("id", "version", "title", "source", "consent_version", "reference_months",
                 "default_language", "languages")  # fmt: skip
        self.unknown(head, names, "instrument")
        text = {
            name: self.get(head, name, str, "instrument")
            for name in names
            if name not in ("reference_months", "languages")
        }
        months = self.get(head, "reference_months", int, "instrument")
        codes = self.get(data, "nonresponse", dict, "top level")
        whole = {code for code in codes.values() if type(code) is int}
        if sorted(codes) != sorted(NONRESPONSE) or len(whole) != 3:
            self.fault("nonresponse", f"give three different codes: {', '.join(NONRESPONSE)}")
        scales = {
            name: scale
            for name, rows in self.get(data, "scales", dict, "top level").items()
            if (scale := self.scale(name, rows, whole)) is not None
        }
        blocks, items = self.blocks(self.get(data, "blocks", list, "top level"), scales)
        for scale in scales.keys() - {i.scale.id for i in items if i.scale}:
            self.fault(f"scales.{scale}", "no item uses it; remove it")
        self.stop_on_faults()
        languages = self.languages(self.get(head, "languages", list, "instrument"), scales, items)
        if text["default_language"] not in languages:
            self.file = "questionnaire.toml"
            self.fault("instrument.default_language", "is not among instrument.languages")
        self.stop_on_faults()
        digest = sha256("\0".join(f"{k}\0{v}" for k, v in self.sources.items()).encode()).hexdigest()
        return Instrument(
            **text,
            reference_months=months,
            codes=codes,
            scales=scales,
            blocks=blocks,
            items=items,
            by_id={i.id: i for i in items},
            languages=languages,
            sources=self.sources,
            digest=digest,
        )

    def scale(self, name: str, rows: Any, taken: set[int]) -> Scale | None:
        where = f"scales.{name}"
        if not isinstance(rows, list) or not 2 <= len(rows) <= len(POSITIONS):
            self.fault(where, f"give a list of 2 to {len(POSITIONS)} options")
            return None
        options: list[Option] = []
        for n, row in enumerate(rows):
            at = f"{where}[{n + 1}]"
            option = Option(
                self.get(row, "id", str, at), self.get(row, "code", int, at), POSITIONS[n],
                self.get(row, "iso", str, at, ""),
            )  # fmt: skip
            if isinstance(row, dict):
                self.unknown(row, ("id", "code", "iso"), at)
                if "iso" in row and not _ISO.match(option.iso):
                    self.fault(f"{at}.iso", f"{option.iso!r} must be a code of ISO 3166-2, like GH-AA")
            if option.id in NONRESPONSE or not _ID.match(option.id):
                self.fault(f"{at}.id", f"{option.id!r} must be lower case and not a nonresponse name")
            if option.id in {o.id for o in options} or option.code in {o.code for o in options}:
                self.fault(at, "its id or code stands twice on this scale")
            if option.iso and option.iso in {o.iso for o in options}:
                self.fault(f"{at}.iso", f"{option.iso} stands twice on this scale")
            if option.code in taken:
                self.fault(f"{at}.code", f"{option.code} is a nonresponse code")
            options.append(option)
        return Scale(name, tuple(options))

    def blocks(
        self, rows: list[Any], scales: Mapping[str, Scale]
    ) -> tuple[tuple[Block, ...], tuple[Item, ...]]:
        blocks: list[Block] = []
        items: list[Item] = []
        drawn_ended = False
        for n, row in enumerate(rows):
            where = f"blocks[{n + 1}]"
            name = self.get(row, "id", str, where)
            if not _ID.match(name) or name in {b.id for b in blocks}:
                self.fault(f"{where}.id", f"{name!r} must be lower case and stand once")
            where = f"blocks.{name}"
            self.unknown(row if isinstance(row, dict) else {}, ("id", "drawn", "items"), where)
            drawn = self.get(row, "drawn", bool, where, False)
            if drawn and drawn_ended:
                self.fault(f"{where}.drawn", "drawn blocks must stand together")
            drawn_ended = drawn_ended or (not drawn and any(b.drawn for b in blocks))
            first = len(items)
            for entry in self.get(row, "items", list, where):
                self.item(entry, len(blocks), items, blocks, scales)
            if len(items) == first:
                self.fault(f"{where}.items", "a block needs at least one item")
            blocks.append(Block(len(blocks), name, tuple(range(first, len(items))), drawn))
        if len(items) and items[0].role != "consent":
            self.fault(f"items.{items[0].id}", "the first item must have role consent")
        if sum(i.role == "consent" for i in items) != 1:
            self.fault("blocks", "exactly one item must have role consent")
        routing = {index for i in items for every in i.ask_if for index, _ in every}
        return tuple(blocks), tuple(replace(i, routes=i.index in routing) for i in items)

    def item(
        self,
        row: Any,
        block: int,
        items: list[Item],
        blocks: list[Block],
        scales: Mapping[str, Scale],
    ) -> None:
        name = self.get(row, "id", str, f"items[{len(items) + 1}]")
        where = f"items.{name}"
        if not isinstance(row, dict):
            return
        self.unknown(
            row,
            ("id", "kind", "role", "label", "scale", "min", "max", "groups", "number", "service",
             "attribute", "nonresponse", "ask_if", "ends", "skips_block", "sensitive"),
            where,
        )  # fmt: skip
        if not _ID.match(name) or name in {i.id for i in items}:
            self.fault(f"{where}.id", f"{name!r} must be lower case, a.b at most, and stand once")
        kind = self.get(row, "kind", str, where, "choice")
        role = self.get(row, "role", str, where)
        if role not in ROLES:
            self.fault(f"{where}.role", f"{role!r} is unknown; known: {', '.join(sorted(ROLES))}")
        scale = None
        least = most = 0
        if kind == "choice":
            scale = scales.get(self.get(row, "scale", str, where))
            if scale is None:
                self.fault(f"{where}.scale", f"unknown; known: {', '.join(sorted(scales))}")
        elif kind == "number":
            least, most = self.get(row, "min", int, where), self.get(row, "max", int, where)
            if not 1 <= least < most:
                self.fault(f"{where}.min", "must be at least 1 (0 is the Back key) and below max")
        else:
            self.fault(f"{where}.kind", f"{kind!r} must be choice or number")
        option_ids = {o.id for o in scale.options} if scale else set()
        nonresponse = tuple(self.get(row, "nonresponse", list, where, ["dont_know", "refused"]))
        for reason in nonresponse:
            if reason not in NONRESPONSE:
                self.fault(f"{where}.nonresponse", f"{reason!r} must be one of {', '.join(NONRESPONSE)}")
        ends = self.get(row, "ends", dict, where, {})
        for option, disposition in ends.items():
            if option not in option_ids or str(disposition) not in DISPOSITIONS_BY_ANSWER:
                self.fault(f"{where}.ends", f"{option!r} must be an option, its value refusal or ineligible")
        skips = self.get(row, "skips_block", str, where, "")
        if skips and skips not in option_ids:
            self.fault(f"{where}.skips_block", f"{skips!r} is not an option of this item")
        items.append(
            Item(
                index=len(items), id=name, block=block, kind=kind, role=role, scale=scale,
                label=self.get(row, "label", str, where), least=least, most=most,
                groups=self.groups(row.get("groups", []), where),
                number=self.get(row, "number", str, where, ""),
                service=self.get(row, "service", str, where, ""),
                attribute=self.get(row, "attribute", str, where, ""),
                nonresponse=tuple(n for n in NONRESPONSE if n in nonresponse),
                ask_if=self.conditions(row.get("ask_if", []), where, block, items, blocks),
                ends=ends, skips_block=skips,
                sensitive=self.get(row, "sensitive", bool, where, False),
            )
        )  # fmt: skip

    def groups(self, rows: Any, where: str) -> tuple[Group, ...]:
        if not isinstance(rows, list):
            self.fault(f"{where}.groups", "must be a list of tables: [{ id = '..', min = 18, max = 24 }, ..]")
            return ()
        groups = []
        for n, row in enumerate(rows):
            at = f"{where}.groups[{n + 1}]"
            table = row if isinstance(row, dict) else {}
            self.unknown(table, ("id", "min", "max"), at)
            most = self.get(table, "max", int, at) if "max" in table else None  # the last one may be open
            groups.append(Group(self.get(row, "id", str, at), self.get(row, "min", int, at), most))
        return tuple(groups)

    def conditions(
        self, rows: Any, where: str, block: int, items: list[Item], blocks: list[Block]
    ) -> tuple[Condition, ...]:
        """`ask_if`: a list of tables, any of which suffices; in a table every entry must hold."""
        if not isinstance(rows, list):
            self.fault(f"{where}.ask_if", "must be a list of tables: [{ 'item' = ['option', ...] }, ...]")
            return ()
        known = {i.id: i for i in items}
        out: list[Condition] = []
        for n, row in enumerate(rows):
            at = f"{where}.ask_if[{n + 1}]"
            every: list[tuple[int, str]] = []
            for name, wanted in (row if isinstance(row, dict) else {}).items():
                item = known.get(name)
                if item is None:
                    self.fault(at, f"{name!r} is not an earlier item; skips only go forward")
                    continue
                if item.block != block and blocks[item.block].drawn:
                    self.fault(at, f"{name!r} is in a block whose place is drawn; it may come later")
                marks = {o.id: o.mark for o in item.scale.options} if item.scale else {}
                marks |= {name: NONRESPONSE_MARKS[name] for name in item.nonresponse}
                if item.kind == "number":
                    marks["given"] = NUMBER_GIVEN
                if not isinstance(wanted, list) or not wanted or set(map(str, wanted)) - marks.keys():
                    self.fault(at, f"{name}: give a list out of {', '.join(marks)}")
                    continue
                every.append((item.index, "".join(marks[w] for w in wanted)))
            if not every:
                self.fault(at, "must name at least one item")
            out.append(tuple(every))
        return tuple(out)

    # ---- one text file a language

    def languages(
        self, names: list[Any], scales: Mapping[str, Scale], items: tuple[Item, ...]
    ) -> dict[str, Language]:
        expected = {"questionnaire.toml"} | {f"{n}.toml" for n in names}
        self.file = "questionnaire.toml"
        for name in self.sources.keys() - expected:
            self.fault("instrument.languages", f"{name} stands in the folder but is not listed")
        out = {}
        for name in names:
            self.file = f"{name}.toml"
            if self.file not in self.sources:
                self.fault("-", "file not found, but listed in instrument.languages")
                continue
            out[str(name)] = self.language(str(name), scales, items)
        return out

    def language(self, name: str, scales: Mapping[str, Scale], items: tuple[Item, ...]) -> Language:
        before = len(self.faults)
        data = self.toml(f"{name}.toml")
        if len(self.faults) > before:
            return Language(name, "", "", "", {}, {}, {})
        self.unknown(
            data, ("language", "prompts", "words", "services", "scales", "items", "groups"), "top level"
        )
        head = self.get(data, "language", dict, "top level")
        self.unknown(head, ("id", "name", "iso639_3", "status", "decimal"), "language")
        if self.get(head, "id", str, "language") != name:
            self.fault("language.id", f"must be {name!r}, like the file's name")
        status = self.get(head, "status", str, "language")
        if status not in ("draft", "reviewed"):
            self.fault("language.status", "must be draft or reviewed")
        decimal = self.get(head, "decimal", str, "language", ".")
        if decimal not in (".", ","):
            self.fault(
                "language.decimal", f"{decimal!r} must be . or , which stands in figures: 61.5 or 61,5"
            )
        table = self.get(data, "prompts", dict, "top level")
        lacking = PROMPTS_ADDED - table.keys() if self.fielded else frozenset()
        prompts = self.texts(table, [p for p in PROMPTS if p not in lacking], "prompts")
        for key, allowed in PROMPTS.items():
            self.insertions(prompts.get(key, ""), allowed, f"prompts.{key}")
        table = self.get(data, "scales", dict, "top level")
        self.unknown(table, scales, "scales")
        options = {
            scale.id: self.texts(
                self.get(table, scale.id, dict, "scales"), [o.id for o in scale.options], f"scales.{scale.id}"
            )
            for scale in scales.values()
        }
        for scale_id, labels in options.items():
            seen: dict[str, str] = {}
            for option, label in labels.items():
                if (other := seen.setdefault(label.casefold(), option)) != option:
                    self.fault(f"scales.{scale_id}.{option}", f"reads like {other}; options must differ")
        table = self.get(data, "groups", dict, "top level", {})
        grouped = {i.id: [g.id for g in i.groups] for i in items if i.groups}
        self.unknown(table, grouped, "groups")
        groups = {
            key: self.texts(self.get(table, key, dict, "groups"), ids, f"groups.{key}")
            for key, ids in grouped.items()
        }
        table = self.get(data, "items", dict, "top level")
        self.unknown(table, [i.id for i in items], "items")
        texts = {i.id: self.item_text(self.get(table, i.id, dict, "items"), f"items.{i.id}") for i in items}
        words = self.words(self.get(data, "words", dict, "top level", {}))
        return Language(
            name, self.get(head, "name", str, "language"), self.get(head, "iso639_3", str, "language"),
            status, prompts, texts, options, groups, words, self.services(data, items), decimal,
        )  # fmt: skip

    def services(self, data: Mapping[str, Any], items: tuple[Item, ...]) -> dict[str, str]:
        """What a service is called where its figure is shown. `check` misses those that have none."""
        table = self.get(data, "services", dict, "top level", {})
        known = dict.fromkeys(i.service for i in items if i.service)
        self.unknown(table, known, "services")
        return self.texts(table, [service for service in known if service in table], "services")

    def words(self, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """What may be texted for each command, in any script."""
        self.unknown(table, FIXED_WORDS, "words")
        out = {}
        for command in FIXED_WORDS:
            words = self.get(table, command, list, "words", [])
            if not all(isinstance(w, str) and w.strip() == w != "" for w in words):
                self.fault(f"words.{command}", "must be a list of texts, none empty or with blanks around it")
            elif len({w.casefold() for w in words}) != len(words):
                self.fault(f"words.{command}", "one of them stands twice")
            else:
                out[command] = tuple(words)
        return out

    def texts(self, table: Mapping[str, Any], keys: Iterable[str], where: str) -> dict[str, str]:
        keys = list(keys)
        self.unknown(table, keys, where)
        return {key: self.phrase(self.get(table, key, str, where), f"{where}.{key}") for key in keys}

    def item_text(self, row: Mapping[str, Any], where: str) -> ItemText:
        self.unknown(row, ("text", "detail", "ussd", "sms"), where)
        text = self.get(row, "text", str, where)
        own = {key: self.get(row, key, str, where, "") for key in ("detail", "ussd", "sms")}
        # An author's own form stands in for folding, so only the form that is shown must fit.
        for key, value in {"text": own["ussd"] or text, **own}.items():
            if key == "text" or value:
                self.phrase(value, f"{where}.{key}")
            self.insertions(value, ITEM_VALUES, f"{where}.{key}")
        return ItemText(text, **own)

    def insertions(self, text: str, allowed: frozenset[str], where: str) -> None:
        """What a text inserts must be known, and no other brace may stand in it."""
        for value in sorted(set(_PLACEHOLDER.findall(text)) - allowed):
            self.fault(where, f"may not insert {{{value}}}; allowed: {sorted(allowed)}")
        if re.search("[{}]", _PLACEHOLDER.sub("", text)):
            self.fault(where, "a brace that encloses no name; write { } only around a value to insert")

    def phrase(self, text: str, where: str) -> str:
        if not text.strip() or text != text.strip():
            self.fault(where, "is empty, or begins or ends with white space")
        for c in gsm.unencodable(gsm.fold(text)):
            self.fault(
                where, f"{c!r} (U+{ord(c):04X}) is not in GSM 03.38 and does not fold; write it otherwise"
            )
        return text
