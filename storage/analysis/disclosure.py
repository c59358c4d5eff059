"""Disclosure control: which figures may not be shown because they could tell something about a person.

The rules, in this order, on exact counts (rounding comes last):

 1. Small base. Fewer than `least` respondents: hidden.
 2. Group disclosure. All answered alike (no positive answer, or nothing but) in a domain of fewer than
    `group` respondents: hidden, since whoever knows that somebody is in it knows the answer.
 3. Complementary. What can be had by subtracting published figures from a published margin is as good
    as published. So, until nothing changes:
      a. the sum of what is hidden under a published total must itself pass rules 1 and 2;
      b. no hidden base, and no hidden count of answers of one kind, may follow from all published ones
         together: the equations "margin = sum of its parts" of all tables of a release are solved as one
         system, one-way and two-way, and whatever has only one solution gets a partner.
    The partner is the smallest shown figure in the same line.
 4. The mean of the five attribute shares is hidden where any of the five is: the fifth share is five
    times the mean less the other four.
 5. The options of an item's scale, national: all hidden with the item's own figure, by rule 1, and by rule 2
    if one option holds everybody. Else an option that somebody chose but fewer than `least` is hidden, and
    with it its whole side: the share of the positive options together is published, so within them, and
    within the negative ones, one alone could be subtracted.

Hidden are the share and everything that goes with it: base, counts, errors. Sums of weights are never
published at all: share x weight sum would let anybody subtract weighted tables too.

In b the reader is taken to know how many respondents did not say their sex, age or region, and that no
count is negative. What b does not bound is how closely a hidden count can be guessed; a does, in each line.

Sources: survey-statistics practice as collected in docs/releases.md (thresholds of 10: ONS Longitudinal
Study; complementary suppression: Hundepool et al., Statistical Disclosure Control, 2012, chapter 4; small
cells of a table of counts or percentages: the same, chapter 5).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from storage.analysis.counted import POSITIVE
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Answer, Domain, Estimate, blanked

SMALL, ALIKE, PARTNER, BEFORE, FEW_CHOSE = (
    "fewer respondents than may be shown",
    "all answered alike in a small group",
    "hidden so that no other hidden figure can be reckoned",
    "hidden in an earlier version",
    "chosen by fewer people than may be shown",
)
_PRIME = (1 << 61) - 1  # a field to solve in without fractions; the equations' coefficients are 1 and -1

#: A published total and the parts that add up to it.
Line = tuple[Domain, tuple[Domain, ...]]


@dataclass(frozen=True, slots=True)
class Count:
    """So many people, of whatever they are counted by."""

    n: int
    positive: int = 0  # nobody asks


@dataclass(frozen=True, slots=True)
class DisclosureRules:
    """Thresholds, in respondents. Defaults: see the module and docs/releases.md."""

    least: int = 10  # base below: hidden. ONS Longitudinal Study: 10; others 3 or 5 (OECD glossary)
    group: int = 30  # base below: hidden if all answered alike. NCHS shows nothing below 30 anyway
    rounding: int = 5  # published counts are multiples of it. Eurostat's farm tables round to 10, or 5

    def __post_init__(self) -> None:
        if self.least < 3 or self.group < self.least or self.rounding < 1:
            raise ValueError(
                f"disclosure rules: least {self.least}, group {self.group}, rounding {self.rounding}: "
                "give least >= 3, group >= least and rounding >= 1"
            )


def reason(n: int, positive: int | None, rules: DisclosureRules) -> str:
    """Why a figure on `n` respondents, `positive` of them so, may not be shown; "" if it may.

    `positive` None: a figure without such a count.
    """
    if n < rules.least:
        return SMALL
    if positive is not None and n < rules.group and positive in (0, n):
        return ALIKE
    return ""


def protect(
    estimates: Sequence[Estimate],
    rules: DisclosureRules,
    hidden_before: Collection[tuple[str, str, str, Domain]] = (),
    keep: Collection[tuple[str, str, str, Domain]] = (),
) -> list[Estimate]:
    """The estimates, in their order, those that disclose marked "c" with the reason as their last note.

    They are marked, not blanked, for staff to see why: `rounded` blanks. The estimates must be all that
    is published of their waves, since what is safe depends on what else is shown. `hidden_before`: keys
    (`key`) to hide in any case; `keep`: keys that are public already, never chosen as partners. Raises
    ValueError if a domain comes twice, or if nothing is left to hide and something hidden could still be
    reckoned.
    """
    tables: dict[tuple[str, str, str], dict[Domain, Estimate]] = {}
    for e in estimates:
        table = tables.setdefault((e.wave, e.service, e.measure), {})
        if e.domain in table:
            raise ValueError(f"{e.service} {e.measure} {e.domain or 'national'}: two estimates; give one")
        table[e.domain] = e
    why: dict[tuple[str, str, str, Domain], str] = {}
    # The mean last: it follows its five.
    for name in sorted(tables, key=lambda name: name[2] == ATTRIBUTES):
        table = tables[name]
        counted = name[2] != ATTRIBUTES
        start = {
            domain: found
            for domain, e in table.items()
            if (found := reason(e.n, e.positive if counted else None, rules))
            or (found := BEFORE if (*name, domain) in hidden_before else "")
        }
        if not counted:
            start |= {
                key[3]: f"{key[2]} is hidden"
                for key in why
                if key[:2] == name[:2] and key[2] != OVERALL and key[3] in table and key[3] not in start
            }
        fixed = {domain for domain in table if (*name, domain) in keep}
        for domain, found in _completed(table, start, fixed, counted, rules).items():
            why[*name, domain] = found
    return [replace(e, mark="c", notes=(*e.notes, why[key(e)])) if key(e) in why else e for e in estimates]


def key(e: Estimate) -> tuple[str, str, str, Domain]:
    """What names an estimate in its release."""
    return e.wave, e.service, e.measure, e.domain


#: What names an answer in its release.
AnswerKey = tuple[tuple[str, str, str, Domain], str, int]


def answer_key(a: Answer) -> AnswerKey:
    return key(a.figure), a.option, a.code


def protect_answers(
    answers: Sequence[Answer],
    hidden_items: Collection[tuple[str, str, str, Domain]],
    rules: DisclosureRules,
    hidden_before: Collection[AnswerKey] = (),
) -> list[Answer]:
    """The answers, in their order, those that disclose marked "c" with the reason as the last note (rule 5).

    They must be all options of their items. `hidden_items`: keys of the figures that `protect` hides;
    `hidden_before`: those to hide in any case. Marked, not blanked, as `protect` does.
    """
    items: dict[tuple[str, str, str, Domain], list[Answer]] = {}
    for a in answers:
        items.setdefault(key(a.figure), []).append(a)
    why: dict[AnswerKey, str] = {}
    for item, options in items.items():
        # Of one option only "everybody chose it" matters: that nobody did is true of most in a small group.
        most = max(options, key=lambda a: a.figure.positive).figure
        whole = reason(most.n, most.positive, rules)
        if item in hidden_items or whole:
            why |= {answer_key(a): whole or f"{item[2]} is hidden" for a in options}
            continue
        for positive in (True, False):
            why |= _few([a for a in options if (a.code in POSITIVE) is positive], rules.least, hidden_before)
    return [
        replace(a, figure=replace(a.figure, mark="c", notes=(*a.figure.notes, why[answer_key(a)])))
        if answer_key(a) in why
        else a
        for a in answers
    ]


def _few(side: Sequence[Answer], least: int, hidden_before: Collection[AnswerKey]) -> dict[AnswerKey, str]:
    """What to hide among options whose shares' sum is published: all of them or none.

    All, also of more than two: who knows the rule could tell why a partner was chosen and another was not.
    """
    hidden = {answer_key(a): FEW_CHOSE for a in side if 0 < a.figure.positive < least}
    hidden |= {k: BEFORE for a in side if (k := answer_key(a)) in hidden_before and k not in hidden}
    if len(side) == 1 or not hidden:  # alone on its side, it is the item's own figure
        return {}
    return {(k := answer_key(a)): hidden.get(k, PARTNER) for a in side}


def lines(domains: Iterable[Domain]) -> list[Line]:
    """Every "total = sum of parts" among these domains, in a fixed order.

    Parts need not be all: who did not answer is in the total only. A two-way table adds up to both its
    one-way tables, or, where neither is there, to the national figure.
    """
    known = list(dict.fromkeys(domains))
    one: dict[str, list[Domain]] = {}
    two: dict[tuple[str, str], list[Domain]] = {}
    for domain in known:
        match domain:
            case ((variable, _),):
                one.setdefault(variable, []).append(domain)
            case ((first, _), (second, _)):
                two.setdefault((first, second), []).append(domain)
            case ():
                pass
            case _:
                raise ValueError(f"domain {domain}: a release has two dimensions at most")
    found: list[Line] = [((), tuple(parts)) for parts in one.values()]
    for (first, second), cells in two.items():
        for place, variable in enumerate((first, second)):
            found += [
                (margin, tuple(c for c in cells if c[place] == margin[0])) for margin in one.get(variable, ())
            ]
        if first not in one and second not in one:
            found.append(((), tuple(cells)))
    there = set(known)
    return [(total, parts) for total, parts in found if total in there and parts]


def _completed(
    table: Mapping[Domain, Estimate],
    start: Mapping[Domain, str],
    fixed: Collection[Domain],
    counted: bool,
    rules: DisclosureRules,
) -> dict[Domain, str]:
    """`start` and the partners it needs, each with its reason."""
    hidden = dict(start)
    all_lines = lines(table)
    while hidden and (partner := _next_partner(table, all_lines, hidden, fixed, counted, rules)) is not None:
        hidden[partner] = PARTNER
    return hidden


def _next_partner(
    table: Mapping[Domain, Estimate],
    all_lines: Sequence[Line],
    hidden: Collection[Domain],
    fixed: Collection[Domain],
    counted: bool,
    rules: DisclosureRules,
) -> Domain | None:
    def smallest(choice: Iterable[Domain]) -> Domain | None:
        free = [d for d in choice if d not in hidden and d not in fixed and table[d].n]
        return min(free, key=lambda d: (table[d].n, d), default=None)

    open_lines: list[tuple[Line, str]] = []
    for total, parts in all_lines:
        out = [p for p in parts if p in hidden]
        if total in hidden or not sum(table[p].n for p in out):
            continue
        positive = sum(table[p].positive for p in out) if counted else None
        if reason(sum(table[p].n for p in out), positive, rules):
            open_lines.append(((total, parts), "sum"))
    for (total, parts), _ in open_lines:
        if (partner := smallest(parts)) or (partner := smallest([total])):
            return partner
    known = {domain for domain in reckoned(table, all_lines, hidden, counted) if table[domain].n}
    for domain in sorted(known, key=lambda d: (len(d), d)):
        mine = [(total, parts) for total, parts in all_lines if domain == total or domain in parts]
        partners = [p for total, parts in mine if (p := smallest(parts))]
        totals = [p for total, _ in mine if (p := smallest([total]))]
        if partners or totals:
            return min(partners or totals, key=lambda d: (table[d].n, d))
    if open_lines or known:
        where = open_lines[0][0][0] if open_lines else min(known)
        raise ValueError(
            f"under {where or 'national'}: a hidden figure can be reckoned and nothing is left to hide; "
            "leave this table out of the release"
        )
    return None


def reckoned(
    table: Mapping[Domain, Estimate | Count],
    all_lines: Sequence[Line],
    hidden: Collection[Domain],
    counted: bool = True,
) -> set[Domain]:
    """The hidden domains of which a reader can reckon the base, the positive or the other answers.

    The reader knows all that is shown, how many are missing in each line, and that no count is negative.
    Two steps, exact for counts taken as real numbers: the zeros that cannot be anything else are known;
    what the equations then leave one value for is known too. (Nothing else is: from the true counts one
    can go a little way in a direction that moves all others.)
    """
    kinds: list[Callable[[Estimate | Count], int]] = [lambda e: e.n]
    if counted:  # a base is the sum of the two: open as soon as one of them is
        kinds = [lambda e: e.positive, lambda e: e.n - e.positive]
    equations = [
        {d: (-1 if d == total else 1) for d in (total, *parts) if d in hidden} for total, parts in all_lines
    ]
    equations = [equation for equation in equations if equation]
    found: set[Domain] = set()
    for kind in kinds:
        zeros = _forced_zeros(equations, [d for d in hidden if not kind(table[d])])
        left = [{d: c for d, c in equation.items() if d not in zeros} for equation in equations]
        found |= zeros | _only_solutions(left)
    return found


def _forced_zeros(equations: Sequence[Mapping[Domain, int]], zeros: Sequence[Domain]) -> set[Domain]:
    """The zeros that no other solution lifts, no count being negative: one linear programme.

    Over directions d from the true counts (equations = 0, d >= 0 at a zero): max of the sum of u,
    u <= d, u <= 1. Directions can be added and stretched, so every zero that can be lifted gets u = 1.
    """
    unknowns = list(dict.fromkeys(d for equation in equations for d in equation))
    place = {d: i for i, d in enumerate(unknowns)}
    zeros = [d for d in zeros if d in place]
    if not zeros:
        return set()
    import numpy as np
    from scipy.optimize import linprog  # type: ignore[import-untyped]

    n, z = len(unknowns), len(zeros)
    balance, below = np.zeros((len(equations), n + z)), np.zeros((z, n + z))
    for row, equation in enumerate(equations):
        for d, sign in equation.items():
            balance[row, place[d]] = sign
    for row, d in enumerate(zeros):
        below[row, n + row], below[row, place[d]] = 1, -1
    bounds = [(0, None) if d in set(zeros) else (None, None) for d in unknowns] + [(0, 1)] * z
    cost = np.concatenate([np.zeros(n), -np.ones(z)])
    solved = linprog(
        cost, A_ub=below, b_ub=np.zeros(z), A_eq=balance, b_eq=np.zeros(len(equations)), bounds=bounds
    )
    if not solved.success:  # no answer is no permission to publish
        return set(zeros)
    return {d for row, d in enumerate(zeros) if solved.x[n + row] < 0.5}


def _only_solutions(equations: Iterable[Mapping[Domain, int]]) -> set[Domain]:
    """The unknowns that have one value in every solution: Gauss and Jordan, in a prime field."""
    rows: dict[Domain, dict[Domain, int]] = {}  # by the unknown that the row is solved for
    for equation in equations:
        row = {d: c % _PRIME for d, c in equation.items()}
        for pivot in [d for d in row if d in rows]:
            _subtract(row, rows[pivot], row[pivot])
        if not row:
            continue
        pivot = next(iter(row))
        inverse = pow(row[pivot], -1, _PRIME)
        row = {d: c * inverse % _PRIME for d, c in row.items()}
        for other in rows.values():
            if pivot in other:
                _subtract(other, row, other[pivot])
        rows[pivot] = row
    return {pivot for pivot, row in rows.items() if len(row) == 1}


def _subtract(row: dict[Domain, int], other: Mapping[Domain, int], times: int) -> None:
    for d, c in other.items():
        value = (row.get(d, 0) - c * times) % _PRIME
        if value:
            row[d] = value
        else:
            row.pop(d, None)


def rounded(e: Estimate, decimals: int, rules: DisclosureRules) -> Estimate:
    """The estimate as it may be read outside: percentages to `decimals`, counts to `rules.rounding`.

    A mark "c" blanks everything, the reason (its last note) as well: that all answered alike is the
    secret itself, and who knows which figures are only partners knows more of the others. "u" blanks what
    the share is made of and leaves the base.
    The errors are rounded like the share: an exact error of a share tells its base exactly. For the same
    reason degrees of freedom and effective n are rounded like counts.
    """
    if e.mark == "c":
        return blanked(e, "c", e.notes[:-1])

    def count(value: float) -> int:
        return int((value + rules.rounding / 2) // rules.rounding) * rules.rounding

    def part(value: float | None) -> float | None:
        return None if value is None else round(value, decimals + 2)

    shown = replace(
        e, n=count(e.n), positive=count(e.positive), share=part(e.share), se=part(e.se), low=part(e.low),
        high=part(e.high), df=count(e.df), n_eff=float(count(e.n_eff)),
        deff=None if e.deff is None else round(e.deff, 1), width=part(e.width),
        not_applicable=count(e.not_applicable), dont_know=count(e.dont_know), refused=count(e.refused),
        not_reached=count(e.not_reached),
    )  # fmt: skip
    if e.mark != "u":
        return shown
    bare = blanked(e, "u", e.notes)
    return replace(
        bare, n=shown.n, not_applicable=shown.not_applicable, dont_know=shown.dont_know,
        refused=shown.refused, not_reached=shown.not_reached,
    )  # fmt: skip
