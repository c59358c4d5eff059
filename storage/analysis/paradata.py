"""How the interviewing went, counted in the database: where people stopped, how often a key was wrong, how
long each question took, over what network and in which language they came.

All of it is about the counted interviews of one wave (`counted`), on any version of its instrument. Times
come as a histogram in tenths of a second, one scan over the responses and the same statement on both
engines: PostgreSQL has a median and SQLite has none, and sorting thirty million times is no use to either.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from flows.instrument import Instrument
from storage.models import UNFINISHED

MODES = ("ussd", "sms")
#: Tenths of a second, from which on an answer only counts as "longer": a median there is none to us.
_LONGEST = 6000
#: An answer in no time at all was dialled in advance with the code (engine, rule 11): it has no time.
_NO_TIME = 0

_THEIRS = """i.wave = :wave AND i.counted AND i.disposition <> 'withdrawn'
             AND SUBSTR(i.instrument, 1, :long) = :like"""
_TENTHS = f"""CASE WHEN r.seconds IS NULL THEN {_NO_TIME}
                   WHEN r.seconds < {_LONGEST / 10} THEN CAST(ROUND(r.seconds * 10) AS INTEGER)
                   ELSE {_LONGEST} END"""


@dataclass(frozen=True, slots=True)
class Answering:
    """What it took to answer one item."""

    answers: int = 0
    replies: int = 0  # tries, added up
    times: Mapping[str, Counter[int]] = field(default_factory=dict)  # mode -> tenths of a second -> answers

    def timed(self, mode: str) -> int:
        """Answers over `mode` that have a time."""
        return sum(self.times.get(mode, {}).values())

    def median(self, mode: str) -> float | None:
        """Median seconds over `mode`; None without an answer."""
        return median(self.times.get(mode, {}))


@dataclass(frozen=True, slots=True)
class Invalid:
    """Replies to one item that no rule accepted."""

    replies: int = 0
    interviews: int = 0


@dataclass(frozen=True, slots=True)
class Paradata:
    """Of a wave. Items by id; what is keyed by "" had nothing there."""

    dispositions: Mapping[str, int]
    withdrawn: int
    left: Mapping[str, int]  # last item -> interviews that were unfinished there
    answering: Mapping[str, Answering]
    invalid: Mapping[str, Invalid]
    mixes: Mapping[str, Mapping[str, Mapping[str, int]]]  # mode, network, language -> key -> disposition -> n
    conflicts: Mapping[str, tuple[int, int]]  # what -> requests, interviews
    switched_language: int  # interviews in which a language was chosen twice or more
    resumed: int  # interviews gone on with after a new dial
    several: int  # respondents with more than one interview in the wave
    several_complete: int  # of these, with more than one complete


def median(counts: Mapping[int, int]) -> float | None:
    """Of a histogram in tenths: the middle one, or the mean of the middle two, in units."""
    n = sum(counts.values())
    if not n:
        return None
    middle = ((n - 1) // 2, n // 2)
    found: list[int] = []
    seen = 0
    for tenths in sorted(counts):
        seen += counts[tenths]
        found += [tenths] * (sum(m < seen for m in middle) - len(found))
        if len(found) == len(middle):
            break
    return sum(found) / len(found) / 10


def read_paradata(db: Connection, instrument: Instrument, wave: str) -> Paradata:
    """Count all of it, from one state of the database."""
    given = bound(instrument, wave)

    def rows(statement: str) -> Sequence[Any]:
        return db.execute(text(statement), given).all()

    dispositions: Counter[str] = Counter()
    left: Counter[str] = Counter()
    mixes: dict[str, dict[str, Counter[str]]] = {
        name: defaultdict(Counter) for name in ("mode", "network", "language")
    }
    for disposition, last, mode, language, n in rows(
        "SELECT i.disposition, i.last_item, COALESCE(i.mode, ''), COALESCE(i.language, ''), COUNT(*)"
        f" FROM interview i WHERE {_THEIRS} GROUP BY 1, 2, 3, 4"
    ):
        dispositions[disposition] += n
        mixes["mode"][mode][disposition] += n
        mixes["language"][language][disposition] += n
        if disposition in UNFINISHED:
            left[last] += n
    for network, disposition, n in rows(
        "SELECT COALESCE(s.network, ''), i.disposition, COUNT(*) FROM interview i LEFT JOIN ("
        "  SELECT i.id, MAX(s.network_code) AS network FROM session s"
        "  JOIN interview i ON i.respondent = s.respondent AND s.opened_at >= i.began_at"
        f"   AND s.opened_at <= i.last_at WHERE {_THEIRS} GROUP BY i.id) s ON s.id = i.id"
        f" WHERE {_THEIRS} GROUP BY 1, 2"
    ):
        mixes["network"][network][disposition] += n
    events = {
        (kind, item): (int(replies), int(interviews), int(repeated))
        for kind, item, replies, interviews, repeated in rows(
            "SELECT kind, item, SUM(n), COUNT(*), SUM(CASE WHEN n > 1 THEN 1 ELSE 0 END) FROM ("
            "  SELECT e.kind, CASE WHEN e.kind = 'InvalidReply' THEN e.item ELSE '' END AS item,"
            "         e.interview, COUNT(*) AS n"
            "  FROM event e JOIN interview i ON i.id = e.interview"
            f" WHERE e.kind IN ('InvalidReply', 'LanguageChosen', 'Resumed') AND {_THEIRS}"
            "  GROUP BY 1, 2, 3) g GROUP BY kind, item"
        )
    }
    nothing = (0, 0, 0)
    several, several_complete = rows(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN completes > 1 THEN 1 ELSE 0 END), 0) FROM ("
        "  SELECT i.respondent, SUM(CASE WHEN i.disposition = 'complete' THEN 1 ELSE 0 END) AS completes"
        "  FROM interview i WHERE i.wave = :wave AND i.disposition <> 'withdrawn'"
        "   AND SUBSTR(i.instrument, 1, :long) = :like GROUP BY i.respondent HAVING COUNT(*) > 1) g"
    )[0]
    return Paradata(
        dispositions=dict(dispositions),
        withdrawn=rows(
            "SELECT COUNT(*) FROM interview i WHERE i.wave = :wave AND i.counted"
            " AND i.disposition = 'withdrawn' AND SUBSTR(i.instrument, 1, :long) = :like"
        )[0][0],
        left=dict(left),
        answering=_answering(db, given),
        invalid={
            item: Invalid(replies, interviews)
            for (kind, item), (replies, interviews, _) in events.items()
            if kind == "InvalidReply"
        },
        mixes=mixes,
        conflicts={
            what: (int(n), int(interviews))
            for what, n, interviews in rows(
                "SELECT c.what, COUNT(*), COUNT(DISTINCT c.interview) FROM conflict c"
                f" JOIN interview i ON i.id = c.interview WHERE {_THEIRS} GROUP BY c.what ORDER BY c.what"
            )
        },
        switched_language=events.get(("LanguageChosen", ""), nothing)[2],
        resumed=events.get(("Resumed", ""), nothing)[1],
        several=int(several),
        several_complete=int(several_complete),
    )


def _answering(db: Connection, given: Mapping[str, Any]) -> dict[str, Answering]:
    """One scan over the responses."""
    answers: Counter[str] = Counter()
    replies: Counter[str] = Counter()
    times: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: {m: Counter() for m in MODES})
    for item, mode, tenths, n, tries in db.execute(
        text(
            f"SELECT r.item, r.mode, {_TENTHS}, COUNT(*), SUM(COALESCE(r.tries, 1))"
            f" FROM response r JOIN interview i ON i.id = r.interview WHERE {_THEIRS} AND NOT r.retracted"
            " GROUP BY 1, 2, 3"
        ),
        given,
    ):
        answers[item] += n
        replies[item] += int(tries)
        if tenths != _NO_TIME and mode in MODES:
            times[item][mode][int(tenths)] += n
    return {item: Answering(n, replies[item], times[item]) for item, n in answers.items()}


# ---------------------------------------------------------------- single interviews


def fast_interviews(
    db: Connection,
    instrument: Instrument,
    wave: str,
    medians: Mapping[str, float],
    part: float,
    seconds: float,
    answers: int,
) -> tuple[list[str], list[str], int]:
    """Interviews answered in under `part` of the time that the items' medians add up to; those with less
    than `seconds` an answer; and how many were judged, having at least `answers` timed ones over USSD.
    """
    if not medians:
        return [], [], 0
    values = {f"i{k}": item for k, item in enumerate(medians)}
    values |= {f"m{k}": value for k, value in enumerate(medians.values())}  # type: ignore[misc]
    usual = ", ".join(f"(CAST(:i{k} AS TEXT), CAST(:m{k} AS DOUBLE PRECISION))" for k in range(len(medians)))
    half = "took < :part * usual"
    short = "took < :seconds * n"
    each = f"""
        WITH usual (item, seconds) AS (VALUES {usual}),
        each AS (
            SELECT r.interview, SUM(r.seconds) AS took, SUM(u.seconds) AS usual, COUNT(*) AS n
            FROM response r JOIN interview i ON i.id = r.interview JOIN usual u ON u.item = r.item
            WHERE {_THEIRS} AND NOT r.retracted AND r.mode = 'ussd' AND r.seconds > 0
            GROUP BY r.interview HAVING COUNT(*) >= :answers
        )"""
    given = {**bound(instrument, wave), **values, "part": part, "seconds": seconds, "answers": answers}
    found = db.execute(
        text(
            f"{each} SELECT interview, CASE WHEN {half} THEN 1 ELSE 0 END,"
            f" CASE WHEN {short} THEN 1 ELSE 0 END, 0 FROM each WHERE {half} OR {short}"
            " UNION ALL SELECT '', 0, 0, COUNT(*) FROM each"
        ),
        given,
    ).all()
    return (
        [row[0] for row in found if row[1]],
        [row[0] for row in found if row[2]],
        sum(row[3] for row in found),
    )


def interviews_of_several_days(db: Connection, instrument: Instrument, wave: str) -> list[str]:
    """Those whose first and last hop lie on different days, UTC: Ghana's own time all year."""
    days = [f"SUBSTR(CAST(i.{name} AS VARCHAR(40)), 1, 10)" for name in ("began_at", "last_at")]
    return _ids(db, f"{days[0]} <> {days[1]}", bound(instrument, wave))


def interviews_out_of_order(db: Connection, instrument: Instrument, wave: str) -> list[str]:
    """Those with a request that did not fit the dialogue: late, twice over, or diverging."""
    own = "EXISTS (SELECT 1 FROM conflict c WHERE c.interview = i.id)"
    return _ids(db, own, bound(instrument, wave))


def interviews_of_several(db: Connection, instrument: Instrument, wave: str) -> list[str]:
    """The counted ones of respondents who completed more than one in the wave."""
    own = """i.respondent IN (SELECT o.respondent FROM interview o
             WHERE o.wave = :wave AND o.disposition = 'complete' GROUP BY o.respondent HAVING COUNT(*) > 1)"""
    return _ids(db, own, bound(instrument, wave))


def _ids(db: Connection, condition: str, given: Mapping[str, Any]) -> list[str]:
    found = db.execute(text(f"SELECT i.id FROM interview i WHERE {_THEIRS} AND {condition}"), given)
    return list(found.scalars())


def bound(instrument: Instrument, wave: str) -> dict[str, Any]:
    """What the conditions of `counted` are bound to."""
    like = f"{instrument.id}@"
    return {"wave": wave, "like": like, "long": len(like)}
