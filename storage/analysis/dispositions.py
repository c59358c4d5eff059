"""Final dispositions: what became of everybody who was invited or dialled, in AAPOR's terms, by rule.

The view `dispositions` has one row for each number in a wave's sample and for each person who took part
without an invitation. Its rule is one CASE in a fixed order of precedence, so every row ends in exactly
one outcome, whatever combination of facts the record holds; docs/dispositions.md is that rule in prose.

    disposition   how it stands now; `in_progress` and `waiting` are still open
    if_closed     what it would be if the wave closed this moment: never open
    aapor         the code of `if_closed`; null for numbers that were not fielded

The interview that counts decides (`interview.counted`), so the record, the sweep that closes what was
not resumed (`record.close_unfinished`) and this view cannot disagree: only for an interview in progress
is the sweep's rule asked here, in advance. Codes: AAPOR, Standard Definitions (10th edition, 2023),
outcome codes for telephone samples; rates after its chapter on calculating outcome rates.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from flows.instrument import NONRESPONSE
from storage.analysis.counted import SIMULATOR
from storage.database import reading


@dataclass(frozen=True, slots=True)
class Outcome:
    """One final disposition."""

    name: str
    aapor: str  # "" = not fielded, so without a code
    group: str  # I, P, R, NC, O, U (unknown eligibility), X (not eligible), "" (not fielded)
    meaning: str


#: Every outcome there is. The order is that of AAPOR's codes; the order of precedence is the CASE's.
OUTCOMES = (
    Outcome("complete", "1.1", "I", "reached the end of the questionnaire"),
    Outcome("partial", "1.2", "P", "stopped, after the overall question of one service or more"),
    Outcome("refusal", "2.11", "R", "said no when asked to take part"),
    Outcome("opted_out", "2.11", "R", "asked not to be contacted (STOP)"),
    Outcome("withdrawn", "2.11", "R", "had the answers erased"),
    Outcome("break_off", "2.12", "R", "stopped before the overall question of any service"),
    Outcome("no_reply", "2.2", "NC", "an invitation arrived; nobody answered it"),
    Outcome("other", "2.3", "O", "ended in another way"),
    Outcome("no_report", "3.1", "U", "a message was sent; nothing says whether it arrived"),
    Outcome("not_attempted", "3.11", "U", "released, but no message left us"),
    Outcome("undelivered", "3.16", "U", "no message arrived"),
    Outcome("not_in_service", "4.3", "X", "the network says that there is no such number"),
    Outcome("ineligible", "4.7", "X", "under age, or not resident"),
    Outcome("quota_full", "4.8", "X", "eligible, but the quota was full"),
    Outcome("not_released", "", "", "in the sample, in a replicate that was not released"),
    Outcome("excluded", "", "", "in the sample, left out before any message"),
    Outcome("results_only", "", "", "dialled for the results, and neither took part nor said no"),
)
BY_NAME = {outcome.name: outcome for outcome in OUTCOMES}
#: Where somebody stands who has not come to an outcome yet.
OPEN = {"in_progress": "answering, or may still go on", "waiting": "a message is still to be sent"}

#: Reasons of failure, as the aggregator gives them, less case and underscores. Africa's Talking: a send's
#: statusCode 403 and 406, a delivery report's failureReason. A suspended or inactive line may come back.
_NO_SUCH_NUMBER = ("invalidphonenumber", "userdoesnotexist")
_BLACKLISTED = ("userinblacklist",)  # asked their network, or the aggregator, to stop our texts

#: Somebody dialled for it; and in the sample of a campaign that writes to people, not to made-up handsets.
_HELD = f"COALESCE(i.aggregator, '') <> '{SIMULATOR}'"
_SAMPLED = f"s.campaign NOT IN (SELECT id FROM campaign WHERE aggregator = '{SIMULATOR}')"

#: What the invitation and reminders that went furthest came to. The greatest holds.
_CANCELLED, _TO_SEND, _SENT, _UNDELIVERED, _NO_NUMBER, _STOPPED, _DELIVERED = range(7)


def create_view(db: Connection) -> None:
    """Make the view; the tables stand. Statements without "%" and bound text, for both drivers."""
    db.exec_driver_sql(f"CREATE VIEW dispositions AS {_view()}")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _view(simulated: bool = True) -> str:
    """Everybody's case by rule, in one of two arms, then what that case is called.

    Not simulated: as if no interview had been made up here, nor any campaign sent to made-up handsets.

    So no condition is asked twice a row: neither engine merges the two arms into what stands around them,
    and the LEFT JOIN keeps SQLite from going through everybody once for each name.
    """
    reason = "LOWER(REPLACE(COALESCE(m.failure_reason, ''), '_', ''))"
    cases = [(o.name, o.name, o.name) for o in OUTCOMES]
    cases += [
        ("answering, enough", "in_progress", "partial"),
        ("answering", "in_progress", "break_off"),
        ("to be written to", "waiting", "not_attempted"),
    ]
    named = ", ".join(
        f"('{case}', '{now}', '{closed}', NULLIF('{BY_NAME[closed].aapor}', ''))"
        for case, now, closed in cases
    )
    fielded = f"((s.released_at IS NOT NULL AND s.excluded IS NULL) OR COALESCE(c.came_to, 0) >= {_SENT})"
    stopped = _stopped("s.wave", "COALESCE(s.released_at, i.began_at)", "COALESCE(i.began_at, s.released_at)")
    held, sampled = ("TRUE", "TRUE") if simulated else (_HELD, _SAMPLED)
    looked = f"CASE WHEN {fielded} THEN 'other' ELSE 'results_only' END"
    return f"""
        WITH contact AS (
            SELECT m.wave, m.respondent, MAX(CASE
                WHEN m.state = 'delivered' THEN {_DELIVERED}
                WHEN m.state = 'failed' AND {reason} IN ({_listed(_BLACKLISTED)}) THEN {_STOPPED}
                WHEN m.state = 'failed' AND {reason} IN ({_listed(_NO_SUCH_NUMBER)}) THEN {_NO_NUMBER}
                WHEN m.state = 'failed' THEN {_UNDELIVERED}
                WHEN m.state IN ('sending', 'sent', 'unknown') THEN {_SENT}
                WHEN m.state IN ('due', 'held') THEN {_TO_SEND}
                ELSE {_CANCELLED} END) AS came_to
            FROM outbound_message m
            WHERE m.kind IN ('invitation', 'reminder')
            GROUP BY m.wave, m.respondent
        ),
        unit AS (
            SELECT s.wave, s.respondent, i.id AS interview, s.replicate,
                   CASE WHEN {fielded} OR i.id IS NULL THEN 'sample' ELSE 'dial_in' END AS origin,
                   CASE
                       {_interview_cases(stopped, looked)}
                       WHEN NOT {fielded} AND s.excluded IS NOT NULL THEN 'excluded'
                       WHEN NOT {fielded} THEN 'not_released'
                       WHEN {stopped} THEN 'opted_out'
                       WHEN c.came_to = {_DELIVERED} THEN 'no_reply'
                       WHEN c.came_to = {_STOPPED} THEN 'opted_out'
                       WHEN c.came_to = {_NO_NUMBER} THEN 'not_in_service'
                       WHEN c.came_to = {_UNDELIVERED} THEN 'undelivered'
                       WHEN c.came_to = {_SENT} THEN 'no_report'
                       WHEN c.came_to = {_CANCELLED} THEN 'not_attempted'
                       ELSE 'to be written to'
                   END AS its_case
            FROM sample_number s
            LEFT JOIN contact c ON c.wave = s.wave AND c.respondent = s.respondent
            LEFT JOIN interview i ON i.respondent = s.respondent AND i.wave = s.wave AND i.counted AND {held}
            LEFT JOIN respondent r ON r.pseudonym = s.respondent
            WHERE {sampled}
            UNION ALL
            SELECT i.wave, i.respondent, i.id, NULL, 'dial_in',
                   CASE {_interview_cases(_stopped("i.wave", "i.began_at", "i.began_at"))} END
            FROM interview i
            LEFT JOIN respondent r ON r.pseudonym = i.respondent
            WHERE i.counted AND {held} AND NOT EXISTS (
                SELECT 1 FROM sample_number s
                WHERE s.respondent = i.respondent AND s.wave = i.wave AND {sampled})
        ),
        named (its_case, disposition, if_closed, aapor) AS (VALUES {named})
        SELECT u.wave, u.respondent, u.interview, u.origin, u.replicate,
               n.disposition, n.if_closed, n.aapor
        FROM unit u LEFT JOIN named n ON n.its_case = u.its_case
    """


def _interview_cases(stopped: str, looked: str = "'results_only'") -> str:
    """The first rules: of everybody who has an interview, and so of nobody else. `looked`: what one is who
    saw the results only; who had been invited is a contact without an interview all the same."""
    return f"""
        WHEN i.disposition IN ('complete', 'withdrawn', 'partial', 'ineligible', 'quota_full', 'refusal')
             THEN i.disposition
        WHEN i.disposition IN ('in_progress', 'break_off') AND {stopped}
             THEN CASE WHEN i.disposition = 'in_progress' AND {_adds()} THEN 'partial' ELSE 'opted_out' END
        WHEN i.disposition = 'in_progress' AND {_adds()} THEN 'answering, enough'
        WHEN i.disposition = 'in_progress' THEN 'answering'
        WHEN i.disposition = 'break_off' THEN 'break_off'
        WHEN i.disposition = 'results_only' THEN {looked}
        WHEN i.id IS NOT NULL THEN 'other'"""


def _stopped(wave: str, first: str, last: str) -> str:
    """Opted out after this wave first reached them, and before a later wave did; and have not come back.

    So that a STOP said to a later wave does not turn the non-contacts of an earlier one into refusals.
    By way of `campaign`, which is small and names every wave with a sample: the index of its numbers
    begins with the wave. (SQLite keeps the order of a CROSS JOIN.)
    """
    return f"""(r.opted_out_at IS NOT NULL AND r.opted_out_at >= {first}
        AND (r.opted_in_at IS NULL OR r.opted_in_at < r.opted_out_at)
        AND NOT EXISTS (SELECT 1 FROM interview l WHERE l.respondent = r.pseudonym
                        AND l.wave <> {wave}
                        AND l.began_at > {last} AND l.began_at <= r.opted_out_at)
        AND NOT EXISTS (SELECT 1 FROM campaign k CROSS JOIN sample_number l
                        WHERE l.wave = k.wave AND l.respondent = r.pseudonym
                        AND k.wave <> {wave}
                        AND l.released_at > {last} AND l.released_at <= r.opted_out_at))"""


def _adds() -> str:
    """The rule of `record.close_unfinished`: the overall item of a service, answered on its scale."""
    return f"""EXISTS (
        SELECT 1 FROM response a
        JOIN codebook_item o ON o.instrument = i.instrument AND o.item = a.item AND o.role = 'overall'
        WHERE a.interview = i.id AND NOT a.retracted AND a.option NOT IN ({_listed(NONRESPONSE)}))"""


# ---------------------------------------------------------------- counts


@dataclass(frozen=True, slots=True)
class Count:
    """How many stand so."""

    origin: str  # sample | dial_in
    disposition: str
    if_closed: str
    n: int


def count_dispositions(engine: Engine, wave: str, simulated: bool = True) -> list[Count]:
    """The wave's dispositions, counted; in no order. Not simulated: as if nothing had been made up here."""
    with reading(engine) as db:
        return read_counts(db, wave, simulated)


