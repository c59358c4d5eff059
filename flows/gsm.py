"""The GSM 03.38 alphabet: what a feature phone can show, and what it costs.

Sources: 3GPP TS 23.038 section 6.2.1 (default alphabet and its extension table) and
6.1.2 (USSD: 160 octets carry 182 septets; SMS: 140 octets carry 160 septets, or 153
in each part of several, where 6 octets go to the user data header).
"""

import unicodedata

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"

#: Septets of each character that the alphabet has: 1, or 2 for ESC + character.
SEPTETS: dict[str, int] = dict.fromkeys(_BASIC, 1) | dict.fromkeys(_EXTENSION, 2)

USSD_SEPTETS = 182  # TS 23.038 6.1.2.3: 160 octets, the protocol's ceiling
SMS_SEPTETS = 160  # one part
SMS_PART_SEPTETS = 153  # each part of several
SMS_UCS2_UNITS = 70
SMS_PART_UCS2_UNITS = 67

# Letters that have no canonical decomposition. A native speaker approves each language's
# result; an author's own `ussd` text always wins over this table.
_FOLDS = str.maketrans(
    {
        "ɛ": "e", "Ɛ": "E", "ɔ": "o", "Ɔ": "O", "ŋ": "n", "Ŋ": "N", "ƒ": "f", "Ƒ": "F",
        "ɖ": "d", "Ɖ": "D", "ʋ": "v", "Ʋ": "V", "ɣ": "g", "Ɣ": "G", "ɩ": "i", "Ɩ": "I",
        "ʊ": "u", "Ʊ": "U", "ə": "e", "Ə": "E", "ɓ": "b", "Ɓ": "B", "ɗ": "d", "Ɗ": "D",
        "ƙ": "k", "Ƙ": "K", "ʒ": "z", "Ʒ": "Z", "ƴ": "y", "Ƴ": "Y", "œ": "oe", "Œ": "OE",
        "‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "-", "—": "-",
        "…": "...", "•": "*", "₵": "GHS", "\u00a0": " ", "\u202f": " ",
    }
)  # fmt: skip


def septets(text: str) -> int:
    """Septets that `text` takes; characters outside the alphabet raise KeyError (fold first)."""
    return sum(SEPTETS[c] for c in text)


def unencodable(text: str) -> list[str]:
    """The distinct characters of `text` that the alphabet lacks, in order of appearance."""
    return list(dict.fromkeys(c for c in text if c not in SEPTETS))


def fold(text: str) -> str:
    """`text` with letters outside the alphabet replaced by their plain forms.

    Letters inside it stay (é, ñ, ü). What no rule covers stays too: `unencodable` names it.
    """
    if all(c in SEPTETS for c in text):
        return text
    out = []
    for c in unicodedata.normalize("NFC", text).translate(_FOLDS):
        if c in SEPTETS:
            out.append(c)
            continue
        bare = "".join(d for d in unicodedata.normalize("NFD", c) if not unicodedata.combining(d))
        out.append(bare.translate(_FOLDS))
    return "".join(out)


def parts(text: str) -> int:
    """SMS parts that `text` is billed as: GSM-7 where the alphabet has it all, else UCS-2.

    What takes two (an extension character in septets, a character beyond the BMP in UTF-16 units)
    may not straddle two parts.
    """
    if unencodable(text):
        costs = [2 if ord(c) > 0xFFFF else 1 for c in text]
        whole, part = SMS_UCS2_UNITS, SMS_PART_UCS2_UNITS
    else:
        costs = [SEPTETS[c] for c in text]
        whole, part = SMS_SEPTETS, SMS_PART_SEPTETS
    if sum(costs) <= whole:
        return 1
    count, room = 1, part
    for cost in costs:
        if cost > room:
            count, room = count + 1, part
        room -= cost
    return count
