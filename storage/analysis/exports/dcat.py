"""A release in an open-data catalogue: dcat.jsonld, DCAT 3 with the terms of DCAT-AP.

CKAN takes it over with its DCAT extension. File addresses are complete where the office says where the
folder will be read, else relative to the file itself.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from storage.analysis.release import Release

MEDIA_TYPES = {
    ".csv": "text/csv",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".px": "text/x-pcaxis",
    ".xml": "application/vnd.sdmx.structurespecificdata+xml",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".yml": "application/yaml",
    ".md": "text/markdown",
    ".html": "text/html",
}
CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "spdx": "http://spdx.org/rdf/terms#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_TITLE_FR = "Indicateur ODD 16.6.2 : satisfaction de la dernière expérience des services publics"
#: The indicator's metadata ask for data at least every two years.
_EVERY = "http://publications.europa.eu/resource/authority/frequency/BIENNIAL"
_COUNTRY = "http://publications.europa.eu/resource/authority/country/GHA"
_CALLING = "+233"  # where a number without a country's code is dialled (RFC 3966, phone-context)


def dcat(release: Release, files: Mapping[str, tuple[int, str]], address: str = "") -> str:
    """The catalogue entry. files: name -> octets and SHA-256; address: of the releases' folder on the web."""
    base = f"{address.rstrip('/')}/{quote(release.wave)}/{release.version}/" if address else ""
    years = sorted({e.period for e in release.estimates})

    def file(name: str) -> dict[str, object]:
        size, digest = files[name]
        suffix = name[name.rfind(".") :]
        return {
            "@type": "dcat:Distribution",
            "dct:title": name,
            "dcat:accessURL": {"@id": base + quote(name)},  # mandatory in DCAT-AP; a file is its own access
            "dcat:downloadURL": {"@id": base + quote(name)},
            "dcat:mediaType": MEDIA_TYPES.get(suffix, "application/octet-stream"),
            "dcat:byteSize": {"@type": "xsd:nonNegativeInteger", "@value": str(size)},
            "dct:license": {"@id": release.licence},
            "spdx:checksum": {
                "@type": "spdx:Checksum",
                "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
                "spdx:checksumValue": {"@type": "xsd:hexBinary", "@value": digest},
            },
        }

    entry = {
        "@context": CONTEXT,
        "@id": base or "./",
        "@type": "dcat:Dataset",
        "dct:identifier": f"16-6-2/{release.wave}/{release.version}",
        "dct:title": in_words(f"{release.title}, wave {release.wave}", f"{_TITLE_FR}, vague {release.wave}"),
        "dct:description": in_words(
            f"Shares of people satisfied with public services. {release.caution}".strip(),
            f"Parts de personnes satisfaites des services publics. {_caution_fr(release)}".strip(),
        ),
        "dct:publisher": {"@type": "foaf:Organization", "foaf:name": release.owner},
        "dcat:contactPoint": {
            "@type": "vcard:Organization",
            "vcard:fn": release.owner,
            **_reached(release.contact),
        },
        "dcat:landingPage": {"@id": base.removesuffix("/") or "./"},
        "dct:license": {"@id": release.licence},
        "dct:issued": {"@type": "xsd:date", "@value": release.issued},
        "dct:modified": {"@type": "xsd:date", "@value": release.issued},
        "dcat:version": str(release.version),
        "dct:accrualPeriodicity": {"@id": _EVERY},
        "dct:spatial": {"@id": _COUNTRY},
        "dcat:keyword": ["SDG 16.6.2", "public services", "satisfaction", "citizen data"],
        "dcat:theme": {"@id": "http://publications.europa.eu/resource/authority/data-theme/GOVE"},
        "dct:conformsTo": {"@id": "https://unstats.un.org/sdgs/metadata/files/Metadata-16-06-02.pdf"},
        "dcat:distribution": [file(name) for name in sorted(files)],
    }
    if years:
        entry["dct:temporal"] = {
            "@type": "dct:PeriodOfTime",
            "dcat:startDate": {"@type": "xsd:gYear", "@value": years[0]},
            "dcat:endDate": {"@type": "xsd:gYear", "@value": years[-1]},
        }
    return json.dumps(entry, ensure_ascii=False, indent=1) + "\n"


def in_words(english: str, french: str) -> list[dict[str, str]]:
    """A text in both languages of the pages."""
    return [{"@language": "en", "@value": english}, {"@language": "fr", "@value": french}]


def _reached(contact: str) -> dict[str, object]:
    """The contact as vCard has it, whose telephones and mailboxes are addresses (RFC 3966, RFC 6068)."""
    number = re.sub(r"[\s().-]", "", contact)
    if re.fullmatch(r"\+[0-9]{3,15}", number):
        return {"vcard:hasTelephone": {"@id": f"tel:{number}"}}
    if re.fullmatch(r"[0-9]{3,15}", number):
        return {"vcard:hasTelephone": {"@id": f"tel:{number};phone-context={_CALLING}"}}
    if re.fullmatch(r"[^@\s]+@[^@\s]+", contact):
        return {"vcard:hasEmail": {"@id": f"mailto:{quote(contact, safe='@')}"}}
    return {"vcard:note": contact}


def _caution_fr(release: Release) -> str:
    """`Release.caution` in French."""
    said = ["Démonstration : réponses inventées."] if release.simulated else []
    if not release.weighted:
        said.append(
            "Pondéré selon le seul plan de sondage, non sur la population."
            if release.design_weighted
            else "Non pondéré : décrit celles et ceux qui ont répondu."
        )
    if not release.probability_sample:
        said.append(
            "Pas un échantillon aléatoire : les répondants ont choisi de participer. Les intervalles sont "
            "modélisés comme s'ils avaient été tirés au sort."
        )
    return " ".join(said)
