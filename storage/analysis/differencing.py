"""Two tables can be subtracted: between versions of a release, and between a release and a query.

Between versions. What was hidden stays hidden. If a version rests on other interviews than the one before
(somebody withdrew, answers came late), every figure that changed must rest on at least `least` more or
fewer respondents; else the difference of two published figures would tell what one or two people said.
Published bases are rounded, so the test is on them with the rounding added. A version that rests on the
same interviews (`material`), weighted or computed otherwise, tells nothing about a person.

Between a release and a query. A query has one wave, one service, one measure and two dimensions at most,
rests on the interviews of the newest version, and goes by its rules. If the release holds the table, it is
the answer. If not, the new table is taken together with everything released: what the release hides is
hidden in the answer, what it shows is not hidden again, and the new cells are hidden until nothing can be
reckoned. Each answer is protected against the release, not against other answers: two about pairs of
variables that share a variable whose one-way figures are hidden might together narrow one of them. Queries
are for the office's staff, each is written down (`queries`), and answers to be published together go into
the next version as crosses, where all tables are protected at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.analysis.disclosure import answer_key, key, protect, rounded
from storage.analysis.display import decimals, display
from storage.analysis.estimates import Answer, Domain, Estimate
from storage.analysis.release import Release


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


def serve(query: Query, released: Release, estimates: Sequence[Estimate], material: str) -> list[Estimate]:
    """The answer to a query, as it may be read outside. Raises QueryRefused.

    estimates: exact, of the query's service and measure, for the query's table and every domain that the
    release has of them; material: digest of the interviews they rest on, which must be the release's.
    """
    if why := may_serve(query, released):
        raise QueryRefused(why)
    mine = {
        e.domain: e for e in released.estimates if (e.service, e.measure) == (query.service, query.measure)
    }
    there = [e for d, e in mine.items() if _variables(d) == query.variables]
    turned = [e for d, e in mine.items() if _variables(d) == query.variables[::-1]]
    if there or turned:
        return there or turned
    if not material or material != released.material:
        raise QueryRefused(
            f"the record has changed since version {released.version} was issued; "
            "ask again after the next version"
        )
    exact = {e.domain: e for e in estimates if (e.service, e.measure) == (query.service, query.measure)}
    if lacking := mine.keys() - exact.keys():
        raise ValueError(f"give the exact estimate of {min(lacking)} too: the release has it")
    whole = [exact[d] for d in mine] + [e for d, e in exact.items() if d not in mine]
    hidden = {key(e) for e in mine.values() if e.mark == "c"}
    public = {key(e) for e in mine.values() if e.mark != "c"}
    rules = released.rules
    try:
        marked = protect(whole, rules.disclosure, hidden, keep=public)
    except ValueError:
        raise QueryRefused(
            "the table would give away what the release hides; ask for one variable less"
        ) from None
    if any(e.mark == "c" and key(e) in public for e in marked):
        raise QueryRefused("the record differs from what was released; ask again after the next version")
    shown = [e for e in display(marked, rules.display) if _variables(e.domain) == query.variables]
    return [rounded(e, decimals(e, rules.display), rules.disclosure) for e in shown]


def revision_faults(
    new: Sequence[Estimate], material: str, before: Release, answers: Sequence[Answer] = ()
) -> list[str]:
    """Why these figures (as they would leave) may not be published after `before`; none if they may.

    answers: theirs, likewise. They rest on their item's base, so the same difference of it is asked.
    """
    if material and material == before.material:
        return []
    rules = before.rules.disclosure
    least = rules.least + rules.rounding
    old = {key(e): e for e in before.estimates}
    old_answers = {answer_key(a): a.figure for a in before.answers}
    pairs = [(e, old.get(key(e)), "") for e in new]
    pairs += [(a.figure, old_answers.get(answer_key(a)), f", {a.option}") for a in answers]
    faults = []
    for e, was, option in pairs:
        if was is None or "c" in (e.mark, was.mark) or _seen(e) == _seen(was):
            continue
        if abs(e.n - was.n) < least:
            where = (", ".join("=".join(pair) for pair in e.domain) or "national") + option
            faults.append(
                f"{e.service} {e.measure}, {where}: base {was.n} in version {before.version} and {e.n} now; "
                f"the difference would tell what fewer than {rules.least} people said. Publish from the "
                f"interviews of version {before.version}, or once there are {least} more"
            )
    return faults


def _seen(e: Estimate) -> tuple[object, ...]:
    return e.n, e.positive, e.share, e.not_applicable, e.dont_know, e.refused


def _variables(domain: Domain) -> tuple[str, ...]:
    return tuple(variable for variable, _ in domain)
