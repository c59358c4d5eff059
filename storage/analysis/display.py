"""The display standard: which figures are too uncertain to be shown. It comes after disclosure control.

NCHS Data Presentation Standards for Proportions (Vital and Health Statistics 2(175), 2017), in the order
of NCHS's own programs:

 1. n < 30 or effective n < 30                                    not shown
 2. width of the interval <= .05                                  shown
 3. width >= .30                                                  not shown
 4. .05 < width < .30 and width > 1.30 x share                    not shown
    and, if shown, width > 1.30 x (1 - share)                     note: complement unreliable
 5. shown, and fewer than 8 degrees of freedom, or no or only
    positive answers                                              shown, under review

The width is that of the capped Korn-Graubard interval with the degrees of freedom in it; the effective n
of step 1 is without them (as in NCHS's SAS macro 2.0 of March 2021 and CDC's `surveytable`). Nothing is
rounded before it is tested. Exactly .05 and exactly 1.30 show, exactly .30 does not.

NCHS says nothing about a mean of shares. Our rule: the mean of the five is shown if all five were given
to enough people (each base passes disclosure control and n >= 30), its own effective n does, and its width
is under .30. Neither ratio is asked, since none of the five may be unreliable alone and yet the mean be so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from storage.analysis.estimates import ATTRIBUTES, OVERALL, Answer, Domain, Estimate

NO_BASE = "no interval"
FEW = "too few respondents to be reliable"
WIDE = "interval too wide"
RELATIVE = "interval too wide for so small a share"
COMPLEMENT = "complement unreliable"
FEW_DEGREES = "under review: few degrees of freedom"
ALL_ALIKE = "under review: no positive answer, or nothing but"
ALL_OR_NONE = "under review: chosen by nobody, or by everybody"
PART = "one of the five attributes has too few respondents"
_DUST = 1e-12


@dataclass(frozen=True, slots=True)
class DisplayRules:
    """Thresholds of the standard. Defaults: NCHS 2(175)."""

    n: int = 30
    n_eff: float = 30.0
    narrow: float = 0.05  # width up to which a share is shown whatever its ratio
    wide: float = 0.30  # width from which it is not
    ratio: float = 1.30  # of width to share, above which it is not
    df: int = 8  # below: under review
    fine_n_eff: float = 100.0  # below, percentages are given without decimals
    decimals: int = 1  # of a percentage otherwise

    def __post_init__(self) -> None:
        if not (0 < self.narrow < self.wide <= 1 and self.ratio > 0 and self.n >= 1 and self.decimals >= 0):
            raise ValueError("display rules: give 0 < narrow < wide <= 1, ratio > 0, n >= 1, decimals >= 0")
        # A value below 0, or nan, would switch a step off without a word; 0 says that it is off.
        if not (self.n_eff >= 0 and self.df >= 0 and self.fine_n_eff >= 0):
            raise ValueError("display rules: give n_eff, df and fine_n_eff of 0 or more")


def display(estimates: Sequence[Estimate], rules: DisplayRules) -> list[Estimate]:
    """The estimates, in their order, marked "u" (not shown) or "*" (under review), with notes.

    What is marked "c" already stays as it is: disclosure control comes first.
    """
    parts: dict[tuple[str, str, Domain], list[Estimate]] = {}
    for e in estimates:
        if e.measure not in (OVERALL, ATTRIBUTES):
            parts.setdefault((e.wave, e.service, e.domain), []).append(e)
    return [
        e if e.mark == "c" else _graded(e, parts.get((e.wave, e.service, e.domain), ()), rules)
        for e in estimates
    ]


def display_answers(answers: Sequence[Answer], rules: DisplayRules) -> list[Answer]:
    """The same of answers: the share that chose an option is a proportion like any other.

    An option may be too uncertain to show and the others not: what is unreliable is no secret.
    """
    return [
        a if a.figure.mark == "c" else replace(a, figure=_graded(a.figure, (), rules, ALL_OR_NONE))
        for a in answers
    ]


def decimals(e: Estimate, rules: DisplayRules) -> int:
    """How many decimals its percentage is given with."""
    return rules.decimals if e.n_eff >= rules.fine_n_eff else 0


def _graded(e: Estimate, parts: Iterable[Estimate], rules: DisplayRules, alike: str = ALL_ALIKE) -> Estimate:
    against, notes = (_of_mean(e, parts, rules), []) if e.measure == ATTRIBUTES else _of_share(e, rules)
    if against:
        return replace(e, mark="u", notes=(*e.notes, against))
    review = [FEW_DEGREES] if e.df < rules.df else []
    if e.measure != ATTRIBUTES and e.positive in (0, e.n):
        review.append(alike)
    return replace(e, mark="*" if review else "", notes=(*e.notes, *notes, *review))


def _of_share(e: Estimate, rules: DisplayRules) -> tuple[str, list[str]]:
    """Why it is not shown, or "" and the notes it is shown with."""
    if e.n < rules.n or e.n_eff < rules.n_eff:
        return FEW, []
    if e.share is None or e.width is None:
        return NO_BASE, []
    if not _above(e.width, rules.narrow):
        return "", []
    if not _above(rules.wide, e.width):
        return WIDE, []
    # Products, not quotients: a share of 0 has no quotient.
    if _above(e.width, rules.ratio * e.share):
        return RELATIVE, []
    return "", [COMPLEMENT] if _above(e.width, rules.ratio * (1 - e.share)) else []


def _of_mean(e: Estimate, parts: Iterable[Estimate], rules: DisplayRules) -> str:
    if e.n < rules.n or e.n_eff < rules.n_eff:
        return FEW
    if any(p.mark == "c" or p.n < rules.n for p in parts):
        return PART
    if e.share is None or e.width is None:
        return NO_BASE
    return "" if _above(rules.wide, e.width) else WIDE


def _above(value: float, limit: float) -> bool:
    """Greater, and not by the dust of binary fractions: 1.3 x (1 - 0.8) is meant to be 0.26."""
    return value - limit > _DUST
