"""More waves than the tests of a release make: copies of one, each a little apart."""

from dataclasses import replace
from pathlib import Path

from storage.analysis.estimates import Estimate
from storage.analysis.release import FILE, Release, as_json


def more_waves(release: Release, out: Path, periods: tuple[int, ...]) -> None:
    """Copies of a release, without its two-way tables, as waves of other years, each a little apart."""
    for n, period in enumerate(periods):
        shift = round(0.013 * (n % 4) - 0.03, 3)
        folder = out / f"pilot-{period}" / "1"
        folder.mkdir(parents=True)
        copy = replace(
            release, wave=f"pilot-{period}", version=1, issued=f"{period}-11-20", reason="First version.",
            estimates=tuple(_moved(e, str(period), shift) for e in release.estimates if len(e.domain) < 2),
        )  # fmt: skip
        (folder / FILE).write_text(as_json(copy), "utf-8")


def _moved(e: Estimate, period: str, shift: float) -> Estimate:
    def move(value: float | None) -> float | None:
        return None if value is None else min(1.0, max(0.0, round(value + shift, 3)))

    return replace(
        e, wave=f"pilot-{period}", period=period, share=move(e.share), low=move(e.low), high=move(e.high)
    )
