"""Interviews in progress, on Redis or Valkey: one read and one atomic write a hop.

    dial16:interview:{wave}:{pseudonym}   the interview, its session, its last screen; versioned
    dial16:opted-out:{pseudonym}          since when this respondent wants no messages, ms; for good
    dial16:message:{aggregator}:{digest}  a text message that has been taken in, for seven days
    dial16:events                         what happened, a stream that the recorder folds into SQL
    dial16:instruments                    every instrument version that a live interview may be on
    dial16:born                           when this store was last found empty, ms
    dial16:waves                          the operator's word on waves, a copy: see waves.py
    dial16:key                            tells whether pseudonyms are still made with the same key
    dial16:quota:{wave}:{quotas}          how many completes each quota cell has, see gateway/counting.py

The write is one script: if the version is the one that was read, the state is set and the events
are appended, else what is there now comes back and nothing is written.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
import orjson

from flows.interview import Interview, dump_interview, load_interview
from storage.resp import RespClient, Unavailable

EVENTS = "dial16:events"
_INSTRUMENTS = "dial16:instruments"
_BORN = "dial16:born"
KEY_ID = "dial16:key"
WAVES = "dial16:waves"
_OPTED_OUT = "dial16:opted-out"
_MESSAGE = "dial16:message"
_QUOTA = "dial16:quota"
#: Beside the counts of cells, whose names never begin with a colon: since when completes are counted here
#: one by one, ms; and whether those of before have been added.
_SINCE, _BASE = ":since", ":base"


def _counting(key: int, at: int) -> str:
    """The end of a commit: the changes of a `Tally` in KEYS[key] from ARGV[at] on, if there is one."""
    return f"""
if ARGV[{at}] then
  redis.call('HSETNX', KEYS[{key}], '{_SINCE}', ARGV[{at}])
  for n = {at + 1}, #ARGV, 2 do redis.call('HINCRBY', KEYS[{key}], ARGV[n], ARGV[n + 1]) end
  redis.call('EXPIRE', KEYS[{key}], ARGV[3])
end
return 1
"""


_COMMIT = f"""
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return redis.call('GET', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[4])
{_counting(3, 5)}"""
_COMMIT_SHA = hashlib.sha1(_COMMIT.encode()).hexdigest()

# A text message is one step, however often it comes: 2 says that it had been taken in before. Nothing
# may have changed since the read, neither the interview nor the opt-out. "" leaves a thing as it is.
_COMMIT_TEXT = f"""
if ARGV[5] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then return 2 end
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
if (redis.call('GET', KEYS[4]) or '') ~= ARGV[6] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
if ARGV[7] == '0' then redis.call('DEL', KEYS[4])
elseif ARGV[7] ~= '' then redis.call('SET', KEYS[4], ARGV[7]) end
if ARGV[5] ~= '' then redis.call('SET', KEYS[3], '1', 'EX', ARGV[5]) end
if ARGV[4] ~= '' then redis.call('XADD', KEYS[2], '*', 'e', ARGV[4]) end
{_counting(5, 8)}"""
_COMMIT_TEXT_SHA = hashlib.sha1(_COMMIT_TEXT.encode()).hexdigest()
#: Aggregators repeat a message for up to 12 hours; somebody may also play a day again by hand.
_MESSAGE_SECONDS = str(7 * 86_400)

_BEGIN_COUNTS = """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('HGET', KEYS[1], ARGV[1])
"""
# Once, and only to what has been counted since then: the store may have been emptied in between.
_ADD_COUNTS = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if redis.call('HSETNX', KEYS[1], ARGV[3], '1') == 0 then return 0 end
for n = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[n], ARGV[n + 1]) end
return 1
"""

_SESSIONS_REMEMBERED = 8  # closed sessions whose late repeats are told from a redial
#: JSON as stored: no spaces, UTF-8. orjson: the standard encoder takes four times as long, twice a hop.
compact = orjson.dumps


@dataclass(frozen=True, slots=True)
class Tally:
    """Completes that a step adds to quota cells or takes from them, counted in the same write."""

    quotas: str  # which: `counts_key`
    at: int  # of the step, ms
    changes: tuple[tuple[str, int], ...]  # cell by `count_name`, 1 or -1

    @property
    def values(self) -> tuple[str, ...]:
        return (str(self.at), *(str(word) for change in self.changes for word in change))


def counts_key(wave: str, quotas: str) -> str:
    """Where a wave's completes by cell are; `quotas` tells apart what is counted."""
    return f"{_QUOTA}:{wave}:{quotas}"


class NewerState(Exception):
    """Somebody else took the step first. `live` is what stands there now, None if it is gone."""

    def __init__(self, live: "Live | None"):
        self.live = live


