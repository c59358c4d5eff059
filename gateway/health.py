"""Whether every part works, with a line for the operator about each that does not."""

from typing import Any

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flows.wave import Wave
from storage.database import SchemaError, check_schema
from storage.rates import paused_senders
from storage.recorder import health
from storage.sweep import held_count


def look_at_parts(probe: "redis.Redis", engine: Engine, wave: Wave) -> dict[str, dict[str, Any]]:
    """Each part: whether it is up, and a line for the operator."""
    parts: dict[str, dict[str, Any]] = {
        "instrument": {"up": True, "detail": f"{wave.instrument.reference}, wave {wave.id}"}
    }
    try:
        probe.ping()
        parts["live store"] = {"up": True, "detail": "answers"}
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
    try:
        up, detail = health(probe)
        parts["recorder"] = {"up": up, "detail": detail}
    except redis.RedisError:
        parts["recorder"] = {"up": False, "detail": "unknown while the live store is away"}
    reached = parts["live store"]["up"] and parts["database"]["up"]  # else asking again only takes longer
    said = _sending(probe, engine) if reached else "unknown while a store is away"
    parts["sending"] = {"up": True, "detail": said}
    return parts


def _sending(probe: "redis.Redis", engine: Engine) -> str:
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
