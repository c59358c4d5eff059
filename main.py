"""Dial 16 on the command line, and its composition root: settings are read here and nowhere else.

Each verb imports what it runs when it runs, so that `--help` is at once there and one verb does not
need what another one does.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import airtime, campaign
from gateway.settings import PREFIX, RUN_ENV, SECRETS, Settings, SettingsError, make_secrets

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from flows.wave import Wave
    from gateway.campaigns import Fielded

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


def read_wave(settings: Settings) -> "Wave":
    """The wave and its instrument, checked whole."""
    from flows.instrument import load
    from flows.wave import load_wave

    return load_wave(settings.wave_file, load(settings.instrument_dir))


def refuse_placeholder(wave: "Wave", settings: Settings) -> None:
    """Raises SettingsError where real respondents would be told a contact that is nobody's."""
    from flows.wave import PLACEHOLDER_CONTACT

    if wave.contact == PLACEHOLDER_CONTACT and not settings.simulator:
        raise SettingsError(
            [
                f"{settings.wave_file}: contact: {PLACEHOLDER_CONTACT} is a placeholder; give the number that"
                f" respondents can call (or set {PREFIX}SIMULATOR=on, for trying things out)"
            ]
        )


def read_fielded(settings: Settings) -> "Fielded":
    """The wave with how it is fielded."""
    from gateway.campaigns import Fielded

    wave = read_wave(settings)
    return Fielded(wave, wave.contacting, wave.opening)


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
        wave, url = read_wave(settings), settings.base_url
        refuse_placeholder(wave, settings)
        dial = wave.code if settings.simulator else ""
        supervisor.run(
            Path(__file__).resolve(),
            settings.data_dir,
            {**os.environ, **settings.environment()},
            url,
            embedded=not settings.redis_url,
            prepare=lambda: migrate_to_release(settings, wave),
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
    wave = read_wave(settings)
    refuse_placeholder(wave, settings)
    application = create_app(
        wave=wave,
        live_url=settings.redis_url,
        database_url=settings.database_url,
        pseudonym_key=settings.pseudonym_key,
        secrets=settings.webhook_secrets,
        simulator_secret=settings.simulator_secret if settings.simulator else None,
        live_days=settings.live_days,
        staff_token=settings.staff_token,
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
def work() -> None:
    """Run queued and recurring jobs: an RQ worker, one or several."""
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
    fielded = read_fielded(settings)
    wave = fielded.wave
    window = timedelta(hours=wave.resume_hours)
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
            windows={wave.id: fielded.window},
            directory_days=settings.directory_days,
        ),
    )

    def close(now: datetime) -> int:
        check_schema(dispatch.engine)
        return close_unfinished(dispatch.engine, now - window)

    try:
        check_schema(dispatch.engine)
    except OperationalError:  # jobs ask again
        say("the database is not reached; jobs that need it are done once it is back")
    thanking = Thanking(dispatch, sends, {wave.id: wave.thanks}) if wave.thanks else None
    campaigns = Campaigns(lambda: dispatch.engine, live, {wave.id: fielded})
    jobs.work(
        settings.redis_url,
        jobs.Composition(close_unfinished=close, dispatch=dispatch, thanking=thanking, campaigns=campaigns),
    )


@app.command()
def messages() -> None:
    """Show how many messages there are by kind and state; no number and no text."""
    from rich.console import Console
    from rich.table import Table

    from storage.database import check_schema, open_engine
    from storage.sweep import counts

    settings = read_settings()
    engine = open_engine(settings.database_url)
    check_schema(engine)
    table = Table("kind", "state", "why", "messages", title="Outbox")
    for kind, state, why, count in counts(engine):
        table.add_row(kind, state, why, f"{count:,}")
    Console().print(table)


@app.command()
def sending(
    resume: Annotated[
        bool, typer.Option("--resume", help="Let paused senders send again: what stopped them is mended.")
    ] = False,
) -> None:
    """Show which senders are paused, and why; or let them send again."""
    from gateway.jobs import connect
    from storage.embedded import socket_path
    from storage.rates import paused_senders
    from storage.rates import resume as close_breakers

    settings = read_settings(run_folder=True)
    live = connect(settings.redis_url or f"unix://{socket_path(settings.data_dir)}")
    paused = paused_senders(live)
    for p in paused:
        until = "a person resumes it" if p.until is None else f"{p.until:%H:%M:%S} UTC"
        name = f"{p.aggregator} {p.sender or '(default)'}"
        typer.echo(f"{name}: paused since {p.since:%Y-%m-%d %H:%M:%S} UTC until {until}: {p.code}")
    if not paused:
        typer.echo("No sender is paused.")
    elif resume:
        typer.echo(f"Resumed: {close_breakers(live, paused)}")


