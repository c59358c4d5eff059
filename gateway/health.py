"""Whether every part works, with a line for the operator about each that does not."""

from typing import Any, cast

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.jobs import worker_health
from gateway.switchboard import Switchboard
from storage.database import SchemaError, check_schema
from storage.live import KEY_ID
from storage.rates import paused_senders
from storage.recorder import health
from storage.respondents import OtherKeyError
from storage.sweep import held_count


def look_at_parts(
    probe: "redis.Redis", engine: Engine, board: Switchboard, our_key: str
) -> dict[str, dict[str, Any]]:
    """Each part: whether it is up, and a line for the operator. `our_key`: the pseudonym key's id."""
    parts: dict[str, dict[str, Any]] = {"instrument": {"up": True, "detail": _waves(board)}}
    try:
        probe.ping()
        stands = cast(bytes | None, probe.get(KEY_ID))
        ours = stands is None or stands == our_key.encode()
        parts["live store"] = {"up": ours, "detail": "answers" if ours else str(OtherKeyError())}
    except redis.RedisError as error:
        parts["live store"] = {
            "up": False,
            "detail": f"{type(error).__name__}: start it or set DIAL16_REDIS_URL",
        }
    try:
        check_schema(engine)
        parts["database"] = {"up": True, "detail": f"{engine.dialect.name}, schema current"}
    except Exception as error:
        detail = str(error) if isinstance(error, SchemaError) else f"{type(error).__name__}: not reached"
        parts["database"] = {"up": False, "detail": detail}
    away = False  # asked once: each further question would wait as long again
    for name, ask in (("recorder", health), ("worker", worker_health)):
        try:
            up, detail = (False, "") if away else ask(probe)
        except redis.RedisError:
            up, away = False, True
        parts[name] = {"up": up, "detail": "unknown while the live store is away" if away else detail}
    reached = parts["live store"]["up"] and parts["database"]["up"]  # else asking again only takes longer
    said = sending_detail(probe, engine) if reached else "unknown while a store is away"
    parts["sending"] = {"up": True, "detail": said}
    return parts


def _waves(board: Switchboard) -> str:
    """The waves served. A closed one is no reason to take the gateway out of service."""
    return "; ".join(
        f"{d.wave.instrument.reference}, wave {d.wave.id}" + ("" if d.open_at(d.clock()) else " (closed)")
        for d in board.dialogues
    )


def sending_detail(probe: "redis.Redis", engine: Engine) -> str:
    """How sending fares. Never a reason to take the gateway out of service: who dials needs no text."""
    try:
        paused, held = paused_senders(probe), held_count(engine)
    except (redis.RedisError, SQLAlchemyError):
        return "unknown while a store is away"
    said = [
        f"PAUSED {p.aggregator} {p.sender or '(default)'} since {p.since:%Y-%m-%d %H:%M} UTC: {p.code}"
        + ("; mend it, then `python main.py sending --resume`" if p.until is None else "; for a minute")
        for p in paused
    ]
    if held:
        said.append(
            f"{held} messages HELD: set DIAL16_AT_API_KEY for the workers, see `python main.py messages`"
        )
    return "; ".join(said) or "no sender paused, no message held"
