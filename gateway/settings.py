"""Settings from the environment and `.env`. Read by main.py only; everybody else receives values.

Secrets fail closed: a verb that needs one refuses to start without it. Only `run` makes secrets, in
its data folder. No secret ever stands in an error, a log line or a `repr`.
"""

import difflib
import hmac
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access import ApiToken, read_tokens

PREFIX = "DIAL16_"

#: What `run` keeps in its data folder: the secrets it made, in the form of a `.env`, mode 0600.
RUN_ENV = "run.env"


class SettingsError(Exception):
    """The environment is wrong. Lists every fault, each with the variable and what to set."""

    def __init__(self, faults: list[str]):
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


@dataclass(frozen=True, slots=True)
class Setting:
    name: str  # without the prefix
    default: str  # as the README's table shows it
    meaning: str


#: Every variable there is. The README's table is checked against this by a test.
SETTINGS = (
    Setting("DATA_DIR", "./data", "folder of the SQLite file, the embedded store and what `run` makes"),
    Setting("HOST", "127.0.0.1", "address to listen on"),
    Setting("PORT", "8016", "port to listen on"),
    Setting(
        "DATABASE_URL",
        "SQLite in the data folder",
        "where answers are kept: `postgresql+psycopg://...` or `sqlite:///...`",
    ),
    Setting(
        "REDIS_URL",
        "embedded (`run` only)",
        "where interviews in progress are kept: `redis://...`, `rediss://...` or `unix://...`",
    ),
    Setting(
        "WEBHOOK_SECRET",
        "made by `run`",
        "part of the webhook's path, 32 characters or more; two, comma-separated, during a change",
    ),
    Setting(
        "PSEUDONYM_KEY",
        "made by `run`",
        "32 bytes or more; turns numbers into pseudonyms. Lose it and no respondent is recognised again",
    ),
    Setting(
        "WAVE_FILE",
        "deploy/wave.toml",
        "the fielding period, or several, comma-separated; of a folder every `*.toml`: see docs/waves.md",
    ),
    Setting(
        "INSTRUMENT_DIR",
        "flows/sdg_16_6_2",
        "folder of the questionnaire and its languages, or several, comma-separated; or a folder of such",
    ),
    Setting(
        "SIMULATOR",
        "on for `run`, else off",
        "`on`: serve the handset page and its simulated aggregator; anyone who reaches them can dial",
    ),
    Setting(
        "RELEASES_DIR", "`releases` in the data folder", "where releases are published; pages read them there"
    ),
    Setting("RELEASE_FILE", "deploy/release.toml", "how releases are made: see docs/results.md"),
    Setting("SDMX_DIR", "", "folder of the SDMX structure files. None: releases without SDMX files"),
    Setting("WEB_ADDRESS", "", "where the public reaches these pages, `https://...`: stands in catalogues"),
    Setting(
        "LICENCE",
        "https://creativecommons.org/licenses/by/4.0/",
        "address of the licence that releases are given under",
    ),
    Setting("MAP_FILE", "", "the office's GeoJSON of the regions. None: a grid of tiles"),
    Setting(
        "API_TOKENS",
        "",
        "who may read the results API: `NAME:SCOPE:TOKEN, ..`, see docs/api.md. None: it is closed",
    ),
    Setting("SNAPSHOT", "off", "`on`: a Parquet copy each night in the data folder, see docs/api.md"),
    Setting("LIVE_DAYS", "90", "days that an interview stays in the live store after its last hop"),
    Setting("AT_USERNAME", "", "Africa's Talking's user name, for sending; `sandbox` is its sandbox"),
    Setting("AT_API_KEY", "", "its API key. None: nothing is sent, and messages wait as `held`"),
    Setting("AT_URL", "Africa's Talking's own", "another address of its API: a stand-in for tests"),
    Setting(
        "SMS_PER_SECOND",
        "10",
        "segments a second of each sender; a network's own after it: `10, 62001=5`",
    ),
    Setting("DIRECTORY_DAYS", "90", "days that a number is kept, sealed, after it was last in use"),
    Setting(
        "STAFF_TOKEN", "", "opens the fieldwork page, 32 characters or more. None: there is no such page"
    ),
    Setting("LOG_LEVEL", "info", "debug, info, warning or error"),
)

#: Refused unless set, by the verbs that need them.
SECRETS = ("WEBHOOK_SECRET", "PSEUDONYM_KEY")

