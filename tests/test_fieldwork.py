"""Figures for staff, who may see them, and that they keep nobody waiting."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, insert, text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from flows.fielding import Band, Quota
from flows.instrument import load
from flows.wave import Wave, load_wave
from gateway import fieldwork as page
from gateway.app import create_app
from gateway.commands.fieldwork import show
from gateway.fieldwork import Figures, Staff, fieldwork_routes, money, share
from storage.analysis.dispositions import count_dispositions
from storage.analysis.fieldwork import KINDS, Fieldwork, fieldwork, waves
from storage.database import migrate, open_engine, reading, writing
from storage.models import AirtimePayment, Respondent, table_of
from tests.campaign_field import SMALL_WAVE
from tests.fieldwork_material import QUOTAS, fill
from tests.record_material import SMALL, WAVE, Dialogue, complete, ended, fold_all
from tests.stores import give_schema, running_postgres
from tests.test_dispositions import BEGAN, Person, write

HERE = Path(__file__).resolve().parent.parent
INSTRUMENT = load(HERE / "flows" / "sdg_16_6_2")
TOKEN = "a token for tests, 0123456789abcdef"
NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)


AGES = Quota("Age", ("age",), {"18-34": 5, "35+": 1}, {"age": (Band("18-34", 18, 34), Band("35+", 35, 120))})


def served() -> Wave:
    return replace(load_wave(HERE / "deploy" / "wave.toml", INSTRUMENT), quotas=QUOTAS)


@pytest.fixture
def filled(database_url: str) -> Iterator[Engine]:
    """A wave in its second week."""
    engine = open_engine(database_url)
    give_schema(engine, INSTRUMENT)
    fill(engine, served().id, INSTRUMENT, NOW, invited=300, dial_ins=80)
    yield engine
    engine.dispose()


# ---------------------------------------------------------------- figures


def test_figures_of_a_record_counted_by_hand(engine: Engine) -> None:
    stopped = Dialogue(7, at=1_763_863_000_000 + 24 * 3_600_000)  # the next day
    stopped.begin()
    stopped.consent()
    stopped.answer("age", 40, shown="water.a1")
    refused = Dialogue(8)
    refused.begin()
    refused.answer("consent", "no", ended("refusal"))
    looked = Dialogue(9)
    looked.begin()
    looked.hop(ended("results_only"), stage="results")
    entries = [e for n in (1, 2, 3) for e in complete(n).entries]
    fold_all(engine, [*entries, *stopped.entries, *refused.entries, *looked.entries])
    invited = [Person(sent=("delivered",)), Person(sent=("sent", "due")), Person("results_only")]
    write(engine, invited, first=101)
    with writing(engine) as db:
        db.execute(
            text(
                "UPDATE outbound_message SET parts = 2, cost_amount = '0.0310', cost_currency = 'GHS',"
                " sent_at = created_at WHERE state <> 'due'"
            )
        )
    f = fieldwork(engine, WAVE, SMALL, served=replace(SMALL_WAVE, id=WAVE, quotas=(AGES,)))

    assert {s.name: (s.sample, s.dial_in) for s in f.standings} == {
        "in_progress": (0, 1), "complete": (0, 3), "refusal": (0, 1), "no_reply": (1, 0), "no_report": (1, 0),
        "other": (1, 0), "results_only": (0, 1),
    }  # fmt: skip
    assert (f.invited, f.started.started, f.dial_ins.started) == (3, 7, 6)
    assert f.started.kinds == {
        "complete": 3, "partial": 0, "in_progress": 1, "break_off": 0, "refused": 1, "turned_away": 0,
        "looked": 2,
    }  # fmt: skip
    assert f.started.completion == 3 / 4
    assert f.rates is not None and f.rates.counts["U"] == 1 and f.rates.rates[0].value == 0
    assert [(p.label, p.started) for p in f.parts["mode"]] == [("USSD", 6), ("not known", 1)]
    assert [(p.label, p.started) for p in f.parts["network"]] == [("62001", 6), ("not known", 1)]
    assert [(p.label, p.started) for p in f.parts["region"]] == [("not answered yet", 7)]
    assert [(d.date, d.started, d.completed) for d in f.days if d.started] == [
        (date(2025, 11, 23), 5, 3),
        (date(2025, 11, 24), 1, 0),
        (BEGAN.date(), 1, 0),
    ]
    assert [(d.date, d.written) for d in f.days if d.written] == [(date(2026, 11, 2), 2)]
    assert [(s.item, s.left, s.waiting, s.reached) for s in f.screens] == [("water.a1", 0, 1, 4)]
    ages = [int(r.number) for r in rows(engine) if r.disposition == "complete"]
    assert [(c.labels, c.target, c.completed, c.in_progress) for c in f.quotas[0].cells] == [
        (("18-34",), 5, sum(a < 35 for a in ages), 0),
        (("35+",), 1, sum(a >= 35 for a in ages), 1),
    ]
    assert [(m.kind, m.state, m.n, m.parts, m.cost, m.currency) for m in f.messages] == [
        ("invitation", "delivered", 1, 2, Decimal("0.0310"), "GHS"),
        ("invitation", "sent", 1, 2, Decimal("0.0310"), "GHS"),
        ("reminder", "due", 1, 0, Decimal("0"), ""),
    ]
    assert f.airtime == () and waves(engine) == [WAVE]


def rows(engine: Engine) -> list[Any]:
    with reading(engine) as db:
        found = db.execute(
            text(
                "SELECT i.disposition, r.number FROM interview i JOIN response r ON r.interview = i.id"
                " AND r.item = 'age'"
            )
        )
        return list(found)


def test_every_table_adds_up_to_the_same(filled: Engine) -> None:
    wave = served().id
    f = fieldwork(filled, wave, INSTRUMENT, served=served())
    assert f.started.started > 100 and f.rates is not None
    for parts in f.parts.values():
        assert sum(p.started for p in parts) == f.started.started
        for kind in KINDS:
            assert sum(p.kinds[kind] for p in parts) == f.started.kinds[kind]
    assert len(f.parts["mode"]) == 2 and len(f.parts["network"]) == 3 and len(f.parts["region"]) > 10
    assert sum(s.n for s in f.standings) == sum(c.n for c in count_dispositions(filled, wave))
    assert sum(d.started for d in f.days) == f.started.started
    assert sum(d.completed for d in f.days) == f.started.kinds["complete"]
    assert sum(s.left for s in f.screens) == f.started.kinds["partial"] + f.started.kinds["break_off"]
    assert sum(s.waiting for s in f.screens) == f.started.kinds["in_progress"]
    assert sum(c.completed for c in f.quotas[0].cells) == f.started.kinds["complete"]
    assert all(s.reached >= s.left + s.waiting for s in f.screens)
    assert [d.date for d in f.days] == [f.days[0].date + timedelta(days=n) for n in range(len(f.days))]


def test_a_wave_that_nobody_came_to(engine: Engine) -> None:
    f = fieldwork(engine, "empty", SMALL, served=replace(SMALL_WAVE, id="empty", quotas=(AGES,)))
    assert (f.standings, f.days, f.screens, f.messages, f.rates) == ((), (), (), (), None)
    assert f.started.started == 0 and f.started.completion is None
    assert f.quotas[0].cells[0].completed == 0


def test_airtime_is_summed_by_state(engine: Engine) -> None:
    with writing(engine) as db:
        for n, state in enumerate(("paid", "paid", "due")):
            who = f"{n:032x}"
            db.execute(insert(table_of(Respondent)).values(pseudonym=who, first_seen_at=NOW))
            db.execute(
                insert(table_of(AirtimePayment)).values(
                    id=who, wave=WAVE, respondent=who, interview="x", aggregator="africastalking", amount=150,
                    currency="GHS", state=state, not_before=NOW, attempts=0, refusals=0, earned_at=NOW,
                    created_at=NOW, updated_at=NOW,
                )
            )  # fmt: skip
    f = fieldwork(engine, WAVE, SMALL)
    assert [(m.state, m.n, m.cost, m.currency) for m in f.airtime] == [
        ("due", 1, Decimal("1.50"), "GHS"), ("paid", 2, Decimal("3.00"), "GHS")
    ]  # fmt: skip


def test_the_verb_prints_the_figures_and_refuses_a_wave_nobody_knows(filled: Engine) -> None:
    console = Console(record=True, width=160, force_terminal=False)
    assert show(filled, [served()], "", console)
    said = console.export_text()
    f = fieldwork(filled, served().id, INSTRUMENT)
    assert f.rates is not None
    for words in ("not in service", "4.3", "I / (I+P+R+NC+O+U)", share(f.rates.rates[0].value), "Ashanti",
                  "Telecel Ghana", "GHS", "not a response rate"):  # fmt: skip
        assert words in said
    assert not show(filled, [served()], "of-old", console)


def test_the_verb_on_the_command_line(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'dial16.sqlite3'}"
    engine = open_engine(database)
    give_schema(engine, INSTRUMENT)
    fill(engine, served().id, INSTRUMENT, NOW, invited=60, dial_ins=20)
    engine.dispose()
    ours = {k: v for k, v in os.environ.items() if not k.startswith("DIAL16_")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(HERE / "main.py"), "fieldwork", *words],
            env=ours | {"DIAL16_DATABASE_URL": database}, cwd=tmp_path, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert "Outcome rates of" in done.stdout and "Where interviews stop" in done.stdout
    unknown = run("--wave", "of-old")
    assert unknown.returncode == 1 and "nobody was invited to a wave 'of-old'" in unknown.stderr


def test_numbers_are_written_as_people_read_them() -> None:
    assert [share(None), share(0.0), share(0.18584), share(1.0, 0)] == ["–", "0.0 %", "18.6 %", "100 %"]
    assert [money(Decimal(x)) for x in ("0", "0.0031", "1234.5")] == ["0.00", "0.0031", "1,234.50"]


# ---------------------------------------------------------------- who may look


Client = Callable[..., TestClient]


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes a client of the page over a database."""
    made: list[Figures] = []

    def make(url: str, token: str = TOKEN, base_url: str = "http://testserver") -> TestClient:
        made.append(Figures([served()], url))
        app = Starlette(routes=fieldwork_routes(made[-1], token))
        return TestClient(app, base_url, follow_redirects=False)

    yield make
    for figures in made:
        figures.close()


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_without_a_token_there_is_no_page(client: Client, database_url: str) -> None:
    closed = client(database_url, token="")
    for path in ("", "/figures", "/sign-in"):
        assert closed.get("/fieldwork" + path).status_code == 404
    assert closed.get("/fieldwork", headers={"Authorization": "Bearer "}).status_code == 404