def read_counts(db: Connection, wave: str, simulated: bool = True) -> list[Count]:
    """The same, from this state of the database."""
    rows = "dispositions" if simulated else f"({_view(simulated=False)}) d"
    found = db.execute(
        text(
            f"SELECT origin, disposition, if_closed, COUNT(*) FROM {rows} WHERE wave = :wave"
            " GROUP BY origin, disposition, if_closed"
        ),
        {"wave": wave},
    )
    return [Count(*row) for row in found]


# ---------------------------------------------------------------- rates


@dataclass(frozen=True, slots=True)
class Rate:
    """One of AAPOR's outcome rates. `value` is a fraction, None where there is no denominator."""

    name: str
    formula: str
    meaning: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of the invited sample, as if the wave closed now. Unweighted."""

    counts: dict[str, int]  # by group, see Outcome
    e: float | None  # share of eligible among those whose eligibility is known
    rates: tuple[Rate, ...]


#: Numerators and denominators, over I P R NC O U and eU (e times U).
_RATES = (
    ("RR1", "I / (I+P+R+NC+O+U)", "completes, of all that may be eligible", "I", "I P R NC O U"),
    ("RR2", "(I+P) / (I+P+R+NC+O+U)", "completes and partials, of the same", "I P", "I P R NC O U"),
    ("RR3", "I / (I+P+R+NC+O+eU)", "completes, of those estimated eligible", "I", "I P R NC O eU"),
    ("RR4", "(I+P) / (I+P+R+NC+O+eU)", "completes and partials, of the same", "I P", "I P R NC O eU"),
    ("RR5", "I / (I+P+R+NC+O)", "completes, of those known eligible", "I", "I P R NC O"),
    ("RR6", "(I+P) / (I+P+R+NC+O)", "completes and partials, of the same", "I P", "I P R NC O"),
    ("COOP1", "I / (I+P+R+O)", "completes, of those reached", "I", "I P R O"),
    ("REF1", "R / (I+P+R+NC+O+U)", "refusals and break-offs, of all that may be eligible", "R",
     "I P R NC O U"),
    ("CON1", "(I+P+R+O) / (I+P+R+NC+O+U)", "reached, of all that may be eligible", "I P R O",
     "I P R NC O U"),
)  # fmt: skip


def rates(counts: Iterable[Count]) -> Rates | None:
    """The rates of the invited sample; None where nobody was invited: the denominator is unknown.

    e = eligible / (eligible + not eligible) among those resolved; None, and RR3 and RR4 with it, while
    nobody is.
    """
    groups: Counter[str] = Counter()
    for count in counts:
        if count.origin == "sample":
            groups[BY_NAME[count.if_closed].group] += count.n
    groups.pop("", None)
    if not groups.total():
        return None
    eligible = groups["I"] + groups["P"] + groups["R"] + groups["NC"] + groups["O"]
    e = eligible / (eligible + groups["X"]) if eligible + groups["X"] else None
    values: dict[str, float | None] = dict(groups) | {
        "eU": 0.0 if not groups["U"] else None if e is None else e * groups["U"]
    }

    def total(names: str) -> float | None:
        parts = [values.get(name, 0) for name in names.split()]
        return None if any(part is None for part in parts) else float(sum(part or 0 for part in parts))

    made = []
    for name, formula, meaning, over, under in _RATES:
        above, below = total(over), total(under)
        made.append(Rate(name, formula, meaning, above / below if above is not None and below else None))
    return Rates({g: groups[g] for g in ("I", "P", "R", "NC", "O", "U", "X")}, e, tuple(made))