_NAMES = frozenset(PREFIX + s.name for s in SETTINGS)
_DEFAULTS = {"DATA_DIR": "./data", "HOST": "127.0.0.1", "PORT": "8016", "WAVE_FILE": "deploy/wave.toml",
             "INSTRUMENT_DIR": "flows/sdg_16_6_2", "RELEASE_FILE": "deploy/release.toml",
             "LICENCE": "https://creativecommons.org/licenses/by/4.0/",
             "LIVE_DAYS": "90", "LOG_LEVEL": "info",
             "SMS_PER_SECOND": "10", "DIRECTORY_DAYS": "90"}  # fmt: skip
_PROJECT = Path(__file__).resolve().parent.parent
#: Characters that stand in a URL's path as they are (RFC 3986 section 2.3).
_URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+\Z")
_MAKE_ONE = "make one with: openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: Path
    host: str
    port: int
    database_url: str = field(repr=False)  # may hold a password
    redis_url: str = field(repr=False)  # "" : none given
    webhook_secrets: tuple[str, ...] = field(repr=False)
    pseudonym_key: bytes = field(repr=False)
    wave_files: tuple[Path, ...]  # or folders of them
    instrument_dirs: tuple[Path, ...]  # or folders of them
    simulator: bool | None  # None: as the verb has it
    releases_dir: Path
    release_file: Path
    sdmx_dir: Path | None  # None: no SDMX files
    web_address: str  # "" : not known
    licence: str
    map_file: Path | None  # None: tiles
    api_tokens: tuple[ApiToken, ...] = field(repr=False)
    snapshot: bool
    live_days: int
    at_username: str
    at_api_key: str = field(repr=False)  # "" : nothing is sent
    at_url: str  # "" : its own
    sms_per_second: float
    network_per_second: Mapping[str, float]  # by network code
    directory_days: int
    staff_token: str = field(repr=False)  # "" : no page for staff
    log_level: str

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *dotenv: Path, needs: tuple[str, ...] = ()
    ) -> "Settings":
        """The settings; the environment wins over each file of `dotenv`, an earlier file over a later.
        A variable that is empty counts as not set.

        `needs` names those that must be set. Raises SettingsError listing every fault.
        """
        faults: list[str] = []
        given: dict[str, str] = {}
        for path in reversed(dotenv):
            given |= read_dotenv(path, faults)
        given |= {k: v for k, v in environ.items() if k.startswith(PREFIX) and (v.strip() or k not in given)}
        for name in sorted(given.keys() - _NAMES):
            near = difflib.get_close_matches(name, _NAMES, 1)
            faults.append(f"{name}: unknown; {f'did you mean {near[0]}?' if near else 'remove it'}")

        def value(name: str) -> str:
            return given.get(PREFIX + name, "").strip() or _DEFAULTS.get(name, "")

        def fault(name: str, message: str) -> None:
            faults.append(f"{PREFIX}{name}: {message}")

        def whole(name: str, least: int, most: int) -> int:
            text = value(name)
            if text.isascii() and text.isdigit() and least <= int(text) <= most:
                return int(text)
            fault(name, f"must be a whole number from {least} to {most}")
            return least

        def ours_or_given(name: str) -> tuple[Path, ...]:
            """Paths from where we run; the default one stands in the project, wherever we run."""
            given_ones = [part.strip() for part in given.get(PREFIX + name, "").split(",")]
            paths = tuple(Path(part).absolute() for part in given_ones if part)
            return paths or (_PROJECT / _DEFAULTS[name],)

        for name in needs:
            if not value(name):
                why = _MAKE_ONE if name in SECRETS else "or use `main.py run`, which brings its own"
                fault(name, f"is not set; set it ({why})")
        database_url, redis_url = value("DATABASE_URL"), value("REDIS_URL")
        if database_url and not database_url.startswith(("sqlite:///", "postgresql+psycopg://")):
            fault("DATABASE_URL", "must begin with postgresql+psycopg:// or sqlite:///")
        if redis_url and not redis_url.startswith(("redis://", "rediss://", "unix://")):
            fault("REDIS_URL", "must begin with redis://, rediss:// or unix://")
        simulator = value("SIMULATOR").lower()
        if simulator not in ("", "on", "off"):
            fault("SIMULATOR", "must be on or off")
        for name in ("WEB_ADDRESS", "LICENCE"):
            if value(name) and not re.match(r"https?://[^/\s]+[^\s]*\Z", value(name)):
                fault(name, "must be an address that begins with https:// or http://")
        api_tokens, token_faults = read_tokens(value("API_TOKENS"))
        for message in token_faults:
            fault("API_TOKENS", message)
        others = {
            *(s.strip() for s in value("WEBHOOK_SECRET").split(",")),
            value("PSEUDONYM_KEY"),
            value("STAFF_TOKEN"),
        }
        if {token.token for token in api_tokens} & (others - {""}):
            fault("API_TOKENS", f"a token must differ from the other secrets; {_MAKE_ONE}")
        snapshot = value("SNAPSHOT").lower()
        if snapshot not in ("", "on", "off"):
            fault("SNAPSHOT", "must be on or off")
        log_level = value("LOG_LEVEL").lower()
        if log_level not in ("debug", "info", "warning", "error"):
            fault("LOG_LEVEL", "must be debug, info, warning or error")
        webhook_secrets = tuple(s.strip() for s in value("WEBHOOK_SECRET").split(",") if s.strip())
        for message in _secret_faults(webhook_secrets):
            fault("WEBHOOK_SECRET", message)
        pseudonym_key = value("PSEUDONYM_KEY").encode()
        if pseudonym_key and (len(pseudonym_key) < 32 or len(set(pseudonym_key)) < 8):
            fault("PSEUDONYM_KEY", f"must have at least 32 bytes, not all alike; {_MAKE_ONE}")
        if pseudonym_key and pseudonym_key.decode() in webhook_secrets:
            fault("PSEUDONYM_KEY", f"must differ from the webhook secret; {_MAKE_ONE}")
        staff_token = value("STAFF_TOKEN")
        if staff_token and (len(staff_token) < 32 or len(set(staff_token)) < 8 or not staff_token.isascii()):
            fault("STAFF_TOKEN", f"must have at least 32 plain characters, not all alike; {_MAKE_ONE}")
        if staff_token and staff_token in (*webhook_secrets, pseudonym_key.decode()):
            fault("STAFF_TOKEN", f"must differ from the other secrets; {_MAKE_ONE}")
        at_username, at_api_key, at_url = value("AT_USERNAME"), value("AT_API_KEY"), value("AT_URL")
        if at_api_key and not at_username:
            fault("AT_USERNAME", "is not set, but DIAL16_AT_API_KEY is; set it to the account's user name")
        if not (at_api_key + at_username).isascii() or not (at_api_key + at_username).isprintable():
            fault("AT_API_KEY", "and DIAL16_AT_USERNAME must be plain ASCII, as Africa's Talking shows them")
        if at_url and not re.match(r"https?://[^/\s]+", at_url):
            fault("AT_URL", "must begin with http:// or https:// and a host; leave it empty for the real API")
        rates = _read_rates(value("SMS_PER_SECOND"))
        if rates is None:
            fault("SMS_PER_SECOND", "must be a number above 0 to 1000, and NETWORK=NUMBER after commas")
        data_dir = Path(value("DATA_DIR")).absolute()
        settings = cls(
            data_dir=data_dir,
            host=value("HOST"),
            port=whole("PORT", 1, 65_535),
            database_url=database_url or f"sqlite:///{data_dir / 'dial16.sqlite3'}",
            redis_url=redis_url,
            webhook_secrets=webhook_secrets,
            pseudonym_key=pseudonym_key,
            wave_files=ours_or_given("WAVE_FILE"),
            instrument_dirs=ours_or_given("INSTRUMENT_DIR"),
            simulator=None if not simulator else simulator == "on",
            releases_dir=Path(value("RELEASES_DIR") or data_dir / "releases").absolute(),
            release_file=ours_or_given("RELEASE_FILE")[0],
            sdmx_dir=Path(value("SDMX_DIR")).absolute() if value("SDMX_DIR") else None,
            web_address=value("WEB_ADDRESS").rstrip("/"),
            licence=value("LICENCE"),
            map_file=Path(value("MAP_FILE")).absolute() if value("MAP_FILE") else None,
            api_tokens=api_tokens,
            snapshot=snapshot == "on",
            live_days=whole("LIVE_DAYS", 1, 3650),
            at_username=at_username,
            at_api_key=at_api_key,
            at_url=at_url,
            sms_per_second=(rates or {}).get("", 1.0),
            network_per_second={network: rate for network, rate in (rates or {}).items() if network},
            directory_days=whole("DIRECTORY_DAYS", 1, 3650),
            staff_token=staff_token,
            log_level=log_level,
        )
        if faults:
            raise SettingsError(faults)
        return settings

    @property
    def missing_secrets(self) -> tuple[str, ...]:
        """Names of the secrets that are not set."""
        have = {"WEBHOOK_SECRET": self.webhook_secrets, "PSEUDONYM_KEY": self.pseudonym_key}
        return tuple(name for name in SECRETS if not have[name])

    @property
    def simulator_secret(self) -> str:
        """The simulator's part of the webhook's path, derived so that it needs no setting of its own."""
        return hmac.digest(self.webhook_secrets[0].encode(), b"dial16 simulator v1", "sha256").hex()

    @property
    def base_url(self) -> str:
        """Where this machine's own programs and browser reach the gateway."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """These settings as variables, for a child process."""
        out = {
            "DATA_DIR": str(self.data_dir), "HOST": self.host, "PORT": str(self.port),
            "DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url,
            "WEBHOOK_SECRET": ",".join(self.webhook_secrets), "PSEUDONYM_KEY": self.pseudonym_key.decode(),
            "WAVE_FILE": ",".join(map(str, self.wave_files)),
            "INSTRUMENT_DIR": ",".join(map(str, self.instrument_dirs)),
            "SIMULATOR": "" if self.simulator is None else "on" if self.simulator else "off",
            "RELEASES_DIR": str(self.releases_dir), "RELEASE_FILE": str(self.release_file),
            "SDMX_DIR": str(self.sdmx_dir or ""), "WEB_ADDRESS": self.web_address,
            "LICENCE": self.licence, "MAP_FILE": str(self.map_file or ""),
            "API_TOKENS": ",".join(f"{t.name}:{t.scope}:{t.token}" for t in self.api_tokens),
            "SNAPSHOT": "on" if self.snapshot else "off",
            "LIVE_DAYS": str(self.live_days), "LOG_LEVEL": self.log_level,
            "AT_USERNAME": self.at_username, "AT_API_KEY": self.at_api_key, "AT_URL": self.at_url,
            "SMS_PER_SECOND": ",".join(
                [f"{self.sms_per_second:g}", *(f"{n}={r:g}" for n, r in self.network_per_second.items())]
            ),
            "DIRECTORY_DAYS": str(self.directory_days), "STAFF_TOKEN": self.staff_token,
        }  # fmt: skip
        return {PREFIX + name: text for name, text in out.items()}


def _secret_faults(given: tuple[str, ...]) -> list[str]:
    """What is wrong with the webhook's secrets, without repeating one."""
    faults = []
    if len(given) > 2:
        faults.append("give one, or two while one replaces the other")
    if any(len(s) < 32 or len(set(s)) < 8 for s in given):
        faults.append(f"must have at least 32 characters, not all alike; {_MAKE_ONE}")
    if any(not _URL_SAFE.match(s) for s in given):
        faults.append("stands in a URL: use only letters, digits and . _ ~ -")
    return faults


