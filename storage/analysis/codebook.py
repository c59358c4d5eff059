"""The codebook: what each variable of the wide and the long file is and what each of its codes means.

One row a variable and code; a variable without codes (an id, a time, a number) has one row. `option` is
the answer's stable id behind a code, the same as in the long file; `iso` its place in ISO 3166-2.
"""

from collections.abc import Iterator

from flows.instrument import NONRESPONSE, Instrument, Item
from storage.analysis.views import INTERVIEW_COLUMNS, wide_columns

COLUMNS = (
    "file", "variable", "label", "type", "question", "service", "attribute", "role", "option", "code", "iso",
    "code_label", "nonresponse",
)  # fmt: skip

_INTERVIEW_LABELS = {
    "interview": "Interview",
    "respondent": "Respondent, by pseudonym: a keyed hash of the number dialled from",
    "wave": "Wave: one fielding period",
    "instrument": "Instrument and version",
    "language": "Language, as last chosen",
    "mode": "Mode in which it began",
    "aggregator": "Aggregator through which it began; simulator: made up, nobody dialled",
    "blocks": "Blocks in the order drawn for this respondent",
    "probabilities": "JSON: probability with which each drawn block was selected",
    "item_order": "Attribute items in the order drawn; empty: questionnaire order",
    "disposition": "How the interview stands",
    "began_at": "First hop, UTC",
    "last_at": "Last hop, UTC",
    "ended_at": "End of the interview, UTC; empty if it did not come to one",
    "last_item": "Item on the last screen shown",
    "last_stage": "Stage of the last screen shown",
    "consented_at": "Consent given, UTC",
    "consent_version": "Version of the consent text",
}
_INTERVIEW_CODES = {
    "disposition": {
        "in_progress": "In progress",
        "complete": "Complete",
        "partial": "Partial: left, the overall item of at least one service having an answer on its scale",
        "break_off": "Break-off: left before that",
        "refusal": "No consent",
        "ineligible": "Not eligible",
        "results_only": "Saw the results only",
        "quota_full": "Quota filled: its group had all the completes wanted",
        "withdrawn": "Withdrawn: its answers were erased",
    },
}
_LONG_LABELS = {
    "interview": ("text", "Interview"),
    "respondent": ("text", _INTERVIEW_LABELS["respondent"]),
    "wave": ("text", _INTERVIEW_LABELS["wave"]),
    "instrument": ("text", _INTERVIEW_LABELS["instrument"]),
    "aggregator": ("text", _INTERVIEW_LABELS["aggregator"]),
    "item": ("text", "Item that was answered"),
    "position": ("number", "The item's place in the questionnaire, from 0"),
    "question": ("text", "Number in the official questionnaire"),
    "block": ("text", "Block of the item"),
    "service": ("text", "Service that the item is about"),
    "attribute": ("text", "Attribute of the service"),
    "role": ("text", "What the item is for"),
    "item_label": ("text", "The item in words"),
    "option": ("text", "The answer's stable id; empty for a number"),
    "code": ("number", "The answer's code, as in the wide file; empty for a number"),
    "value": ("number", "The number given, of an item that asks for one"),
    "option_label": ("text", "The answer in words"),
    "iso": ("text", "The place answered, in ISO 3166-2"),
    "nonresponse": ("number", "1: not applicable, don't know or refused"),
    "given_at": ("time", "Answered, UTC"),
    "seconds": ("number", "From the screen to the answer, in seconds"),
    "tries": ("number", "Keys that it took, the last one included"),
    "mode": ("text", "Mode in which it was answered"),
    "session_number": ("number", "In which of the interview's sessions: 1, 2, .. in order of first use"),
}
_TIMES = frozenset(name for name in INTERVIEW_COLUMNS if name.endswith("_at"))
_NO_ITEM = ("", "", "", "")
_NO_CODE = ("", "", "", "", "")

Row = tuple[str, ...]


def codebook(instrument: Instrument) -> Iterator[Row]:
    """Rows in the order of `COLUMNS`; labels in the instrument's default language."""
    for row in _wide(instrument):
        yield ("wide.csv", *row)
    for name, (kind, label) in _LONG_LABELS.items():
        yield ("long.csv", name, label, kind, *_NO_ITEM, *_NO_CODE)


def _wide(instrument: Instrument) -> Iterator[Row]:
    for name in INTERVIEW_COLUMNS:
        kind = "time" if name in _TIMES else "category" if name in _INTERVIEW_CODES else "text"
        head = (name, _INTERVIEW_LABELS[name], kind, *_NO_ITEM)
        codes = _INTERVIEW_CODES.get(name, {})
        for code, label in codes.items():
            yield (*head, "", code, "", label, "")
        if not codes:
            yield (*head, *_NO_CODE)
    for name, (item, what) in wide_columns(instrument).items():
        label = item.label
        if what == "group":
            label += ", in groups"
        elif what == "iso":
            label += ", ISO 3166-2"
        elif what == "code" and item.kind == "number":
            label += ": why there is no number"
        kind = "number" if what == "number" else "category"
        head = (name, label, kind, item.number, item.service, item.attribute, item.role)
        if what == "number":
            yield (*head, "", "", "", f"{item.least} to {item.most}", "")
            continue
        for value in _codes(instrument, item, what):
            yield (*head, *value)


def _codes(instrument: Instrument, item: Item, what: str) -> Iterator[Row]:
    """option, code, iso, code_label, nonresponse of each value that the column may hold."""
    language = instrument.languages[instrument.default_language]
    if what == "group":
        labels = language.groups.get(item.id, {})
        for group in item.groups:
            yield "", group.id, "", labels.get(group.id, group.id), "0"
        return
    if item.scale is not None:
        for option in item.scale.options:
            label = language.options[item.scale.id][option.id]
            if what == "code":
                yield option.id, str(option.code), option.iso, label, "0"
            elif option.iso:
                yield option.id, option.iso, option.iso, label, "0"
    if what == "iso":  # a reason for no answer is no place
        return
    for name in NONRESPONSE:
        if name in item.nonresponse:
            yield name, str(instrument.codes[name]), "", language.prompts[name], "1"
