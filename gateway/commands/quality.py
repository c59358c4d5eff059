"""The quality report of a wave: `main.py quality`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import wave_or_first
from gateway.settings import Settings

if TYPE_CHECKING:
    from storage.analysis.quality_parts import Quality


def commands(context: Callable[..., Settings]) -> typer.Typer:
    """The verb; `context` reads the settings."""
    app = typer.Typer()

    @app.command()
    def quality(
        wave: Annotated[str, typer.Option(help="A wave by its id; the wave file's if not given.")] = "",
        out: Annotated[
            Path | None, typer.Option(help="Folder for quality.json and quality.html. None: a summary only.")
        ] = None,
        staff: Annotated[
            bool,
            typer.Option("--staff", help="With --out: exact figures, and a list of the flagged interviews."),
        ] = False,
        margins: Annotated[
            Path | None, typer.Option(help="The office's population totals, CSV, not the release file's.")
        ] = None,
        wealth: Annotated[
            Path | None, typer.Option(help="The office's wealth score, TOML, not the release file's.")
        ] = None,
        simulated: Annotated[
            bool,
            typer.Option("--simulated", help="With interviews made up here: a demonstration, told as one."),
        ] = False,
    ) -> None:
        """How good a wave's data are: response, break-off, missing answers, doubtful interviews, coverage."""
        from datetime import UTC, datetime

        from storage.analysis.making import planned_draw
        from storage.analysis.plan import load_plan
        from storage.analysis.quality import aapor_rates
        from storage.analysis.quality import quality as report_of
        from storage.analysis.quality_files import earlier_reports, public_files, staff_files, write_files
        from storage.analysis.release import all_versions
        from storage.database import check_schema, open_engine

        if staff and out is None:
            raise typer.BadParameter("--staff writes files: give --out FOLDER too")
        settings = context(run_folder=True)
        ours = wave_or_first(settings, wave)
        instrument, name = ours.instrument, wave or ours.id
        plan = load_plan(settings.release_file, instrument, margins=margins, wealth=wealth)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        made = report_of(
            engine, instrument, name, made=datetime.now(UTC).date(),
            rates=aapor_rates(engine, name, simulated), margins=plan.margins, wealth=plan.wealth,
            limits=plan.limits, fewest=plan.fewest, probability_sample=plan.probability_sample,
            draw=planned_draw(engine, name, plan), simulated=simulated,
        )  # fmt: skip
        engine.dispose()
        if not made.quality.interviews:
            if made.quality.left_out:
                typer.echo(
                    f"Wave {name} has no interviews but {made.quality.left_out:,} made up with the simulator;"
                    " count them with --simulated.",
                    err=True,
                )
            else:
                typer.echo(f"Wave {name} has no interviews; see `main.py wave list`.", err=True)
            raise typer.Exit(1)
        _say(made.quality)
        if out is None:
            typer.echo("Write the report with: python main.py quality --out FOLDER")
            return
        if staff:
            files = staff_files(made, instrument)
        else:
            earlier = [r.estimates for r in all_versions(settings.releases_dir, name)]
            out_already = earlier_reports(settings.releases_dir, name)
            files = public_files(made.quality, instrument, plan.rules, earlier, out_already)
        for path in write_files(files, out):
            typer.echo(path)

    return app


def _say(report: "Quality") -> None:
    """The summary, exact: a terminal is staff's."""
    from rich.console import Console
    from rich.table import Table

    def percent(share: float | None) -> str:
        return "" if share is None else f"{share:.1%}"

    table = Table("", "n", "of", "share", title=f"Wave {report.wave}: quality of the data")
    for p in (report.completion, *report.dispositions):
        table.add_row(
            "completed" if p is report.completion else p.key, f"{p.n:,}", f"{p.of:,}", percent(p.share)
        )
    table.add_section()
    for p in (*report.flags, report.doubtful):
        table.add_row(f"flag: {p.key}", f"{p.n:,}", f"{p.of:,}", percent(p.share))
    table.add_section()
    for d in report.deliveries:
        for fate in (f for f in d.fates if f.n):
            row = f"{d.kind}, {d.network or 'network not known'}: {fate.key}"
            table.add_row(row, f"{fate.n:,}", f"{fate.of:,}", percent(fate.share))
    Console().print(table)
    if report.simulated:
        typer.echo(
            f"Demonstration: {report.simulated:,} of {report.interviews:,} interviews were made up with the"
            " simulator."
        )
    if report.left_out:
        typer.echo(
            f"Left out: {report.left_out:,} interviews made up with the simulator (--simulated counts them)."
        )
    for rate in report.rates.rates if report.rates else ():
        typer.echo(f"{rate.name} {percent(rate.value)}  {rate.formula}")
    for w in report.weights if report.weighted or report.design_weighted else ():
        typer.echo(f"Design effect of weighting{f' ({w.block})' if w.block else ''}: {w.deff:.2f}")
    if report.no_figures:
        typer.echo(f"No figures without the doubtful interviews: {report.no_figures}")
