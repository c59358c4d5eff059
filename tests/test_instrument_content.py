"""What an analyst relies on in the instrument, pinned as literal tables.

Sources: UN metadata sheet 16.6.2 of 2021-04-19 (META) for numbers, attributes, codes and routing;
GSS census codes and ISO 3166-2 for regions. A test that fails here is a change of the data's
meaning: it needs a new instrument version and a line in flows/sdg_16_6_2/README.md.
"""

import re
from pathlib import Path

import pytest

from flows.instrument import InstrumentError, load, parse
from flows.screen import item_pages
from flows.wave import Wave

INSTRUMENT = load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2")

ALL_THREE = ("not_applicable", "dont_know", "refused")
TWO = ("dont_know", "refused")

# (official number, item, service, attribute, role, nonresponse), in the order of the questionnaire
OFFICIAL = [
    ("1", "health.need", "health", "", "gate", TWO),
    ("2", "health.got", "health", "", "unmet", TWO),
    ("3", "health.unmet", "health", "", "reason", TWO),
    ("4.1", "health.access", "health", "accessibility", "attribute", ALL_THREE),
    ("4.2", "health.cost", "health", "affordability", "attribute", ALL_THREE),
    ("4.3", "health.facility", "health", "quality_of_facilities", "attribute", ALL_THREE),
    ("4.4", "health.equal", "health", "equal_treatment", "attribute", ALL_THREE),
    ("4.5", "health.courtesy", "health", "courtesy", "attribute", ALL_THREE),
    ("5", "health.overall", "health", "", "overall", ALL_THREE),
    ("6", "education.child", "", "", "gate", TWO),
    ("7", "education.attends", "", "", "unmet", TWO),
    ("8", "education.reason", "", "", "reason", TWO),
    ("9", "primary.attends", "primary", "", "level", TWO),
    ("9.1", "primary.access", "primary", "accessibility", "attribute", ALL_THREE),
    ("9.2", "primary.cost", "primary", "affordability", "attribute", ALL_THREE),
    ("9.3", "primary.facility", "primary", "quality_of_facilities", "attribute", ALL_THREE),
    ("9.4", "primary.equal", "primary", "equal_treatment", "attribute", ALL_THREE),
    ("9.5", "primary.teaching", "primary", "effective_delivery", "attribute", ALL_THREE),
    ("10", "primary.overall", "primary", "", "overall", ALL_THREE),
    ("9", "secondary.attends", "secondary", "", "level", TWO),
    ("9.1", "secondary.access", "secondary", "accessibility", "attribute", ALL_THREE),
    ("9.2", "secondary.cost", "secondary", "affordability", "attribute", ALL_THREE),
    ("9.3", "secondary.facility", "secondary", "quality_of_facilities", "attribute", ALL_THREE),
    ("9.4", "secondary.equal", "secondary", "equal_treatment", "attribute", ALL_THREE),
    ("9.5", "secondary.teaching", "secondary", "effective_delivery", "attribute", ALL_THREE),
    ("10", "secondary.overall", "secondary", "", "overall", ALL_THREE),
    ("11", "government.need", "government", "", "gate", TWO),
    ("12", "government.tried", "government", "", "unmet", TWO),
    ("12", "government.untried", "government", "", "unmet", TWO),
    ("13", "government.reason", "government", "", "reason", TWO),
    ("14a", "government.document", "government", "", "document", TWO),
    ("14b", "government.online", "government", "", "online", TWO),
    ("15.1", "government.access", "government", "accessibility", "attribute", ALL_THREE),
    ("15.2", "government.cost", "government", "affordability", "attribute", ALL_THREE),
    ("15.3", "government.process", "government", "effective_process", "attribute", ALL_THREE),
    ("15.4", "government.equal", "government", "equal_treatment", "attribute", ALL_THREE),
    ("15.5", "government.timely", "government", "timeliness", "attribute", ALL_THREE),
    ("16", "government.overall", "government", "", "overall", ALL_THREE),
]

