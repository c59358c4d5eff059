"""Rates and breakers, on each live store: what is let through, who comes first, who is paused."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import redis

from storage.rates import BREAKERS, MANY_FAILURES, Gate, Rate, paused_senders, resume

AT = "africastalking"


@pytest.fixture
def live(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


def let_through(gate: Gate, seconds: float, segments: int = 1, network: str = "62001", **named: bool) -> int:
    """Messages that were let through while somebody asked all the time."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        if gate.ask(AT, "1616", network, segments, urgent=named.get("urgent", False)) == 0:
            count += 1
        time.sleep(0.001)
    return count


def test_the_rate_holds_whoever_asks(live: redis.Redis) -> None:
    counts: list[int] = []
    gates = [Gate(live, Rate(40)) for _ in range(3)]
    threads = [threading.Thread(target=lambda g=g: counts.append(let_through(g, 1.5))) for g in gates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 40 * 1.5 * 0.4 <= sum(counts) <= 40 * (1.5 + 0.5) + 2  # the burst is half a second's


def test_segments_count(live: redis.Redis) -> None:
    assert let_through(Gate(live, Rate(30)), 1.0, segments=3) <= 30 * 1.5 / 3 + 2


def test_a_network_has_a_rate_of_its_own_within_the_sender_s(live: redis.Redis) -> None:
    gate = Gate(live, Rate(1000, {"62002": 10}))
    assert let_through(gate, 0.6, network="62002") <= 10 * 1.1 + 2
    assert let_through(gate, 0.3, network="62001") >= 5
    assert let_through(gate, 0.3, network="") >= 5  # not known: the sender's rate alone


def test_senders_do_not_share(live: redis.Redis) -> None:
    gate = Gate(live, Rate(1))
    assert [gate.ask(AT, sender, None, 1, urgent=False) for sender in ("A", "B", None)] == [0, 0, 0]


def test_who_is_awaited_passes_the_rest(live: redis.Redis) -> None:
    gate = Gate(live, Rate(1), burst_seconds=5)
    while gate.ask(AT, "A", None, 1, urgent=False) == 0:
        pass
    assert [gate.ask(AT, "A", None, 1, urgent=True) for _ in range(4)] == [0, 0, 0, 0]
    found = gate.ask(AT, "A", None, 1, urgent=False)
    assert found is not None and found > 2  # they took its turn


def test_those_too_early_are_told_moments_apart(live: redis.Redis) -> None:
    gate = Gate(live, Rate(1))
    waits = [gate.ask(AT, "A", None, 1, urgent=False) for _ in range(60)]
    later = [w for w in waits if w]
    assert len(later) >= 50 and later == sorted(later)
    steps = [b - a for a, b in pairwise(later)]
    assert all(0.5 < step < 1.5 for step in steps), steps
    for key in live.scan_iter("dial16:rate*"):
        assert int(live.pttl(key)) > 0


def test_a_pause_holds_until_a_person_ends_it(live: redis.Redis) -> None:
    gate = Gate(live, Rate(100))
    assert gate.pause(AT, "1616", "insufficient_balance")
    assert not gate.pause(AT, "1616", "insufficient_balance")  # said once
    assert gate.ask(AT, "1616", None, 1, urgent=True) is None
    assert gate.ask(AT, "1717", None, 1, urgent=False) == 0
    for _ in range(MANY_FAILURES + 1):
        gate.note_failure(AT, "1616", "http_503")  # does not shorten it
    (paused,) = paused_senders(live)
    assert (paused.aggregator, paused.sender, paused.code) == (AT, "1616", "insufficient_balance")
    assert paused.until is None
    assert resume(live, [paused]) == 1 and paused_senders(live) == []
    assert gate.ask(AT, "1616", None, 1, urgent=False) == 0
    assert resume(live, []) == 0


def test_failures_one_after_another_pause_for_a_minute(live: redis.Redis) -> None:
    gate = Gate(live, Rate(100))
    for _ in range(MANY_FAILURES - 1):
        assert not gate.note_failure(AT, None, "http_503")
    gate.note_success(AT, None)
    for _ in range(MANY_FAILURES - 1):
        assert not gate.note_failure(AT, None, "http_503")
    assert gate.note_failure(AT, None, "http_503")
    (paused,) = paused_senders(live)
    assert paused.until is not None and gate.ask(AT, None, None, 1, urgent=False) is None
    past = int(time.time() * 1000) - 1
    live.hset(BREAKERS, f"{AT}|", f"{past} {past} http_503")
    assert paused_senders(live) == [] and gate.ask(AT, None, None, 1, urgent=False) == 0


def test_a_wiped_store_lets_through_again(live: redis.Redis) -> None:
    gate = Gate(live, Rate(1))
    gate.pause(AT, "1616", "risk_hold")
    live.flushall()
    live.script_flush()
    assert gate.ask(AT, "1616", None, 1, urgent=False) == 0  # the next send pauses it again
