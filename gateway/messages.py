"""The nouns between an aggregator's wire and the dialogue. Neutral: no aggregator's names here."""

from dataclasses import dataclass


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
