"""What an export is asked to hold, and the ids that it has for interviews and respondents.

Ids are keyed hashes with the export's variant and purpose in them. Exports of one variant for one purpose
can be joined with each other, others cannot, and none with the database. (The answers themselves may still
tell which rows of two files belong together. That is for the terms of use to forbid.)
"""

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass

#: Called with what is being done, steps done and steps in all.
Progress = Callable[[str, int, int], None]

_ID_DIGITS = 24  # 96 bits: no two alike among millions, and too many to try


class ExportError(Exception):
    """What was asked for cannot be exported. Says what to change."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export is to hold, and for whom."""

    variant: str  # scientific | public
    purpose: str  # exports with the same one have the same ids
    wave: str | None = None  # None = all, told apart in column `wave`
    language: str = ""  # of the labels; "" = the instrument's default
    simulated: bool = False  # keep interviews that nobody dialled for
    excel: bool = False  # CSV with a byte order mark, by which Excel knows UTF-8


@dataclass(frozen=True, slots=True)
class Values:
    """What stands around the data in the files that describe them; all may be empty."""

    owner: str = ""  # the office
    contact: str = ""
    code: str = ""  # the service code
    nation: str = ""  # by name; without it, as the places of the questionnaire have it in ISO 3166

    def inserted(self) -> dict[str, str]:
        given = {"owner": self.owner, "contact": self.contact, "code": self.code}
        return {name: value for name, value in given.items() if value}


def export_id(key: bytes, asked: Asked, what: str, ours: str) -> str:
    """The id in such exports of the `what` (interview, respondent) that is `ours` in the database.

    The variant is in it too: whoever has both files shall not see which row of one is which of the other.
    Its tag keeps it apart from the pseudonyms made with the same key.
    """
    return ids(key, asked, what)(ours)


def ids(key: bytes, asked: Asked, what: str) -> Callable[[str], str]:
    """What makes such ids, one after the other."""
    head = json.dumps(["export", asked.variant, asked.purpose, what])[:-1]

    def made(ours: str) -> str:
        return hmac.digest(key, f"{head}, {json.dumps(ours)}]".encode(), "sha256").hex()[:_ID_DIGITS]

    return made
