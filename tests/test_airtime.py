"""Airtime for who completed, on both engines: earned once, paid once, never past the budget."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine, delete, update

from storage import airtime, airtime_sweep
from storage.airtime import (
    CANCELLED,
    DUE,
    FAILED,
    REFUSED_BUDGET,
    SENDING,
    SENT,
    SUCCEEDED,
    UNKNOWN,
)
from storage.database import open_engine, writing
from storage.entries import Poison, read_entry
from storage.models import Directory, table_of
from storage.respondents import erase
from tests.airtime_field import (
    AT,
    FIVE,
    REPORT,
    balance,
    completed,
    ident,
    interview,
    opting_out,
    payment,
    payments,
    stands,
    status,
    utc,
    who,
    withdrawing,
)
from tests.record_material import WAVE, fold_all, rows
from tests.sending_field import now_ms

HOUR = 3_600_000


def earn(engine: Engine, thanks: Any = FIVE, aggregators: tuple[str, ...] = (AT,), since: Any = None) -> int:
    airtime_sweep.keep_budget(engine, WAVE, thanks)
    return airtime_sweep.earn(engine, WAVE, thanks, aggregators, utc(), since)


def earned(engine: Engine, count: int = 1, thanks: Any = FIVE) -> None:
    fold_all(engine, completed(range(1, count + 1)))
    earn(engine, thanks)


def sending(engine: Engine, n: int = 1) -> str:
    """Payment `n`, claimed."""
    if not payments(engine):
        earned(engine, n)
    assert airtime.claim(engine, ident(n), utc()) == SENDING
    return ident(n)


def taken(engine: Engine, n: int = 1, request_id: str = "ATQid_1") -> bool:
    return airtime.take(engine, ident(n), utc(), request_id=request_id, status_raw="Sent")


def validated(
    engine: Engine, transaction: str = "T1", n: int = 1, amount: str = "5.0000", currency: str = "GHS"
) -> bool:  # fmt: skip
    return airtime.validate(engine, AT, transaction, who(n), Decimal(amount), currency, utc())


# ---------------------------------------------------------------- earned


def test_who_completed_earns_one_payment_whatever_is_folded_and_swept_again(engine: Engine) -> None:
    first, again = interview(1), interview(1, now_ms() - 30_000)  # completed twice
    fold_all(engine, first)
    assert earn(engine) == 1
    fold_all(engine, [*again, *first])
    assert earn(engine) == 0
    random.Random(1).shuffle(both := [*first, *again])
    fold_all(engine, both)
    assert earn(engine) == 0
    row = payment(engine)
    assert (row["state"], row["amount"], row["currency"], row["aggregator"]) == (DUE, 500, "GHS", AT)
    assert balance(engine).reserved == 0  # earned is not sent
    with writing(engine) as db:  # the ledger lost, as from an older backup: the same payment, the same key
        db.execute(delete(airtime._payment))
    assert earn(engine) == 1
    assert [*payments(engine)] == [ident(1)]


@pytest.mark.parametrize(
    ("entries", "aggregators"),
    [
        (interview(1, disposition="refusal"), (AT,)),
        (interview(1)[:-1], (AT,)),
        ([*interview(1)[:-1], withdrawing(1)], (AT,)),
        ([e | {"wave": "another"} for e in interview(1)], (AT,)),
        (interview(1, aggregator="simulator"), (AT,)),  # a made-up handset can name any number
        (interview(1), ()),  # there is no account yet
    ],
    ids=["refused", "in progress", "withdrawn", "another wave", "simulated", "no account"],
)
def test_who_earns_nothing(engine: Engine, entries: list[Any], aggregators: tuple[str, ...]) -> None:
    fold_all(engine, entries)
    assert earn(engine, aggregators=aggregators) == 0
    assert payments(engine) == {}


def test_the_frequent_sweep_looks_at_the_last_hour_and_the_other_one_at_all(engine: Engine) -> None:
    fold_all(engine, [*interview(1, now_ms() - 2 * HOUR), *interview(2)])
    assert earn(engine, since=utc() - timedelta(hours=1)) == 1
    assert [*payments(engine)] == [ident(2)]
    assert earn(engine) == 1


# ---------------------------------------------------------------- claimed


def test_of_many_claims_at_once_one_sends(engine: Engine) -> None:
    earned(engine)
    got = at_once(8, lambda n: airtime.claim(engine, ident(1), utc()))
    assert Counter(got) == {SENDING: 1, "": 7}
    assert payment(engine)["key"] == f"d16-{ident(1)}-0"


def test_claims_at_once_never_pass_the_budget_and_money_given_back_goes_to_the_next(engine: Engine) -> None:
    earned(engine, 40, replace(FIVE, budget=Decimal("52.50")))
    order = list(range(1, 41)) * 2
    random.Random(7).shuffle(order)
    url = engine.url.render_as_string(hide_password=False)

    def claim_all(n: int) -> list[str]:
        own = open_engine(url)
        try:
            return [airtime.claim(own, ident(i), utc()) for i in order[n::8]]
        finally:
            own.dispose()

    states = Counter(state for got in at_once(8, claim_all) for state in got if state)
    assert states == {SENDING: 10, REFUSED_BUDGET: 30}
    assert (balance(engine).reserved, balance(engine).budget) == (Decimal(50), Decimal("52.50"))

    out = [i for i, row in payments(engine).items() if row["state"] == SENDING]
    assert airtime.fail(engine, out[0], utc(), "failed")
    assert airtime.lose(engine, out[1], utc(), "read_timeout")  # may be gone: not given back
    assert balance(engine).reserved == Decimal(45)
    assert airtime_sweep.reopen(engine, utc()) == 1
    (due,) = [i for i, row in payments(engine).items() if row["state"] == DUE]
    assert airtime.claim(engine, due, utc()) == SENDING
    assert airtime_sweep.reopen(engine, utc()) == 0

    earn(engine, replace(FIVE, budget=Decimal(20)))  # lowered below what is out
    assert airtime.fail(engine, out[2], utc(), "failed")
    assert airtime_sweep.reopen(engine, utc()) == 0
    earn(engine, replace(FIVE, budget=Decimal(1000)))
    assert airtime_sweep.reopen(engine, utc()) == 29


@pytest.mark.parametrize("why", ["opted_out", "withdrawn", "erased", "no_number"])
def test_nothing_goes_to_who_wants_none_or_has_no_number(engine: Engine, why: str) -> None:
    earned(engine)
    if why == "opted_out":
        fold_all(engine, [opting_out(1)])
    elif why == "withdrawn":
        fold_all(engine, [withdrawing(1)])
    elif why == "erased":
        assert erase(engine, who(1), WAVE, "K7Q2") == 1
    else:
        with writing(engine) as db:
            db.execute(delete(table_of(Directory)))
    assert airtime.claim(engine, ident(1), utc()) == CANCELLED
    assert stands(engine) == (CANCELLED, "withdrawn" if why == "erased" else why)
    assert earn(engine) == 0 and airtime.claim(engine, ident(1), utc()) == ""
    assert balance(engine).reserved == 0


def test_a_try_that_failed_for_good_has_a_fresh_key_and_one_that_may_not_have_keeps_it(
    engine: Engine,
) -> None:
    payment_id = sending(engine)
    keys = [payment(engine)["key"]]
    for refused in (False, True, False):
        assert airtime.try_again(engine, payment_id, utc(), utc(), "http_503", refused=refused)
        assert balance(engine).reserved == 0
        keys.append(payment(engine, 1)["key"] if airtime.claim(engine, payment_id, utc()) else "")
    assert [k.rpartition("-")[2] for k in keys] == ["0", "0", "1", "1"]
    assert airtime.lose(engine, payment_id, utc(), "read_timeout")
    assert airtime.claim(engine, payment_id, utc()) == ""
    assert not airtime.try_again(engine, payment_id, utc(), utc(), "x", refused=True)


def test_money_that_went_although_the_order_seemed_to_fail_is_found_before_the_next_try(
    engine: Engine,
) -> None:
    payment_id = sending(engine)
    assert airtime.try_again(engine, payment_id, utc(), utc(), "http_503", refused=False)
    fold_all(engine, [status("Success", "ATQid_9")])
    assert airtime.claim(engine, payment_id, utc()) == UNKNOWN
    assert airtime_sweep.settle(engine, utc(), utc()) == 1
    assert stands(engine) == (SUCCEEDED, None)
    assert balance(engine).spent == Decimal(5)


# ---------------------------------------------------------------- validated


#: What is asked while payment 1, of GHS 5.00, is being sent; and the answer.
ASKED: dict[str, tuple[dict[str, Any], bool]] = {
    "it": ({}, True),
    "without decimals": ({"amount": "5"}, True),
    "another amount": ({"amount": "5.01"}, False),
    "a hundredth of a hundredth more": ({"amount": "5.0001"}, False),
    "nothing": ({"amount": "0"}, False),
    "another currency": ({"currency": "NGN"}, False),
    "another number": ({"n": 3}, False),
    "somebody whose payment is due": ({"n": 2}, False),
}


@pytest.mark.parametrize("asked", ASKED)
def test_only_the_payment_that_is_being_sent_is_validated(engine: Engine, asked: str) -> None:
    earned(engine, 2)
    sending(engine)
    fields, answer = ASKED[asked]
    assert validated(engine, **fields) == answer
    assert validated(engine, **fields) == answer  # asked again
    assert payment(engine)["transaction_id"] == ("T1" if answer else None)
    (kept,) = rows(engine, REPORT)
    assert (kept["kind"], kept["reference"], kept["status"]) == (
        "validation", "T1", "Validated" if answer else "Failed",
    )  # fmt: skip


def test_a_second_transaction_is_refused_also_when_both_ask_at_once(engine: Engine) -> None:
    sending(engine)
    got = at_once(6, lambda n: validated(engine, f"T{n % 2}"))
    assert Counter(got[0::2]) in ({True: 3}, {False: 3})
    assert got[0] != got[1] and len(set(got[1::2])) == 1
    assert not validated(engine, "T9")
    assert [validated(engine, f"T{n}") for n in range(2)] == got[:2]


def test_validation_over_a_payments_life(engine: Engine) -> None:
    earned(engine)
    assert not validated(engine, "T0")  # nobody is sending it
    payment_id = sending(engine)
    assert not validated(engine, "T0")  # one transaction has one answer
    assert validated(engine, "T1")
    assert airtime.try_again(engine, payment_id, utc(), utc(), "gateway_error", refused=True)
    assert not validated(engine, "T1")
    assert airtime.claim(engine, payment_id, utc()) == SENDING
    assert not validated(engine, "T1")  # that was the last try's
    assert validated(engine, "T2")
    assert airtime.lose(engine, payment_id, utc(), "read_timeout")
    assert validated(engine, "T2")  # slow, and still ours
    fold_all(engine, [status("Success", "ATQid_1")])
    airtime_sweep.settle(engine, utc(), utc())
    assert stands(engine)[0] == SUCCEEDED
    assert not validated(engine, "T2") and not validated(engine, "T3")


def test_who_opts_out_while_the_order_is_on_its_way_is_not_validated(engine: Engine) -> None:
    sending(engine)
    fold_all(engine, [opting_out(1)])
    assert not validated(engine)


# ---------------------------------------------------------------- what became of it


@pytest.mark.parametrize(
    "words", [*permutations(["Success", "HandedToCarrier", "Success"]), ("Success", "Failed")]
)
def test_statuses_in_any_order_and_twice(engine: Engine, words: tuple[str, ...]) -> None:
    sending(engine)
    taken(engine)
    for word in words * 2:
        fold_all(engine, [status(word)])
    assert stands(engine) == (SUCCEEDED, None)
    assert (balance(engine).spent, balance(engine).reserved) == (Decimal(5), Decimal(0))
    assert {r["status"] for r in rows(engine, REPORT)} == set(words)  # kept as they came, once


def test_a_status_that_failed_gives_the_money_back_and_success_after_all_takes_it_again(
    engine: Engine,
) -> None:
    sending(engine)
    taken(engine)
    fold_all(engine, [status("Failed", detail="Insufficient")])
    assert stands(engine) == (FAILED, "not_delivered")
    assert (balance(engine).spent, balance(engine).reserved) == (Decimal(0), Decimal(0))
    fold_all(engine, [status("Success")])
    assert stands(engine) == (SUCCEEDED, None)
    assert balance(engine).spent == Decimal(5)
    fold_all(engine, [status("Failed")])
    assert stands(engine)[0] == SUCCEEDED


def test_a_word_that_is_new_is_kept_and_changes_nothing(engine: Engine) -> None:
    sending(engine)
    taken(engine)
    fold_all(engine, [status("HandedToCarrier")])
    assert stands(engine)[0] == SENT and payment(engine)["status_raw"] == "HandedToCarrier"


@pytest.mark.parametrize(("word", "state"), [("Success", SUCCEEDED), ("Failed", FAILED), ("Hm", SENT)])
def test_a_status_before_our_own_call_returned(engine: Engine, word: str, state: str) -> None:
    sending(engine)
    fold_all(engine, [status(word)])
    assert stands(engine)[0] == SENDING
    taken(engine)
    assert stands(engine)[0] == state
    balance(engine)


def test_a_status_that_names_the_transaction_settles_at_once(engine: Engine) -> None:
    sending(engine)
    assert validated(engine, "ATQid_1")
    fold_all(engine, [status("Success")])
    assert stands(engine)[0] == SUCCEEDED
    assert not taken(engine)  # the call's answer comes after it
    assert (stands(engine)[0], payment(engine)["request_id"]) == (SUCCEEDED, "ATQid_1")


def test_a_status_and_the_answer_at_the_very_same_moment(engine: Engine) -> None:
    earned(engine, 12)
    for n in range(1, 13):
        sending(engine, n)

    def race(i: int) -> None:
        n, request_id = i // 2 + 1, f"ATQid_{i // 2}"
        if i % 2:
            taken(engine, n, request_id)
        else:
            fold_all(engine, [status("Success", request_id, n)])

    at_once(24, race)
    airtime_sweep.settle(engine, utc(), utc() - timedelta(minutes=1))
    assert Counter(r["state"] for r in payments(engine).values()) == {SUCCEEDED: 12}
    assert balance(engine).spent == Decimal(60)


@pytest.mark.parametrize(("word", "state"), [("Success", SUCCEEDED), ("Failed", FAILED), ("Hm", UNKNOWN)])
def test_unknown_is_settled_by_the_one_status_that_can_be_meant(
    engine: Engine, word: str, state: str
) -> None:
    sending(engine)
    assert airtime.lose(engine, ident(1), utc(), "read_timeout")
    fold_all(engine, [status(word, "ATQid_7", amount=501), status(word, "ATQid_8", n=2)])
    assert airtime_sweep.settle(engine, utc(), utc()) == 0
    fold_all(engine, [status(word, "ATQid_6")])
    assert airtime_sweep.settle(engine, utc(), utc() - timedelta(minutes=5)) == 0  # its sender may still come
    airtime_sweep.settle(engine, utc(), utc())
    assert stands(engine)[0] == state
    assert payment(engine)["request_id"] == "ATQid_6"
    balance(engine)


def test_unknown_stays_so_where_two_orders_can_be_meant(engine: Engine) -> None:
    sending(engine)
    airtime.lose(engine, ident(1), utc(), "read_timeout")
    fold_all(engine, [status("Success", "ATQid_6"), status("Failed", "ATQid_7")])
    assert airtime_sweep.settle(engine, utc(), utc()) == 0
    assert stands(engine) == (UNKNOWN, "read_timeout")
    assert airtime_sweep.strays(engine) == 2
    assert balance(engine).reserved == Decimal(5)
    assert airtime.settle_by_hand(engine, ident(1), True, utc())
    assert not airtime.settle_by_hand(engine, ident(1), False, utc())
    assert stands(engine) == (SUCCEEDED, "by_hand")


def test_who_died_while_sending_leaves_unknown_and_may_come_back(engine: Engine) -> None:
    sending(engine)
    assert airtime_sweep.lose_stuck(engine, utc() - timedelta(minutes=5), utc()) == 0
    assert airtime_sweep.lose_stuck(engine, utc(), utc()) == 1
    assert stands(engine) == (UNKNOWN, "worker_lost")
    assert not airtime.fail(engine, ident(1), utc(), "failed")
    assert taken(engine)
    assert stands(engine) == (SENT, None)


def test_failed_is_due_again_by_hand_with_a_fresh_key(engine: Engine) -> None:
    payment_id = sending(engine)
    airtime.fail(engine, payment_id, utc(), "failed")
    assert airtime.retry_failed(engine, WAVE, utc()) == 1
    assert airtime.claim(engine, payment_id, utc()) == SENDING
    assert payment(engine)["key"].endswith("-1")
    airtime.fail(engine, payment_id, utc(), "http_503")
    assert airtime.retry_failed(engine, WAVE, utc()) == 1
    assert airtime.claim(engine, payment_id, utc()) == SENDING
    assert payment(engine)["key"].endswith("-1")  # a web server's word is not the aggregator's
    airtime.fail(engine, payment_id, utc(), "certificate_not_valid")
    assert airtime.retry_failed(engine, WAVE, utc()) == 1
    assert airtime.claim(engine, payment_id, utc()) == SENDING
    assert payment(engine)["key"].endswith("-1")  # nor is the network's


def test_orders_that_nothing_is_heard_of_are_looked_up_now_and_then(engine: Engine) -> None:
    payment_id = sending(engine)
    taken(engine)
    now = utc()
    assert airtime_sweep.silent(engine, now, now - timedelta(hours=1), 10) == []
    later = now + timedelta(hours=2)
    assert airtime_sweep.silent(engine, later, now + timedelta(seconds=1), 10) == [
        (payment_id, AT, "ATQid_1")
    ]
    again = later + timedelta(hours=1)
    assert airtime_sweep.note_lookup(engine, payment_id, AT, "ATQid_1", None, later, again) == 0
    assert airtime_sweep.silent(engine, later, later, 10) == []
    assert airtime_sweep.note_lookup(engine, payment_id, AT, "ATQid_1", "Success", again, again) == 1
    assert stands(engine)[0] == SUCCEEDED


def anything(engine: Engine, draw: random.Random, step: int) -> None:
    """One call of the ledger, as somebody may make it at any moment; none that says that money went."""
    n = draw.randint(1, 5)
    i, now = ident(n), utc()
    calls: list[Callable[[], object]] = [
        lambda: airtime.claim(engine, i, now),
        lambda: airtime.claim(engine, i, now),
        lambda: airtime.take(engine, i, now, request_id=f"R{n}", status_raw="Sent"),
        lambda: airtime.lose(engine, i, now, "lost"),
        lambda: airtime.fail(engine, i, now, "failed"),
        lambda: airtime.try_again(engine, i, now, now, "again", refused=draw.random() < 0.5),
        lambda: airtime.settle_by_hand(engine, i, draw.random() < 0.5, now),
        lambda: fold_all(engine, [status(draw.choice(["Failed", "Hm"]), f"R{n}", n)]),
        lambda: validated(engine, f"T{step}", n),
        lambda: airtime_sweep.reopen(engine, now),
        lambda: airtime_sweep.lose_stuck(engine, now, now),
        lambda: airtime.retry_failed(engine, WAVE, now),
    ]
    draw.choice(calls)()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_budget_is_the_sum_of_the_payments(engine: Engine, seed: int) -> None:
    """Any calls in any order, from any state: committed is never past the budget, and always booked."""
    draw = random.Random(seed)
    earned(engine, 5, replace(FIVE, budget=Decimal(15)))
    for step in range(60):
        anything(engine, draw, step)
        found = balance(engine)
        assert found.spent + found.reserved <= found.budget


# ---------------------------------------------------------------- odds and ends


def test_amounts_are_whole_hundredths() -> None:
    assert airtime.hundredths(Decimal("5.5000")) == 550
    assert airtime.decimal(550) == Decimal("5.50")
    for wrong in ("0.001", "NaN", "Infinity"):
        with pytest.raises(ValueError):
            airtime.hundredths(Decimal(wrong))


@pytest.mark.parametrize("field", ["request_id", "status", "respondent", "aggregator", "at", "amount"])
def test_a_status_entry_that_cannot_be_read_is_poison_and_names_the_field(field: str) -> None:
    with pytest.raises(Poison, match=field):
        read_entry(json.dumps(status("Success") | {field: ["+233240000001"]}))


def test_a_claim_waits_for_its_time(engine: Engine) -> None:
    earned(engine)
    assert airtime.defer(engine, ident(1), utc() + timedelta(minutes=1), utc())
    assert airtime.claim(engine, ident(1), utc()) == ""
    with writing(engine) as db:
        db.execute(update(airtime._payment).values(not_before=utc()))
    assert airtime_sweep.due_payments(engine, utc(), 10, [WAVE], [AT]) == [ident(1)]
    assert airtime_sweep.due_payments(engine, utc(), 10, ["other"], [AT]) == []
    assert airtime_sweep.due_payments(engine, utc(), 10, [WAVE], []) == []


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `count` threads bring back that begin together."""
    together = threading.Barrier(count)
    got: list[Any] = [None] * count

    def run(n: int) -> None:
        together.wait(10)
        try:
            got[n] = work(n)
        except Exception as error:
            got[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    failed = [g for g in got if isinstance(g, Exception)]
    assert not failed, failed
    return got