# Option, GSS census code, name; in the order shown. The option is the ISO 3166-2 code in lower case.
REGIONS = [
    ("gh_af", 8, "Ahafo"),
    ("gh_ah", 6, "Ashanti"),
    ("gh_bo", 9, "Bono"),
    ("gh_be", 10, "Bono East"),
    ("gh_cp", 2, "Central"),
    ("gh_ep", 5, "Eastern"),
    ("gh_aa", 3, "Greater Accra"),
    ("gh_ne", 14, "North East"),
    ("gh_np", 12, "Northern"),
    ("gh_ot", 11, "Oti"),
    ("gh_sv", 13, "Savannah"),
    ("gh_ue", 15, "Upper East"),
    ("gh_uw", 16, "Upper West"),
    ("gh_tv", 4, "Volta"),
    ("gh_wp", 1, "Western"),
    ("gh_wn", 7, "Western North"),
]


def codes(scale: str) -> list[tuple[str, int]]:
    return [(o.id, o.code) for o in INSTRUMENT.scales[scale].options]


def scale_of(item: str) -> str:
    scale = INSTRUMENT.by_id[item].scale
    return scale.id if scale else ""


# ---------------------------------------------------------------- numbers, attributes, codes


def test_official_items() -> None:
    found = [
        (i.number, i.id, i.service, i.attribute, i.role, i.nonresponse) for i in INSTRUMENT.items if i.number
    ]
    assert found == OFFICIAL


def test_what_has_no_official_number() -> None:
    found = {i.id for i in INSTRUMENT.items if not i.number and INSTRUMENT.blocks[i.block].drawn}
    assert found == {"health.visit", "government.any"}


@pytest.mark.parametrize(
    "service, attributes",
    [
        ("health", "accessibility affordability quality_of_facilities equal_treatment courtesy"),
        ("primary", "accessibility affordability quality_of_facilities equal_treatment effective_delivery"),
        ("secondary", "accessibility affordability quality_of_facilities equal_treatment effective_delivery"),
        ("government", "accessibility affordability effective_process equal_treatment timeliness"),
    ],
)
def test_the_five_attributes_differ_by_service_and_stand_before_the_overall_item(
    service: str, attributes: str
) -> None:
    items = [i for i in INSTRUMENT.items if i.service == service and i.role in ("attribute", "overall")]
    assert [i.attribute for i in items] == [*attributes.split(), ""]
    assert items[-1].role == "overall"
    assert [scale_of(i.id) for i in items] == ["agreement"] * 5 + ["satisfaction"]


def test_scale_codes() -> None:
    assert codes("agreement") == [
        ("strongly_agree", 3), ("agree", 2), ("disagree", 1), ("strongly_disagree", 0),
    ]  # fmt: skip
    assert codes("satisfaction") == [
        ("very_satisfied", 3), ("satisfied", 2), ("dissatisfied", 1), ("very_dissatisfied", 0),
    ]  # fmt: skip
    assert codes("yes_no") == [("yes", 1), ("no", 2)]
    assert codes("sex") == [("male", 1), ("female", 2)]
    assert codes("residence") == [("urban", 1), ("rural", 2)]
    assert INSTRUMENT.codes == {"not_applicable": 97, "dont_know": 98, "refused": 99}


def test_reasons_keep_the_official_numbers() -> None:
    assert codes("health_reason") == [
        ("cost", 1), ("waiting", 2), ("distance", 3), ("no_good_doctor", 4), ("no_time", 5),
        ("wait_and_see", 6), ("fear", 7), ("not_clean", 8), ("no_equipment", 9), ("other", 10),
    ]  # fmt: skip
    assert codes("school_reason") == [
        ("private", 1), ("home_schooled", 2), ("cost", 3), ("distance", 4), ("poor_facilities", 5),
        ("not_safe", 6), ("no_respect", 7), ("poor_teaching", 8), ("teachers_absent", 9),
        ("work_at_home", 10), ("culture_or_religion", 11), ("special_needs", 12), ("other", 13),
    ]  # fmt: skip
    assert codes("document_reason") == [
        ("cost", 1), ("hard_to_reach", 2), ("no_respect", 3), ("complicated", 4), ("too_slow", 5),
        ("other", 6),
    ]  # fmt: skip


