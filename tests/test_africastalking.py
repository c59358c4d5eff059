"""Africa's Talking on the wire: literal requests and what is read from them, literal replies."""

from dataclasses import astuple

import pytest

from gateway.aggregators.africastalking import AfricasTalking, read_form
from gateway.messages import Hop, SessionEnded, WireError

AT = AfricasTalking()
row = pytest.param
SESSION = "ATUid_0f0e0d0c0b0a09080706050403020100"
NUMBER, SENT = "+233240000001", "%2B233240000001"
REST = f"sessionId={SESSION}&networkCode=62001&serviceCode=*384*16%23"
HOP = f"{REST}&phoneNumber=%2B233240000001&text=1*2"
NOTICE = (
    f"{REST}&phoneNumber=%2B233240000001&date=2026-11-23+08%3A00%3A00&status=Incomplete&cost=GHS+0.0300"
    "&durationInMillis=41200&hopsCount=3&hopsMetadata=a%7Cb&input=1*2*31415&lastAppResponse=CON+How+old%3F"
    "&errorMessage=timed+out"
)


def hop(text: str = "1*2", number: str = NUMBER, network: str = "62001", code: str = "*384*16#") -> Hop:
    return Hop(SESSION, number, network, code, text)


def as_sent(body: str) -> bytes:
    return body.encode("ascii")


# ---------------------------------------------------------------- hops


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        row(HOP, hop(), id="as documented"),
        row(f"text=&{REST}&phoneNumber=%2b233240000001", hop(text=""), id="first dial, any order, %2b"),
        row(f"{REST}&phoneNumber=+233240000001&text=", hop(text=""), id="an unescaped plus is a space"),
        row(f"{REST}&phoneNumber=233240000001&text=", hop(text=""), id="no plus"),
        row(f"{REST}&phoneNumber=%2B233240000001%0A&text=", hop(text=""), id="a line break after the number"),
        row(HOP.replace("text=1*2", "text=1%2A2"), hop(), id="escaped star"),
        row(HOP.replace("text=1*2", "text=1*%2a%23*%2A1%23"), hop("1**#**1#"), id="stars and hashes"),
        row(HOP.replace("text=1*2", "text=*1"), hop("*1"), id="blank first input"),
        row(HOP.replace("text=1*2", "text=1*"), hop("1*"), id="blank last input"),
        row(HOP.replace("text=1*2", "text=a=b"), hop("a=b"), id="an equals sign in a value"),
        row(HOP.replace("text=1*2", "text=a%26b%3Dc"), hop("a&b=c"), id="escaped separators"),
        row(HOP.replace("text=1*2", "text=a+b%20c"), hop("a b c"), id="both spaces"),
        row(HOP.replace("text=1*2", "text=%C3%A9%E2%82%AC%F0%9F%91%8D"), hop("é€👍"), id="UTF-8"),
        row(HOP.replace("text=1*2", "text=1*%E9*%ED%A0%80"), hop("1*�*���"), id="not UTF-8: kept as �"),
        row(HOP.replace("text=1*2", "text=100%"), hop("100%"), id="a lone percent sign"),
        row(HOP.replace("text=1*2", "text=%zz"), hop("%zz"), id="no hexadecimal"),
        row(HOP.replace("text=1*2", "text=1" + "*1" * 7999), hop("1" + "*1" * 7999), id="long session"),
        row(HOP.replace("62001", "62099"), hop(network="62099"), id="unknown network"),
        row(HOP.replace("62001", ""), hop(network=""), id="no network"),
        row(HOP.replace("62001", "athena+x"), hop(network="athena x"), id="network that is no number"),
        row(HOP + "&at-hop-metadata=x&new=%5B1%5D", hop(), id="fields of tomorrow"),
        row(HOP + "&", hop(), id="a separator at the end"),
        row(HOP + "&flag", hop(), id="a field without a value"),
        row(HOP.replace("text=", "te%78t="), hop(), id="an escaped name"),
        row(HOP.replace(SENT, "%2B447400000001"), hop(number="+447400000001"), id="abroad"),
        row(HOP.replace(SENT, "0240000001"), hop(number="+0240000001"), id="national form"),
        row(HOP.replace(SENT, "%2B0000000000"), hop(number="+0000000000"), id="a number of no country"),
        row(HOP.replace(SENT, "%2B233456789012345"), hop(number="+233456789012345"), id="15 digits"),
    ],
)
def test_a_hop(body: str, expected: Hop) -> None:
    assert AT.read_hop(as_sent(body)) == expected


