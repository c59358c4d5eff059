"""The far side of the simulator: phones that texts and airtime reach, so that nothing leaves the machine.

    dial16:simulated:{digest of the number}   what one phone received, the last 50, for a day

It holds what was sent to numbers that were typed into the handset page. The page reads it and reports
each message's delivery, as a network would.
"""

import secrets
from collections.abc import Awaitable, Callable
from decimal import Decimal
from hashlib import blake2b
from typing import Any, cast

import orjson
import redis

from flows.gsm import parts
from gateway.sending import AirtimeSent, Sent

_MOST, _DAY_SECONDS = 50, 86_400
NO_CURRENCY = "XTS"  # ISO 4217's code for testing

#: What a number's phone received, the oldest first.
Inbox = Callable[[str], Awaitable[list[dict[str, Any]]]]


class SimulatedPhones:
    """A Sender (gateway/sending.py) whose messages cost nothing and arrive at the handset page."""

    def __init__(self, live: redis.Redis):
        self._live = live

    def send_sms(self, msisdn: str, text: str, sender: str | None) -> Sent:
        message_id = self._put(msisdn, "sms", text, sender)
        return Sent(message_id, "accepted", "Success", parts(text), Decimal(0), NO_CURRENCY)

    def send_airtime(self, msisdn: str, currency: str, amount: Decimal, key: str) -> AirtimeSent:
        """The same `key` twice is one payment, as with the aggregator's own."""
        request_id = f"simulated-{blake2b(key.encode(), digest_size=12).hexdigest()}"
        if self._live.set(f"dial16:simulated:{request_id}", 1, nx=True, ex=_DAY_SECONDS):
            self._put(msisdn, "airtime", f"You received {currency} {amount:.2f} of airtime.", None)
        return AirtimeSent(request_id, "Sent", amount, Decimal(0))

    def find_airtime(self, reference: str) -> str | None:
        """What was put into an inbox has arrived."""
        return "Success" if self._live.exists(f"dial16:simulated:{reference}") else None

    def balance(self) -> tuple[str, Decimal] | None:
        return None

    def _put(self, msisdn: str, kind: str, text: str, sender: str | None) -> str:
        message_id = f"simulated-{secrets.token_hex(8)}"
        row = {"id": message_id, "kind": kind, "text": text, "from": sender or ""}
        with self._live.pipeline() as pipe:
            pipe.rpush(_key(msisdn), orjson.dumps(row))
            pipe.ltrim(_key(msisdn), -_MOST, -1)
            pipe.expire(_key(msisdn), _DAY_SECONDS)
            pipe.execute()
        return message_id


def received(live: redis.Redis, msisdn: str) -> list[dict[str, Any]]:
    """What this number's phone received: id, kind (sms, airtime), text, from. Raises redis.RedisError."""
    rows = cast(list[bytes], live.lrange(_key(msisdn), 0, -1))
    return [orjson.loads(row) for row in rows]


def _key(msisdn: str) -> str:
    return f"dial16:simulated:{blake2b(msisdn.encode(), digest_size=16).hexdigest()}"
