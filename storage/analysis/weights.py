"""Final weights: what each interview weighs in a wave's release, kept beside it for analysts and exports.

    final_weights    computes them, as the table of the figures does, with the same margins, draw and caps
    keep_weights     writes them, of one version of one wave, in one transaction
    remade_weights   the same for a release that is out: where its making ended before they were written

A release's folder stays the original and tells nobody's weight. The view `analytics.weight` shows those of
the wave's newest version that has some; `exports.final_weights` puts them into files. So a release with
made-up interviews (`--simulated`) has none: beside real answers they would be taken for true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, text

from flows.instrument import Instrument
from storage.analysis.counted import counted
from storage.analysis.disclosure import rounded
from storage.analysis.display import decimals
from storage.analysis.intervals import Floats
from storage.analysis.making import planned_draw
from storage.analysis.material import material_before, material_of
from storage.analysis.plan import ReleasePlan
from storage.analysis.release import Release, ReleaseError
from storage.analysis.sheets import Progress
from storage.analysis.table import Draw, respondent_weights, table_16_6_2
from storage.database import Write, reading, writing
from storage.models import WITHDRAWN, FinalWeight, Interview, table_of

#: Rows a statement: on PostgreSQL one array a column.
_BATCH = 20_000

_weight, _interview = table_of(FinalWeight), table_of(Interview)
_write = Write(FinalWeight, ("interview", "version", "block", "wave", "weight"))


@dataclass(frozen=True, slots=True)
class FinalWeights:
    """By block of services, interviews and their weights; block "": the same for every block."""

    wave: str
    blocks: Mapping[str, tuple[Sequence[str], Floats]]


def final_weights(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    plan: ReleasePlan,
    draw: Draw | None,
) -> FinalWeights | None:
    """The weights under the wave's figures by this plan and its draw; None where these are unweighted.

    Of the interviews that somebody dialled for: figures of others have none to keep.
    Whoever calls this compares `material_of` afterwards: answers may arrive meanwhile.
    Raises RakingError, NoMarks.
    """
    if plan.margins is None and draw is None:
        return None
    by_block = respondent_weights(
        engine, instrument, wave, margins=plan.margins, wealth=plan.wealth, limits=plan.limits,
        fewest=plan.fewest, draw=draw, simulated=False,
    )  # fmt: skip
    c = _interview.c
    with reading(engine) as db:
        rows = db.execute(
            select(c.respondent, c.id).where(*counted(instrument, wave, simulated=False)),
            execution_options={"yield_per": _BATCH},
        )
        interview_of = {row.respondent: row.id for row in rows}
    if len({id(w) for w in by_block.values()}) == 1:
        by_block = {"": next(iter(by_block.values()))}
    # Whoever is no longer there has left since the weights were computed: the caller's check finds that.
    return FinalWeights(
        wave, {b: ([interview_of.get(p, "") for p in w.pseudonyms], w.weight) for b, w in by_block.items()}
    )


def keep_weights(
    engine: Engine, weights: FinalWeights | None, version: int, told: Progress | None = None
) -> int:
    """Write the weights of a version that the database has; how many. Again: in place of the same.

    The weights of whoever withdrew since they were computed are not kept.
    """
    if weights is None:
        return 0
    ours = (_weight.c.wave == weights.wave, _weight.c.version == version)
    total, done = sum(len(names) for names, _ in weights.blocks.values()), 0
    with writing(engine) as db:
        if db.dialect.name == "postgresql":
            # A withdrawal deletes from this table: one before is seen below, one meanwhile waits.
            db.execute(text("LOCK TABLE final_weight IN SHARE ROW EXCLUSIVE MODE"))
        db.execute(delete(_weight).where(*ours))
        for block, (names, values) in weights.blocks.items():
            rows = sorted(zip(names, values.tolist(), strict=True))  # as the index stands: half the time
            for start in range(0, len(rows), _BATCH):
                part = rows[start : start + _BATCH]
                _write(db, [(name, version, block, weights.wave, w) for name, w in part if name])
                done += len(part)
                if told is not None:
                    told("writing weights", done, total)
        gone = select(_interview.c.id).where(
            _interview.c.wave == weights.wave, _interview.c.disposition == WITHDRAWN
        )
        db.execute(delete(_weight).where(*ours, _weight.c.interview.in_(gone)))
    return total


def remade_weights(
    engine: Engine,
    instrument: Instrument,
    release: Release,
    plan: ReleasePlan,
    told: Progress | None = None,
) -> FinalWeights:
    """The weights of a release that is out. Raises ReleaseError where they cannot be those it was made with.

    They are, if it rests on the same interviews, was raked to the same tables, and its national figures
    come out again. RakingError, NoMarks as in `table_16_6_2`.
    """
    said = f"wave {release.wave}, version {release.version}"
    if release.simulated:
        raise ReleaseError(
            f"{said}: is a demonstration with made-up interviews, and of those no final weights are kept;"
            " exports of it have base weights only"
        )
    if not release.weighted and not release.probability_sample:
        raise ReleaseError(f"{said}: was published unweighted, so there are no final weights")
    if was := plan.unlike(release):
        raise ReleaseError(
            f"{said}: was weighted with {was}; say the same in the release file, or give its margins with"
            " --margins"
        )
    draw = planned_draw(engine, release.wave, plan)
    changed = (
        f"{said}: does not rest on the interviews that are here now: some came, changed or were withdrawn"
        " since. Their weights would not be those of the figures; make a new version"
    )

    def same_interviews() -> bool:
        rest = engine, instrument, release.wave, plan.wealth, draw
        return release.material == material_of(*rest) or release.material == material_before(*rest)

    if not same_interviews():
        raise ReleaseError(changed)
    made = final_weights(engine, instrument, release.wave, plan, draw)
    table = table_16_6_2(
        engine, instrument, release.wave, margins=plan.margins, wealth=plan.wealth, limits=plan.limits,
        fewest=plan.fewest, probability_sample=plan.probability_sample, draw=draw, simulated=False,
        told=told,
    )  # fmt: skip
    if made is None or not same_interviews():
        raise ReleaseError(changed)
    out = {(e.service, e.measure): e.share for e in release.estimates if not e.domain}
    for e in table.estimates:
        share = None if e.domain else out.get((e.service, e.measure))
        if share is None:
            continue
        now = rounded(e, decimals(e, release.rules.display), release.rules.disclosure)
        if now.share != share:
            raise ReleaseError(
                f"{said}: {e.service} {e.measure} is {share} there, and comes out as {now.share} with these"
                " margins, caps and joins; give those of the release (release file, --margins, --wealth)"
            )
    return made
