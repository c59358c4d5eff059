"""The one dictionary of variables, derived from the instrument: what each column is called, what was
asked, of whom, and what each code means, in every language.

Everything that names or explains a variable is made from here: the views and their comments, the codebook,
the labels and missing values of SPSS, Stata and Parquet files, the syntax files, DDI and Data Package.

Two lists:

    view_variables    the columns of interviews_wide, as the office reads them from its own database
    file_variables    the columns of a file that leaves the house, for scientific or for public use

They share the variables made from items. The files know respondents by ids of their own, say when an
interview began by the day (scientific) or the month (public), and hold no paradata. In files every
category is a whole number, because Stata can label nothing else; in views a group or a disposition is its
stable id. Where an answer is missing, files say why:

    not applicable, don't know, refused   the instrument's codes (97, 98, 99)
    not reached                           the interview was left before it (100)
    withheld                              taken out of the public file, so that nobody is recognised (101)
    empty                                 not asked: ruled out by earlier answers, or the block was not drawn

Five codes in a row make one range, all that an SPSS variable may declare missing beside a single value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flows.instrument import NONRESPONSE, Instrument, Item, Language
from flows.printed import condition_in_words
from storage.analysis.columns import INTERVIEW_COLUMNS, INTERVIEW_LABELS, LONG_LABELS

#: Stable id -> code in files, and what it means. Never renumber one: files of two waves are put together.
_DISPOSITIONS = {
    "complete": (1, "Complete"),
    "partial": (2, "Partial: left, the overall item of at least one service having an answer on its scale"),
    "break_off": (3, "Break-off: left before that"),
    "in_progress": (4, "In progress"),
    "refusal": (5, "No consent"),
    "ineligible": (6, "Not eligible"),
    "withdrawn": (7, "Withdrawn: its answers were erased"),
    "quota_full": (8, "Quota filled: its group had all the completes wanted"),
    "results_only": (9, "Saw the results only"),
}
_MODES = {"ussd": (1, "USSD"), "sms": (2, "SMS")}

SCIENTIFIC, PUBLIC = "scientific", "public"
VARIANTS = (SCIENTIFIC, PUBLIC)


class DictionaryError(ValueError):
    """The instrument cannot be laid out as columns. Says which item to change and how."""


@dataclass(frozen=True, slots=True)
class Code:
    """One value that a variable may hold. `missing`: it is no answer, and leaves the base."""

    value: int | str  # in views
    code: int  # in files
    labels: Mapping[str, str]  # language id -> text; every language of the instrument
    option: str = ""  # stable id of the answer
    iso: str = ""  # of a place, in ISO 3166-2
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """One column.

    kind: text | category (a code, see `codes`) | number | date (a day) | month (text YYYY-MM) | time.
    what, of an item: code | number | group | iso. measure: nominal | ordinal | scale.
    """

    name: str
    label: str
    kind: str
    what: str = ""
    item: Item | None = None
    question: Mapping[str, str] = field(default_factory=dict)  # language id -> wording; of an item
    universe: str = ""  # who was asked; "" = every interview
    codes: tuple[Code, ...] = ()
    measure: str = "nominal"
    least: int | None = None  # of a number
    most: int | None = None
    whole: bool = True  # of a number: no fraction

    @property
    def missing(self) -> tuple[Code, ...]:
        return tuple(c for c in self.codes if c.missing)

    def label_of(self, code: int | None, language: str) -> str:
        """The words for a code in a file; "" for none."""
        return next((c.labels[language] for c in self.codes if c.code == code), "")


def missing_codes(instrument: Instrument) -> dict[str, int]:
    """Reason -> code in files: the instrument's three, then not reached and withheld, the next two up.

    Raises DictionaryError where an option of a scale has a code between or upon them.
    """
    least, most = min(instrument.codes.values()), max(instrument.codes.values()) + 2
    for scale in instrument.scales.values():
        for option in scale.options:
            if least <= option.code <= most:
                raise DictionaryError(
                    f"scales.{scale.id}: option {option.id} has the code {option.code}; {least} to {most} are"
                    " kept for missing answers in files: give it another one"
                )
    return {**instrument.codes, "not_reached": most - 1, "withheld": most}


_MORE_REASONS = {
    "not_reached": {"en": "Not reached", "fr": "Non atteinte"},
    "withheld": {"en": "Withheld", "fr": "Non communiqué"},
}


def wide_columns(instrument: Instrument) -> dict[str, tuple[Item, str]]:
    """Columns of interviews_wide made from items: name -> item and what of it.

    What: code, number, group, iso. Raises DictionaryError where two items make the same column.
    """
    columns: dict[str, tuple[Item, str]] = {}
    for item in instrument.items:
        made = [(item.column, "code")]
        if item.kind == "number":
            made = [(item.column, "number"), (f"{item.column}_nonresponse", "code")]
            if item.groups:
                made.append(("age_group" if item.role == "age" else f"{item.column}_group", "group"))
        if item.scale is not None and any(o.iso for o in item.scale.options):
            made.append((f"{item.column}_iso", "iso"))
        for name, what in made:
            if name in columns or name in INTERVIEW_COLUMNS:
                raise DictionaryError(f"item {item.id}: the column {name} is taken; give the item another id")
            columns[name] = (item, what)
    return columns


# ---------------------------------------------------------------- variables of items


def _every(instrument: Instrument, label: str | Mapping[str, str]) -> dict[str, str]:
    """The same words in every language, or those of each, English where one has none."""
    if isinstance(label, str):
        return dict.fromkeys(instrument.languages, label)
    return {name: label.get(name, label["en"]) for name in instrument.languages}


def wordings(instrument: Instrument, item: Item, values: Mapping[str, str]) -> dict[str, str]:
    """What was asked, as written; `{owner}` and its like filled in where `values` knows them."""

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    return {name: filled(words.items[item.id].text) for name, words in instrument.languages.items()}


def _labels(instrument: Instrument, item: Item, option: str) -> dict[str, str]:
    def label(words: Language) -> str:
        if option in NONRESPONSE:
            return words.prompts[option]
        assert item.scale is not None
        return words.options[item.scale.id][option]

    return {name: label(words) for name, words in instrument.languages.items()}


def _codes(instrument: Instrument, item: Item, what: str) -> tuple[Code, ...]:
    """Every value that the column may hold in views."""
    if what == "number":
        return ()
    if what == "group":
        return tuple(
            Code(
                group.id,
                n,
                {
                    name: words.groups.get(item.id, {}).get(group.id, group.id)
                    for name, words in instrument.languages.items()
                },
                option=group.id,
            )
            for n, group in enumerate(item.groups, 1)
        )
    codes = [
        Code(o.code if what == "code" else o.iso, o.code, _labels(instrument, item, o.id), o.id, o.iso)
        for o in (item.scale.options if item.scale else ())
        if what == "code" or o.iso
    ]
    if what == "code":  # a reason for no answer is no place
        codes += [
            Code(instrument.codes[n], instrument.codes[n], _labels(instrument, item, n), n, missing=True)
            for n in NONRESPONSE
            if n in item.nonresponse
        ]
    return tuple(codes)


#: Roles whose answers run from one end to the other.
_ORDERED = ("attribute", "overall", "disability")


def _of_item(instrument: Instrument, name: str, item: Item, what: str, values: Mapping[str, str]) -> Variable:
    label = item.label
    if what == "group":
        label += ", in groups"
    elif what == "iso":
        label += ", ISO 3166-2"
    elif what == "code" and item.kind == "number":
        label += ": why there is no number"
    ordered = what == "group" or (what == "code" and item.role in _ORDERED)
    universe = condition_in_words(instrument, item)
    block = instrument.blocks[item.block]
    if block.drawn:
        given = f"respondents given the block {block.id}"
        universe = f"{given}, if {universe}" if universe else given
    elif universe:
        universe = f"respondents with {universe}"
    return Variable(
        name,
        label,
        "number" if what == "number" else "category",
        what,
        item,
        wordings(instrument, item, values),
        universe,
        _codes(instrument, item, what),
        "scale" if what == "number" else "ordinal" if ordered else "nominal",
        item.least if what == "number" else None,
        item.most if what == "number" else None,
    )


def item_variables(instrument: Instrument, values: Mapping[str, str] | None = None) -> tuple[Variable, ...]:
    """The columns made from items, in the questionnaire's order.

    values: what a wave inserts into texts (owner, contact, code); without it they keep their braces.
    """
    return tuple(
        _of_item(instrument, name, item, what, values or {})
        for name, (item, what) in wide_columns(instrument).items()
    )


# ---------------------------------------------------------------- the two lists


def _coded(instrument: Instrument, codes: Mapping[str, tuple[int, str]]) -> tuple[Code, ...]:
    return tuple(
        Code(value, code, _every(instrument, label), option=value) for value, (code, label) in codes.items()
    )


def view_variables(instrument: Instrument) -> tuple[Variable, ...]:
    """The columns of interviews_wide, in its order."""
    out = []
    for name, label in INTERVIEW_LABELS.items():
        if name == "disposition":
            out.append(Variable(name, label, "category", codes=_coded(instrument, _DISPOSITIONS)))
        else:
            out.append(Variable(name, label, "time" if name.endswith("_at") else "text"))
    return (*out, *item_variables(instrument))


def file_variables(
    instrument: Instrument,
    variant: str = SCIENTIFIC,
    *,
    final: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> tuple[Variable, ...]:
    """The columns of the wide file of `variant`, in its order.

    final: columns of final weights, with their labels. Raises DictionaryError where a column cannot be made.
    """
    reasons = missing_codes(instrument)
    ours = [
        *_head(instrument, variant, final or {}),
        *(
            _with_reasons(instrument, v, variant, reasons)
            for v in item_variables(instrument, values)
            if _leaves(v, variant)
        ),
    ]
    names = [v.name for v in ours]
    for v in ours:
        if names.count(v.name) > 1:
            raise DictionaryError(f"two variables are called {v.name}; give the item {v.name} another id")
    return tuple(ours)


def _head(instrument: Instrument, variant: str, final: Mapping[str, str]) -> list[Variable]:
    """What a file says of the interview as such."""
    head = [Variable("interview", "Interview, by an id of this file's own", "text")]
    if variant == SCIENTIFIC:
        head.append(Variable("respondent", "Respondent, by an id of this file's own", "text"))
    head.append(Variable("wave", INTERVIEW_LABELS["wave"], "text"))
    if variant == SCIENTIFIC:
        head += [
            Variable("instrument", INTERVIEW_LABELS["instrument"], "text"),
            Variable("language", INTERVIEW_LABELS["language"], "text"),
        ]
    head.append(Variable("mode", INTERVIEW_LABELS["mode"], "category", codes=_coded(instrument, _MODES)))
    if variant == SCIENTIFIC:
        head.append(Variable("began_on", "Day on which the interview began, UTC", "date", measure="scale"))
    else:
        head.append(Variable("began_month", "Month in which the interview began, UTC", "month"))
    kept = PUBLIC_DISPOSITIONS if variant == PUBLIC else [d for d in _DISPOSITIONS if d != "withdrawn"]
    stands = {name: _DISPOSITIONS[name] for name in kept}
    head.append(
        Variable("disposition", INTERVIEW_LABELS["disposition"], "category", codes=_coded(instrument, stands))
    )
    if variant == SCIENTIFIC:
        head.append(Variable("stratum", "Stratum of the sample that the respondent was drawn from", "text"))
    head.append(_weight("weight_base", "Base weight: 1 over the probability of being asked at all"))
    head += [
        _weight(f"weight_{block.id}", f"Base weight for the block {block.id}: over its probability too",
                f"respondents given the block {block.id}")
        for block in instrument.blocks
        if block.drawn
    ]  # fmt: skip
    head += [_weight(name, label) for name, label in final.items()]
    return head


def is_final_weight(name: str) -> bool:
    """Whether the column of a file holds a final weight: one for all, or one a block."""
    return name == "weight" or name.startswith("final_weight_")


#: What stays out of the public file: the rest has no answer of the kind that the file is for.
PUBLIC_DISPOSITIONS = ("complete", "partial")


def _weight(name: str, label: str, universe: str = "") -> Variable:
    return Variable(name, label, "number", universe=universe, measure="scale", whole=False)


def _leaves(variable: Variable, variant: str) -> bool:
    """Whether the variable goes into files of `variant`. A place's ISO code stands in the codebook."""
    item = variable.item
    if item is None or variable.what == "iso":
        return False
    if variant == PUBLIC:  # sensitive items and exact numbers tell people apart; groups hold the reasons
        return not item.sensitive and (item.kind != "number" or variable.what == "group")
    return True