PHONE = "phoneNumber: must be in international form, + and 7 to 15 digits"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        row("", "missing: sessionId, phoneNumber, networkCode, serviceCode, text", id="nothing"),
        row("{}", "missing: sessionId, phoneNumber, networkCode, serviceCode, text", id="JSON"),
        row(REST, "missing: phoneNumber, text", id="two missing"),
        row(HOP.replace("text=", "Text="), "missing: text", id="names are exact"),
        row(HOP + "&text=1*2", "field given twice: text", id="repeated, the same"),
        row(HOP + "&phoneNumber=%2B233240000009", "field given twice: phoneNumber", id="repeated"),
        row(HOP + "&%74ext=9", "field given twice: text", id="repeated under an escaped name"),
        row(HOP + "&31415=&31415=", "field given twice: an unknown field", id="unknown repeated"),
        row(HOP.replace(SESSION, "s" * 129), "too long: sessionId", id="long session id"),
        row(HOP.replace("62001", "6" * 17), "too long: networkCode", id="long network code"),
        row(HOP.replace("*384*16%23", "1" * 33), "too long: serviceCode", id="long service code"),
        row(HOP.replace("text=1*2", "text=" + "1" * 16_001), "too long: text", id="long text"),
        row(
            HOP.replace(SENT, "9" * 21).replace("62001", "6" * 17),
            "too long: phoneNumber, networkCode",
            id="two too long",
        ),
        row(HOP.replace(SESSION, "+%20"), "empty: sessionId", id="blank session id"),
        row(HOP.replace(SENT, "+"), "empty: phoneNumber", id="blank number"),
        row(HOP.replace(SENT, ""), "empty: phoneNumber", id="no number"),
        *(
            row(HOP.replace(SENT, junk), PHONE, id=f"number {junk}")
            for junk in (
                "%2B",
                "%2B%2B233240000001",
                "%2B23324000000a",
                "%2B2332400000012345",
                "%2B233240",
                "12345",
                "%2B233+240+000001",
                "%2B233-240-00000",
                "%D9%A2%D9%A3%D9%A3%D9%A2%D9%A4%D9%A0%D9%A0%D9%A0",
                "tel:233240000001",
                "-233240000001",
                "2.33e11",
                "%2B233240000001%00",
            )
        ),
        *(
            row(HOP.replace(old, new), f"not printable: {name}", id=f"{name} with {new[-3:]}")
            for name, old, new in (
                ("sessionId", SESSION, "A%00"),  # NUL: no engine stores it
                ("sessionId", SESSION, "A%0AERROR"),  # would begin a line of our log
                ("networkCode", "62001", "620%0001"),
                ("serviceCode", "*384*16%23", "*384%7F"),
            )
        ),
        row(HOP + "".join(f"&x{n}=" for n in range(60)), "too many fields; at most 64", id="65 fields"),
    ],
)
def test_a_malformed_hop_names_fields_and_no_values(body: str, message: str) -> None:
    with pytest.raises(WireError) as raised:
        AT.read_hop(as_sent(body))
    assert (raised.value.status, str(raised.value)) == (400, message)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_body_beyond_ascii() -> None:
    for body in (HOP.encode() + b"\xc3\xa9", b"\xff\xfe", "text=é".encode("utf-16")):
        with pytest.raises(WireError, match=r"^the body must be percent-encoded ASCII$") as raised:
            AT.read_hop(body)
        assert raised.value.status == 400


def test_sixty_four_fields_are_read() -> None:
    body = HOP + "".join(f"&x{n}=" for n in range(59))
    assert len(read_form(as_sent(body))) == 64
    assert AT.read_hop(as_sent(body)) == hop()


