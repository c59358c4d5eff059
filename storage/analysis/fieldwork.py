"""How a wave's fieldwork stands: the figures that staff watch, all of one moment.

Who stands where is counted once, by everything that is broken down, and each table is a sum of that
count: so no two of them disagree. No row is about one person: no pseudonym and no number leaves here.
Interviews are each respondent's counted one. Costs are as the aggregator gave them, summed exactly.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal

from sqlalchemy import Connection, Engine, inspect, text

from flows.instrument import Instrument, Item
from flows.interview import RESULTS_ONLY
from flows.wave import Wave
from storage.analysis.dispositions import OPEN, OUTCOMES, Count, Rates, rates
from storage.database import reading
from storage.quota import cells

#: What a table's columns hold: `started` is all of them. Names of dispositions, see dispositions.py.
KINDS = {
    "complete": ("complete",),
    "partial": ("partial",),
    "in_progress": ("in_progress",),
    "break_off": ("break_off",),
    "refused": ("refusal", "opted_out", "withdrawn"),
    "turned_away": ("ineligible", "quota_full", "other"),
    "looked": ("results_only",),  # and of who was invited, whose outcome is another: see _Row
}
_KIND_OF = {disposition: kind for kind, names in KINDS.items() for disposition in names}


@dataclass(frozen=True, slots=True)
class Standing:
    """How many stand at one disposition."""

    name: str
    aapor: str
    meaning: str
    sample: int
    dial_in: int

    @property
    def n(self) -> int:
        return self.sample + self.dial_in


@dataclass(frozen=True, slots=True)
class Part:
    """Interviews of one mode, network or region. `kinds`: by KINDS; they add up to `started`."""

    key: str  # "" = not known
    label: str
    started: int
    kinds: dict[str, int]

    @property
    def completion(self) -> float | None:
        """Completes among those that are over. Who only looked at the results began none (decision 15)."""
        over = self.started - self.kinds["in_progress"] - self.kinds["looked"]
        return self.kinds["complete"] / over if over else None


@dataclass(frozen=True, slots=True)
class Day:
    """One local day: messages that invited or reminded, interviews begun, interviews completed."""

    date: date
    written: int
    started: int
    completed: int


@dataclass(frozen=True, slots=True)
class Screen:
    """Where interviews were left: an item, or "" where none was on the last screen."""

    item: str
    question: str
    label: str
    reached: int  # answered it, or stopped at it
    left: int  # stopped for good: partials and break-offs
    waiting: int  # in progress, and this is the last screen they saw

    @property
    def hazard(self) -> float | None:
        return self.left / self.reached if self.reached else None


@dataclass(frozen=True, slots=True)
class Cell:
    labels: tuple[str, ...]
    target: int | None  # None: everybody is taken
    completed: int
    in_progress: int
    turned_away: int


@dataclass(frozen=True, slots=True)
class QuotaTable:
    name: str
    items: tuple[str, ...]  # labels
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages, or airtime payments (then without parts), of one kind and state."""

    kind: str
    state: str
    n: int
    parts: int
    cost: Decimal
    currency: str  # "" = no cost told


@dataclass(frozen=True, slots=True)
class Fieldwork:
    """The figures of one wave, counted at `at`."""

    wave: str
    at: datetime
    standings: tuple[Standing, ...]
    invited: int  # released numbers
    started: Part  # everybody's interviews
    dial_ins: Part  # of those, of people who were not invited
    rates: Rates | None  # None: nobody was invited
    parts: dict[str, tuple[Part, ...]]  # mode, network, region
    days: tuple[Day, ...]
    screens: tuple[Screen, ...]  # most left first
    quotas: tuple[QuotaTable, ...]
    messages: tuple[Sent, ...]
    airtime: tuple[Sent, ...]
    budget: tuple[tuple[str, Decimal, Decimal], ...] = field(default=())  # currency, budget, spoken for


def waves(engine: Engine) -> list[str]:
    """Waves that anybody was invited to or took part in, by name."""
    with reading(engine) as db:
        found = db.execute(text("SELECT wave FROM interview UNION SELECT wave FROM campaign"))
        return sorted(row[0] for row in found)


