"""How people answered: of each item, the share of its respondents that chose each option of its scale.

National only. Base, weights, design and interval are those of the item's own share (`shares`), so the shares
of its positive options add up to it. Respondents are summed over cells to those of the design first: an
option costs a sum over some thousands of cells, however many interviews there are.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from storage.analysis.estimates import OVERALL, Answer
from storage.analysis.intervals import Ints
from storage.analysis.shares import NEGATIVE, POSITIVE_STATE, Counts, States, share_of_item
from storage.analysis.variance import Design


def answers_of(
    design: Design,
    design_cell: Ints,
    states: States,
    by_state: Mapping[str, Counts],
    by_option: Mapping[str, Counts],
) -> Iterator[Answer]:
    """Of each attribute and the overall item of a service, its options in the scale's order.

    by_state, by_option: `States.counts`, over the cells that `design_cell` has the design's cell of. Wave,
    period and service are the caller's to fill in.
    """
    cells = np.arange(len(design.base), dtype=np.int64)
    for item, measure in [*((i, i) for i in states.attributes), (states.overall, OVERALL)]:
        chosen = _by_design(by_option[item], design_cell, len(cells))
        options = chosen.shape[1]
        # An option is to `share_of_item` a domain of its own, with everybody in it: chosen, or another one.
        counts = np.tile(_by_design(by_state[item], design_cell, len(cells)), (options, 1))
        counts[:, POSITIVE_STATE] = chosen.T.ravel()
        counts[:, NEGATIVE] = (chosen.sum(1)[:, None] - chosen).T.ravel()
        group = np.repeat(np.arange(options, dtype=np.int64), len(cells))
        column = share_of_item(design, np.tile(cells, options), group, options, counts)
        for place, (option, code) in enumerate(states.options[item]):
            yield Answer(option, code, column.estimate(place, measure, ()))


def _by_design(counts: Counts, design_cell: Ints, cells: int) -> Counts:
    columns = [np.bincount(design_cell, column, minlength=cells) for column in counts.T]
    return np.stack(columns, axis=1).astype(np.int64)
