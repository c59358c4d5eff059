"""`indicator`: the figures at a glance."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, Refused, need_wave, read_waves, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from flows.wave import Wave


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def indicator(
        csv: Annotated[bool, typer.Option("--csv", help="As CSV, for another program.")] = False,
        wave: Annotated[
            str, typer.Option(help="A wave by its id; each of the wave files' if not given.")
        ] = "",
        all_waves: Annotated[bool, typer.Option("--all-waves", help="All waves pooled.")] = False,
    ) -> None:
        """Show the indicator by service: attribute shares, their mean, the overall share. Unweighted."""
        from storage.database import check_schema, open_engine

        if wave and all_waves:
            raise typer.BadParameter("give --wave or --all-waves")
        settings = context()
        engine = open_engine(settings.database_url)
        check_schema(engine)
        if wave:
            need_wave(engine, settings, wave)
        waves = read_waves(settings)
        known = {w.id: w for w in waves}
        ids: list[str | None] = [None] if all_waves else [wave] if wave else [*known]
        if csv and len(ids) > 1:
            raise Refused(f"several waves are fielded; give --wave, one of {', '.join(known)}")
        for only in ids:
            if not csv:
                say(f"wave {only}; --all-waves pools all" if only else "all waves, pooled")
            show_indicator(engine, known.get(only or "", waves[0]), only, csv)

    return app


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
