"""Weights behind a release, two more verbs of `main.py release`: keep them anew, and check their errors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import wave_or_first
from gateway.settings import Settings

if TYPE_CHECKING:
    from storage.analysis.replicates import Checked

WaveOption = Annotated[str, typer.Option("--wave", help="A wave by its id; the wave file's if not given.")]
MarginsOption = Annotated[
    Path | None, typer.Option(help="The office's population totals, CSV, instead of the release file's.")
]
WealthOption = Annotated[Path | None, typer.Option(help="Its wealth score, likewise.")]


def add_verbs(app: typer.Typer, context: Callable[..., Settings]) -> None:
    """Give `release` its verbs about weights; `context` reads the settings."""

    @app.command()
    def weights(
        wave: WaveOption = "",
        version: Annotated[int, typer.Option(help="The newest if not given.")] = 0,
        margins: MarginsOption = None,
        wealth: WealthOption = None,
    ) -> None:
        """Keep a release's final weights in the database once more, where making it ended before that.

        Refused where they would not be those that its figures were made with.
        """
        from gateway.commands.release import bars, issued
        from storage.analysis.plan import load_plan
        from storage.analysis.released import check_kept, keep_releases
        from storage.analysis.weights import keep_weights, remade_weights
        from storage.database import check_schema, open_engine, reading

        settings = context(run_folder=True)
        ours, release = issued(settings, wave, version)
        plan = load_plan(settings.release_file, ours.instrument, margins=margins, wealth=wealth)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        with reading(engine) as db:
            check_kept(db, settings.releases_dir, release.wave)
        with bars() as told:
            made = remade_weights(engine, ours.instrument, release, plan, told)
            keep_releases(engine, settings.releases_dir, release.wave)
            kept = keep_weights(engine, made, release.version, told)
        engine.dispose()
        typer.echo(f"Wave {release.wave}, version {release.version}: {kept:,} final weights kept.")

    @app.command()
    def replicates(
        wave: WaveOption = "",
        groups: Annotated[int, typer.Option(help="How many parts to leave out in turn, about.")] = 100,
        margins: MarginsOption = None,
        wealth: WealthOption = None,
        simulated: Annotated[bool, typer.Option("--simulated", help="With interviews made up here.")] = False,
    ) -> None:
        """Check the errors of the national figures by a jackknife, raked anew each time. Writes nothing."""
        from gateway.commands.release import bars
        from storage.analysis.making import planned_draw
        from storage.analysis.plan import load_plan
        from storage.analysis.replicates import replicate_check
        from storage.database import check_schema, open_engine

        if groups < 2:
            raise typer.BadParameter("--groups: give 2 or more")
        settings = context(run_folder=True)
        ours = wave_or_first(settings, wave)
        name = wave or ours.id
        plan = load_plan(settings.release_file, ours.instrument, margins=margins, wealth=wealth)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        with bars() as told:
            found = replicate_check(
                engine, ours.instrument, name, margins=plan.margins, wealth=plan.wealth, limits=plan.limits,
                fewest=plan.fewest, draw=planned_draw(engine, name, plan), simulated=simulated,
                groups=groups, told=told,
            )  # fmt: skip
        engine.dispose()
        if not found:
            typer.echo(f"Wave {name} has no respondents; made-up ones only count with --simulated.", err=True)
            raise typer.Exit(1)
        _say(name, found)


def _say(wave: str, found: "Sequence[Checked]") -> None:
    """Exact figures: a terminal is staff's."""
    from rich.console import Console
    from rich.table import Table

    title = f"Wave {wave}: errors by replicates"
    table = Table("service", "figure", "share", "se", "jackknife se", "ratio", title=title)
    for c in found:
        errors = (_number(x, 4) for x in (c.share, c.se, c.jackknife))
        table.add_row(c.service, c.measure, *errors, _number(c.ratio, 2))
    Console().print(table)
    df, groups = min(c.df for c in found), max(c.groups for c in found)
    by_chance = f"by up to {1.96 / (2 * df) ** 0.5:.2f}" if df > 0 else "without limit"
    typer.echo(
        f"se is the release's, by formulas; jackknife se leaves out {groups} groups of respondents in turn"
        " and weights the others anew. A ratio near 1 says that the formulas hold; with so many groups it"
        f" strays {by_chance} by chance. If most ratios are further above 1, published intervals are too"
        " narrow: look at caps, joins and small categories of the margins."
    )


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