@dataclass(frozen=True, slots=True)
class Live:
    """One respondent's live record: the interview, and the USSD session it is reached through."""

    version: int  # commits so far; 0 = not stored yet
    session: str
    seen: int  # characters of the session's transcript taken in; or the last sequence number
    digest: str  # of those characters
    hop: int  # hops of this session
    over: bool  # the session has ended
    past: str  # digests of earlier sessions, six hex digits each
    screen: str
    ends: bool
    interview: Interview

    def knows_past(self, session: str) -> bool:
        """Whether `session` is an earlier one of this respondent, whose hops come too late."""
        mark = session_mark(session)
        return any(self.past[k : k + 6] == mark for k in range(0, len(self.past), 6))

    def past_with(self, session: str) -> str:
        """`past` once `session` is closed too."""
        return (self.past + session_mark(session))[-6 * _SESSIONS_REMEMBERED :] if session else self.past


def session_mark(session: str) -> str:
    return hashlib.blake2b(session.encode(), digest_size=3).hexdigest()


def transcript_digest(text: str) -> str:
    """Tells transcripts apart without keeping them; 64 bits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def dump_live(live: Live) -> bytes:
    """`version` as eight hex digits, then JSON: about 350 octets in the middle of an interview."""
    return b"%08x" % live.version + compact(
        [
            live.session, live.seen, live.digest, live.hop, live.over, live.past, live.screen, live.ends,
            dump_interview(live.interview),
        ]
    )  # fmt: skip


def load_live(raw: bytes) -> Live:
    """What `dump_live` wrote. Raises ValueError or TypeError on anything else."""
    session, seen, digest, hop, over, past, screen, ends, interview = orjson.loads(raw[8:])
    return Live(
        int(raw[:8], 16), session, seen, digest, hop, over, past, screen, ends, load_interview(interview)
    )


def key_id(pseudonym_key: bytes) -> str:
    """Tells pseudonym keys apart without giving one away."""
    return hmac.digest(pseudonym_key, b"dial16 id of the pseudonym key v1", "sha256").hex()[:16]


def hop_entry(
    live: Live,
    respondent: str,
    at: int,
    effects: list[dict[str, Any]],
    opened: dict[str, str] | None,
    **more: object,
) -> bytes:
    """The stream entry of one hop: who and where by ids, what happened as effects. Never a number,
    unless sealed. `more`: fields that not every hop has, see gateway/texting.py."""
    interview = live.interview
    entry: dict[str, Any] = {
        "kind": "hop",
        "interview": interview.id,
        "respondent": respondent,
        "wave": interview.wave,
        "version": live.version,
        "session": live.session,
        "hop": live.hop,
        "at": at,
        "shown": interview.at,
        "stage": interview.stage,
        "mode": interview.mode,
        "ends": live.ends,
        "effects": effects,
    }
    if opened is not None:
        entry["opened"] = opened
    return compact(entry | more if more else entry)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a text message finds."""

    live: Live | None
    born: int  # see LiveStore.read
    opted_out: str  # since when, ms; "" = not
    seen: bool  # the message has been taken in before


