"""Made-up interviews as stream entries, and a small instrument, for the suites of the record."""

import json
from collections.abc import Iterable
from random import Random
from typing import Any

import redis
from sqlalchemy import Engine, Table

from flows.instrument import PROMPTS, Instrument, parse
from storage.database import reading, writing
from storage.entries import STREAM, read_entry
from storage.fold import fold
from storage.models import Conflict, Event, Interview, Respondent, Response, UssdSession, table_of
from storage.recorder import Recorder, lag

NOW = 1_763_863_000_000
WAVE = "pilot-2026"
Entry = dict[str, Any]

QUESTIONNAIRE = """
[instrument]
id = "small"
version = "{version}"
title = "Small"
source = "-"
consent_version = "2026-1"
reference_months = 12
default_language = "en"
languages = ["en"]
[nonresponse]
not_applicable = 97
dont_know = 98
refused = 99
[scales]
yes_no = [{{ id = "yes", code = 1 }}, {{ id = "no", code = 2 }}]
region = [
  {{ id = "gh_aa", code = 3, iso = "GH-AA" }}, {{ id = "gh_af", code = 8, iso = "GH-AF" }},
  {{ id = "abroad", code = 17 }},
]
agreement = [
  {{ id = "strongly_agree", code = 3 }}, {{ id = "agree", code = 2 }},
  {{ id = "disagree", code = 1 }}, {{ id = "strongly_disagree", code = 0 }},
]
[[blocks]]
id = "opening"
[[blocks.items]]
id = "consent"
role = "consent"
label = "Consent"
scale = "yes_no"
nonresponse = []
[[blocks.items]]
id = "age"
kind = "number"
role = "age"
label = "Age"
min = 18
max = 110
groups = [{{ id = "young", min = 18, max = 34 }}, {{ id = "old", min = 35 }}]
[[blocks.items]]
id = "region"
role = "region"
label = "Region"
scale = "region"
"""
SERVICES = {"water": 5, "roads": 2}  # service -> attributes: neither number nor name stands in code


def instrument(version: str = "1") -> Instrument:
    """Two services that the code has never heard of."""
    blocks = QUESTIONNAIRE.format(version=version)
    texts = {"consent": "Go on?", "age": "How old?", "region": "Where?"}
    for service, attributes in SERVICES.items():
        blocks += f'[[blocks]]\nid = "{service}"\ndrawn = true\n'
        for n in range(attributes + 1):
            role, name = ("attribute", f"a{n + 1}") if n < attributes else ("overall", "overall")
            attribute = f'attribute = "{name}"\n' if role == "attribute" else ""
            blocks += (
                f'[[blocks.items]]\nid = "{service}.{name}"\nrole = "{role}"\nlabel = "{service} {name}"\n'
                f'scale = "agreement"\nnumber = "{n + 1}"\nservice = "{service}"\n{attribute}'
                'nonresponse = ["not_applicable", "dont_know", "refused"]\n'
            )
            texts[f"{service}.{name}"] = f"{service} {name}?"
    words = ['[language]\nid = "en"\nname = "English"\niso639_3 = "eng"\nstatus = "reviewed"\n[prompts]']
    words += [f'{name} = "Prompt {name.replace("_", " ")}"' for name in PROMPTS]
    words += ['[scales.yes_no]\nyes = "Yes"\nno = "No"']
    words += ['[scales.region]\ngh_aa = "Greater Accra"\ngh_af = "Ahafo"\nabroad = "Abroad"']
    words += ["[scales.agreement]"]
    words += ['strongly_agree = "Strongly agree"\nagree = "Agree"\ndisagree = "=Disagree"']
    words += ['strongly_disagree = "Strongly disagree"', '[groups.age]\nyoung = "18-34"\nold = "35 or older"']
    words += [f'[items."{item}"]\ntext = "{text}"' for item, text in texts.items()]
    return parse({"questionnaire.toml": blocks, "en.toml": "\n".join(words)})


SMALL = instrument()
CODES = {o.id: o.code for s in SMALL.scales.values() for o in s.options} | dict(SMALL.codes)
ANSWERS = [o.id for o in SMALL.scales["agreement"].options] + list(SMALL.codes)  # to a service's items


