"""Samples: what a file may hold and how its faults are told; what a draw draws."""

import re
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.sampling import (
    Block,
    Plan,
    Sample,
    Sampled,
    SampleError,
    draw,
    draw_again,
    in_replicates,
    plan_serving,
    read_plan,
    read_sample,
)

GHANA = read_plan("GH")


def read(text: str, countries: tuple[str, ...] = ("+233",)) -> Sample:
    lines = text.splitlines(keepends=True)
    return read_sample(lines, "sample.csv", countries=countries, languages=("en", "fr"), plan=GHANA)


# ---------------------------------------------------------------- CSV


def test_a_sample_with_every_column() -> None:
    sample = read(
        "\ufeffMSISDN, language,stratum,probability,replicate\r\n"
        "+233244123456,fr,Ashanti,0.00125,2\r\n"
        "\r\n"
        '"020 412 3457",,"Volta, north",,\r\n'
    )
    assert sample.faults == ()
    assert sample.numbers == (
        Sampled("+233244123456", "csv", 2, 0.00125, "Ashanti", "62001", "fr"),
        Sampled("+233204123457", "csv", 1, None, "Volta, north", "62002", None),
    )


@pytest.mark.parametrize(
    "written",
    ["+233244123456", "233244123456", "00233244123456", "0244123456", "024-412-3456", "+233 (0)24 412 3456",
     "'+233244123456", "٠٢٤٤١٢٣٤٥٦", " 0244 123 456 "],
)  # fmt: skip
def test_one_number_however_it_is_written(written: str) -> None:
    assert [n.msisdn for n in read(f"msisdn\n{written}\n").numbers] == ["+233244123456"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_stands_between_cells(delimiter: str) -> None:
    sample = read(f"language{delimiter}msisdn\nfr{delimiter}0244123456\n")
    assert [(n.msisdn, n.language) for n in sample.numbers] == [("+233244123456", "fr")]


#: rows after the heading `msisdn,language,stratum,probability,replicate`; where; what to do about it
FAULTS = [
    (",en", "row 2, msisdn", "is empty"),
    ("0244,en", "row 2, msisdn", "too few digits"),
    ("02441234567", "row 2, msisdn", "too many digits"),
    ("0244123456/0244123457", "row 2, msisdn", "one number a row"),
    ("2.33244E+11", "row 2, msisdn", "a spreadsheet"),
    ("233244123456.0", "row 2, msisdn", "a spreadsheet"),
    ("Kofi", "row 2, msisdn", "is no phone number"),
    ("+999244123456", "row 2, msisdn", "begins with no country's code"),
    ("+22890112345", "row 2, msisdn", "is not of a country of the wave: +233"),
    ("0302123456", "row 2, msisdn", "is no mobile number"),
    ("0214123456", "row 2, msisdn", "is in no block of numbers in use"),
    ("0244123456 ext 5", "row 2, msisdn", "has an extension"),
    ("0244123456\n+233244123456", "row 3, msisdn", "is the number of row 2 again"),
    ("0244123456\n\n\n0244123456", "row 5, msisdn", "is the number of row 2 again"),
    ("0244123456,tw", "row 2, language", "is not one of the wave's: en, fr"),
    ("0244123456,,,0", "row 2, probability", "above 0 and at most 1"),
    ("0244123456,,,nan", "row 2, probability", "above 0 and at most 1"),
    ('0244123456,,,"0,5"', "row 2, probability", "with a point"),
    ("0244123456,,,,0", "row 2, replicate", "whole number from 1"),
    ("0244123456,,,,1.5", "row 2, replicate", "whole number from 1"),
    ("0244123456,,,,1,x", "row 2, -", "has 6 cells, the heading 5"),
    (f"0244123456,,{'x' * 101}", "row 2, stratum", "at most 100"),
    ('0244123456,,"open', "row 2, -", "quotation mark"),
]


@pytest.mark.parametrize(("rows", "where", "message"), FAULTS)
def test_a_fault_says_where_and_what_and_never_the_number(rows: str, where: str, message: str) -> None:
    sample = read("msisdn,language,stratum,probability,replicate\n" + rows)
    (fault,) = sample.faults
    assert (fault.file, fault.key) == ("sample.csv", where) and message in fault.message
    assert "244" not in str(fault) and "123456" not in str(fault) and "244123456" not in repr(sample)


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("number", "has no column msisdn"), ("+233244123456", "has no column msisdn"), ("", "has no column"),
        ("msisdn,name", "column 'name' is unknown"), ("msisdn,msisdn", "column msisdn stands twice"),
    ],
)  # fmt: skip
def test_a_heading_at_fault_is_told_alone(heading: str, message: str) -> None:
    sample = read(f"{heading}\n12\n")
    assert [f.key for f in sample.faults] == ["row 1"] and message in sample.faults[0].message
    assert not sample.numbers and "244123456" not in str(sample.faults)


def test_every_fault_is_listed_and_the_good_rows_remain() -> None:
    sample = read("msisdn,language\n0244123456,en\n12,xx\n0244123457,fr\nx,en\n")
    assert [f.key for f in sample.faults] == ["row 3, msisdn", "row 3, language", "row 5, msisdn"]
    assert len(sample.numbers) == 2


def test_with_two_countries_a_number_says_its_own() -> None:
    sample = read("msisdn\n0244123456\n+22890112345\n+233244123456\n", ("+233", "+228"))
    assert [f.key for f in sample.faults] == ["row 2, msisdn"]
    assert [n.network for n in sample.numbers] == [None, "62001"]