def fieldwork(
    engine: Engine,
    wave: str,
    instrument: Instrument,
    *,
    served: Wave | None = None,
    networks: dict[str, str] | None = None,
) -> Fieldwork:
    """The wave's figures. `served`: as its file has it, for its quotas and whose days to count by (else
    UTC's); None for one that is over. `networks`: names by network code.

    Raises sqlalchemy.exc.SQLAlchemyError while the database is away.
    """
    quotas = _quotas(engine, served) if served else ()
    with reading(engine) as db:
        region = next((i for i in instrument.items if i.role == "region"), None)
        rows = _count(db, wave, region)
        names: dict[str, Callable[[str], str]] = {
            "mode": lambda key: {"ussd": "USSD", "sms": "SMS"}.get(key, key or "not known"),
            "network": lambda key: (networks or {}).get(key, key) or "not known",
            "region": lambda key: _label(instrument, region, key) if region and key else "not answered yet",
        }
        counts = [row.count for row in rows]
        begun = [row for row in rows if row.has_interview]
        return Fieldwork(
            wave=wave,
            at=datetime.now(UTC),
            standings=_standings(counts),
            invited=sum(c.n for c in counts if c.origin == "sample" and _fielded(c)),
            started=_part("", "all", begun),
            dial_ins=_part("", "dialled by themselves", [r for r in begun if r.origin == "dial_in"]),
            rates=rates(counts),
            parts={by: _parts(begun, by, name) for by, name in names.items()},
            days=_days(db, wave, served.contacting.zone if served else None),
            screens=_screens(db, wave, instrument),
            quotas=quotas,
            messages=_messages(db, wave),
            airtime=_airtime(db, wave),
            budget=_budget(db, wave),
        )


# ---------------------------------------------------------------- who stands where


@dataclass(frozen=True, slots=True)
class _Row:
    origin: str
    disposition: str
    if_closed: str
    has_interview: bool
    looked: bool  # at the results, and no more: an outcome of its own only of who was not invited
    mode: str
    network: str
    region: str
    n: int

    @property
    def count(self) -> Count:
        return Count(self.origin, self.disposition, self.if_closed, self.n)

    @property
    def kind(self) -> str:
        return "looked" if self.looked else _KIND_OF[self.disposition]


def _count(db: Connection, wave: str, region: Item | None) -> list[_Row]:
    """Everybody, by all that is broken down at once."""
    found = db.execute(
        text(
            """
            SELECT d.origin, d.disposition, d.if_closed, CASE WHEN d.interview IS NULL THEN 0 ELSE 1 END,
                   CASE WHEN i.disposition = :results_only THEN 1 ELSE 0 END,
                   COALESCE(i.mode, ''), COALESCE(t.network, s.network, ''),
                   COALESCE(g.option, ''), COUNT(*)
            FROM dispositions d
            LEFT JOIN interview i ON i.id = d.interview
            LEFT JOIN (SELECT respondent, MAX(network_code) AS network FROM session GROUP BY respondent) t
                   ON t.respondent = d.respondent
            LEFT JOIN sample_number s ON s.wave = d.wave AND s.respondent = d.respondent
            LEFT JOIN response g ON g.interview = d.interview AND g.item = :region AND NOT g.retracted
            WHERE d.wave = :wave
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
            """
        ),
        {"wave": wave, "region": region.id if region else "", "results_only": RESULTS_ONLY},
    )
    return [_Row(r[0], r[1], r[2], bool(r[3]), bool(r[4]), r[5], r[6], r[7], int(r[8])) for r in found]


def _fielded(count: Count) -> bool:
    return count.disposition not in ("not_released", "excluded")


def _standings(counts: Iterable[Count]) -> tuple[Standing, ...]:
    """Every outcome that occurs, in the order of their codes, the open ones first."""
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    for count in counts:
        by_name[count.disposition][count.origin] += count.n
    known = [(name, "", meaning) for name, meaning in OPEN.items()]
    known += [(o.name, o.aapor, o.meaning) for o in OUTCOMES]
    return tuple(
        Standing(name, code, meaning, by_name[name]["sample"], by_name[name]["dial_in"])
        for name, code, meaning in known
        if name in by_name
    )


def _part(key: str, label: str, rows: Iterable[_Row]) -> Part:
    kinds = dict.fromkeys(KINDS, 0)
    for row in rows:
        kinds[row.kind] += row.n
    return Part(key, label, sum(kinds.values()), kinds)


def _parts(rows: Iterable[_Row], by: str, name: Callable[[str], str]) -> tuple[Part, ...]:
    groups: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, by)].append(row)
    parts = [_part(key, name(key), of) for key, of in groups.items()]
    return tuple(sorted(parts, key=lambda p: (p.key == "", -p.started, p.label)))


# ---------------------------------------------------------------- when, and where it stopped


def _days(db: Connection, wave: str, zone: tzinfo | None) -> tuple[Day, ...]:
    """Every day from the first to the last on which anything happened."""
    sources = {
        "written": "sent_at) FROM outbound_message WHERE kind IN ('invitation', 'reminder') AND wave",
        "started": "began_at) FROM interview WHERE counted AND wave",
        "completed": "ended_at) FROM interview WHERE counted AND disposition = 'complete' AND wave",
    }
    days: dict[str, Counter[date]] = {name: Counter() for name in sources}
    for name, source in sources.items():
        column = source.partition(")")[0]
        # By hours of UTC, which are the first 13 characters of a time on both engines.
        hour = f"SUBSTR(CAST({column} AS VARCHAR(40)), 1, 13)"
        found = db.execute(
            text(f"SELECT {hour}, COUNT({source} = :wave AND {column} IS NOT NULL GROUP BY {hour}"),
            {"wave": wave},
        )
        for at, n in found:
            moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
            days[name][moment.astimezone(zone or UTC).date()] += int(n)
    seen = sorted({day for counter in days.values() for day in counter})
    if not seen:
        return ()
    every = [seen[0] + timedelta(days=n) for n in range((seen[-1] - seen[0]).days + 1)]
    return tuple(Day(d, days["written"][d], days["started"][d], days["completed"][d]) for d in every)


