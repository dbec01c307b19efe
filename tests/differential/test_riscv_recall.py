"""Regions of earlier runs: found again for the same code at the same addresses, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit.cache import Cache
from trapline.machine.riscv.jit.native import NativeHart

try:
    from trapline.machine.riscv.jit.tiers import Tiers
except ImportError:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

PLACE, FAR = 0x10000, 0x13000
COUNTER, RESULT = 31, 5


def program(step: int, far: int) -> dict[int, bytes]:
    """A loop that adds `step`, and calls a function in another page that adds `far`."""
    loop = (
        encode("addi", rd=RESULT, rs1=RESULT, imm=step),
        encode("jal", rd=1, imm=FAR - PLACE - 4),
        encode("addi", rd=COUNTER, rs1=COUNTER, imm=-1),
        encode("bne", rs1=COUNTER, rs2=0, imm=-12),
        encode("ecall"),
    )
    function = (encode("addi", rd=RESULT, rs1=RESULT, imm=far), encode("jalr", rd=0, rs1=1))
    return {0: assemble(loop), FAR - PLACE: assemble(function)}


def assemble(words: tuple[int, ...]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def execute(where: Path, pieces: dict[int, bytes], place: int = PLACE) -> tuple[int, int, int]:
    """A run of the program at `place`: its result; regions installed, and of those recalled."""
    ram = Ram(4 << 20)
    tiers = Tiers(ram, background=False, hot=5, warm=0, cache=Cache(str(where)))
    hart = NativeHart(Bus(ram), Code(Bus(ram)), hosted=True, tiers=tiers)
    hart.reset(place)
    for offset, data in pieces.items():
        ram.mem[place + offset : place + offset + len(data)] = data
    hart.cpu[at.X + COUNTER] = 100
    while hart.run(50) != TRAPPED:
        pass
    tiers.close()
    return hart.cpu[at.X + RESULT], tiers.compiled, tiers.recalled


def test_the_second_run_compiles_nothing(tmp_path: Path) -> None:
    result, made, recalled = execute(tmp_path, program(3, 4))
    assert (result, recalled) == (700, 0) and made >= 1
    assert execute(tmp_path, program(3, 4)) == (700, made, made)


@pytest.mark.parametrize(("step", "far", "place"), [(2, 4, PLACE), (3, 5, PLACE), (3, 4, 2 * PLACE)])
def test_other_code_or_another_address_is_compiled(tmp_path: Path, step: int, far: int, place: int) -> None:
    """The key tells the first page; the other pages are compared when the region is found."""
    execute(tmp_path, program(3, 4))
    result, made, _ = execute(tmp_path, program(step, far), place)
    assert result == 100 * (step + far) and made >= 1
    again, made_again, recalled = execute(tmp_path, program(step, far), place)
    assert again == result and recalled == made_again


def test_a_page_that_has_changed_since_is_not_recalled(tmp_path: Path) -> None:
    execute(tmp_path, program(3, 4))
    assert execute(tmp_path, program(3, 9))[0] == 1200


@pytest.mark.parametrize("damage", ["flipped", "cut", "nonsense"])
def test_damaged_files_are_compiled_anew(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Even with a right digest, what is no region is none."""
    _, made, _ = execute(tmp_path, program(3, 4))
    files = [each for each in tmp_path.iterdir() if each.stat().st_size < 20_000]
    assert len(files) >= made
    for each in files:
        data = each.read_bytes()
        if damage == "flipped":
            each.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif damage == "cut":
            each.write_bytes(data[:70])
        else:
            Cache(str(tmp_path)).keep(each.name, b"\x07\0\0\0 10000\n\nx\n\n")
    assert execute(tmp_path, program(3, 4)) == (700, made, 0)
    assert ("damaged" in capsys.readouterr().err) is (damage != "nonsense")


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    ram = Ram(4 << 20)
    tiers = Tiers(ram, background=False, cache=Cache(None))
    assert tiers._compiler.cache.directory is None
    tiers.close()
