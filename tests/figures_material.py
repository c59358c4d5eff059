"""Made-up estimates of a made-up wave: unweighted shares with simple intervals, for tests of what follows."""

import math
import random
from collections import defaultdict

from storage.analysis.estimates import Domain, Estimate

SERVICES = {
    "health": ("access", "cost", "facility", "equal", "courtesy"),
    "primary": ("access", "cost", "facility", "equal", "teaching"),
    "secondary": ("access", "cost", "facility", "equal", "teaching"),
    "government": ("access", "cost", "process", "equal", "timely"),
}


def estimate(
    domain: Domain,
    n: int,
    positive: int,
    measure: str = "overall",
    service: str = "health",
    wave: str = "w",
    period: str = "2026",
) -> Estimate:
    """A share of simple random respondents, with a Wald interval: only its shape matters here."""
    share = positive / n if n else None
    if measure == "attributes" and n:
        share = 0.5
    se = None if share is None else math.sqrt(share * (1 - share) / n)
    half = None if se is None else 1.96 * se
    low = None if share is None or half is None else max(0.0, share - half)
    high = None if share is None or half is None else min(1.0, share + half)
    return Estimate(
        wave=wave, period=period, service=service, measure=measure, domain=domain, n=n, positive=positive,
        share=share, se=se, low=low, high=high, df=max(n - 1, 0), n_eff=float(n), deff=1.0 if n else None,
        width=None if low is None or high is None else high - low,
        not_applicable=0, dont_know=0, refused=0, not_reached=0,
    )  # fmt: skip


#: What a release is broken down by, with how many in a hundred are in each category.
BREAKDOWNS = {
    "sex": {"male": 48, "female": 52},
    "age": {"y18_24": 30, "y25_34": 30, "y35_44": 20, "y45_54": 12, "y55_64": 6, "y65_plus": 2},
    "region": {
        "gh_wp": 7,
        "gh_cp": 9,
        "gh_aa": 18,
        "gh_tv": 5,
        "gh_ep": 10,
        "gh_ah": 18,
        "gh_wn": 3,
        "gh_af": 2,
        "gh_bo": 4,
        "gh_be": 4,
        "gh_ot": 2,
        "gh_np": 7,
        "gh_sv": 2,
        "gh_ne": 2,
        "gh_ue": 4,
        "gh_uw": 3,
    },
    "residence": {"urban": 60, "rural": 40},
    "disability": {"with": 6, "without": 94},
    "wealth": {"q1": 20, "q2": 20, "q3": 20, "q4": 20, "q5": 20},
}
CROSSES = (("sex", "age"), ("region", "sex"))


def domains() -> list[Domain]:
    """National, every one-way breakdown, and the crosses."""
    one: list[Domain] = [((v, o),) for v, options in BREAKDOWNS.items() for o in options]
    two: list[Domain] = [((a, x), (b, y)) for a, b in CROSSES for x in BREAKDOWNS[a] for y in BREAKDOWNS[b]]
    return [(), *one, *two]


def table(users: int = 1200, wave: str = "w", period: str = "2026", seed: int = 16) -> list[Estimate]:
    """A whole table of a wave that never was, with `users` of health care and fewer of the others."""
    chance = random.Random(seed)
    made = []
    for place, (service, items) in enumerate(SERVICES.items()):
        counts: dict[tuple[str, Domain], list[int]] = defaultdict(lambda: [0, 0])
        for _ in range(users // (place + 1)):
            of = {v: chance.choices(list(o), list(o.values()))[0] for v, o in BREAKDOWNS.items()}
            mine: list[Domain] = [(), *(((v, o),) for v, o in of.items())]
            mine += [((a, of[a]), (b, of[b])) for a, b in CROSSES]
            for measure in ("overall", *(f"{service}.{i}" for i in items)):
                if chance.random() < 0.03:  # don't know
                    continue
                good = chance.random() < 0.7
                for domain in mine:
                    counts[measure, domain][0] += 1
                    counts[measure, domain][1] += good
        for domain in domains():
            for measure in ("overall", *(f"{service}.{i}" for i in items)):
                n, positive = counts[measure, domain]
                made.append(estimate(domain, n, positive, measure, service, wave, period))
            most = max(e.n for e in made[-5:])
            made.append(estimate(domain, most, 0, "attributes", service, wave, period))
    return made
