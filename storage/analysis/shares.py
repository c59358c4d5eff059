"""Shares of one service: answers to states, states to counts by cell, counts to estimates by domain.

An answer on the scale is counted by its option, once, and from there by side; what is broken down knows
sides only, `answers` knows the options of the national figures.

Positive are the codes 3 and 2 of the item's scale; 1 and 0 are valid negative answers. Not applicable,
don't know, refused and not reached leave the base of that item and are counted beside it. "Not reached":
no answer, although no answer given before rules the item out. (UN metadata sheet 16.6.2, DATA_COMP.)

The mean of attributes is the mean of their shares, each on its own base; answers are never pooled. Its
influence value is the mean of theirs, so covariances are in it; df by respondents with at least one of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.instrument import NONRESPONSE_MARKS, UNANSWERED, Instrument
from storage.analysis.counted import POSITIVE
from storage.analysis.domains import Bools, Marks, possible
from storage.analysis.estimates import ATTRIBUTES, Domain, Estimate
from storage.analysis.intervals import Floats, Ints, Reach, reach
from storage.analysis.variance import Design

#: What an answer is to its item's share. The first two are its base.
NEGATIVE, POSITIVE_STATE, NOT_APPLICABLE, DONT_KNOW, REFUSED, NOT_REACHED, NOT_ASKED = range(7)
_STATES = 8
#: Of an answer as it is read: a state of these seven but the first two, or its option's place after them.
_OPTIONS = _STATES
_MISSING_STATES = {"not_applicable": NOT_APPLICABLE, "dont_know": DONT_KNOW, "refused": REFUSED}

#: Cells x states: respondents. Or cells x options of one item's scale.
Counts = Ints
#: An option's id and code. The same id with another code, in another version, is another option.
Choice = tuple[str, int]


@dataclass(frozen=True)
class Patterns:
    """Respondents alike in cell and in their valid attribute answers: one row each."""

    cell: Ints
    valid: Ints  # rows x attributes: 1 a valid answer
    positive: Ints  # rows x attributes
    which: Ints  # each row's place in `valid` and `positive`, which hold distinct patterns
    n: Ints


@dataclass(frozen=True)
class States:
    """One service's answers, a row a respondent."""

    attributes: tuple[str, ...]
    overall: str  # item ids
    of: Mapping[str, npt.NDArray[np.int8]]  # item -> states, or options' places after them
    options: Mapping[str, tuple[Choice, ...]]  # item -> in the scale's order

    def counts(self, cell: Ints, cells: int) -> tuple[dict[str, Counts], dict[str, Counts]]:
        """Of each item, respondents by cell and state, and by cell and option. `cell` -1: not in the file."""
        inside = cell >= 0
        every = bool(inside.all())
        by_state, by_option = {}, {}
        for item, states in self.of.items():
            wide = _OPTIONS + len(self.options[item])
            key = cell * wide + states if every else (cell * wide + states)[inside]
            held = np.bincount(key, minlength=cells * wide).reshape(cells, wide)
            by_state[item], by_option[item] = held[:, :_OPTIONS].copy(), held[:, _OPTIONS:]
            for place, (_, code) in enumerate(self.options[item]):
                by_state[item][:, _side(code)] += by_option[item][:, place]
        return by_state, by_option

    def sides(self, item: str) -> Ints:
        """Of each row: NEGATIVE, POSITIVE_STATE, or -1 without a valid answer to the item."""
        side = [-1] * _OPTIONS + [_side(code) for _, code in self.options[item]]
        return np.array(side, dtype=np.int64)[self.of[item]]

    def patterns(self, cell: Ints, cells: int) -> Patterns:
        """The joint answers to the attributes, which the covariance of their shares needs."""
        joint = np.zeros(len(cell), dtype=np.int64)
        for item in self.attributes:
            joint = joint * 3 + 1 + self.sides(item)
        kinds = 3 ** len(self.attributes)
        some = (cell >= 0) & (joint > 0)
        key, n = np.unique(cell[some] * kinds + joint[some], return_counts=True)
        kept, which = np.unique(key % kinds, return_inverse=True)
        digits = kept[:, None] // 3 ** np.arange(len(self.attributes))[::-1] % 3
        return Patterns(key // kinds, (digits > 0).astype(np.int64), (digits == 2).astype(np.int64), which, n)


def _side(code: int) -> int:
    return POSITIVE_STATE if code in POSITIVE else NEGATIVE


def item_states(instrument: Instrument, service: str, sheets: Sequence[tuple[Instrument, Marks]]) -> States:
    """The states of a service's attribute and overall items, over sheets of any version of the instrument.

    Options are joined by their ids and codes; those that only another version has come after this one's.
    """
    items = [i for i in instrument.items if i.service == service and i.role in ("attribute", "overall")]
    found: dict[str, list[npt.NDArray[np.int8]]] = {i.id: [np.zeros(0, dtype=np.int8)] for i in items}
    options: dict[str, tuple[Choice, ...]] = {}
    for item in items:
        met = [item, *(version.by_id.get(item.id) for version, _ in sheets)]
        scales = [i.scale for i in met if i is not None and i.scale is not None]
        options[item.id] = tuple(dict.fromkeys((o.id, o.code) for scale in scales for o in scale.options))
    for version, marks in sheets:
        asked: dict[object, Bools] = {}
        for item in items:
            theirs = version.by_id.get(item.id)
            if theirs is None or theirs.scale is None:
                found[item.id].append(np.full(len(marks), NOT_ASKED, dtype=np.int8))
                continue
            state = np.full(256, NOT_ASKED, dtype=np.int8)
            for option in theirs.scale.options:
                state[ord(option.mark)] = _OPTIONS + options[item.id].index((option.id, option.code))
            for reason, letter in NONRESPONSE_MARKS.items():
                state[ord(letter)] = _MISSING_STATES[reason]
            column = marks[:, theirs.index]
            states = state[column]
            if theirs.ask_if not in asked:
                asked[theirs.ask_if] = possible(theirs, version, marks)
            states[(column == ord(UNANSWERED)) & asked[theirs.ask_if]] = NOT_REACHED
            found[item.id].append(states)
    attributes = tuple(i.id for i in items if i.role == "attribute")
    overall = next(i.id for i in items if i.role == "overall")
    return States(attributes, overall, {i: np.concatenate(parts) for i, parts in found.items()}, options)


@dataclass(frozen=True)
class Column:
    """One measure over all domains of a breakdown. Arrays of one length; nan where undefined."""

    n: Ints
    positive: Ints
    share: Floats
    se: Floats
    df: Ints
    reach: Reach
    missing: Ints  # domains x states

    def estimate(self, at: int, measure: str, domain: Domain) -> Estimate:
        """The figure of one domain; wave, period and service are the caller's to fill in."""
        missing = self.missing[at]
        return Estimate(
            wave="", period="", service="", measure=measure, domain=domain,
            n=int(self.n[at]), positive=int(self.positive[at]), share=_number(self.share[at]),
            se=_number(self.se[at]), low=_number(self.reach.low[at]), high=_number(self.reach.high[at]),
            df=int(self.df[at]), n_eff=_number(self.reach.n_eff[at]) or 0.0,
            deff=None if measure == ATTRIBUTES else _number(self.reach.deff[at]),
            width=_number(self.reach.width[at]),
            not_applicable=int(missing[NOT_APPLICABLE]), dont_know=int(missing[DONT_KNOW]),
            refused=int(missing[REFUSED]), not_reached=int(missing[NOT_REACHED]),
        )  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def share_of_item(design: Design, design_cell: Ints, group: Ints, groups: int, counts: Counts) -> Column:
    """The share of positive answers to one item in each of `groups` domains."""
    size = len(design.base)
    at, by_state = _by_domain(design_cell, group, groups, size, counts)
    positive, base = at[:, :, POSITIVE_STATE], at[:, :, NEGATIVE] + at[:, :, POSITIVE_STATE]
    n = by_state[:, NEGATIVE] + by_state[:, POSITIVE_STATE]
    total = base @ design.weight
    share = _exactly(positive @ design.weight, total, by_state[:, POSITIVE_STATE], n)
    where, cell = np.nonzero(base)
    entries = [(positive[where, cell], 1.0), ((base - positive)[where, cell], 0.0)]
    se = design.standard_errors(
        groups,
        np.concatenate([where, where]),
        np.concatenate([cell, cell]),
        np.concatenate([(y - share[where]) / total[where] for _, y in entries]),
        np.concatenate([held for held, _ in entries]),
    )
    return _column(design, base, n, by_state[:, POSITIVE_STATE], share, se, by_state)


def mean_of_shares(
    design: Design,
    design_cell: Ints,
    group: Ints,
    groups: int,
    patterns: Patterns,
    counts: Sequence[Counts],
) -> Column:
    """The mean of the attributes' shares in each domain; undefined where one of them has no base."""
    size = len(design.base)
    columns = [_by_domain(design_cell, group, groups, size, c) for c in counts]
    k = max(len(columns), 1)
    by_state = sum((states for _, states in columns), np.zeros((groups, _STATES), dtype=np.int64))
    shares, totals = np.zeros((groups, len(columns))), np.zeros((groups, len(columns)))
    for a, (at, states) in enumerate(columns):
        base = at[:, :, NEGATIVE] + at[:, :, POSITIVE_STATE]
        totals[:, a] = base @ design.weight
        n_item = states[:, NEGATIVE] + states[:, POSITIVE_STATE]
        shares[:, a] = _exactly(
            at[:, :, POSITIVE_STATE] @ design.weight, totals[:, a], states[:, POSITIVE_STATE], n_item
        )
    share = shares.mean(1) if columns else np.full(groups, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(totals > 0, 1 / (k * totals), 0.0)
    influence = each @ patterns.positive.T - (each * np.nan_to_num(shares)) @ patterns.valid.T
    inside = group[patterns.cell] >= 0
    where, cell = group[patterns.cell[inside]], design_cell[patterns.cell[inside]]
    held = patterns.n[inside]
    n = np.bincount(where, held, minlength=groups).astype(np.int64)
    members = np.bincount(where * size + cell, held, minlength=groups * size).reshape(groups, size)
    se = design.standard_errors(groups, where, cell, influence[where, patterns.which[inside]], held)
    return _column(design, members, n, by_state[:, POSITIVE_STATE], share, se, by_state)


def _by_domain(design_cell: Ints, group: Ints, groups: int, size: int, counts: Counts) -> tuple[Ints, Ints]:
    """Respondents by domain, design cell and state; and by domain and state."""
    inside = group >= 0
    key = group[inside] * size + design_cell[inside]
    order = np.argsort(key, kind="stable")
    key, rows = key[order], counts[inside][order]
    flat = np.zeros((groups * size, _STATES), dtype=np.int64)
    if len(key):
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        flat[key[starts]] = np.add.reduceat(rows, starts, axis=0)
    at = flat.reshape(groups, size, _STATES)
    return at, at.sum(1)


def _exactly(positive: Floats, total: Floats, count: Ints, n: Ints) -> Floats:
    """The share; exactly 0 or 1 where the counts say so, nan without a base."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(n > 0, positive / total, np.nan)
    return np.where((count == 0) & (n > 0), 0.0, np.where((count == n) & (n > 0), 1.0, share))


def _column(
    design: Design, members: Ints, n: Ints, positive: Ints, share: Floats, se: Floats, by_state: Ints
) -> Column:
    """df: respondents with a valid answer less the strata that they sit in (R: degf of the subset)."""
    strata = np.zeros(len(n), dtype=np.int64)
    if len(design.counts):
        strata = (np.add.reduceat(members, design.starts, axis=1) > 0).sum(1)
    df = n - strata
    defined = np.isfinite(share)
    se = np.where(defined, se, np.nan)
    # Of one side only by count: nothing varies, and rounding dust is not an error.
    se = np.where((share == 0) | (share == 1), 0.0, se)
    safe = np.where(defined, share, 0.5)
    found = reach(safe, np.where(defined, se, 0.0), np.where(defined, n, 0), np.where(defined, df, 0))
    return Column(n, positive, share, se, df, found, by_state)
