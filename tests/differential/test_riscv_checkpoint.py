"""Checkpoints: going on from one is as if there had been none, to the bit, on every tier; hostile ones are refused.

The guest is the teaching kernel (riscv/teaching.c): traps, Sv39, timer interrupts, PLIC, serial port.
"""

from __future__ import annotations

import importlib.util
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_riscv_boot import CC, HERE, TIERS, assemble, boot, build

import support
from trapline.cli.checkpoints import read, save
from trapline.cli.options import UsageError
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.bus import BusError, Halt
from trapline.machine.riscv.checkpoint import Checkpoint, restore, take
from trapline.machine.riscv.devices.saved import BadState
from trapline.machine.riscv.devices.storage import Memory
from trapline.machine.riscv.devices.virtio.block import Block
from trapline.machine.riscv.devices.virtio.console import Console
from trapline.machine.riscv.devices.virtio.entropy import Entropy, Stream
from trapline.machine.riscv.devices.virtio.net import Net
from trapline.machine.riscv.firmware import parse
from trapline.machine.riscv.harts import HALTED, STOPPED

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))
CHUNK = 100_000
Make = Callable[..., Board]


@pytest.fixture
def make() -> Iterator[Make]:
    boards = []

    def board(tier: str, harts: int = 1, send: Callable[[bytes], object] = bool) -> Board:
        boards.append(Board(16 << 20, harts, send=send, native=tier != "reference", tier=tier))
        return boards[-1]

    yield board
    for each in boards:
        each.close()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(tmp_path_factory.mktemp("kernel"), HERE / "teaching.S", HERE / "teaching.c").read_bytes()


def pass_to(board: Board, units: int) -> int:
    """Run until so many units of time have passed, as `trapline boot` does."""
    board.harts.alarm = units
    while (ended := board.harts.run(CHUNK)) not in (STOPPED, HALTED):
        pass
    board.harts.target = None
    return ended


def picture(board: Board) -> tuple[Any, dict[int, bytes]]:
    found = take(board)
    return found.state, found.memory


#: Two harts that count with lr and sc, so that lost reservations and the places of turns would show.
RIVALS = """
	.globl _start
_start:	la a0, counter
	mv a1, a0
1:	lr.d a2, (a1)
	addi a2, a2, 1
	sc.d a3, a2, (a1)
	add s0, s0, a3
	rdtime a4
	add s1, s1, a4
	j 1b
	.balign 64
counter: .dword 0
"""


@pytest.mark.parametrize("tier", TIERS)
def test_going_on_is_as_if_nothing_had_been(kernel: bytes, make: Make, tier: str) -> None:
    rng = random.Random(tier)
    straight, stopped = make(tier), make(tier)
    for board in (straight, stopped):
        board.load(parse(kernel))
    done = 0
    for _ in range(4):
        done += rng.randrange(1, 150_000)
        ended = pass_to(stopped, done)
        assert ended == STOPPED
        kept = json.loads(json.dumps(take(stopped).state))
        other = make(tier)
        restore(other, Checkpoint(kept, take(stopped).memory, stopped.pieces))
        assert picture(other) == picture(stopped)
        stopped = other
    done += 200_000
    assert pass_to(straight, done) == pass_to(stopped, done)
    assert straight.harts.each[0].cpu[at.INSTRET] > 100_000
    assert picture(straight) == picture(stopped)


@pytest.mark.parametrize("tier", TIERS)
def test_stops_within_turns_change_nothing(tmp_path: Path, make: Make, tier: str) -> None:
    program = parse(assemble(tmp_path, RIVALS).read_bytes())
    straight, stopped = make(tier, 3), make(tier, 3)
    for board in (straight, stopped):
        board.load(program)
    for units in (777, 20_001, 60_000, 123_456):
        pass_to(stopped, units)
        for hart in range(3):  # single steps too
            stopped.harts.stepping = hart
            assert stopped.harts.run(CHUNK) == STOPPED
        stopped.harts.stepping = -1
    assert pass_to(straight, 300_000) == pass_to(stopped, 300_000) == STOPPED
    assert picture(straight) == picture(stopped)


@pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="not installed: llvmlite")
def test_a_checkpoint_fits_every_tier(kernel: bytes, make: Make) -> None:
    output = bytearray()
    first = make("native")
    first.load(parse(kernel))
    pass_to(first, 60_000)
    kept = take(first)
    found = []
    for tier in TIERS:
        board = make(tier, send=output.extend)
        restore(board, kept)
        pass_to(board, 250_000)
        words = [state["words"] for state in take(board).state["harts"]]
        found.append((words, bytes(output)))
        output.clear()
    assert all(each == found[0] for each in found)


# ---- devices


def laden(make: Make) -> Board:
    board = make("reference", 2)
    board.add(Block(Memory(bytes(64 << 10))))
    board.add(Console(bool, 80, 25))
    board.add(Entropy(Stream(b"seed")))
    board.add(Net(b"\2abcde"))
    board.add_flash(Memory(bytes(256 << 10)))
    return board


def test_every_device_is_what_it_was(make: Make) -> None:
    rng = random.Random(1)
    board, other = laden(make), laden(make)
    for _ in range(20):
        for base, device in board._resettable.items():
            for _ in range(300):
                size = rng.choice((1, 4, 4, 8))
                offset = rng.choice((rng.randrange(0, 0x200), rng.randrange(device.size))) & -size
                try:
                    if base == 0x1000_0000 or rng.random() < 0.8:
                        device.write(offset, size, rng.choice((0, 1, 0xFF, rng.getrandbits(8 * size))) & (1 << 8 * size) - 1)
                    else:
                        device.read(offset, size)
                except (BusError, Halt):
                    continue
        board.harts.let_pass(rng.randrange(100_000))
        restore(other, take(board))
        assert picture(other) == picture(board)
        for (name, device), (_, copy) in zip(board.saveable(), other.saveable(), strict=True):
            state = json.loads(json.dumps(device.state()))
            copy.load(state)
            assert copy.state() == state, name


