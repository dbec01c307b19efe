"""`trapline boot` with firmware: OpenSBI's report beside QEMU's, a kernel in S-mode, power off and reset; the device tree through dtc."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_riscv_boot import TIERS, assemble, boot

import support

OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic")
needs_opensbi = pytest.mark.skipif(not OPENSBI.exists(), reason="not installed: opensbi")
needs_cc = pytest.mark.skipif(bool(support.have("riscv64-linux-gnu-gcc")), reason="not installed: gcc-riscv64-linux-gnu")
needs_dtc = pytest.mark.skipif(bool(support.have("dtc")), reason="not installed: device-tree-compiler")
needs_qemu = pytest.mark.skipif(bool(support.have("qemu-system-riscv64")), reason="not installed: qemu-system-misc")

#: A kernel for S-mode: it prints a line through SBI's console, with its hart's number and whether a1 leads to a device tree, and ends.
PAYLOAD = """
	.globl _start
_start:	mv s0, a0
	lw s1, 0(a1)
	la s2, text
1:	lbu a0, 0(s2)
	beqz a0, 2f
	li a7, 1
	ecall
	addi s2, s2, 1
	j 1b
2:	addi a0, s0, 48
	li a7, 1
	ecall
	li t0, 0xedfe0dd0
	xor s1, s1, t0
	slli s1, s1, 32
	seqz a0, s1
	addi a0, a0, 48
	ecall
	li a0, 10
	ecall
	li a7, 0x53525354
	li a6, 0
	li a0, %d
	li a1, 0
	ecall
3:	j 3b
text:	.asciz "in S-mode: hart, tree "
"""


def payload(tmp_path: Path, kind: int = 0) -> Path:
    """As a flat file. `kind`: of SBI's system reset: 0 shut down, 1 cold reboot."""
    target = tmp_path / "payload.bin"
    elf = assemble(tmp_path, PAYLOAD % kind)
    subprocess.run(["riscv64-linux-gnu-objcopy", "-O", "binary", elf, target], check=True)
    return target


def report(text: bytes) -> dict[str, str]:
    """OpenSBI's table."""
    lines = text.decode().replace("\r", "").splitlines()
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


@needs_opensbi
@needs_cc
@pytest.mark.parametrize(
    ("firmware", "tier"),
    [("fw_jump.bin", "reference"), *((each, TIERS[-1]) for each in ("fw_dynamic.bin", "fw_jump.bin", "fw_dynamic.elf", "default"))],
)
def test_firmware_starts_a_kernel(tmp_path: Path, firmware: str, tier: str) -> None:
    bios = firmware if firmware == "default" else str(OPENSBI / firmware)
    got = boot("--tier", tier, "--bios", bios, "--kernel", str(payload(tmp_path)))
    assert got.returncode == 0 and b"in S-mode: hart, tree 01\r\n" in got.stdout and got.stderr == b"", got


@needs_opensbi
@needs_cc
@needs_qemu
@pytest.mark.parametrize("harts", [1, 4])
def test_opensbi_reports_what_it_reports_on_qemu(tmp_path: Path, harts: int) -> None:
    image, bios = str(payload(tmp_path)), str(OPENSBI / "fw_dynamic.bin")
    words = ["-machine", "virt", "-cpu", "rv64,h=true", "-smp", str(harts), "-m", "128", "-nographic"]
    done = subprocess.run(
        ["qemu-system-riscv64", *words, "-bios", bios, "-kernel", image], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    ours = boot("--harts", str(harts), "--bios", bios, "--kernel", image)
    mine, theirs = report(ours.stdout), report(done.stdout)
    assert ours.returncode == 0 and len(mine) > 25 and mine.keys() == theirs.keys()
    differ = {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key] and not key.endswith("HART ID")}
    # which hart wins the lottery to boot depends on timing, and so do lines about it
    expected = {"Platform Name", "Boot HART Base ISA", "Boot HART MHPM Count", "Domain0 Boot HART", "in S-mode"}
    assert differ.keys() <= expected, differ


@needs_opensbi
@needs_cc
def test_reset_starts_again_or_ends(tmp_path: Path) -> None:
    image = str(payload(tmp_path, kind=1))
    once = boot("--kernel", image, "--no-reboot")
    assert once.returncode == 0 and once.stdout.count(b"in S-mode") == 1, once
    again = boot("--kernel", image, "--timeout", "4")
    assert again.returncode == 124 and again.stdout.count(b"in S-mode") > 2, again


