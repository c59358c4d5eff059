"""The nouns between an aggregator's wire and the dialogue. Neutral: no aggregator's names here."""

from dataclasses import dataclass
from decimal import Decimal


class WireError(Exception):
    """A partner's request is malformed. `status` is the 4xx to answer with; the message names
    fields, never values, and says what the partner must send."""

    def __init__(self, status: int, message: str):
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a USSD session.

    With a cumulative aggregator `text` is every input of the session joined by `*` and `sequence`
    is 0; otherwise `text` is this hop's input alone and `sequence` counts hops from 1.
    """

    session: str
    msisdn: str  # E.164 with +
    network_code: str  # MCC+MNC as sent; unknown ones are kept
    service_code: str
    text: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The aggregator's notice that a session is over. Its copies of inputs and screens are not kept."""

    session: str
    msisdn: str
    network_code: str
    service_code: str
    status: str  # as sent: Success | Incomplete | Failed | ...
    duration_ms: int | None = None
    hops: int | None = None
    cost: str = ""  # as sent
    error: str = ""


@dataclass(frozen=True, slots=True)
class InboundSms:
    """A text message that somebody wrote to us. The aggregator sends it again until it is answered."""

    id: str  # the aggregator's, the same on every repeat
    msisdn: str
    to: str  # the short code written to
    network_code: str  # as sent; "" if not said
    text: str


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What became of a message that we sent. May come late, repeated and out of order."""

    message_id: str  # the aggregator's, from when it took the message
    status: str  # as sent
    failure_reason: str = ""
    network_code: str = ""
    msisdn: str = ""  # whose it is, where the report says so legibly


@dataclass(frozen=True, slots=True)
class AirtimeValidation:
    """The aggregator asks, before it pays, whether an order of airtime is ours."""

    transaction_id: str
    msisdn: str
    amount: Decimal
    currency: str  # ISO 4217


@dataclass(frozen=True, slots=True)
class AirtimeStatus:
    """What became of airtime that we ordered. May come late, repeated and out of order."""

    request_id: str  # the aggregator's, from when it took the order
    msisdn: str
    status: str  # as sent
    amount: Decimal | None = None  # None: not said in a form we can read
    currency: str = ""
    detail: str = ""  # its remark, without digits: it may quote the number


@dataclass(frozen=True, slots=True)
class OptOut:
    """The aggregator's notice that somebody wants no more messages."""

    msisdn: str
    sender: str  # the name or short code that they are about
