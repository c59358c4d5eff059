"""Africa's Talking: USSD on the wire.

Request: POST, application/x-www-form-urlencoded, fields sessionId, phoneNumber (E.164; an unescaped
`+` arrives as a space), networkCode, serviceCode, text (all inputs joined by `*`, which is not
escaped). Reply: text/plain that begins with `CON ` or `END `, nothing before it. Deadline 10 s.
End of session: another POST of the same form. Source: Africa's Talking's developer documents, USSD.
"""

from urllib.parse import unquote_plus

from gateway.messages import Hop, SessionEnded, WireError

_MAX_FIELDS = 64
_LIMITS = {"sessionId": 128, "phoneNumber": 20, "networkCode": 16, "serviceCode": 32, "text": 16_000}
_NOTICE_LIMITS = {"sessionId": 128, "phoneNumber": 20, "networkCode": 16, "serviceCode": 32}
_KEPT = ("sessionId", "networkCode", "serviceCode")  # in log lines and in the record, which takes no NUL


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form. Raises WireError(400) on a repeated field, bad encoding, too many fields.

    Blank values stay: the first dial's `text=` must not vanish.
    """
    try:
        raw = body.decode("ascii")
    except UnicodeDecodeError:
        raise WireError(400, "the body must be percent-encoded ASCII") from None
    pairs = raw.split("&")
    if len(pairs) > _MAX_FIELDS:
        raise WireError(400, f"too many fields; at most {_MAX_FIELDS}")
    form: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        if name in form:
            raise WireError(400, f"field given twice: {_known(name)}")
        if "%" in value or "+" in value:
            value = unquote_plus(value, errors="replace")
        form[name] = value
    return form


def _known(name: str) -> str:
    """A field's name if it is one of the documented ones; else no name, which could be anything."""
    return name if name in _LIMITS else "an unknown field"


def _require(form: dict[str, str], limits: dict[str, int]) -> None:
    missing = [name for name in limits if name not in form]
    if missing:
        raise WireError(400, f"missing: {', '.join(missing)}")
    too_long = [name for name, limit in limits.items() if len(form[name]) > limit]
    if too_long:
        raise WireError(400, f"too long: {', '.join(too_long)}")
    empty = [name for name in ("sessionId", "phoneNumber") if not form[name].strip()]
    if empty:
        raise WireError(400, f"empty: {', '.join(empty)}")
    odd = [name for name in _KEPT if not form[name].isprintable()]
    if odd:
        raise WireError(400, f"not printable: {', '.join(odd)}")


def read_msisdn(raw: str) -> str:
    """E.164 from the wire, where an unescaped `+` has become a space. Raises WireError(400)."""
    number = raw.strip()
    number = number if number.startswith("+") else "+" + number
    digits = number[1:]
    # E.164: 15 digits at most; none shorter than 7 is a subscriber's.
    if not (digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 15):
        raise WireError(400, "phoneNumber: must be in international form, + and 7 to 15 digits")
    return number


def _whole(raw: str | None) -> int | None:
    return int(raw) if raw and raw.isascii() and raw.isdigit() and len(raw) < 12 else None


def _remark(raw: str, most: int) -> str:
    """Free text for the record: cut, and a space for what cannot be stored or printed."""
    return "".join(c if c.isprintable() else " " for c in raw[:most])


class AfricasTalking:
    name = "africastalking"
    cumulative = True
    content_type = "application/x-www-form-urlencoded"
    reply_type = "text/plain; charset=utf-8"
    max_body = 65_536  # a 10 KB input is up to 30 KB once percent-encoded

    def read_hop(self, body: bytes) -> Hop:
        form = read_form(body)
        _require(form, _LIMITS)
        return Hop(
            session=form["sessionId"],
            msisdn=read_msisdn(form["phoneNumber"]),
            network_code=form["networkCode"],
            service_code=form["serviceCode"],
            text=form["text"],
        )

    def write_screen(self, text: str, ends: bool) -> bytes:
        return (("END " if ends else "CON ") + text).encode()

    def read_session_ended(self, body: bytes) -> SessionEnded:
        """`input` and `lastAppResponse` hold answers: they are dropped here and never kept."""
        form = read_form(body)
        _require(form, _NOTICE_LIMITS)
        return SessionEnded(
            session=form["sessionId"],
            msisdn=read_msisdn(form["phoneNumber"]),
            network_code=form["networkCode"],
            service_code=form["serviceCode"],
            status=_remark(form.get("status", ""), 32),
            duration_ms=_whole(form.get("durationInMillis")),
            hops=_whole(form.get("hopsCount")),
            cost=_remark(form.get("cost", ""), 32),
            error=_remark(form.get("errorMessage", ""), 128),
        )
