"""One published figure: the shape that the table of indicator 16.6.2 is computed in, kept and exported.

An estimate names its place (wave, service, measure, domain), its base in respondents, its share with
standard error and interval, and the answers that left its base. Shares are fractions, intervals 95 %.
`n_eff` and `width` are what the display standard asks for (`release` applies it): see `docs/estimation.md`.
An `Answer` is one more: the share of an item's respondents that chose one option of its scale.
"""

from dataclasses import dataclass, replace

#: () national; (("sex", "female"),); a two-way cross has two pairs, in the release's order. A pair is
#: a variable of `domains` (sex, age, region, residence, disability, wealth) and one of its categories.
Domain = tuple[tuple[str, str], ...]

OVERALL, ATTRIBUTES = "overall", "attributes"  # measures; any other is the item id of one attribute
#: Notes that every figure of a wave may carry.
UNWEIGHTED = "unweighted"  # neither margins nor a draw were given
MODELLED = "modelled as if"  # opt-in: error and interval hold only as if it were a probability sample


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure. What has no base is None, never 0.

    Of `attributes`, the mean of five shares: `n` counts respondents with a valid answer to at least one
    of them, the four counts of missing answers are sums over the five items, `positive` is the sum of
    the five positive counts, and `deff` is None, because a mean of shares has no binomial to go by.
    """

    wave: str
    period: str  # the year (ISO) that the estimate is for
    service: str  # "health", "primary", "secondary", "government": as the instrument's items say
    measure: str  # OVERALL, ATTRIBUTES, or an item id
    domain: Domain
    n: int  # respondents with a valid answer
    positive: int  # unweighted
    share: float | None  # 0..1
    se: float | None
    low: float | None  # 95 % interval
    high: float | None
    df: int
    n_eff: float  # effective n, capped at n, without the t-ratio, as the NCHS programs test it
    deff: float | None  # se^2 over that of a simple random sample of n
    width: float | None  # of the Korn-Graubard interval, for the display standard
    not_applicable: int  # 97
    dont_know: int  # 98
    refused: int  # 99
    not_reached: int  # in the domain and given the block, but no answer on file: gated out or stopped before
    mark: str = ""  # "" shown, "c" disclosure, "u" unreliable, "*" shown but under review
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Share of an item's respondents that chose one option; national.

    Those of an item's positive options add up to the item's own share, before anything is rounded.
    """

    option: str  # option id of the item's scale
    code: int  # 3, 2, 1, 0
    figure: Estimate  # of (service, item measure, domain ()): n is the item's base, positive who chose it


def blanked(estimate: Estimate, mark: str, notes: tuple[str, ...] = ()) -> Estimate:
    """The estimate as it may leave once suppressed: its place and mark, nothing to reckon back from.

    The counts of missing answers go as well: with those of its neighbours and of the total they
    would give the base away.
    """
    return replace(
        estimate, n=0, positive=0, share=None, se=None, low=None, high=None, df=0, n_eff=0.0, deff=None,
        width=None, not_applicable=0, dont_know=0, refused=0, not_reached=0, mark=mark, notes=notes,
    )  # fmt: skip
