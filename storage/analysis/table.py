"""The 16.6.2 table of a wave: every service, measure and domain, from the database to `Estimate`s.

    interviews -> marks (sheets) -> cells of respondents alike -> weights (raking) -> shares, errors

Each service has its own file: the respondents to whom its block was given, with base weight 1/probability of
that; which block that was their own version of the questionnaire says (`blocks`). Where everybody is given
everything, which is the official rule, all services share one file and one raking. Inside a file respondents
alike in everything that domains and margins use are one cell, and each figure is a sum over cells: a million
interviews take no longer than their cells do.

The conventions stand in docs/estimation.md, with their sources, and where they are applied: which interviews
(`counted`, `sheets`), shares (`shares`), weights (`raking`), errors (`variance`), intervals (`intervals`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from sqlalchemy import Engine, select

from flows.instrument import Instrument
from storage.analysis.answers import answers_of
from storage.analysis.blocks import drawn_blocks, own_blocks, refuse_moved, service_blocks
from storage.analysis.counted import counted
from storage.analysis.domains import NOT_KNOWN, Variable, Wealth, variables
from storage.analysis.estimates import ATTRIBUTES, MODELLED, OVERALL, UNWEIGHTED, Answer, Domain, Estimate
from storage.analysis.intervals import Floats, Ints
from storage.analysis.margins import Margins
from storage.analysis.raking import Limits, RakingReport, rake
from storage.analysis.shares import Counts, States, item_states, mean_of_shares, share_of_item
from storage.analysis.sheets import Basis, Progress, Sheet, read_groups, read_sheet
from storage.analysis.variance import Design
from storage.database import reading
from storage.models import Interview, table_of

#: Of a respondent, by pseudonym: stratum and base weight, from the sample's draw.
Draw = Mapping[str, tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Table:
    """All figures of one wave, and what they rest on."""

    basis: Basis
    estimates: tuple[Estimate, ...]
    margins: Margins | None  # None: not raked
    rakings: Mapping[str, RakingReport]  # by block
    limits: Limits | None
    answers: tuple[Answer, ...] = ()  # options in the scale's order, items and services in the instrument's


def waves_of(engine: Engine, instrument: Instrument) -> list[str]:
    """The waves that have counted interviews, in the order in which they began: a trend goes over them."""
    c = table_of(Interview).c
    with reading(engine) as db:
        rows = db.execute(select(c.wave, c.began_at).where(*counted(instrument)).order_by(c.began_at))
        return list(dict.fromkeys(row.wave for row in rows))


def table_16_6_2(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    *,
    margins: Margins | None = None,
    wealth: Wealth | None = None,
    crosses: Sequence[tuple[str, str]] = (),
    limits: Limits | None = None,
    fewest: int = 1,
    draw: Draw | None = None,
    probability_sample: bool = False,
    simulated: bool = True,
    period: str = "",
    told: Progress | None = None,
) -> Table:
    """The figures: national, by each variable, by each of `crosses` (two variable ids, in release order).

    Without `margins` nothing is raked; without `draw` too it is unweighted, and noted so. `limits` caps the
    weights; a margin's category with fewer than `fewest` respondents joins another by the file's rule.
    Without `draw` all respondents are one stratum of base weight 1; with it only those in it are respondents,
    with its strata and base weights: nobody knows the chance of the others. `simulated`: see `counted`.
    `period`: the year, by default that in which the last interview began. Nothing is suppressed here.
    Raises RakingError, NoMarks, ValueError.
    """
    known = variables(instrument, wealth)
    ids = [v.id for v in known]
    for cross in crosses:
        if len(set(cross)) != 2 or not set(cross) <= set(ids):
            raise ValueError(
                f"cross {' by '.join(cross)}: name two different variables out of {', '.join(ids)}"
            )
    said: Progress = told or (lambda what, done, total: None)
    basis, sheets, files = block_files(
        engine, instrument, wave, margins=margins, wealth=wealth, limits=limits, fewest=fewest, draw=draw,
        simulated=simulated, told=told,
    )  # fmt: skip
    basis = replace(basis, period=period or basis.period)
    breakdowns: list[tuple[str, ...]] = [(), *((i,) for i in ids), *crosses]
    notes = (
        *(() if margins or draw is not None else (UNWEIGHTED,)),
        *(() if probability_sample else (MODELLED,)),
    )
    estimates: list[Estimate] = []
    answers: list[Answer] = []
    rakings: dict[str, RakingReport] = {}
    services = service_blocks(instrument)
    for n, (service, block) in enumerate(services.items()):
        said("computing", n, len(services))
        file = files[block]
        if file.report is not None:
            rakings[block] = file.report
        states = item_states(instrument, service, [(s.group.instrument, s.marks) for s in sheets])
        by_state, by_option = states.counts(file.cell, len(file.design_cell))
        for figures in service_figures(file, states, breakdowns, known, by_state):
            estimates += (
                replace(e, wave=wave, period=basis.period, service=service, notes=notes) for e in figures
            )
        for a in answers_of(file.design, file.design_cell, states, by_state, by_option):
            figure = replace(a.figure, wave=wave, period=basis.period, service=service, notes=notes)
            answers.append(replace(a, figure=figure))
    said("computing", len(services), len(services))
    return Table(basis, tuple(estimates), margins, rakings, limits, tuple(answers))


@dataclass(frozen=True)
class File:
    """The respondents of a service, by cells of those alike in stratum, base weight and all variables."""

    cell: Ints  # of each row of the sheets; -1: not given the block
    codes: Mapping[str, Ints]  # variable -> each cell's category
    design_cell: Ints  # each cell's place in the design, which knows only strata, base weights and margins
    design: Design
    report: RakingReport | None


def file_of(
    sheets: Sequence[Sheet],
    names: Sequence[str],
    known: Sequence[Variable],
    margins: Margins | None,
    limits: Limits | None,
    fewest: int,
    draw: Draw | None,
) -> File:
    """names: of each sheet, what its own version calls the block; "": that has none. Raises RakingError."""
    strata, base, given = _draws(sheets, names, draw)
    rows = {
        v.id: np.concatenate(
            [np.zeros(0, dtype=np.int64), *(v.of(s.group.instrument, s.marks) for s in sheets)]
        )
        for v in known
    }
    weights, weight_class = np.unique(base, return_inverse=True)
    sizes = [len(v.categories) + 1 for v in known]
    key = strata * len(weights) + weight_class
    for v, size in zip(known, sizes, strict=True):
        key = key * size + (rows[v.id] - NOT_KNOWN)
    kept, inverse, counts = np.unique(key[given], return_inverse=True, return_counts=True)
    cell = np.full(len(key), -1, dtype=np.int64)
    cell[given] = inverse
    codes: dict[str, Ints] = {}
    rest = kept
    for v, size in reversed(list(zip(known, sizes, strict=True))):
        codes[v.id] = rest % size + NOT_KNOWN
        rest = rest // size
    stratum, base_of = rest // max(len(weights), 1), weights[rest % max(len(weights), 1)]

    # The design's cells are coarser: variables that no margin uses make no difference to a weight.
    coarse = rest
    for v, size in zip(known, sizes, strict=True):
        if margins is not None and v.id in margins.variables:
            coarse = coarse * size + (codes[v.id] - NOT_KNOWN)
    _, first, design_cell = np.unique(coarse, return_index=True, return_inverse=True)
    held = np.bincount(design_cell, counts, minlength=len(first)).astype(np.int64)
    design = Design(
        stratum=np.unique(stratum, return_inverse=True)[1][first], base=base_of[first],
        weight=base_of[first], counts=held,
    )  # fmt: skip
    if margins is None or not len(held):
        return File(cell, codes, design_cell, design, None)
    targets = margins.targets(known, {v: c[first] for v, c in codes.items()}, fewest)
    raked = rake(design.base, held, targets, limits)
    design = replace(design, weight=raked.weights, categories=raked.categories)
    return File(cell, codes, design_cell, design, raked.report)


def drawn_only(sheets: Sequence[Sheet], draw: Draw | None) -> list[Sheet]:
    """The sheets, which must have pseudonyms, without whoever is not in the draw; None: with everybody."""
    if draw is None:
        return list(sheets)
    kept = []
    for sheet in sheets:
        keep = np.array([p in draw for p in sheet.pseudonyms], dtype=np.bool_)
        given = {block: rows[keep] for block, rows in sheet.given.items()}
        names = tuple(p for p in sheet.pseudonyms if p in draw)
        kept.append(replace(sheet, marks=np.asfortranarray(sheet.marks[keep]), given=given, pseudonyms=names))
    return kept


def _draws(
    sheets: Sequence[Sheet], blocks: Sequence[str], draw: Draw | None
) -> tuple[Ints, Floats, np.ndarray]:
    """Stratum, base weight, and whether given the block, of each row. blocks: see `file_of`."""
    names: dict[str, int] = {}
    strata, base, given = [np.zeros(0, dtype=np.int64)], [np.zeros(0)], [np.zeros(0, dtype=np.bool_)]
    for sheet, block in zip(sheets, blocks, strict=True):
        n = len(sheet.marks)
        chance = sheet.group.probabilities.get(block, 1.0) if block else 0.0
        if chance > 0:
            given.append(sheet.given.get(block, np.ones(n, dtype=np.bool_)))
        else:  # not asked by that version, or left out of the wave
            given.append(np.zeros(n, dtype=np.bool_))
        weight = np.full(n, 1 / chance if chance > 0 else 1.0)
        stratum = np.zeros(n, dtype=np.int64)
        if draw is not None:
            for k, pseudonym in enumerate(sheet.pseudonyms):
                name, drawn = draw[pseudonym]
                stratum[k] = names.setdefault(name, len(names))
                weight[k] *= drawn
        strata.append(stratum)
        base.append(weight)
    return np.concatenate(strata), np.concatenate(base), np.concatenate(given)


def service_figures(
    file: File,
    states: States,
    breakdowns: Sequence[tuple[str, ...]],
    known: Sequence[Variable],
    by_state: Mapping[str, Counts] | None = None,
) -> Iterator[list[Estimate]]:
    """The figures of one service, domain by domain, each with attributes, their mean and overall.

    by_state: `States.counts` over the file's cells, where they have been counted already.
    """
    categories = {v.id: v.categories for v in known}
    cells = len(file.design_cell)
    counts = by_state or states.counts(file.cell, cells)[0]
    patterns = states.patterns(file.cell, cells)
    for names in breakdowns:
        domains, group = _domains(names, categories, file.codes, cells)
        figures = {
            item: share_of_item(file.design, file.design_cell, group, len(domains), counts[item])
            for item in counts
        }
        mean = mean_of_shares(
            file.design,
            file.design_cell,
            group,
            len(domains),
            patterns,
            [counts[i] for i in states.attributes],
        )
        for n, domain in enumerate(domains):
            measures = [(item, figures[item]) for item in states.attributes]
            if states.attributes:
                measures.append((ATTRIBUTES, mean))
            measures.append((OVERALL, figures[states.overall]))
            yield [column.estimate(n, measure, domain) for measure, column in measures]


def _domains(
    names: tuple[str, ...],
    categories: Mapping[str, tuple[str, ...]],
    codes: Mapping[str, Ints],
    cells: int,
) -> tuple[list[Domain], Ints]:
    """The domains of a breakdown, and which of them each cell is in; -1 in none."""
    domains: list[Domain] = [()]
    group = np.zeros(cells, dtype=np.int64)
    for name in names:
        domains = [(*d, (name, category)) for d in domains for category in categories[name]]
        lacking = (group == NOT_KNOWN) | (codes[name] == NOT_KNOWN)
        group = np.where(lacking, NOT_KNOWN, group * len(categories[name]) + codes[name])
    return domains, group


@dataclass(frozen=True, slots=True)
class Weights:
    """What the respondents of a service block weigh: see `weights`, which keeps them."""

    pseudonyms: tuple[str, ...]
    base: Floats
    weight: Floats  # the base weight where nothing was raked


def respondent_weights(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    *,
    margins: Margins | None = None,
    wealth: Wealth | None = None,
    limits: Limits | None = None,
    fewest: int = 1,
    draw: Draw | None = None,
    simulated: bool = True,
) -> dict[str, Weights]:
    """The weights under the figures of `table_16_6_2` with the same arguments, by block of services.

    Where every block was given to every respondent they are one and the same `Weights` (`is` tells), by this
    instrument's blocks. Else each interview has its weight under its own version's name of the block, by
    which the record says what it was given. Raises RakingError, NoMarks.
    """
    _, sheets, files = block_files(
        engine, instrument, wave, margins=margins, wealth=wealth, limits=limits, fewest=fewest, draw=draw,
        simulated=simulated, pseudonyms=True,
    )  # fmt: skip
    if len({id(file) for file in files.values()}) == 1:
        [file, *_] = files.values()
        held = [_weights(file, sheet, rows) for sheet, rows in _rows(sheets)]
        return dict.fromkeys(files, _joined(held))
    parts: dict[str, dict[tuple[int, int], Weights]] = {block: {} for block in files}
    for place, (sheet, rows) in enumerate(_rows(sheets)):
        for block, names in own_blocks(instrument, sheet.group.instrument).items():
            for name in names:  # several blocks, or several names of one, only where they share a file
                file = files[block]
                parts.setdefault(name, {})[place, id(file)] = _weights(file, sheet, rows)
    return {name: _joined(list(each.values())) for name, each in parts.items()}


def _rows(sheets: Sequence[Sheet]) -> Iterator[tuple[Sheet, slice]]:
    """Each sheet, and where its rows are among those of all."""
    end = 0
    for sheet in sheets:
        end += len(sheet.marks)
        yield sheet, slice(end - len(sheet.marks), end)


def _weights(file: File, sheet: Sheet, rows: slice) -> Weights:
    cell = file.cell[rows]
    given = cell >= 0
    at = file.design_cell[cell[given]]
    return Weights(
        tuple(compress(sheet.pseudonyms, given.tolist())), file.design.base[at], file.design.weight[at]
    )


def _joined(parts: Sequence[Weights]) -> Weights:
    none = np.zeros(0)
    return Weights(
        tuple(p for part in parts for p in part.pseudonyms),
        np.concatenate([none, *(part.base for part in parts)]),
        np.concatenate([none, *(part.weight for part in parts)]),
    )


def files_of(
    instrument: Instrument,
    wave: str,
    sheets: Sequence[Sheet],
    known: Sequence[Variable],
    margins: Margins | None,
    limits: Limits | None,
    fewest: int,
    draw: Draw | None,
) -> dict[str, File]:
    """By block of services the file of its figures; blocks that everybody was given share one.

    Raises RakingError, also where versions put services together in other blocks, and draw these.
    """
    drawn = drawn_blocks(instrument, sheets)
    own = [own_blocks(instrument, sheet.group.instrument) for sheet in sheets]
    for sheet, names in zip(sheets, own, strict=True):
        refuse_moved(instrument, wave, sheet.group.instrument, names, drawn)
    files: dict[str, File] = {}
    shared: File | None = None
    for block in dict.fromkeys(service_blocks(instrument).values()):
        if block not in drawn and shared is not None:
            files[block] = shared
            continue
        each = ["".join(names[block][:1]) for names in own]
        files[block] = file_of(sheets, each, known, margins, limits, fewest, draw)
        if block not in drawn:
            shared = files[block]
    return files


def block_files(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    *,
    margins: Margins | None,
    wealth: Wealth | None,
    limits: Limits | None,
    fewest: int,
    draw: Draw | None,
    simulated: bool,
    pseudonyms: bool = False,
    told: Progress | None = None,
) -> tuple[Basis, list[Sheet], dict[str, File]]:
    """What the wave's figures rest on, its respondents, and by block of services the file of its figures.

    Raises RakingError, NoMarks.
    """
    known = variables(instrument, wealth)
    by_name = pseudonyms or draw is not None
    with reading(engine) as db:
        basis, groups = read_groups(db, instrument, wave, simulated)
        sheets = [read_sheet(db, group, wave, told, by_name) for group in groups]
    sheets = drawn_only(sheets, draw)
    basis = replace(basis, respondents=sum(len(sheet.marks) for sheet in sheets))
    return basis, sheets, files_of(instrument, wave, sheets, known, margins, limits, fewest, draw)
