"""Ids as others see them: sealed, so that nobody but we can read one, make one up, or join two places by it.

Whoever reads rows over HTTP sees each interview and respondent under an id that is made for that reader.
It is the database's own id, encrypted; so it can be turned back when a reader asks for the interview by it,
which a hash could not. The same id always gives the same text (deterministic authenticated encryption, the
SIV construction of Rogaway and Shrimpton, 2006, with HMAC-SHA-256 as its function).
"""

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

_TAG = 16  # bytes: no forgery in 2^64 tries
_BLOCK = 32  # bytes that one HMAC-SHA-256 yields
_MOST = 400  # characters of a sealed text; longer ones are nobody's of ours


class Sealed:
    """Seals texts for one `purpose`: what is sealed for another one cannot be opened, nor compared."""

    def __init__(self, key: bytes, purpose: str):
        self._tagging = hmac.digest(key, f"sealed:tag:{purpose}".encode(), "sha256")
        self._hiding = hmac.digest(key, f"sealed:text:{purpose}".encode(), "sha256")

    def seal(self, text: str) -> str:
        """`text` as letters, digits, - and _."""
        plain = text.encode()
        tag = hmac.digest(self._tagging, plain, "sha256")[:_TAG]
        return urlsafe_b64encode(tag + self._xor(tag, plain)).decode().rstrip("=")

    def open(self, sealed: str) -> str:
        """What was sealed. Raises ValueError for anything that `seal` has not made for this purpose."""
        if not sealed.isascii() or len(sealed) > _MOST:
            raise ValueError("not one of our ids")
        try:
            raw = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except binascii.Error:
            raise ValueError("not one of our ids") from None
        tag, hidden = raw[:_TAG], raw[_TAG:]
        plain = self._xor(tag, hidden)
        if not hmac.compare_digest(tag, hmac.digest(self._tagging, plain, "sha256")[:_TAG]):
            raise ValueError("not one of our ids")
        text = plain.decode()
        if not hmac.compare_digest(self.seal(text), sealed):  # base64 has idle bits: one id, one text
            raise ValueError("not one of our ids")
        return text

    def _xor(self, tag: bytes, text: bytes) -> bytes:
        stream = b"".join(
            hmac.digest(self._hiding, tag + n.to_bytes(4, "big"), "sha256")
            for n in range((len(text) + _BLOCK - 1) // _BLOCK)
        )
        return bytes(a ^ b for a, b in zip(text, stream, strict=False))
