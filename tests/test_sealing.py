"""A sealed number opens under its own key and pseudonym alone, and shows nothing of itself."""

import base64

import pytest

from storage.sealing import Seal, SealError

KEY = b"a key of the tests, 32 bytes or more"
NUMBER, PSEUDONYM = "+233240000001", "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("number", [NUMBER, "+1234567", "+123456789012345"])
def test_a_sealed_number_opens(number: str) -> None:
    assert Seal(KEY).open(Seal(KEY).seal(number, PSEUDONYM), PSEUDONYM) == number


def test_the_same_number_never_seals_to_the_same_text() -> None:
    seal = Seal(KEY)
    assert len({seal.seal(NUMBER, PSEUDONYM) for _ in range(100)}) == 100


def test_neither_the_number_nor_its_length_shows() -> None:
    sealed = [Seal(KEY).seal(n, PSEUDONYM) for n in (NUMBER, "+1234567", "+123456789012345")]
    assert len({len(s) for s in sealed}) == 1
    for text in sealed:
        assert NUMBER[4:].encode() not in base64.b64decode(text)


def test_another_pseudonym_or_key_does_not_open_it() -> None:
    sealed = Seal(KEY).seal(NUMBER, PSEUDONYM)
    for seal, pseudonym in ((Seal(KEY), "f" * 32), (Seal(KEY + b"2"), PSEUDONYM)):
        with pytest.raises(SealError) as caught:
            seal.open(sealed, pseudonym)
        assert NUMBER[4:] not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "spoil", [lambda s: s[:-8], lambda s: "", lambda s: "????" + s[4:], lambda s: "é" + s[1:]]
)
def test_a_damaged_one_is_refused(spoil: object) -> None:
    sealed = Seal(KEY).seal(NUMBER, PSEUDONYM)
    with pytest.raises(SealError):
        Seal(KEY).open(spoil(sealed), PSEUDONYM)  # type: ignore[operator]


def test_every_octet_matters() -> None:
    raw = base64.b64decode(Seal(KEY).seal(NUMBER, PSEUDONYM))
    for n in range(len(raw)):
        bent = base64.b64encode(raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]).decode()
        with pytest.raises(SealError):
            Seal(KEY).open(bent, PSEUDONYM)


def test_the_key_id_tells_keys_apart_and_is_no_part_of_them() -> None:
    ids = {Seal(KEY).key_id, Seal(KEY + b"2").key_id}
    assert len(ids) == 2 and all(len(i) == 8 for i in ids)
    assert Seal(KEY).key_id == Seal(KEY).key_id
