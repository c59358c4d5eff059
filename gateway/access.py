"""Who may ask the results API what: tokens with a scope, and how often.

    DIAL16_API_TOKENS = NAME:SCOPE:TOKEN, NAME:SCOPE:TOKEN, ..

    estimates   what is published: releases, figures, codebook
    rows        that, and interviews and answers, under ids made for this name; and exports

A token comes as `Authorization: Bearer TOKEN`, as `Token TOKEN` (FLOIP's clients), or as the password of
Basic authentication (Excel and Power BI), whatever the user's name is. All tokens are compared each time, in
constant time. Wrong ones are slowed down without shutting out right ones: none of 32 characters is guessed.
"""

import binascii
import hmac
import re
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

ESTIMATES, ROWS = "estimates", "rows"
SCOPES = (ESTIMATES, ROWS)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_LEAST = 32  # characters
_BURST, _A_SECOND = 120, 4.0  # requests of one token: at once, and on and on
_WRONG_BURST, _WRONG_A_SECOND = 20, 0.2  # of everybody with none or a wrong one


@dataclass(frozen=True, slots=True)
class ApiToken:
    name: str
    scope: str
    token: str

    def __repr__(self) -> str:
        return f"ApiToken({self.name}:{self.scope})"


def read_tokens(value: str) -> tuple[tuple[ApiToken, ...], list[str]]:
    """The tokens of the setting, and what is wrong with it, without repeating a secret."""
    found, faults = [], []
    for number, part in enumerate((p.strip() for p in value.split(",")), 1):
        if not part:
            continue
        name, scope, token = (*(x.strip() for x in part.split(":", 2)), "", "")[:3]
        if not _NAME.match(name):
            faults.append(f"entry {number}: must be NAME:SCOPE:TOKEN, the name of a-z, 0-9, - and _")
        elif scope not in SCOPES:
            faults.append(f"entry {number} ({name}): the scope must be {' or '.join(SCOPES)}")
        elif len(token) < _LEAST or len(set(token)) < 8 or not (token.isascii() and token.isprintable()):
            faults.append(
                f"entry {number} ({name}): the token must have at least {_LEAST} characters, not all alike;"
                " make one with: openssl rand -hex 32"
            )
        found.append(ApiToken(name, scope, token))
    if len({t.name for t in found}) < len(found) or len({t.token for t in found}) < len(found):
        faults.append("two entries have the same name or token; give each its own")
    return tuple(found), faults


class Refused(Exception):
    """A request that is not answered. `status`: 401, 403 or 429."""

    def __init__(self, status: int, detail: str, retry_after: int = 0):
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after


class Bucket:
    """So many requests at once, refilled so many a second."""

    def __init__(self, burst: float, a_second: float, now: Callable[[], float]):
        self._most, self._rate, self._now = burst, a_second, now
        self._left, self._at = burst, now()

    def take(self) -> float:
        """0 if one was left; else the seconds until there is."""
        now = self._now()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._rate), now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Access:
    """The tokens of this process. Rates hold for each gateway process by itself."""

    def __init__(
        self,
        tokens: Sequence[ApiToken],
        now: Callable[[], float] = time.monotonic,
        burst: float = _BURST,
    ):
        self._tokens = [(sha256(t.token.encode()).digest(), t) for t in tokens]
        self._buckets = {t.name: Bucket(burst, _A_SECOND, now) for t in tokens}
        self._wrong = Bucket(_WRONG_BURST, _WRONG_A_SECOND, now)

    def reader(self, authorization: str, scope: str) -> ApiToken:
        """Who asks, if they may. Raises Refused."""
        given = sha256(_token_in(authorization).encode("utf-8", "surrogatepass")).digest()
        reader = None
        for digest, token in self._tokens:
            if hmac.compare_digest(digest, given):
                reader = token
        if reader is None:
            if wait := self._wrong.take():
                raise Refused(429, "too many requests without a valid token", int(wait) + 1)
            raise Refused(401, "give a token: Authorization: Bearer TOKEN, or as the password of Basic")
        if wait := self._buckets[reader.name].take():
            raise Refused(429, f"more than {_A_SECOND:.0f} requests a second", int(wait) + 1)
        if scope == ROWS and reader.scope != ROWS:
            raise Refused(403, "this token's scope is estimates; rows need a token of scope rows")
        return reader


def _token_in(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    rest = rest.strip()
    if scheme.lower() in ("bearer", "token"):
        return rest
    if scheme.lower() == "basic":
        try:
            return b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
