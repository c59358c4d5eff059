"""How the interviewing went, counted in the database: where people stopped, how often a key was wrong, how
long each question took, over what network and in which language they came.

All of it is about the counted interviews of one wave (`counted`), on any version of its instrument. Times
come as a histogram in tenths of a second, one scan over the responses and the same statement on both
engines: PostgreSQL has a median and SQLite has none, and sorting thirty million times is no use to either.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from flows.instrument import Instrument
from flows.interview import RESULTS_ONLY
from storage.analysis.counted import SIMULATOR
from storage.models import COMPLETE, UNFINISHED, WITHDRAWN

MODES = ("ussd", "sms")
#: Tenths of a second, from which on an answer only counts as "longer": a median there is none to us.
_LONGEST = 6000


def _of_wave(row: str) -> str:
    """Of the wave and instrument, and made up only where that was asked for; `row`: its name in the query."""
    return f"""{row}.wave = :wave AND {row}.instrument LIKE :like ESCAPE '/'
        AND (:simulated OR {row}.aggregator IS NULL OR {row}.aggregator <> '{SIMULATOR}')"""


_ASKED = f"i.disposition NOT IN ('{WITHDRAWN}', '{RESULTS_ONLY}')"
#: `counted`, and with them who was turned away by a quota: an interview that went well, and gave no answers.
_THEIRS = f"{_of_wave('i')} AND i.counted AND {_ASKED}"
#: An answer in no time at all was dialled in advance with the code (engine, rule 11): it has no time.
_TIMED = f"r.seconds > 0 AND NOT r.retracted AND r.mode IN ('{MODES[0]}', '{MODES[1]}')"
#: PostgreSQL: room for a million interviews in a hash table, which by default would go to disk in parts.
_ROOM = "SET LOCAL work_mem = '192MB'"


@dataclass(frozen=True, slots=True)
class Paradata:
    """Of a wave. Items by id; what is keyed by "" had nothing there."""

    dispositions: Mapping[str, int]
    withdrawn: int
    made_up: int  # interviews that nobody dialled for, in this or left out
    left: Mapping[str, int]  # last item -> interviews that were unfinished there
    times: Mapping[str, Mapping[str, Counter[int]]]  # item -> mode -> tenths of a second -> answers
    invalid: Mapping[str, int]  # item -> replies to it that no rule accepted
    mixes: Mapping[str, Mapping[str, Mapping[str, int]]]  # mode, network, language -> key -> disposition -> n
    conflicts: Mapping[str, int]  # what -> interviews
    switched_language: int  # interviews in which a language was chosen twice or more
    resumed: int  # interviews gone on with after a new dial
    several: int  # respondents with more than one interview in the wave


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


def read_paradata(db: Connection, instrument: Instrument, wave: str, simulated: bool) -> Paradata:
    """Count all of it, from one state of the database. simulated: see `counted`."""
    given = bound(instrument, wave, simulated)

    def rows(statement: str) -> Sequence[Any]:
        return db.execute(text(statement), given).all()

    if db.engine.dialect.name == "postgresql":
        db.execute(text(_ROOM))
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
        "SELECT network, disposition, COUNT(*) FROM ("
        "  SELECT i.id, i.disposition, COALESCE(MAX(s.network_code), '') AS network FROM interview i"
        "  LEFT JOIN session s ON s.respondent = i.respondent AND s.opened_at >= i.began_at"
        f"   AND s.opened_at <= i.last_at WHERE {_THEIRS} GROUP BY i.id, i.disposition) g GROUP BY 1, 2"
    ):
        mixes["network"][network][disposition] += n
    # Wrong keys by item, the rest by interview.
    happened = {
        (kind, item): (int(n), int(interviews), int(repeated))
        for kind, item, n, interviews, repeated in rows(
            "SELECT kind, item, SUM(n), COUNT(*), SUM(CASE WHEN n > 1 THEN 1 ELSE 0 END) FROM ("
            "  SELECT e.kind, CASE WHEN e.kind = 'InvalidReply' THEN e.item ELSE '' END AS item,"
            "   CASE WHEN e.kind = 'InvalidReply' THEN '' ELSE e.interview END AS interview, COUNT(*) AS n"
            "  FROM event e JOIN interview i ON i.id = e.interview"
            f" WHERE e.kind IN ('InvalidReply', 'LanguageChosen', 'Resumed') AND {_THEIRS}"
            "  GROUP BY 1, 2, 3) g GROUP BY kind, item"
        )
    }
    nothing = (0, 0, 0)
    return Paradata(
        dispositions=dict(dispositions),
        withdrawn=rows(
            f"SELECT COUNT(*) FROM interview i WHERE {_of_wave('i')} AND i.counted"
            f" AND i.disposition = '{WITHDRAWN}'"
        )[0][0],
        made_up=rows(
            f"SELECT COUNT(*) FROM interview i WHERE {_THEIRS.replace(':simulated', 'TRUE')}"
            f" AND i.aggregator = '{SIMULATOR}'"
        )[0][0],
        left=dict(left),
        times=_times(db, given),
        invalid={item: n for (kind, item), (n, _, _) in happened.items() if kind == "InvalidReply"},
        mixes=mixes,
        conflicts={
            what: int(interviews)
            for what, interviews in rows(
                "SELECT c.what, COUNT(DISTINCT c.interview) FROM conflict c"
                f" JOIN interview i ON i.id = c.interview WHERE {_THEIRS} GROUP BY c.what ORDER BY c.what"
            )
        },
        switched_language=happened.get(("LanguageChosen", ""), nothing)[2],
        resumed=happened.get(("Resumed", ""), nothing)[1],
        several=len(several_interviews(db, given)),
    )


def _times(db: Connection, given: Mapping[str, Any]) -> dict[str, dict[str, Counter[int]]]:
    """One scan over the responses. Seconds are kept in tenths, so there are few different ones."""
    times: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: {m: Counter() for m in MODES})
    for item, mode, seconds, n in db.execute(
        text(
            "SELECT r.item, r.mode, r.seconds, COUNT(*) FROM response r"
            f" JOIN interview i ON i.id = r.interview WHERE {_THEIRS} AND {_TIMED} GROUP BY 1, 2, 3"
        ),
        given,
    ):
        if tenths := min(round(seconds * 10), _LONGEST):
            times[item][mode][tenths] += n
    return dict(times)


# ---------------------------------------------------------------- single interviews


def fast_interviews(
    db: Connection,
    given: Mapping[str, Any],
    medians: Mapping[str, float],
    part: float,
    seconds: float,
    answers: int,
) -> tuple[list[str], list[str], int]:
    """Interviews answered in under `part` of the time that the items' medians add up to; those with less
    than `seconds` an answer; and how many were judged, having at least `answers` timed ones over USSD.

    given: see `bound`, as of what follows.
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
        answered AS (
            SELECT r.interview, SUM(r.seconds) AS took, SUM(u.seconds) AS usual, COUNT(*) AS n
            FROM response r JOIN usual u ON u.item = r.item
            WHERE NOT r.retracted AND r.mode = 'ussd' AND r.seconds > 0
            GROUP BY r.interview HAVING COUNT(*) >= :answers
        ),
        each AS (SELECT a.* FROM answered a JOIN interview i ON i.id = a.interview WHERE {_THEIRS})"""
    found = db.execute(
        text(
            f"{each} SELECT interview, CASE WHEN {half} THEN 1 ELSE 0 END,"
            f" CASE WHEN {short} THEN 1 ELSE 0 END, 0 FROM each WHERE {half} OR {short}"
            " UNION ALL SELECT '', 0, 0, COUNT(*) FROM each"
        ),
        {**given, **values, "part": part, "seconds": seconds, "answers": answers},
    ).all()
    return (
        [row[0] for row in found if row[1]],
        [row[0] for row in found if row[2]],
        sum(row[3] for row in found),
    )


def interviews_of_several_days(db: Connection, given: Mapping[str, Any]) -> list[str]:
    """Those whose first and last hop lie on different days, UTC: Ghana's own time all year."""
    days = [f"SUBSTR(CAST(i.{name} AS VARCHAR(40)), 1, 10)" for name in ("began_at", "last_at")]
    return _ids(db, f"{days[0]} <> {days[1]}", given)