def _screens(db: Connection, wave: str, instrument: Instrument) -> tuple[Screen, ...]:
    stopped: dict[str, Counter[str]] = defaultdict(Counter)
    for item, disposition, n in db.execute(
        text(
            "SELECT last_item, disposition, COUNT(*) FROM interview WHERE wave = :wave AND counted"
            " AND disposition IN ('in_progress', 'partial', 'break_off') GROUP BY last_item, disposition"
        ),
        {"wave": wave},
    ):
        stopped[item]["waiting" if disposition == "in_progress" else "left"] += int(n)
    answered = Counter(
        {
            item: int(n)
            for item, n in db.execute(
                text(
                    "SELECT r.item, COUNT(*) FROM response r JOIN interview i ON i.id = r.interview"
                    " WHERE i.wave = :wave AND i.counted AND NOT r.retracted GROUP BY r.item"
                ),
                {"wave": wave},
            )
        }
    )
    screens = []
    for item, counts in stopped.items():
        found = instrument.by_id.get(item)
        screens.append(
            Screen(
                item=item,
                question=found.number if found else "",
                label=found.label if found else item or "before the first question",
                reached=answered[item] + counts.total(),
                left=counts["left"],
                waiting=counts["waiting"],
            )
        )
    return tuple(sorted(screens, key=lambda s: (-s.left, -s.waiting, s.item)))


# ---------------------------------------------------------------- quotas


def _label(instrument: Instrument, item: Item, option: str) -> str:
    """An option's text in the default language; of a number, its group's."""
    words = instrument.languages[instrument.default_language]
    texts = words.options[item.scale.id] if item.scale is not None else words.groups.get(item.id, {})
    return texts.get(option, option.replace("_", " "))


def _quotas(engine: Engine, wave: Wave) -> tuple[QuotaTable, ...]:
    """Targets beside the record's interviews."""
    instrument, stand = wave.instrument, cells(engine, wave)
    return tuple(
        QuotaTable(
            name=quota.name,
            items=tuple(instrument.by_id[item].label for item in quota.items),
            cells=tuple(
                Cell(
                    labels=tuple(
                        _label(instrument, instrument.by_id[item], option)
                        for item, option in zip(quota.items, found.cell.split(","), strict=True)
                    ),
                    target=found.target,
                    completed=found.complete,
                    in_progress=found.in_progress,
                    turned_away=found.turned_away,
                )
                for found in stand
                if found.quota == quota.name
            ),
        )
        for quota in wave.quotas
    )


# ---------------------------------------------------------------- what it costs


def _messages(db: Connection, wave: str) -> tuple[Sent, ...]:
    found = db.execute(
        text(
            "SELECT kind, state, COALESCE(cost_currency, ''), COALESCE(cost_amount, '0'), COUNT(*),"
            " COALESCE(SUM(parts), 0), MIN(priority) FROM outbound_message WHERE wave = :wave"
            " GROUP BY 1, 2, 3, 4"
        ),
        {"wave": wave},
    ).all()
    sums: dict[tuple[str, str, str], Sent] = {}
    for kind, state, currency, cost, n, parts, _ in sorted(found, key=lambda r: (r[6], r[0], r[1])):
        old = sums.get((kind, state, currency), Sent(kind, state, 0, 0, Decimal(0), currency))
        sums[kind, state, currency] = Sent(
            kind, state, old.n + int(n), old.parts + int(parts), old.cost + Decimal(cost) * int(n), currency
        )
    return tuple(sums.values())


def _airtime(db: Connection, wave: str) -> tuple[Sent, ...]:
    """Payments by state; amounts are kept in hundredths."""
    if not inspect(db).has_table("airtime_payment"):
        return ()
    found = db.execute(
        text(
            "SELECT state, currency, COUNT(*), SUM(amount) FROM airtime_payment WHERE wave = :wave"
            " GROUP BY state, currency ORDER BY state, currency"
        ),
        {"wave": wave},
    )
    return tuple(Sent("airtime", s, int(n), 0, Decimal(int(total)) / 100, c) for s, c, n, total in found)


def _budget(db: Connection, wave: str) -> tuple[tuple[str, Decimal, Decimal], ...]:
    if not inspect(db).has_table("airtime_budget"):
        return ()
    found = db.execute(
        text("SELECT currency, budget, committed FROM airtime_budget WHERE wave = :wave ORDER BY currency"),
        {"wave": wave},
    )
    return tuple((c, Decimal(int(b)) / 100, Decimal(int(k)) / 100) for c, b, k in found)
