"""Which interviews and which answers the results are made of: the one place that says so.

A respondent's one counted interview in the wave (see `standing`), not withdrawn nor turned away by a
quota, on any version of the instrument, complete or not: the source computes each share over those who
answered that item, so what somebody answered before breaking off is in the share of it (decision 21).
For weights and strata the file is narrower, `sheets`: whoever got as far as the first question of a
service.
"""

from sqlalchemy import ColumnElement

from flows.instrument import Instrument
from flows.interview import QUOTA_FULL, RESULTS_ONLY
from storage.models import WITHDRAWN, Interview, table_of

POSITIVE = (3, 2)  # codes, UN metadata sheet 16.6.2, global reporting
SIMULATOR = "simulator"  # aggregator of interviews that nobody dialled for

_interview = table_of(Interview)


def counted(
    instrument: Instrument, wave: str | None = None, simulated: bool = True
) -> tuple[ColumnElement[bool], ...]:
    """The conditions on `interview`; of one wave, or of all. simulated: also those nobody dialled for."""
    return (
        _interview.c.counted,
        _interview.c.disposition != WITHDRAWN,
        _interview.c.disposition != QUOTA_FULL,
        _interview.c.disposition != RESULTS_ONLY,
        _interview.c.instrument.startswith(f"{instrument.id}@", autoescape=True),
        *(() if wave is None else (_interview.c.wave == wave,)),
        *(() if simulated else (_interview.c.aggregator.is_distinct_from(SIMULATOR),)),
    )
