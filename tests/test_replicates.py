"""Replicates beside formulas: where both must agree exactly, about, and with R's survey."""

import csv
import shutil
import subprocess
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sqlalchemy import Engine

from storage.analysis.margins import load_margins
from storage.analysis.raking import RakingError
from storage.analysis.replicates import Checked, random_groups, replicate_check
from storage.analysis.table import respondent_weights
from storage.database import migrate, open_engine
from tests.estimation_material import anybody, put
from tests.results_material import instrument
from tests.stores import missing

MARGINS = """table,source,date,variables,category,total,joins
sex,made up,2026-01-01,sex,male,520,
sex,made up,2026-01-01,sex,female,480,
place,made up,2026-01-01,residence,urban,450,
place,made up,2026-01-01,residence,rural,550,
"""
R = """
suppressPackageStartupMessages(library(survey))
d <- read.csv(commandArgs(trailingOnly = TRUE)[1], na.strings = "", stringsAsFactors = TRUE)
design <- svydesign(ids = ~group, strata = ~stratum, weights = ~base, data = d, nest = TRUE)
replicated <- as.svrepdesign(design, type = "JKn", mse = TRUE, compress = FALSE)
raked <- calibrate(replicated, ~sex + residence, c("(Intercept)" = 1000, sexmale = 520, residenceurban = 450),
                   calfun = "raking", epsilon = 1e-11, maxit = 500, compress = FALSE)
cat(sprintf("%.12f", SE(svymean(~y, subset(raked, !is.na(y))))))
"""


def everybody(count: int, seed: int) -> list[dict[str, str | int]]:
    """Respondents who say their sex and where they live."""
    chance = Random(seed)
    people = [anybody(instrument(), chance) for _ in range(count)]
    for n, answers in enumerate(people):
        answers["respondent.sex"] = ["male", "female"][n % 2]
        answers["respondent.residence"] = ["urban", "rural", "rural"][n % 3]
    return people


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path / 'record.sqlite3'}")
    migrate(engine, instrument())
    return engine


def health(found: list[Checked]) -> Checked:
    return next(c for c in found if (c.service, c.measure) == ("health", "overall"))


def test_of_a_plain_share_they_are_the_same(engine: Engine) -> None:
    """Leaving out each of n: sqrt(p (1 - p) / (n - 1)), as by the formula, whatever n."""
    put(engine, instrument(), [
        {"health.need": "yes", "health.got": "yes", "health.overall": answer}
        for answer in ["satisfied"] * 12 + ["dissatisfied"] * 8
    ])  # fmt: skip
    c = health(replicate_check(engine, instrument(), "w"))
    assert (c.groups, c.df) == (20, 19)
    assert c.jackknife == pytest.approx((0.6 * 0.4 / 19) ** 0.5, abs=1e-12)
    assert c.jackknife == pytest.approx(c.se, abs=1e-12)


def test_groups_are_whole_fair_and_the_same_again() -> None:
    stratum = np.array([0] * 700 + [1] * 300 + [2] * 3 + [3], dtype=np.int64)
    of, strata = random_groups(stratum, 50)
    again, _ = random_groups(stratum, 50)
    assert (of == again).all() and strata[0] == -1
    assert np.bincount(strata[1:]).tolist() == [35, 15, 2]  # a stratum of one has none
    assert of[-1] == 0 and set(of[:-1]) == set(range(1, 53))
    assert all((stratum[of == g] == h).all() for g, h in enumerate(strata) if g)
    sizes = np.bincount(of)[1:]
    assert all(np.ptp(sizes[strata[1:] == h]) <= 1 for h in range(3))


def test_after_raking_with_caps_and_missing_answers_they_are_near(engine: Engine, tmp_path: Path) -> None:
    chance = Random(4)
    put(engine, instrument(), [anybody(instrument(), chance) for _ in range(500)])
    (tmp_path / "m.csv").write_text(MARGINS)
    margins, seen = load_margins(tmp_path / "m.csv", instrument()), []
    found = replicate_check(
        engine, instrument(), "w", margins=margins, groups=60,
        told=lambda what, done, total: seen.append((done, total)),
    )  # fmt: skip
    assert {c.service for c in found} == {"health", "primary", "secondary", "government"}
    assert seen[-1] == (60, 60)
    ratios = [c.ratio for c in found if c.ratio is not None]
    assert len(ratios) == len(found) and 0.9 < sum(ratios) / len(ratios) < 1.15, ratios


def test_a_replicate_that_cannot_be_raked_says_what_to_do(engine: Engine, tmp_path: Path) -> None:
    """One of them is the only man: without him his category has nobody."""
    people = everybody(40, 1)
    for answers in people[1:]:
        answers["respondent.sex"] = "female"
    people[0]["respondent.sex"] = "male"
    put(engine, instrument(), people)
    (tmp_path / "m.csv").write_text("".join(MARGINS.splitlines(True)[:3]))
    margins = load_margins(tmp_path / "m.csv", instrument())
    said = r"without group \d+ of 40: table sex, male: .* no respondent.*fewest"
    with pytest.raises(RakingError, match=said):
        replicate_check(engine, instrument(), "w", margins=margins)


def test_as_r_s_replicates_have_it(engine: Engine, tmp_path: Path) -> None:
    """Strata, unequal base weights, random groups, raked in each replicate."""
    if shutil.which("Rscript") is None:
        missing("Rscript with package survey")
    people = everybody(240, 7)
    names = put(engine, instrument(), people)
    draw = {p: ("ab"[n % 5 > 2], [1.0, 2.5][n % 5 > 2]) for n, p in enumerate(names)}
    (tmp_path / "m.csv").write_text(MARGINS)
    margins = load_margins(tmp_path / "m.csv", instrument())
    ours = health(replicate_check(engine, instrument(), "w", margins=margins, draw=draw, groups=24))
    order = respondent_weights(engine, instrument(), "w", margins=margins, draw=draw)["health"].pseudonyms
    places = {name: n for n, name in enumerate(dict.fromkeys(draw[p][0] for p in order))}
    groups, _ = random_groups(np.array([places[draw[p][0]] for p in order]), 24)
    positive = ("very_satisfied", "satisfied")
    valid = {**dict.fromkeys(positive, 1), "dissatisfied": 0, "very_dissatisfied": 0}
    with (tmp_path / "d.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "stratum", "base", "sex", "residence", "y"])
        for p, group in zip(order, groups.tolist(), strict=True):
            answers = people[names.index(p)]
            writer.writerow([
                group, *draw[p], answers["respondent.sex"], answers["respondent.residence"],
                valid.get(str(answers.get("health.overall")), ""),
            ])  # fmt: skip
    (tmp_path / "r.R").write_text(R)
    done = subprocess.run(
        ["Rscript", "--vanilla", str(tmp_path / "r.R"), str(tmp_path / "d.csv")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "no package called" in done.stderr:
        missing("Rscript with package survey")
    assert done.returncode == 0, done.stderr
    assert ours.jackknife == pytest.approx(float(done.stdout), abs=1e-6)
