"""The outbox on both engines: what the stream asks for, every change of state and who may make it."""

import json
import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from storage import outbox, sweep
from storage.database import open_engine, reading, writing
from storage.entries import Poison, read_entry
from storage.models import DeliveryReport, Directory, Respondent, table_of
from storage.outbox import (
    CANCELLED,
    DELIVERED,
    DUE,
    FAILED,
    HELD,
    SENDING,
    SENT,
    UNKNOWN,
    Message,
)
from storage.outgoing import message_id_of
from storage.respondents import erase
from tests.record_material import Dialogue, Entry, fold_all, rows
from tests.sending_field import SEAL, TEXT, asking, messages, now_ms, number, pseudonym

DIRECTORY, REPORT, RESPONDENT = table_of(Directory), table_of(DeliveryReport), table_of(Respondent)
NOW = datetime.now(UTC).replace(microsecond=0)
AT = "africastalking"


def only(engine: Engine) -> dict[str, Any]:
    (row,) = messages(engine)
    return row


def found(engine: Engine, row: str = "") -> Message:
    message = outbox.find_message(engine, row or only(engine)["id"])
    assert message is not None
    return message


def taken(engine: Engine, message: Message, message_id: str = "ATXid_1") -> bool:
    return outbox.take(
        engine, message, NOW, message_id=message_id, status_raw="101 Success", parts=2,
        cost_amount="0.0600", cost_currency="GHS",
    )  # fmt: skip


def report(status: str, at: int = 0, message_id: str = "ATXid_1", **more: Any) -> Entry:
    return {
        "kind": "delivery_report", "at": now_ms() + at, "aggregator": AT, "message_id": message_id,
        "status": status, "failure_reason": more.pop("reason", None), "network_code": None, **more,
    }  # fmt: skip


def sending(engine: Engine, n: int = 1, kind: str = "reply") -> Message:
    """A message that has been claimed."""
    fold_all(engine, [asking(n, (kind, TEXT))])
    message = found(engine, message_id_of(f"text:in-{n}:0"))
    assert outbox.claim(engine, message.id, datetime.now(UTC))
    return message


# ---------------------------------------------------------------- from the stream


def sms_hop(n: int = 1, at: int | None = None) -> tuple[Dialogue, Entry]:
    d = Dialogue(n, at=at or now_ms())
    hop = d.begin()
    hop |= {
        "mode": "sms", "sends": [{"kind": "reply", "text": TEXT}],
        "sealed": SEAL.seal(number(n), d.respondent),
        "key_id": SEAL.key_id, "sender": "1616", "aggregator": AT,
    }  # fmt: skip
    return d, hop


def test_a_hop_s_text_becomes_a_row_once(engine: Engine) -> None:
    d, hop = sms_hop()
    for _ in range(3):
        fold_all(engine, [hop, hop])
    row = only(engine)
    assert row["natural_key"] == f"{d.interview}:1:0" and row["id"] == message_id_of(row["natural_key"])
    assert (row["state"], row["kind"], row["priority"], row["text"]) == (DUE, "reply", 1, TEXT)
    assert (row["interview"], row["respondent"], row["wave"]) == (d.interview, d.respondent, hop["wave"])
    assert (row["sender"], row["aggregator"], row["network_code"]) == ("1616", AT, "62001")
    (kept,) = rows(engine, DIRECTORY)
    assert SEAL.open(kept["sealed"], d.respondent) == number(1) and kept["key_id"] == SEAL.key_id


