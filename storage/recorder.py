"""The recorder: the live store's event stream into SQL, exactly once.

    read      a batch of new entries, as one consumer of the group
    fold      all of it in one SQL transaction (fold.py), commit
    enqueue   a job for each message that the batch asks to send; should it fail, a sweep does it
    release   acknowledge and delete the entries, in one transaction of the live store

Killed between any two instructions it loses nothing, because an entry leaves the stream only after
the commit, and doubles nothing, because folding an entry again changes nothing. Several may run;
what a dead one had read is claimed after `claim_after_ms`. While a store is away it waits and keeps
everything unacknowledged. An entry that can never be folded goes to the dead-letter stream with its
reason, without holding up its batch, and `replay_dead` puts it back.

Neither a log line nor an exception from here holds an answer or a number: ids and field names only.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from storage.database import check_schema, writing
from storage.entries import FIELD, STREAM, Entry, Poison, read_entry
from storage.fold import fold
from storage.outgoing import Due

GROUP = "recorder"
DEAD = "dial16:dead"

_REASON = b"reason"
_RUNNING_MS = 10_000  # a consumer that asked within this time is running
_FORGET_MS = 3_600_000  # one that did not for so long, and holds nothing, is forgotten
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds between tries while a store is away
_log = logging.getLogger("dial16.recorder")

#: Atomic, because a consumer deleted while it holds entries takes them with it.
_FORGET = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local c = {}
  for i = 1, #consumer, 2 do c[consumer[i]] = consumer[i + 1] end
  if c.pending == 0 and c.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)
  end
end
return 0
"""

#: Said of a store, not of what it was given: wait, and try the same entries again.
_STORE_AWAY = (redis.RedisError, SQLAlchemyError, OSError)
#: What a database says of the rows it was given, not of itself: an entry is at fault.
_ROWS_AT_FAULT = (DataError, IntegrityError)

Raw = tuple[bytes, dict[bytes, bytes] | None]  # entry id, fields; None where it was deleted meanwhile


class Recorder:
    """One consumer of the event stream. `live` must answer in bytes (decode_responses=False).

    `consumer` names this process among its group: host and process id. `enqueue` is given the messages
    to send once their rows are committed.
    """

    def __init__(
        self,
        live: redis.Redis,
        engine: Engine,
        consumer: str,
        batch: int = 500,
        claim_after_ms: int = 10_000,
        enqueue: Callable[[Sequence[Due]], object] | None = None,
    ):
        if live.get_connection_kwargs().get("decode_responses"):
            raise ValueError("the recorder needs a client with decode_responses=False")
        self.live, self.engine, self.consumer = live, engine, consumer
        self.batch, self.claim_after_ms = batch, claim_after_ms
        self.enqueue = enqueue
        self._own_first = True  # entries read before a failure or by a namesake are still ours
        self._claim_at = 0.0  # monotonic

    # ---- the loop

    def run(self, stop: Callable[[], bool]) -> None:
        """Record until `stop()`; it is asked at least twice a second. Waits for a store that is away.

        Raises SchemaError if the database is not in the shape that this release writes.
        """
        wait, fits = _FIRST_WAIT, False
        while not stop():
            try:
                if not fits:
                    check_schema(self.engine)
                    fits = True
                self.fold_once(500)
                wait = _FIRST_WAIT
            except _STORE_AWAY as error:
                # The name of the error only: its text may quote what was being written.
                _log.warning("recorder waits %.1f s: %s", wait, type(error).__name__)
                until = time.monotonic() + wait
                while time.monotonic() < until and not stop():
                    time.sleep(min(0.1, wait))
                wait = min(wait * 2, _LONGEST_WAIT)

    def fold_once(self, block_ms: int) -> int:
        """Fold one batch, waiting up to `block_ms` for it. Returns the entries taken off the stream.

        Raises redis.RedisError or SQLAlchemyError while a store is away; nothing is acknowledged then
        and the next call begins with the same entries.
        """
        try:
            return self._next(block_ms)
        except redis.ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                self._own_first = True
                raise
            self._create_group()  # first start, or the live store was wiped
            return 0
        except BaseException:
            self._own_first = True
            raise

    def _next(self, block_ms: int) -> int:
        if self._own_first:
            entries = self._read("0", None)
            if entries:
                return self._record(entries)
            self._own_first = False
        if time.monotonic() >= self._claim_at:
            entries = self._claim()
            if entries:
                return self._record(entries)
            self._claim_at = time.monotonic() + self.claim_after_ms / 2000
        # Zero would wait for ever.
        return self._record(self._read(">", max(1, block_ms)))

    # ---- the live store

    def _create_group(self) -> None:
        try:
            self.live.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _read(self, after: str, block_ms: int | None) -> list[Raw]:
        answer = cast(
            Any, self.live.xreadgroup(GROUP, self.consumer, {STREAM: after}, count=self.batch, block=block_ms)
        )
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer)
        return [entry for entries in streams for entry in _flat(entries)]

    def _claim(self) -> list[Raw]:
        """Entries that a consumer took and did not release in time: it died, or hangs."""
        answer = cast(
            Any,
            self.live.xautoclaim(
                STREAM,
                GROUP,
                self.consumer,
                min_idle_time=self.claim_after_ms,
                start_id="0-0",
                count=self.batch,
            ),
        )
        entries = _flat(answer[1])
        if not entries:
            self.live.eval(_FORGET, 1, STREAM, GROUP, _FORGET_MS)
        return entries

    def _release(self, ids: Sequence[bytes]) -> None:
        with self.live.pipeline(transaction=True) as pipe:
            pipe.xack(STREAM, GROUP, *ids)
            pipe.xdel(STREAM, *ids)
            pipe.execute()

    def _bury(self, entry_id: bytes, fields: dict[bytes, bytes], reason: str) -> None:
        """To the dead-letter stream and off this one, at once."""
        _log.error("poison entry %s set aside in %s: %s", entry_id.decode(), DEAD, reason)
        with self.live.pipeline(transaction=True) as pipe:
            pipe.xadd(DEAD, cast(Any, {**fields, _REASON: reason.encode()}))
            pipe.xack(STREAM, GROUP, entry_id)
            pipe.xdel(STREAM, entry_id)
            pipe.execute()

    # ---- one batch

    def _record(self, raw: Sequence[Raw]) -> int:
        if not raw:
            return 0
        read: list[tuple[bytes, dict[bytes, bytes], Entry]] = []
        gone: list[bytes] = []
        dead: list[tuple[bytes, dict[bytes, bytes], str]] = []
        for entry_id, fields in raw:
            if not fields:
                gone.append(entry_id)
                continue
            try:
                if FIELD not in fields:
                    raise Poison(f"field {FIELD.decode()} is missing")
                read.append((entry_id, fields, read_entry(fields[FIELD])))
            except Poison as poison:
                dead.append((entry_id, fields, str(poison)))
        kept = [(entry_id, entry) for entry_id, _, entry in read]
        refused = dict(self._fold(kept))
        fields_of = {entry_id: fields for entry_id, fields, _ in read}
        dead += [(entry_id, fields_of[entry_id], reason) for entry_id, reason in refused.items()]
        released = gone + [entry_id for entry_id, _ in kept if entry_id not in refused]
        if released:
            self._release(released)
        for entry_id, fields, reason in dead:
            self._bury(entry_id, fields, reason)
        return len(raw)

    def _fold(self, entries: Sequence[tuple[bytes, Entry]]) -> list[tuple[bytes, str]]:
        """Fold and commit; returns the entries that the database refuses, found by halving."""
        if not entries:
            return []
        try:
            with writing(self.engine) as db:
                due = fold(db, (entry for _, entry in entries))
        except Exception as error:
            # Anything else but a store that is away is an entry that nobody foresaw: set aside, with
            # an alarm, it can be put back after a mend; left in, it would stop the recorder for good.
            if isinstance(error, _STORE_AWAY) and not isinstance(error, _ROWS_AT_FAULT):
                raise
            if len(entries) == 1:
                return [(entries[0][0], f"cannot be written: {type(error).__name__}")]
        else:
            self._hand_over(due)
            return []
        middle = len(entries) // 2
        return self._fold(entries[:middle]) + self._fold(entries[middle:])

    def _hand_over(self, due: Sequence[Due]) -> None:
        if not due or self.enqueue is None:
            return
        try:
            self.enqueue(due)
        except Exception as error:  # the rows are committed: the workers' sweep finds them
            _log.warning("%d messages left to the sweep: %s", len(due), type(error).__name__)


