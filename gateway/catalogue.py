"""Every release as an entry of one DCAT catalogue: /open-data/catalogue.jsonld, for CKAN and its like."""

import json
import logging
from typing import Any

from gateway.published import Published
from storage.analysis.exports.dcat import CONTEXT, in_words

log = logging.getLogger("dial16.results")

_ADDRESSES = ("dcat:accessURL", "dcat:downloadURL")


def catalogue(published: Published, address: str, owner: str = "") -> str:
    """The catalogue as JSON-LD. `address`: of this site, "" = not known; `owner`: who publishes, "" = whoever
    published last."""
    entries: list[Any] = []
    for edition in published.editions():
        folder = published.folder(edition.wave, edition.version)
        try:
            entry = json.loads((folder / "dcat.jsonld").read_text("utf-8")) if folder else None
        except (OSError, ValueError) as error:
            log.error("%s/%d: dcat.jsonld: %s", edition.wave, edition.version, type(error).__name__)
            continue
        if entry is None:
            continue
        entry.pop("@context", None)
        owner = owner or entry.get("dct:publisher", {}).get("foaf:name", "")
        if str(entry.get("@id", "")).startswith("."):  # published before the address was known
            _complete(entry, f"{address}/results/{edition.wave}/{edition.version}")
        entries.append(entry)
    made = {
        "@context": CONTEXT,
        "@id": f"{address}/open-data/catalogue.jsonld",
        "@type": "dcat:Catalog",
        "dct:title": in_words("SDG indicator 16.6.2: releases", "Indicateur ODD 16.6.2 : publications"),
        "dct:description": in_words(
            "Every version of every wave: shares of people satisfied with public services.",
            "Chaque version de chaque vague : parts de personnes satisfaites des services publics.",
        ),
        **({"dct:publisher": {"@type": "foaf:Organization", "foaf:name": owner}} if owner else {}),
        "dcat:dataset": entries,
    }
    return json.dumps(made, ensure_ascii=False, indent=1) + "\n"


def _complete(entry: dict[str, Any], base: str) -> None:
    """Its addresses, relative to its folder, as they are read from the catalogue's place."""
    entry["@id"] = base + "/"
    if "dcat:landingPage" in entry:
        entry["dcat:landingPage"]["@id"] = base
    for file in entry.get("dcat:distribution", []):
        for name in _ADDRESSES:
            if name in file:
                file[name]["@id"] = f"{base}/{file[name]['@id']}"
