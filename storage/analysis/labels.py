"""What the ids in an estimate are called in words, in one language: services, measures, domains.

Made from the instrument, so that a release says what the questionnaire said. The words that no item
has (disability, wealth, the mean of five) stand here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.instrument import Instrument
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Domain, Estimate

_WORDS = {
    "en": {
        "overall": "overall satisfaction", "attributes": "mean of the five attributes",
        "national": "National", "total": "All",
        "sex": "Sex", "age": "Age", "region": "Region", "residence": "Residence",
        "disability": "Disability", "wealth": "Wealth quintile",
        "health": "Health care", "primary": "Primary education", "secondary": "Secondary education",
        "government": "Government services",
        "disability.with": "With disability", "disability.without": "Without disability",
        "wealth.q1": "Poorest fifth", "wealth.q2": "Second fifth", "wealth.q3": "Middle fifth",
        "wealth.q4": "Fourth fifth", "wealth.q5": "Richest fifth",
    },
    "fr": {
        "overall": "satisfaction globale", "attributes": "moyenne des cinq attributs",
        "national": "National", "total": "Ensemble",
        "sex": "Sexe", "age": "Âge", "region": "Région", "residence": "Milieu de résidence",
        "disability": "Handicap", "wealth": "Quintile de richesse",
        "health": "Soins de santé", "primary": "Enseignement primaire",
        "secondary": "Enseignement secondaire", "government": "Services administratifs",
        "disability.with": "Avec handicap", "disability.without": "Sans handicap",
        "wealth.q1": "Cinquième le plus pauvre", "wealth.q2": "Deuxième cinquième",
        "wealth.q3": "Troisième cinquième", "wealth.q4": "Quatrième cinquième",
        "wealth.q5": "Cinquième le plus riche",
        "accessibility": "accessibilité", "affordability": "coût abordable",
        "quality_of_facilities": "qualité des installations", "equal_treatment": "égalité de traitement",
        "courtesy": "courtoisie", "effective_delivery": "qualité de l'enseignement",
        "effective_process": "démarches efficaces", "timeliness": "rapidité",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labels:
    """Words by id. What is not in here is shown by its id: a writer never fails for want of a word."""

    language: str  # ISO 639-1
    services: Mapping[str, str]
    measures: Mapping[str, str]  # OVERALL, ATTRIBUTES and item ids
    variables: Mapping[str, str]
    options: Mapping[str, Mapping[str, str]]  # variable -> category -> words
    codes: Mapping[str, Mapping[str, str]]  # variable -> category -> official code: regions 1 to 16
    national: str = "National"
    total: str = "All"  # of a breakdown
    #: (service, measure) -> option of that item's scale -> words
    answers: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)

    def service(self, service: str) -> str:
        return self.services.get(service, service)

    def measure(self, measure: str) -> str:
        return self.measures.get(measure, measure)

    def variable(self, variable: str) -> str:
        return self.variables.get(variable, variable)

    def option(self, variable: str, option: str) -> str:
        return self.options.get(variable, {}).get(option, option)

    def code(self, variable: str, option: str) -> str:
        """The official code of a category; "" if it has none."""
        return self.codes.get(variable, {}).get(option, "")

    def answer(self, service: str, measure: str, option: str) -> str:
        """An option of an item's scale."""
        return self.answers.get((service, measure), {}).get(option, option)

    def figure(self, e: Estimate) -> str:
        """Which figure: service and measure."""
        return f"{self.service(e.service)}: {self.measure(e.measure)}"

    def domain(self, domain: Domain) -> str:
        return ", ".join(self.option(*pair) for pair in domain) or self.national


def labels_of(instrument: Instrument, language: str = "") -> Labels:
    """The words of the instrument's `language`, by default its own. Raises KeyError for one it lacks."""
    language = language or instrument.default_language
    texts = instrument.languages[language]
    words = _WORDS.get(language, _WORDS["en"])
    options: dict[str, dict[str, str]] = {}
    codes: dict[str, dict[str, str]] = {}
    for variable in ("sex", "age", "region", "residence"):
        for item in instrument.items:
            if item.role != variable:
                continue
            if item.groups:
                groups = texts.groups.get(item.id, {})
                options[variable] = {g.id: groups.get(g.id, g.id) for g in item.groups}
            elif item.scale is not None:
                options[variable] = dict(texts.options[item.scale.id])
                codes[variable] = {o.id: str(o.code) for o in item.scale.options if o.iso}
    for variable in ("disability", "wealth"):
        options[variable] = {
            name.removeprefix(f"{variable}."): text
            for name, text in words.items()
            if name.startswith(f"{variable}.")
        }
    attributes = {
        i.id: words.get(i.attribute, i.attribute.replace("_", " "))
        for i in instrument.items
        if i.role == "attribute"
    }
    return Labels(
        language=language,
        services={s: words.get(s, s) for s in dict.fromkeys(i.service for i in instrument.items) if s},
        measures={OVERALL: words["overall"], ATTRIBUTES: words["attributes"], **attributes},
        variables={v: words[v] for v in ("sex", "age", "region", "residence", "disability", "wealth")},
        options=options,
        codes=codes,
        national=words["national"],
        total=words["total"],
        answers={
            (i.service, OVERALL if i.role == "overall" else i.id): texts.options[i.scale.id]
            for i in instrument.items
            if i.role in ("attribute", "overall") and i.scale is not None
        },
    )