def test_waiting_input_and_frames_survive(make: Make) -> None:
    board, other = laden(make), laden(make)
    board.uart.write(2, 1, 1)
    board.uart.receive(b"abc")
    restore(other, take(board))
    assert bytes(other.uart.read(0, 1) for _ in range(3)) == b"abc"


# ---- files, and hostile ones


def test_file(kernel: bytes, make: Make, tmp_path: Path) -> None:
    board, other = make("reference"), make("reference")
    board.load(parse(kernel))
    pass_to(board, 50_000)
    save(str(tmp_path / "kept"), take(board))
    restore(other, read(str(tmp_path / "kept")))
    assert picture(other) == picture(board) and other.pieces == board.pieces
    other.reset()  # it has what a reset needs
    assert pass_to(other, 100_000) == STOPPED


def test_command_line(kernel: bytes, tmp_path: Path) -> None:
    image, kept = tmp_path / "image", tmp_path / "kept"
    image.write_bytes(kernel)
    whole = boot(str(image), stdin=b"Z\n")
    first = boot("--save", str(kept), "--save-at", "30000", str(image), stdin=b"Z\n")
    assert first.returncode == 0 and first.stderr == b"" and len(first.stdout) < len(whole.stdout), first
    second = boot("--restore", str(kept), stdin=b"Z\n")
    assert (second.returncode, first.stdout + second.stdout) == (0, whole.stdout), second
    for words, said in (
        (("--restore", str(kept), str(image)), b"leave"), (("--save-at", "9", str(image)), b"--save FILE"),
        (("--restore", str(image)), b"not a checkpoint"), (("--restore", str(kept), "--rng"), b"other devices"),
        (("--restore", str(tmp_path / "none")), b"No such file"),
    ):  # fmt: skip
        refused = boot(*words)
        assert refused.returncode == 125 and said in refused.stderr and b"Traceback" not in refused.stderr, refused


def test_damaged_files_are_refused(kernel: bytes, make: Make, tmp_path: Path) -> None:
    board = make("reference")
    board.load(parse(kernel))
    path = tmp_path / "kept"
    save(str(path), take(board))
    data = path.read_bytes()
    rng = random.Random(2)
    for _ in range(60):
        bad = bytearray(data)
        if rng.random() < 0.3:
            del bad[rng.randrange(len(bad)) :]
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad)) if rng.random() < 0.5 else -rng.randrange(1, min(400, len(bad)))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            read(str(path))
        except UsageError as error:
            assert "--restore" in str(error)


def _mutate(rng: random.Random, value: Any) -> Any:
    """Somewhere in it, something else."""
    if type(value) is dict and value and rng.random() < 0.97:
        name = rng.choice(list(value))
        return {**value, name: _mutate(rng, value[name])}
    if type(value) is list and value and rng.random() < 0.97:
        n = rng.randrange(len(value))
        return [*value[:n], _mutate(rng, value[n]), *value[n + 1 :]]
    return rng.choice([0, 1, 2, 3, -1, 7, 1 << 63, (1 << 64) - 1, 1 << 64, 0x8000_0000, 4095, None, "", "zz", "00", [], {}, True, 1.5])


@pytest.mark.parametrize("tier", TIERS)
def test_invented_states_are_refused_or_run(kernel: bytes, make: Make, tier: str) -> None:
    board = make(tier)
    board.load(parse(kernel))
    pass_to(board, 70_000)
    kept = take(board)
    rng = random.Random(3)
    refused = 0
    for _ in range(300):
        state = _mutate(rng, json.loads(json.dumps(kept.state)))
        try:
            restore(board, Checkpoint(state, kept.memory, kept.programs))
        except BadState:
            refused += 1
            continue
        board.harts.run(2000)
    assert 100 < refused < 300


def test_archives_with_lies(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "lies"
    good = {"format": "trapline checkpoint", "version": 4, "board": {"memory": 16 << 20}, "runs": [[0, 1]], "programs": []}
    for change, said in (
        ({"runs": [[0, 1 << 40]]}, "more memory"), ({"runs": [[0, 1], [0, 1]]}, "expected"), ({"version": 99}, "version"),
        ({"format": "x"}, "of ours"), ({"board": []}, "memory"), ({"board": {"memory": 1 << 60}}, "memory"), ({"runs": 5}, "missing"),
        ({"programs": [[1, 1 << 30, 1]]}, "fit"), ({"programs": [[1, 100, 1]]}, "expected"),
    ):  # fmt: skip
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("state.json", json.dumps({**good, **change}))
            archive.writestr("memory", bytes(16 << 10))
            archive.writestr("programs", b"")
        with pytest.raises(UsageError, match=said):
            read(str(path))


def test_walks_of_two_stages_are_counted_on() -> None:
    """A counter of them (event 5) would begin again, and so differ."""
    from trapline.machine.riscv.tlb import Tlb

    first, second = Tlb(), Tlb()
    first.nested = {15: 7, 3: 1}
    second.nested = {9: 9}
    second.load(first.state())
    assert second.nested == first.nested and second.nested_steps == 15 * 7 + 3
    for wrong in ([[64, 1]], [[1]], [[-1, 2]], "x", [[1, 2]] * 100):
        with pytest.raises(BadState):
            second.load({**first.state(), "nested": wrong})
