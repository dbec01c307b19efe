"""Harts on threads: locks, orders of memory, messages, moving pages and changing code between harts that run at the same time.

The program (riscv/together.c) checks itself; in turns it must print the same.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_riscv_boot import CC, FLAGS, HERE, boot

import support
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.checkpoint import restore, take
from trapline.machine.riscv.firmware import Program, parse
from trapline.machine.riscv.harts import HALTED, IDLE, SPENT, WAITS
from trapline.machine.riscv.isa.decode import encode

pytestmark = [
    pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC))),
    pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="needs llvmlite"),
]
BASE = 0x8000_0000
MS = 1_000_000
TRIALS = 13


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    made: dict[int, Path] = {}

    def build(harts: int) -> Path:
        if harts not in made:
            target = made[harts] = tmp_path_factory.mktemp("together") / "image"
            sources = [str(HERE / "together.S"), str(HERE / "together.c")]
            subprocess.run([CC, *FLAGS, f"-DHARTS={harts}", "-DROUNDS=4000", "-o", str(target), *sources], check=True)
        return made[harts]

    return build


def apart(board: Board) -> None:
    """Put each hart's thread on a CPU of its own, as far as there are enough: on a busy host they would share one, and take turns."""
    cpus = sorted(os.sched_getaffinity(0))
    board.harts.run(0)  # now there are threads
    for each in threading.enumerate():
        name, _, number = each.name.rpartition("-")
        if name == "trapline-hart" and each.native_id is not None:
            os.sched_setaffinity(each.native_id, {cpus[int(number) % len(cpus)]})


@pytest.mark.parametrize(("harts", "tier"), [(2, "native"), (2, "interpreter"), (2, "baseline"), (3, "native"), (4, "baseline")])
def test_harts_together(program: Callable[[int], Path], harts: int, tier: str) -> None:
    printed = bytearray()
    board = Board(64 << 20, harts, send=printed.extend, threads=True, tier=tier)
    try:
        board.load(parse(program(harts).read_bytes()))
        apart(board)
        assert board.harts.run(60_000 * MS) == HALTED, printed  # at one go: a message that is not seen at once never is
        assert board.harts.halt is not None and (board.harts.halt.status, printed.count(b"right\n")) == (0, TRIALS), printed
    finally:
        board.close()


def test_what_harts_print_together_is_what_they_print_in_turns(program: Callable[[int], Path]) -> None:
    words = ["--harts", "3", "--timeout", "100", str(program(3))]
    together, in_turns = (boot(*options, *words, timeout_s=110) for options in (["--harts-on", "threads"], []))
    assert (together.returncode, together.stderr) == (0, b"") and together.stdout == in_turns.stdout


@pytest.fixture
def board() -> Iterator[Callable[..., Board]]:
    made: list[Board] = []

    def build(harts: int, *words: int, tier: str = "native", **entries: list[int]) -> Board:
        """A board that executes `words` on all harts; or on hart N those of hN, 256 bytes apart."""
        board = Board(4 << 20, harts, send=lambda data: None, threads=True, tier=tier)
        made.append(board)
        code = [*words] if words else _apart(entries)
        data = struct.pack(f"<{len(code)}I", *code)
        board.load(Program(BASE, [(BASE, data, len(data))]))
        return board

    yield build
    for each in made:
        each.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("trapline-hart")]


def _apart(entries: dict[str, list[int]]) -> list[int]:
    """Each hart goes to its own piece."""
    words = [encode("csrrs", rd=5, csr=0xF14), encode("slli", rd=5, rs1=5, imm=8), encode("auipc", rd=6)]
    words += [encode("add", rd=6, rs1=6, rs2=5), encode("jalr", rs1=6, imm=256 - 8)]
    for n in range(len(entries)):
        words += [0] * (64 * (n + 1) - len(words)) + entries[f"h{n}"]
    return words


LOOP = encode("jal")
WFI = encode("wfi")
FINISH = [encode("lui", rd=5, imm=0x100000), encode("lui", rd=6, imm=0x5000), encode("addi", rd=6, rs1=6, imm=0x555), encode("sw", rs1=5, rs2=6)]


def test_run_ends_when_its_time_is_over_and_no_hart_runs_then(board: Callable[..., Board]) -> None:
    harts = board(2, LOOP).harts
    start = time.monotonic()
    assert harts.run(50 * MS) == SPENT
    assert 0.05 <= time.monotonic() - start < 5
    before = [hart.cpu[at.INSTRET] for hart in harts.each]
    assert all(before)
    time.sleep(0.02)
    assert before == [hart.cpu[at.INSTRET] for hart in harts.each]
    harts.run(20 * MS)
    assert all(hart.cpu[at.INSTRET] > n for hart, n in zip(harts.each, before, strict=True))


