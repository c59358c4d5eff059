"""Publishing a wave's figures, and looking at what is out: the verbs of `main.py release`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import need_wave, wave_or_first, weights
from gateway.settings import Settings

if TYPE_CHECKING:
    from flows.wave import Wave
    from storage.analysis.estimates import Estimate
    from storage.analysis.labels import Labels
    from storage.analysis.making import Draft
    from storage.analysis.publishing import Sdmx
    from storage.analysis.release import Release

_MAPPINGS = Path(__file__).resolve().parent.parent.parent / "deploy" / "sdmx"
_LISTED = 40  # hidden figures that a dry run names, unless all are asked for

WaveOption = Annotated[str, typer.Option("--wave", help="A wave by its id; the wave file's if not given.")]


def commands(context: Callable[..., Settings]) -> typer.Typer:
    """The verbs; `context` reads the settings."""
    app = typer.Typer(help="Publish the figures of a wave; list, check and show what is out.")

    @app.command()
    def make(
        wave: WaveOption = "",
        margins: Annotated[
            Path | None,
            typer.Option(help="The office's population totals, CSV, instead of the release file's."),
        ] = None,
        wealth: Annotated[Path | None, typer.Option(help="Its wealth score, likewise.")] = None,
        cross: Annotated[
            list[str] | None,
            typer.Option(help="A two-way table, region,sex; repeatable, instead of the release file's."),
        ] = None,
        reason: Annotated[
            str, typer.Option(help="Why there is a new version; needed from the second on.")
        ] = "",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Write nothing: say what would be hidden, and why.")
        ] = False,
        everything: Annotated[
            bool, typer.Option("--all", help="With --dry-run: name every hidden figure, and every fault.")
        ] = False,
        simulated: Annotated[
            bool,
            typer.Option(
                "--simulated",
                help="With interviews made up here; every page says so. On a wave of its own, for it"
                " binds the next version.",
            ),
        ] = False,
    ) -> None:
        """Publish a wave's figures as its next version, from answers to folder; or try it with --dry-run."""
        from dataclasses import replace
        from datetime import UTC, datetime

        from storage.analysis import making
        from storage.analysis.deviations import deviations_of
        from storage.analysis.differencing import in_short
        from storage.analysis.material import material_of
        from storage.analysis.plan import checked_cross, load_plan
        from storage.analysis.publishing import check_reason
        from storage.analysis.quality import aapor_rates, quality
        from storage.analysis.quality_files import earlier_reports, public_files
        from storage.analysis.release import ReleaseError, all_versions
        from storage.analysis.released import keep_releases
        from storage.analysis.weights import final_weights, keep_weights
        from storage.database import check_schema, open_engine

        settings = context(run_folder=True)
        ours = wave_or_first(settings, wave)
        instrument = ours.instrument
        plan = load_plan(settings.release_file, instrument, margins=margins, wealth=wealth)
        if cross is not None:
            try:
                pairs = tuple(
                    checked_cross([v.strip() for v in c.split(",")], instrument, plan.wealth) for c in cross
                )
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
            plan = replace(plan, crosses=pairs)
        name, out = wave or ours.id, settings.releases_dir
        if not dry_run:
            check_reason(name, all_versions(out, name), reason)
        publisher = making.Publisher(
            ours.owner, ours.contact, software(), settings.licence,
            f"{settings.web_address}/results" if settings.web_address else "", _sdmx(settings),
        )  # fmt: skip
        today = datetime.now(UTC).date()
        engine = open_engine(settings.database_url)
        check_schema(engine)
        if wave:
            need_wave(engine, settings, wave)
        with bars() as told:
            made = making.draft(
                engine, instrument, name, out, plan, told=told, simulated=simulated
            )  # fmt: skip
        _say_draft(made, _labels(ours), everything, dry_run)
        if dry_run:
            if not made.faults:
                making.make_release(
                    made, instrument, out, plan, publisher, issued=today, simulated=simulated, dry_run=True
                )
            typer.echo("Nothing was written.")
            if made.faults:
                typer.echo("It would be refused:", err=True)
                typer.echo("\n".join(made.faults) if everything else in_short(made.faults), err=True)
                raise typer.Exit(1)
            return
        report = quality(
            engine, instrument, name, made=today,
            rates=aapor_rates(engine, name, simulated), margins=plan.margins, wealth=plan.wealth,
            limits=plan.limits, fewest=plan.fewest, probability_sample=plan.probability_sample,
            draw=made.draw, simulated=simulated,
        )  # fmt: skip
        made_up = made.table.basis.simulated
        final = None if made_up else final_weights(engine, instrument, name, plan, made.draw)
        if material_of(engine, instrument, name, plan.wealth, made.draw, simulated) != made.material:
            raise ReleaseError(f"wave {name}: answers came in meanwhile; make the release again")
        beside = deviations_of(instrument) | public_files(
            report.quality, instrument, plan.rules,
            [*(r.estimates for r in (*all_versions(out, name), *made.served.tables)), made.marked],
            earlier_reports(out, name),
        )  # fmt: skip
        folder = making.make_release(
            made, instrument, out, plan, publisher, issued=today, reason=reason, simulated=simulated,
            beside=beside,
        )  # fmt: skip
        keep_weights(engine, final, int(folder.name))
        keep_releases(engine, out, name)  # earlier versions that the database lacks
        engine.dispose()
        if made_up:
            typer.echo("A demonstration: no final weights are kept, so exports have base weights only.")
        typer.echo(folder)

    @app.command(name="list")
    def list_releases() -> None:
        """Every version of every wave."""
        from rich.console import Console
        from rich.table import Table

        from storage.analysis.release import all_versions, waves

        out = context(run_folder=True).releases_dir
        table = Table("wave", "", "issued", "respondents", "weights", "figures", "hidden", "why")
        for column in table.columns[:-1]:
            column.no_wrap = True
        for name in waves(out):
            for release in all_versions(out, name):
                hidden = sum(e.mark in ("c", "u") for e in release.estimates)
                table.add_row(
                    name, str(release.version), release.issued, f"{release.interviews:,}",
                    _weights(release), f"{len(release.estimates):,}", f"{hidden:,}",
                    release.reason,
                )  # fmt: skip
        if not table.row_count:
            typer.echo(f"No release in {out}. Make one with: python main.py release make")
            return
        Console().print(table)

    @app.command()
    def verify(
        wave: Annotated[str, typer.Argument(help="A wave by its id; all if not given.")] = "",
        version: Annotated[int, typer.Argument(help="One version; all if not given.")] = 0,
    ) -> None:
        """Compare the published files with the checksums they were issued with; exit 1 on any difference."""
        from storage.analysis import publishing
        from storage.analysis.release import versions, wave_folder, waves

        out = context(run_folder=True).releases_dir
        folders = [
            wave_folder(out, name) / str(v)
            for name in ([wave] if wave else waves(out))
            for v in ([version] if version else versions(out, name))
        ]
        if not folders:
            typer.echo(f"No release of {wave or 'any wave'} in {out}.", err=True)
            raise typer.Exit(1)
        faults = 0
        for folder in folders:
            found = publishing.verify(folder)
            faults += len(found)
            typer.echo("\n".join(found) if found else f"{folder}: as issued")
        raise typer.Exit(1 if faults else 0)

    @app.command()
    def show(
        wave: WaveOption = "",
        version: Annotated[int, typer.Option(help="The newest if not given.")] = 0,
        by: Annotated[str, typer.Option(help="A variable, or two: region,sex. None: national.")] = "",
        measure: Annotated[str, typer.Option(help="overall, attributes, or an item's id.")] = "overall",
    ) -> None:
        """Print published figures."""
        from rich.console import Console

        ours, release = issued(context(run_folder=True), wave, version)
        variables = tuple(v.strip() for v in by.split(",") if v.strip())
        rows = [
            e
            for e in release.estimates
            if e.measure == measure and tuple(v for v, _ in e.domain) in (variables, variables[::-1])
        ]
        if not rows:
            typer.echo(f"The release has no figures of {measure} by {by or 'nothing'}.", err=True)
            raise typer.Exit(1)
        Console().print(_figures(release, rows, _labels(ours)))
        if release.caution:
            typer.echo(release.caution)

    weights.add_verbs(app, context)
    return app