app.add_typer(airtime.commands(read_settings), name="airtime")
app.add_typer(campaign.commands(read_settings, read_fielded), name="campaign")


@app.command()
def fieldwork(
    wave: Annotated[str, typer.Option(help="A wave's id; that of the wave file if not given.")] = "",
) -> None:
    """Show how the fieldwork stands: dispositions, outcome rates, break-offs, messages. Nobody's number."""
    from rich.console import Console

    from gateway.commands.fieldwork import show
    from storage.database import check_schema, open_engine

    settings = read_settings()
    engine = open_engine(settings.database_url)
    check_schema(engine)
    if not show(engine, read_wave(settings), wave, Console()):
        say(f"nobody was invited to a wave {wave!r}, and nobody took part in one; see `main.py fieldwork`")
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema, with the instrument's codebook and the views."""
    settings = read_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate_to_release(settings, read_wave(settings))
    typer.echo("The database has this release's schema.")


def migrate_to_release(settings: Settings, wave: "Wave") -> None:
    """The schema, the instrument with its codebook, and the views."""
    from storage.database import migrate as migrate_database
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    migrate_database(engine, wave.instrument)
    engine.dispose()


# ---------------------------------------------------------------- the instrument


@app.command()
def check(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the diagram and the printable questionnaires.")
    ] = None,
) -> None:
    """Prove the instrument over all its paths, languages and modes; list all faults, exit 1 on any."""
    from flows.check import check_files
    from flows.drawing import draw_flow
    from flows.printed import print_questionnaire

    settings = read_settings()
    wave, walks = check_files(settings.wave_file, settings.instrument_dir)
    for walked in walks:
        typer.echo(
            f"{walked.language} ({walked.status}) {walked.mode}: {walked.screens} screens, the widest"
            f" {walked.widest} septets; {walked.keys} keys tried, {walked.routes} routes, each ends;"
            f" hops: median {walked.median_hops}, most {walked.most_hops}"
            + (f"; parts: median {walked.median_parts}, most {walked.most_parts}" * (walked.mode == "sms"))
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "flow.svg").write_text(draw_flow(wave.instrument), "utf-8")
        for name in wave.instrument.languages:
            printed = print_questionnaire(
                wave.instrument, name, owner=wave.owner, contact=wave.contact, code=wave.code
            )
            (out / f"questionnaire.{name}.md").write_text(printed, "utf-8")
        typer.echo(f"Written to {out}")


# ---------------------------------------------------------------- handsets


@app.command()
def dial(
    code: Annotated[str, typer.Option(help="What to dial; the wave's code if not given.")] = "",
    msisdn: Annotated[str, typer.Option(help="The number to dial from.")] = "+233200000016",
    network: Annotated[str, typer.Option(help="Network code: MCC and MNC.")] = "62001",
    url: Annotated[str, typer.Option(help="The gateway; this machine's if not given.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write the dialogue there as a transcript test.")] = None,
) -> None:
    """A handset in the terminal, against the running service."""
    from gateway import handset

    settings = read_settings(run_folder=True)
    if not settings.webhook_secrets:
        say(f"no service has run in {settings.data_dir}: start one with `make run` in another terminal")
        raise typer.Exit(1)
    status = handset.dial(
        url or settings.base_url,
        settings.simulator_secret,
        code or read_wave(settings).code,
        msisdn,
        network,
        save,
    )
    raise typer.Exit(status)


@app.command()
def demo(
    respondents: Annotated[int, typer.Argument(min=1, max=20_000, help="How many dial.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed plays the same respondents.")] = 16,
    really: Annotated[
        bool,
        typer.Option("--really", help="Into the service that runs here: made-up answers stay in its data."),
    ] = False,
) -> None:
    """Simulated respondents through the real webhook, with drop-outs and duplicates; then the table.

    In a service of its own in a temporary folder, unless --really. Exit 1 unless every answer that was
    acknowledged is recorded, once.
    """
    from gateway.demo import temporary_service
    from gateway.supervisor import not_ready

    settings = read_settings(run_folder=True)
    if not really:
        say("a service of the demonstration's own is started in a temporary folder")
        with temporary_service(
            Path(__file__).resolve(), os.environ, settings.wave_file, settings.instrument_dir
        ) as folder:
            theirs = Settings.from_environment({}, folder / ".env", folder / RUN_ENV, needs=SECRETS)
            passed = _demo(theirs, respondents, seed)
    elif settings.missing_secrets or (reasons := not_ready(settings.base_url)):
        why = "; ".join(reasons) if not settings.missing_secrets else "it has no secrets"
        say(f"no service is ready here ({why}): start one with `make run`, or leave --really out")
        passed = False
    else:
        passed = _demo(settings, respondents, seed)
    raise typer.Exit(0 if passed else 1)


