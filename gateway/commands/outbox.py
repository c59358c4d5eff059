"""`messages` and `sending`: what was and is to be sent, and by whom."""

from typing import Annotated

import typer

from gateway.commands import Context


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def messages() -> None:
        """Show how many messages there are by kind and state; no number and no text."""
        from rich.console import Console
        from rich.table import Table

        from storage.database import check_schema, open_engine
        from storage.sweep import counts

        settings = context()
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
        from storage.embedded import embedded_url
        from storage.rates import paused_senders
        from storage.rates import resume as close_breakers

        settings = context(run_folder=True)
        live = connect(settings.redis_url or embedded_url(settings.data_dir))
        paused = paused_senders(live)
        for p in paused:
            until = "a person resumes it" if p.until is None else f"{p.until:%H:%M:%S} UTC"
            name = f"{p.aggregator} {p.sender or '(default)'}"
            typer.echo(f"{name}: paused since {p.since:%Y-%m-%d %H:%M:%S} UTC until {until}: {p.code}")
        if not paused:
            typer.echo("No sender is paused.")
        elif resume:
            typer.echo(f"Resumed: {close_breakers(live, paused)}")

    return app
