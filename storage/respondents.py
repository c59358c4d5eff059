"""Respondents: from MSISDN to pseudonym, and out of the record again.

A pseudonym is a keyed hash: the same number gives the same one under the same key, and without the
key nobody can try numbers against it. Losing the key means that no respondent is recognised again;
leaking it means that every number can be tried. It stays out of the database and its backups.
"""

import hmac
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, delete, select, update

from storage.database import Write, among, moments, reading, writing
from storage.live import key_id
from storage.models import (
    WITHDRAWN,
    Event,
    FinalWeight,
    Interview,
    Respondent,
    Response,
    UssdSession,
    table_of,
)
from storage.outbox import forget_respondent, settle_contacts

_KEY_BYTES = 32
#: Events that tell nothing of the answers: they keep their payload after a withdrawal.
KEPT_AT_ERASURE = ("Began", "LanguageChosen", "Consented", "ErasureRequested")

_respondent, _interview = table_of(Respondent), table_of(Interview)
_response, _event, _session = table_of(Response), table_of(Event), table_of(UssdSession)
_weight = table_of(FinalWeight)
_add = Write(Respondent, ("pseudonym", "first_seen_at"))


class OtherKeyError(Exception):
    """Pseudonyms here were made under another key than the one given. Says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "DIAL16_PSEUDONYM_KEY: is not the one that this live store's interviews were kept under, so"
            " nobody would be recognised or could withdraw; set that one again, or begin with an empty live"
            " store and an empty database"
        )


class Pseudonyms:
    """What stands in for a number. Each use has its own tag, so that none gives away another."""

    def __init__(self, key: bytes):
        if len(key) < _KEY_BYTES:
            raise ValueError(
                f"the pseudonym key has {len(key)} bytes and needs at least {_KEY_BYTES}; make one with"
                ' `python -c "import secrets; print(secrets.token_hex(32))"` and keep it safe'
            )
        self._key = key
        self.key_id = key_id(key)

    def of(self, msisdn: str) -> str:
        """32 hex digits for an MSISDN in E.164 with `+`."""
        return hmac.digest(self._key, b"msisdn:" + msisdn.encode(), "sha256").hex()[:32]

    def seed(self, pseudonym: str, wave: str) -> int:
        """32 bits for every random choice of this respondent in this wave."""
        tagged = f"seed:{pseudonym}:{wave}".encode()
        return int.from_bytes(hmac.digest(self._key, tagged, "sha256")[:4], "big")

    def interview_id(self, pseudonym: str, session_id: str) -> str:
        """16 hex digits for the interview that begins with this session."""
        return hmac.digest(self._key, f"interview:{pseudonym}:{session_id}".encode(), "sha256").hex()[:16]


def lock_respondents(
    db: Connection, first_seen: Iterable[tuple[str, datetime]]
) -> list[tuple[str, datetime, datetime | None]]:
    """Add the respondents that are new and hold all of them until the transaction ends.

    Whoever changes what belongs to a respondent holds this lock, so that recorders and a withdrawal
    take turns. Always in the order of pseudonyms: two of them then never wait for each other.
    Returns pseudonym, first_seen_at, consented_at of each.
    """
    store = moments(db)
    rows = sorted(first_seen)
    _add(db, [(pseudonym, store(at)) for pseudonym, at in rows])
    held = db.execute(
        select(_respondent.c.pseudonym, _respondent.c.first_seen_at, _respondent.c.consented_at)
        .where(among(db, _respondent.c.pseudonym, [pseudonym for pseudonym, _ in rows]))
        .order_by(_respondent.c.pseudonym)
        .with_for_update(key_share=True)
    )
    return [(row.pseudonym, row.first_seen_at, row.consented_at) for row in held]


def erase_answers(db: Connection, interviews: Sequence[str]) -> None:
    """Take the answers of these interviews out of the record; the caller holds their respondents."""
    if not interviews:
        return
    db.execute(delete(_response).where(among(db, _response.c.interview, interviews)))
    # What somebody weighs tells their region, sex and age group.
    db.execute(delete(_weight).where(among(db, _weight.c.interview, interviews)))
    # In a session that the live store had lost, what was typed may look like an address.
    theirs = select(_interview.c.respondent).where(among(db, _interview.c.id, interviews))
    held = select(_event.c.session).where(among(db, _event.c.interview, interviews))
    db.execute(
        update(_session)
        .where(_session.c.respondent.in_(theirs), _session.c.id.in_(held))
        .values(extension=None)
    )
    db.execute(
        update(_event)
        .where(among(db, _event.c.interview, interviews), _event.c.kind.not_in(KEPT_AT_ERASURE))
        .values(payload="{}", item=None)  # which items came tells how gates were answered
    )


def knows(engine: Engine, respondent: str) -> bool:
    """Whether the record has this pseudonym: they dialled, wrote, or were in a sample."""
    with reading(engine) as db:
        known = select(_respondent.c.pseudonym).where(_respondent.c.pseudonym == respondent)
        return db.execute(known).first() is not None


def erase(engine: Engine, respondent: str, wave: str | None = None, receipt: str | None = None) -> int:
    """Withdraw the respondent (by pseudonym) from a wave, or from all: answers go, the rows stay.

    For subject-access requests; a withdrawal on the handset comes through the event stream and does
    the same. With no wave named their number goes too, and what was to be sent to it, and they count as
    opted out, so that no later sample invites them again. Answers still in the stream are not recorded
    afterwards either. Returns the number of interviews erased, 0 if the record knows none; the live store
    is the caller's to empty.
    """
    now = datetime.now(UTC)
    with writing(engine) as db:
        if not db.execute(
            select(_respondent.c.pseudonym).where(_respondent.c.pseudonym == respondent)
        ).first():
            return 0
        lock_respondents(db, [(respondent, now)])
        which = [_interview.c.respondent == respondent]
        if wave is not None:
            which.append(_interview.c.wave == wave)
        ids = list(db.execute(select(_interview.c.id).where(*which)).scalars())
        erase_answers(db, ids)
        if ids:
            db.execute(
                update(_interview)
                .where(among(db, _interview.c.id, ids), _interview.c.disposition != WITHDRAWN)
                .values(
                    disposition=WITHDRAWN,
                    withdrawn_at=now,
                    receipt=receipt,
                    last_item="",
                    last_stage="",
                    marks=None,
                )
            )
            settle_contacts(db, [respondent])
        if wave is None:
            db.execute(
                update(_respondent).where(_respondent.c.pseudonym == respondent).values(opted_out_at=now)
            )
            forget_respondent(db, respondent, now)
        return len(ids)