#: Roles of the variables that tell who somebody is; the public file has no small cell of these.
KEY_ROLES = ("region", "age", "sex")


def key_variables(variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """Region, age group and sex, in this order, as far as the file has them."""
    return tuple(
        v
        for role in KEY_ROLES
        for v in variables
        if v.item is not None and v.item.role == role and (role != "age" or v.what == "group")
    )


def _with_reasons(
    instrument: Instrument, variable: Variable, variant: str, reasons: Mapping[str, int]
) -> Variable:
    """The variable with what files add to its codes."""
    if variable.what == "number":
        return variable
    codes = list(variable.codes)
    added = [] if variable.item is None else ["not_reached"]
    if variable.what == "group" and variable.item is not None:
        # In the views a group without a number is empty, and the reason stands beside it.
        codes += [
            Code(instrument.codes[n], instrument.codes[n], _labels(instrument, variable.item, n), n,
                 missing=True)
            for n in NONRESPONSE
            if n in variable.item.nonresponse
        ]  # fmt: skip
    if variant == PUBLIC and variable.item is not None and variable.item.role in KEY_ROLES:
        added.append("withheld")
    codes += [
        Code(reasons[n], reasons[n], _every(instrument, _MORE_REASONS[n]), n, missing=True) for n in added
    ]
    return replace(variable, codes=tuple(codes))


def long_variables(instrument: Instrument, variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """The columns of the long file that goes with the wide file of `variables`: a row a value of an item."""
    head = tuple(v for v in variables if v.name in ("interview", "respondent", "wave"))
    return (
        *head,
        Variable("variable", "Its column in the wide file", "text"),
        Variable("item", "Item that was answered", "text"),
        Variable("service", LONG_LABELS["service"][1], "text"),
        Variable("attribute", LONG_LABELS["attribute"][1], "text"),
        Variable("code", "The code, as in the wide file; empty for a number", "number"),
        Variable("number", "The number given, of an item that asks for one", "number"),
        Variable("missing", "1: a reason why there is no answer", "number"),
        Variable("answer", "The code in words", "text"),
    )
