"""`trapline boot`: bare-metal programs and a teaching kernel, on every tier and on QEMU's `virt`, with the same output.

The teaching kernel (riscv/teaching.c) checks itself: traps, delegation, Sv39, preemption, the PLIC and the serial port.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import support

HERE = Path(__file__).parent / "riscv"
CC = "riscv64-linux-gnu-gcc"
FLAGS = (
    "-O2", "-Wall", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-pic", "-mcmodel=medany",
    "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", f"-Wl,-T,{HERE / 'boot.ld'}",
)  # fmt: skip
TIERS = ("reference", "interpreter", "baseline", "native") if importlib.util.find_spec("llvmlite") else ("reference",)

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))

HELLO = """
	.globl _start
_start:	la a1, text
	li a2, 0x10000000
1:	lbu a0, 0(a1)
	beqz a0, 2f
	sb a0, 0(a2)
	addi a1, a1, 1
	j 1b
2:	li a0, %s
	li a1, 0x100000
	sw a0, 0(a1)
3:	wfi
	j 3b
text:	.asciz "hello\\n"
"""


def build(tmp_path: Path, *sources: Path) -> Path:
    target = tmp_path / "image"
    command = [CC, *FLAGS, "-o", str(target), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def assemble(tmp_path: Path, text: str) -> Path:
    source = tmp_path / "program.S"
    source.write_text(text)
    return build(tmp_path, source)


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path / "cache"))
    assert boot("--no-cache", str(assemble(tmp_path, HELLO % "0x5555"))).returncode == 0
    assert not (tmp_path / "cache").exists()
    assert boot(str(assemble(tmp_path, HELLO % "0x5555"))).returncode == 0
    assert (tmp_path / "cache").exists() is ("native" in TIERS)


def boot(*words: str, stdin: bytes = b"", timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trapline", "boot", *words]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    return subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=timeout_s, check=False)


@pytest.mark.parametrize("tier", TIERS)
def test_teaching_kernel(tmp_path: Path, tier: str) -> None:
    got = boot("--tier", tier, str(build(tmp_path, HERE / "teaching.S", HERE / "teaching.c")), stdin=b"Z\n")
    assert got.returncode == 0 and b"FAIL" not in got.stdout, got
    assert got.stdout.count(b"ok ") == 5 and b"two Z\n" in got.stdout and got.stderr == b"", got


@pytest.mark.skipif(shutil.which("qemu-system-riscv64") is None, reason="not installed: qemu-system-riscv64")
def test_teaching_kernel_on_qemu(tmp_path: Path) -> None:
    """The kernel is right about hardware emulated elsewhere too, and prints the same lines there.

    Which program ends first depends on when its input arrives, and so on QEMU's clock.
    """
    image = build(tmp_path, HERE / "teaching.S", HERE / "teaching.c")
    words = ["qemu-system-riscv64", "-machine", "virt", "-bios", "none", "-display", "none", "-serial", "stdio"]
    qemu = subprocess.Popen([*words, "-kernel", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        time.sleep(1)  # what arrives before the guest enables its receiver is lost there
        out, _ = qemu.communicate(b"Z\n", timeout=60)
    finally:
        qemu.kill()
        qemu.wait()
    ours = boot(str(image), stdin=b"Z\n").stdout
    assert qemu.returncode == 0 and sorted(out.splitlines()) == sorted(ours.splitlines())


def test_tiers_execute_the_same_instructions(tmp_path: Path) -> None:
    """Virtual time is the instruction count: interrupts land on the same instruction in every tier and every run."""
    image = str(build(tmp_path, HERE / "teaching.S", HERE / "teaching.c"))
    counts = set()
    for tier in (*TIERS, TIERS[-1]):
        got = boot("--tier", tier, "--stats", image, stdin=b"Z\n")
        words = got.stderr.decode().split()
        counts.add((words[1], words[words.index("traps,") - 1 if "traps," in words else words.index("traps") - 1]))
    assert len(counts) == 1, counts


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("verdict", "status"), [("0x5555", 0), ("0x33333", 3), ("0x3333", 1)])
def test_finisher_gives_the_exit_status(tmp_path: Path, tier: str, verdict: str, status: int) -> None:
    got = boot("--tier", tier, str(assemble(tmp_path, HELLO % verdict)))
    assert (got.returncode, got.stdout, got.stderr) == (status, b"hello\n", b"")


def test_several_harts_start_with_their_numbers(tmp_path: Path) -> None:
    program = """
	.globl _start
_start:	la t0, count
	li t1, 1
	amoadd.w t2, t1, (t0)
	bnez a0, 2f
1:	lw t2, 0(t0)
	li t3, 4
	bne t2, t3, 1b
	li t0, 0x100000
	li t1, 0x5555
	sw t1, 0(t0)
2:	wfi
	j 2b
	.data
	.balign 4
count:	.word 0
"""
    assert boot("--harts", "4", str(assemble(tmp_path, program))).returncode == 0


def test_timer_wakes_a_hart_that_waits_without_passing_real_time(tmp_path: Path) -> None:
    """An hour of virtual time passes at once when everybody waits."""
    program = """
	.globl _start
_start:	li t0, 0x200bff8
	ld t1, 0(t0)
	li t2, 36000000000
	add t1, t1, t2
	li t0, 0x2004000
	sd t1, 0(t0)
	li t0, 0x80
	csrw mie, t0
	wfi
	li t0, 0x100000
	li t1, 0x5555
	sw t1, 0(t0)
1:	j 1b
"""
    assert boot(str(assemble(tmp_path, program)), timeout_s=20).returncode == 0


def test_machine_that_can_never_wake_says_so(tmp_path: Path) -> None:
    got = boot(str(assemble(tmp_path, "\t.globl _start\n_start:\twfi\n\tj _start\n")))
    assert got.returncode == 125 and b"none can come" in got.stderr


def test_time_out(tmp_path: Path) -> None:
    got = boot("--timeout", "0.5", str(assemble(tmp_path, "\t.globl _start\n_start:\tj _start\n")))
    assert got.returncode == 124


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/no/such/file"], "No such file"),
        (["/etc/passwd"], "not an ELF file"),
        (["/bin/true"], "not a program for 64-bit RISC-V"),
        (["--harts", "0", "x"], "must be from 1 to 64"),
        (["--tier", "warp", "x"], "write native, baseline, interpreter or reference"),
        ([], "write `trapline boot FILE`"),
    ],
)
def test_wrong_arguments(words: list[str], said: str) -> None:
    got = boot(*words)
    assert got.returncode == 125 and said in got.stderr.decode() and got.stdout == b"", got


def test_segment_outside_ram(tmp_path: Path) -> None:
    image = assemble(tmp_path, HELLO % "0x5555")
    data = bytearray(image.read_bytes())
    phoff = int.from_bytes(data[32:40], "little")
    count = int.from_bytes(data[56:58], "little")
    for n in range(count):
        at = phoff + 56 * n
        if data[at] == 1:
            data[at + 24 : at + 32] = (1 << 63).to_bytes(8, "little")
    image.write_bytes(data)
    got = boot(str(image))
    assert got.returncode == 125 and b"outside RAM" in got.stderr


def test_a_kernel_image_without_its_option(tmp_path: Path) -> None:
    image = tmp_path / "Image"
    image.write_bytes(bytes(56) + b"RSC\5" + bytes(4096))
    got = boot(str(image))
    assert got.returncode == 125 and b"write --kernel before it" in got.stderr, got
