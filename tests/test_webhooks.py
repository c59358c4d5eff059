"""The webhooks over HTTP on the assembled gateway: who is let in, what is refused and how, what is
answered when something of ours fails."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from flows.engine import Step
from gateway import webhooks
from gateway.app import create_app
from gateway.webhooks import HARD_STOP_SECONDS, Doors
from storage.record import Recorded
from tests.gateway_app import (
    CLOSED,
    CODE,
    CONSENT,
    FORM,
    HOOK,
    KEY,
    NEXT_SECRET,
    NOT_COVERED,
    NUMBER,
    SECRET,
    SIMULATOR_HOOK,
    SIMULATOR_SECRET,
    SORRY,
    WAVE,
    Gateway,
    answered,
    ask,
    entries,
    form,
    given,
    hung_server,
    running,
    welcome,
)
from tests.stores import Live, running_live

AWAY_SECONDS = 3.5  # in which a respondent is told to dial later: before the hard stop
TYPED = "1*31415"  # what must be found in no log line and no refusal


@pytest.fixture(scope="module", params=["valkey", "redis"])
def own_live(request: pytest.FixtureRequest) -> Iterator[Live]:
    """A live store of these tests alone, which they stop and start."""
    with running_live(request.param) as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> str:
    """None is there: what this suite looks at does not need one."""
    return f"sqlite:///{tmp_path / 'none.sqlite3'}"


def simulated(**fields: object) -> str:
    plain: dict[str, object] = {
        "session": "A", "msisdn": NUMBER, "network": "99999", "code": CODE, "sequence": 1, "input": "",
    }  # fmt: skip
    return json.dumps(plain | fields)


# ---------------------------------------------------------------- the door


@pytest.mark.parametrize("secrets", [(SECRET, NEXT_SECRET), ()], ids=["secrets", "none configured"])
@pytest.mark.parametrize("events", ["", "/events"])
def test_a_wrong_secret_is_404_whatever_is_posted(
    secrets: tuple[str, ...], events: str, redis_url: str, database: str
) -> None:
    async def main() -> None:
        async with running(redis_url, database, secrets=secrets) as gateway:
            wrong = [
                "africastalking/wrong", f"africastalking/{SECRET}x", f"africastalking/{SECRET[:-1]}",
                f"africastalking/{SECRET.upper()}", f"africastalking/{SIMULATOR_SECRET}",
                f"simulator/{SECRET}", f"hubtel/{SECRET}", "africastalking/%00", "africastalking/%ED%A0%80",
                "africastalking/None",
            ]  # fmt: skip
            if not secrets:
                wrong += [f"africastalking/{SECRET}", f"simulator/{SIMULATOR_SECRET}"]
            for door in wrong:
                for body, kind in (
                    (form(), FORM),
                    (b"\xff broken", FORM),
                    (b"x" * 100_000, FORM),
                    (form(), "text/html"),
                    (form(), None),
                ):
                    answer = await gateway.post(f"/hooks/{door}/ussd{events}", body, kind)
                    assert (door, answer.status_code, answer.text) == (door, 404, "not found")
            for door in ("africastalking//ussd", "africastalking/ussd", f"africastalking/{SECRET}"):
                assert (await gateway.post(f"/hooks/{door}", form())).status_code == 404
            assert entries(redis_url) == []

    asyncio.run(main())


def test_each_valid_secret_opens_its_own_door(redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            for n, secret in enumerate((SECRET, NEXT_SECRET)):
                path = f"/hooks/africastalking/{secret}/ussd"
                answer = await gateway.post(path, form(phoneNumber=f"+23324000001{n}"))
                assert (answer.status_code, answer.text) == (200, f"CON {CONSENT}")
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
                assert answer.headers["content-length"] == str(len(answer.content))
            answer = await gateway.post(SIMULATOR_HOOK, simulated(), "application/json")
            assert (answer.status_code, answer.json()) == (200, {"screen": CONSENT, "more": True})
            assert answer.headers["content-type"] == "application/json"

    asyncio.run(main())


def test_a_door_without_secrets_is_closed_to_the_empty_one() -> None:
    doors = Doors({"africastalking": (), "simulator": ("s",)})
    assert not doors.open("africastalking", "") and not doors.open("hubtel", "")
    assert doors.open("simulator", "s") and not doors.open("simulator", "")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post(method: str, redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            for path in (HOOK, HOOK + "/events", SIMULATOR_HOOK):
                answer = await gateway.http.request(method, path)
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    asyncio.run(main())


# ---------------------------------------------------------------- what is malformed


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        (HOOK, FORM, 200),
        (HOOK, f"{FORM}; charset=utf-8", 200),
        (HOOK, f"{FORM};charset=ISO-8859-1", 200),
        (HOOK, "Application/X-WWW-Form-Urlencoded", 200),
        (HOOK, f" {FORM} ; a=b", 200),
        (HOOK, None, 415),
        (HOOK, "", 415),
        (HOOK, "application/json", 415),
        (HOOK, "multipart/form-data; boundary=x", 415),
        (HOOK, f"{FORM}x", 415),
        (HOOK + "/events", "text/plain", 415),
        (SIMULATOR_HOOK, FORM, 415),
    ],
)
def test_content_types(path: str, kind: str | None, status: int, redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            answer = await gateway.post(path, form(), kind)
            assert answer.status_code == status
            if status == 415:
                assert answer.text.startswith("content type must be application/")

    asyncio.run(main())


def test_a_body_over_the_cap(redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            most = 65_536
            for path, body, kind in (
                (HOOK, form() + "&pad=", FORM),
                (HOOK + "/events", form() + "&input=", FORM),
                (SIMULATOR_HOOK, simulated() + " ", "application/json"),
            ):
                full = body + (" " if path == SIMULATOR_HOOK else "1") * (most - len(body))
                assert (await gateway.post(path, full, kind)).status_code == 200
                answer = await gateway.post(path, full + " ", kind)
                assert (answer.status_code, answer.text) == (413, "the body is over 65536 octets")

            async def slowly() -> AsyncIterator[bytes]:
                for _ in range(100):
                    yield b"1" * 1000

            answer = await gateway.http.post(HOOK, content=slowly(), headers={"content-type": FORM})
            assert answer.status_code == 413

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (HOOK, "", "missing: sessionId, phoneNumber, networkCode, serviceCode, text"),
        (HOOK, form(TYPED).replace("&phoneNumber=%2B", "&number=%2B"), "missing: phoneNumber"),
        (HOOK, form(TYPED) + f"&text={TYPED}", "field given twice: text"),
        (HOOK, form(TYPED) + f"&{TYPED}=1&{TYPED}=2", "field given twice: an unknown field"),
        (HOOK, form(TYPED, "s" * 129), "too long: sessionId"),
        (HOOK, form(TYPED * 4000), "too long: text"),
        (HOOK, form(TYPED, phoneNumber="+23324000000x"),
         "phoneNumber: must be in international form, + and 7 to 15 digits"),
        (HOOK + "/events", form(TYPED, sessionId=""), "empty: sessionId"),
        (HOOK + "/events", f"input={TYPED}", "missing: sessionId, phoneNumber, networkCode, serviceCode"),
        (SIMULATOR_HOOK, simulated(input=31415), "must be a string: input"),
        (SIMULATOR_HOOK, simulated(sequence="31415"), "sequence: must be a whole number, 1 to 10000"),
        (SIMULATOR_HOOK + "/events", simulated(status="s" * 33), "too long: status"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_told_which_field_and_never_which_value(
    path: str, body: str, message: str, redis_url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with running(redis_url, database) as gateway:
            kind = "application/json" if path.startswith(SIMULATOR_HOOK) else FORM
            answer = await gateway.post(path, body, kind)
            assert (answer.status_code, answer.text) == (400, message)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert entries(redis_url) == []

    asyncio.run(main())
    assert_says_nothing(caplog)


def assert_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """No number, no answer, no secret, no traceback in our log; the test's own client logs its URLs."""
    ours = [r for r in caplog.records if r.name.startswith("dial16")]
    text = "\n".join(f"{r.getMessage()} {r.exc_info or ''}" for r in ours)
    for secret in (NUMBER, NUMBER[1:], "31415", SECRET, SIMULATOR_SECRET, "Traceback", KEY.decode()):
        assert secret not in text, text