# ---------------------------------------------------------------- replies


@pytest.mark.parametrize(
    ("text", "ends", "reply"),
    [
        ("Take part?\n1 Yes", False, b"CON Take part?\n1 Yes"),
        ("Bye", True, b"END Bye"),
        ("Numéro 1 ?", False, "CON Numéro 1 ?".encode()),
        ("", True, b"END "),
        (" starts with a space", False, b"CON  starts with a space"),
    ],
)
def test_a_screen(text: str, ends: bool, reply: bytes) -> None:
    assert AT.write_screen(text, ends) == reply
    assert AT.reply_type.startswith("text/plain")


# ---------------------------------------------------------------- the end of a session


def ended(**fields: object) -> SessionEnded:
    plain: dict[str, object] = {
        "status": "Incomplete", "duration_ms": 41_200, "hops": 3, "cost": "GHS 0.0300", "error": "timed out",
    } | fields  # fmt: skip
    return SessionEnded(SESSION, NUMBER, "62001", "*384*16#", **plain)  # type: ignore[arg-type]


def without(*names: str) -> str:
    return "&".join(pair for pair in NOTICE.split("&") if pair.partition("=")[0] not in names)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        row(NOTICE, ended(), id="as documented"),
        row(
            without(
                "date",
                "status",
                "cost",
                "durationInMillis",
                "hopsCount",
                "hopsMetadata",
                "input",
                "lastAppResponse",
                "errorMessage",
            ),
            ended(status="", duration_ms=None, hops=None, cost="", error=""),
            id="only what is needed",
        ),
        row(NOTICE.replace("Incomplete", "Gone"), ended(status="Gone"), id="unknown status"),
        row(NOTICE.replace("=3&", "=&"), ended(hops=None), id="blank number"),
        *(
            row(NOTICE.replace("41200", odd), ended(duration_ms=None), id=f"duration {odd}")
            for odd in ("-1", "41.2", "4e4", "n/a", "%D9%A4", "9" * 12, "0x10", "1_000", "+5")
        ),
        row(NOTICE.replace("41200", "0"), ended(duration_ms=0), id="zero"),
        row(NOTICE.replace("41200", "00041200"), ended(), id="leading zeros"),
        row(NOTICE.replace("41200", "99999999999"), ended(duration_ms=99_999_999_999), id="3 years"),
        row(NOTICE.replace("timed+out", "e" * 999), ended(error="e" * 128), id="long error"),
        row(NOTICE.replace("GHS+0.0300", "c" * 99), ended(cost="c" * 32), id="long cost"),
        row(NOTICE.replace("Incomplete", "s" * 99), ended(status="s" * 32), id="long status"),
        row(
            NOTICE.replace("timed+out", "a%00b%0Ac")
            .replace("GHS+0.0300", "%00")
            .replace("Incomplete", "%7F"),
            ended(error="a b c", cost=" ", status=" "),
            id="what cannot be stored",
        ),
    ],
)
def test_a_notice(body: str, expected: SessionEnded) -> None:
    assert AT.read_session_ended(as_sent(body)) == expected


def test_the_notices_copies_of_answers_and_screens_are_not_kept() -> None:
    kept = "\n".join(str(value) for value in astuple(AT.read_session_ended(as_sent(NOTICE))))
    assert "timed out" in kept  # the search does find what is there
    for secret in ("31415", "1*2", "How old", "CON"):
        assert secret not in kept


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (without("sessionId", "phoneNumber"), "missing: sessionId, phoneNumber"),
        (NOTICE + "&input=31415", "field given twice: an unknown field"),
        (NOTICE.replace(SENT, "31415"), PHONE),
        (NOTICE.replace(SESSION, ""), "empty: sessionId"),
        (NOTICE.replace(SESSION, "%00"), "not printable: sessionId"),
    ],
)
def test_a_malformed_notice_names_fields_and_no_values(body: str, message: str) -> None:
    with pytest.raises(WireError) as raised:
        AT.read_session_ended(as_sent(body))
    assert (raised.value.status, str(raised.value)) == (400, message)
