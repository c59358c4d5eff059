"""Which counts of a public quality report are hidden where several of its tables add up to the same people.

Each table alone hides little: the small parts and one partner each. But dispositions, completion, the mixes,
the rates' groups and where people stopped are parts of the same interviews, and the tables of coverage of the
same respondents. What one table hides another would tell, if each chose its partners by itself. So all counts
that belong together are cells of one system, with every "total = its parts" among them, and what is hidden is
chosen for all at once, by the rules of `disclosure`.

Where an equation lacks people whom no table tells of, the reader is taken to know how many they are: who
dialled in without an invitation, respondents who said their region and not their sex.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from storage.analysis.disclosure import Count, DisclosureRules, Line, reckoned
from storage.analysis.estimates import Domain
from storage.analysis.quality_parts import OVER, Quality
from storage.analysis.sensitivity import Coverage
from storage.models import COMPLETE, IN_PROGRESS, WITHDRAWN

#: All counted interviews; of these over, unfinished for good, and neither; stopped at some question; invited.
ALL, ENDED, STOPPED, OTHER, LEFT, INVITED = (
    ((name, ""),) for name in ("interviews", "over", "not complete", "other", "left", "invited")
)
#: Of one mode, network or language.
MIXED = ("interviews", "over", COMPLETE, "not complete", "other")
#: AAPOR's groups, and the dispositions of interviews that are in them (`dispositions.OUTCOMES`).
_GROUPS = {
    "I": (COMPLETE,), "P": ("partial",), "R": ("refusal", "break_off", WITHDRAWN),
    "X": ("ineligible", "quota_full"),
}  # fmt: skip


def stood(disposition: str) -> Domain:
    return (("disposition", disposition),)


def group(name: str) -> Domain:
    return (("group", name),)


def left(item: str) -> Domain:
    return (("left", item),)


def mixed(by: str, key: str, what: str) -> Domain:
    """`what`: see MIXED."""
    return ((by, key), (what, ""))


def hidden_interviews(report: Quality, rules: DisclosureRules) -> set[Domain]:
    """What is hidden of an exact report's dispositions, completion, mixes, rates' groups, and of who left.

    Of `completion` and of each mix the share is shown only if none of what makes it is hidden.
    """
    cells = {stood(p.key): p.n or 0 for p in report.dispositions}
    interviews = list(cells)
    for name in (*OVER, IN_PROGRESS):
        cells.setdefault(stood(name), 0)
    unfinished = [stood(name) for name in OVER if name != COMPLETE]
    others = [d for d in interviews if d not in (stood(COMPLETE), *unfinished)]
    cells |= {left(i.item): i.left.n or 0 for i in report.items}
    cells[stood(WITHDRAWN)] = next((p.n or 0 for p in report.happenings if p.key == WITHDRAWN), 0)
    lines: list[Line] = []

    def add_up(total: Domain, parts: Iterable[Domain]) -> None:
        there = tuple(parts)
        cells.setdefault(total, sum(cells[p] for p in there))
        lines.append((total, there))

    add_up(ALL, interviews)
    add_up(STOPPED, unfinished)
    add_up(ENDED, [stood(COMPLETE), STOPPED])
    add_up(OTHER, others)
    add_up(ALL, [ENDED, OTHER])
    add_up(LEFT, [STOPPED, stood(IN_PROGRESS)])
    add_up(LEFT, [left(i.item) for i in report.items])
    for by, mixes in report.mixes.items():
        for m in mixes:
            n, over, complete = m.interviews.n or 0, m.complete.of or 0, m.complete.n or 0
            each = dict(zip(MIXED, (n, over, complete, over - complete, n - over), strict=True))
            cells |= {mixed(by, m.key, what): of for what, of in each.items()}
            of_all, of_over, *rest, other = (mixed(by, m.key, what) for what in MIXED)
            add_up(of_over, rest)
            add_up(of_all, [of_over, other])
        for total, what in zip((ALL, ENDED, stood(COMPLETE), STOPPED, OTHER), MIXED, strict=True):
            add_up(total, [mixed(by, m.key, what) for m in mixes])
    if report.rates is not None:
        counts = report.rates.counts
        cells |= {group(name): n or 0 for name, n in counts.items()}
        add_up(INVITED, [group(name) for name in counts])
        for name, dispositions in _GROUPS.items():
            theirs = [stood(d) for d in dispositions if cells.get(stood(d))]
            apart = abs(cells.get(group(name), 0) - sum(cells[d] for d in theirs))
            # Nearly the same people: few dialled in, or are in the group without an interview.
            if theirs and name in counts and apart < rules.least:
                add_up(group(name), theirs)
    return hidden_counts(cells, lines, rules, (ALL, INVITED))


# ---------------------------------------------------------------- coverage

RESPONDENTS: Domain = ()


def covered(table: Coverage, category: str | None) -> Domain:
    """None: those of whom it is not known."""
    parts = ("",) * len(table.variables) if category is None else category.split("*")
    return tuple(sorted(zip(table.variables, parts, strict=True)))


def hidden_coverage(tables: Sequence[Coverage], rules: DisclosureRules) -> set[Domain]:
    """What is hidden of exact tables of coverage, all of the same respondents."""
    cells: dict[Domain, int] = {}
    by: dict[tuple[str, ...], list[Domain]] = {}
    lines: list[Line] = []
    for table in tables:
        if (names := tuple(sorted(table.variables))) in by:  # two sources, the same people
            continue
        every: Mapping[Domain, int] = {covered(table, c.category): c.n or 0 for c in table.categories}
        cells |= every
        by[names] = list(every)
        if len(names) == 1:
            not_known = covered(table, None)
            cells[not_known] = table.not_known or 0
            cells[RESPONDENTS] = sum(every.values()) + cells[not_known]
            lines.append((RESPONDENTS, (*every, not_known)))
    for one, other in combinations(by, 2):
        fewer, more = sorted((one, other), key=len)
        if set(fewer) < set(more):
            lines += [
                (total, parts)
                for total in by[fewer]
                if (parts := tuple(cell for cell in by[more] if set(total) <= set(cell)))
            ]
    hidden = hidden_counts(cells, lines, rules, (RESPONDENTS,))
    for table in tables:
        # Of a cross it holds those of its variables, and can be small only if one of theirs is.
        if 0 < (table.not_known or 0) < rules.least or any(((v, ""),) in hidden for v in table.variables):
            hidden.add(covered(table, None))
    return hidden


# ---------------------------------------------------------------- any counts


def hidden_counts(
    cells: Mapping[Domain, int],
    all_lines: Sequence[Line],
    rules: DisclosureRules,
    known: Collection[Domain] = (),
) -> set[Domain]:
    """Which of these counts of people are hidden: rules 1 and 3 of `disclosure`, for tables without answers.

    `known`: public in any case. Noughts are never hidden: that nobody did something tells of nobody. The
    partner is the count that leaves the fewest equations telling, of such the smallest; in the end those that
    the others make needless are shown. Where nothing helps, all that equations tie together is hidden.
    """
    table = {cell: Count(n) for cell, n in cells.items()}
    hidden: set[Domain] = set()
    for tied in _tied({cell for cell, n in cells.items() if n and cell not in known}, all_lines):
        theirs = [line for line in all_lines if not tied.isdisjoint((line[0], *line[1]))]
        small = {cell for cell in tied if cells[cell] < rules.least}
        out = set(small)
        while telling := _telling(table, theirs, out, rules):
            free = {cell for line in telling for cell in (line[0], *line[1])} & tied - out or tied - out
            if not free:
                break
            out.add(min(free, key=lambda c: (len(_telling(table, theirs, out | {c}, rules)), cells[c], c)))
        for cell in sorted(out - small, key=lambda c: (-cells[c], c)):
            if not _telling(table, theirs, out - {cell}, rules):
                out.remove(cell)
        hidden |= out
    return hidden


def _tied(cells: Collection[Domain], all_lines: Iterable[Line]) -> list[set[Domain]]:
    """These cells, those together that equations tie to each other."""
    groups = {cell: {cell} for cell in cells}
    for total, parts in all_lines:
        there = [d for d in (total, *parts) if d in groups]
        for d in there[1:]:
            if groups[d] is not groups[there[0]]:
                groups[there[0]] |= groups[d]
                for other in groups[d]:
                    groups[other] = groups[there[0]]
    return list({id(group): group for group in groups.values()}.values())


def _telling(
    table: Mapping[Domain, Count],
    all_lines: Sequence[Line],
    hidden: Collection[Domain],
    rules: DisclosureRules,
) -> list[Line]:
    """The lines by which few are hidden under a shown total, or with a hidden count that can be reckoned."""
    known = reckoned(table, all_lines, hidden, counted=False)
    return [
        (total, parts)
        for total, parts in all_lines
        if not known.isdisjoint((total, *parts))
        or (total not in hidden and 0 < sum(table[p].n for p in parts if p in hidden) < rules.least)
    ]