# ---------------------------------------------------------------- who is served


@pytest.mark.parametrize(
    ("fields", "screen"),
    [
        ({"phoneNumber": "+447400000001"}, f"END {NOT_COVERED}"),
        ({"phoneNumber": "447400000001"}, f"END {NOT_COVERED}"),
        ({"phoneNumber": "+0000000000"}, f"END {NOT_COVERED}"),
        ({"phoneNumber": "0240000001"}, f"END {NOT_COVERED}"),
        ({"phoneNumber": " 233240000001"}, f"CON {CONSENT}"),
        ({"serviceCode": "*999#"}, f"END {CLOSED}"),
        ({"serviceCode": ""}, f"END {CLOSED}"),
        ({"serviceCode": CODE}, f"CON {CONSENT}"),
    ],
)
def test_numbers_and_codes(fields: dict[str, str], screen: str, redis_url: str, database: str) -> None:
    async def main() -> None:
        wave = replace(WAVE, service_codes=("*384*17#", CODE))
        async with running(redis_url, database, wave) as gateway:
            assert await gateway.dial(**fields) == (200, screen)

    asyncio.run(main())


@pytest.mark.parametrize("network", ["62001", "62099", "", "athena", "99999"])
def test_an_unknown_network_is_kept(network: str, redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            assert (await gateway.dial(networkCode=network))[0] == 200
            notice = await gateway.post(HOOK + "/events", form(networkCode=network, status="Gone"))
            assert (notice.status_code, notice.text) == (200, "OK")
            hop, ended = entries(redis_url)
            assert hop["opened"]["network_code"] == ended["network_code"] == network
            assert ended["status"] == "Gone"

    asyncio.run(main())


def test_no_number_and_no_screen_leaves_the_gateway(redis_url: str, database: str) -> None:
    """Neither the live store nor the stream holds a number, or the notice's copies of inputs and screens."""

    async def main() -> None:
        async with running(redis_url, database) as gateway:
            for text in ("", "1", TYPED.replace("31415", "3141")):
                await gateway.dial(text)
            notice = form(
                status="Incomplete", input="1*2718", lastAppResponse="CON Number 9?", cost="GHS 0.03",
                durationInMillis="41200", hopsCount="3",
            )  # fmt: skip
            assert (await gateway.post(HOOK + "/events", notice)).status_code == 200
        with redis.Redis.from_url(redis_url) as client:
            keys = client.keys()
            kept = b"".join(client.get(key) or b"" for key in keys if client.type(key) == b"string")
            kept += b"".join(keys)
        kept += json.dumps(entries(redis_url)).encode()
        assert b"3141" in kept and b"Number 2?" in kept  # the search does find what is there
        for secret in (b"240000001", b"2718", b"Number 9?"):
            assert secret not in kept
        (ended,) = entries(redis_url, "session_ended")
        assert "2718" not in str(ended) and "CON" not in str(ended)
        assert (ended["cost"], ended["duration_ms"], ended["hops"]) == ("GHS 0.03", 41_200, 3)

    asyncio.run(main())


# ---------------------------------------------------------------- when something of ours fails


def failing(*_: object, **__: object) -> Step:
    raise RuntimeError(f"{NUMBER} said 31415")


@pytest.mark.parametrize("path", [HOOK, SIMULATOR_HOOK])
def test_a_bug_is_a_polite_end_and_a_line_of_ids(
    path: str,
    redis_url: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with running(redis_url, database) as gateway:

            async def hop(text: str, sequence: int) -> str:
                if path == HOOK:
                    status, body = await gateway.dial(text, "ATUid_7")
                    assert status == 200
                    return body
                body = simulated(session="ATUid_7", sequence=sequence, input=text.rpartition("*")[2])
                answer = await gateway.post(path, body, "application/json")
                assert answer.status_code == 200
                return f"{'CON' if answer.json()['more'] else 'END'} {answer.json()['screen']}"

            assert await hop("", 1) == f"CON {CONSENT}"
            assert await hop("1", 2) == f"CON {ask(1)}"
            with monkeypatch.context() as patch:
                patch.setattr("gateway.counting.step", failing)
                assert await hop(TYPED, 3) == f"END {SORRY}"
            (line,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
            said = line.getMessage()
            assert said.startswith("hop failed session=ATUid_7: RuntimeError at test_webhooks.py:")
            assert line.exc_info is None
            # mended, the very same hop is served: nothing had been committed
            assert await hop("1*3141", 3) == f"CON {ask(2)}"
            assert given(redis_url) == answered(3141)

    asyncio.run(main())
    assert_says_nothing(caplog)


def test_a_bug_in_a_notice_is_a_line_of_ids(
    redis_url: str, database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(redis_url, database) as gateway:
            await gateway.dial(session="ATUid_7")
            monkeypatch.setattr("gateway.dialogue.replace", failing)
            answer = await gateway.post(HOOK + "/events", form(session="ATUid_7", input=TYPED))
            assert (answer.status_code, answer.text) == (500, "the notice could not be stored")
            (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert line.startswith("session's end failed session=ATUid_7: RuntimeError at test_webhooks.py:")

    asyncio.run(main())
    assert_says_nothing(caplog)


async def politely(gateway: Gateway, ask_for: str, session: str, seconds: float = AWAY_SECONDS) -> None:
    """One hop while a store is away: a well-formed END in time."""
    began = time.monotonic()
    assert await gateway.dial(ask_for, session) == (200, f"END {SORRY}")
    assert time.monotonic() - began < seconds


def test_a_live_store_that_hangs(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(port: int) -> None:
        async with running(f"redis://127.0.0.1:{port}", database) as gateway:
            await politely(gateway, "", "ATUid_7")
            began = time.monotonic()
            await asyncio.gather(*(politely(gateway, "1", f"s{n}") for n in range(20)))
            assert time.monotonic() - began < AWAY_SECONDS
            notice = await gateway.post(HOOK + "/events", form(TYPED, "ATUid_7"))
            assert (notice.status_code, notice.text) == (
                503, "the notice could not be stored; send it again",
            )  # fmt: skip

    with hung_server() as port:
        asyncio.run(main(port))
    assert "hop not served session=ATUid_7: live store: no answer in time" in caplog.text
    assert_says_nothing(caplog)


def test_a_live_store_away_and_back(own_live: Live, database: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(own_live.url, database) as gateway:
            for text in ("", "1", "1*101"):
                await gateway.dial(text)
            own_live.stop(kill=True)
            await politely(gateway, "1*101*102", "A")
            await politely(gateway, "", "B")
            notice = await gateway.post(HOOK + "/events", form("1*101", "A"))
            assert notice.status_code == 503
            own_live.start()
            assert await gateway.dial("", "C") == (200, f"CON {welcome(2)}")
            assert await gateway.dial("1", "C") == (200, f"CON {ask(2)}")
            assert await gateway.dial("1*102", "C") == (200, f"CON {ask(3)}")
            assert given(own_live.url) == answered(101, 102)

    asyncio.run(main())
    assert_says_nothing(caplog)


def test_a_live_store_away_when_the_gateway_starts(own_live: Live, database: str) -> None:
    async def main() -> None:
        own_live.stop()
        try:
            async with running(own_live.url, database) as gateway:
                await politely(gateway, "", "A")
                own_live.start()
                status, body = await gateway.dial("", "B", phoneNumber="+233240000077")
                assert (status, body) == (200, f"CON {CONSENT}")
        finally:
            if own_live.process is None:
                own_live.start()

    asyncio.run(main())


def test_a_live_store_that_refuses_writes(
    redis_url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of memory: it answers, but not with what we need. Nothing is lost, and it is said."""

    async def main() -> None:
        async with running(redis_url, database) as gateway:
            for text in ("", "1"):
                await gateway.dial(text)
            with redis.Redis.from_url(redis_url) as client:
                client.config_set("maxmemory", "1")
                try:
                    await politely(gateway, "1*101", "A")
                finally:
                    client.config_set("maxmemory", "0")
            assert await gateway.dial("1*101") == (200, f"CON {ask(2)}")
            assert given(redis_url) == answered(101)

    asyncio.run(main())
    assert "hop not served session=A: live store: refused (OOM)" in caplog.text
    assert_says_nothing(caplog)


def test_the_hard_stop(
    redis_url: str, database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever hangs, here the look-up in the record: the respondent gets an END before the aggregator
    gives up (Hubtel after 7 s, Africa's Talking after 10 s)."""
    assert HARD_STOP_SECONDS == 4.0
    monkeypatch.setattr(webhooks, "HARD_STOP_SECONDS", 0.3)
    asked = asyncio.Event()

    async def for_ever(*_: object) -> Recorded | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("gateway.app.RecordLookup.find", for_ever)

    async def main() -> None:
        async with running(redis_url, database) as gateway:
            began = time.monotonic()
            await politely(gateway, "", "ATUid_7")
            assert asked.is_set() and time.monotonic() - began >= 0.3
            assert entries(redis_url) == []

    asyncio.run(main())
    assert "hop not served session=ATUid_7: hard stop" in caplog.text


# ---------------------------------------------------------------- starting


@pytest.mark.parametrize("key", [b"", b"too short"])
def test_a_gateway_without_a_key_is_not_made(key: bytes, redis_url: str, database: str) -> None:
    with pytest.raises(ValueError, match="pseudonym key"):
        create_app(
            waves=[WAVE], live_url=redis_url, database_url=database, pseudonym_key=key, secrets=[SECRET],
            simulator_secret=None, live_days=1,
        )  # fmt: skip


def test_without_a_simulator_its_door_is_closed(redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database, secrets=()) as gateway:
            answer = await gateway.post(SIMULATOR_HOOK, simulated(), "application/json")
            assert answer.status_code == 404

    asyncio.run(main())
