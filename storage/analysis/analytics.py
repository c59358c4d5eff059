"""The schema `analytics`: what analysts' tools are let into. Views only, each with its comments.

    respondent    one row a respondent, by pseudonym       answer_long  one row an answer
    disposition   one row an interview, counted or not     answer_wide  one row an interview, a column an item
    paradata      one row an interview: hops, redials      weight       one row an interview and block
    estimate      published figures, after the rules       codebook     one row an item and code

Made anew by every `migrate`. On PostgreSQL they are security barriers in a schema of their own, and the
group role `dial16_analyst` may read them and nothing else: see `analyst_role`. SQLite has neither schemas nor
roles: there they are called `analytics_respondent` and so on, and a reader opens the file with `mode=ro`.

OData's metadata and the results API are made from the same list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Double, TableClause, Text, column, table, text
from sqlalchemy.types import TypeEngine

from flows.instrument import Instrument
from storage.analysis.columns import INTERVIEW_LABELS, LONG_LABELS
from storage.analysis.dictionary import Variable, view_variables
from storage.analysis.views import comment_of, named, quoted
from storage.models import Moment
from storage.sample import drawn

SCHEMA = "analytics"
GROUP = "dial16_analyst"
_TYPES: dict[str, TypeEngine[Any]] = {
    "text": Text(), "whole": BigInteger(), "real": Double(), "flag": Boolean(), "time": Moment(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str  # text | whole | real | flag | time
    label: str
    source: str = ""  # SQL; "" = a column of that name


@dataclass(frozen=True, slots=True)
class View:
    """`rows`: shows people, one by one; else only what is published or explains it."""

    name: str
    about: str
    key: tuple[str, ...]  # columns that tell its rows apart, in the order of the index behind it
    columns: tuple[Column, ...]
    origin: str  # FROM and what follows
    rows: bool = True

    def kind(self, name: str) -> str | None:
        return next((c.kind for c in self.columns if c.name == name), None)

    def select(self) -> str:
        """Its SQL."""
        listed = ", ".join(f"{c.source or named(c.name)} AS {named(c.name)}" for c in self.columns)
        return f"SELECT {listed} {self.origin}"

    def table(self, dialect: str) -> TableClause:
        """The view for statements in SQLAlchemy Core, on the engine of that name; each time the same one,
        so that conditions made apart from the statement are on its table and not on a second one."""
        return _table(self, dialect)


@cache
def _table(view: View, dialect: str) -> TableClause:
    columns = [column(c.name, _TYPES[c.kind]) for c in view.columns]
    if dialect == "sqlite":
        return table(f"{SCHEMA}_{view.name}", *columns)
    return table(view.name, *columns, schema=SCHEMA)


_PSEUDONYM = Column("respondent", "text", INTERVIEW_LABELS["respondent"])
_INTERVIEW = Column("interview", "text", INTERVIEW_LABELS["interview"])
_WAVE = Column("wave", "text", INTERVIEW_LABELS["wave"])


def _respondent() -> View:
    return View(
        "respondent",
        "A row a respondent, by pseudonym.",
        ("respondent",),
        (
            Column("respondent", "text", INTERVIEW_LABELS["respondent"], "pseudonym"),
            Column("first_seen_at", "time", "First heard of, UTC"),
            Column("consented_at", "time", "Last consent given, UTC"),
            Column("consent_version", "text", "Version of the consent text"),
            Column("opted_out_at", "time", "Asked not to be contacted, UTC"),
        ),
        "FROM respondent",
    )


def _of_interview(name: str, source: str = "") -> Column:
    return Column(name, "time" if name.endswith("_at") else "text", INTERVIEW_LABELS[name], source)


def _disposition() -> View:
    return View(
        "disposition",
        "A row an interview, also those that do not count: how it stands.",
        ("interview",),
        (
            Column("interview", "text", INTERVIEW_LABELS["interview"], "id"),
            _PSEUDONYM,
            _WAVE,
            Column("attempt", "whole", "1, 2, .. of the respondent's interviews in the wave"),
            Column("counted", "flag", "The one interview a respondent and wave that results are made of"),
            *(_of_interview(n) for n in ("instrument", "language", "mode", "aggregator", "disposition",
                                         "began_at", "last_at", "ended_at", "last_item", "last_stage")),
        ),
        "FROM interview",
    )  # fmt: skip


def _paradata() -> View:
    """What happened on the way; of withdrawn interviews nothing."""

    def times(kind: str) -> str:
        return f"(SELECT COUNT(*) FROM event e WHERE e.interview = i.id AND e.kind = {quoted(kind)})"

    return View(
        "paradata",
        "A row an interview: how the collecting went.",
        ("interview",),
        (
            Column("interview", "text", INTERVIEW_LABELS["interview"], "i.id"),
            Column("respondent", "text", INTERVIEW_LABELS["respondent"], "i.respondent"),
            Column("wave", "text", INTERVIEW_LABELS["wave"], "i.wave"),
            Column("mode", "text", INTERVIEW_LABELS["mode"], "i.mode"),
            Column("sessions", "whole", "Sessions in which something was recorded",
                   "(SELECT COUNT(DISTINCT e.session) FROM event e WHERE e.interview = i.id)"),
            Column("hops", "whole", "Hops of these sessions, as answered",
                   "(SELECT CAST(SUM(s.hops) AS BIGINT) FROM session s WHERE s.respondent = i.respondent"
                   " AND s.id IN (SELECT e.session FROM event e WHERE e.interview = i.id))"),
            Column("invalid_replies", "whole", "Keys that were not on the screen", times("InvalidReply")),
            Column("redials", "whole", "Times that it was gone on with after a hang-up", times("Resumed")),
            Column("steps_back", "whole", "Times that the respondent went back", times("WentBack")),
            Column("pages_turned", "whole", "Pages turned within an item", times("PageTurned")),
            Column("answers", "whole", "Items with an answer",
                   "(SELECT COUNT(*) FROM response r WHERE r.interview = i.id AND NOT r.retracted)"),
            Column("answer_seconds", "real", "From screen to answer, all answers together",
                   "(SELECT SUM(r.seconds) FROM response r WHERE r.interview = i.id AND NOT r.retracted)"),
        ),
        "FROM interview i WHERE i.disposition <> 'withdrawn'",
    )  # fmt: skip


#: Columns of responses_long that are counted with a fraction, or are no number of anything.
_LONG_KINDS = {"seconds": "real"}
_LONG_SOURCES = {
    "question": "c.number", "item_label": "c.label", "value": "r.number", "option_label": "o.label",
    "iso": "NULLIF(o.iso, '')", "nonresponse": "CASE WHEN o.nonresponse THEN 1 ELSE 0 END",
}  # fmt: skip
_LONG_FROM = {
    **dict.fromkeys(("respondent", "wave", "instrument", "aggregator"), "i"),
    **dict.fromkeys(("position", "block", "service", "attribute", "role"), "c"),
}


def _answer_long() -> View:
    columns = []
    for name, (kind, label) in LONG_LABELS.items():
        if name == "session_number":  # it would number every session anew for a single row: see paradata
            continue
        kind = _LONG_KINDS.get(name, "whole" if kind == "number" else kind)
        source = _LONG_SOURCES.get(name, f"{_LONG_FROM.get(name, 'r')}.{named(name)}")
        columns.append(Column(name, kind, label, source))
    return View(
        "answer_long",
        "A row an answer of a counted interview, with what the instrument says of the item.",
        ("interview", "item"),
        tuple(columns),
        """FROM response r
        JOIN interview i ON i.id = r.interview
        LEFT JOIN codebook_item c ON c.instrument = i.instrument AND c.item = r.item
        LEFT JOIN codebook_option o
               ON o.instrument = i.instrument AND o.item = r.item AND o.option = r.option
        WHERE i.counted AND i.disposition <> 'withdrawn' AND NOT r.retracted""",
    )


def kind_of(variable: Variable) -> str:
    """The kind of a column of answer_wide."""
    if variable.kind == "category":
        return "whole" if all(isinstance(c.value, int) for c in variable.codes) else "text"
    return "whole" if variable.kind == "number" else variable.kind


def _answer_wide(instrument: Instrument) -> View:
    return View(
        "answer_wide",
        "A row a counted interview that was not withdrawn, a column an item, holding codes: see codebook.",
        ("interview",),
        tuple(
            Column(v.name, kind_of(v), comment_of(v, instrument), named(v.name))
            for v in view_variables(instrument)
        ),
        "FROM interviews_wide WHERE disposition <> 'withdrawn'",
    )


def _weight(postgresql: bool) -> View:
    if postgresql:
        pairs = "jsonb_each_text(CAST(i.probabilities AS jsonb)) AS p(key, value)"
    else:
        pairs = "json_each(i.probabilities) AS p"
    chance, within = "CAST(p.value AS DOUBLE PRECISION)", "strpos" if postgresql else "instr"
    sample = drawn(None).compile(compile_kwargs={"literal_binds": True})
    return View(
        "weight",
        "A row a counted interview and block that it was given: how probable that was, and what it weighs.",
        ("interview", "block"),
        (
            Column("interview", "text", INTERVIEW_LABELS["interview"], "i.id"),
            Column("respondent", "text", INTERVIEW_LABELS["respondent"], "i.respondent"),
            Column("wave", "text", INTERVIEW_LABELS["wave"], "i.wave"),
            Column("block", "text", "Block of items", "p.key"),
            Column("probability", "real", "With which the interview was given the block", chance),
            Column("base_weight", "real", "1 over that", f"1 / {chance}"),
            Column(
                "stratum", "text", "Stratum of the sample that the respondent was drawn from", "d.stratum"
            ),
            Column("sample_weight", "real", "1 over the probability of being drawn", "1 / d.probability"),
            Column(
                "final_weight",
                "real",
                "What it weighs in the figures of the block: that times the sample's, raked to the"
                " population; empty: no respondent, or no release with weights",
                "f.weight",
            ),
            Column(
                "release_version",
                "whole",
                "Version of the wave's release that the final weight is from: the newest with weights",
                "f.version",
            ),
        ),
        f"FROM interview i CROSS JOIN {pairs}"
        f" LEFT JOIN ({sample}) d ON d.wave = i.wave AND d.respondent = i.respondent"
        # Each wave's newest release with weights; block '' is any.
        " LEFT JOIN (SELECT r.wave, MAX(r.version) AS version FROM release r WHERE EXISTS"
        " (SELECT 1 FROM final_weight e WHERE e.wave = r.wave AND e.version = r.version) GROUP BY r.wave) n"
        " ON n.wave = i.wave"
        " LEFT JOIN final_weight f"
        " ON f.interview = i.id AND f.version = n.version AND f.block IN (p.key, '')"
        " WHERE i.counted AND i.disposition <> 'withdrawn' AND i.probabilities IS NOT NULL"
        f" AND {within}(' ' || i.blocks || ' ', ' ' || p.key || ' ') > 0",
    )


def _estimate() -> View:
    def plain(name: str, kind: str, label: str, source: str = "") -> Column:
        return Column(name, kind, label, source or f"e.{named(name)}")

    newest = "e.version = (SELECT MAX(n.version) FROM release n WHERE n.wave = e.wave)"
    return View(
        "estimate",
        "A row a published figure, after the rules for disclosure and display. Shares are fractions.",
        ("wave", "version", "position"),
        (
            plain("wave", "text", INTERVIEW_LABELS["wave"]),
            plain("version", "whole", "Version of the wave's release"),
            plain("position", "whole", "Its place in the release"),
            plain("newest", "flag", "Of the newest version of its wave", newest),
            plain("issued", "text", "Day of issue", "r.issued"),
            plain("period", "text", "Year that the figure is for"),
            plain("service", "text", "Public service"),
            plain("measure", "text", "overall, attributes (the mean of the five), or the item of one"),
            plain("variable", "text", "Broken down by; empty: national"),
            plain("category", "text", "Category of that"),
            plain("variable_2", "text", "Crossed with; empty: with nothing"),
            plain("category_2", "text", "Category of that"),
            plain("n", "whole", "Respondents with an answer, rounded; empty: hidden"),
            plain("share", "real", "Share of positive answers, 0 to 1; empty: hidden"),
            plain("se", "real", "Standard error"),
            plain("low", "real", "95 per cent interval, lower end"),
            plain("high", "real", "95 per cent interval, upper end"),
            plain("not_applicable", "whole", "Answered: not applicable"),
            plain("dont_know", "whole", "Answered: don't know"),
            plain("refused", "whole", "Rather not said"),
            plain("not_reached", "whole", "Not asked, or left before"),
            plain("mark", "text", "Empty: shown; c: hidden; u: unreliable, hidden; *: under review"),
            plain("notes", "text", "What to know of it"),
            plain("weighted", "flag", "Weighted to the population", "r.weighted"),
            plain("probability_sample", "flag", "From a drawn sample", "r.probability_sample"),
            plain("caution", "text", "Has to stand beside the figure", "r.caution"),
        ),
        "FROM released_estimate e JOIN release r ON r.wave = e.wave AND r.version = e.version",
        rows=False,
    )


def _codebook() -> View:
    return View(
        "codebook",
        "A row an item and code: what each answer means. An item that asks for a number has a row too.",
        ("instrument", "item", "code_position"),
        (
            Column("instrument", "text", INTERVIEW_LABELS["instrument"], "c.instrument"),
            Column("item", "text", "Item", "c.item"),
            Column("code_position", "whole", "Order of the code", "COALESCE(o.position, -1)"),
            Column("position", "whole", LONG_LABELS["position"][1], "c.position"),
            Column("variable", "text", "Its column in answer_wide", "c.variable"),
            Column("question", "text", LONG_LABELS["question"][1], "c.number"),
            Column("block", "text", LONG_LABELS["block"][1], "c.block"),
            Column("kind", "text", "choice or number", "c.kind"),
            Column("role", "text", LONG_LABELS["role"][1], "c.role"),
            Column("service", "text", LONG_LABELS["service"][1], "c.service"),
            Column("attribute", "text", LONG_LABELS["attribute"][1], "c.attribute"),
            Column("item_label", "text", LONG_LABELS["item_label"][1], "c.label"),
            Column("option", "text", "The answer's stable id", "o.option"),
            Column("code", "whole", "Its code", "o.code"),
            Column("option_label", "text", "The answer in words", "o.label"),
            Column("iso", "text", LONG_LABELS["iso"][1], "NULLIF(o.iso, '')"),
            Column("nonresponse", "flag", "It is no answer: not applicable, don't know, refused",
                   "COALESCE(o.nonresponse, FALSE)"),
        ),
        "FROM codebook_item c LEFT JOIN codebook_option o ON o.instrument = c.instrument AND o.item = c.item",
        rows=False,
    )  # fmt: skip


@cache  # instruments are few, and compared by identity
def views(instrument: Instrument, dialect: str) -> tuple[View, ...]:
    """Every view, for the engine called `dialect`."""
    return (
        _respondent(), _answer_long(), _answer_wide(instrument), _weight(dialect == "postgresql"),
        _estimate(), _disposition(), _paradata(), _codebook(),
    )  # fmt: skip


NAMES = tuple("respondent answer_long answer_wide weight estimate disposition paradata codebook".split())


# ---------------------------------------------------------------- making them


def drop_analytics(db: Connection) -> None:
    """Before tables and views change under them."""
    if db.dialect.name != "postgresql":
        for name in NAMES:
            db.execute(text(f"DROP VIEW IF EXISTS {SCHEMA}_{name}"))
    elif _schema_there(db):
        for name in NAMES:
            db.execute(text(f"DROP VIEW IF EXISTS {SCHEMA}.{name}"))


def create_analytics(db: Connection, instrument: Instrument) -> None:
    """Make the views; on PostgreSQL with their comments and, as far as we may, the group that reads them."""
    postgresql = db.dialect.name == "postgresql"
    if postgresql and not _schema_there(db):
        db.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    for view in views(instrument, db.dialect.name):
        head = f"{SCHEMA}.{view.name} WITH (security_barrier)" if postgresql else f"{SCHEMA}_{view.name}"
        # Not bound text, and ids may hold a colon. psycopg takes a lone "%" for a parameter of its own.
        statement = f"CREATE VIEW {head} AS {view.select()}"
        db.exec_driver_sql(statement.replace("%", "%%") if postgresql else statement)
        if postgresql:
            for comment in _comments(view):
                db.exec_driver_sql(comment.replace("%", "%%"))
    if postgresql:
        _let_group_in(db)


def _comments(view: View) -> Iterator[str]:
    name = f"{SCHEMA}.{view.name}"
    yield f"COMMENT ON VIEW {name} IS {quoted(view.about)}"
    for c in view.columns:
        yield f"COMMENT ON COLUMN {name}.{named(c.name)} IS {quoted(c.label)}"


def _schema_there(db: Connection) -> bool:
    found = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    return db.execute(found, {"name": SCHEMA}).first() is not None


def group_there(db: Connection) -> bool:
    return (
        db.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": GROUP}).first() is not None
    )


def _let_group_in(db: Connection) -> None:
    """The group role, if we may make roles; its rights, if it is there. Both only ever touch our schema."""
    may = text("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    if not group_there(db) and db.execute(may).scalar():
        # A role is the whole server's: another database's `migrate` may be making it at this moment.
        db.execute(
            text(
                f"DO $$ BEGIN CREATE ROLE {GROUP} NOLOGIN; EXCEPTION"
                " WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            )
        )
    db.execute(text(f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC"))
    if group_there(db):
        db.execute(text(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {GROUP}"))
        for name in NAMES:
            db.execute(text(f"GRANT SELECT ON {SCHEMA}.{name} TO {GROUP}"))