def test_a_plain_hop_asks_for_nothing(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    fold_all(engine, d.entries)
    assert messages(engine) == [] and rows(engine, DIRECTORY) == []


def test_the_latest_number_is_kept_whatever_the_order(engine: Engine) -> None:
    old, new = asking(1, at=now_ms() - 5000, ident="a"), asking(1, at=now_ms(), ident="b")
    for order in permutations([old, new]):
        fold_all(engine, order)
        assert rows(engine, DIRECTORY)[0]["sealed"] == new["sealed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sends": "x"}, {"sends": [1]}, {"sends": [{"kind": "spam", "text": "x"}]},
        {"sends": [{"kind": "reply", "text": " "}]}, {"sends": [{"kind": "reply"}]}, {"sealed": 3},
        {"what": ""}, {"message_id": 7},
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_poison_without_its_value(wrong: dict[str, Any]) -> None:
    entry = asking(1, ("reply", "secret words")) | wrong
    with pytest.raises(Poison) as caught:
        read_entry(json.dumps(entry))
    assert "secret" not in str(caught.value) and "spam" not in str(caught.value)


# ---------------------------------------------------------------- one message


def test_only_one_of_many_claims_it(engine: Engine, database_url: str) -> None:
    fold_all(engine, [asking(1, ("reply", TEXT))])
    row, wins = only(engine)["id"], []
    engines = [open_engine(database_url) for _ in range(4)]
    start = threading.Barrier(4)

    def race(own: Engine) -> None:
        start.wait()
        if outbox.claim(own, row, NOW):
            wins.append(1)

    threads = [threading.Thread(target=race, args=(e,)) for e in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in engines:
        own.dispose()
    assert wins == [1]
    row_now = only(engine)
    assert (row_now["state"], row_now["attempts"], row_now["claimed_at"]) == (SENDING, 1, NOW)


def test_taken_with_its_cost_to_the_last_digit(engine: Engine) -> None:
    assert taken(engine, sending(engine))
    row = only(engine)
    assert (row["state"], row["message_id"], row["status_raw"], row["parts"]) == (
        SENT,
        "ATXid_1",
        "101 Success",
        2,
    )
    assert (row["cost_amount"], row["cost_currency"], row["sent_at"]) == ("0.0600", "GHS", NOW)


def test_tried_again_and_not_counted_when_the_account_was_at_fault(engine: Engine) -> None:
    message = sending(engine)
    later = NOW + timedelta(minutes=1)
    assert outbox.try_again(engine, message.id, later, "http_503")
    assert (only(engine)["state"], only(engine)["attempts"], only(engine)["not_before"]) == (DUE, 1, later)
    assert outbox.claim(engine, message.id, NOW)
    assert outbox.try_again(engine, message.id, NOW, "insufficient_balance", counted=False)
    assert (only(engine)["state"], only(engine)["attempts"]) == (DUE, 1)


def test_every_change_is_refused_from_every_other_state(engine: Engine) -> None:
    """The table of `outbox.py`, whole: what each function may start from."""
    fold_all(engine, [asking(1, ("reply", TEXT))])
    message = found(engine)
    changes: dict[str, tuple[Any, set[str]]] = {
        "claim": (lambda: outbox.claim(engine, message.id, NOW), {DUE}),
        "defer": (lambda: outbox.defer(engine, message.id, NOW), {DUE}),
        "hold": (lambda: outbox.hold(engine, message.id, "no_account"), {DUE}),
        "cancel": (lambda: outbox.cancel(engine, message, NOW, "opted_out"), {DUE, HELD}),
        "try_again": (lambda: outbox.try_again(engine, message.id, NOW, "x"), {SENDING}),
        "fail": (lambda: outbox.fail(engine, message, NOW, "x"), {SENDING}),
        "lose": (lambda: outbox.lose(engine, message, "x"), {SENDING}),
        "take": (lambda: taken(engine, message, "ATXid_new"), {SENDING, UNKNOWN}),
        "release": (lambda: sweep.release(engine, [AT]) == 1, {HELD}),
        "lose_stuck": (lambda: sweep.lose_stuck(engine, NOW + timedelta(days=1)) == 1, {SENDING}),
    }
    for state in (DUE, SENDING, SENT, DELIVERED, FAILED, UNKNOWN, CANCELLED, HELD):
        for name, (change, allowed) in changes.items():
            with writing(engine) as db:
                db.exec_driver_sql(
                    f"UPDATE outbound_message SET state = '{state}', message_id = NULL, attempts = 1"
                )
                db.execute(outbox._message.update().values(claimed_at=NOW))
            assert change() == (state in allowed), (name, state)
            assert (only(engine)["state"] == state) or state in allowed, (name, state)


def test_who_was_given_up_may_still_come_back(engine: Engine) -> None:
    message = sending(engine)
    assert sweep.lose_stuck(engine, datetime.now(UTC) + timedelta(minutes=1)) == 1
    assert (only(engine)["state"], only(engine)["failure_reason"]) == (UNKNOWN, "worker_lost")
    assert taken(engine, message)
    assert (only(engine)["state"], only(engine)["failure_reason"]) == (SENT, None)


def test_nothing_that_is_not_due_is_found_by_the_sweep(engine: Engine) -> None:
    fold_all(
        engine, [asking(1, ("invitation", TEXT)), asking(2, ("reply", TEXT)), asking(3, ("thanks", TEXT))]
    )
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert [kind for _, kind in sweep.due_messages(engine, now, 9)] == ["reply", "thanks", "invitation"]
    assert len(sweep.due_messages(engine, now, 2)) == 2
    assert sweep.due_messages(engine, now - timedelta(hours=1), 9) == []
    assert sweep.due_messages(engine, now, 9, [(AT, "1616")]) == []
    assert len(sweep.due_messages(engine, now, 9, [(AT, "")])) == 3
    assert sweep.counts(engine)[0] == ("reply", DUE, "", 1)


# ---------------------------------------------------------------- delivery reports


STORIES = {
    "arrived": (["Sent", "Submitted", "Buffered", "Success"], DELIVERED),
    "failed": (["Sent", "Failed"], FAILED),
    "rejected": (["Rejected"], FAILED),
    "absent, then there": (["AbsentSubscriber", "Success"], DELIVERED),
    "expired": (["Buffered", "Expired"], FAILED),
    "in flight": (["Sent", "Buffered"], SENT),
    "a new word": (["HandedToCarrier"], SENT),
    "a new word, then arrived": (["HandedToCarrier", "Success"], DELIVERED),
}


@pytest.mark.parametrize("story", STORIES)
def test_reports_in_any_order_repeated_before_and_after_the_send(engine: Engine, story: str) -> None:
    words, state = STORIES[story]
    told = [report(word, at=n, reason="UserIsInactive" if word in ("Failed", "Rejected") else None)
            for n, word in enumerate(words)]  # fmt: skip
    orders = list(permutations(told))
    random.Random(1).shuffle(orders)
    outcomes = []
    for n, order in enumerate(orders[:6]):
        message = sending(engine, n + 10)
        mine = [{**r, "message_id": f"ATXid_{n}"} for r in order for _ in range(2)]
        early = mine[: n * len(mine) // 5] if n < 5 else mine
        for entry in early:
            fold_all(engine, [entry])
        assert taken(engine, message, f"ATXid_{n}")
        for entry in mine[len(early) :]:
            fold_all(engine, [entry])
        row = next(r for r in messages(engine) if r["id"] == message.id)
        outcomes.append((row["state"], row["status_raw"], row["failure_reason"]))
        assert (row["final_at"] is not None) == (state in (DELIVERED, FAILED))
    assert {o[0] for o in outcomes} == {state} and len(set(outcomes)) == 1, outcomes
    if story in ("failed", "rejected"):
        assert outcomes[0][2] == "UserIsInactive"


def test_the_report_and_the_answer_at_once_are_both_kept(engine: Engine, database_url: str) -> None:
    other = open_engine(database_url)
    for n in range(15):
        message, start = sending(engine, n), threading.Barrier(2)

        def tell(n: int = n, start: threading.Barrier = start) -> None:
            start.wait()
            fold_all(other, [report("Success", message_id=f"ATXid_{n}")])

        thread = threading.Thread(target=tell)
        thread.start()
        start.wait()
        taken(engine, message, f"ATXid_{n}")
        thread.join()
    other.dispose()
    assert [r["state"] for r in messages(engine)] == [DELIVERED] * 15
    assert all(r["known"] for r in rows(engine, REPORT))


def test_a_report_settles_the_one_unknown_message_it_can_be_about(engine: Engine) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    alone, first, second = sending(engine, 1), sending(engine, 2), sending(engine, 3)
    assert outbox.lose(engine, alone, "read_timeout") and outbox.lose(engine, first, "read_timeout")
    fold_all(engine, [asking(2, ("reply", TEXT), ident="more")])
    again = found(engine, message_id_of("text:more:0"))
    assert outbox.claim(engine, again.id, NOW) and outbox.lose(engine, again, "read_timeout")
    told = [report("Success", message_id=f"ATXid_{n}", respondent=pseudonym(n)) for n in (1, 2, 3)]
    fold_all(engine, told)
    assert sweep.settle_unknown(engine, datetime.now(UTC) - timedelta(minutes=1)) == 0  # too early to tell
    assert sweep.settle_unknown(engine, soon) == 1
    state = {r["id"]: r["state"] for r in messages(engine)}
    assert state[alone.id] == DELIVERED
    assert state[first.id] == state[again.id] == UNKNOWN  # either may be meant
    assert state[second.id] == SENDING  # its own answer is still to come
    assert taken(engine, second, "ATXid_3")
    assert {r["id"]: r["state"] for r in messages(engine)}[second.id] == DELIVERED
    assert sweep.settle_unknown(engine, soon) == 0


# ---------------------------------------------------------------- opting out and withdrawing


def stop(n: int, at: int, ident: str = "stop") -> Entry:
    return asking(n, ("confirmation", "No more messages."), at=at, ident=ident, what="stop")


def directory(engine: Engine) -> set[str]:
    return {r["respondent"] for r in rows(engine, DIRECTORY)}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_who_opts_out_hears_the_confirmation_and_no_more(engine: Engine, order: tuple[int, ...]) -> None:
    at = now_ms()
    entries = [
        asking(1, ("reply", TEXT), ("reminder", TEXT), at=at - 10, ident="before"), stop(1, at),
        asking(1, ("reminder", TEXT), ("reply", "Help."), at=at + 10, ident="after"),
    ]  # fmt: skip
    for k in order:
        fold_all(engine, [entries[k]])
    by_key = {r["natural_key"]: (r["state"], r["failure_reason"]) for r in messages(engine)}
    cancelled = (CANCELLED, "opted_out")
    assert by_key == {
        "text:before:0": cancelled, "text:before:1": cancelled, "text:stop:0": (DUE, None),
        "text:after:0": cancelled, "text:after:1": (DUE, None),  # a reply to what they wrote afterwards
    }  # fmt: skip
    (row,) = rows(engine, RESPONDENT)
    assert row["opted_out_at"] == datetime.fromtimestamp(at / 1000, UTC)
    for key in ("text:stop:0", "text:after:1"):
        assert directory(engine) == {pseudonym(1)}
        message = found(engine, message_id_of(key))
        assert outbox.claim(engine, message.id, NOW) and taken(engine, message, key)
    assert directory(engine) == set()  # nothing is to be sent any more


def test_of_several_opt_outs_the_latest_holds(engine: Engine) -> None:
    at = now_ms()
    notices = [
        {"kind": "opted_out", "respondent": pseudonym(1), "at": at + k, "aggregator": AT} for k in (5, 0, 9)
    ]
    fold_all(engine, [asking(1, ("invitation", TEXT), at=at - 99)])
    fold_all(engine, notices[:2])
    fold_all(engine, notices[2:])
    assert rows(engine, RESPONDENT)[0]["opted_out_at"] == datetime.fromtimestamp((at + 9) / 1000, UTC)
    assert only(engine)["state"] == CANCELLED and directory(engine) == set()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_who_comes_back_gets_messages_again(engine: Engine, order: tuple[int, ...]) -> None:
    at = now_ms()
    _, hop = sms_hop()
    back = hop | {"at": at + 10, "opted_in": True}
    entries = [stop(1, at), back, asking(1, ("thanks", TEXT), at=at + 20, ident="after")]
    for k in order:
        fold_all(engine, [entries[k]])
    (row,) = rows(engine, RESPONDENT)
    assert row["opted_in_at"] == datetime.fromtimestamp((at + 10) / 1000, UTC)
    with reading(engine) as db:
        assert db.execute(select(func.count()).select_from(RESPONDENT).where(outbox.OPTED_OUT)).scalar() == 0
    late = found(engine, message_id_of("text:after:0"))
    if late.state == DUE:  # not where it was folded while only the opt-out was known
        assert outbox.claim(engine, late.id, NOW + timedelta(seconds=60))
    assert late.state == DUE or order.index(2) < order.index(1)


def test_an_opt_out_between_the_look_and_the_claim_wins(engine: Engine) -> None:
    fold_all(engine, [asking(1, ("thanks", TEXT))])
    message = found(engine)
    with writing(engine) as db:  # not through the fold, which would cancel it
        db.execute(RESPONDENT.update().values(opted_out_at=NOW))
    assert not outbox.claim(engine, message.id, NOW) and only(engine)["state"] == DUE


def test_a_withdrawal_sends_its_receipt_and_then_blanks_and_forgets(engine: Engine) -> None:
    d, hop = sms_hop()
    fold_all(engine, [hop])
    first = found(engine)
    assert outbox.claim(engine, first.id, NOW) and taken(engine, first, "ATXid_a")
    asked = d.consent() | {
        "sends": [{"kind": "reply", "text": "And this?"}],
        "sealed": hop["sealed"],
        "aggregator": AT,
    }
    fold_all(engine, [asked])
    gone = d.withdraw() | {"sends": [{"kind": "reply", "text": "Receipt K7Q2."}], "sealed": hop["sealed"],
                           "aggregator": AT}  # fmt: skip
    fold_all(engine, [gone])
    texts = {r["natural_key"][-3]: (r["state"], r["text"]) for r in messages(engine)}
    assert texts == {"1": (SENT, ""), "2": (CANCELLED, ""), "3": (DUE, "Receipt K7Q2.")}
    assert directory(engine) == {d.respondent}
    receipt = found(engine, message_id_of(f"{d.interview}:3:0"))
    assert outbox.claim(engine, receipt.id, NOW) and taken(engine, receipt, "ATXid_b")
    assert {r["text"] for r in messages(engine)} == {""} and directory(engine) == set()
    fold_all(engine, [asked])  # late and again: no answer, no text, no number comes back
    assert {r["text"] for r in messages(engine)} == {""} and directory(engine) == set()


def test_the_office_s_erasure_takes_number_and_texts(engine: Engine) -> None:
    d, hop = sms_hop()
    fold_all(engine, [hop, asking(2, ("reply", TEXT))])
    assert erase(engine, d.respondent) == 1
    assert directory(engine) == {pseudonym(2)}
    assert [(r["state"], r["text"]) for r in messages(engine) if r["respondent"] == d.respondent] == [
        (CANCELLED, "")
    ]


def test_numbers_are_forgotten_after_their_days(engine: Engine) -> None:
    fold_all(engine, [asking(1, at=now_ms() - 91 * 86_400_000), asking(2)])
    assert sweep.forget_numbers(engine, datetime.now(UTC) - timedelta(days=90)) == 1
    assert directory(engine) == {pseudonym(2)}


def test_no_table_holds_a_number(engine: Engine) -> None:
    fold_all(engine, [asking(n, ("reply", TEXT)) for n in range(5)])
    with reading(engine) as db:
        told = str([db.execute(select(t)).all() for t in (DIRECTORY, RESPONDENT, outbox._message)])
    assert not any(number(n)[1:] in told for n in range(5))