@given(st.text(max_size=60), st.text(max_size=20))
@example("msisdn\n" + "9" * 40, "")
def test_any_file_is_read_or_faulted(cell: str, more: str) -> None:
    sample = read(f"msisdn,stratum\n{cell},{more}\n")
    assert all(n.msisdn.startswith("+233") and len(n.msisdn) == 13 for n in sample.numbers)
    assert all(f.key.startswith("row ") for f in sample.faults)


# ---------------------------------------------------------------- random digit dialling


def test_the_plan_of_ghana_is_known_to_phonenumbers_block_by_block() -> None:
    assert GHANA.size == 121_000_000 and plan_serving(("+233",)) == GHANA and plan_serving(("+1",)) is None
    metadata = phonenumbers.PhoneMetadata.metadata_for_region("GH")
    assert metadata is not None and metadata.mobile is not None
    mobile = str(metadata.mobile.national_number_pattern)
    # Every three-digit beginning of the pattern is a block of ours, but those named in the file.
    beginnings = {f"{n:03d}" for n in range(1000) if re.fullmatch(mobile, f"{n:03d}000000")}
    ours = {b for b in beginnings if b.startswith(tuple(x.prefix for x in GHANA.blocks))}
    assert {b[:2] for b in beginnings - ours} == {"28", "29"}


def test_a_draw_is_without_repetition_reproducible_and_in_the_plan() -> None:
    sample = draw(GHANA, 100_000, "a seed")
    numbers = [n.msisdn for n in sample.numbers]
    assert len(set(numbers)) == 100_000
    assert sample.draw and draw_again(sample.draw) == sample
    assert draw(GHANA, 1000, "a seed").numbers[:1000] == tuple(
        Sampled(n.msisdn, "rdd", 1, 1000 / GHANA.size, n.stratum, n.network) for n in sample.numbers[:1000]
    )
    assert not {n.msisdn for n in draw(GHANA, 1000, "another").numbers} & set(numbers[:1000])
    assert {n.probability for n in sample.numbers} == {100_000 / 121_000_000}
    for number in numbers[::500]:
        parsed = phonenumbers.parse(number)
        assert phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.MOBILE


def test_every_number_is_equally_likely() -> None:
    """10 blocks of 10,000 and one of 100,000, 20,000 draws: each block near its share (5 sigma)."""
    blocks = (*(Block(f"2{n}") for n in range(10)), Block("3"))
    plan = Plan("XX", "999", 6, blocks)
    counts = Counter(plan.block_of(n.msisdn) for n in draw(plan, 20_000, "shares").numbers)
    for block in blocks:
        share = plan.block_size(block) / plan.size
        wanted, sigma = 20_000 * share, (20_000 * share * (1 - share) * 0.9) ** 0.5
        assert abs(counts[block] - wanted) < 5 * sigma


def test_a_whole_frame_can_be_drawn_and_no_more() -> None:
    plan = Plan("XX", "999", 4, (Block("21"), Block("3")))
    assert {n.msisdn for n in draw(plan, 1100, "all").numbers} == {
        *(f"+99921{n:02d}" for n in range(100)),
        *(f"+9993{n:03d}" for n in range(1000)),
    }
    for count in (0, 1101):
        with pytest.raises(SampleError, match="must be 1 to 1100"):
            draw(plan, count, "x")


def test_only_some_blocks() -> None:
    some = GHANA.only(["24", "59"])
    assert {b.prefix[:2] for b in some.blocks} == {"24", "59"} and some.size == 19_000_000
    with pytest.raises(SampleError, match="no block begins with it"):
        GHANA.only(["99"])


PLAN = '[GH]\ncalling_code = "233"\ndigits = 9\nblocks = [{ prefix = "24" }]\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[GH]", "[KE]"), "is not in it; there are KE"), (('"233"', "233"), "must be digits in quotes"),
        (("= 9", "= 99"), "whole number from 4 to 14"), (('[{ prefix = "24" }]', "[]"), "at least one block"),
        (('{ prefix = "24" }', '{ prefix = "24", mnc = "1" }'), "must hold prefix"),
        (('{ prefix = "24" }', '{ prefix = "24" }, { prefix = "241" }'), "overlaps another block"),
        (('{ prefix = "24" }', '{ prefix = "244123456" }'), "1 to 8 digits"),
        (('"24"', '"25"'), "25: not all of its numbers are mobile numbers of GH"),
        (('"24"', '"30"'), "30: not all"), (("digits = 9", "digits ="), "cannot be read"),
    ],
)  # fmt: skip
def test_a_plan_at_fault(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "plans.toml"
    path.write_text(PLAN)
    assert read_plan("GH", path).size == 10_000_000
    path.write_text(PLAN.replace(*change))
    with pytest.raises(SampleError, match=r"plans\.toml: ") as caught:
        read_plan("GH", path)
    assert message in str(caught.value)


# ---------------------------------------------------------------- replicates


@given(st.integers(1, 12), st.integers(1, 200))
def test_replicates_are_of_equal_size(count: int, size: int) -> None:
    drawn = draw(Plan("XX", "999", 4, (Block("3"),)), size, "r")
    for sample in (drawn, Sample(drawn.numbers)):
        parts = Counter(n.replicate for n in in_replicates(sample, count, "s").numbers)
        assert max(parts.values()) - min(parts.values()) <= 1 and max(parts) <= count
        assert len(parts) == min(count, size)


def test_a_file_s_order_does_not_make_its_replicates() -> None:
    sample = Sample(draw(GHANA, 400, "f").numbers)
    first = {n.msisdn for n in in_replicates(sample, 2, "s").numbers[:200] if n.replicate == 1}
    assert 60 < len(first) < 140
    assert in_replicates(sample, 2, "s") == in_replicates(sample, 2, "s") != in_replicates(sample, 2, "t")
