"""`check`: what is asked, proved before it is fielded; and drawn and printed."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import Context, say


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def check(
        files: Annotated[
            list[Path] | None, typer.Argument(help="Wave files, or folders of them; those set if not given.")
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="Folder for the diagram and the printable questionnaires."),
        ] = None,
    ) -> None:
        """Prove the instrument over all its paths, languages and modes; list all faults, exit 1 on any."""
        from flows.check import check_files
        from flows.drawing import draw_flow
        from flows.printed import print_questionnaire
        from flows.wave import unfit_id

        settings = context()
        checked = check_files(files or settings.wave_files, settings.instrument_dirs)
        for wave, walks in checked:
            if said := unfit_id(wave):
                say(said)
            if len(checked) > 1:
                typer.echo(f"{wave.file}: wave {wave.id}, {wave.instrument.reference}")
            for walked in walks:
                typer.echo(
                    f"{walked.language} ({walked.status}) {walked.mode}: {walked.screens} screens, the widest"
                    f" {walked.widest} septets; {walked.keys} keys tried, {walked.routes} routes, each ends;"
                    f" hops: median {walked.median_hops}, most {walked.most_hops}"
                    + (
                        f"; parts: median {walked.median_parts}, most {walked.most_parts}"
                        * (walked.mode == "sms")
                    )
                )
        if out is None:
            return
        for position, (wave, _) in enumerate(checked):
            folder = out / wave.id if position else out
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "flow.svg").write_text(draw_flow(wave.instrument), "utf-8")
            for name in wave.instrument.languages:
                printed = print_questionnaire(
                    wave.instrument, name, owner=wave.owner, contact=wave.contact, code=wave.code
                )
                (folder / f"questionnaire.{name}.md").write_text(printed, "utf-8")
        typer.echo(f"Written to {out}")

    return app
