"""Dial 16 on the command line, and its composition root: settings are read here and nowhere else.

Each verb imports what it runs when it runs, so that `--help` is at once there and one verb does not
need what another one does.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import (
    Refused,
    about_file,
    airtime,
    analysts,
    campaign,
    exporting,
    fieldwork,
    giving_back,
    handsets,
    instrument,
    outbox,
    quality,
    read_waves,
    release,
    respondents,
    results,
    say,
    wave,
)
from gateway.settings import PREFIX, RUN_ENV, SECRETS, Settings, SettingsError, make_secrets

if TYPE_CHECKING:
    from flows.wave import Wave

app = typer.Typer(
    help="Dial 16: a USSD survey gateway for SDG indicator 16.6.2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables: numbers, answers, secrets
)


# ---------------------------------------------------------------- composition


def read_settings(*needs: str, run_folder: bool = False) -> Settings:
    """The settings; `needs` names those without which the verb cannot work.

    run_folder: what `run` made in its data folder counts too, for the verbs beside it.
    """
    if not run_folder:
        return Settings.from_environment(os.environ, Path(".env"), needs=needs)
    data_dir = Settings.from_environment(os.environ, Path(".env")).data_dir
    return Settings.from_environment(os.environ, Path(".env"), data_dir / RUN_ENV, needs=needs)


def refuse_placeholders(waves: "Sequence[Wave]", settings: Settings) -> None:
    """Raises SettingsError where real respondents would be told a contact that is nobody's."""
    from flows.wave import PLACEHOLDER_CONTACT

    nobodys = [wave.file for wave in waves if wave.contact == PLACEHOLDER_CONTACT]
    if nobodys and not settings.simulator:
        raise SettingsError(
            [
                f"{file}: contact: {PLACEHOLDER_CONTACT} is a placeholder; give the number that respondents"
                f" can call (or set {PREFIX}SIMULATOR=on, for trying things out)"
                for file in nobodys
            ]
        )


# ---------------------------------------------------------------- the service


@app.command()
def run() -> None:
    """Run the whole service on this machine: embedded store, SQLite, gateway, recorder and worker."""
    from gateway import supervisor
    from storage.embedded import lock_folder

    settings = read_settings(run_folder=True)
    with lock_folder(settings.data_dir):
        if made := settings.missing_secrets:
            make_secrets(settings.data_dir, made)
            settings = read_settings(*SECRETS, run_folder=True)
            names = " and ".join(PREFIX + name for name in made)
            say(f"made {names} in {settings.data_dir / RUN_ENV}: keep that file")
        settings = replace(settings, simulator=settings.simulator is not False)
        supervisor.refuse_port_in_use(settings.host, settings.port)
        waves, url = read_waves(settings), settings.base_url
        refuse_placeholders(waves, settings)
        dial = " or ".join(dict.fromkeys(w.code for w in waves)) if settings.simulator else ""
        supervisor.run(
            Path(__file__).resolve(),
            settings.data_dir,
            {**os.environ, **settings.environment()},
            url,
            embedded=not settings.redis_url,
            prepare=lambda: migrate_to_release(settings, waves),
            say=say,
            announce=lambda: typer.echo(supervisor.announcement(url, settings.webhook_secrets[0], dial=dial)),
        )


@app.command()
def serve() -> None:
    """Serve the webhooks and pages: the gateway alone, as many times as needed."""
    settings = read_settings("REDIS_URL", *SECRETS)
    import logging

    import uvicorn

    from gateway.app import create_app

    log_to_stderr(settings)
    waves = read_waves(settings)
    refuse_placeholders(waves, settings)
    application = create_app(
        waves=waves,
        live_url=settings.redis_url,
        database_url=settings.database_url,
        pseudonym_key=settings.pseudonym_key,
        secrets=settings.webhook_secrets,
        simulator_secret=settings.simulator_secret if settings.simulator else None,
        live_days=settings.live_days,
        staff_token=settings.staff_token,
        analysts=analysts.results_api(settings, waves[0]),
        results=analysts.public_pages(settings, waves),
        releases=settings.releases_dir,
    )
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        proxy_headers=False,  # nothing here asks for a client's address
        access_log=False,  # it would write the secret path, and cost a fifth of a hop
        server_header=False,
        log_level="warning",
        timeout_keep_alive=75,  # longer than an aggregator's or proxy's own, so that they close first
        timeout_graceful_shutdown=5,
    )
    # A refusal at start is told in its own words, below; uvicorn would show where in our code it arose.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not hasattr(application.state, "refusal"))
    server = uvicorn.Server(config)
    try:
        server.run()
    except SystemExit:
        if not hasattr(application.state, "refusal"):
            raise
    if hasattr(application.state, "refusal"):
        raise application.state.refusal