def test_documents_are_ten_to_twenty_types_and_other() -> None:
    assert codes("document") == [
        ("national_id", 1), ("passport", 2), ("drivers_licence", 3), ("voter_id", 4), ("birth", 5),
        ("death", 6), ("marriage", 7), ("divorce", 8), ("health_insurance", 9), ("pension", 10),
        ("residence_permit", 11), ("citizenship", 12), ("other", 96),
    ]  # fmt: skip
    for item in ("government.untried", "government.document"):
        assert scale_of(item) == "document"


def test_the_reference_period_is_said_where_the_source_has_it() -> None:
    said = {"en": "In the last 12 months", "fr": "Ces 12 derniers mois"}
    for language, phrase in said.items():
        texts = INSTRUMENT.languages[language].items
        found = {item for item, text in texts.items() if phrase in text.text}
        assert found == {
            "health.need", "health.got", "health.visit",
            "government.need", "government.tried", "government.any", "government.document",
        }  # fmt: skip
    assert INSTRUMENT.reference_months == 12


# ---------------------------------------------------------------- the respondent


def test_regions() -> None:
    names = INSTRUMENT.languages["en"].options["region"]
    assert [(o.id, o.code, names[o.id]) for o in INSTRUMENT.scales["region"].options] == REGIONS
    assert sorted(name for _, _, name in REGIONS) == [name for _, _, name in REGIONS]
    assert sorted(code for _, code, _ in REGIONS) == list(range(1, 17))
    iso = [o.iso for o in INSTRUMENT.scales["region"].options]
    assert iso == [option.upper().replace("_", "-") for option, _, _ in REGIONS]
    assert not any(o.iso for s in INSTRUMENT.scales.values() if s.id != "region" for o in s.options)


@pytest.mark.parametrize(
    "iso, fault",
    [
        ('"GH_AA"', "scales.region[7].iso: 'GH_AA' must be a code of ISO 3166-2"),
        ('""', "scales.region[7].iso: '' must be a code of ISO 3166-2"),
        ('"GH-AF"', "scales.region[7].iso: GH-AF stands twice on this scale"),
        ("3", "scales.region[7].iso: must be a str"),
    ],
)
def test_an_iso_code_that_cannot_be_one_is_a_fault(iso: str, fault: str) -> None:
    sources = dict(INSTRUMENT.sources)
    sources["questionnaire.toml"] = sources["questionnaire.toml"].replace('"GH-AA"', iso)
    with pytest.raises(InstrumentError, match=re.escape(fault)):
        parse(sources)


def test_age_groups() -> None:
    age = INSTRUMENT.by_id["respondent.age"]
    assert (age.kind, age.least, age.most) == ("number", 18, 97)
    assert [(g.id, g.least, g.most) for g in age.groups] == [
        ("y18_24", 18, 24), ("y25_34", 25, 34), ("y35_44", 35, 44), ("y45_54", 45, 54),
        ("y55_64", 55, 64), ("y65_plus", 65, None),
    ]  # fmt: skip


def test_washington_group_short_set() -> None:
    items = [i for i in INSTRUMENT.items if i.role == "disability"]
    assert [i.id.split(".")[1] for i in items] == [
        "seeing", "hearing", "walking", "remembering", "selfcare", "communicating",
    ]  # fmt: skip
    assert {scale_of(i.id) for i in items} == {"difficulty"}
    assert all(i.sensitive for i in items)
    assert codes("difficulty") == [("none", 1), ("some", 2), ("a_lot", 3), ("cannot", 4)]


@pytest.mark.parametrize("language", sorted(INSTRUMENT.languages))
def test_the_word_disability_is_nowhere_in_what_respondents_read(language: str) -> None:
    # CBM: keep it out of the introduction. The items do not need it either.
    texts = INSTRUMENT.languages[language].items
    word = re.compile(r"disab|handicap|invalid|infirm", re.IGNORECASE)
    found = {i for i, t in texts.items() if word.search(f"{t.text} {t.detail} {t.ussd} {t.sms}")}
    assert not found


# ---------------------------------------------------------------- structure


def test_blocks() -> None:
    assert [(b.id, b.drawn) for b in INSTRUMENT.blocks] == [
        ("opening", False), ("respondent", False), ("disability", False),
        ("health", True), ("education", True), ("government", True),
        ("household", False),
    ]  # fmt: skip


