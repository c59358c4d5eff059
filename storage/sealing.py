"""Sealing numbers that are still needed: to answer a text, to remind, to thank.

An MSISDN leaves the gateway's memory only sealed: AES-256-GCM (NIST SP 800-38D) under a key that no
store holds, bound to its pseudonym, so that a sealed number moved to another row does not open.
"""

import base64
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12  # SP 800-38D section 8.2.2: random nonces of 96 bits, well under 2**32 a key
_ID_BYTES = 4


class SealError(Exception):
    """A sealed number does not open: another key, another pseudonym, or damage. Check the key."""


class Seal:
    """Seals and opens numbers under a key derived from the pseudonym key (one secret to keep)."""

    def __init__(self, pseudonym_key: bytes):
        self._cipher = AESGCM(hmac.digest(pseudonym_key, b"dial16 directory v1", "sha256"))
        #: Tells which key sealed a row, without telling the key.
        self.key_id = hmac.digest(pseudonym_key, b"dial16 directory key id v1", "sha256")[:_ID_BYTES].hex()

    def seal(self, msisdn: str, pseudonym: str) -> str:
        """Base64 of nonce and ciphertext: 60 characters for a number of 13."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        # Padded: the length of a number says which country it is from.
        sealed = self._cipher.encrypt(nonce, msisdn.ljust(16).encode(), pseudonym.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, pseudonym: str) -> str:
        """The number in E.164. Raises SealError, which names neither number nor key."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            plain = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], pseudonym.encode())
        except (ValueError, InvalidTag):
            raise SealError("a sealed number does not open: was DIAL16_PSEUDONYM_KEY changed?") from None
        return plain.decode().rstrip()
