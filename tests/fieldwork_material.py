"""A wave in its second week, made up: everybody, every message and every answer that staff would see."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, insert

from flows.fielding import Quota
from flows.instrument import Instrument
from storage.database import writing
from storage.models import (
    Campaign,
    Interview,
    OutboundMessage,
    Respondent,
    Response,
    SampleNumber,
    UssdSession,
    table_of,
)

_NETWORKS = (("62001", 60), ("62002", 24), ("62003", 16))
_ENDS = (("complete", 58), ("partial", 12), ("break_off", 16), ("in_progress", 6), ("refusal", 5),
         ("ineligible", 2), ("withdrawn", 1))  # fmt: skip
_STATES = (("delivered", 70), ("sent", 8), ("failed", 12), ("unknown", 2), ("due", 8))
_REASONS = (("AbsentSubscriber", 60), ("UserDoesNotExist", 30), ("UserInBlackList", 10))
QUOTAS = (
    Quota("Sex and residence", ("respondent.sex", "respondent.residence"),
          {"female,urban": 120, "female,rural": 100, "male,urban": 110, "male,rural": 90}),
)  # fmt: skip


class Draw:
    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def one(self, weighted: Sequence[tuple[str, int]]) -> str:
        return self.random.choices([w[0] for w in weighted], [w[1] for w in weighted])[0]

    def chance(self, share: float) -> bool:
        return self.random.random() < share


def fill(
    engine: Engine,
    wave: str,
    instrument: Instrument,
    now: datetime,
    invited: int = 1500,
    dial_ins: int = 400,
    seed: int = 16,
) -> None:
    """Write it; `now` is the wave's twelfth day."""
    draw = Draw(seed)
    rows: dict[Any, list[dict[str, Any]]] = {
        m: [] for m in (Respondent, Campaign, SampleNumber, Interview, UssdSession, Response, OutboundMessage)
    }
    first = now - timedelta(days=11)
    rows[Campaign].append(
        {"id": f"main {wave}", "wave": wave, "state": "running", "aggregator": "africastalking",
         "created_at": first, "state_at": first}
    )  # fmt: skip
    for n in range(invited + dial_ins):
        who = f"{seed:08x}{n:024x}"
        network = draw.one(_NETWORKS)
        # Three replicates, released four days apart; the third is only half released.
        replicate = n * 3 // invited + 1
        released = first + timedelta(days=4 * (replicate - 1), minutes=n % 300)
        sampled, held_back = n < invited, replicate == 3 and n % 2 == 0
        rows[Respondent].append({"pseudonym": who, "first_seen_at": first, "opted_out_at": None})
        state = ""
        if sampled:
            left_out = "opted_out" if draw.chance(0.02) else None
            rows[SampleNumber].append(
                {"id": f"{wave} {who}", "wave": wave, "respondent": who, "campaign": f"main {wave}",
                 "replicate": replicate, "source": "rdd", "network": network, "loaded_at": first,
                 "released_at": None if held_back else released, "excluded": left_out}
            )  # fmt: skip
            if held_back or left_out:
                continue
            state = _invite(draw, rows, wave, who, network, released)
            if not state or not draw.chance(0.38 if state == "delivered" else 0.04):
                continue
            began = released + timedelta(hours=draw.random.expovariate(1 / 20))
        else:
            began = first + timedelta(days=draw.random.uniform(0, 11) ** 0.9)
        began = min(began, now - timedelta(minutes=n % 600))
        _interview(draw, rows, wave, instrument, who, network, began)
    with writing(engine) as db:
        for model, values in rows.items():
            keys = dict.fromkeys(key for row in values for key in row)
            if values:
                db.execute(insert(table_of(model)), [{k: row.get(k) for k in keys} for row in values])


def _invite(draw: Draw, rows: Any, wave: str, who: str, network: str, released: datetime) -> str:
    state = draw.one(_STATES)
    for kind in ("invitation", "reminder")[: 2 if state == "delivered" and draw.chance(0.5) else 1]:
        at = released + timedelta(days=2 * (kind == "reminder"))
        paid = state not in ("due", "failed")
        rows[OutboundMessage].append(
            {"id": f"{kind} {wave} {who}", "natural_key": f"{kind}:{wave}:{who}", "wave": wave,
             "respondent": who, "kind": kind, "priority": 4 if kind == "invitation" else 3, "text": "...",
             "aggregator": "africastalking", "network_code": network, "state": state,
             "failure_reason": draw.one(_REASONS) if state == "failed" else None, "not_before": at,
             "attempts": 0 if state == "due" else 1, "parts": None if state == "due" else 1,
             "cost_amount": "0.0300" if paid else None, "cost_currency": "GHS" if paid else None,
             "created_at": at, "sent_at": at if paid else None}
        )  # fmt: skip
    return "" if state in ("due", "failed") else state


def _interview(
    draw: Draw, rows: Any, wave: str, instrument: Instrument, who: str, network: str, began: datetime
) -> None:
    ends = draw.one(_ENDS)
    mode = "sms" if draw.chance(0.17) else "ussd"
    items = list(instrument.items)
    stopped_at = len(items)
    if ends in ("partial", "in_progress", "break_off"):
        least = 25 if ends == "partial" else 0
        stopped_at = min(len(items) - 1, int(least + draw.random.expovariate(1 / 9)))
    elif ends != "complete":
        stopped_at = 1
    interview = f"{who[8:]}"[-16:] + wave
    last = began + timedelta(seconds=12 * stopped_at)
    rows[Interview].append(
        {"id": interview, "respondent": who, "wave": wave, "attempt": 1, "counted": True,
         "instrument": instrument.reference, "language": "en", "mode": mode, "began_at": began,
         "last_at": last, "ended_at": last if ends == "complete" else None, "disposition": ends,
         "last_item": items[stopped_at].id if stopped_at < len(items) else "", "last_stage": "item",
         "version": 1, "language_version": 1, "consented_version": 1, "outcome_version": 1,
         "answered_version": 1}
    )  # fmt: skip
    rows[UssdSession].append(
        {"id": f"s {interview}", "respondent": who, "network_code": network, "hops": stopped_at,
         "opened_at": began}
    )  # fmt: skip
    if ends == "withdrawn":
        return
    for item in items[:stopped_at]:
        option = draw.random.choice(item.scale.options) if item.scale else None
        rows[Response].append(
            {"interview": interview, "item": item.id, "option": option.id if option else "",
             "code": option.code if option else None, "number": None if option else 34, "given_at": began,
             "mode": mode, "session": f"s {interview}", "version": 1, "retracted": False}
        )  # fmt: skip