def test_what_ends_or_skips() -> None:
    items = INSTRUMENT.by_id
    assert {i.id: dict(i.ends) for i in INSTRUMENT.items if i.ends} == {
        "opening.consent": {"no": "refusal"},
        "opening.adult": {"no": "ineligible"},
    }
    assert items["disability.start"].skips_block == "skip"
    must_answer = {i.id for i in INSTRUMENT.items if not i.nonresponse}
    assert must_answer == {"opening.consent", "opening.adult", "disability.start"}


def test_consent_names_who_asks_and_how_to_withdraw() -> None:
    for language in INSTRUMENT.languages.values():
        consent = language.items["opening.consent"]
        assert "{owner}" in consent.text
        for value in ("{owner}", "{code}", "{contact}"):
            assert value in consent.detail


SHORT_SCALES = {
    "consent",
    "yes_no",
    "agreement",
    "satisfaction",
    "difficulty",
    "sex",
    "residence",
    "block_gate",
}


@pytest.mark.parametrize("language", sorted(INSTRUMENT.languages))
def test_question_and_all_answers_stand_on_one_screen(language: str) -> None:
    # Only the lists (regions, reasons, documents) may need more. 160 septets, footer included.
    wave = Wave(
        id="w", instrument=INSTRUMENT, languages=(language,), owner="Ghana Statistical Service",
        contact="0302 000 000", code="*384*16#",
    )  # fmt: skip
    spread = set()
    for item in INSTRUMENT.items:
        if scale_of(item.id) in SHORT_SCALES:
            first = item_pages(wave, language, item.index, "ussd", 160, item.block > 0, "")[0]
            last = len(item.scale.options) if item.scale else 0
            if f"\n{last} " not in first:
                spread.add(item.id)
    assert not spread


# ---------------------------------------------------------------- routing


def asked(block: str, answers: dict[str, str]) -> list[str]:
    """The items of a block that are asked when these answers are given; anything else: first option."""
    marks = {"not_applicable": "N", "dont_know": "D", "refused": "R"}
    state = ["."] * len(INSTRUMENT.items)
    found = []
    for index in next(b for b in INSTRUMENT.blocks if b.id == block).items:
        item = INSTRUMENT.items[index]
        if not item.applies("".join(state)):
            continue
        assert item.scale
        found.append(item.id)
        answer = answers.get(item.id, item.scale.options[0].id)
        own = {o.id: o.mark for o in item.scale.options}
        state[index] = marks[answer] if answer in item.nonresponse else own[answer]
    unasked = answers.keys() - set(found)
    assert not unasked, f"the route never asks {unasked}"
    return found


def names(prefix: str, short: str) -> list[str]:
    return [f"{prefix}.{name}" for name in short.split()]


CARE = names("health", "access cost facility equal courtesy overall")
PRIMARY = names("primary", "access cost facility equal teaching overall")
SECONDARY = names("secondary", "access cost facility equal teaching overall")
DOCUMENT = names("government", "document online access cost process equal timely overall")


@pytest.mark.parametrize(
    "need, got, visit, expected",
    [
        ("no", None, None, "need"),
        ("dont_know", None, None, "need"),
        ("refused", None, None, "need"),
        ("yes", "yes", None, "need got +"),
        # trap a: at least one need unmet is not "no visit at all"
        ("yes", "no", "yes", "need got unmet visit +"),
        ("yes", "no", "no", "need got unmet visit"),
        ("yes", "no", "dont_know", "need got unmet visit"),
        ("yes", "no", "refused", "need got unmet visit"),
        ("yes", "dont_know", "yes", "need got visit +"),
        ("yes", "dont_know", "no", "need got visit"),
        ("yes", "refused", "yes", "need got visit +"),
        ("yes", "refused", "refused", "need got visit"),
    ],
)
def test_health_routes(need: str, got: str | None, visit: str | None, expected: str) -> None:
    given = {"health.need": need, "health.got": got, "health.visit": visit}
    gates = names("health", expected.rstrip(" +"))
    route = asked("health", {k: v for k, v in given.items() if v})
    assert route == gates + (CARE if expected.endswith("+") else [])


