"""The codebook: what each variable of the wide file is and what each of its codes means.

One row a variable and code; a variable without codes (an id, a time, a number) has one row.
"""

from collections.abc import Iterator

from flows.instrument import NONRESPONSE, Instrument, Item
from storage.analysis.views import INTERVIEW_COLUMNS, wide_columns

COLUMNS = (
    "variable", "label", "type", "question", "service", "attribute", "role", "code", "code_label",
    "nonresponse",
)  # fmt: skip

_INTERVIEW_LABELS = {
    "interview": "Interview",
    "respondent": "Respondent, by pseudonym: a keyed hash of the number dialled from",
    "wave": "Wave: one fielding period",
    "instrument": "Instrument and version",
    "language": "Language, as last chosen",
    "mode": "Mode in which it began",
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
        "withdrawn": "Withdrawn: its answers were erased",
    },
}
_TIMES = frozenset(name for name in INTERVIEW_COLUMNS if name.endswith("_at"))

Row = tuple[str, ...]


def codebook(instrument: Instrument) -> Iterator[Row]:
    """Rows in the order of `COLUMNS`; labels in the instrument's default language."""
    for name in INTERVIEW_COLUMNS:
        kind = "time" if name in _TIMES else "category" if name in _INTERVIEW_CODES else "text"
        head = (name, _INTERVIEW_LABELS[name], kind, "", "", "", "")
        codes = _INTERVIEW_CODES.get(name, {})
        for code, label in codes.items():
            yield (*head, code, label, "")
        if not codes:
            yield (*head, "", "", "")
    for name, (item, what) in wide_columns(instrument).items():
        label = item.label
        if what == "group":
            label += ", in groups"
        elif what == "code" and item.kind == "number":
            label += ": why there is no number"
        kind = "number" if what == "number" else "category"
        head = (name, label, kind, item.number, item.service, item.attribute, item.role)
        if what == "number":
            yield (*head, "", f"{item.least} to {item.most}", "")
            continue
        for code, code_label, nonresponse in _codes(instrument, item, what):
            yield (*head, code, code_label, "1" if nonresponse else "0")


def _codes(instrument: Instrument, item: Item, what: str) -> Iterator[tuple[str, str, bool]]:
    language = instrument.languages[instrument.default_language]
    if what == "group":
        labels = language.groups.get(item.id, {})
        for group in item.groups:
            yield group.id, labels.get(group.id, group.id), False
        return
    if item.scale is not None:
        for option in item.scale.options:
            yield str(option.code), language.options[item.scale.id][option.id], False
    for name in NONRESPONSE:
        if name in item.nonresponse:
            yield str(instrument.codes[name]), language.prompts[name], True