def interviews_out_of_order(db: Connection, given: Mapping[str, Any]) -> list[str]:
    """Those with a request that did not fit the dialogue: late, twice over, or diverging."""
    return _ids(db, "i.id IN (SELECT c.interview FROM conflict c)", given)


def several_interviews(db: Connection, given: Mapping[str, Any]) -> list[tuple[str | None, bool]]:
    """Of each respondent with more than one interview: which of them counts, and whether several are
    complete. By way of `attempt`, which numbers a respondent's: few have a second one."""
    statement = f"""
        SELECT MAX(CASE WHEN i.counted THEN i.id END),
               SUM(CASE WHEN i.disposition = '{COMPLETE}' THEN 1 ELSE 0 END) FROM interview i
        WHERE {_of_wave("i")} AND {_ASKED} AND i.respondent IN
            (SELECT o.respondent FROM interview o WHERE o.wave = :wave AND o.attempt > 1)
        GROUP BY i.respondent HAVING COUNT(*) > 1"""
    return [(counted, complete > 1) for counted, complete in db.execute(text(statement), given)]


def _ids(db: Connection, condition: str, given: Mapping[str, Any]) -> list[str]:
    found = db.execute(text(f"SELECT i.id FROM interview i WHERE {_THEIRS} AND {condition}"), given)
    return list(found.scalars())


def bound(instrument: Instrument, wave: str, simulated: bool) -> dict[str, Any]:
    """What the conditions are bound to."""
    like = "".join(f"/{c}" if c in "/%_" else c for c in f"{instrument.id}@")
    return {"wave": wave, "like": f"{like}%", "simulated": simulated}
