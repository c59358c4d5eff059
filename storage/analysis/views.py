"""The views that analysts read, made from the instrument by `migrate`, the same on both engines.

    responses_long     one row a response, with its labels and what the instrument says of the item
    interviews_wide    one row an interview, one column an item
    screen_breakoff    one row an item and wave: where interviews were left
    dispositions       one row for everybody invited or taking part: what became of them, in AAPOR's terms
                       (`dispositions.py`)

All but the last show the one interview a respondent and wave that is counted. Of withdrawn ones
interviews_wide and dispositions tell that they were, and no view anything else. Respondents are pseudonyms:
the views know no number, nor the aggregator's session ids, behind each of which the aggregator knows one.
responses_long numbers an interview's sessions instead, in the order in which they were first used.

interviews_wide holds codes (labels: codebook_option, or the codebook export). An item that asks for a
number has the number in its column, which is null without one; its nonresponse code stands apart in
`<item>_nonresponse`, because an age of 98 is not "don't know"; with groups it also has
`<item>_group`, for age plainly `age_group`. An item whose options are places has their ISO 3166-2 codes
in `<item>_iso`, null where it was not answered with a place. A null code is an item that was not
answered: not reached, not asked, or gone back on. 0 is an answer.

`migrate` makes the views anew each time: on PostgreSQL give a reading role its rights by ALTER DEFAULT
PRIVILEGES, which hold for them too, or grant again after it.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from flows.instrument import Instrument, Item
from storage.analysis import dispositions
from storage.analysis.columns import LONG_LABELS
from storage.analysis.dictionary import Variable, view_variables, wide_columns
from storage.models import UNFINISHED

VIEWS = ("responses_long", "interviews_wide", "screen_breakoff", "dispositions")
_READABLE = 8  # codes
_ABOUT = {
    "responses_long": "A row a response, with its labels and what the instrument says of the item.",
    "interviews_wide": "A row an interview, a column an item; codes are explained in codebook_option.",
    "screen_breakoff": "A row an item and wave: how many reached it, answered it, and left there.",
    "dispositions": "A row everybody invited or taking part, by wave: what became of them, in AAPOR's terms.",
}
_DISPOSITION_LABELS = {
    "wave": "Wave: one fielding period",
    "respondent": "Respondent, by pseudonym",
    "interview": "The interview that counts; empty: none",
    "origin": "sample: was invited; dial_in: came by themselves",
    "replicate": "Replicate of the sample; empty: came by themselves",
    "disposition": "What became of them, see docs/dispositions.md",
    "if_closed": "What it would be if the wave closed now",
    "aapor": "AAPOR's final disposition code; empty: none yet",
}
_BREAKOFF_LABELS = {
    "wave": "Wave: one fielding period",
    "item": "Item",
    **{name: LONG_LABELS[name][1] for name in ("position", "question", "service", "item_label")},
    "reached": "Interviews that came to the item",
    "answered": "Interviews with an answer to it",
    "last_shown": "Unfinished interviews that stopped there",
    "share": "last_shown over reached, 0 to 1",
}


def drop_views(db: Connection) -> None:
    """Before tables change under them."""
    for name in VIEWS:
        db.execute(text(f"DROP VIEW IF EXISTS {name}"))


def create_views(db: Connection, instrument: Instrument) -> None:
    """Make the views for this instrument; interviews of its other versions show the items in common."""
    for name, statement in (
        ("responses_long", _responses_long()),
        ("interviews_wide", interviews_wide(instrument)),
        ("screen_breakoff", _screen_breakoff(instrument)),
    ):
        # Not bound text: ids may hold a colon. The driver must see no "%" either, so none is written.
        db.exec_driver_sql(f"CREATE VIEW {name} AS {statement}")
    dispositions.create_view(db)
    if db.dialect.supports_comments:
        for statement in comments(instrument):
            db.exec_driver_sql(statement.replace("%", "%%"))


def comments(instrument: Instrument) -> Iterator[str]:
    """COMMENT ON for each view and column, from the dictionary: what psql and Metabase show."""
    columns = {
        "responses_long": {name: label for name, (_, label) in LONG_LABELS.items()},
        "interviews_wide": {v.name: comment_of(v, instrument) for v in view_variables(instrument)},
        "screen_breakoff": _BREAKOFF_LABELS,
        "dispositions": _DISPOSITION_LABELS,
    }
    for view, about in _ABOUT.items():
        yield f"COMMENT ON VIEW {view} IS {quoted(about)}"
        for name, label in columns[view].items():
            yield f"COMMENT ON COLUMN {view}.{named(name)} IS {quoted(label)}"


def comment_of(variable: Variable, instrument: Instrument) -> str:
    """The label, what was asked, and the codes where they are few enough to read."""
    language = instrument.default_language
    parts = [variable.label]
    if variable.question:
        parts.append(f"Asked: {variable.question[language]}")
    if 0 < len(variable.codes) <= _READABLE:
        parts.append("; ".join(f"{c.value} = {c.labels[language]}" for c in variable.codes))
    return "\n".join(parts)


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _responses_long() -> str:
    return """
        SELECT r.interview, i.respondent, i.wave, i.instrument, i.aggregator, r.item, c.position,
               c.number AS question, c.block, c.service, c.attribute, c.role, c.label AS item_label,
               r.option, r.code, r.number AS value, o.label AS option_label, NULLIF(o.iso, '') AS iso,
               CASE WHEN o.nonresponse THEN 1 ELSE 0 END AS nonresponse,
               r.given_at, r.seconds, r.tries, r.mode, s.session_number
        FROM response r
        JOIN interview i ON i.id = r.interview
        LEFT JOIN (
            SELECT interview, session,
                   ROW_NUMBER() OVER (PARTITION BY interview ORDER BY MIN(version)) AS session_number
            FROM event GROUP BY interview, session
        ) s ON s.interview = r.interview AND s.session = r.session
        LEFT JOIN codebook_item c ON c.instrument = i.instrument AND c.item = r.item
        LEFT JOIN codebook_option o
               ON o.instrument = i.instrument AND o.item = r.item AND o.option = r.option
        WHERE i.counted AND i.disposition <> 'withdrawn' AND NOT r.retracted
    """


def _group(item: Item) -> str:
    if not item.groups:
        return "NULL"
    bands = []
    for group in item.groups:
        most = "" if group.most is None else f" AND r.number <= {group.most}"
        bands.append(f"WHEN r.number >= {group.least}{most} THEN {quoted(group.id)}")
    return f"CASE {' '.join(bands)} END"


def _iso(item: Item) -> str:
    places = [o for o in item.scale.options if o.iso] if item.scale else []
    if not places:
        return "NULL"
    return f"CASE r.option {' '.join(f'WHEN {quoted(o.id)} THEN {quoted(o.iso)}' for o in places)} END"


def interviews_wide(instrument: Instrument) -> str:
    """SQL of the view: a row an interview, a column an item of `instrument`."""
    columns = []
    for name, (item, what) in wide_columns(instrument).items():
        value = {"code": "r.code", "number": "r.number", "group": _group(item), "iso": _iso(item)}[what]
        columns.append(f"MAX(CASE WHEN r.item = {quoted(item.id)} THEN {value} END) AS {named(name)}")
    return f"""
        SELECT i.id AS interview, i.respondent, i.wave, i.instrument, i.language, i.mode, i.aggregator,
               i.blocks, i.probabilities, i.item_order,
               i.disposition, i.began_at, i.last_at, i.ended_at, i.last_item, i.last_stage,
               i.consented_at, i.consent_version, {", ".join(columns)}
        FROM interview i
        LEFT JOIN response r ON r.interview = i.id AND NOT r.retracted
        WHERE i.counted
        GROUP BY i.id
    """


def _screen_breakoff(instrument: Instrument) -> str:
    """Reached: answered, gone back on, replied to in vain, or on the last screen."""
    unfinished = ", ".join(map(quoted, UNFINISHED))
    return f"""
        WITH standing AS (
            SELECT id, wave, last_item,
                   CASE WHEN disposition IN ({unfinished}) THEN 1 ELSE 0 END AS unfinished
            FROM interview WHERE counted AND disposition <> 'withdrawn'
        ),
        reached AS (
            SELECT s.wave, r.item, r.interview FROM response r JOIN standing s ON s.id = r.interview
            UNION SELECT s.wave, e.item, e.interview FROM event e JOIN standing s ON s.id = e.interview
                  WHERE e.item IS NOT NULL
            UNION SELECT wave, last_item, id FROM standing WHERE unfinished = 1
        ),
        times AS (SELECT wave, item, COUNT(*) AS n FROM reached GROUP BY wave, item),
        answers AS (
            SELECT s.wave, r.item, COUNT(*) AS n FROM response r JOIN standing s ON s.id = r.interview
            WHERE NOT r.retracted GROUP BY s.wave, r.item
        ),
        ends AS (
            SELECT wave, last_item AS item, COUNT(*) AS n FROM standing WHERE unfinished = 1
            GROUP BY wave, last_item
        )
        SELECT w.wave, c.item, c.position, c.number AS question, c.service, c.label AS item_label,
               COALESCE(t.n, 0) AS reached, COALESCE(a.n, 0) AS answered, COALESCE(e.n, 0) AS last_shown,
               CAST(COALESCE(e.n, 0) AS DOUBLE PRECISION) / NULLIF(t.n, 0) AS share
        FROM (SELECT DISTINCT wave FROM standing) w
        CROSS JOIN codebook_item c
        LEFT JOIN times t ON t.wave = w.wave AND t.item = c.item
        LEFT JOIN answers a ON a.wave = w.wave AND a.item = c.item
        LEFT JOIN ends e ON e.wave = w.wave AND e.item = c.item
        WHERE c.instrument = {quoted(instrument.reference)}
    """
