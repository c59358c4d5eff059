"""`erase`: respondents who ask the office."""

import sys

import typer

from gateway.commands import Context, read_waves, say


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def erase() -> None:
        """Withdraw a respondent who asks the office for it: the number is asked for, never an argument.

        Their answers and their number leave the live store and the database, and they are never invited
        again, also who was only invited. The receipt is printed, to be told to them: - without an interview.
        """
        import asyncio

        from gateway.erasure import erase_respondent
        from storage.embedded import embedded_url

        settings = context("PSEUDONYM_KEY", run_folder=True)
        waves = read_waves(settings)
        msisdn = typer.prompt("Number, in international form (+...)", hide_input=sys.stdin.isatty())
        erased = asyncio.run(
            erase_respondent(
                "+" + "".join(c for c in msisdn if c.isdigit()),
                waves=waves,
                live_url=settings.redis_url or embedded_url(settings.data_dir),
                database_url=settings.database_url,
                pseudonym_key=settings.pseudonym_key,
                live_days=settings.live_days,
            )
        )
        if not erased.known:
            say("nobody is known by that number here; nothing to erase")
            raise typer.Exit(1)
        typer.echo(f"Erased. Receipt: {', '.join(erased.receipts) or '-'}. Interviews: {erased.interviews}.")

    return app