@app.command()
def record(
    replay: Annotated[
        bool, typer.Option("--replay", help="Put entries set aside as poison back first.")
    ] = False,
) -> None:
    """Fold what happened from the live store into the database: the recorder, one or several."""
    import socket
    import threading

    import redis

    from gateway.jobs import Sends, connect
    from storage.database import open_engine
    from storage.recorder import Recorder, replay_dead

    settings = read_settings("REDIS_URL")
    log_to_stderr(settings)
    engine = open_engine(settings.database_url)
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda signum, frame: stop.set())
    live = redis.Redis.from_url(settings.redis_url)
    if replay:
        say(f"{replay_dead(live)} entries put back")
    sends = Sends(connect(settings.redis_url))
    name = f"{socket.gethostname()}-{os.getpid()}"
    Recorder(live, engine, name, enqueue=sends.enqueue).run(stop.is_set)


@app.command()
def work(
    only: Annotated[
        str, typer.Option(help="messages, or analysis: exports and others that take minutes. None: both.")
    ] = "",
) -> None:
    """Run queued and recurring jobs: an RQ worker, one or several."""
    if only not in ("", "messages", "analysis"):
        raise Refused(f"--only {only}: there are messages and analysis")
    from datetime import datetime, timedelta

    from sqlalchemy.exc import OperationalError

    from gateway import jobs
    from gateway.aggregators.africastalking_api import AfricasTalkingApi
    from gateway.aggregators.simulator_phones import SimulatedPhones
    from gateway.campaigns import Campaigns
    from gateway.dispatch import Dispatch, Habits
    from gateway.sending import Sender
    from gateway.thanks import Thanking
    from storage.database import check_schema
    from storage.rates import Rate
    from storage.record import close_unfinished
    from storage.sealing import Seal

    settings = read_settings("REDIS_URL", "PSEUDONYM_KEY")
    log_to_stderr(settings)
    waves = read_waves(settings)
    accounts: dict[str, Sender] = {}
    if settings.at_api_key:
        accounts["africastalking"] = AfricasTalkingApi(
            settings.at_username, settings.at_api_key, settings.at_url or None
        )
    live = jobs.connect(settings.redis_url)
    if settings.simulator:
        accounts["simulator"] = SimulatedPhones(live)
    if "africastalking" not in accounts:
        say("DIAL16_AT_API_KEY is not set: nothing is sent through Africa's Talking, it waits as `held`")
    sends = jobs.Sends(live)
    dispatch = Dispatch(
        settings.database_url,
        live,
        Seal(settings.pseudonym_key),
        accounts,
        sends,
        Habits(
            rate=Rate(settings.sms_per_second, settings.network_per_second),
            hours={w.id: w.contacting for w in waves},
            openings={w.id: w.opening for w in waves},
            directory_days=settings.directory_days,
        ),
    )

    def close(now: datetime) -> int:
        check_schema(dispatch.engine)
        closed = 0
        for w in waves:
            closed += close_unfinished(dispatch.engine, now - timedelta(hours=w.resume_hours), w.id)
        # Waves that no file names any more: as long as the longest window here.
        longest = timedelta(hours=max(w.resume_hours for w in waves))
        return closed + close_unfinished(dispatch.engine, now - longest, but=[w.id for w in waves])

    try:
        check_schema(dispatch.engine)
    except OperationalError:  # jobs ask again
        say("the database is not reached; jobs that need it are done once it is back")
    thanks = {w.id: w.thanks for w in waves if w.thanks}
    thanking = Thanking(dispatch, sends, thanks) if thanks else None
    campaigns = Campaigns(lambda: dispatch.engine, live, {w.id: w for w in waves})
    composition = jobs.Composition(close_unfinished=close)
    if only != "analysis":
        composition = replace(composition, dispatch=dispatch, thanking=thanking, campaigns=campaigns)
    if only != "messages":
        composition = replace(
            composition,
            make_export=lambda export: exporting.make_export(settings, export),
            sweep_exports=lambda now: exporting.sweep_exports(settings, now),
            answer_query=lambda query: analysts.answer_query(settings, query),
            waiting_queries=lambda now: analysts.waiting_queries(settings, now),
            take_snapshot=(lambda now: analysts.take_snapshot(settings, now)) if settings.snapshot else None,
        )
    jobs.work(settings.redis_url, composition, only=only)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema, with the instruments' codebooks and the views."""
    settings = read_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate_to_release(settings, read_waves(settings))
    typer.echo("The database has this release's schema.")


