"""The unwinder's arithmetic: numbers, expressions and rules written by hand; and files that lie."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from trapline.scope.unwind.dwarf import WORD, Malformed, Reader
from trapline.scope.unwind.expression import evaluate
from trapline.scope.unwind.image import Image
from trapline.scope.unwind.rules import OFFSET, SAME, VALUE, Common, row

PROGRAM = Path("/bin/sh").resolve()
X86 = Common(code=1, data=-8, return_register=16, encoding=0x1B, augmented=True, signal=False, initial=b"\x0c\x07\x08\x90\x01")


def test_leb128_is_that_of_the_standards_examples() -> None:
    assert [Reader(each).uleb() for each in (b"\x02", b"\x7f", b"\x80\x01", b"\xb9\x64")] == [2, 127, 128, 57 + 100 * 128]
    signed = {b"\x02": 2, b"\x7e": -2, b"\xff\x00": 127, b"\x81\x7f": -127, b"\x80\x01": 128, b"\x80\x7f": -128}
    assert {each: Reader(each).sleb() for each in signed} == signed
    for bad in (b"", b"\x80", b"\x80" * 11):
        with pytest.raises(Malformed):
            Reader(bad).uleb()


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (b"\x33\x34\x22", 7), (b"\x33\x34\x1c", WORD), (b"\x09\xff\x24", None), (b"\x38\x39\x12\x16\x14\x1e\x22", 8 + 9 * 9 - 8 + 8),
        (b"\x77\x08", 0x1008), (b"\x77\x08\x06", 0x1008 ^ 0xABCD), (b"\x31\x28\x01\x00\x35\x36", 6), (b"\x30\x28\x01\x00\x35\x36", 6),
        (b"\x2f\xfd\xff", None), (b"\x22", None), (b"\x06", None), (b"\xff", None), (b"", None), (b"\x73\x00", None),
        (b"\x09\xf9\x32\x1b", WORD - 2), (b"\x32\x30\x1b", None), (b"\x09\xf0\x32\x26", WORD - 3),
    ],
)  # fmt: skip
def test_expressions(code: bytes, value: int | None) -> None:
    def read(address: int, size: int) -> int:
        return address ^ 0xABCD

    if value is None:
        with pytest.raises(Malformed):
            evaluate(code, {7: 0x1000}, read)
    elif code == b"\x38\x39\x12\x16\x14\x1e\x22":
        assert evaluate(code, {7: 0x1000}, read) == 9 + 9 * 9
    else:
        assert evaluate(code, {7: 0x1000}, read) == value


def test_rules_follow_a_function_from_its_first_instruction_to_its_last() -> None:
    """push rbp; mov rbp, rsp; ...; pop rbp; ret: the usual instructions, with a state remembered for code behind the return."""
    code = b"\x41\x0e\x10\x86\x02\x43\x0d\x06\x0a\x50\x0c\x07\x08\xc6\x41\x0b"
    rows = {at: row(X86, 100, code, at) for at in (100, 101, 104, 119, 120, 121)}
    assert [rows[at].cfa for at in rows] == [(7, 8), (7, 16), (6, 16), (6, 16), (7, 8), (6, 16)]
    assert rows[100].rules == {16: (OFFSET, -8)} == rows[120].rules
    assert rows[104].rules == {16: (OFFSET, -8), 6: (OFFSET, -16)} == rows[121].rules
    assert row(X86, 0, b"\x08\x03\x14\x06\x02\x2e\x05", 0).rules == {16: (OFFSET, -8), 3: (SAME, 0), 6: (VALUE, -16)}


@pytest.mark.parametrize("code", [b"\x0b", b"\x0a" * 100, b"\x3f", b"\x0f\x90\x01", b"\x02", b"\x0f\x00\x0e\x08", b"\x00" * 20_000])
def test_rules_that_make_no_sense_are_refused(code: bytes) -> None:
    with pytest.raises(Malformed):
        row(X86, 0, code, 10)


def test_files_that_lie_end_the_stack_and_nothing_else() -> None:
    whole = PROGRAM.read_bytes()
    rng = random.Random(1)
    fine = Image(lambda at, count: whole[at : at + count])
    rows = found = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 30, 3000))):
            where = rng.randrange(64) if rng.random() < 0.1 else rng.randrange(len(data))
            data[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        del data[rng.randrange(len(data)) if rng.random() < 0.2 else len(data) :]
        try:
            image = Image(lambda at, count, data=data: bytes(data[at : at + count]))  # type: ignore[misc]
        except Malformed:
            continue
        for _ in range(5):
            address = rng.randrange(len(whole))
            rows += image.row(address) is not None
            found += fine.row(address) is not None
            image.symbol(address)
    assert rows > 100 < found, "most of the file is as it was"
