"""What leaves the building: a text to a number, airtime to a number. Neutral: no aggregator's names here.

    Sender      what can send; one implementation an aggregator
    Sent        the aggregator took a text and gave it an id; what became of it, delivery reports say
    AirtimeSent the aggregator took an order of airtime; whether it arrived, its status callback says
    SendError   it did not, or nobody can know

Nothing here holds a number, a text or a key, so that any of it may be logged.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol


class SendError(Exception):
    """Nothing was sent, or nobody can know. What to do about it:

        retryable           not sent; the same may be sent again after a while
        retryable + alarm   hold: not sent, and nothing else will be until a person has acted (`hold`)
        alarm               refused for good, in a way that a person must look at
        unknown             it may have been sent: never send it again blindly. Never with `retryable`
        none of them        refused for good: this number, or this text

    `code` says why in one word of the sending module's own tables (or `status_` and what the aggregator
    said, when it is new to us): never a number, a text or a key. It is all that `str()` shows.
    """

    def __init__(self, code: str, *, retryable: bool = False, alarm: bool = False, unknown: bool = False):
        if unknown and retryable:
            raise ValueError("what may have been sent must not be sent again")
        super().__init__(code)
        self.code = code
        self.retryable = retryable
        self.alarm = alarm
        self.unknown = unknown

    @property
    def hold(self) -> bool:
        """Stop this sender and keep its messages: they can go once a person has acted."""
        return self.retryable and self.alarm


@dataclass(frozen=True, slots=True)
class Sent:
    message_id: str  # the aggregator's; its delivery reports name it
    state: Literal["accepted"]
    status_raw: str  # as the aggregator put it
    parts: int  # by our own count
    cost: Decimal | None  # None: not said in a form we can read
    currency: str  # ISO 4217; empty if not said


@dataclass(frozen=True, slots=True)
class AirtimeSent:
    request_id: str  # the aggregator's; its status callback names it
    status_raw: str
    amount: Decimal | None  # as the aggregator repeats it; None: not in a form we can read
    discount: Decimal | None


class Sender(Protocol):
    """One account at one aggregator. Every failure is a SendError; calls block, within seconds."""

    def send_sms(self, msisdn: str, text: str, sender: str | None) -> Sent:
        """Send one text. `sender`: a registered name or short code; None: the account's default."""
        ...

    def send_airtime(self, msisdn: str, currency: str, amount: Decimal, key: str) -> AirtimeSent:
        """Order airtime. `key`: one and the same for every try of one payment, and no other's."""
        ...

    def find_airtime(self, reference: str) -> str | None:
        """The aggregator's word on an order, by its transaction or request id; None if it says none that
        we can read, which proves nothing."""
        ...

    def balance(self) -> tuple[str, Decimal] | None:
        """Currency and what is left in the account; None if it is not said in a form we can read."""
        ...
