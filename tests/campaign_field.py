"""A small wave in two languages, its sample, and days that pass: what the suites of campaigns share."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from flows.fielding import Contact, Opening
from flows.instrument import Instrument, parse
from flows.wave import Wave
from gateway.campaigns import Campaigns, sealed_numbers
from gateway.sampling import Sample, Sampled
from storage.campaigns import create_campaign, set_state
from storage.database import open_engine, reading, writing
from storage.outbox import RUNNING
from storage.respondents import Pseudonyms
from storage.sample import Number, load_numbers, release
from tests.record_material import SMALL, WAVE, Dialogue, ended, fold_all
from tests.sending_field import KEY, MESSAGE, SEAL
from tests.stores import give_schema

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)  # in the wave's hours
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PSEUDONYMS = Pseudonyms(KEY)
CAMPAIGN = "first"


def in_two_languages() -> Instrument:
    english = dict(SMALL.sources)
    words = english["en.toml"].replace("Prompt reminder break off", "Left: {left}. Dial {code}")
    french = words.replace('id = "en"', 'id = "fr"').replace("English", "Français").replace("Prompt", "FR")
    questions = english["questionnaire.toml"].replace('["en"]', '["en", "fr"]').replace('"1"', '"2"', 1)
    return parse({"questionnaire.toml": questions, "en.toml": words, "fr.toml": french})


TWO = in_two_languages()
SMALL_WAVE = Wave(
    WAVE, TWO, ("en", "fr"), "The office", "0800", "*384*16#", countries=("+233",), sms_sender="1616",
)  # fmt: skip


def msisdn(n: int) -> str:
    return f"+23324{n:07d}"


def who(n: int) -> str:
    return PSEUDONYMS.of(msisdn(n))


class Field:
    """One wave in the field: time passes, campaigns look, and what was written is read off the outbox."""

    def __init__(self, database_url: str, contact: Contact | None = None, opening: Opening | None = None):
        self.engine: Engine = open_engine(database_url)
        give_schema(self.engine, TWO)
        self.now = MONDAY
        self.wave = replace(SMALL_WAVE, contacting=contact or Contact(), opening=opening or Opening())
        self.dialogues: dict[int, Dialogue] = {}

    def campaigns(self, room: int = 2000) -> Campaigns:
        made = Campaigns(
            lambda: self.engine, None, {WAVE: self.wave}, room=room, clock=lambda: self.now  # type: ignore[arg-type]
        )  # fmt: skip
        return made

    def look(self, after: timedelta = timedelta(0), room: int = 2000) -> list[tuple[int, str, str]]:
        """Let time pass and the campaigns look: what was written then, as (number, kind, text)."""
        self.now += after
        had = {m["id"] for m in self.messages()}
        self.campaigns(room).look()
        return [(m["n"], m["kind"], m["text"]) for m in self.messages() if m["id"] not in had]

    def load(
        self, numbers: Iterable[int], campaign: str = CAMPAIGN, wave: str = WAVE, **more: Any
    ) -> dict[str, int]:
        """`more`: of the rows; rest_days and keep, of the loading."""
        made = create_campaign(self.engine, campaign, wave, "africastalking", "1616", self.now)
        how = {k: more.pop(k) for k in ("rest_days", "keep") if k in more}
        rows = list(self.rows(numbers, **more))
        return dict(load_numbers(self.engine, made.id, wave, rows, self.now, **how))

    def rows(self, numbers: Iterable[int], **more: Any) -> Iterable[Number]:
        return sealed_numbers(
            Sample(tuple(Sampled(msisdn(n), "csv", **more) for n in numbers)), PSEUDONYMS, SEAL
        )

    def start(self, up_to: int = 1, campaign: str = CAMPAIGN) -> None:
        set_state(self.engine, campaign, RUNNING, self.now)
        release(self.engine, campaign, up_to, self.now)

    def messages(self) -> list[dict[str, Any]]:
        with reading(self.engine) as db:
            rows = [dict(r._mapping) for r in db.execute(select(MESSAGE).order_by(MESSAGE.c.natural_key))]
        numbers = {who(n): n for n in range(60)}
        return [row | {"n": numbers.get(row["respondent"], -1)} for row in rows]

    def sent(self, state: str = "sent", reason: str | None = None, kinds: Sequence[str] = ()) -> None:
        """All that is due has gone, now, and ended so."""
        which = MESSAGE.c.state == "due"
        if kinds:
            which &= MESSAGE.c.kind.in_(kinds)
        with writing(self.engine) as db:
            db.execute(
                MESSAGE.update().where(which).values(state=state, failure_reason=reason, sent_at=self.now)
            )

    # ---- what respondents do

    def dials(self, n: int, language: str = "en", wave: str = WAVE) -> Dialogue:
        dialogue = Dialogue(n, self.before(1))
        dialogue.respondent = who(n)
        began = dialogue.begin(language)
        dialogue.interview = who(n)[:16]
        began |= {"interview": dialogue.interview, "wave": wave}
        began["effects"][0] |= {"instrument": TWO.reference, "wave": wave}
        self.dialogues[n] = dialogue
        self.fold(dialogue)
        return dialogue

    def answers(self, n: int, *items: str) -> None:
        dialogue = self.dialogues[n]
        dialogue.at = self.before(len(items))
        for item in items:
            if item == "consent":
                dialogue.consent()
            else:
                dialogue.answer(item, 33 if item == "age" else "agree")
        self.fold(dialogue)

    def ends(self, n: int, disposition: str) -> None:
        dialogue = self.dialogues[n]
        dialogue.at = self.before(1)
        if disposition == "withdrawn":
            dialogue.withdraw()
        else:
            dialogue.answer("consent", "no", ended(disposition))
        self.fold(dialogue)

    def looks(self, n: int) -> None:
        """At the results, from the question whether to take part."""
        dialogue = self.dials(n)
        dialogue.at = self.before(1)
        seen = {"kind": "MenuChosen", "menu": "item", "option": "see_results"}
        dialogue.hop(
            seen, ended("results_only"), {"kind": "ResultsSeen", "screen": "national"}, stage="results"
        )
        self.fold(dialogue)

    def before(self, hops: int) -> int:
        """ms: so many hops of four seconds before now."""
        return int(self.now.timestamp() * 1000) - 4000 * hops

    def fold(self, dialogue: Dialogue) -> None:
        entries = [
            e if "wave" not in e else e | {"wave": dialogue.entries[0]["wave"]} for e in dialogue.entries
        ]
        fold_all(self.engine, entries)

    def stops(self, n: int) -> None:
        at = int(self.now.timestamp() * 1000)
        fold_all(self.engine, [{"kind": "opted_out", "respondent": who(n), "at": at, "aggregator": None}])
