"""How a campaign stands: its numbers and messages by state. No number and no text."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine, and_, case, exists, func, literal, or_, select

from storage.campaigns import of_campaign
from storage.database import reading
from storage.models import Interview, OutboundMessage, SampleNumber, table_of
from storage.outbox import INVITATION

_sample, _message, _interview = table_of(SampleNumber), table_of(OutboundMessage), table_of(Interview)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one kind and state."""

    kind: str
    state: str
    reason: str
    count: int
    parts: int
    cost: Mapping[str, Decimal]  # by currency


def numbers_by_state(engine: Engine, campaign: str) -> list[tuple[str, str, int]]:
    """How many numbers stand how: each in exactly one (state, detail).

    left alone (why), not released, to be invited, invited (the invitation's state), and once they have
    come, the disposition of their interview.
    """
    invitation = _message.alias()
    state = case(
        (_interview.c.disposition.is_not(None), literal("came")),
        (invitation.c.state.is_not(None), literal("invited")),
        (_sample.c.excluded.is_not(None), literal("left alone")),
        (_sample.c.released_at.is_(None), literal("not released")),
        else_=literal("to be invited"),
    )
    detail = func.coalesce(
        _interview.c.disposition, invitation.c.state, _sample.c.excluded, literal(""), type_=_sample.c.id.type
    )
    joined = _sample.outerjoin(
        _interview,
        and_(
            _interview.c.respondent == _sample.c.respondent, _interview.c.wave == _sample.c.wave,
            _interview.c.counted,
        ),
    ).outerjoin(
        invitation,
        and_(
            invitation.c.respondent == _sample.c.respondent, invitation.c.wave == _sample.c.wave,
            invitation.c.kind == INVITATION,
        ),
    )  # fmt: skip
    inner = select(state.label("state"), detail.label("detail")).select_from(joined).where(
        _sample.c.campaign == campaign
    ).subquery()  # fmt: skip
    with reading(engine) as db:
        rows = db.execute(
            select(inner.c.state, inner.c.detail, func.count())
            .group_by(inner.c.state, inner.c.detail)
            .order_by(inner.c.state, inner.c.detail)
        )
        return [(row[0], row[1], row[2]) for row in rows]


def messages_by_state(engine: Engine, campaign: str) -> list[Messages]:
    """The campaign's messages by kind, state and why, with parts and cost as the aggregator told them."""
    reason = func.coalesce(_message.c.failure_reason, "")
    with reading(engine) as db:
        rows = db.execute(
            select(
                _message.c.kind, _message.c.state, reason, _message.c.cost_currency, _message.c.cost_amount,
                func.count(), func.coalesce(func.sum(_message.c.parts), 0),
            )
            .where(of_campaign(campaign))
            .group_by(
                _message.c.kind, _message.c.state, reason, _message.c.cost_currency, _message.c.cost_amount
            )
        ).all()  # fmt: skip
    found: dict[tuple[str, str, str], Messages] = {}
    for kind, state, why, currency, amount, count, parts in rows:
        had = found.get((kind, state, why), Messages(kind, state, why, 0, 0, {}))
        cost = dict(had.cost)
        if amount is not None:  # decimal text: summed here, exactly
            cost[currency or ""] = cost.get(currency or "", Decimal(0)) + Decimal(amount) * count
        found[kind, state, why] = Messages(kind, state, why, had.count + count, had.parts + int(parts), cost)
    return [found[key] for key in sorted(found)]


def to_write_by_language(
    engine: Engine, campaign: str, up_to: int | None = None
) -> list[tuple[str | None, int]]:
    """How many numbers would get an invitation, by the language of the sample: those released and not yet
    invited, and with `up_to` those of replicates to that one."""
    invited = exists().where(
        _message.c.respondent == _sample.c.respondent, _message.c.wave == _sample.c.wave,
        _message.c.kind == INVITATION,
    )  # fmt: skip
    wanted = or_(_sample.c.released_at.is_not(None), _sample.c.replicate <= (up_to or 0))
    with reading(engine) as db:
        rows = db.execute(
            select(_sample.c.language, func.count())
            .where(_sample.c.campaign == campaign, _sample.c.excluded.is_(None), ~invited, wanted)
            .group_by(_sample.c.language)
            .order_by(_sample.c.language)
        )
        return [(row[0], row[1]) for row in rows]