def test_the_gateway_has_the_page_only_with_a_token(database_url: str) -> None:
    for token, status in (("", 404), (TOKEN, 303)):
        app = create_app(
            waves=[served()], live_url="unix:///nowhere", database_url=database_url, pseudonym_key=b"k" * 32,
            secrets=("s" * 32,), simulator_secret=None, live_days=1, staff_token=token,
        )  # fmt: skip
        assert TestClient(app, follow_redirects=False).get("/fieldwork").status_code == status


def test_signing_in_and_out(client: Client, filled: Engine, database_url: str) -> None:
    staff = client(database_url)
    assert staff.get("/fieldwork").headers["location"] == "/fieldwork/sign-in"
    assert staff.get("/fieldwork/figures").status_code == 401
    assert 'type="password"' in staff.get("/fieldwork/sign-in").text
    wrong = staff.post("/fieldwork/sign-in", data={"token": TOKEN[:-1]})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    assert "That is not the staff token." in wrong.text and TOKEN[:-1] not in wrong.text

    right = staff.post("/fieldwork/sign-in", data={"token": f" {TOKEN} "})
    assert (right.status_code, right.headers["location"]) == (303, "/fieldwork")
    cookie = right.headers["set-cookie"]
    assert TOKEN not in cookie and "Secure" not in cookie
    for part in ("HttpOnly", "SameSite=strict", "Path=/fieldwork", "Max-Age=43200"):
        assert part in cookie
    figures = staff.get("/fieldwork")
    assert figures.status_code == 200 and "Response and cooperation" in figures.text
    assert staff.get("/fieldwork/figures").text in figures.text
    staff.post("/fieldwork/sign-out")
    assert staff.get("/fieldwork").status_code == 303


