"""Dial 16 on the command line, and its composition root: settings are read here and nowhere else.

Each verb imports what it runs when it runs, so that `--help` is at once there and one verb does not
need what another one does.
"""

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import quality, release
from gateway.settings import PREFIX, RUN_ENV, SECRETS, Settings, SettingsError, make_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy import Engine

    from flows.wave import Wave
    from gateway.results import ResultsPages

#: In the data folder: archives of exports that workers made.
EXPORTS_FOLDER = "exports"
#: In the data folder: each night's copy of the data.
SNAPSHOTS_FOLDER = "snapshots"

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
    analysts = None
    if settings.api_tokens:
        from gateway.analysts import Analysts

        analysts = Analysts(
            settings.api_tokens, database_url=settings.database_url, live_url=settings.redis_url,
            wave=wave, key=settings.pseudonym_key, data_dir=settings.data_dir,
        )  # fmt: skip
    application = create_app(
        wave=wave,
        live_url=settings.redis_url,
        database_url=settings.database_url,
        pseudonym_key=settings.pseudonym_key,
        secrets=settings.webhook_secrets,
        simulator_secret=settings.simulator_secret if settings.simulator else None,
        live_days=settings.live_days,
        analysts=analysts,
        results=public_pages(settings, wave),
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


def public_pages(settings: Settings, wave: "Wave") -> "ResultsPages":
    """Results and open data, from the releases' folder. Raises MapError."""
    from gateway.pages.boundaries import load_boundaries
    from gateway.published import Published
    from gateway.results import ResultsPages
    from gateway.results_page import regions_of

    boundaries = (
        load_boundaries(settings.map_file, regions_of(wave.instrument)) if settings.map_file else None
    )
    return ResultsPages(
        Published(settings.releases_dir), wave.instrument, boundaries=boundaries, address=settings.web_address
    )


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
    Recorder(live, engine, f"{socket.gethostname()}-{os.getpid()}").run(stop.is_set)


@app.command()
def work() -> None:
    """Run queued and recurring jobs: an RQ worker, one or several."""
    from datetime import datetime, timedelta

    from sqlalchemy.exc import OperationalError

    from gateway import jobs
    from storage.database import check_schema, open_engine
    from storage.record import close_unfinished

    settings = read_settings("REDIS_URL")
    log_to_stderr(settings)
    window = timedelta(hours=read_wave(settings).resume_hours)

    def close(now: datetime) -> int:
        engine = open_engine(settings.database_url)
        check_schema(engine)
        return close_unfinished(engine, now - window)

    engine = open_engine(settings.database_url)
    try:
        check_schema(engine)
    except OperationalError:  # jobs ask again
        say("the database is not reached; jobs that need it are done once it is back")
    finally:
        engine.dispose()
    composition = jobs.Composition(
        close_unfinished=close,
        make_export=lambda export: make_export(settings, export),
        sweep_exports=lambda now: sweep_exports(settings, now),
        answer_query=lambda query: answer_query(settings, query),
        waiting_queries=lambda now: waiting_queries(settings, now),
    )
    jobs.work(settings.redis_url, composition)


def make_export(settings: Settings, export: str) -> None:
    """What a worker does for an export asked for with --job."""
    from storage.analysis.exports import ledger
    from storage.analysis.exports.microdata import Values
    from storage.database import check_schema, open_engine

    if not settings.pseudonym_key:
        raise SettingsError([f"{PREFIX}PSEUDONYM_KEY: is not set; a worker that makes exports needs it"])
    engine = open_engine(settings.database_url)
    check_schema(engine)
    wave = read_wave(settings)
    about = Values(wave.owner, wave.contact, wave.code)
    archives = settings.data_dir / EXPORTS_FOLDER
    ledger.make(engine, wave.instrument, settings.pseudonym_key, archives, export, about)
    engine.dispose()


def answer_query(settings: Settings, query: str) -> None:
    """What a worker does for a question that staff asked on their results page."""
    from storage.analysis import queries
    from storage.database import check_schema, open_engine

    engine = open_engine(settings.database_url)
    check_schema(engine)
    wave = read_wave(settings)
    queries.answer(engine, wave.instrument, settings.releases_dir, query, settings.release_file, wave.owner)
    engine.dispose()


def waiting_queries(settings: Settings, now: "datetime") -> list[str]:
    """Removes answers a day old; ids of the questions still to be answered."""
    from storage.analysis import queries
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    left = queries.waiting(engine, now)
    engine.dispose()
    return left


def sweep_exports(settings: Settings, now: "datetime") -> list[str]:
    """Removes expired exports; the ids of those that are still to be made."""
    from storage.analysis.exports import ledger
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    ledger.sweep(engine, settings.data_dir / EXPORTS_FOLDER, now)
    left = ledger.waiting(engine)
    engine.dispose()
    return left


def take_snapshot(settings: Settings, now: "datetime") -> None:
    """What a worker does each night, if DIAL16_SNAPSHOT is on."""
    from storage.analysis import snapshot
    from storage.analysis.exports.microdata import Values
    from storage.analysis.released import keep_releases
    from storage.database import check_schema, open_engine

    if not settings.pseudonym_key:
        raise SettingsError([f"{PREFIX}PSEUDONYM_KEY: is not set; a worker that takes snapshots needs it"])
    engine = open_engine(settings.database_url)
    check_schema(engine)
    wave = read_wave(settings)
    about = Values(wave.owner, wave.contact, wave.code)
    keep_releases(engine, settings.releases_dir)
    snapshot.take_snapshot(
        engine, wave.instrument, settings.pseudonym_key, settings.data_dir / SNAPSHOTS_FOLDER, now, about
    )
    engine.dispose()


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema, with the instrument's codebook and the views."""
    settings = read_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate_to_release(settings, read_wave(settings))
    typer.echo("The database has this release's schema.")


def migrate_to_release(settings: Settings, wave: "Wave") -> None:
    """The schema, the instrument with its codebook, and the views."""
    from storage.analysis.released import keep_releases
    from storage.database import migrate as migrate_database
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    migrate_database(engine, wave.instrument)
    keep_releases(engine, settings.releases_dir)
    engine.dispose()


@app.command()
def analyst(
    name: Annotated[str, typer.Argument(help="The login: lower-case letters, digits, _.")],
    out: Annotated[Path | None, typer.Option(help="Where to write its .pgpass line.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the login away.")] = False,
) -> None:
    """Make a PostgreSQL login that may read the schema `analytics` and nothing else, or renew its password.

    The password is written to a file that only you may read; it is never shown.
    """
    import tempfile

    from storage.analysis.analyst_role import give_login, take_login
    from storage.database import check_schema, open_engine

    settings = read_settings(run_folder=True)
    engine = open_engine(settings.database_url)
    check_schema(engine)
    if remove:
        take_login(engine, name)
        typer.echo(f"{name} is taken away.")
        return
    path = out or Path(f"{name}.pgpass")
    try:  # first the file, readable by its owner alone: if it cannot be written, the login stays as it was
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".pgpass.")
    except OSError as error:
        raise typer.BadParameter(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            login = give_login(engine, name)
            file.write(login.pgpass())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    typer.echo(f"{name} {'is made' if login.new else 'has a new password'}: {path}. See docs/api.md.")


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
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")] = Path("export"),
    out: Annotated[Path | None, typer.Option(help="The same as FOLDER.")] = None,
    variant: Annotated[
        str, typer.Option(help="scientific or public: files for others. Neither: CSV for the office itself.")
    ] = "",
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="csv, xlsx, spss, stata, parquet, syntax, ddi, datapackage; repeatable."
        ),
    ] = None,
    all_formats: Annotated[bool, typer.Option("--all", help="Every format.")] = False,
    by: Annotated[str, typer.Option(help="Who has it made: kept in the book of exports.")] = "",
    wave: Annotated[str, typer.Option(help="A wave by its id; all if not given.")] = "",
    purpose: Annotated[
        str,
        typer.Option(help="Exports of one variant and purpose have the same ids; by default each its own."),
    ] = "",
    language: Annotated[str, typer.Option(help="Of the labels; the instrument's first if not given.")] = "",
    weights: Annotated[
        Path | None, typer.Option(help="Final weights: a CSV file interview,weight with the database's ids.")
    ] = None,
    excel: Annotated[
        bool, typer.Option("--excel", help="CSV with the mark by which Excel knows UTF-8.")
    ] = False,
    simulated: Annotated[bool, typer.Option("--simulated", help="With interviews made up here.")] = False,
    job: Annotated[
        bool, typer.Option("--job", help="A worker makes it, as one archive; prints its id.")
    ] = False,
) -> None:
    """Write the interviews of all waves, told apart in column `wave`.

    Plain: long, wide and codebook as CSV, with the database's own ids, for the office itself. With
    --variant, --format or --all: files for others, with ids of their own. See docs/exports.md.
    """
    from storage.analysis.dictionary import SCIENTIFIC
    from storage.analysis.exports import ledger
    from storage.analysis.exports.formats import EXPORTS
    from storage.analysis.exports.microdata import Asked, Values
    from storage.database import check_schema, open_engine

    folder = out or folder
    for_others = bool(variant or formats or all_formats or job)
    settings = read_settings(*(["PSEUDONYM_KEY"] if for_others else []), run_folder=True)
    engine = open_engine(settings.database_url)
    check_schema(engine)
    ours = read_wave(settings)
    if not for_others:
        export_for_ourselves(engine, ours, folder, by)
        return
    asked = Asked(
        variant or SCIENTIFIC, purpose or ledger.new_purpose(), wave or None, language, simulated, excel
    )
    wanted = list(EXPORTS) if all_formats else formats or ["csv"]
    if job:
        if weights is not None:
            raise typer.BadParameter(
                "--weights is a file of this machine: make the export here, without --job"
            )
        typer.echo(enqueue_export(settings, ledger.ask(engine, asked, wanted, by)))
        return
    about = Values(ours.owner, ours.contact, ours.code)
    with progress_bars() as told:
        made = ledger.export_now(
            engine, ours.instrument, asked, settings.pseudonym_key, folder, wanted, by,
            weights=weights, about=about, progress=told,
        )  # fmt: skip
    typer.echo("\n".join(map(str, made.files)))


