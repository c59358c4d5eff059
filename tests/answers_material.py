"""Answers for releases of the tests whose wave has none: every published share split into its two answers."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from flows.instrument import Instrument
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Answer, Estimate
from storage.analysis.release import FILE, Release, as_json, load_release

_SPLIT = {3: 0.35, 2: 0.65, 1: 0.6, 0: 0.4}  # of the positive, or of the negative answers


def answers_of(release: Release, instrument: Instrument) -> tuple[Answer, ...]:
    """Four answers to each item that the release has a national figure of."""
    made: list[Answer] = []
    for e in release.estimates:
        if e.domain or e.measure == ATTRIBUTES:
            continue
        for item in instrument.items:
            if item.scale and (
                item.id == e.measure or (item.role == e.measure == OVERALL and item.service == e.service)
            ):
                made += [Answer(o.id, o.code, _figure(e, o.code)) for o in item.scale.options]
    return tuple(made)


def _figure(e: Estimate, code: int) -> Estimate:
    if e.share is None:
        return e
    half = round(e.share if code > 1 else 1 - e.share, 3)
    part = round(half * _SPLIT[3 if code > 1 else 0], 3)
    share = part if code in (3, 0) else round(half - part, 3)
    return replace(
        e, positive=round(e.n * share), share=share,
        low=round(max(0, share - 0.02), 3), high=round(min(1, share + 0.02), 3),
    )  # fmt: skip


def give_answers(out: Path, instrument: Instrument) -> None:
    """Write them into every release under `out` that has none, and mend the checksums."""
    for path in sorted(out.glob(f"*/*/{FILE}")):
        release = load_release(path.parent)
        if release.answers:
            continue
        text = as_json(replace(release, answers=answers_of(release, instrument)))
        changed = {"": ""}
        for name in (FILE, "dcat.jsonld", "SHA256SUMS"):
            file = path.parent / name
            before = file.read_text("utf-8")
            after = text if name == FILE else before
            for old, new in changed.items():
                after = after.replace(old, new) if old else after
            file.write_text(after, "utf-8")
            changed[sha256(before.encode()).hexdigest()] = sha256(after.encode()).hexdigest()


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