def test_the_cookie_is_secure_behind_https(client: Client, database_url: str) -> None:
    over_tls = client(database_url, base_url="https://testserver")
    assert "Secure" in over_tls.post("/fieldwork/sign-in", data={"token": TOKEN}).headers["set-cookie"]
    proxied = client(database_url).post(
        "/fieldwork/sign-in", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" in proxied.headers["set-cookie"]


def test_a_ticket_ends_and_cannot_be_made(database_url: str) -> None:
    time = [1_000_000.0]
    staff = Staff(TOKEN, lambda: time[0])
    ticket = staff.ticket()
    assert staff.holds_ticket(ticket)
    until, _, proof = ticket.partition(".")
    longer = f"{int(until) + 1}.{proof}"
    for forged in ("", ".", until, longer, f"{until}.{proof[:-1]}", f"{until}.é", f"x.{proof}", "9" * 5000):
        assert not staff.holds_ticket(forged)
    assert not Staff(TOKEN + "2", lambda: time[0]).holds_ticket(ticket)
    time[0] = float(until)
    assert not staff.holds_ticket(ticket)
    with pytest.raises(ValueError):
        Staff("")


def test_a_program_shows_the_token_itself(client: Client, filled: Engine, database_url: str) -> None:
    program = client(database_url)
    assert program.get("/fieldwork", headers=BEARER).status_code == 200
    assert program.get("/fieldwork/figures", headers=BEARER).status_code == 200
    for header in ("Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"):
        assert (
            program.get("/fieldwork/figures", headers={b"Authorization": header.encode()}).status_code == 401
        )


def test_guessing_is_stopped_and_who_is_in_stays_in(
    client: Client, filled: Engine, database_url: str
) -> None:
    staff, guesser = client(database_url), None
    staff.post("/fieldwork/sign-in", data={"token": TOKEN})
    guesser = TestClient(staff.app, follow_redirects=False)
    for n in range(10):
        assert guesser.post("/fieldwork/sign-in", data={"token": f"guess {n}"}).status_code == 403
    refused = guesser.post("/fieldwork/sign-in", data={"token": TOKEN})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert guesser.get("/fieldwork", headers=BEARER).status_code == 429
    assert staff.get("/fieldwork").status_code == 200


def test_the_door_opens_again_after_a_minute() -> None:
    time = [1_000_000.0]
    staff = Staff(TOKEN, lambda: time[0])
    assert [staff.is_token("wrong") for _ in range(10)] == [False] * 10
    locked = [staff.locked]
    time[0] += 60
    assert [*locked, staff.locked, staff.is_token(TOKEN)] == [True, False, True]


def test_odd_sign_ins_are_refused(client: Client, database_url: str) -> None:
    staff = client(database_url)
    for body, status in ((b"token=" + b"x" * 5000, 413), (b"", 403), (b"\xff\xfe", 403), (b"token=%zz", 403)):
        assert staff.post("/fieldwork/sign-in", content=body).status_code == status
    elsewhere = staff.post(
        "/fieldwork/sign-in", data={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert (elsewhere.status_code, "set-cookie" in elsewhere.headers) == (403, False)


# ---------------------------------------------------------------- what the page tells, and what not


def test_nobody_is_on_the_page_and_nothing_comes_from_elsewhere(
    client: Client, filled: Engine, database_url: str
) -> None:
    shown = client(database_url).get("/fieldwork", headers=BEARER)
    with reading(filled) as db:
        people = [r[0] for r in db.execute(text("SELECT pseudonym FROM respondent"))]
        interviews = [r[0] for r in db.execute(text("SELECT id FROM interview"))]
    assert len(people) == 380 and not any(word in shown.text for word in (*people, *interviews))
    assert not re.search(r"[0-9a-f]{16}|\+?233\d{5}", re.sub(r"\?v=\w+", "", shown.text))
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "form-action 'self'" in policy
    assert shown.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|https?://", shown.text)


def test_a_wave_can_be_chosen_and_its_name_is_escaped(
    client: Client, filled: Engine, database_url: str
) -> None:
    write(filled, [Person(sent=("delivered",), wave='2027 "<b>"')], first=5000)
    staff = client(database_url)
    first = staff.get("/fieldwork", headers=BEARER)
    assert (
        "2027 &#34;&lt;b&gt;&#34;" in first.text
        and "<b>&#34;" not in first.text
        and '"<b>"' not in first.text
    )
    other = staff.get("/fieldwork", params={"wave": '2027 "<b>"'}, headers=BEARER)
    assert other.status_code == 200 and "no reply" in other.text and "Quota:" not in other.text
    unknown = staff.get("/fieldwork", params={"wave": "of old"}, headers=BEARER)
    assert unknown.status_code == 404 and "Nobody was invited to a wave of that name" in unknown.text


def test_a_wave_without_a_sample_has_no_response_rate(
    client: Client, engine: Engine, database_url: str
) -> None:
    looked = Dialogue(9)
    looked.begin()
    looked.hop(ended("results_only"), stage="results")
    fold_all(engine, [*(e for n in (1, 2) for e in complete(n).entries), *looked.entries])
    shown = client(database_url).get("/fieldwork", params={"wave": WAVE}, headers=BEARER)
    assert "whose interview is over, without the 1 who only looked at results." in shown.text
    assert shown.status_code == 200
    assert "completion among those who dialled" in shown.text and "not a response rate" in shown.text.lower()
    assert "RR1" not in shown.text


# ---------------------------------------------------------------- keeping nobody waiting


def test_the_database_away_shows_the_last_figures_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(page, "_FRESH_TIMES", 0.0)
    with running_postgres() as server:
        engine = open_engine(server.url("postgres"))
        migrate(engine, INSTRUMENT)
        fill(engine, served().id, INSTRUMENT, NOW, invited=50, dial_ins=10)
        engine.dispose()
        staff, late = client(server.url("postgres")), client(server.url("postgres"))
        assert "The database is away" not in staff.get("/fieldwork", headers=BEARER).text
        server.stop(kill=True)
        shown = staff.get("/fieldwork", headers=BEARER)
        assert shown.status_code == 200 and "These are the last figures counted." in shown.text
        assert "Response and cooperation" in shown.text
        nothing = late.get("/fieldwork", headers=BEARER)
        assert nothing.status_code == 503 and "The database is away." in nothing.text
        assert str(server.folder) not in nothing.text
        server.start()
        back = late.get("/fieldwork", headers=BEARER)
        assert back.status_code == 200 and "The database is away" not in back.text


def test_a_count_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is locked: whoever looks is told so, one count waits however many look, and it comes."""
    monkeypatch.setattr(page, "_PATIENCE_SECONDS", 0.2)
    with running_postgres() as server:
        url = server.url("postgres")
        engine = open_engine(url)
        migrate(engine, INSTRUMENT)
        fill(engine, served().id, INSTRUMENT, NOW, invited=50, dial_ins=10)

        async def look() -> Fieldwork | None:
            figures = Figures([served()], url)
            with engine.begin() as db:
                db.execute(text("LOCK TABLE interview IN ACCESS EXCLUSIVE MODE"))
                looks = await asyncio.gather(*(figures.of(served().id) for _ in range(20)))
                assert {(seen.figures, seen.away) for seen in looks} == {(None, False)}
                waiting = db.execute(
                    text("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                ).scalar_one()
                assert waiting == 1
            while (seen := await figures.of(served().id)).figures is None:
                pass
            figures.close()
            return seen.figures

        counted = asyncio.run(look())
        engine.dispose()
        assert counted is not None and counted.started.started > 10


def test_many_looks_are_one_count(client: Client, filled: Engine, database_url: str) -> None:
    staff = client(database_url)
    times = {
        re.search(r'datetime="([^"]+)"', staff.get("/fieldwork", headers=BEARER).text)[1]  # type: ignore[index]
        for _ in range(5)
    }
    assert len(times) == 1
