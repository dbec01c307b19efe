"""`trapline boot --trace-instructions`: what it says of each instruction is what the machine does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_riscv_boot import CC, HELLO, HERE, TIERS, assemble, boot, build

import support
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.disasm import F_NAMES, X_NAMES
from trapline.machine.riscv.firmware import parse
from trapline.machine.riscv.harts import STOPPED
from trapline.scope.trace import Filter, Tracer, parse_filter

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))
UNITS = 25_000


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("kernel"), HERE / "teaching.S", HERE / "teaching.c")


def run(board: Board, units: int = UNITS) -> None:
    board.harts.alarm = units
    while board.harts.run(100_000) != STOPPED:
        pass


@pytest.mark.parametrize("tier", TIERS)
def test_replaying_a_trace_gives_the_registers(kernel: Path, tier: str) -> None:
    lines: list[str] = []
    boards = [Board(16 << 20, 1, send=bool, native=tier != "reference", tier=tier) for _ in range(2)]
    for board in boards:
        board.load(parse(kernel.read_bytes()))
    tracer = Tracer(boards[0], lines.append, as_json=True)
    tracer.start()
    for board in boards:
        run(board)
    tracer.stop()
    found = [json.loads(line) for line in lines]
    cpu, plain = (board.harts.each[0].cpu for board in boards)
    count = cpu[at.INSTRET]
    assert count == plain[at.INSTRET] and cpu[at.X : at.F + 32].tolist() == plain[at.X : at.F + 32].tolist()
    trapped = [each for each in found if "trap" in each and not each["trap"][0] >> 63]
    assert len(found) == count + len(trapped) and trapped and len(found) > 10_000
    assert len([each for each in found if "trap" in each]) == cpu[at.TRAPS]
    registers = dict.fromkeys([*X_NAMES, *F_NAMES], 0)
    following = None
    for each in found:
        assert following in (None, each["pc"])
        straight = not re.match(r"(c\.)?(j|b|mret|sret|wfi)", each["text"]) and "trap" not in each
        following = each["pc"] + (4 if each["bits"] & 3 == 3 else 2) if straight else None
        registers |= each["registers"]
    assert [registers[name] for name in X_NAMES[1:]] == plain[at.X + 1 : at.X + 32].tolist()
    assert {each["mode"] for each in found} >= {"M", "S"}
    assert any(each["text"].startswith("sd") and each["memory"][0] == "store" for each in found)
    for board in boards:
        board.close()


def test_only_what_is_wanted(kernel: Path) -> None:
    for wanted in (Filter(modes="U", limit=50), Filter(start=0x1000, end=0x1010)):
        lines: list[str] = []
        board = Board(16 << 20, 1, send=bool, native=False)
        board.load(parse(kernel.read_bytes()))
        tracer = Tracer(board, lines.append, wanted=wanted)
        tracer.start()
        run(board, 60_000)
        tracer.stop()
        assert len(lines) == (50 if wanted.limit > 0 else 4), lines
        assert all(line.split()[1] == ("U" if wanted.limit > 0 else "M") for line in lines)
        board.close()


def test_filters() -> None:
    assert parse_filter("from=0x10,to=32,hart=1,modes=SM,limit=5") == Filter(16, 32, 1, "SM", 5)
    assert parse_filter("") == Filter()
    for bad in ("modes=X", "modes=", "from", "hart=x", "what=1"):
        with pytest.raises(ValueError):
            parse_filter(bad)


def test_command_line(tmp_path: Path) -> None:
    path, kernel = tmp_path / "trace.json", assemble(tmp_path, HELLO % "0x5555")
    done = boot("--trace-instructions", "--trace-filter=limit=3", str(kernel))
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 3 and done.stdout == b"hello\n", done
    done = boot(f"--trace-instructions={path}", "--trace-filter=limit=9", str(kernel))
    assert done.returncode == 0 and done.stderr == b"", done
    assert [json.loads(line)["pc"] for line in path.read_text().splitlines()][:2] == [0x1000, 0x1004]
    bad = boot("--trace-instructions", "--trace-filter=modes=Q", str(kernel))
    assert bad.returncode == 125 and b"modes=USM" in bad.stderr