def issued(settings: Settings, wave: str, version: int) -> tuple["Wave", "Release"]:
    """The wave asked for, or the first, and its release of this version; 0: the newest. Exits without one."""
    from storage.analysis.release import latest, load_release, wave_folder

    ours, out = wave_or_first(settings, wave), settings.releases_dir
    name = wave or ours.id
    release = load_release(wave_folder(out, name) / str(version)) if version else latest(out, name)
    if release is None:
        typer.echo(f"Wave {name} has no release in {out}; see: python main.py release list", err=True)
        raise typer.Exit(1)
    return ours, release


def software() -> str:
    """What made a release: name and version, with the commit where the program runs in its repository."""
    import subprocess
    import tomllib

    root = Path(__file__).resolve().parent.parent.parent
    try:
        version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        version = ""
    commit = ""
    if (root / ".git").exists():
        try:
            ran = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty"],
                capture_output=True, text=True, timeout=10, check=False,
            )  # fmt: skip
            commit = ran.stdout.strip() if ran.returncode == 0 else ""
        except (OSError, subprocess.TimeoutExpired):
            commit = ""
    return " ".join(part for part in ("Dial 16", version, f"({commit})" if commit else "") if part)


def _labels(wave: "Wave") -> "Labels":
    from storage.analysis.labels import labels_of

    return labels_of(wave.instrument)


