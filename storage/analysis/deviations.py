"""What differs from the official questionnaire, and why: the README beside an instrument, as a file.

UNDP, the custodian of indicator 16.6.2, asks for this list together with the results.
"""

from flows.instrument import Instrument

FILE = "deviations.md"


def deviations_of(instrument: Instrument) -> dict[str, str]:
    """File name -> text; empty for an instrument without such a list."""
    return {FILE: instrument.deviations} if instrument.deviations else {}
