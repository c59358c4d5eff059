"""Folding hops into the record: the same tables come out whatever the order, however often.

Under the lock of its respondents (see `lock_respondents`) a batch reads their interviews, folds its
hops in and writes the outcome. What makes order and repetition harmless:

 * an event's key is (interview, version, position in the hop): written once, never changed;
 * a response, and each changing field of an interview, keeps the version that wrote it, and a later
   version wins;
 * the rest are first and last times, counts that only grow, and facts that `Began` states once;
 * attempts are numbered in the order in which interviews began, not in which they arrived;
 * a withdrawal holds for the respondent's whole wave: answers of a withdrawn interview are neither
   kept nor, arriving later, written.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from flows.engine import Began, Consented, Effect, ResponseGiven, ResponseRetracted, dump_effect
from storage.airtime import fold_airtime
from storage.database import Write, among, moments
from storage.entries import (
    AirtimeReported,
    ConflictNoted,
    DeliveryReported,
    Entry,
    Hop,
    OptedOut,
    SessionEnded,
    TextCommand,
)
from storage.marks import noted, restore_marks, stored_instrument, unmarked
from storage.models import (
    WITHDRAWN,
    Conflict,
    Event,
    Interview,
    Respondent,
    Response,
    UssdSession,
    table_of,
)
from storage.outbox import settle_contacts
from storage.outgoing import Due, fold_outgoing, fold_reports
from storage.respondents import KEPT_AT_ERASURE, erase_answers, lock_respondents
from storage.results_wanted import fold_wanted
from storage.standing import COLUMNS, Standing, settle_together

Row = tuple[Any, ...]
_interview = table_of(Interview)

_TIMES = tuple(COLUMNS.index(c.name) for c in _interview.c if c.name.endswith("_at"))
_ATTEMPT, _DISPOSITION = COLUMNS.index("attempt"), COLUMNS.index("disposition")
_as_row: Callable[[Standing], Row] = attrgetter(*COLUMNS)

_write_respondents = Write(
    Respondent,
    ("pseudonym", "first_seen_at", "consented_at", "consent_version"),
    {
        "first_seen_at": "excluded.first_seen_at",
        "consented_at": "COALESCE(excluded.consented_at, respondent.consented_at)",
        "consent_version": "COALESCE(excluded.consent_version, respondent.consent_version)",
    },
)
_write_interviews = Write(Interview, COLUMNS, COLUMNS[1:])
_write_events = Write(Event, ("interview", "version", "position", "kind", "item", "payload", "at", "session"))
_ANSWER = (
    "option",
    "code",
    "number",
    "given_at",
    "seconds",
    "tries",
    "mode",
    "session",
    "version",
    "retracted",
)
_write_responses = Write(
    Response, ("interview", "item", *_ANSWER), _ANSWER, where="excluded.version > response.version"
)
_write_conflicts = Write(Conflict, ("session", "respondent", "at", "what", "interview"))

_OPENED = ("aggregator", "network_code", "service_code", "extension")
_write_sessions = Write(
    UssdSession,
    ("id", "respondent", *_OPENED, "opened_at", "last_at", "hops"),
    {name: f"COALESCE(excluded.{name}, session.{name})" for name in (*_OPENED, "opened_at")}
    | {
        "last_at": "CASE WHEN session.last_at > excluded.last_at"
        " THEN session.last_at ELSE excluded.last_at END",
        "hops": "CASE WHEN session.hops > excluded.hops THEN session.hops ELSE excluded.hops END",
    },
)
_NOTICE = ("status", "error", "duration_ms", "hops_reported", "cost", "cost_currency", "cost_amount")
#: The first notice of a session's end holds; a later one fills what it left empty.
_write_notices = Write(
    UssdSession,
    ("id", "respondent", "hops", *_OPENED[:3], "ended_at", *_NOTICE),
    {name: f"COALESCE(session.{name}, excluded.{name})" for name in _OPENED[:3]}
    | {
        name: f"CASE WHEN excluded.ended_at < session.ended_at THEN COALESCE(excluded.{name}, session.{name})"
        f" ELSE COALESCE(session.{name}, excluded.{name}) END"
        for name in ("ended_at", *_NOTICE)
    },
)


def fold(db: Connection, entries: Iterable[Entry]) -> list[Due]:
    """Fold a batch in, in one transaction that the caller opened and commits.

    Returns the messages that it asks to send, for the queues once it is committed.
    """
    hops: list[Hop] = []
    notices: list[SessionEnded] = []
    conflicts: list[ConflictNoted] = []
    commands: list[TextCommand] = []
    opt_outs: list[OptedOut] = []
    reports: list[DeliveryReported] = []
    airtime: list[AirtimeReported] = []
    for entry in entries:
        match entry:
            case Hop():
                hops.append(entry)
            case SessionEnded():
                notices.append(entry)
            case ConflictNoted():
                conflicts.append(entry)
            case TextCommand():
                commands.append(entry)
            case OptedOut():
                opt_outs.append(entry)
            case DeliveryReported():
                reports.append(entry)
            case AirtimeReported():
                airtime.append(entry)
    store = moments(db)
    _hold_respondents(db, [*hops, *notices, *conflicts, *commands, *opt_outs], hops)
    if hops:
        standings, late = _fold_interviews(db, hops)
        _fold_answers(db, hops, standings)
        if late:
            restore_marks(db, late)
        _fold_sessions(db, hops, standings)
        fold_wanted(db, hops)
    if notices:
        _fold_notices(db, notices)
    noted = {(c.session, c.respondent, store(c.at), c.what): c.interview for c in conflicts}
    _write_conflicts(db, [(*key, interview) for key, interview in noted.items()])
    due = fold_outgoing(db, hops, commands, opt_outs)
    if reports:
        fold_reports(db, reports)
    if airtime:
        fold_airtime(db, airtime)
    return due


Told = Hop | SessionEnded | ConflictNoted | TextCommand | OptedOut  # names its respondent


def _hold_respondents(db: Connection, entries: Sequence[Told], hops: Sequence[Hop]) -> None:
    first_seen: dict[str, datetime] = {}
    for entry in entries:
        known = first_seen.get(entry.respondent)
        if known is None or entry.at < known:
            first_seen[entry.respondent] = entry.at
    consents: dict[str, tuple[datetime, str]] = {}
    for hop in hops:
        for effect in hop.effects:
            if isinstance(effect, Consented):
                consent = (hop.at, effect.version)
                consents[hop.respondent] = max(consents.get(hop.respondent, consent), consent)
    store = moments(db)
    rows: list[Row] = []
    for pseudonym, seen_at, consented_at in lock_respondents(db, first_seen.items()):
        newer = consents.get(pseudonym)
        if newer is not None and consented_at is not None and newer[0] <= consented_at:
            newer = None
        if newer is not None or first_seen[pseudonym] < seen_at:
            at = store(min(seen_at, first_seen[pseudonym]))
            rows.append((pseudonym, at, store(newer[0]) if newer else None, newer[1] if newer else None))
    _write_respondents(db, rows)


def _fold_interviews(db: Connection, hops: Sequence[Hop]) -> tuple[Mapping[str, Standing], set[str]]:
    """The interviews of this batch's respondents and waves, by id, as they now stand in the record.

    And those whose marks are to be made anew from their responses: a hop came late, or twice.
    """
    known = db.execute(
        select(*(_interview.c[c] for c in COLUMNS)).where(
            among(db, _interview.c.respondent, {h.respondent for h in hops})
        )
    )
    standings = {row.id: Standing(*row) for row in known}
    before = {s.id: _as_row(s) for s in standings.values()}
    late: set[str] = set()
    for hop in hops:
        standing = standings.get(hop.interview)
        if standing is None:
            standing = Standing(hop.interview, hop.respondent, hop.wave, hop.at, hop.at)
            standings[hop.interview] = standing
        next_in_order = hop.version > standing.version
        standing.fold(hop)
        instrument = stored_instrument(db, standing.instrument)
        if instrument is None:
            continue
        if standing.marks is None and hop.effects and isinstance(hop.effects[0], Began):
            standing.marks = unmarked(instrument)
        if next_in_order and standing.marks is not None:
            standing.marks = noted(standing.marks, instrument, hop.effects)
        else:
            late.add(hop.interview)
    together: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for standing in standings.values():
        together[standing.respondent, standing.wave].append(standing)
    for interviews in together.values():
        settle_together(interviews)
    changed = [s for s in sorted(standings.values(), key=attrgetter("id")) if before.get(s.id) != _as_row(s)]
    renumbered = [s.id for s in changed if s.id in before and before[s.id][_ATTEMPT] != s.attempt]
    if renumbered:  # make way first: (respondent, wave, attempt) is unique at every row written
        db.execute(
            update(_interview)
            .where(among(db, _interview.c.id, renumbered))
            .values(attempt=-_interview.c.attempt)
        )
    store = moments(db)
    rows = []
    for standing in changed:
        values = list(_as_row(standing))
        for n in _TIMES:
            values[n] = store(values[n])
        rows.append(tuple(values))
    _write_interviews(db, rows)
    withdrawn = [s.id for s in changed if s.disposition == WITHDRAWN]
    erase_answers(db, [i for i in withdrawn if i in before and before[i][_DISPOSITION] != WITHDRAWN])
    if withdrawn:
        settle_contacts(db, {standings[i].respondent for i in withdrawn})
    return standings, late


def _fold_answers(db: Connection, hops: Sequence[Hop], standings: Mapping[str, Standing]) -> None:
    store = moments(db)
    events: dict[tuple[str, int, int], Row] = {}
    answers: dict[tuple[str, str], Row] = {}
    versions: dict[tuple[str, str], int] = {}
    for hop in hops:
        withdrawn = standings[hop.interview].disposition == WITHDRAWN
        at = store(hop.at)
        for position, effect in enumerate(hop.effects):
            kind = type(effect).__name__
            item = getattr(effect, "item", None)
            blank = withdrawn and kind not in KEPT_AT_ERASURE
            events[hop.interview, hop.version, position] = (
                hop.interview, hop.version, position, kind, None if blank else item,
                "{}" if blank else _payload(effect), at, hop.session,
            )  # fmt: skip
            if withdrawn or not isinstance(effect, ResponseGiven | ResponseRetracted):
                continue
            key = (hop.interview, effect.item)
            if hop.version >= versions.get(key, -1):
                versions[key] = hop.version
                answers[key] = (*key, *_answer(effect), at, *_effort(effect), hop.mode, hop.session,
                                hop.version, isinstance(effect, ResponseRetracted))  # fmt: skip
    _write_events(db, list(events.values()))
    _write_responses(db, list(answers.values()))


def _payload(effect: Effect) -> str:
    data = dump_effect(effect)
    del data["kind"]
    return orjson.dumps(data).decode()


def _answer(effect: ResponseGiven | ResponseRetracted) -> tuple[str | None, int | None, int | None]:
    """option, code, number. A number is no code: an age of 98 is not "don't know"."""
    if isinstance(effect, ResponseRetracted):
        return None, None, None
    return (effect.option, effect.code, None) if effect.option else ("", None, effect.code)


def _effort(effect: ResponseGiven | ResponseRetracted) -> tuple[float | None, int | None]:
    return (None, None) if isinstance(effect, ResponseRetracted) else (float(effect.seconds), effect.tries)


def _fold_sessions(db: Connection, hops: Sequence[Hop], standings: Mapping[str, Standing]) -> None:
    store = moments(db)
    last: dict[tuple[str, str], Hop] = {}
    opened: dict[tuple[str, str], Hop] = {}
    times: dict[tuple[str, str], datetime] = {}
    for hop in hops:
        key = (hop.session, hop.respondent)
        if key not in last or hop.hop > last[key].hop:
            last[key] = hop
        times[key] = max(times.get(key, hop.at), hop.at)
        if hop.opened is not None:
            opened[key] = hop
    rows = []
    for key, hop in last.items():
        first = opened.get(key)
        told = dict(first.opened) if first and first.opened else {}
        if standings[hop.interview].disposition == WITHDRAWN:
            told.pop("extension", None)
        rows.append(
            (*key, *(told.get(name) for name in _OPENED), store(first.at) if first else None,
             store(times[key]), hop.hop)
        )  # fmt: skip
    _write_sessions(db, rows)


def _fold_notices(db: Connection, notices: Sequence[SessionEnded]) -> None:
    store = moments(db)
    waiting = list(notices)
    while waiting:  # a statement may meet each row once only, so repeated notices take turns
        rows: dict[tuple[str, str], Row] = {}
        later = []
        for n in waiting:
            key = (n.session, n.respondent)
            if key in rows:
                later.append(n)
                continue
            rows[key] = (
                *key, 0, n.aggregator, n.network_code, n.service_code, store(n.at), n.status, n.error,
                n.duration_ms, n.hops, n.cost, *n.cost_parts,
            )  # fmt: skip
        _write_notices(db, list(rows.values()))
        waiting = later
