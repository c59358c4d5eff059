"""What became of a wave's text messages, by network and kind: how many left us, and how they ended.

Every message that left us, or may have, ends in exactly one of `FATES` (`storage/outbox.py` has the states):

    delivered   a delivery report says so
    no_report   the aggregator took it; no report says more
    failed      refused by the aggregator, or reported as not delivered
    expired     reported as expired: the phone was not to be reached in time
    unknown     claimed, and nobody knows whether it was sent

A message that is due, held or cancelled never left us and is in no row. Reasons are the aggregator's own
codes, of what failed, expired or is unknown; one that it gives none for has the reason "".
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from storage import outbox
from storage.analysis.counted import SIMULATOR
from storage.entries import PRIORITY

DELIVERED, NO_REPORT, FAILED, EXPIRED, UNKNOWN = "delivered", "no_report", "failed", "expired", "unknown"
FATES = (DELIVERED, NO_REPORT, FAILED, EXPIRED, UNKNOWN)
LOST = (FAILED, EXPIRED, UNKNOWN)  # have a reason


@dataclass(frozen=True, slots=True)
class Some:
    """So many of the messages of one row, to so many respondents. mark "c": hidden."""

    key: str
    n: int | None
    of: int | None
    share: float | None
    respondents: int | None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The messages of one kind over one network."""

    network: str  # code; "" = not known
    kind: str
    messages: int | None
    respondents: int | None
    fates: tuple[Some, ...]  # all of FATES, of `messages`
    reasons: tuple[Some, ...]  # most first, of those that failed, expired or are unknown
    mark: str = ""


def read_deliveries(db: Connection, wave: str, simulated: bool) -> tuple[Delivery, ...]:
    """By kind, most urgent first, and in each by network, most messages first. Not simulated: without
    what went to handsets made up here."""
    found: dict[tuple[str, str], dict[str, dict[str, tuple[int, int]]]] = {}
    # Three levels of one count, each with its respondents: nobody is in a row, a fate or a reason twice.
    for network, kind, level, key, n, respondents in db.execute(
        text(
            f"""
            WITH left_us AS (
                SELECT COALESCE(m.network_code, '') AS network, m.kind, m.respondent,
                       COALESCE(m.failure_reason, '') AS reason,
                       CASE WHEN m.state = '{outbox.DELIVERED}' THEN '{DELIVERED}'
                            WHEN m.state = '{outbox.SENT}' THEN '{NO_REPORT}'
                            WHEN m.state = '{outbox.FAILED}' AND LOWER(m.status_raw) = 'expired'
                                THEN '{EXPIRED}'
                            WHEN m.state = '{outbox.FAILED}' THEN '{FAILED}'
                            ELSE '{UNKNOWN}' END AS fate
                FROM outbound_message m
                WHERE m.wave = :wave
                  AND m.state NOT IN ('{outbox.DUE}', '{outbox.HELD}', '{outbox.CANCELLED}')
                  AND (:simulated OR m.aggregator <> '{SIMULATOR}'))
            SELECT network, kind, 'row', '', COUNT(*), COUNT(DISTINCT respondent)
            FROM left_us GROUP BY network, kind
            UNION ALL SELECT network, kind, 'fate', fate, COUNT(*), COUNT(DISTINCT respondent)
            FROM left_us GROUP BY network, kind, fate
            UNION ALL SELECT network, kind, 'reason', reason, COUNT(*), COUNT(DISTINCT respondent)
            FROM left_us WHERE fate IN ('{FAILED}', '{EXPIRED}', '{UNKNOWN}') GROUP BY network, kind, reason
            """
        ),
        {"wave": wave, "simulated": simulated},
    ):
        levels = found.setdefault((network, kind), {"row": {}, "fate": {}, "reason": {}})
        levels[level][key] = int(n), int(respondents)
    rows = [_delivery(network, kind, levels) for (network, kind), levels in found.items()]
    return tuple(sorted(rows, key=lambda d: (PRIORITY[d.kind], -(d.messages or 0), d.network)))


def _delivery(network: str, kind: str, levels: dict[str, dict[str, tuple[int, int]]]) -> Delivery:
    messages, respondents = levels["row"][""]
    lost = sum(n for n, _ in levels["reason"].values())
    return Delivery(
        network, kind, messages, respondents,
        tuple(_some(fate, *levels["fate"].get(fate, (0, 0)), messages) for fate in FATES),
        tuple(
            _some(reason, *told, lost)
            for reason, told in sorted(levels["reason"].items(), key=lambda r: (-r[1][0], r[0]))
        ),
    )  # fmt: skip


def _some(key: str, n: int, respondents: int, of: int) -> Some:
    return Some(key, n, of, n / of if of else None, respondents)