EDUCATION_GATES = ["education.child", "education.attends"]


@pytest.mark.parametrize(
    "attends, reason",
    [
        ("yes", None),
        ("dont_know", None),
        ("refused", None),
        # trap b: whatever the reason for one child, another may attend a public school
        ("no", "private"),
        ("no", "home_schooled"),
        ("no", "cost"),
        ("no", "other"),
        ("no", "dont_know"),
        ("no", "refused"),
    ],
)
@pytest.mark.parametrize("primary", ["yes", "no", "dont_know", "refused"])
@pytest.mark.parametrize("secondary", ["yes", "no", "dont_know", "refused"])
def test_education_routes(attends: str, reason: str | None, primary: str, secondary: str) -> None:
    given = {
        "education.attends": attends,
        "education.reason": reason,
        "primary.attends": primary,
        "secondary.attends": secondary,
    }
    assert asked("education", {k: v for k, v in given.items() if v}) == [
        *EDUCATION_GATES,
        *(["education.reason"] if attends == "no" else []),
        "primary.attends",
        *(PRIMARY if primary == "yes" else []),
        "secondary.attends",
        *(SECONDARY if secondary == "yes" else []),
    ]


@pytest.mark.parametrize("child", ["no", "dont_know", "refused"])
def test_education_ends_without_a_child(child: str) -> None:
    assert asked("education", {"education.child": child}) == ["education.child"]


@pytest.mark.parametrize(
    "need, tried, any_, expected",
    [
        ("no", None, None, "need"),
        ("dont_know", None, None, "need"),
        ("refused", None, None, "need"),
        ("yes", "yes", None, "need tried +"),
        # trap f: the end is decided after Q13, by whether any document at all was tried for
        ("yes", "no", "yes", "need tried untried reason any +"),
        ("yes", "no", "no", "need tried untried reason any"),
        ("yes", "no", "dont_know", "need tried untried reason any"),
        ("yes", "no", "refused", "need tried untried reason any"),
        ("yes", "dont_know", "yes", "need tried any +"),
        ("yes", "dont_know", "no", "need tried any"),
        ("yes", "refused", "yes", "need tried any +"),
        ("yes", "refused", "refused", "need tried any"),
    ],
)
def test_government_routes(need: str, tried: str | None, any_: str | None, expected: str) -> None:
    given = {"government.need": need, "government.tried": tried, "government.any": any_}
    gates = names("government", expected.rstrip(" +"))
    route = asked("government", {k: v for k, v in given.items() if v})
    assert route == gates + (DOCUMENT if expected.endswith("+") else [])


@pytest.mark.parametrize("answer", ["strongly_disagree", "not_applicable", "dont_know", "refused"])
def test_no_answer_to_an_attribute_item_changes_the_route(answer: str) -> None:
    for block, items in (("health", CARE), ("education", PRIMARY + SECONDARY), ("government", DOCUMENT[2:])):
        attributes = [i for i in items if INSTRUMENT.by_id[i].role == "attribute"]
        assert asked(block, dict.fromkeys(attributes, answer)) == asked(block, {})


@pytest.mark.parametrize(
    "block, answers, count",
    [
        ("health", {}, 8),
        ("health", {"health.got": "no"}, 10),
        ("education", {}, 16),
        ("education", {"education.attends": "no"}, 17),
        ("government", {}, 10),
        ("government", {"government.tried": "no"}, 13),
    ],
)
def test_how_many_items_a_user_of_the_service_is_asked(
    block: str, answers: dict[str, str], count: int
) -> None:
    assert len(asked(block, answers)) == count


@pytest.mark.parametrize("start, count", [("go_on", 7), ("skip", 1)])
def test_the_washington_group_items_are_skipped_together(start: str, count: int) -> None:
    assert len(asked("disability", {"disability.start": start})) == count


@pytest.mark.parametrize("gas, fire", [("yes", False), ("no", True), ("dont_know", True), ("refused", True)])
def test_household_routes(gas: str, fire: bool) -> None:
    last = " open_fire" if fire else ""
    route = asked("household", {"household.gas": gas})
    assert route == names("household", "fridge television cabinet bank gas" + last)
