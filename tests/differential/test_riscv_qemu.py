"""Random programs on the reference tier and on qemu-riscv64: the same registers, memory and flags afterwards."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from riscv_random import body, elf, image, on_hart, program, usable

QEMU = shutil.which("qemu-riscv64") or ""
pytestmark = pytest.mark.skipif(not QEMU, reason="no qemu-riscv64")

CPU = "rv64,zba=true,zbb=true,zbs=true"
GROUPS = {
    "integer": {"I", "M", "C", "Zba", "Zbb", "Zbs"},
    "atomic": {"I", "A"},
    "floating": {"F", "D"},
    "all": {"I", "M", "A", "F", "D", "C", "Zba", "Zbb", "Zbs"},
}


def difference(ours: bytes, theirs: bytes) -> list[str]:
    """The 64-bit words that differ."""
    found = []
    for offset in range(0, 4096, 8):
        one, other = ours[offset : offset + 8][::-1].hex(), theirs[offset : offset + 8][::-1].hex()
        if one != other:
            found.append(f"{offset:#x}: ours {one}, theirs {other}")
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("group", GROUPS)
def test_random_program_ends_in_the_same_state(group: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"{group} {seed}")
    data = image(rng)
    text = program(body(rng, usable(GROUPS[group]), 400), rounding=seed % 5)
    file = tmp_path / "program"
    file.write_bytes(elf(text, data))
    file.chmod(0o755)
    theirs = subprocess.run([QEMU, "-cpu", CPU, file], capture_output=True, timeout=60, check=True).stdout
    assert difference(on_hart(text, data), theirs) == []
