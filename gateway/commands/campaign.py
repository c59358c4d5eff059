"""Campaigns on the command line: load or draw a sample, release it in steps, start, pause, resume, stop,
and see how it stands. Never a number: rows of a file are named by their place in it."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from gateway.commands import one_wave, read_waves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from sqlalchemy import Engine

    from flows.questionnaire import Fault
    from flows.wave import Wave
    from gateway.campaigns import Forecast
    from gateway.sampling import Sample

_HELP = """Invite a sample into the wave: load or draw, release, start; pause, resume, stop; status.

Invitations and reminders are sent by the workers (`work`, or `run`), within the wave's hours."""


class Settings(Protocol):
    """What is needed of them."""

    @property
    def database_url(self) -> str: ...
    @property
    def pseudonym_key(self) -> bytes: ...


Name = Annotated[str, typer.Option(help="The campaign; the wave's id if not given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Replicates = Annotated[
    int, typer.Option(min=1, max=9999, help="Into how many random parts, to be released in steps.")
]
Aggregator = Annotated[str, typer.Option(help="Whose account sends its messages.")]
_NO_SENDER = "the wave sends no SMS: set `sms_sender` in the wave file"
_MOST_FAULTS = 100  # shown; a file with more of them has one fault throughout


def commands(
    context: "Callable[..., Settings]", read: "Callable[[Any], Sequence[Wave]]" = read_waves
) -> typer.Typer:
    """`context(*needs)`: the settings; `read(settings)`: the waves."""
    app = typer.Typer(help=_HELP, no_args_is_help=True)
    asked = ""

    @app.callback()
    def choose(
        wave: Annotated[str, typer.Option(help="The wave's id, where several are fielded.")] = "",
    ) -> None:
        nonlocal asked
        asked = wave

    @contextmanager
    def opened(*needs: str) -> "Iterator[tuple[Engine, Wave, Settings]]":
        from storage.database import check_schema, open_engine

        settings = context(*needs)
        engine = open_engine(settings.database_url)
        try:
            check_schema(engine)
            yield engine, one_wave(read(settings), asked), settings
        finally:
            engine.dispose()

    @app.command()
    def load(
        file: Annotated[Path, typer.Argument(help="CSV with a column msisdn, and if wanted language, "
                                             "stratum, probability, replicate.")],
        name: Name = "",
        skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows with a fault.")] = False,
        replicates: Replicates = 1,
        seed: Annotated[str, typer.Option(help="Of the parts; the same one makes the same.")] = "",
        aggregator: Aggregator = "africastalking",
        dry_run: DryRun = False,
    ) -> None:  # fmt: skip
        """Load a sample from a CSV file. Nothing is loaded while a row has a fault, unless --skip-bad."""
        from gateway.sampling import SampleError, in_replicates, plan_serving, read_sample
        from storage.campaigns import CampaignError

        with opened("PSEUDONYM_KEY") as (engine, wave, settings):
            try:
                plan = plan_serving(wave.countries)
                with file.open(encoding="utf-8-sig", newline="") as lines:
                    sample = read_sample(
                        lines, file.name, countries=wave.countries, languages=wave.languages, plan=plan
                    )
            except OSError as error:
                raise CampaignError(f"{file.name} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise CampaignError(f"{file.name} is not UTF-8: save it as CSV in UTF-8") from None
            if sample.faults:
                shown = _shown(sample.faults, file.name)
                if not skip_bad or not sample.numbers:
                    raise SampleError(shown)
                for fault in shown:
                    typer.echo(f"left out: {fault}", err=True)
            if not sample.numbers:
                raise CampaignError(f"{file.name} has no number; give one a row under the heading")
            if replicates > 1:
                if any(n.replicate != 1 for n in sample.numbers):
                    raise CampaignError(f"{file.name} names replicates itself; leave --replicates away")
                sample = in_replicates(sample, replicates, seed or name or wave.id)
            _store(engine, wave, settings, sample, name, aggregator, dry_run)

    @app.command()
    def draw(
        count: Annotated[int, typer.Argument(min=1, help="How many numbers.")],
        name: Name = "",
        country: Annotated[str, typer.Option(help="Whose number plan, ISO 3166-1.")] = "GH",
        plan: Annotated[Path | None, typer.Option(help="Another file of number plans.")] = None,
        prefix: Annotated[
            list[str] | None, typer.Option(help="Only blocks that begin so; may be given again.")
        ] = None,
        seed: Annotated[str, typer.Option(help="The same draws the same; made if not given.")] = "",
        replicates: Replicates = 1,
        aggregator: Aggregator = "africastalking",
        dry_run: DryRun = False,
    ) -> None:  # fmt: skip
        """Draw a sample at random from the country's mobile numbers (random digit dialling)."""
        import secrets

        from gateway.sampling import PLANS, in_replicates, read_plan
        from gateway.sampling import draw as draw_numbers
        from storage.campaigns import CampaignError, find_campaign

        with opened("PSEUDONYM_KEY") as (engine, wave, settings):
            frame = read_plan(country, plan or PLANS)
            if f"+{frame.calling_code}" not in wave.countries:
                raise CampaignError(f"the wave does not serve +{frame.calling_code}; see its `countries`")
            if prefix:
                frame = frame.only(prefix)
            try:
                drawn = find_campaign(engine, name or wave.id).draw
            except CampaignError:
                drawn = None
            if drawn is not None:
                raise CampaignError(
                    "this campaign has its draw: draw enough at once, and release it in steps; or choose"
                    " another name"
                )
            seed = seed or secrets.token_hex(8)
            sample = in_replicates(draw_numbers(frame, count, seed), replicates, seed)
            typer.echo(
                f"Drawn: {count:,} of {frame.size:,} numbers, each with probability {count / frame.size:.3g};"
                f" seed {seed}"
            )
            _store(engine, wave, settings, sample, name, aggregator, dry_run)

    @app.command()
    def release(
        up_to: Annotated[int, typer.Argument(min=1, help="The last replicate to release.")],
        name: Name = "",
        dry_run: DryRun = False,
        price: Annotated[str, typer.Option(help="Of one SMS part, for the dry run.")] = "",
        currency: Annotated[str, typer.Option(help="Of that price.")] = "GHS",
    ) -> None:
        """Release replicates 1 to this one: their numbers are invited while the campaign runs."""
        from datetime import UTC, datetime

        from gateway.campaigns import forecast
        from storage import sample
        from storage.campaigns import CampaignError, find_campaign
        from storage.outbox import STOPPED
        from storage.progress import to_write_by_language

        with opened() as (engine, wave, _):
            found = find_campaign(engine, name or wave.id)
            if found.state == STOPPED:
                raise CampaignError(f"campaign {found.id} is stopped, for good: nobody of it is invited")
            if dry_run:
                numbers = to_write_by_language(engine, found.id, up_to)
                _show_forecast(forecast(wave, numbers), _money(price), currency)
            else:
                freed = sample.release(engine, found.id, up_to, datetime.now(UTC))
                typer.echo(f"Released: {freed:,} numbers more.")

    @app.command()
    def start(
        name: Name = "",
        dry_run: DryRun = False,
        price: Annotated[str, typer.Option(help="Of one SMS part, for the dry run.")] = "",
        currency: Annotated[str, typer.Option(help="Of that price.")] = "GHS",
    ) -> None:
        """Start inviting. If nothing was released, replicate 1 is."""
        from datetime import UTC, datetime

        from gateway.campaigns import forecast
        from storage import sample
        from storage.campaigns import CampaignError, find_campaign, set_state
        from storage.outbox import RUNNING
        from storage.progress import to_write_by_language

        with opened() as (engine, wave, _):
            found = find_campaign(engine, name or wave.id)
            if not wave.sms_sender:
                raise CampaignError(_NO_SENDER)
            parts = sample.replicates(engine, found.id)
            first = 1 if not any(released for _, _, released, _ in parts) else 0
            if dry_run:
                numbers = to_write_by_language(engine, found.id, first)
                _show_forecast(forecast(wave, numbers), _money(price), currency)
                return
            now = datetime.now(UTC)
            set_state(engine, found.id, RUNNING, now)
            if first:
                sample.release(engine, found.id, first, now)
            typer.echo(f"Campaign {found.id} runs.")
            opens = wave.contacting.next_open(now)
            if opens > now:
                typer.echo(f"Its messages go from {opens.astimezone(wave.contacting.zone):%A %H:%M} on.")

    @app.command()
    def pause(name: Name = "") -> None:
        """Send nothing more for now, at once. What is due waits."""
        with opened() as (engine, wave, _):
            _change(engine, name or wave.id, "paused", "is paused")

    @app.command()
    def resume(name: Name = "") -> None:
        """Go on after a pause."""
        from storage.campaigns import CampaignError, find_campaign
        from storage.outbox import PAUSED

        with opened() as (engine, wave, _):
            found = find_campaign(engine, name or wave.id)
            if found.state != PAUSED:
                raise CampaignError(f"campaign {found.id} is {found.state}, not paused; see `campaign start`")
            _change(engine, name or wave.id, "running", "runs")

    @app.command()
    def stop(
        name: Name = "",
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ) -> None:
        """Stop for good, at once: what is due is cancelled."""
        with opened() as (engine, wave, _):
            campaign = name or wave.id
            if not yes:
                typer.confirm(f"Stop {campaign} for good?", abort=True)
            cancelled = _change(engine, campaign, "stopped", "is stopped")
            typer.echo(f"Cancelled: {cancelled:,} messages.")

    @app.command()
    def status(name: Name = "") -> None:
        """Show how the campaign stands: replicates, numbers, messages, parts and cost by state."""
        with opened() as (engine, wave, _):
            _show_status(engine, name or wave.id)

    return app


def _shown(faults: "Sequence[Fault]", name: str) -> "list[Fault]":
    from flows.questionnaire import Fault

    more = len(faults) - _MOST_FAULTS
    rest = [Fault(name, "-", f"and {more:,} faults more")] if more > 0 else []
    return [*faults[:_MOST_FAULTS], *rest]


def _store(
    engine: "Engine",
    wave: "Wave",
    settings: "Settings",
    sample: "Sample",
    name: str,
    aggregator: str,
    dry_run: bool,
) -> None:
    from datetime import UTC, datetime

    from rich.progress import Progress

    from gateway.aggregators import AGGREGATORS
    from gateway.campaigns import sealed_numbers
    from storage.campaigns import CampaignError, Invites, create_campaign
    from storage.outbox import DRAFT
    from storage.respondents import Pseudonyms
    from storage.sample import load_numbers
    from storage.sealing import Seal

    now = datetime.now(UTC)
    if not wave.sms_sender:  # its messages would go without one for good
        raise CampaignError(_NO_SENDER)
    if aggregator not in AGGREGATORS:
        raise CampaignError(f"there is no aggregator {aggregator!r}; there are {', '.join(AGGREGATORS)}")
    if dry_run:
        campaign = Invites(name or wave.id, wave.id, DRAFT, aggregator, wave.sms_sender, None, now, now)
    else:
        campaign = create_campaign(engine, name or wave.id, wave.id, aggregator, wave.sms_sender, now)
    key = settings.pseudonym_key
    with Progress() as bar:
        task = bar.add_task("numbers", total=len(sample.numbers))
        counts = load_numbers(
            engine,
            campaign.id,
            wave.id,
            sealed_numbers(sample, Pseudonyms(key), Seal(key)),
            now,
            rest_days=wave.contacting.rest_days,
            draw=sample.draw,
            keep=not dry_run,
            told=lambda done: bar.update(task, completed=done),
        )
    names = {"loaded": "would be loaded" if dry_run else "loaded", "already": "in the sample already"}
    for what, count in counts.items():
        if count or what == "loaded":
            typer.echo(f"{names.get(what, f'left alone, {what}')}: {count:,}")
    if dry_run:
        typer.echo("Nothing was changed.")


def _change(engine: "Engine", campaign: str, state: str, words: str) -> int:
    from datetime import UTC, datetime

    from storage.campaigns import set_state

    changed = set_state(engine, campaign, state, datetime.now(UTC))
    typer.echo(f"Campaign {campaign} {words}.")
    return changed


def _money(text: str) -> "Decimal | None":
    """A price. Raises CampaignError."""
    from decimal import Decimal, InvalidOperation

    from storage.campaigns import CampaignError

    if not text:
        return None
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0:
        raise CampaignError("--price must be a number of 0 or more, with a point: 0.03")
    return price


def _show_forecast(found: "Forecast", price: "Decimal | None", currency: str) -> None:
    typer.echo(f"invitations: {found.invitations:,}")
    typer.echo(f"reminders: {found.most_reminders:,} at most")
    typer.echo(f"SMS parts: {found.invitation_parts:,}, with all reminders {found.most_parts:,}")
    if price is not None:
        least, most = price * found.invitation_parts, price * found.most_parts
        typer.echo(f"cost: {currency} {least:,f}, with all reminders {currency} {most:,f}")
    typer.echo("Nothing was changed.")


def _show_status(engine: "Engine", name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from storage.campaigns import find_campaign
    from storage.progress import messages_by_state, numbers_by_state
    from storage.sample import replicates

    campaign, console = find_campaign(engine, name), Console()
    typer.echo(
        f"Campaign {campaign.id}, wave {campaign.wave}: {campaign.state}"
        f" since {campaign.state_at:%Y-%m-%d %H:%M} UTC"
    )
    table = Table("replicate", "numbers", "released", "left alone")
    for replicate, numbers, released, alone in replicates(engine, campaign.id):
        table.add_row(str(replicate), f"{numbers:,}", f"{released:,}", f"{alone:,}")
    console.print(table)
    table = Table("numbers", "", "how many")
    for state, detail, count in numbers_by_state(engine, campaign.id):
        table.add_row(state, detail, f"{count:,}")
    console.print(table)
    table = Table("messages", "state", "why", "how many", "parts", "cost")
    for m in messages_by_state(engine, campaign.id):
        cost = ", ".join(f"{currency} {amount:,f}" for currency, amount in sorted(m.cost.items()))
        table.add_row(m.kind, m.state, m.reason, f"{m.count:,}", f"{m.parts:,}", cost)
    console.print(table)
