"""`dial` and `demo`: one handset in the terminal, and many simulated ones."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, Refused, read_waves, say, wave_named
from gateway.commands.results import show_indicator
from gateway.settings import RUN_ENV, SECRETS, Settings

if TYPE_CHECKING:
    from flows.wave import Wave


def commands(context: Context, main: Path, environ: Mapping[str, str]) -> typer.Typer:
    """`main`: the program that a service is started with; `environ`: of its processes."""
    app = typer.Typer()

    @app.command()
    def dial(
        code: Annotated[
            str,
            typer.Option(help="What to dial; the wave's code if not given."),
        ] = "",
        msisdn: Annotated[str, typer.Option(help="The number to dial from.")] = "+233200000016",
        network: Annotated[str, typer.Option(help="Network code: MCC and MNC.")] = "62001",
        url: Annotated[str, typer.Option(help="The gateway; this machine's if not given.")] = "",
        save: Annotated[
            Path | None, typer.Option(help="Write the dialogue there as a transcript test.")
        ] = None,
    ) -> None:
        """A handset in the terminal, against the running service."""
        from gateway import handset

        settings = context(run_folder=True)
        if not settings.webhook_secrets:
            say(f"no service has run in {settings.data_dir}: start one with `make run` in another terminal")
            raise typer.Exit(1)
        status = handset.dial(
            url or settings.base_url,
            settings.simulator_secret,
            code or _code(settings),
            msisdn,
            network,
            save,
        )
        raise typer.Exit(status)

    @app.command()
    def demo(
        respondents: Annotated[int, typer.Argument(min=1, max=20_000, help="How many dial.")] = 200,
        seed: Annotated[int, typer.Option(help="The same seed plays the same respondents.")] = 16,
        wave: Annotated[str, typer.Option(help="A wave by its id; the first open one if not given.")] = "",
        really: Annotated[
            bool,
            typer.Option(
                "--really", help="Into the service that runs here: made-up answers stay in its data."
            ),
        ] = False,
    ) -> None:
        """Simulated respondents through the real webhook, with drop-outs and duplicates; then the table.

        In a service of its own in a temporary folder, unless --really. Exit 1 unless every answer that was
        acknowledged is recorded, once.
        """
        from gateway.demo import temporary_service
        from gateway.supervisor import not_ready

        settings = context(run_folder=True)
        if not really:
            say("a service of the demonstration's own is started in a temporary folder")
            with temporary_service(main, environ, settings.wave_files, settings.instrument_dirs) as folder:
                theirs = Settings.from_environment({}, folder / ".env", folder / RUN_ENV, needs=SECRETS)
                passed = _demo(theirs, wave, respondents, seed)
        elif settings.missing_secrets or (reasons := not_ready(settings.base_url)):
            why = "; ".join(reasons) if not settings.missing_secrets else "it has no secrets"
            say(f"no service is ready here ({why}): start one with `make run`, or leave --really out")
            passed = False
        else:
            passed = _demo(settings, wave, respondents, seed)
        raise typer.Exit(0 if passed else 1)

    return app


def _code(settings: Settings) -> str:
    """The code to dial: the wave's, or the one chosen of several."""
    codes = list(dict.fromkeys(wave.code for wave in read_waves(settings)))
    if len(codes) == 1:
        return codes[0]
    if not sys.stdin.isatty():
        raise Refused(f"several waves are served; give --code, one of {', '.join(codes)}")
    for position, code in enumerate(codes, 1):
        typer.echo(f"{position} {code}")
    number: int = typer.prompt("Dial which", type=int, default=1)
    if not 1 <= number <= len(codes):
        raise Refused(f"choose 1 to {len(codes)}, or give --code")
    return codes[number - 1]


def _demo(settings: Settings, wave_id: str, respondents: int, seed: int) -> bool:
    from gateway import demo as demonstration
    from storage.database import open_engine

    wave, engine = _open_wave(settings, wave_id), open_engine(settings.database_url)
    hook = f"{settings.base_url}/hooks/africastalking/{settings.webhook_secrets[0]}/ussd"
    return demonstration.demo(
        wave, hook, engine, settings.pseudonym_key, respondents, seed,
        lambda: show_indicator(engine, wave, wave.id),
    )  # fmt: skip


def _open_wave(settings: Settings, wave_id: str) -> "Wave":
    """The wave to demonstrate. Raises DemoError if by its times it takes no interviews now."""
    from gateway.demo import DemoError

    waves = (wave_named(settings, wave_id),) if wave_id else read_waves(settings)
    now = datetime.now(UTC)
    for wave in waves:
        if wave.opening.is_open(now):
            return wave
    raise DemoError(f"{', '.join(w.id for w in waves)}: not open now by [opening]; name a wave that is")
