"""Made-up estimates of a made-up wave: unweighted shares with simple intervals, for tests of what follows."""

import math

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