def export_for_ourselves(engine: "Engine", wave: "Wave", folder: Path, by: str) -> None:
    """The plain CSV files, written down in the book of exports like any other."""
    import getpass
    from hashlib import sha256

    from storage.analysis.export import export_csv
    from storage.analysis.exports import ledger
    from storage.analysis.exports.formats import sums_of
    from storage.analysis.exports.microdata import Asked

    rows = 0
    with (
        progress_bars() as told,
        ledger.audited(engine, Asked(ledger.INTERNAL, ""), ["csv"], by or getpass.getuser()) as (
            noted,
            finished,
        ),
    ):

        def both(name: str, done: int, total: int) -> None:
            nonlocal rows
            rows = done if name == "wide.csv" else rows
            told(name, done, total)
            noted(name, done, total)

        written = export_csv(engine, wave.instrument, folder, both)
        finished(rows, sha256(sums_of(written).encode()).hexdigest())
    typer.echo("\n".join(map(str, written)))


def enqueue_export(settings: Settings, export: str) -> str:
    """Have a worker make it; its id."""
    from gateway import jobs
    from storage.embedded import embedded_url

    queue, connection = jobs.open_queue(settings.redis_url or embedded_url(settings.data_dir))
    jobs.enqueue_export(queue, export)
    connection.close()
    return export


@contextmanager
def progress_bars() -> "Iterator[Callable[[str, int, int], None]]":
    """A bar for each step, on the terminal."""
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress() as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield told


app.add_typer(release.commands(read_settings), name="release")
app.add_typer(quality.commands(read_settings))


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
    from gateway.pages.boundaries import MapError
    from gateway.supervisor import RunError
    from storage.analysis.analyst_role import RoleError
    from storage.analysis.dictionary import DictionaryError
    from storage.analysis.exports.microdata import ExportError
    from storage.analysis.exports.sdmx import MappingError
    from storage.analysis.exports.sdmx_check import SdmxError
    from storage.analysis.exports.sdmx_structure import StructureError
    from storage.analysis.release import ReleaseError
    from storage.database import DatabaseURLError, SchemaError
    from storage.embedded import EmbeddedError
    from storage.resp import Unavailable
    from storage.respondents import OtherKeyError

    return (
        SettingsError, InstrumentError, RunError, EmbeddedError, DemoError, DatabaseURLError, SchemaError,
        OtherKeyError, Unavailable, ExportError, DictionaryError, RoleError,
        MapError, ReleaseError, MappingError, StructureError, SdmxError, *_of_analysis(),
    )  # fmt: skip


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
        else:
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
