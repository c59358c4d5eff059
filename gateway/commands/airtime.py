"""The airtime ledger on the command line: budgets, totals by state, every payment as CSV; what a person can
settle. Never a number and never a pseudonym."""

import csv as csv_format
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

_HELP = "Show what was given in airtime, by wave: budget, spent, reserved, left, and payments by state."


class Settings(Protocol):
    """What is needed of the settings."""

    @property
    def database_url(self) -> str: ...


def commands(context: Callable[[], Settings]) -> typer.Typer:
    """`context()`: the settings."""
    app = typer.Typer(help=_HELP, invoke_without_command=True)

    @contextmanager
    def database() -> "Iterator[Engine]":
        from storage.database import check_schema, open_engine

        engine = open_engine(context().database_url)
        try:
            check_schema(engine)
            yield engine
        finally:
            engine.dispose()

    @app.callback()
    def show(
        asked: typer.Context,
        csv: Annotated[bool, typer.Option("--csv", help="Every payment, as CSV.")] = False,
    ) -> None:
        if asked.invoked_subcommand is None:
            with database() as engine:
                _write_csv(engine) if csv else _show(engine)

    @app.command()
    def settle(
        payment: Annotated[str, typer.Argument(help="Its id, from `airtime --csv`.")],
        paid: Annotated[
            bool, typer.Option("--paid/--not-paid", help="What the aggregator says of it, on its dashboard.")
        ],
    ) -> None:
        """Settle an `unknown` payment by hand, once the aggregator has been asked. Not paid: it can be
        sent again with `retry`."""
        from datetime import UTC, datetime

        from storage.airtime import settle_by_hand

        with database() as engine:
            if not settle_by_hand(engine, payment, paid, datetime.now(UTC)):
                typer.echo("dial16: no unknown payment has that id: see `main.py airtime --csv`", err=True)
                raise typer.Exit(1)
        typer.echo(f"{payment}: {'succeeded' if paid else 'failed'}, by hand")

    @app.command()
    def retry(wave: Annotated[str, typer.Argument(help="The wave's id.")]) -> None:
        """Order the `failed` payments of a wave again, after what failed them is mended. Nobody is paid
        twice by it: what may have been paid is `unknown`, not failed."""
        from datetime import UTC, datetime

        from storage.airtime import retry_failed

        with database() as engine:
            typer.echo(f"{retry_failed(engine, wave, datetime.now(UTC))} payments are due again")

    return app


def _show(engine: "Engine") -> None:
    from rich.console import Console
    from rich.table import Table

    from storage.airtime_sweep import balances, strays, totals

    console = Console()
    budgets = Table("wave", "budget", "spent", "reserved", "left", title="Airtime")
    for column in budgets.columns[1:]:
        column.justify = "right"
    found = balances(engine)
    for b in found:
        left = b.budget - b.spent - b.reserved
        amounts = (b.budget, b.spent, b.reserved, left)
        budgets.add_row(b.wave, *(f"{b.currency} {amount:,.2f}" for amount in amounts))
    states = Table("wave", "state", "why", "payments", "amount")
    for total in totals(engine):
        amount = f"{total.currency} {total.amount:,.2f}"
        states.add_row(total.wave, total.state, total.reason, f"{total.payments:,}", amount)
    if not found:
        console.print("No wave gives airtime: its file has no [thanks], or no worker has run since.")
        return
    console.print(budgets, states)
    for b in found:
        if not b.booked:
            console.print(f"ALARM {b.wave}: what is committed is not the sum of the payments; tell us")
        if b.budget < b.spent + b.reserved:
            console.print(f"{b.wave}: the budget was lowered below what is committed; nothing more goes")
    if count := strays(engine):
        console.print(f"ALARM {count} orders that the aggregator reports are no payment of ours: ask it")


def _write_csv(engine: "Engine") -> None:
    from datetime import UTC, datetime

    from storage.airtime_sweep import ledger

    writer = None
    for row in ledger(engine):
        if writer is None:
            writer = csv_format.DictWriter(sys.stdout, list(row), lineterminator="\n")
            writer.writeheader()
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.astimezone(UTC).isoformat(timespec="milliseconds")
            elif isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
                row[name] = "'" + value  # a spreadsheet would take it for a formula
        writer.writerow(row)