class Dialogue:
    """One respondent's hops, numbered as the gateway numbers them."""

    def __init__(self, number: int, at: int = NOW):
        self.respondent = f"{number:032x}"
        self.at, self.version, self.hops, self.sessions = at, 0, 0, 0
        self.interview = ""
        self.aggregator = "africastalking"
        self.entries: list[Entry] = []

    def hop(self, *effects: Entry, shown: str = "consent", stage: str = "item", ends: bool = False) -> Entry:
        self.version += 1
        self.hops += 1
        self.at += 4000
        entry = {
            "kind": "hop", "interview": self.interview, "respondent": self.respondent, "wave": WAVE,
            "version": self.version, "session": self.session, "hop": self.hops, "at": self.at,
            "shown": shown, "stage": stage, "mode": "ussd", "ends": ends, "effects": list(effects),
        }  # fmt: skip
        if self.hops == 1:
            entry["opened"] = {
                "aggregator": self.aggregator, "network_code": "62001", "service_code": "*384*16#",
                "extension": "",
            }  # fmt: skip
        self.entries.append(entry)
        return entry

    @property
    def session(self) -> str:
        return f"ATUid_{self.respondent[-6:]}_{self.sessions}"

    def dial(self, *effects: Entry, shown: str = "consent") -> Entry:
        self.sessions += 1
        self.hops = 0
        return self.hop(*effects, shown=shown)

    def begin(self, language: str = "en") -> Entry:
        self.interview = f"{int(self.respondent, 16):08x}{self.sessions + 1:08x}"
        return self.dial(
            {"kind": "Began", "instrument": SMALL.reference, "wave": WAVE, "language": language,
             "mode": "ussd", "seed": 7, "blocks": "water roads", "items": "",
             "probabilities": {"water": 1.0, "roads": 1.0}}
        )  # fmt: skip

    def consent(self) -> Entry:
        return self.answer("consent", "yes", {"kind": "Consented", "version": "2026-1"}, shown="age")

    def answer(self, item: str, option: str | int, *more: Entry, shown: str = "") -> Entry:
        given = {
            "kind": "ResponseGiven", "item": item, "seconds": 4.2, "tries": 1,
            "option": "" if isinstance(option, int) else option,
            "code": option if isinstance(option, int) else CODES[option],
        }  # fmt: skip
        return self.hop(given, *more, shown=shown or item, ends=any(m["kind"] == "Ended" for m in more))

    def hang_up(self, repeats: int = 1) -> None:
        for n in range(repeats):
            self.entries.append(
                {"kind": "session_ended", "session": self.session, "respondent": self.respondent,
                 "at": self.at + 500 + n, "aggregator": "africastalking", "status": "Incomplete",
                 "duration_ms": 90_000, "hops": self.hops, "cost": "GHS 0.03", "network_code": "62001",
                 "service_code": "*384*16#", "error": None}
            )  # fmt: skip

    def withdraw(self) -> Entry:
        return self.hop(
            {"kind": "MenuChosen", "menu": "withdraw", "option": "yes"},
            {"kind": "ErasureRequested", "receipt": "K7Q2"},
            stage="over", ends=True,
        )  # fmt: skip


def ended(disposition: str = "complete") -> Entry:
    return {"kind": "Ended", "disposition": disposition}


def complete(number: int, random: Random | None = None) -> Dialogue:
    """A whole interview, with answers changed, gone back on, keys mistyped, a redial."""
    random = random or Random(number)
    d = Dialogue(number)
    d.begin()
    d.consent()
    d.answer("age", random.randint(18, 90))
    items = [i.id for i in SMALL.items if i.service]
    for n, item in enumerate(items):
        if random.random() < 0.2:
            d.hop({"kind": "InvalidReply", "item": item, "tries": 1}, shown=item)
        if random.random() < 0.15:
            d.hop({"kind": "WentBack", "item": items[n - 1]}, shown=items[n - 1])
            d.answer(items[n - 1], random.choice(ANSWERS),
                     {"kind": "ResponseRetracted", "item": items[n]}, shown=item)  # fmt: skip
        if random.random() < 0.1:
            d.hang_up(2)
            d.dial({"kind": "Resumed", "item": item}, shown=item)
            d.hop({"kind": "LanguageChosen", "language": random.choice(["en", "fr"])}, shown=item)
        last = (ended(),) if n == len(items) - 1 else ()
        d.answer(item, random.choice(ANSWERS), *last)
    d.hang_up()
    d.entries.append(
        {"kind": "conflict", "interview": d.interview, "respondent": d.respondent, "session": d.session,
         "at": d.at + 900, "what": "older_text"}
    )  # fmt: skip
    return d


def send(live: redis.Redis, entries: Iterable[Entry | str]) -> None:
    """Put entries on the stream as the gateway does; text as it is."""
    with live.pipeline(transaction=False) as pipe:
        for entry in entries:
            pipe.xadd(STREAM, {"e": entry if isinstance(entry, str) else json.dumps(entry)})
        pipe.execute()


def drain(*recorders: Recorder) -> None:
    """Let the recorders take turns until the stream is empty."""
    while lag(recorders[0].live):
        for recorder in recorders:
            recorder.fold_once(1)


def fold_all(engine: Engine, entries: Iterable[Entry]) -> None:
    """Straight into the record, in one transaction."""
    with writing(engine) as db:
        fold(db, [read_entry(json.dumps(e)) for e in entries])


def empty(engine: Engine) -> None:
    """Take everything out of the record again."""
    with writing(engine) as db:
        for table in ("response", "event", "conflict", "session", "interview", "respondent"):
            db.exec_driver_sql(f"DELETE FROM {table}")


TABLES: tuple[Table, ...] = tuple(
    table_of(m) for m in (Respondent, Interview, Response, UssdSession, Event, Conflict)
)


def rows(engine: Engine, table: Table) -> list[dict[str, Any]]:
    with reading(engine) as db:
        return [dict(r._mapping) for r in db.execute(table.select().order_by(*table.primary_key))]


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every table of the record, whole."""
    return {table.name: rows(engine, table) for table in TABLES}
