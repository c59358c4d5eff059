"""Settings: where they come from, what is refused, and that nothing secret is shown."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands import about_file
from gateway.settings import RUN_ENV, SECRETS, SETTINGS, Settings, SettingsError, make_secrets

SECRET = "0123456789abcdef" * 4
KEY = "fedcba9876543210" * 4


def refused(environ: dict[str, str], *dotenv: Path, needs: tuple[str, ...] = ()) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ, *dotenv, needs=needs)
    return str(caught.value)


def test_nothing_set_is_enough_to_read_data() -> None:
    settings = Settings.from_environment({})
    assert (settings.host, settings.port, settings.live_days) == ("127.0.0.1", 8016, 90)
    assert settings.data_dir == Path("data").absolute()
    assert settings.database_url == f"sqlite:///{settings.data_dir}/dial16.sqlite3"
    assert settings.redis_url == "" and settings.simulator is None
    assert settings.missing_secrets == SECRETS


def test_environment_wins_over_each_file_in_turn(tmp_path: Path) -> None:
    first, second = tmp_path / ".env", tmp_path / RUN_ENV
    first.write_text(
        "# ours\nexport DIAL16_PORT=9001 # a comment\nOTHER=ignored\n"
        f"DIAL16_HOST='0.0.0.0'\nDIAL16_PSEUDONYM_KEY={KEY}\n"
    )
    second.write_text(f'DIAL16_PORT=9002\nDIAL16_WEBHOOK_SECRET="{SECRET}"\nDIAL16_HOST=10.0.0.1\n')
    settings = Settings.from_environment({"DIAL16_HOST": "::1", "HOME": "/"}, first, second)
    assert (settings.host, settings.port) == ("::1", 9001)
    assert settings.webhook_secrets == (SECRET,) and settings.pseudonym_key == KEY.encode()


@pytest.mark.parametrize("name", ["WAVE_FILE", "INSTRUMENT_DIR"])
def test_several_waves_and_instruments(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(environ: dict[str, str]) -> tuple[Path, ...]:
        settings = Settings.from_environment(environ)
        return settings.wave_files if name == "WAVE_FILE" else settings.instrument_dirs

    variable = f"DIAL16_{name}"
    root = Path(__file__).parent.parent
    assert read({}) == (root / ("deploy/wave.toml" if name == "WAVE_FILE" else "flows/sdg_16_6_2"),)
    monkeypatch.chdir(tmp_path)
    assert read({variable: "a"}) == (tmp_path / "a",)
    assert read({variable: " a, /b/c ,"}) == (tmp_path / "a", Path("/b/c"))
    again = Settings.from_environment({variable: "a,b"}).environment()
    assert again[variable] == f"{tmp_path}/a,{tmp_path}/b" and read(again) == (tmp_path / "a", tmp_path / "b")


def test_every_fault_is_listed_at_once_with_variable_and_fix() -> None:
    message = refused(
        {
            "DIAL16_PORT": "eighty",
            "DIAL16_LIVE_DAYS": "0",
            "DIAL16_DATABASE_URL": "postgresql://u:hunter2hunter2@db/x",
            "DIAL16_REDIS_URL": "localhost:6379",
            "DIAL16_SIMULATOR": "maybe",
            "DIAL16_LOG_LEVEL": "loud",
            "DIAL16_WEBHOOK_SECRET": "short/secret",
            "DIAL16_PSEUDONYM_KEY": "a" * 40,
            "DIAL16_WEBHOOK_SECRETS": "x",
        }
    )
    for (
        name
    ) in "PORT LIVE_DAYS DATABASE_URL REDIS_URL SIMULATOR LOG_LEVEL WEBHOOK_SECRET PSEUDONYM_KEY".split():
        assert f"DIAL16_{name}: " in message
    assert "did you mean DIAL16_WEBHOOK_SECRET?" in message
    assert "openssl rand -hex 32" in message and "from 1 to 65535" in message
    for secret in ("hunter2", "short/secret", "a" * 40):
        assert secret not in message


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_fail_closed(name: str) -> None:
    good = {"DIAL16_WEBHOOK_SECRET": SECRET, "DIAL16_PSEUDONYM_KEY": KEY}
    assert Settings.from_environment(good, needs=SECRETS).missing_secrets == ()
    for empty in ({}, {f"DIAL16_{name}": "  "}):
        rest = {k: v for k, v in good.items() if not k.endswith(name)}
        assert f"DIAL16_{name}: is not set" in refused(rest | empty, needs=SECRETS)


def test_two_secrets_while_one_replaces_the_other_not_three() -> None:
    other, third = SECRET[::-1], "A1b2C3d4" * 4
    settings = Settings.from_environment({"DIAL16_WEBHOOK_SECRET": f"{SECRET}, {other}"})
    assert settings.webhook_secrets == (SECRET, other)
    assert "one, or two" in refused({"DIAL16_WEBHOOK_SECRET": f"{SECRET},{other},{third}"})


def test_one_value_may_not_be_both_secret_and_key() -> None:
    assert "must differ" in refused({"DIAL16_WEBHOOK_SECRET": SECRET, "DIAL16_PSEUDONYM_KEY": SECRET})


def test_a_broken_line_is_named_by_number_not_shown(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"DIAL16_PORT=8016\n{SECRET}\nDIAL16_HOST='open\n")
    message = refused({}, file)
    assert ".env:2: must be NAME=value" in message and ".env:3: close the quotation" in message
    assert SECRET not in message


def test_an_unreadable_file_is_a_fault_a_missing_one_is_not(tmp_path: Path) -> None:
    Settings.from_environment({}, tmp_path / "absent")
    assert "cannot be read" in refused({}, tmp_path)


def test_secrets_are_not_in_the_repr() -> None:
    settings = Settings.from_environment(
        {
            "DIAL16_WEBHOOK_SECRET": SECRET,
            "DIAL16_PSEUDONYM_KEY": KEY,
            "DIAL16_REDIS_URL": "redis://:hunter2@live",
            "DIAL16_DATABASE_URL": "postgresql+psycopg://u:hunter3@db/x",
        }
    )
    for secret in (SECRET, KEY, "hunter2", "hunter3"):
        assert secret not in repr(settings) + str(settings)


def test_a_child_process_gets_the_same_settings() -> None:
    given = Settings.from_environment(
        {"DIAL16_WEBHOOK_SECRET": SECRET, "DIAL16_PSEUDONYM_KEY": KEY, "DIAL16_SIMULATOR": "on"}
    )
    assert Settings.from_environment(given.environment()) == given
    assert given.environment().keys() == {f"DIAL16_{s.name}" for s in SETTINGS}


def test_made_secrets_are_good_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make_secrets(folder, SECRETS[:1])
    make_secrets(folder, SECRETS[1:])
    file = folder / RUN_ENV
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = Settings.from_environment({}, file, needs=SECRETS)
    assert len(settings.webhook_secrets[0]) == 64 and len(settings.pseudonym_key) == 64


def test_the_simulator_s_secret_is_another_one_and_always_the_same() -> None:
    one = Settings.from_environment({"DIAL16_WEBHOOK_SECRET": SECRET})
    other = Settings.from_environment({"DIAL16_WEBHOOK_SECRET": SECRET[::-1]})
    assert one.simulator_secret == one.simulator_secret != other.simulator_secret
    assert len(one.simulator_secret) == 64 and one.simulator_secret != SECRET


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8016"),
        ("0.0.0.0", "http://127.0.0.1:8016"),
        ("::", "http://[::1]:8016"),
        ("dial16.example", "http://dial16.example:8016"),
    ],
)
def test_the_base_url_is_one_that_can_be_reached(host: str, url: str) -> None:
    assert Settings.from_environment({"DIAL16_HOST": host}).base_url == url


def test_sending_needs_a_user_name_with_its_key_and_shows_neither() -> None:
    key = "atsk_" + "0123456789abcdef" * 2
    message = refused(
        {
            "DIAL16_AT_API_KEY": key,
            "DIAL16_AT_URL": "api.example.org",
            "DIAL16_SMS_PER_SECOND": "fast",
            "DIAL16_DIRECTORY_DAYS": "0",
        }
    )
    for name in "AT_USERNAME AT_URL SMS_PER_SECOND DIRECTORY_DAYS".split():
        assert f"DIAL16_{name}: " in message
    assert key not in message
    settings = Settings.from_environment({"DIAL16_AT_API_KEY": key, "DIAL16_AT_USERNAME": "office"})
    assert settings.at_api_key == key and key not in repr(settings)
    assert (settings.sms_per_second, settings.network_per_second, settings.directory_days) == (10, {}, 90)
    assert Settings.from_environment({}).at_api_key == ""
    assert "DIAL16_AT_API_KEY: " in refused({"DIAL16_AT_API_KEY": "clé\n" + key, "DIAL16_AT_USERNAME": "x"})


def test_networks_may_have_rates_of_their_own() -> None:
    settings = Settings.from_environment({"DIAL16_SMS_PER_SECOND": "20, 62001=2.5,62002=7"})
    assert settings.sms_per_second == 20 and settings.network_per_second == {"62001": 2.5, "62002": 7}
    assert Settings.from_environment(settings.environment()) == settings


@pytest.mark.parametrize(
    "rate", ["0", "-1", "10,", "62001=5", "10,5", "10, 62001=5, 62001=6", "10, x=5", "1e9", "1001"]
)
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    assert "DIAL16_SMS_PER_SECOND: must be" in refused({"DIAL16_SMS_PER_SECOND": rate})


def test_the_staff_token_is_a_secret_of_its_own() -> None:
    assert Settings.from_environment({}).staff_token == ""
    token = "staff 0123456789abcdef 0123456789"
    settings = Settings.from_environment({"DIAL16_STAFF_TOKEN": token})
    assert settings.staff_token == token and token not in repr(settings)
    assert settings.environment()["DIAL16_STAFF_TOKEN"] == token
    for given in ("short", "a" * 40, "0123456789abcdef0123456789abcdé"):
        assert "DIAL16_STAFF_TOKEN: must have at least 32 plain" in refused({"DIAL16_STAFF_TOKEN": given})
    for name in ("WEBHOOK_SECRET", "PSEUDONYM_KEY"):
        same = refused({"DIAL16_STAFF_TOKEN": SECRET, f"DIAL16_{name}": SECRET})
        assert "DIAL16_STAFF_TOKEN: must differ" in same and SECRET not in same


def full() -> None:
    with open("/dev/full", "w") as file:
        file.write("x")


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda here: (here / "file").mkdir(exist_ok=True), "/file: is a file, or under one"),
        (lambda here: (here / "file" / "x").mkdir(parents=True), "/file/x: is a file, or under one"),
        (lambda here: (here / "folder").write_text("x"), "/folder: is a folder where a file is needed"),
        (lambda here: os.replace(here / "file", here / "folder"), "/folder: is a folder where a file is"),
        (lambda here: Path("/proc/nothing").mkdir(), "/proc/nothing: is not there, and cannot be made"),
        (lambda here: Path("/sys/nothing").mkdir(), "/sys/nothing: may not be used by this user"),
        (lambda here: (here / ("x" * 300)).mkdir(), "xxx: File name too long: name another place"),
        (lambda here: full(), "the disk is full"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(
    tmp_path: Path, use: Callable[[Path], object], said: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught:
        use(tmp_path)
    assert said in about_file(caught.value)


def test_an_error_without_a_place_is_a_bug() -> None:
    assert about_file(OSError("a reply without Content-Length")) == ""
    assert about_file(OSError(9, "Bad file descriptor", 3)) == ""
