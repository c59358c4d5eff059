"""`give-back`: what respondents are shown of a release, and texting it to those who asked."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from gateway.commands import Context, Refused, one_wave, read_waves

WaveOption = Annotated[str, typer.Option(help="The wave's id, where several are fielded.")]
_ALL = 10_000_000


def commands(context: Context) -> typer.Typer:
    app = typer.Typer(
        help="Give the results back: show what people see on their phones; text it to those who asked.",
        no_args_is_help=True,
    )

    @app.command()
    def show(
        wave: WaveOption = "",
        region: Annotated[str, typer.Option(help="A region's id, such as gh_aa.")] = "",
    ) -> None:
        """Show each screen and the text, in every language, as the latest release makes them."""
        from flows.gsm import parts, septets
        from flows.results_pages import results_pages, results_text
        from gateway.giving_back import find_results

        settings = context(run_folder=True)
        ours = one_wave(read_waves(settings), wave)
        found = find_results(settings.releases_dir, ours)
        if found is None or found.results is None:
            raise Refused(
                f"no release of {ours.id} in {settings.releases_dir}; make one: `main.py release make`"
            )
        if region and region not in found.results.regions:
            known = ", ".join(found.results.regions) or "none"
            raise Refused(f"no region {region!r} in the release; there are: {known}")
        for language in ours.languages:
            for name, text in results_pages(found.results, language, region, ours.budget):
                typer.echo(f"--- {language} {name}: {septets(text)} septets\n{text}")
            text = results_text(found.results, language, region)
            typer.echo(f"--- {language} SMS: {septets(text)} septets, {parts(text)} parts\n{text}")

    @app.command()
    def text(
        wave: WaveOption = "",
        most: Annotated[int, typer.Option(min=1, help="At most so many now; again for the next.")] = _ALL,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would be sent, and its cost.")
        ] = False,
        stop: Annotated[bool, typer.Option("--stop", help="Cancel those that have not gone yet.")] = False,
        price: Annotated[str, typer.Option(help="Of one SMS part, for the dry run.")] = "",
        currency: Annotated[str, typer.Option(help="Of that price.")] = "GHS",
    ) -> None:
        """Text the results to those who asked for them, each once, whatever version follows."""
        from gateway.giving_back import find_results
        from gateway.results_by_text import forecast, write
        from storage.database import check_schema, open_engine
        from storage.results_wanted import count_wanted, stop_texts

        settings = context(run_folder=True)
        ours = one_wave(read_waves(settings), wave)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        now = datetime.now(UTC)
        if stop:
            typer.echo(f"{stop_texts(engine, ours.id, now):,} texts cancelled.")
            return
        if not ours.sms_sender:
            raise Refused(f"{ours.file}: sms_sender: there is none to text from; give one")
        found = find_results(settings.releases_dir, ours)
        # An earlier wave's release is no answer to who asked for this one's.
        if found is None or found.results is None or found.results.wave != ours.id:
            raise Refused(
                f"no release of {ours.id} in {settings.releases_dir}; make one: `main.py release make`"
            )
        made = (
            forecast(engine, ours, found.results, most)
            if dry_run
            else write(engine, ours, found.results, most, now)
        )
        waiting, written = count_wanted(engine, ours.id)
        languages = ", ".join(f"{x} {n:,}" for x, n in sorted(made.by_language.items()))
        typer.echo(
            f"{'Would write' if dry_run else 'Written'}: {made.messages:,} texts, {made.parts:,} SMS parts"
            f"{f' ({languages})' if languages else ''}; waiting {waiting:,}, written in all {written:,}"
        )
        if dry_run and price:
            try:
                typer.echo(f"Cost: {Decimal(price) * made.parts:,.2f} {currency}")
            except InvalidOperation:
                raise typer.BadParameter("--price must be a number, such as 0.03") from None

    return app