def _read_rates(text: str) -> dict[str, float] | None:
    """Segments a second by network code, "" for any; None if the text is not of that form."""
    rates = {}
    for n, part in enumerate(text.split(",")):
        network, equals, number = part.strip().rpartition("=")
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", number) or not 0 < float(number) <= 1000:
            return None
        if (n == 0) == bool(equals) or (n and not re.fullmatch(r"[0-9]{5,6}", network)) or network in rates:
            return None
        rates[network] = float(number)
    return rates


def read_dotenv(path: Path, faults: list[str]) -> dict[str, str]:
    """Our variables out of a `.env`: `NAME=value` a line, `#` comments, `export`, quotes.

    Other programs' variables are passed over. No file: nothing.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(
            f"{path}: cannot be read ({type(error).__name__}); make it a UTF-8 file that you may read"
        )
        return {}
    out = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            faults.append(f"{path}:{number}: must be NAME=value")  # the line itself may hold a secret
            continue
        if value[:1] in ("'", '"'):
            quote = value[0]
            value, closed, rest = value[1:].partition(quote)
            if not closed or rest.split("#")[0].strip():
                faults.append(f"{path}:{number}: close the quotation mark at the value's end")
        else:
            value = value.split(" #")[0].strip()
        if name.startswith(PREFIX):
            out[name] = value
    return out


def make_secrets(data_dir: Path, names: Sequence[str]) -> None:
    """Make the named secrets in `data_dir`. For `run` on a laptop only.

    The file is readable by its owner alone from the moment it exists.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    file = os.open(data_dir / RUN_ENV, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(file, "a", encoding="utf-8") as out:
        if out.tell() == 0:
            out.write(
                "# Made by `main.py run`. Keep it: without the key no respondent is recognised again.\n"
            )
        out.writelines(f"{PREFIX}{name}={secrets.token_hex(32)}\n" for name in names)
