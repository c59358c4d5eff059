"""What the schema of DDI-Codebook 2.5 says of the elements that we write.

Source: codebook.xsd of DDI 2.5 (DDI Alliance, 2012-01-17), complex type by complex type, as published in
https://github.com/ncrncornell/ddi-schemas, 2.5/schemas/codebook.xsd. Only facts are copied: for each element
its children in order and how often, its attributes and their values. `faults` walks a document with them.
"""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

NAMESPACE = "ddi:codebook:2_5"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

#: Element -> its children in order. x: at most one; x!: just one; x*: any number; x!*: one or more.
CHILDREN = {
    "codeBook": "docDscr* stdyDscr!* fileDscr* dataDscr* otherMat*",
    "stdyDscr": "citation!* studyAuthorization* stdyInfo* studyDevelopment* method* dataAccs* othrStdyMat*"
                " notes*",
    "citation": "titlStmt! rspStmt prodStmt distStmt serStmt* verStmt* biblCit holdings* notes*",
    "titlStmt": "titl! subTitl* altTitl* parTitl* IDNo*",
    "rspStmt": "AuthEnty* othId*",
    "prodStmt": "producer* copyright prodDate* prodPlac* software* fundAg* grantNo*",
    "distStmt": "distrbtr* contact* depositr* depDate* distDate",
    "verStmt": "version verResp notes*",
    "stdyInfo": "studyBudget* subject* abstract* sumDscr* qualityStatement notes* exPostEvaluation*",
    "subject": "keyword* topcClas*",
    "sumDscr": "timePrd* collDate* nation* geogCover* geogUnit* geoBndBox boundPoly anlyUnit* universe*"
               " dataKind*",
    "method": "dataColl* notes* anlyInfo stdyClas dataProcessing* codingInstructions*",
    "dataColl": "timeMeth* dataCollector* collectorTraining* frequenc* sampProc* sampleFrame*"
                " targetSampleSize* deviat* collMode* resInstru* instrumentDevelopment* sources collSitu*"
                " actMin* ConOps* weight* cleanOps*",
    "dataAccs": "setAvail* useStmt* notes*",
    "useStmt": "confDec specPerm restrctn contact* citReq deposReq conditions disclaimer",
    "fileDscr": "fileTxt* locMap notes*",
    "fileTxt": "fileName fileCitation fileCont fileStrc dimensns fileType format filePlac dataChck* ProcStat"
               " dataMsng software* verStmt",
    "dimensns": "caseQnty* varQnty* logRecL* recPrCas* recNumTot*",
    "dataDscr": "varGrp* nCubeGrp* var* nCube* notes*",
    "var": "location* labl* imputation security embargo respUnit anlysUnit qstn* valrng* invalrng* undocCod*"
           " universe* TotlResp sumStat* txt* stdCatgry* catgryGrp* catgry* codInstr* verStmt* concept*"
           " derivation varFormat geoMap* catLevel* notes*",
    "catgry": "catValu labl* txt* catStat* mrow",
}  # fmt: skip

#: Elements that hold text: simpleTextType, conceptualTextType and what extends them. We put none in them but
#: in `qstn`, which takes its own in any order.
TEXTS = frozenset(
    "titl IDNo AuthEnty producer prodDate software distrbtr version keyword abstract collDate nation anlyUnit"
    " universe dataKind timeMeth dataCollector sampProc collMode resInstru weight contact citReq conditions"
    " fileName caseQnty varQnty fileType labl qstn qstnLit sumStat catValu catStat varFormat".split()
)
WITHIN = {"qstn": {"preQTxt", "qstnLit", "postQTxt", "forward", "backward", "ivuInstr"}}

#: Attribute group GLOBALS: of every element.
GLOBALS = frozenset({"ID", "source", "elementVersion", "elementVersionDate", "ddiLifecycleUrn",
                     "ddiCodebookUrn", _LANG})  # fmt: skip