def _demo(settings: Settings, respondents: int, seed: int) -> bool:
    from gateway import demo as demonstration
    from storage.database import open_engine

    wave, engine = read_wave(settings), open_engine(settings.database_url)
    hook = f"{settings.base_url}/hooks/africastalking/{settings.webhook_secrets[0]}/ussd"
    return demonstration.demo(
        wave, hook, engine, settings.pseudonym_key, respondents, seed,
        lambda: show_indicator(engine, wave, wave.id),
    )  # fmt: skip


# ---------------------------------------------------------------- results


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write the CSV files.")] = Path("export"),
) -> None:
    """Write the responses of all waves, told apart in column `wave`, as CSV: long, wide, the codebook."""
    from rich.progress import Progress, TaskID

    from storage.analysis.export import export_csv
    from storage.database import check_schema, open_engine

    settings = read_settings()
    engine = open_engine(settings.database_url)
    check_schema(engine)
    tasks: dict[str, TaskID] = {}
    with Progress() as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        written = export_csv(engine, read_wave(settings).instrument, folder, told)
    typer.echo("\n".join(map(str, written)))


@app.command()
def indicator(
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, for another program.")] = False,
    wave: Annotated[str, typer.Option(help="A wave by its id; the wave file's if not given.")] = "",
    all_waves: Annotated[bool, typer.Option("--all-waves", help="All waves pooled.")] = False,
) -> None:
    """Show the indicator by service: attribute shares, their mean, the overall share. Unweighted."""
    from storage.database import check_schema, open_engine

    if wave and all_waves:
        raise typer.BadParameter("give --wave or --all-waves")
    settings = read_settings()
    engine = open_engine(settings.database_url)
    check_schema(engine)
    ours = read_wave(settings)
    only = None if all_waves else wave or ours.id
    if not csv:
        say(f"wave {only}; --all-waves pools all" if only else "all waves, pooled")
    show_indicator(engine, ours, only, csv)


def show_indicator(engine: "Engine", wave: "Wave", only: str | None, csv: bool = False) -> None:
    """The indicator's rows, of wave `only` or of all, on the standard output."""
    from rich.console import Console

    from storage.analysis.indicator import indicator as compute
    from storage.analysis.indicator import write_csv, write_table

    rows = compute(engine, wave.instrument, only)
    if csv:
        write_csv(rows, sys.stdout)
    else:
        write_table(rows, Console())


@app.command()
def erase() -> None:
    """Withdraw a respondent who asks the office for it: the number is asked for, never an argument.

    Their answers leave the live store and the database; the receipt is printed, to be told to them.
    """
    import asyncio

    from gateway.erasure import erase_respondent
    from storage.embedded import embedded_url

    settings = read_settings("PSEUDONYM_KEY", run_folder=True)
    wave = read_wave(settings)
    msisdn = typer.prompt("Number, in international form (+...)", hide_input=sys.stdin.isatty())
    erased = asyncio.run(
        erase_respondent(
            "+" + "".join(c for c in msisdn if c.isdigit()),
            wave=wave,
            live_url=settings.redis_url or embedded_url(settings.data_dir),
            database_url=settings.database_url,
            pseudonym_key=settings.pseudonym_key,
            live_days=settings.live_days,
        )
    )
    if not erased.receipts and not erased.interviews:
        say("nobody is known by that number here; nothing to erase")
        raise typer.Exit(1)
    typer.echo(f"Erased. Receipt: {', '.join(erased.receipts) or '-'}. Interviews: {erased.interviews}.")


# ---------------------------------------------------------------- words and refusals


def say(message: str) -> None:
    """A line for the operator, apart from what a verb prints as its result."""
    typer.echo(f"dial16: {message}", err=True)


def log_to_stderr(settings: Settings) -> None:
    """Our own log lines at the level set; other people's code from warnings on."""
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("dial16").setLevel(settings.log_level.upper())


def refusals() -> tuple[type[Exception], ...]:
    """Errors that tell the operator what to do; any other is a bug and shows where it came from."""
    from flows.instrument import InstrumentError
    from gateway.demo import DemoError
    from gateway.sampling import SampleError
    from gateway.supervisor import RunError
    from storage.campaigns import CampaignError
    from storage.database import DatabaseURLError, SchemaError
    from storage.embedded import EmbeddedError
    from storage.resp import Unavailable
    from storage.respondents import OtherKeyError

    ours = (SettingsError, InstrumentError, RunError, EmbeddedError, DemoError, CampaignError, SampleError)
    return *ours, DatabaseURLError, SchemaError, OtherKeyError, Unavailable


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
        else:
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
