"""How a wave is fielded: when people may be written to, how they are thanked, whom it still wants.

The tables of a wave file beside the interview itself. Data only; `flows/wave.py` reads them.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Contact:
    """`[contact]`: when invitations, reminders and thanks may be sent, and how often one is reminded.

    Defaults: Ghana's window for messages that nobody asked for, 08:00 to 19:00, Monday to Saturday.
    """

    start: time = time(8)
    end: time = time(19)
    days: frozenset[int] = frozenset(range(6))  # ISO weekday less 1; 6 is Sunday
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Africa/Accra"))
    reminders: int = 2
    reminder_hours: int = 48  # between an invitation or reminder and the next
    rest_days: int = 0  # who was invited to another wave within these days is left alone

    def allows(self, at: datetime) -> bool:
        """`at`: aware."""
        local = at.astimezone(self.zone)
        return local.weekday() in self.days and self.start <= local.time() < self.end


@dataclass(frozen=True, slots=True)
class Thanks:
    """`[thanks]`: airtime for who completed. Money is Decimal; currency ISO 4217."""

    amount: Decimal
    currency: str
    budget: Decimal


@dataclass(frozen=True, slots=True)
class Quota:
    """`[[quota]]`: targets for a cross of items. `cells`: options in the items' order, and the target."""

    name: str
    items: tuple[str, ...]
    cells: tuple[tuple[tuple[str, ...], int], ...]


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
