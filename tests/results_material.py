"""Published releases of made-up waves, for the pages: by the real chain, from interviews to folder."""

from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from random import Random

from sqlalchemy import update

from flows.instrument import Instrument, load
from storage.analysis.making import Publisher, draft, make_release
from storage.analysis.margins import load_margins
from storage.analysis.plan import ReleasePlan
from storage.database import open_engine, writing
from storage.models import Interview, table_of
from tests.estimation_material import Answers, anybody, put
from tests.stores import give_schema

ROOT = Path(__file__).resolve().parent.parent
OFFICE = Publisher("Statistical Office of Ghana (demonstration)", "+233 30 000 0016", "Dial 16 0.1.0")
#: Interviews in a hundred; the order of size is Ghana's, two small regions stay under the rules' least.
REGIONS = {
    "gh_wp": 7, "gh_cp": 9, "gh_aa": 19, "gh_tv": 5, "gh_ep": 10, "gh_ah": 18, "gh_wn": 3, "gh_af": 0.9,
    "gh_bo": 4, "gh_be": 4, "gh_ot": 2, "gh_np": 7, "gh_sv": 2, "gh_ne": 0.6, "gh_ue": 4, "gh_uw": 3,
}  # fmt: skip


@cache
def instrument() -> Instrument:
    return load(ROOT / "flows" / "sdg_16_6_2")


def people(count: int, seed: int) -> list[Answers]:
    """Respondents from all over the country: content by service, attribute, region and sex."""
    chance, questions = Random(seed), instrument()
    good = {"health": 0.02, "primary": 0.12, "secondary": 0.07, "government": -0.16}
    bias = {region: chance.uniform(-0.14, 0.12) for region in REGIONS}
    found: list[Answers] = []
    for _ in range(count):
        answers = anybody(questions, chance)
        region = chance.choices(list(REGIONS), list(REGIONS.values()))[0]
        if answers["respondent.region"] != "refused":
            answers["respondent.region"] = region
        for item in questions.items:
            if item.id not in answers or item.role not in ("attribute", "overall") or item.scale is None:
                continue
            options = [o.id for o in item.scale.options]
            if answers[item.id] not in options:
                continue
            lean = 0.62 + good[item.service] + bias[region]
            lean += {"affordability": -0.13, "equal_treatment": 0.05, "timeliness": -0.1}.get(
                item.attribute, 0.0
            )
            lean += 0.04 if answers["respondent.sex"] == "female" else 0.0
            lean -= 0.05 if answers["respondent.residence"] == "rural" else 0.0
            answers[item.id] = options[chance.randrange(2) + (0 if chance.random() < lean else 2)]
        found.append(answers)
    return found


def margins_file(folder: Path) -> Path:
    """Totals of a country that never was; small regions join their neighbours."""
    joins = {"gh_ne": "gh_np", "gh_af": "gh_bo", "gh_sv": "gh_np", "gh_ot": "gh_tv"}
    every = sum(REGIONS.values())
    source = '"Made-up totals of residents aged 18 and older",2026-01-01'
    lines = ["table,source,date,variables,category,total,joins"]
    for region, part in REGIONS.items():
        total = 18_000_000 * part / every
        lines.append(f"region,{source},region,{region},{total:.6f},{joins.get(region, '')}")
    for sex, residence, part in (
        ("male", "urban", 0.27), ("male", "rural", 0.22), ("female", "urban", 0.3), ("female", "rural", 0.21),
    ):  # fmt: skip
        lines.append(f"sex by residence,{source},sex*residence,{sex}*{residence},{18_000_000 * part:.0f},")
    path = folder / "margins.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def publish_waves(folder: Path, sizes: tuple[int, ...] = (2400, 3200)) -> Path:
    """Releases of waves in 2024, 2026, ..; the first unweighted, the others raked. The releases' folder."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = open_engine(f"sqlite:///{folder / 'dial16.sqlite3'}")
    give_schema(engine, instrument())
    out, totals = folder / "releases", load_margins(margins_file(folder), instrument())
    c = table_of(Interview).c
    for n, size in enumerate(sizes):
        year = 2024 + 2 * n
        wave = f"pilot-{year}"
        put(engine, instrument(), people(size, seed=16 + n), wave=wave, first=100_000 * n)
        at = datetime(year, 9, 14, 10, tzinfo=UTC)
        with writing(engine) as db:
            db.execute(update(table_of(Interview)).where(c.wave == wave).values(began_at=at, last_at=at))
        plan = ReleasePlan(crosses=(("region", "sex"),), fewest=5, margins=totals if n else None)
        made = draft(engine, instrument(), wave, out, plan)
        make_release(made, instrument(), out, plan, OFFICE, issued=date(year, 11, 20))
    engine.dispose()
    return out


def publish_again(folder: Path, wave: str) -> Path:
    """A second version of a wave, on the same interviews; its folder."""
    engine = open_engine(f"sqlite:///{folder / 'dial16.sqlite3'}")
    totals = load_margins(folder / "margins.csv", instrument())
    plan = ReleasePlan(crosses=(("region", "sex"),), fewest=10, margins=totals)
    made = draft(engine, instrument(), wave, folder / "releases", plan)
    engine.dispose()
    return make_release(
        made, instrument(), folder / "releases", plan, OFFICE, issued=date(2026, 12, 1),
        reason="Small regions are joined with their neighbours from 10 respondents on.",
    )  # fmt: skip
