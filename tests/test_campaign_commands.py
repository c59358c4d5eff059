"""`main.py campaign ...`: what staff type and read; and a worker that is told to stop in the middle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from flows.fielding import Contact, Opening
from gateway.commands import campaign
from gateway.dispatch import Dispatch
from gateway.sampling import SampleError, draw_again
from gateway.settings import Settings
from storage.campaigns import CampaignError, find_campaign, set_state
from storage.database import writing
from storage.live import opted_out_key
from storage.outbox import CANCELLED, PAUSED, RUNNING, SENT, STOPPED
from storage.waves import CLOSE, OPEN, TIMES, say_word
from tests.at_api import Habits, serving
from tests.campaign_field import CAMPAIGN, HOUR, Field, who
from tests.record_material import WAVE
from tests.sending_field import KEY, MESSAGE, dispatch, work_at

Run = Callable[..., str]


@pytest.fixture
def field(database_url: str) -> Iterator[Field]:
    made = Field(database_url, Contact(time.min, time.max, frozenset(range(7))))
    made.now = datetime.now(UTC)
    yield made
    made.engine.dispose()


@pytest.fixture
def run(field: Field, database_url: str, tmp_path: Path) -> Run:
    """Types a command; its output. Raises what the command refuses with."""
    environ = {
        "DIAL16_DATABASE_URL": database_url, "DIAL16_PSEUDONYM_KEY": KEY.decode(),
        "DIAL16_DATA_DIR": str(tmp_path),
    }  # fmt: skip

    def context(*needs: str) -> Settings:
        return Settings.from_environment(environ, needs=needs)

    app = campaign.commands(context, lambda settings: (field.wave,))

    def typed(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return typed


def written(folder: Path, text: str) -> str:
    path = folder / "sample.csv"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_campaign_from_a_file(run: Run, field: Field, tmp_path: Path) -> None:
    file = written(tmp_path, "msisdn,language\n0240000001,fr\n0240000002,\n02400,\n0240000001,en\n")
    field.stops(2)
    with pytest.raises(SampleError) as refused:
        run("load", file)
    assert [f.key for f in refused.value.faults] == ["row 4, msisdn", "row 5, msisdn"]
    said = run("load", file, "--skip-bad", "--dry-run")
    assert (
        "would be loaded: 1" in said and "left alone, opted_out: 1" in said and "Nothing was changed" in said
    )
    with pytest.raises(CampaignError, match="load a sample first"):
        run("status")
    said = run("load", file, "--skip-bad")
    assert "left out: sample.csv: row 4, msisdn: has too few digits" in said and "loaded: 1" in said
    said = run("start", "--dry-run", "--price", "0.035")
    assert "invitations: 1" in said and "reminders: 2 at most" in said
    assert "cost: GHS 0.035, with all reminders GHS 0.105" in said
    assert find_campaign(field.engine, WAVE).state == "draft"
    assert f"Campaign {WAVE} runs." in run("start")
    field.now = datetime.now(UTC)
    assert [(n, text) for n, _, text in field.look()] == [(1, "FR invitation")]
    assert "is paused" in run("pause") and "runs" in run("resume")
    status = run("status")
    assert "running" in status and "invitation" in status and "left alone" in status
    assert "240000" not in status and "Cancelled: 1 messages." in run("stop", "--yes")
    with pytest.raises(CampaignError, match="is stopped, not paused"):
        run("resume")
    with pytest.raises(CampaignError, match="is stopped, for good"):
        run("release", "1")


def test_a_campaign_from_a_draw(run: Run, field: Field) -> None:
    said = run("draw", "300", "--seed", "s", "--replicates", "3", "--prefix", "24")
    assert "300 of 10,000,000 numbers, each with probability 3e-05; seed s" in said and "loaded: 300" in said
    drawn = find_campaign(field.engine, WAVE).draw
    assert drawn is not None and len(draw_again(drawn).numbers) == 300
    with pytest.raises(CampaignError, match="this campaign has its draw"):
        run("draw", "10")
    assert "invitations: 200" in run("release", "2", "--dry-run")
    run("start")
    assert "Released: 100 numbers more." in run("release", "2")
    field.now = datetime.now(UTC)
    assert len(field.look()) == 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("draw", "5", "--country", "KE"), "is not in it; there are GH"),
        (("draw", "5", "--aggregator", "nobody"), "there is no aggregator 'nobody'"),
        (("load", "gone.csv"), "gone.csv cannot be read"), (("start",), "load a sample first"),
        (("pause",), "load a sample first"), (("release", "1"), "load a sample first"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_to_do(run: Run, words: tuple[str, ...], message: str) -> None:
    with pytest.raises((CampaignError, SampleError), match=message):
        run(*words)


def test_files_and_waves_that_cannot_be_used(run: Run, field: Field, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("msisdn,stratum\n0240000001,Volt\xe9\n".encode("latin-1"))
    with pytest.raises(CampaignError, match="save it as CSV in UTF-8"):
        run("load", str(tmp_path / "latin.csv"))
    with pytest.raises(CampaignError, match="has no number"):
        run("load", written(tmp_path, "msisdn\n"))
    with pytest.raises(CampaignError, match="names replicates itself"):
        run("load", written(tmp_path, "msisdn,replicate\n0240000001,2\n"), "--replicates", "2")
    faulty = "msisdn\n" + "1\n" * 150
    with pytest.raises(SampleError, match="and 50 faults more"):
        run("load", written(tmp_path, faulty))
    run("load", written(tmp_path, "msisdn\n0240000001\n"))
    with pytest.raises(CampaignError, match="must be a number of 0 or more"):
        run("start", "--dry-run", "--price", "dear")
    field.wave = replace(field.wave, sms_sender="", countries=("+228",))
    with pytest.raises(CampaignError, match="set `sms_sender` in the wave file"):
        run("start")
    field.wave = replace(field.wave, countries=("+233",))
    for dry in ([], ["--dry-run"]):
        with pytest.raises(CampaignError, match="set `sms_sender` in the wave file"):
            run("load", written(tmp_path, "msisdn\n0240000002\n"), *dry)
    field.wave = replace(field.wave, countries=("+228",))
    with pytest.raises(CampaignError, match=r"does not serve \+233"):
        run("draw", "5")


# ---------------------------------------------------------------- at the moment of sending


@pytest.fixture
def sender(field: Field, database_url: str, redis_url: str) -> Iterator[Dispatch]:
    live = redis.Redis.from_url(redis_url)
    window = Contact(time.min, time.max, frozenset(range(7)))
    with serving(Habits()) as api:
        made = dispatch(work_at(api, database_url, redis_url, habits={"hours": {WAVE: window}}), live)
        yield made
        made.close()
    live.close()


def test_each_message_asks_for_its_campaign_when_it_is_sent(field: Field, sender: Dispatch) -> None:
    field.load(range(4))
    field.start()
    field.look()
    ids = {m["n"]: m["id"] for m in field.messages()}
    assert sender.send(ids[0]) == SENT
    set_state(field.engine, CAMPAIGN, PAUSED, field.now)
    assert sender.send(ids[1]) == "campaign paused" and sender.tick() == 0
    set_state(field.engine, CAMPAIGN, RUNNING, field.now)
    assert sender.send(ids[1]) == SENT
    # The live store knows of an opt-out that the record has not heard of yet.
    sender.live.set(opted_out_key(who(2)), 1)
    assert sender.send(ids[2]) == CANCELLED
    field.dials(3)
    assert sender.send(ids[3]) == CANCELLED
    assert {m["n"]: m["failure_reason"] for m in field.messages()} == {
        0: None, 1: None, 2: "opted_out", 3: "came_by_themselves",
    }  # fmt: skip
    assert set_state(field.engine, CAMPAIGN, STOPPED, field.now) == 0


def test_the_operator_s_word_closes_a_wave_to_invitations(field: Field, sender: Dispatch) -> None:
    field.load(range(3))
    field.start()
    field.look(room=1)
    (message,) = field.messages()
    say_word(field.engine, WAVE, CLOSE)
    assert field.look() == [] and sender.send(message["id"]) == "wave closed"
    assert field.messages()[0]["state"] == "due"
    over = Opening(closes_at=datetime.now(UTC) - HOUR)
    field.wave = replace(field.wave, opening=over)
    sender.habits = replace(sender.habits, openings={WAVE: over})
    say_word(field.engine, WAVE, TIMES)
    with writing(field.engine) as db:
        db.execute(MESSAGE.update().values(not_before=message["not_before"]))
    assert field.look() == [] and sender.send(message["id"]) == "wave closed"
    say_word(field.engine, WAVE, OPEN)
    with writing(field.engine) as db:
        db.execute(MESSAGE.update().values(not_before=message["not_before"]))
    assert sender.send(message["id"]) == SENT and len(field.look()) == 2


def test_a_wave_has_its_own_hours(field: Field, sender: Dispatch) -> None:
    shut = Contact(days=frozenset({(field.now.weekday() + 2) % 7}), zone=UTC)
    sender.habits = replace(sender.habits, hours={WAVE: shut})
    field.load([1])
    field.start()
    field.look()
    (message,) = field.messages()
    assert sender.send(message["id"]) == "quiet hours"
    assert field.messages()[0]["not_before"] == shut.next_open(field.now)
