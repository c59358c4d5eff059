"""The aggregators we speak with: one file each, pure translators, and this dict that names them."""

from typing import Protocol

from gateway.aggregators.africastalking import AfricasTalking
from gateway.aggregators.simulator import Simulator
from gateway.messages import (
    AirtimeStatus,
    AirtimeValidation,
    DeliveryReport,
    Hop,
    InboundSms,
    OptOut,
    SessionEnded,
)


class Aggregator(Protocol):
    """What the gateway asks of an aggregator: pure functions from bytes and to bytes.

    `cumulative`: `Hop.text` holds every input of the session (see messages.Hop).
    `content_type`: the only one accepted on requests. `reply_type`: of our screens.
    Readers raise WireError on a malformed body.
    """

    name: str
    cumulative: bool
    content_type: str
    reply_type: str
    max_body: int  # octets

    def read_hop(self, body: bytes) -> Hop: ...
    def write_screen(self, text: str, ends: bool) -> bytes: ...
    def read_session_ended(self, body: bytes) -> SessionEnded: ...
    def read_inbound_sms(self, body: bytes) -> InboundSms: ...
    def read_delivery_report(self, body: bytes) -> DeliveryReport: ...
    def read_opt_out(self, body: bytes) -> OptOut: ...
    def read_airtime_validation(self, body: bytes) -> AirtimeValidation: ...
    def read_airtime_status(self, body: bytes) -> AirtimeStatus: ...


AGGREGATORS: dict[str, Aggregator] = {
    "africastalking": AfricasTalking(),
    "simulator": Simulator(),
}