class LiveStore:
    """The live store as the hop uses it. Every method raises Unavailable when it is away or slow."""

    def __init__(self, url: str, keep_days: int):
        self._client = RespClient(url)
        self._keep_seconds = str(keep_days * 86_400)

    async def close(self) -> None:
        await self._client.close()

    async def read(self, wave: str, respondent: str) -> tuple[Live | None, int]:
        """The live record, and when the store was born (0: it has just been found empty)."""
        raw, born = await self._call("MGET", _key(wave, respondent), _BORN)
        return (load_live(raw) if raw else None), int(born or 0)

    async def commit(
        self, version: int, respondent: str, live: Live, entry: bytes, tally: Tally | None = None
    ) -> None:
        """Stores `live` over the `version` that was read (0: nothing), together with its entry and tally.

        Raises NewerState when somebody else has stored a state since.
        """
        keys: tuple[str, ...] = (_key(live.interview.wave, respondent), EVENTS)
        expected = f"{version:08x}" if version else ""
        values: tuple[str | bytes, ...] = (expected, dump_live(live), self._keep_seconds, entry)
        if tally is not None:
            keys, values = (*keys, tally.quotas), (*values, *tally.values)
        count = str(len(keys))
        try:
            answer = await self._call("EVALSHA", _COMMIT_SHA, count, *keys, *values)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise Unavailable(f"live store: refused ({str(error).split(' ', 1)[0]})") from None
            answer = await self._call("EVAL", _COMMIT, count, *keys, *values)
        if answer != 1:
            raise NewerState(load_live(answer) if answer else None)

    async def read_text(self, wave: str, respondent: str, aggregator: str, message: str) -> Standing:
        """All that bears on a text message, in one read. `message`: its id, "" = a notice without one."""
        keys = _text_keys(wave, respondent, aggregator, message)
        raw, seen, out, born = await self._call("MGET", keys[0], keys[2], keys[3], _BORN)
        live = load_live(raw) if raw else None
        return Standing(live, int(born or 0), (out or b"").decode(), seen is not None)

    async def commit_text(
        self,
        wave: str,
        respondent: str,
        aggregator: str,
        message: str,
        found: Standing,
        *,
        live: Live | None = None,
        opted_out: str = "",
        entry: bytes = b"",
        tally: Tally | None = None,
    ) -> bool:
        """Takes a text message in: stores `live` if given, opts out at `opted_out` ("0": in again, "":
        neither), appends `entry`, counts `tally`, remembers the message. False if something has changed
        since it was `found`: read again. True also if the message had been taken in before."""
        keys: tuple[str, ...] = _text_keys(wave, respondent, aggregator, message)
        version = found.live.version if found.live else 0
        values: tuple[str | bytes, ...] = (
            f"{version:08x}" if version else "", dump_live(live) if live else b"", self._keep_seconds, entry,
            _MESSAGE_SECONDS if message else "", found.opted_out, opted_out,
        )  # fmt: skip
        if tally is not None:
            keys, values = (*keys, tally.quotas), (*values, *tally.values)
        count = str(len(keys))
        try:
            answer = await self._call("EVALSHA", _COMMIT_TEXT_SHA, count, *keys, *values)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise Unavailable(f"live store: refused ({str(error).split(' ', 1)[0]})") from None
            answer = await self._call("EVAL", _COMMIT_TEXT, count, *keys, *values)
        return bool(answer)

    async def read_counts(self, quotas: str, cells: Sequence[str]) -> dict[str, int] | None:
        """Completes of these cells; None while those of before this store counted are not added."""
        based, *counts = await self._call("HMGET", quotas, _BASE, *cells)
        return None if based is None else {c: int(n or 0) for c, n in zip(cells, counts, strict=True)}

    async def begin_counts(self, quotas: str, at: int) -> int:
        """Counts here from now on; since when, ms: `at` if it is the first to say so."""
        words = (quotas, _SINCE, str(at), self._keep_seconds)
        return int(await self._call("EVAL", _BEGIN_COUNTS, "1", *words))

    async def add_counts(self, quotas: str, since: int, counts: Mapping[str, int]) -> None:
        """Adds the completes of before `since`, once, whoever else does the same."""
        words = [str(word) for pair in counts.items() for word in pair]
        await self._call("EVAL", _ADD_COUNTS, "1", quotas, _SINCE, str(since), _BASE, *words)

    async def append(self, entry: bytes) -> None:
        """An entry that changes no interview: a late notice, a conflict."""
        await self._call("XADD", EVENTS, "*", "e", entry)

    async def opt_out(self, respondent: str, at: int) -> None:
        """Notes that they want no more messages, since `at` ms if nothing was noted before."""
        await self._call("SET", opted_out_key(respondent), str(at), "NX")

    async def mark_born(self, at: int) -> int:
        """Notes the birth of an empty store, once; the birth that stands then."""
        await self._call("SET", _BORN, str(at), "NX")
        return int(await self._call("GET", _BORN) or at)

    async def keep_key(self, ours: str) -> bool:
        """Keeps the id of the pseudonym key, once; whether the one that stands then is ours."""
        await self._call("SET", KEY_ID, ours, "NX")
        return await self.knows_key(ours)

    async def knows_key(self, ours: str) -> bool:
        """Whether no other pseudonym key than ours has been used here."""
        stands = await self._call("GET", KEY_ID)
        return stands is None or bytes(stands) == ours.encode()

    async def keep_instrument(self, reference: str, digest: str, sources: dict[str, str]) -> str:
        """Keeps an instrument version, once; the digest of the one that stands then."""
        packed = compact({"digest": digest, "sources": sources})
        await self._call("HSETNX", _INSTRUMENTS, reference, packed)
        return str(orjson.loads(await self._call("HGET", _INSTRUMENTS, reference))["digest"])

    async def instrument_sources(self, reference: str) -> dict[str, str] | None:
        raw = await self._call("HGET", _INSTRUMENTS, reference)
        return None if raw is None else dict(orjson.loads(raw)["sources"])

    async def wave_words(self) -> dict[str, str]:
        """The copy of the operator's words."""
        flat = await self._call("HGETALL", WAVES)
        return {flat[n].decode(): flat[n + 1].decode() for n in range(0, len(flat), 2)}

    async def copy_wave_words(self, words: dict[str, str]) -> None:
        if words:
            await self._call("HSET", WAVES, *(part for pair in words.items() for part in pair))

    async def _call(self, *command: Any) -> Any:
        try:
            return await self._client.call(*command)
        except hiredis.ReplyError as error:
            if str(error).startswith("NOSCRIPT"):
                raise
            raise Unavailable(f"live store: refused ({str(error).split(' ', 1)[0]})") from None


def _key(wave: str, respondent: str) -> str:
    return f"dial16:interview:{wave}:{respondent}"


def _text_keys(wave: str, respondent: str, aggregator: str, message: str) -> tuple[str, str, str, str]:
    mark = hashlib.blake2b(message.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return (
        _key(wave, respondent),
        EVENTS,
        f"{_MESSAGE}:{aggregator}:{mark}",
        f"{_OPTED_OUT}:{respondent}",
    )


def opted_out_key(respondent: str) -> str:
    """Where the live store says since when they want no messages: before the record says so."""
    return f"{_OPTED_OUT}:{respondent}"