def _sdmx(settings: Settings) -> "Sdmx | None":
    """The mappings whose structure file the office has put into its folder."""
    from storage.analysis.exports.sdmx import load_mapping
    from storage.analysis.publishing import Sdmx
    from storage.analysis.release import ReleaseError

    if settings.sdmx_dir is None:
        return None
    mappings = {path.stem: path for path in sorted(_MAPPINGS.glob("*.toml"))}
    wanted = {name: load_mapping(path).structure for name, path in mappings.items()}
    there = {name: mappings[name] for name, file in wanted.items() if (settings.sdmx_dir / file).is_file()}
    if not there:
        raise ReleaseError(
            f"{settings.sdmx_dir}: holds none of {', '.join(sorted(wanted.values()))}; put the structure"
            " files there (docs/releases.md says where from), or leave DIAL16_SDMX_DIR unset"
        )
    for name in wanted.keys() - there.keys():
        typer.echo(f"dial16: no {wanted[name]} in {settings.sdmx_dir}: no SDMX files for {name}", err=True)
    return Sdmx(settings.sdmx_dir, there)


def _weights(release: "Release") -> str:
    """What weighted it, in a word."""
    return "raked" if release.weighted else "design" if release.design_weighted else "none"


def _say_draft(made: "Draft", labels: "Labels", everything: bool, dry_run: bool) -> None:
    """What the release rests on and what its rules hide."""
    from rich.console import Console
    from rich.table import Table

    basis, console = made.table.basis, Console()
    typer.echo(
        f"Wave {basis.wave}, {basis.period}: {basis.respondents:,} respondents of {basis.interviews:,}"
        f" interviews on {', '.join(basis.instruments)}; "
        f"{len(made.marked):,} figures, {len(made.hidden):,} hidden; how people answered:"
        f" {len(made.answers):,} shares, {sum(a.figure.mark in ('c', 'u') for a in made.answers):,} hidden."
    )
    for block, report in made.table.rakings.items():
        typer.echo(
            f"Raked ({block}): {report.sweeps} sweeps, weights {report.least_weight:.2f} to"
            f" {report.most_weight:.2f}, design effect {report.deff_before:.2f} to {report.deff_after:.2f}."
        )
        for joined in report.joined:
            typer.echo(
                f"  table {joined.table}: {joined.category} ({joined.respondents} respondents)"
                f" joined {joined.into}"
            )
    if made.table.margins is None:
        typer.echo(
            "No margins were given: unweighted, and every figure says so."
            if made.draw is None
            else "No margins were given: weighted by the sample's design only, not to the population."
        )
    reasons = Table("hidden because", "figures", title="What is hidden")
    counts: dict[str, int] = {}
    for e in made.hidden:
        counts[e.notes[-1]] = counts.get(e.notes[-1], 0) + 1
    for why, n in sorted(counts.items(), key=lambda pair: -pair[1]):
        reasons.add_row(why, f"{n:,}")
    if counts:
        console.print(reasons)
    if dry_run and made.hidden:
        listed = made.hidden if everything else made.hidden[:_LISTED]
        each = Table("figure", "who", "base", "mark", "why")
        for e in listed:
            each.add_row(labels.figure(e), labels.domain(e.domain), str(e.n), e.mark, e.notes[-1])
        console.print(each)
        if len(listed) < len(made.hidden):
            typer.echo(f"{len(made.hidden) - len(listed):,} more; name them with --all.")


def _figures(release: "Release", rows: "Sequence[Estimate]", labels: "Labels") -> object:
    from rich.table import Table

    from storage.analysis.exports.figures import MARKS
    from storage.analysis.release import percent

    table = Table(
        "figure", "who", "per cent", "95 % interval", "respondents", "",
        title=f"Wave {release.wave}, version {release.version}, {release.issued}",
    )  # fmt: skip
    for e in rows:
        shown = e.mark not in ("c", "u")
        table.add_row(
            labels.figure(e), labels.domain(e.domain), percent(e.share),
            f"{percent(e.low)} to {percent(e.high)}" if shown and e.low is not None else "",
            "" if e.mark == "c" else f"{e.n:,}", "" if not e.mark else MARKS[e.mark],
        )  # fmt: skip
    return table


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step, on the terminal's error side: the result stays alone on its own."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True)) as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield told