@needs_cc
def test_memory_is_fresh_after_a_reset_and_the_clock_goes_on(tmp_path: Path) -> None:
    """It marks memory and resets while the clock's low word is what it was at power-on; behind the reset the mark must be gone."""
    program = """
	.globl _start
_start:	la t0, mark
	lw t1, 0(t0)
	bnez t1, fail                # must be as it was loaded
	li t2, 1
	sw t2, 0(t0)
	li t3, 0x200bff8
	li t4, 0x101000
	lw t5, 0(t4)                 # the clock: latches the high word
	lwu t6, 4(t4)
	slli t6, t6, 32
	slli t5, t5, 32
	srli t5, t5, 32
	or t5, t5, t6
	li t6, 1767225600000000000
	sub t5, t5, t6
	li t6, 1000000000
	bgtu t5, t6, pass            # more than a second after power-on: it is the second time
	ld t1, 0(t3)
	li t2, 20000000
	add t1, t1, t2
	li t3, 0x2004000
	sd t1, 0(t3)
	li t0, 0x80
	csrw mie, t0
	wfi
	li t1, 0x7777
	j end
pass:	li t1, 0x5555
	j end
fail:	li t1, 0x3333
end:	li t0, 0x100000
	sw t1, 0(t0)
1:	j 1b
	.data
	.balign 4
mark:	.word 0
"""
    got = boot("--timeout", "20", str(assemble(tmp_path, program)))
    assert got.returncode == 0, got


@needs_dtc
def test_dtc_reads_the_tree_without_a_warning(tmp_path: Path) -> None:
    blob = tmp_path / "board.dtb"
    assert boot("--harts", "3", "--append", "hello", "--dump-dtb", str(blob)).returncode == 0
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", str(blob)], capture_output=True, text=True, check=True)
    assert done.stderr == "" and 'bootargs = "hello";' in done.stdout and "cpu@2" in done.stdout


@needs_dtc
@needs_qemu
def test_tree_names_devices_as_qemus(tmp_path: Path) -> None:
    """Every node of ours is one of QEMU's virt, with the same registers and interrupts."""
    from trapline.machine.riscv import devicetree

    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    command = ["qemu-system-riscv64", "-machine", f"virt,dumpdtb={theirs}", "-m", "128", "-smp", "2", "-display", "none"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    boot("--harts", "2", "--dump-dtb", str(ours))
    reference, mine = (devicetree.parse(path.read_bytes()) for path in (theirs, ours))
    assert devicetree.parse(devicetree.flatten(reference)) == reference
    skipped = {"phandle", "interrupts-extended", "interrupt-parent", "regmap", "riscv,isa", "mmu-type", "model", "rng-seed", "kaslr-seed",
               "riscv,ndev", "cpu", "clock-frequency", "riscv,cbom-block-size", "riscv,cboz-block-size", "#address-cells",
               "fifo-size", "tx-threshold"}  # fmt: skip

    def compare(node: devicetree.Node, other: devicetree.Node, path: str) -> None:
        for name, value in node.properties.items():
            assert name in skipped or other.properties.get(name) == value, (path, name)
        for child in node.children:
            partner = next((each for each in other.children if each.name == child.name), None)
            assert partner is not None, f"{path}/{child.name}"
            compare(child, partner, f"{path}/{child.name}")

    compare(mine.root, reference.root, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--initrd", "/dev/null"], "--initrd needs a kernel"),
        (["--bios", "none"], "nothing to start"),
        (["--kernel", "/dev/null", "--bios", "none"], "a device: give a regular file"),
        (["--kernel", "/no/such"], "No such file"),
        (["--bios", "/etc/passwd", "/bin/true"], "give a bare-metal program, or firmware"),
        (["--dtb", "/etc/passwd", "--dump-dtb", "/dev/null"], "--dtb: not a flattened device tree"),
        (["--dump-dtb", "/no/such/directory/file"], "No such file"),
        (["--clock", "wall", "--dump-dtb", "/dev/null"], "write virtual or host"),
        (["--seed", "x", "--dump-dtb", "/dev/null"], "not a number"),
    ],
)
def test_wrong_arguments(words: list[str], said: str) -> None:
    got = boot(*words)
    assert got.returncode == 125 and said in got.stderr.decode() and got.stdout == b"", got


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    big, small, packed = tmp_path / "big", tmp_path / "small", tmp_path / "packed"
    big.write_bytes(bytes(15 << 20))
    small.write_bytes(bytes(4096))
    packed.write_bytes(b"\x1f\x8b" + bytes(100))
    for words, said in (
        (["--kernel", str(big), "--initrd", str(small)], "something else is where"),
        (["--kernel", str(small), "--initrd", str(big)], "outside RAM"),
        (["--kernel", str(packed)], "gunzip"),
    ):
        got = boot("--memory", "16M", "--bios", "none", *words)
        assert got.returncode == 125 and said in got.stderr.decode(), (words, got)
