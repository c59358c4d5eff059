"""What differs from the official questionnaire, and why: the README beside an instrument, as a file.

UNDP, the custodian of indicator 16.6.2, asks for this list together with the results.
"""

from pathlib import Path

from flows.instrument import Instrument

FILE = "deviations.md"
_FLOWS = Path(__file__).resolve().parents[2] / "flows"


def deviations_of(instrument: Instrument) -> dict[str, str]:
    """File name -> text; empty for an instrument without such a list. Raises OSError."""
    source = _FLOWS / instrument.id / "README.md"
    return {FILE: source.read_text("utf-8")} if source.is_file() else {}
