"""Blocks of services over the versions of a questionnaire: one may call a block otherwise than another does,
or give to everybody what that one draws. The record says of an interview what its own version does.

A service is its block's. So the file of a service's figures takes from each interview the block in which its
own version asks about the service, with the probability of that block; an interview on a version that asks
about none of a block's services is not in the block's file.
"""

from collections.abc import Collection, Mapping, Sequence

from flows.instrument import Instrument
from storage.analysis.estimates import OVERALL
from storage.analysis.raking import RakingError
from storage.analysis.sheets import Sheet


def service_blocks(instrument: Instrument) -> dict[str, str]:
    """The services that have an overall item, in the instrument's order, each with its block."""
    overall = [i for i in instrument.items if i.role == OVERALL]
    return {i.service: instrument.blocks[i.block].id for i in overall if i.service}


def own_blocks(instrument: Instrument, version: Instrument) -> dict[str, tuple[str, ...]]:
    """By block of services of `instrument`, the blocks in which `version` asks about the same services.

    Most often one, of the same name; none where it does not ask about any.
    """
    rated = [i for i in version.items if i.service and i.role == "attribute"]
    theirs = {i.service: version.blocks[i.block].id for i in rated} | service_blocks(version)
    found: dict[str, dict[str, None]] = {}
    for service, block in service_blocks(instrument).items():
        names = found.setdefault(block, {})
        if service in theirs:
            names[theirs[service]] = None
    return {block: tuple(names) for block, names in found.items()}


def drawn_blocks(instrument: Instrument, sheets: Sequence[Sheet]) -> set[str]:
    """The blocks of services, by this instrument's names, that not every respondent was given for certain."""
    found = set()
    for sheet in sheets:
        for block, names in own_blocks(instrument, sheet.group.instrument).items():
            if len(sheet.marks) and (not names or any(name in sheet.given for name in names)):
                found.add(block)
    return found


def refuse_moved(
    instrument: Instrument, wave: str, version: Instrument, names: Mapping[str, tuple[str, ...]],
    drawn: set[str],
) -> None:  # fmt: skip
    """Raise RakingError where a block of `drawn` here is not one block there. names: `own_blocks`."""
    services = service_blocks(instrument)
    for theirs in names.values():
        here = [other for other, also in names.items() if set(also) & set(theirs)]
        if drawn.isdisjoint(here) or (len(theirs) <= 1 and len(here) <= 1):
            continue
        moved = ", ".join(service for service, b in services.items() if b in here)
        there = dict.fromkeys(name for other in here for name in names[other])
        raise RakingError([
            f"wave {wave}: {version.reference} asks about the services {moved} in"
            f" {_named(there)}, {instrument.reference} in {_named(here)}, and not everybody was"
            " given these: an interview would have two weights in one block. Field a questionnaire that moves"
            " services between drawn blocks as a wave of its own"
        ])  # fmt: skip


def _named(blocks: Collection[str]) -> str:
    return f"block{'s' if len(blocks) > 1 else ''} {', '.join(blocks)}"