def migrate_to_release(settings: Settings, waves: "Sequence[Wave]") -> None:
    """The schema, the instruments with their codebooks, and the views, which are the first wave's."""
    from storage.analysis.released import keep_releases
    from storage.database import migrate as migrate_database
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    for each in reversed(dict.fromkeys(w.instrument for w in waves)):
        migrate_database(engine, each)
    wave.refuse_ids(engine, waves)
    keep_releases(engine, settings.releases_dir)
    engine.dispose()


# ---------------------------------------------------------------- other verbs


for verbs in (
    outbox.commands(read_settings),
    instrument.commands(read_settings),
    handsets.commands(read_settings, Path(__file__).resolve(), os.environ),
    analysts.commands(read_settings),
    exporting.commands(read_settings),
    results.commands(read_settings),
    quality.commands(read_settings),
    respondents.commands(read_settings),
    fieldwork.commands(read_settings),
):
    app.add_typer(verbs)
for name, verbs in {
    "wave": wave.commands(read_settings),
    "campaign": campaign.commands(read_settings),
    "airtime": airtime.commands(read_settings),
    "release": release.commands(read_settings),
    "give-back": giving_back.commands(read_settings),
}.items():
    app.add_typer(verbs, name=name)


# ---------------------------------------------------------------- words and refusals


def log_to_stderr(settings: Settings) -> None:
    """Our own log lines at the level set; other people's code from warnings on."""
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("dial16").setLevel(settings.log_level.upper())


def refusals() -> tuple[type[Exception], ...]:
    """Errors that tell the operator what to do; any other is a bug and shows where it came from."""
    from flows.instrument import InstrumentError
    from gateway.demo import DemoError
    from gateway.pages.boundaries import MapError
    from gateway.sampling import SampleError
    from gateway.supervisor import RunError
    from storage.analysis.analyst_role import RoleError
    from storage.analysis.dictionary import DictionaryError
    from storage.analysis.exports.microdata import ExportError
    from storage.analysis.exports.sdmx import MappingError
    from storage.analysis.exports.sdmx_check import SdmxError
    from storage.analysis.exports.sdmx_structure import StructureError
    from storage.analysis.release import ReleaseError
    from storage.campaigns import CampaignError
    from storage.database import DatabaseURLError, SchemaError
    from storage.embedded import EmbeddedError
    from storage.resp import Unavailable
    from storage.respondents import OtherKeyError

    ours = (
        SettingsError, Refused, InstrumentError, RunError, EmbeddedError, DemoError, CampaignError,
        SampleError, DatabaseURLError, SchemaError, OtherKeyError, Unavailable, ExportError,
        DictionaryError, RoleError, MapError, ReleaseError, MappingError, StructureError, SdmxError,
    )  # fmt: skip
    return *ours, *_of_analysis()


def _of_analysis() -> tuple[type[Exception], ...]:
    """Those of modules on NumPy, which only the extra `analysis` brings: not loaded, not raised."""
    if "numpy" not in sys.modules:
        return ()
    from storage.analysis.domains import OfficeFileError
    from storage.analysis.raking import RakingError
    from storage.analysis.sheets import NoMarks

    return OfficeFileError, RakingError, NoMarks


def main() -> None:
    """Run the verb; a refusal is its text and exit 1, not a traceback."""
    try:
        app()
    except Exception as error:
        import redis
        from sqlalchemy.exc import OperationalError

        if isinstance(error, OperationalError):  # its text may name the address and the user
            say("the database is not reached: see that it runs and that DIAL16_DATABASE_URL is right")
        elif isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
            say("the live store is not reached: see that it runs and that DIAL16_REDIS_URL is right")
        elif isinstance(error, refusals()):
            for line in str(error).splitlines():
                say(line)
        elif isinstance(error, OSError) and (told := about_file(error)):
            say(told)
        else:
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
