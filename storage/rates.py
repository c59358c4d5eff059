"""When a sender may send: its rate, and whether it is paused. In the live store, shared by all workers.

The rate is counted in segments, what networks count and bill: a token bucket a sender, and one a sender and
network where that network has a rate of its own. A bucket is one number, the moment at which all that was
let through would have gone at exactly the rate (GCRA); how far it may run ahead of now is the burst.
Replies and confirmations may run further ahead than the rest, so that they pass invitations that fill the
bucket. Who comes too early is told a moment of their own to come back at, so that a thousand waiting
messages ask about twice each, not a thousand times.

A breaker pauses a sender until a person closes it (`hold` errors: no balance, an unregistered name), or for
a minute after many failures one after another. Redis 7.0 commands only. Nothing here is a number or a text:
senders are short codes or registered names.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import redis

BREAKERS = "dial16:breakers"  # hash: aggregator|sender -> "until since code"; until 0: a person closes it
_BUCKET = "dial16:rate"
_FAILURES = "dial16:failures"
MANY_FAILURES = 20  # one after another
PAUSE_SECONDS = 60
LONGEST_WAIT_SECONDS = 300  # then ask again: the rate may have been changed

#: KEYS: breakers, the failures' hash, buckets, a queue of who comes back. ARGV: breaker field, segments,
#: burst in ms, longest wait in ms, then a rate in segments a second for each bucket.
#: Returns ms to wait, 0 for now; -1 if paused.
_ASK = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local till = tonumber(string.match(held, '^%d+'))
  if till == 0 or till > now then return -1 end
end
local cost, burst = tonumber(ARGV[2]), tonumber(ARGV[3])
local wait, slowest, lead = 0, 0, {}
for i = 3, #KEYS - 1 do
  local each = 1000 / tonumber(ARGV[i + 2])
  lead[i] = math.max(now, tonumber(redis.call('GET', KEYS[i]) or 0)) - now
  if lead[i] - burst > wait then wait = lead[i] - burst end
  slowest = math.max(slowest, each)
end
if wait <= 0 then
  for i = 3, #KEYS - 1 do
    local ahead = lead[i] + cost * 1000 / tonumber(ARGV[i + 2])
    redis.call('SET', KEYS[i], string.format('%.3f', now + ahead), 'PX', math.ceil(ahead) + 1000)
  end
  return 0
end
local most = tonumber(ARGV[4])
local turn = math.max(now + wait, tonumber(redis.call('GET', KEYS[#KEYS]) or 0))
if turn - now > most then return most end
local ahead = turn - now + cost * slowest
redis.call('SET', KEYS[#KEYS], string.format('%.3f', now + ahead), 'PX', math.ceil(ahead) + 1000)
return math.ceil(turn - now)
"""

#: KEYS: breakers. ARGV: field, until, since, code. A pause that waits for a person is never shortened.
_PAUSE = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^%d+') == '0' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """Segments a second of each sender; of single networks where they have one of their own."""

    per_second: float = 10.0
    networks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Paused:
    aggregator: str
    sender: str  # "" is the account's default
    code: str
    since: datetime
    until: datetime | None  # None: until a person closes it


class Gate:
    """Asked before each send. Every method raises redis.RedisError while the live store is away."""

    def __init__(self, live: redis.Redis, rate: Rate, burst_seconds: float = 0.5):
        self.live, self.rate, self.burst_ms = live, rate, burst_seconds * 1000
        self._ask, self._pause = live.register_script(_ASK), live.register_script(_PAUSE)

    def ask(
        self, aggregator: str, sender: str | None, network_code: str | None, segments: int, *, urgent: bool
    ) -> float | None:
        """0.0: go now, counted. More: come back after so many seconds. None: the sender is paused."""
        name = _field(aggregator, sender)
        buckets, rates = [f"{_BUCKET}:{name}"], [self.rate.per_second]
        own = self.rate.networks.get(network_code or "")
        if own is not None:
            buckets.append(f"{_BUCKET}:{name}|{network_code}")
            rates.append(own)
        turns = f"{buckets[-1]}:{'first' if urgent else 'rest'}"
        burst, most = self.burst_ms * (2 if urgent else 1), LONGEST_WAIT_SECONDS * 1000
        wait = int(
            cast(
                Any,
                self._ask(
                    keys=[BREAKERS, _FAILURES, *buckets, turns],
                    args=[name, segments, burst, most, *rates],
                ),
            )
        )
        return None if wait < 0 else wait / 1000

    def pause(self, aggregator: str, sender: str | None, code: str) -> bool:
        """Until a person closes it. False if it was so already."""
        return self._open(_field(aggregator, sender), 0, code)

    def note_failure(self, aggregator: str, sender: str | None, code: str) -> bool:
        """A send failed for a reason that is not the number's. True if that paused the sender."""
        name = _field(aggregator, sender)
        if int(cast(Any, self.live.hincrby(_FAILURES, name, 1))) < MANY_FAILURES:
            return False
        self.live.hset(_FAILURES, name, str(MANY_FAILURES // 2))  # the next half-open try is a short one
        now = datetime.now(UTC).timestamp()
        return self._open(name, int((now + PAUSE_SECONDS) * 1000), code)

    def note_success(self, aggregator: str, sender: str | None) -> None:
        self.live.hdel(_FAILURES, _field(aggregator, sender))

    def _open(self, name: str, until_ms: int, code: str) -> bool:
        since = int(datetime.now(UTC).timestamp() * 1000)
        return bool(self._pause(keys=[BREAKERS], args=[name, until_ms, since, code]))


def _field(aggregator: str, sender: str | None) -> str:
    return f"{aggregator}|{sender or ''}"


def paused_senders(live: redis.Redis) -> list[Paused]:
    """Senders that are paused now."""
    now, found = datetime.now(UTC), []
    for raw_name, raw in sorted(cast(Any, live.hgetall(BREAKERS)).items()):
        name, value = _text(raw_name), _text(raw)
        until_ms, since_ms, code = value.split(" ", 2)
        aggregator, _, sender = name.partition("|")
        until = datetime.fromtimestamp(int(until_ms) / 1000, UTC) if until_ms != "0" else None
        if until is None or until > now:
            since = datetime.fromtimestamp(int(since_ms) / 1000, UTC)
            found.append(Paused(aggregator, sender, code, since, until))
    return found


def resume(live: redis.Redis, paused: Collection[Paused]) -> int:
    """Close these breakers; how many were open."""
    names = [_field(p.aggregator, p.sender) for p in paused]
    if not names:
        return 0
    live.hdel(_FAILURES, *names)
    return int(cast(Any, live.hdel(BREAKERS, *names)))


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