def test_all_wait_and_nothing_can_come(board: Callable[..., Board]) -> None:
    harts = board(3, WFI, encode("jal", imm=-4)).harts
    start = time.process_time()
    assert harts.run(5000 * MS) == IDLE
    assert time.process_time() - start < 2, "it spins"


def test_all_wait_for_a_timer(board: Callable[..., Board]) -> None:
    """mtimecmp, far away: without `jump`, whoever runs the board may wait elsewhere."""
    mtimecmp = [encode("lui", rd=5, imm=0x2004000), encode("lui", rd=6, imm=0x7FFFF000), encode("sd", rs1=5, rs2=6), WFI, encode("jal", imm=-4)]
    harts = board(2, *mtimecmp).harts
    assert harts.run(5000 * MS, jump=False) == WAITS
    assert harts.ahead() > 0
    assert harts.run(30 * MS) == SPENT


def test_the_finisher_ends_all_harts(board: Callable[..., Board]) -> None:
    made = board(2, h0=[LOOP], h1=[*FINISH, LOOP])
    assert made.harts.run(10_000 * MS) == HALTED
    assert made.harts.halt is not None and made.harts.halt.status == 0


def test_what_a_device_raises_ends_the_run_of_all(board: Callable[..., Board]) -> None:
    class Broken:
        size = 8

        def read(self, offset: int, size: int) -> int:
            raise RuntimeError("out of order")

        def write(self, offset: int, size: int, value: int) -> None: ...

    made = board(2, h0=[LOOP], h1=[encode("lui", rd=5, imm=0x4000000), encode("lw", rd=6, rs1=5), LOOP])
    made.bus.attach(0x400_0000, Broken())
    with pytest.raises(RuntimeError, match="out of order"):
        made.harts.run(10_000 * MS)
    before = made.harts.each[0].cpu[at.INSTRET]
    time.sleep(0.02)
    assert made.harts.each[0].cpu[at.INSTRET] == before


def test_interrupt_of_the_host_stops_all(board: Callable[..., Board]) -> None:
    harts = board(2, LOOP).harts
    main = threading.main_thread().ident
    threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        harts.run(60_000 * MS)
    before = [hart.cpu[at.INSTRET] for hart in harts.each]
    time.sleep(0.02)
    assert before == [hart.cpu[at.INSTRET] for hart in harts.each]


def test_board_resets_between_runs(board: Callable[..., Board]) -> None:
    made = board(2, encode("addi", rd=7, rs1=7, imm=1), encode("jal", imm=-4))
    made.harts.run(10 * MS)
    made.reset()
    assert [hart.cpu[at.PC] for hart in made.harts.each] == [0x1000, 0x1000]
    made.harts.run(10 * MS)
    assert all(hart.cpu[at.PC] >= BASE for hart in made.harts.each)


def test_checkpoint_goes_on_in_turns(board: Callable[..., Board]) -> None:
    """What threads have left, a board whose harts take turns goes on with; and back."""
    count = [encode("addi", rd=7, rs1=7, imm=1), encode("jal", imm=-4)]
    made, other = board(2, *count), Board(4 << 20, 2, send=lambda data: None)
    made.harts.run(10 * MS)
    before = [hart.xs[7] for hart in made.harts.each]
    restore(other, take(made))
    assert other.harts.run(1000) == SPENT
    assert [hart.xs[7] - n for hart, n in zip(other.harts.each, before, strict=True)] == [500, 500]
    restore(made, take(other))
    made.harts.run(10 * MS)
    assert all(hart.xs[7] > n + 500 for hart, n in zip(made.harts.each, before, strict=True))
    other.close()


