"""Our disassembly of instruction words against GNU objdump's: encodings, operands, and what is no instruction."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from riscv_util import PREFIX, random_word

from trapline.machine.riscv.csr import NUMBERS, TABLE
from trapline.machine.riscv.disasm import disassemble
from trapline.machine.riscv.isa.decode import OPS, decode

pytestmark = pytest.mark.skipif(not shutil.which(f"{PREFIX}objdump"), reason="no riscv64 binutils")

MARCH = "rv64gch_zba_zbb_zbs_zicbom_zicboz_zawrs_svinval"
#: Newer than some binutils in use, which print them as data.
NEW = {"Zfa", "Zicond", "Zimop", "Zcmop", "Zicfilp", "Zicfiss"}
NEW_REGISTERS = {NUMBERS["ssp"]}
#: c.addi16sp with an immediate of 0: reserved by the manual, printed by objdump.
RESERVED = 0x6101


def _objdump(words: list[tuple[int, int]], tmp_path: Path) -> list[str]:
    """What objdump prints for (word, length) placed one after the other from address 0."""
    source, target = tmp_path / "words.s", tmp_path / "words.o"
    source.write_text("\n".join(f".insn {length}, {word:#x}" for word, length in words) + "\n")
    subprocess.run([f"{PREFIX}as", f"-march={MARCH}", "-o", target, source], check=True)
    out = subprocess.run([f"{PREFIX}objdump", "-d", "-M", "no-aliases", target], capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t")[2:] for line in out.splitlines() if re.match(r" +[0-9a-f]+:\t", line)]
    return [re.sub(r" (<.*>|# .*)$", "", " ".join(line)) for line in lines]


def _canonical(raw: int, op_name: str) -> int:
    """Clear the fields that objdump wants to be zero and the architecture ignores; keep to CSRs that have a name here."""
    if op_name in ("fence", "fence.i"):
        raw &= ~(31 << 15 | 31 << 7)
        return raw & 0x000F_FFFF | 0x0330_0000 if op_name == "fence" else raw & 0x000F_FFFF
    if op_name in ("fcvt.d.w", "fcvt.d.wu", "fcvt.d.s"):
        return raw & ~(7 << 12)
    if op_name in ("c.slli", "c.srli", "c.srai"):
        return raw | 1 << 2  # RV128's name for a shift by nothing
    if op_name.startswith("csrr"):
        known = sorted(TABLE.keys() - NEW_REGISTERS)
        return raw & 0xFFFFF | known[raw % len(known)] << 20
    return raw


def test_text_is_objdumps_for_random_operands_of_every_instruction(tmp_path: Path) -> None:
    rng = random.Random(2023)
    words = [
        (_canonical(random_word(rng, op), op.name), op.length) for op in OPS if op.extension not in NEW for _ in range(20)
    ]
    theirs = _objdump(words, tmp_path)
    pc, ours = 0, []
    for word, length in words:
        ours.append(disassemble(word, pc))
        pc += length
    assert len(theirs) == len(ours)
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []


def _is_new(word: int) -> bool:
    i = decode(word)
    return i is not None and i.op.extension in NEW


def test_all_compressed_words_are_instructions_to_both_or_to_neither(tmp_path: Path) -> None:
    words = [(word, 2) for word in range(1 << 16) if word & 3 != 3 and word != RESERVED and not _is_new(word)]
    theirs = _objdump(words, tmp_path)
    differ = [
        (hex(word), text)
        for (word, _), text in zip(words, theirs, strict=True)
        if (decode(word) is None) != text.startswith((".2byte", "c.unimp"))
    ]
    assert differ == []
