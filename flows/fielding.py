"""How a wave is fielded: when people may be written to, how they are thanked, whom it still wants.

The tables of a wave file beside the interview itself. Data only; `wave.py` reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Contact:
    """`[contacting]`: when invitations, reminders and thanks may be sent, and how often one is reminded.

    Defaults: Ghana's window for messages that nobody asked for, 08:00 to 19:00, Monday to Saturday.
    """

    start: time = time(8)
    end: time = time(19)
    days: frozenset[int] = frozenset(range(6))  # ISO weekday less 1; 6 is Sunday
    zone: tzinfo = field(default_factory=lambda: ZoneInfo("Africa/Accra"))
    reminders: int = 2
    reminder_hours: int = 48  # between an invitation or reminder and the next
    rest_days: int = 0  # who was invited to another wave within these days is left alone

    def __post_init__(self) -> None:
        if not self.start < self.end or not self.days or not self.days <= set(range(7)):
            raise ValueError("the hours begin before they end, on one day of the week at least")

    def allows(self, at: datetime) -> bool:
        """`at`: aware."""
        return self.next_open(at) <= at

    def next_open(self, at: datetime) -> datetime:
        """`at` if people may be written to then, else the moment from which they may be next."""
        local = at.astimezone(self.zone)
        for days in range(9):
            day = local.date() + timedelta(days)
            if day.weekday() not in self.days:
                continue
            opens, closes = (datetime.combine(day, time_, self.zone) for time_ in (self.start, self.end))
            if at < closes.astimezone(UTC):
                return max(at, opens.astimezone(UTC))
        raise AssertionError("a week has each of its days")


@dataclass(frozen=True, slots=True)
class Thanks:
    """`[thanks]`: airtime for who completed. Money is Decimal; currency ISO 4217."""

    amount: Decimal
    currency: str
    budget: Decimal


@dataclass(frozen=True, slots=True)
class Sharing:
    """`[results]`: how results are given back to people, see docs/results-by-phone.md."""

    extension: str = ""  # keys dialled with the code that lead to the results at once; "" = none
    by_sms: bool = False  # whether those who finish are asked if they want them by SMS
    earlier: tuple[str, ...] = ()  # waves whose release is shown as long as this one has none


@dataclass(frozen=True, slots=True)
class Band:
    """Numbers from `least` to `most`, both in it. `text` names it: 18-34, 65+."""

    text: str
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Quota:
    """`[[quota]]`: how many completes are wanted in each cell of a cross of items.

    A cell is named by option ids and bands in the items' order, joined by commas: "female,18-34". One
    without a target takes everybody; a target of 0 nobody. See flows/quotas.py.
    """

    name: str
    items: tuple[str, ...]
    cells: Mapping[str, int]  # cell -> completes wanted
    bands: Mapping[str, tuple[Band, ...]] = field(default_factory=dict)  # of items that ask for a number


@dataclass(frozen=True, slots=True)
class Opening:
    """`[opening]`: from when until when the wave takes interviews; aware, None: no limit."""

    opens_at: datetime | None = None
    closes_at: datetime | None = None

    def is_open(self, at: datetime) -> bool:
        """`at`: aware."""
        at = at.astimezone(UTC)
        begun = self.opens_at is None or self.opens_at <= at
        return begun and (self.closes_at is None or at < self.closes_at)