def test_instret_counts_each_instruction_once(board: Callable[..., Board]) -> None:
    """Slices and kicks included: hart 0 counts its rounds, its neighbour's messages come in between."""
    message = [encode("lui", rd=5, imm=0x2000000), encode("addi", rd=6, imm=1), encode("sw", rs1=5, rs2=6), encode("jal", imm=-4)]
    rounds = [encode("addi", rd=7), encode("csrrs", rd=8, csr=0xB02), encode("addi", rd=7, rs1=7, imm=1),
              encode("csrrs", rd=9, csr=0xB02), encode("jal", imm=-8)]  # fmt: skip
    made = board(2, h0=rounds, h1=message)
    made.harts.run(100 * MS)
    first, last, done = (made.harts.each[0].xs[n] for n in (8, 9, 7))
    assert done > 1000 and last - first in (3 * done - 1, 3 * done - 4)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--harts-on", "cores"], b"write turns or threads"),
        (["--harts-on", "threads", "--gdb"], b"leave --harts-on out"),
        (["--harts-on", "threads", "--clock", "virtual"], b"time is the host's"),
        (["--harts-on", "threads", "--tier", "reference"], b"needs native code"),
    ],
)
def test_what_threads_cannot_do_is_said(tmp_path: Path, options: list[str], why: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"nothing")
    got = boot(*options, str(image))
    assert got.returncode == 125 and why in got.stderr, got


HOSTILE = """
import sys
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.firmware import Program
from trapline.machine.riscv.layout import INSTRET
board = Board(4 << 20, 3, send=lambda data: None, threads=True, tier=sys.argv[1])
words = open(sys.argv[2], "rb").read()
for _ in range(20):
    board.load(Program(0x80000000, [(0x80000000, words, len(words))]))
    board.harts.run(40_000_000)
board.close()
print("alive", min(hart.cpu[INSTRET] for hart in board.harts.each) > 0, board.tiers.summary())
"""
NAMES = ("sd", "sd", "sw", "sb", "ld", "lw", "amoswap.d", "amoadd.w", "lr.w", "sc.w", "lr.d", "sc.d", "add", "addi", "jal", "beq", "bne",
         "jalr", "fence.i", "csrrw", "sfence.vma", "mret", "sret", "fence", "ecall", "fadd.d", "fld", "amomax.d")  # fmt: skip
CSRS = (0x300, 0x180, 0x341, 0x344, 0x304, 0x14D, 0x100, 0x302, 0x303, 0x30A)


def hostile(rng: random.Random) -> bytes:
    """Pages of instructions, legal and not, and entries of tables, which store all over one another. Every trap leads to the first
    instruction, which goes on somewhere, by the number of cycles."""
    words = [encode("auipc", rd=5), encode("csrrw", rs1=5, csr=0x305), encode("csrrs", rd=6, csr=0xB00)]
    words += [encode("slli", rd=7, rs1=6, imm=7), encode("xor", rd=6, rs1=6, rs2=7), encode("lui", rd=9, imm=0x2000)]
    words += [encode("slli", rd=6, rs1=6, imm=50), encode("srli", rd=6, rs1=6, imm=50), encode("andi", rd=6, rs1=6, imm=-4)]
    words += [encode("add", rd=8, rs1=5, rs2=6), encode("add", rd=9, rs1=5, rs2=9), encode("jalr", rs1=8, imm=128)]
    while len(words) < 4096 + 64:
        kind = rng.random()
        if kind < 0.02:
            words.append(rng.getrandbits(32))
        elif kind < 0.04:
            words.append(BASE >> 12 << 10 | rng.getrandbits(8))
        else:
            fields = {"rd": rng.randrange(10, 32), "rs1": rng.choice((8, 8, 9, 9, 9, rng.randrange(32))), "rs2": rng.randrange(32),
                      "imm": rng.randrange(-64, 64) * 8, "csr": rng.choice(CSRS)}  # fmt: skip
            words.append(_encoded(rng.choice(NAMES), fields))
    return struct.pack(f"<{len(words)}I", *words)


def _encoded(name: str, fields: dict[str, int]) -> int:
    while True:
        try:
            return encode(name, **fields) & 0xFFFF_FFFF
        except (ValueError, TypeError, KeyError) as error:
            extra = [each for each in fields if each in str(error)]
            if not extra:
                return encode("addi", rd=fields["rd"], rs1=5, imm=fields["imm"])
            del fields[extra[0]]


@pytest.mark.parametrize(("seed", "tier"), [(1, "native"), (2, "native"), (3, "baseline"), (4, "interpreter")])
def test_harts_that_destroy_one_anothers_code_and_tables_never_crash_python(tmp_path: Path, seed: int, tier: str) -> None:
    image = tmp_path / "words"
    image.write_bytes(hostile(random.Random(seed)))
    words = [sys.executable, "-c", HOSTILE, tier, str(image)]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(words, capture_output=True, timeout=100, check=False, env=environment)
    assert done.returncode == 0 and done.stdout.startswith(b"alive True"), done