def _flat(entries: Any) -> list[Raw]:
    """Entries in either shape the client gives them: [(id, fields)] or [[(id, fields)], ...]."""
    out: list[Raw] = []
    for entry in entries:
        if isinstance(entry, list) and entry and isinstance(entry[0], (list, tuple)):
            out += _flat(entry)
        else:
            out.append((entry[0], entry[1]))
    return out


def lag(live: redis.Redis) -> int:
    """Entries that are not in the record yet: recorded ones leave the stream."""
    return int(cast(Any, live.xlen(STREAM)))


def health(live: redis.Redis) -> tuple[bool, str]:
    """Whether a recorder runs, and a line for the operator. Raises redis.RedisError."""
    waiting = lag(live)
    try:
        consumers = cast(Any, live.xinfo_consumers(STREAM, GROUP))
    except redis.ResponseError:  # neither stream nor group yet
        consumers = []
    running = sum(c["idle"] < _RUNNING_MS for c in consumers)
    if not running:
        return False, f"none runs, {waiting} entries wait: start `python main.py record`"
    dead = dead_entries(live)
    aside = f", {dead} set aside as poison" if dead else ""
    return True, f"{running} running, {waiting} entries waiting{aside}"


def dead_entries(live: redis.Redis) -> int:
    """Entries set aside as poison."""
    return int(cast(Any, live.xlen(DEAD)))


def replay_dead(live: redis.Redis) -> int:
    """Put every entry set aside back on the stream (after a mend). Returns how many.

    What is still poison comes back here.
    """
    put_back = 0
    last = cast(Any, live.xrevrange(DEAD, count=1))
    if not last:
        return 0
    for entry_id, fields in cast(Any, live.xrange(DEAD, max=last[0][0])):
        fields = {k: v for k, v in fields.items() if k not in (_REASON, _REASON.decode())}
        with live.pipeline(transaction=True) as pipe:
            pipe.xadd(STREAM, fields)
            pipe.xdel(DEAD, entry_id)
            pipe.execute()
        put_back += 1
    return put_back
