"""What a file set says of itself in plain words: in README.md beside the files and in the workbook."""

from collections.abc import Iterator

from storage.analysis.dictionary import PUBLIC, is_final_weight, key_variables, missing_codes
from storage.analysis.exports.asked import Asked
from storage.analysis.exports.microdata import Microdata
from storage.analysis.exports.public_use import THRESHOLD

LABEL = "Not a probability sample unless the office says so: the rows describe those who answered."
_REASONS = {
    "not_applicable": "not applicable", "dont_know": "don't know", "refused": "refused",
    "not_reached": "not reached: the interview was left before it",
    "withheld": "withheld, so that nobody is recognised (public-use file only)",
}  # fmt: skip


def kind(asked: Asked) -> tuple[tuple[str, str], ...]:
    """Facts by which an export is told from those of another kind."""
    return ("For", f"{asked.variant} use"), ("Of", f"wave {asked.wave}" if asked.wave else "every wave")


def facts(data: Microdata) -> Iterator[tuple[str, str]]:
    """What the files are, as name and value."""
    instrument, asked = data.instrument, data.asked
    yield "Survey", instrument.title
    yield "Questionnaire", f"{instrument.reference}, {instrument.source}"
    if data.about.owner:
        yield "Asked by", data.about.owner
    yield from kind(asked)
    yield "Waves", ", ".join(data.waves) or "-"
    yield "Interviews", str(data.count)
    yield "Began", f"{data.first_day} to {data.last_day}" if data.first_day else "-"
    yield "Made", data.made_at.strftime("%Y-%m-%d %H:%M UTC")
    if data.simulated and not asked.simulated:
        yield "Left out", f"{data.simulated} interviews made up with the simulator"


def paragraphs(data: Microdata) -> Iterator[str]:
    """How to read the files."""
    yield (
        "A row of the wide file is an interview, a column a variable; the codebook says what each is. A"
        " row of the long file is one value. The counted interview of each respondent and wave is in;"
        " withdrawn ones are not."
    )
    codes = missing_codes(data.instrument)
    reasons = "; ".join(f"{code} {_REASONS[name]}" for name, code in codes.items())
    yield f"Why an answer is missing: {reasons}. An empty cell was not asked. 0 is an answer."
    yield (
        "Ids are this export's own: they cannot be joined with the database, nor with an export made for"
        " another purpose."
    )
    yield (
        "weight_base is 1 over the probability of being asked; weight_BLOCK also counts the probability with"
        " which that block was drawn: use it with the items of the block."
        + "".join(f" {v.name}: {v.label}." for v in data.variables if is_final_weight(v.name))
    )
    yield LABEL
    if data.asked.variant == PUBLIC:
        yield from _public(data)
    else:
        yield (
            "For scientific use under licence. Do not try to recognise anybody, do not join with other files"
            " about persons, do not pass on, and publish no table with fewer than 10 respondents in a cell."
        )


def _public(data: Microdata) -> Iterator[str]:
    keys = " × ".join(v.label for v in key_variables(data.variables))
    yield (
        f"In a wave no cell of {keys} has fewer than {THRESHOLD} interviews: where one had, the age group was"
        " withheld, then the region, then the sex. Days are months, ages are groups; sensitive items and"
        " exact numbers are left out, and so are interviews that are neither complete nor partial."
    )
    if data.protection is not None:
        told = ", ".join(f"{name} in {n}" for name, n in data.protection.withheld.items())
        yield f"Withheld: {told or 'nothing'}. Left out with waves too small: {data.protection.left_out}."
    yield "Trying to recognise anybody is forbidden."


def markdown(data: Microdata, files: list[str]) -> str:
    lines = [f"# {_one_line(data.instrument.title)}", ""]
    lines += [line(name, value) for name, value in facts(data)]
    for text in paragraphs(data):
        lines += ["", text]
    lines += ["", "Files:", "", *(f"- `{name}`" for name in files)]
    return "\n".join(lines) + "\n"


def line(name: str, value: str) -> str:
    """A fact as README.md tells it."""
    return f"- {name}: {_one_line(value)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
