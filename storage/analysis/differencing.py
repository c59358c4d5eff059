"""Two tables can be subtracted: between versions of a release, and between a release and a query.

Between versions. What was hidden stays hidden. If a version rests on other interviews than the one before
(somebody withdrew, answers came late), every figure that changed must rest on at least `least` more or
fewer respondents; else the difference of two published figures would tell what one or two people said.
And those who came or left may not be a small group of one mind: while they can be fewer than `group`, the
change of the positive count must be sure to be neither none of them nor all. Published counts are rounded, so
both tests ask what the exact change can have been: an interval. Whoever is of one mind about the options of a
scale is on one side of it, so the item's own figure answers for its options, and the five attributes for
their mean; where these are not shown in both versions, nothing tells that minds differed, and a small change
is refused. What is not asked: sums of hidden figures, between versions. A version that rests on the same
interviews (`material`), weighted or computed otherwise, tells nothing about a person.

Between a release and a query. A query has one wave, one service, one measure and two dimensions at most,
rests on the interviews of the newest version, and goes by its rules. If the table is out already, in the
release or as an answer on the same interviews with the same weights, it is the answer as it is (`held`). If
not, the new table is taken together with everything that is out on the same interviews: the versions of the
wave and every answer served beside them (`served`), all as `Release`s. What one of them hides is hidden in
the answer, what one shows is not hidden again, and the new cells are hidden until nothing can be reckoned;
where that cannot be, the query is refused. A table that is out from other interviews is one that can be
subtracted: the answer goes by the rule for versions.

The five attributes and their mean. The fifth share is five times the mean less the other four. So a query of
one of the six is protected together with what is out of all six, and a query of the mean together with the
five tables that it could be taken apart by.

Between answers and the next version. The same, from the other side: answers count among the earlier versions
(`laid_alike`), their tables are computed again and protected together with the new ones (`tables_out`), and
`mean_faults` looks at the means that they show.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from storage.analysis.disclosure import DisclosureRules, answer_key, key, protect, rounded
from storage.analysis.display import decimals, display
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Answer, Domain, Estimate
from storage.analysis.release import Release

_TOLD = 10  # faults: a few late answers can be one of every figure

#: wave, service, measure, domain: see `disclosure.key`.
FigureKey = tuple[str, str, str, Domain]


class QueryRefused(ValueError):
    """The query may not be answered. The message says why and what can be asked instead."""


@dataclass(frozen=True, slots=True)
class Query:
    """One table: a measure of a service by none, one or two variables."""

    wave: str
    service: str
    measure: str
    variables: tuple[str, ...] = ()


def may_serve(query: Query, released: Release) -> str:
    """Why the query may not be served beside this release; "" if it may (then `serve` hides as needed)."""
    if query.wave != released.wave:
        return f"wave {query.wave} has no release here; ask for wave {released.wave}"
    if len(query.variables) > 2:
        return f"{len(query.variables)} dimensions; ask for two at most"
    if len(set(query.variables)) < len(query.variables):
        return f"{query.variables[0]} twice; ask for two different variables"
    mine = [e for e in released.estimates if (e.service, e.measure) == (query.service, query.measure)]
    if not mine:
        return f"{query.service} {query.measure} is not in the release; ask for a measure that is"
    one_way = {e.domain[0][0] for e in mine if len(e.domain) == 1}
    if unknown := [v for v in query.variables if v not in one_way]:
        # Without its margin in the release, there is no telling what the table would give away.
        return (
            f"{unknown[0]} is not a variable of the release; ask for {', '.join(sorted(one_way)) or 'none'}"
        )
    if not [e for e in mine if not e.domain]:
        return "the release has no national figure of this measure to protect the table with"
    return ""


def held(query: Query, released: Release, beside: Sequence[Release] = ()) -> list[Estimate]:
    """The query's table as it is out already; [] if it is not. As is, also with its variables turned round.

    It is in the release, or in an earlier version or answer (`beside`) on the same interviews whose figures
    were weighted in the same way, so that the release's caution is true of it.
    """

    def alike(r: Release) -> tuple[object, ...]:
        return r.material, r.margins, r.design_weighted, r.probability_sample, r.caps, r.fewest

    same = [r for r in beside if released.material and alike(r) == alike(released)]
    wanted = {query.variables, query.variables[::-1]}
    for r in (released, *same):
        mine = [e for e in r.estimates if (e.service, e.measure) == (query.service, query.measure)]
        if found := [e for e in mine if _variables(e.domain) in wanted]:
            return found
    return []


def serve(
    query: Query,
    released: Release,
    estimates: Sequence[Estimate],
    material: str,
    beside: Sequence[Release] = (),
) -> list[Estimate]:
    """The answer to a query, as it may be read outside. Raises QueryRefused.

    estimates: exact, of the query's service, for the query's table and every domain that is out on these
    interviews, of the query's measure (and of all six, if it is one of the attributes or their mean);
    material: digest of the interviews they rest on, which must be the release's; beside: the earlier
    versions of the wave and the answers given, in any order. A table with its variables turned round is the
    same table, and is answered as it is out already.
    """
    if why := may_serve(query, released):
        raise QueryRefused(why)
    if there := held(query, released, beside):
        return there
    out = laid_alike([released, *beside])
    pairs = {_variables(e.domain) for r in out for e in r.estimates}
    variables = query.variables
    if variables not in pairs and variables[::-1] in pairs:
        variables = variables[::-1]
    measures = {e.measure for e in released.estimates if e.service == query.service} - {OVERALL}
    family = {OVERALL} if query.measure == OVERALL else measures

    def asked(e: Estimate, of: Collection[str]) -> bool:
        return e.service == query.service and e.measure in of and _variables(e.domain) == variables

    if not material or material != released.material:
        raise QueryRefused(
            f"the record has changed since version {released.version} was issued; "
            "ask again after the next version"
        )
    same = {
        key(e)
        for r in out
        if r.material == material
        for e in r.estimates
        if e.service == query.service and e.measure in family
    }
    hidden = {key(e) for r in out for e in r.estimates if e.mark == "c"}
    public = same - hidden
    exact = {key(e): e for e in _turned(estimates, pairs)}
    if same - exact.keys():  # a category that is out has left the instrument
        raise QueryRefused(
            f"the questionnaire's groups have changed since version {released.version}; "
            "ask again after the next version"
        )
    new = family if query.measure == ATTRIBUTES else {query.measure}
    whole = [e for k, e in exact.items() if k in same or asked(e, new)]
    rules = released.rules
    try:
        marked = protect(whole, rules.disclosure, hidden, keep=public)
    except ValueError:
        raise QueryRefused(
            "the table would give away what the release or an earlier answer hides; ask for one variable less"
        ) from None
    if any(e.mark == "c" and key(e) in public for e in marked):
        raise QueryRefused(
            "figures that are out already would tell what this table has to hide; ask for other variables, "
            "or have the table put into the next version"
        )
    shown = [e for e in display(marked, rules.display) if asked(e, {query.measure})]
    found = [rounded(e, decimals(e, rules.display), rules.disclosure) for e in shown]
    if [fault for r in out for fault in revision_faults(found, material, r)]:
        raise QueryRefused(
            "this table is out from other interviews: the difference would tell what a few people said; "
            "ask for other variables"
        )
    return found


def publishing_faults(
    new: Sequence[Estimate], answers: Sequence[Answer], material: str, before: Sequence[Release]
) -> list[str]:
    """Why these may not be published beside everything that is out; none if they may. As they would leave.

    Any two versions can be laid side by side, not only neighbours.
    """
    found = [fault for r in before for fault in revision_faults(new, material, r, answers)]
    return found + mean_faults(new, material, before)


def in_short(faults: Sequence[str]) -> str:
    """The first of these lines, and how many more there are."""
    more = len(faults) - _TOLD
    return "\n".join([*faults[:_TOLD], *([f"and {more:,} more"] if more > 0 else [])])


def laid_alike(releases: Sequence[Release], pairs: Collection[tuple[str, ...]] = ()) -> list[Release]:
    """The same with every two-way table one way round: as `pairs` has it, else as it is out first."""
    known = set(pairs)
    laid = []
    for r in releases:
        figures = _turned(r.estimates, known)
        known |= {_variables(e.domain) for e in figures}
        laid.append(replace(r, estimates=tuple(figures)))
    return laid


def tables_out(releases: Sequence[Release], material: str) -> dict[tuple[str, str, str, Domain], bool]:
    """What is out on these interviews: the key of each two-way figure, and whether it is hidden anywhere.
    releases: laid alike."""
    hidden = {key(e) for r in releases for e in r.estimates if e.mark == "c"}
    return {
        key(e): key(e) in hidden
        for r in releases
        if material and r.material == material
        for e in r.estimates
        if len(e.domain) == 2
    }


def mean_faults(new: Sequence[Estimate], material: str, before: Sequence[Release]) -> list[str]:
    """Why these figures may not be published after `before`: the mean of five attributes is out on the same
    interviews, and one of the five, which is not, would be hidden beside the other four."""
    out = tables_out(before, material)
    return [
        f"{e.service} {e.measure}, {', '.join('='.join(pair) for pair in e.domain)}: has to be hidden, and"
        " could be told from the mean that a query was answered with; leave"
        f" {' by '.join(_variables(e.domain))} out"
        for e in new
        if e.mark == "c" and e.measure not in (OVERALL, ATTRIBUTES) and key(e) not in out
        and out.get((e.wave, e.service, ATTRIBUTES, e.domain)) is False
    ]  # fmt: skip


def _turned(estimates: Iterable[Estimate], pairs: Collection[tuple[str, ...]]) -> list[Estimate]:
    """Two-way figures whose variables `pairs` has the other way round, turned."""
    found = []
    for e in estimates:
        variables = _variables(e.domain)
        if variables not in pairs and variables[::-1] in pairs:
            e = replace(e, domain=e.domain[::-1])
        found.append(e)
    return found


def revision_faults(
    new: Sequence[Estimate],
    material: str,
    before: Release,
    answers: Sequence[Answer] = (),
    rules: DisclosureRules | None = None,
) -> list[str]:
    """Why these figures (as they would leave) may not be published after `before`; none if they may.

    answers: theirs, likewise. They rest on their item's base, so the same difference of it is asked.
    rules: that `new` was made by; those of `before` if not given. The stricter of the two hold.
    """
    if material and material == before.material:
        return []
    were = before.rules.disclosure
    rules = rules or were
    least, group = max(were.least, rules.least), max(were.group, rules.group)
    rounding = max(were.rounding, rules.rounding)
    old = {key(e): e for e in before.estimates}
    old_answers = {answer_key(a): a.figure for a in before.answers}
    now = {key(e): e for e in new}
    shown = {k for k, e in now.items() if k in old and not {e.mark, old[k].mark} & {"c", "u"}}
    five: dict[tuple[str, str, Domain], set[FigureKey]] = {}
    for k in old.keys() | now.keys():
        if k[2] not in (OVERALL, ATTRIBUTES):
            five.setdefault((k[0], k[1], k[3]), set()).add(k)
    pairs = [(e, old.get(key(e)), "") for e in new]
    pairs += [(a.figure, old_answers.get(answer_key(a)), f", {a.option}") for a in answers]
    faults = []
    for e, was, option in pairs:
        if was is None or "c" in (e.mark, was.mark) or _seen(e) == _seen(was):
            continue
        base = _change(was.n, e.n, were, rules)
        if few := _within(base, least):
            why, wanted = f"the difference would tell what fewer than {least} people said", least
        elif small := _within(base, group):
            why, wanted = f"the difference may be fewer than {group} people who all answered alike", group
            if "u" in (e.mark, was.mark):
                continue  # nothing is said of what they answered
            if option:  # the item is asked for itself; so are the five
                mixed = key(e) in shown
            elif e.measure == ATTRIBUTES:
                of = five.get((e.wave, e.service, e.domain), set())
                mixed = bool(of) and of <= shown
            else:
                mixed = not _alike(small, _change(was.positive, e.positive, were, rules))
            if mixed:
                continue
        if few or small:
            where = (", ".join("=".join(pair) for pair in e.domain) or "national") + option
            faults.append(
                f"{e.service} {e.measure}, {where}: base {was.n} in version {before.version} and {e.n} now; "
                f"{why}. Publish from the interviews of version {before.version}, or once there are "
                f"{wanted + rounding} more"
            )
    return faults


def _change(was: int, now: int, before: DisclosureRules, after: DisclosureRules) -> tuple[int, int]:
    """The least and the greatest exact change behind two published counts: see `rounded`, half goes up."""
    low = now - after.rounding // 2 - (was + (before.rounding - 1) // 2)
    return low, now + (after.rounding - 1) // 2 - (was - before.rounding // 2)


def _within(change: tuple[int, int], below: int) -> tuple[int, int] | None:
    """The part of an interval that is under `below` people more or fewer; None if there is none."""
    low, high = max(change[0], 1 - below), min(change[1], below - 1)
    return (low, high) if low <= high else None


def _alike(people: tuple[int, int], positive: tuple[int, int]) -> bool:
    """Whether of so many people none, or all, can have answered positively."""
    none = positive[0] <= 0 <= positive[1]
    return none or (positive[0] <= people[1] and people[0] <= positive[1])


def _seen(e: Estimate) -> tuple[object, ...]:
    return e.n, e.positive, e.share, e.not_applicable, e.dont_know, e.refused


def _variables(domain: Domain) -> tuple[str, ...]:
    return tuple(variable for variable, _ in domain)