#: Element -> its own attributes, of those that we might write; x!: required.
ATTRIBUTES = {
    "codeBook": "version codeBookAgency", "stdyDscr": "access", "fileDscr": "URI sdatrefs access",
    "IDNo": "agency level", "AuthEnty": "affiliation", "producer": "abbr affiliation role",
    "prodDate": "date", "software": "date version", "distrbtr": "abbr affiliation URI",
    "version": "date type", "abstract": "date contentType", "collDate": "date event cycle",
    "nation": "abbr", "anlyUnit": "unit", "universe": "level clusion", "dataKind": "type",
    "timeMeth": "method", "dataCollector": "abbr affiliation role", "resInstru": "type",
    "contact": "affiliation URI email", "fileType": "charset", "keyword": "vocab vocabURI",
    "var": "name! wgt wgt-var weight qstn files vendor dcml intrvl rectype nature representationType catQnty",
    "qstn": "qstn var seqNo responseDomainType", "labl": "level vendor country",
    "sumStat": "type! wgtd weight", "catgry": "missing missType country excls level",
    "catStat": "type wgtd weight URI", "varFormat": "type formatname schema category URI",
}  # fmt: skip
VALUES = {
    ("codeBook", "version"): {"2.5"},
    ("IDNo", "level"): {"study", "file", "project"},
    ("collDate", "event"): {"start", "end", "single"},
    ("var", "intrvl"): {"contin", "discrete"},
    ("var", "wgt"): {"wgt", "not-wgt"},
    ("sumStat", "type"): {"mean", "medn", "mode", "vald", "invd", "min", "max", "stdev", "other"},
    ("catgry", "missing"): {"Y", "N"},
    ("catStat", "type"): {"freq", "percent", "crosstab", "other"},
    ("varFormat", "type"): {"character", "numeric"},
}
_NAME = re.compile(r"[A-Za-z_][\w.-]*\Z")  # an NCName, as xs:ID is
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*\Z")  # xs:language


def faults(root: ET.Element) -> Iterator[str]:
    """What the schema would refuse, element by element."""
    ids: set[str] = set()
    for element in root.iter():
        name = _local(element)
        yield from _children_faults(name, element)
        yield from _attribute_faults(name, element)
        if (mine := element.get("ID")) is not None:
            if mine in ids or not _NAME.match(mine):
                yield f"{name}: ID {mine!r} is no xs:ID, or not the only one"
            ids.add(mine)
    for var in root.iter(f"{{{NAMESPACE}}}var"):
        if not set((var.get("files") or "").split()) <= ids:
            yield f"var {var.get('name')}: files are no IDs of this document"


def _local(element: ET.Element) -> str:
    space, name = element.tag[1:].split("}")
    return name if space == NAMESPACE else element.tag


def _children_faults(name: str, element: ET.Element) -> Iterator[str]:
    found = [_local(child) for child in element]
    if name in TEXTS:
        if set(found) - WITHIN.get(name, set()):
            yield f"{name}: holds {found}"
        return
    if name not in CHILDREN:
        yield f"{name}: is not in the table"
        return
    if (element.text or "").strip() or any((child.tail or "").strip() for child in element):
        yield f"{name}: takes no text"
    parts = []
    for child in CHILDREN[name].split():
        plain = child.rstrip("!*")
        often = {"": "?", "!": "", "*": "*", "!*": "+"}[child[len(plain) :]]
        parts.append(f"(?:{plain} ){often}")
    if not re.fullmatch("".join(parts), "".join(f"{child} " for child in found)):
        yield f"{name}: has {found}, and must have {CHILDREN[name]}"


def _attribute_faults(name: str, element: ET.Element) -> Iterator[str]:
    listed = ATTRIBUTES.get(name, "").split()
    known = {a.rstrip("!") for a in listed}
    for a in listed:
        if a.endswith("!") and a[:-1] not in element.attrib:
            yield f"{name}: lacks {a[:-1]}"
    for a, value in element.attrib.items():
        if a not in known and a not in GLOBALS:
            yield f"{name}: has {a}"
        if value not in VALUES.get((name, a), {value}) or (a == _LANG and not _LANGUAGE.match(value)):
            yield f"{name}: {a} is {value!r}"
