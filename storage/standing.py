"""How an interview stands, and how a hop changes that: the rules of the fold, without a database.

A respondent's interviews in one wave are settled together, and exactly one of them is counted:

    complete > partial > unfinished with consent, quota_full > unfinished without > refusal, ineligible
    > results_only

and among equals the latest. So whoever dials again after the resume window and hangs up at the consent
keeps the answers given before. A withdrawal in one holds for all of them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter

from flows.engine import (
    QUOTA_FULL,
    RESULTS_ONLY,
    Began,
    CellsEntered,
    Consented,
    Ended,
    ErasureRequested,
    LanguageChosen,
    ResponseGiven,
    WentBack,
    asked_again,
)
from storage.entries import Hop
from storage.models import BREAK_OFF, COMPLETE, IN_PROGRESS, PARTIAL, UNFINISHED, WITHDRAWN


@dataclass(slots=True)
class Standing:
    """How an interview stands: a row of `interview`, while hops are folded into it."""

    id: str
    respondent: str
    wave: str
    began_at: datetime
    last_at: datetime
    attempt: int = 0
    counted: bool = False
    instrument: str | None = None
    language: str | None = None
    mode: str | None = None
    aggregator: str | None = None
    seed: int | None = None
    blocks: str | None = None
    probabilities: str | None = None
    item_order: str | None = None
    ended_at: datetime | None = None
    disposition: str = IN_PROGRESS
    last_item: str = ""
    last_stage: str = ""
    marks: str | None = None  # kept by the fold, see marks.py
    consented_at: datetime | None = None
    consent_version: str | None = None
    withdrawn_at: datetime | None = None
    receipt: str | None = None
    version: int = -1
    language_version: int = -1
    consented_version: int = -1
    outcome: str | None = None
    outcome_at: datetime | None = None
    outcome_version: int = -1
    answered_version: int = -1

    def fold(self, hop: Hop) -> None:
        if hop.at < self.began_at:
            self.began_at = hop.at
        if hop.at > self.last_at:
            self.last_at = hop.at
        if hop.version > self.version:
            self.version = hop.version
            self.last_item, self.last_stage = hop.shown, hop.stage
            # The sweep was early: it goes on. The menu that a dial after the window shows is no going on.
            goes_on = any(asked_again(e) or isinstance(e, ResponseGiven | WentBack) for e in hop.effects)
            if goes_on and self.disposition in (PARTIAL, BREAK_OFF):
                self.disposition = IN_PROGRESS
        answered = ended = False
        for effect in hop.effects:
            match effect:
                case ResponseGiven() | CellsEntered():  # the latter also where there is room again
                    answered = True
                case Began():
                    self.begin(effect, hop)
                    self.choose_language(effect.language, hop.version)
                case LanguageChosen():
                    self.choose_language(effect.language, hop.version)
                case Consented():
                    if hop.version > self.consented_version:
                        self.consented_version = hop.version
                        self.consented_at, self.consent_version = hop.at, effect.version
                case Ended():
                    ended = True
                    self.end(effect.disposition, hop)
                case ErasureRequested():
                    if self.withdrawn_at is None or hop.at < self.withdrawn_at:
                        self.withdrawn_at = hop.at
                    self.receipt = effect.receipt
                case _ if asked_again(effect):
                    self.end(None, hop)
                case _:
                    pass
        if answered and not ended and hop.version > self.answered_version:
            self.answered_version = hop.version

    def end(self, outcome: str | None, hop: Hop) -> None:
        """Who has said no and came back for the results alone has still said no. Having looked only (or
        not even that: None) goes by what came last."""
        said = outcome not in (None, RESULTS_ONLY), hop.version
        if said > (self.outcome not in (None, RESULTS_ONLY), self.outcome_version):
            self.outcome_version = hop.version
            self.outcome, self.outcome_at = outcome, hop.at if outcome else None

    def begin(self, began: Began, hop: Hop) -> None:
        self.aggregator = hop.opened["aggregator"] if hop.opened else None
        self.instrument, self.mode, self.seed, self.blocks = (
            began.instrument, began.mode, began.seed, began.blocks,
        )  # fmt: skip
        self.item_order = began.items
        self.probabilities = json.dumps(began.probabilities, sort_keys=True)

    def choose_language(self, language: str, version: int) -> None:
        if version > self.language_version:
            self.language, self.language_version = language, version

    def settle(self) -> None:
        """Set what follows from the rest. A refusal that was thought better of is no longer one."""
        holds = self.outcome_version > self.answered_version
        self.ended_at = self.outcome_at if holds else None
        if self.withdrawn_at is not None:
            self.disposition = WITHDRAWN
            self.marks = None
            self.last_item = self.last_stage = ""  # how far one came tells how gates were answered
        elif holds and self.outcome is not None:
            self.disposition = self.outcome
        elif self.disposition not in (PARTIAL, BREAK_OFF):
            self.disposition = IN_PROGRESS

    @property
    def begun(self) -> tuple[datetime, str]:
        return self.began_at, self.id

    @property
    def worth(self) -> tuple[int, datetime, str]:
        """The greatest is the one that counts."""
        if self.disposition == COMPLETE:
            rank = 4
        elif self.disposition == PARTIAL:
            rank = 3
        elif self.disposition in (*UNFINISHED, QUOTA_FULL):
            rank = 1 if self.consented_at is None else 2
        else:
            rank = -1 if self.disposition == RESULTS_ONLY else 0
        return rank, self.began_at, self.id


#: The columns of `interview` that a Standing holds, in its order.
COLUMNS = tuple(f.name for f in fields(Standing))


def counted_of(interviews: Iterable[Standing]) -> Standing:
    """Of one respondent's interviews in one wave, the one that counts."""
    return max(interviews, key=attrgetter("worth"))


def settle_together(interviews: list[Standing]) -> None:
    """Settle one respondent's interviews in one wave among themselves."""
    if len(interviews) > 1:
        interviews.sort(key=attrgetter("begun"))
        withdrawals = [(s.withdrawn_at, s.receipt) for s in interviews if s.withdrawn_at is not None]
        if withdrawals:
            first = min(at for at, _ in withdrawals)
            receipt = max((r for _, r in withdrawals if r), default=None)
            for standing in interviews:
                standing.withdrawn_at, standing.receipt = first, receipt
    for attempt, standing in enumerate(interviews, 1):
        standing.settle()
        standing.attempt = attempt
    counted = counted_of(interviews)
    for standing in interviews:
        standing.counted = standing is counted
