"""The fieldwork page's figures as tables in the terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, read_waves, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from sqlalchemy import Engine

    from flows.wave import Wave
    from storage.analysis.fieldwork import Fieldwork, Part

_STOPS = 10  # questions where most stopped


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fieldwork(
        wave: Annotated[str, typer.Option(help="A wave's id; of the first wave file's if not given.")] = "",
    ) -> None:
        """Show how the fieldwork stands: dispositions, outcome rates, break-offs, messages."""
        from rich.console import Console

        from storage.database import check_schema, open_engine

        settings = context()
        engine = open_engine(settings.database_url)
        check_schema(engine)
        if not show(engine, read_waves(settings), wave, Console()):
            say(f"nobody was invited to a wave {wave!r} or took part in one; see `main.py wave list`")
            raise typer.Exit(1)

    return app


def show(engine: "Engine", served: "Sequence[Wave]", asked: str, console: "Console") -> bool:
    """Print the figures of the wave `asked` for, or of the first served. False: nobody knows it."""
    from gateway.fieldwork import NETWORK_NAMES, share, whole
    from storage.analysis.fieldwork import fieldwork, waves

    by_id = {wave.id: wave for wave in served}
    name = asked or served[0].id
    if name not in by_id and name not in waves(engine):
        return False
    figures = fieldwork(
        engine, name, by_id.get(name, served[0]).instrument, served=by_id.get(name), networks=NETWORK_NAMES
    )
    for table in _tables(figures):
        console.print(table)
    if figures.rates is None:
        console.print(
            "Nobody was invited: how many heard of the code is unknown, so there is no response rate."
        )
    if figures.dial_ins.started:
        looked = figures.dial_ins.kinds["looked"]
        without = f", without the {whole(looked)} who only looked at results" if looked else ""
        console.print(
            f"Completion among the {whole(figures.dial_ins.started)} who dialled without an invitation:"
            f" {share(figures.dial_ins.completion)}{without} (not a response rate)."
        )
    console.print("Unweighted; rates as if the wave closed now. Definitions: docs/dispositions.md.")
    return True


def _tables(f: "Fieldwork") -> "Iterable[Table]":
    from rich.table import Table

    from gateway.fieldwork import KIND_NAMES, money, share, whole, words

    standing = _table(
        f"Wave {f.wave}: everybody, by disposition", "disposition", "AAPOR", "invited", "dialled in"
    )
    for s in f.standings:
        standing.add_row(words(s.name), s.aapor, whole(s.sample), whole(s.dial_in))
    yield standing
    if f.rates:
        rates = Table("rate", "value", "definition", title=f"Outcome rates of {whole(f.invited)} invited")
        for r in f.rates.rates:
            rates.add_row(r.name, share(r.value), r.formula)
        rates.add_row("e", share(f.rates.e), "eligible, of those of whom it is known")
        yield rates
    parts = _table("Interviews", "", "begun", "completion", *KIND_NAMES.values())
    for rows in ((f.started,), *f.parts.values()):
        for part in rows:
            parts.add_row(*_part(part), end_section=part is rows[-1])
    yield parts
    stops = _table(
        "Where interviews stop", "question", "stopped there", "of those who reached it", "waiting there"
    )
    for screen in f.screens[:_STOPS]:
        stops.add_row(screen.label, whole(screen.left), share(screen.hazard), whole(screen.waiting))
    yield stops
    for quota in f.quotas:
        cells = _table(
            f"Quota: {quota.name}",
            " / ".join(quota.items),
            "complete",
            "target",
            "in progress",
            "turned away",
        )
        for cell in quota.cells:
            counts = (cell.completed, cell.target, cell.in_progress, cell.turned_away)
            cells.add_row(" / ".join(cell.labels), *("-" if n is None else whole(n) for n in counts))
        yield cells
    sent = _table("Messages and airtime", "kind", "state", "number", "parts", "cost")
    for m in (*f.messages, *f.airtime):
        cost = f"{m.currency} {money(m.cost)}" if m.currency else ""
        sent.add_row(m.kind, words(m.state), whole(m.n), whole(m.parts), cost)
    yield sent


def _table(title: str, *columns: str) -> "Table":
    """Its words to the left, its numbers to the right."""
    from rich.table import Table

    table = Table(title=title)
    for n, column in enumerate(columns):
        left = n == 0 or column in ("AAPOR", "state", "")
        table.add_column(column, justify="left" if left else "right")
    return table


def _part(part: "Part") -> tuple[str, ...]:
    from gateway.fieldwork import KIND_NAMES, share, whole

    return (
        part.label, whole(part.started), share(part.completion, 0),
        *(whole(part.kinds[kind]) for kind in KIND_NAMES),
    )  # fmt: skip
