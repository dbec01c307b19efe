"""`trapline boot --gdb`: GDB itself debugs the teaching kernel; packets that nobody sane sends do no harm."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_riscv_boot import CC, FLAGS, HERE, TIERS

import support
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.firmware import parse
from trapline.machine.riscv.harts import STOPPED
from trapline.machine.riscv.timeline import Timeline
from trapline.scope.gdb.packets import INTERRUPT, MOST, Framer, pack
from trapline.scope.gdb.server import Server

GDB = "gdb-multiarch"
pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("kernel") / "image"
    command = [CC, *FLAGS, "-g", "-o", str(target), str(HERE / "teaching.S"), str(HERE / "teaching.c")]
    subprocess.run(command, check=True, capture_output=True)
    return target


def debug(kernel: Path, socket: Path, tier: str, *commands: str, words: tuple[str, ...] = ()) -> tuple[str, str]:
    """What GDB prints for these commands, and what the machine does."""
    command = [sys.executable, "-m", "trapline", "boot", "--tier", tier, f"--gdb={socket}", *words, str(kernel)]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    machine = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    )
    try:
        assert machine.stdin is not None
        machine.stdin.write("Z\n")
        machine.stdin.close()
        machine.stdin = None
        deadline = time.monotonic() + 30
        while not socket.exists() and time.monotonic() < deadline and machine.poll() is None:
            time.sleep(0.05)
        script = ["set pagination off", "set confirm off", "set architecture riscv:rv64", f"target remote {socket}", *commands]
        gdb = [GDB, "-nx", "-batch", *(word for line in script for word in ("-ex", line)), str(kernel)]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr, machine.communicate(timeout=30)[0]
    finally:
        machine.kill()
        machine.wait()


@pytest.mark.skipif(shutil.which(GDB) is None, reason=f"not installed: {GDB}")
@pytest.mark.parametrize("tier", [tier for tier in TIERS if tier != "reference"] or TIERS)
def test_gdb_debugs_a_kernel(kernel: Path, tmp_path: Path, tier: str) -> None:
    said, printed = debug(
        kernel, tmp_path / "socket", tier,
        "break supervisor_trap", "continue", "printf \"A %lx %d\\n\", $scause, $priv", "info threads", "delete",
        "watch ticks", "continue", "continue", "printf \"B %d %lx\\n\", ticks, $minstret",
        "reverse-continue", "printf \"C %d %lx\\n\", ticks, $minstret", "stepi", "printf \"D %d %lx\\n\", ticks, $minstret",
        "reverse-stepi", "reverse-stepi", "stepi", "stepi", "printf \"E %d %lx\\n\", ticks, $minstret",
        "reverse-continue", "reverse-continue", "reverse-continue", "printf \"F %d %lx\\n\", ticks, $pc", "continue",
        "printf \"G %d\\n\", ticks", "monitor walk 0x80000000", "monitor csr mstatus", "x/i $pc",
        "printf \"H %d\\n\", sizeof($fa0)", "delete", "continue",
    )  # fmt: skip
    marks = dict(re.findall(r"^([A-H]) (.*)$", said, re.MULTILINE))
    assert marks["A"] == "8000000000000001 1", said
    assert "hart 0, S-mode" in said and "mstatus 0x" in said and "No more reverse-execution history" in said, said
    assert marks["B"] == marks["D"] == marks["E"] and marks["B"][0] == "2", said
    assert (marks["C"][0], int(marks["B"][2:], 16) - int(marks["C"][2:], 16)) == ("1", 1), said
    assert (marks["F"], marks["G"], marks["H"]) == ("0 1000", "1", "8"), said
    assert "exited normally" in said
    assert printed.count("ok ") == 5 and printed.count("one\n") == 1 and "FAIL" not in printed, printed


@pytest.mark.skipif(shutil.which(GDB) is None, reason=f"not installed: {GDB}")
def test_gdb_changes_and_kills(kernel: Path, tmp_path: Path) -> None:
    said, printed = debug(
        kernel, tmp_path / "socket", "reference", "break machine_main", "continue", "set var failures = 3", "set $s11 = 77",
        "stepi", "printf \"A %d %d\\n\", failures, $s11", "reverse-stepi", "printf \"B %d\\n\", failures", "kill",
    )  # fmt: skip
    assert "A 3 77" in said and "B 3" in said, said
    assert "teaching kernel" not in printed


@pytest.mark.skipif(shutil.which(GDB) is None, reason=f"not installed: {GDB}")
def test_going_back_takes_the_disk_along(tmp_path: Path) -> None:
    """The file is what it was at each place, whatever has been written since."""
    program, disk, before = tmp_path / "driver", tmp_path / "disk", tmp_path / "before"
    subprocess.run([CC, *FLAGS, "-g", "-o", str(program), str(HERE / "disk.S"), str(HERE / "disk.c")], check=True, capture_output=True)
    for each in (disk, before):
        each.write_bytes(bytes(range(100, 200)) * 2600 + bytes((256 << 10) - 260_000))
    compare = f"shell cmp -s {disk} {before} && echo as before || echo written"
    said, printed = debug(
        program, tmp_path / "socket", "reference", compare, "break check if failures == 0", "ignore 1 12", "continue", compare,
        f"shell cp {disk} {tmp_path / 'middle'}", "delete", "reverse-continue", compare, "break check", "ignore 2 12", "continue",
        f"shell cmp {disk} {tmp_path / 'middle'} && echo the middle again", "delete", "continue", words=("--drive", str(disk)),
    )  # fmt: skip
    assert re.findall("as before|written|the middle again", said) == ["as before", "written", "as before", "the middle again"], said
    assert "exited normally" in said and printed.count("ok ") == 17, (said, printed)


# ---- without GDB


@pytest.fixture
def server(kernel: Path) -> Iterator[Server]:
    board = Board(16 << 20, 2, send=bool, native=False)
    board.load(parse(kernel.read_bytes()))
    yield Server(Timeline(board, board.uart, bool))
    board.close()


def go(server: Server, packet: bytes) -> bytes:
    """The reply, and if the machine has to run for it, what it halts with."""
    reply = server.answer(packet)
    for _ in range(40):
        if reply is not None:
            return reply
        if server.timeline.run(20_000) == STOPPED:
            reply = server.halted()
    return server.halted(interrupted=True)


def test_every_step_can_be_taken_back(server: Server) -> None:
    places = []
    for _ in range(40):
        places.append((server.answer(b"g"), server.timeline.harts.position()))
        assert go(server, b"vCont;s:1").startswith(b"T05")
    for state, _ in reversed(places):
        assert b"replaylog" not in (server.answer(b"bs") or b"")
        assert server.answer(b"g") == state
    assert b"replaylog:begin" in (server.answer(b"bs") or b"")
    for state, _ in places:
        assert server.answer(b"g") == state
        go(server, b"vCont;s:1")


def test_checksums_escapes_and_interrupts() -> None:
    framer = Framer()
    assert framer.feed(pack(b"m1,2")[:3]) == [] and framer.feed(pack(b"m1,2")[3:]) == [b"m1,2"]
    assert framer.feed(b"+\3junk" + pack(b"X}#$*")) == [INTERRUPT, b"X}#$*"]
    assert framer.feed(b"$g#00") == [] and framer.acknowledge == b"++-"
    assert framer.feed(b"$" + b"a" * (3 * MOST)) == [] and framer.feed(pack(b"g")) == [b"g"]


def test_what_nobody_sane_sends(server: Server) -> None:
    rng = random.Random(4)
    seeds = [
        b"m80000000,ffffffffffffffffff", b"M80000000,4:00", b"Xffffffffffffffff,1:a", b"p-1", b"P20=", b"P0=ffffffffffffffff",
        b"Z0,zz,1", b"Z2,0,ffffffffffff", b"Z2,-5,4", b"vCont;s:ff", b"vCont;x", b"Hgffff", b"Hc-1", b"T-3", b"qRcmd,zz",
        b"qXfer:features:read:target.xml:-5,ffffffff", b"qXfer:::", b"bq", b"G00", b"", b"qRcmd,77616c6b", b"qThreadExtraInfo,-1",
        b"m-1,4", b"qXfer:features:read:target.xml:0,4", b"P1041=0300000000000000", b"P188=ffffffffffffffff", b"qRcmd,72657374",
    ]  # fmt: skip
    for _ in range(3000):
        packet = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(3)):
            if packet:
                packet[rng.randrange(len(packet))] = rng.choice(b"0123456789abcdef,;:=-qmMXZsc\x00\xff")
        if packet[:1] in (b"c", b"s", b"C", b"S", b"k", b"D") or packet.startswith(b"vCont;"):
            continue
        reply = server.answer(bytes(packet))
        assert reply is None or len(reply) <= 2 * MOST, packet
    assert server.timeline.board.harts.run(2000) in (0, 1, STOPPED)
