"""The simulator's wire beyond what tests/test_handset.py shows: what is refused, what is kept."""

import json
from dataclasses import astuple

import pytest

from gateway.aggregators.simulator import Simulator
from gateway.messages import Hop, SessionEnded, WireError

NUMBER, CODE = "+233240000001", "*384*16#"
HOP: dict[str, object] = {
    "session": "s1", "msisdn": NUMBER, "network": "62001", "code": CODE, "sequence": 2, "input": "1",
}  # fmt: skip
NOTICE: dict[str, object] = {
    "session": "s1", "msisdn": NUMBER, "network": "62001", "code": CODE, "status": "Success",
}  # fmt: skip


def sent(fields: dict[str, object], **others: object) -> bytes:
    return json.dumps(fields | others).encode()


@pytest.mark.parametrize("typed", ["", "*", "1*1", "#", "é€👍", "\x00", "1" * 16_000, " 1 "])
def test_an_input_is_kept_as_typed(typed: str) -> None:
    assert Simulator().read_hop(sent(HOP, input=typed)) == Hop("s1", NUMBER, "62001", CODE, typed, 2)


@pytest.mark.parametrize(("least_and_most", "sequence"), [("least", 1), ("most", 10_000)])
def test_the_bounds_of_sequences(least_and_most: str, sequence: int) -> None:
    assert Simulator().read_hop(sent(HOP, sequence=sequence)).sequence == sequence


@pytest.mark.parametrize(
    ("others", "message"),
    [
        # NUL: no engine stores it; a line break would begin a line of our log.
        ({"session": "s\x00"}, "not printable: session"),
        ({"session": "s\nERROR", "network": "\x7f"}, "not printable: session, network"),
        ({"code": "*384\t"}, "not printable: code"),
        ({"msisdn": "+2332400000010000"}, "too long: msisdn"),
        ({"msisdn": "+233240"}, "msisdn: must be in international form, + and 7 to 15 digits"),
        ({"network": "6" * 17, "code": "1" * 33}, "too long: network, code"),
        ({"session": ["s1"], "input": None}, "must be a string: session, input"),
        ({"sequence": 1e3}, "sequence: must be a whole number, 1 to 10000"),
    ],
)
def test_a_malformed_hop_names_fields_and_no_values(others: dict[str, object], message: str) -> None:
    with pytest.raises(WireError) as raised:
        Simulator().read_hop(sent(HOP, **others))
    assert (raised.value.status, str(raised.value)) == (400, message)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"status": 1}, "must be a string: status"),
        ({"status": "s" * 33}, "too long: status"),
        ({"status": "\x00"}, "not printable: status"),
        ({"session": ""}, "empty: session"),
    ],
)
def test_a_malformed_notice(others: dict[str, object], message: str) -> None:
    with pytest.raises(WireError) as raised:
        Simulator().read_session_ended(sent(NOTICE, **others))
    assert (raised.value.status, str(raised.value)) == (400, message)


def test_a_notice_keeps_nothing_that_it_was_not_asked_for() -> None:
    read = Simulator().read_session_ended(
        sent(NOTICE, hops=True, duration_ms=10**11, input="31415", screen="How old are you?")
    )
    assert read == SessionEnded("s1", NUMBER, "62001", CODE, "Success")
    assert "31415" not in str(astuple(read)) and "How old" not in str(astuple(read))
