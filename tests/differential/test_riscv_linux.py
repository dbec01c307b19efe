"""Linux on the board: OpenSBI and a riscv64 kernel boot to a shell, and print what they print on QEMU's `virt`.

The kernel is not in the repository: `tools/build-linux` builds it (three minutes) where these tests look for it,
~/.cache/trapline/linux, or the directory that $TRAPLINE_TEST_LINUX names.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_riscv_boot import boot

import support
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.firmware import Files

BUILT = Path(os.environ.get("TRAPLINE_TEST_LINUX", Path.home() / ".cache/trapline/linux"))
IMAGE, INITRD = BUILT / "Image", BUILT / "initramfs.cpio.gz"
BIOS = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
pytestmark = [
    pytest.mark.skipif(not (os.access(IMAGE, os.R_OK) and os.access(INITRD, os.R_OK)), reason=f"no {IMAGE}: run tools/build-linux"),
    pytest.mark.skipif(not BIOS.exists(), reason="not installed: opensbi"),
    pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="slow without llvmlite"),
]
FILES = ("--bios", str(BIOS), "--kernel", str(IMAGE), "--initrd", str(INITRD))

#: Lines that tell of the emulator, of the time, or of the order of what happens at once.
DIFFERS = re.compile(
    r"Platform Name|Machine model|Boot HART|Domain0 Boot|in S-mode|Memory:|plic: |flash|Intel/Sharp|buffer write|MTD devices|"
    r"rtc: setting|clocksource|sched_clock|workingset|9p: |Unpacking|Freeing|SLUB|mtd|hart\b|cacheinfo"
)


def linux(*options: str, run: str = "", stdin: bytes = b"", timeout_s: float = 120) -> subprocess.CompletedProcess[bytes]:
    """Boot, and let init run commands (; between them), if any, and power off."""
    append = "console=ttyS0" + (" run=" + run.replace(" ", "+") if run else "")
    return boot("--timeout", str(timeout_s - 10), *FILES, *options, "--append", append, stdin=stdin, timeout_s=timeout_s)


def lines(output: bytes) -> list[str]:
    """What should be the same anywhere."""
    text = output.decode(errors="replace").replace("\r", "")
    stripped = (re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in text.splitlines())
    return [line for line in stripped if line and not DIFFERS.search(line)]


@pytest.mark.skipif(bool(support.have("qemu-system-riscv64")), reason="not installed: qemu-system-misc")
@pytest.mark.parametrize("harts", [1, 3])
def test_boot_log_is_qemus(harts: int) -> None:
    commands = "uname;echo a word;ls /;sleep 0.2;sum /init;cat /proc/cmdline"
    append = "console=ttyS0 run=" + commands.replace(" ", "+")
    words = ["-machine", "virt", "-cpu", "rv64,h=true", "-smp", str(harts), "-m", "128", "-nographic", "-bios", str(BIOS)]
    words += ["-kernel", str(IMAGE), "-initrd", str(INITRD), "-append", append]
    theirs = subprocess.run(["qemu-system-riscv64", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=100, check=True)
    ours = linux("--harts", str(harts), run=commands)
    assert ours.returncode == 0 and ours.stderr == b"", ours
    mine, others = lines(ours.stdout), lines(theirs.stdout)
    assert len(mine) > 80 and "init: ready" in mine
    assert mine == others


def test_shell_on_the_serial_port_reads_standard_input() -> None:
    got = linux(stdin=b"echo typed words\nuname\npoweroff\n")
    assert got.returncode == 0 and b"typed words\r\n" in got.stdout and b"riscv64\r\n" in got.stdout, got


def test_shell_and_reset_on_threads() -> None:
    got = linux("--harts", "2", "--harts-on", "threads", "--no-reboot", stdin=b"echo typed words\nuname\nreboot\n")
    assert got.returncode == 0 and b"typed words\r\n" in got.stdout and b"riscv64\r\n" in got.stdout, got


def test_every_boot_is_the_same() -> None:
    first, second = (linux("--stats", "--harts", "2", run="date;random") for _ in range(2))
    count = [each.stderr.split(b" instructions")[0] for each in (first, second)]
    assert first.stdout == second.stdout and count[0] == count[1]
    assert b"Thu Jan  1 00:00:0" in first.stdout and b"2026\r\n" in first.stdout


def test_boot_on_threads(tmp_path: Path) -> None:
    """All CPUs come up, find their way to the disk and to one another, and commands print what they print in turns."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(4 << 20))
    commands = "uname;echo a word;ls /;cat /sys/devices/system/cpu/online;sleep 0.2;fill /dev/vda 300000;sum /dev/vda;sum /init"
    ours = [
        linux("--harts", "3", *options, "--drive", str(image), run=commands)
        for options in ((), ("--harts-on", "threads"), ("--harts-on", "threads", "--tier", "interpreter"))
    ]
    assert [each.returncode for each in ours] == [0, 0, 0], ours
    told = [each.stdout[each.stdout.index(b"init: ready") :].split(b"[")[0] for each in ours]
    assert b"0-2\r\n" in told[0]
    assert told[0] == told[1] == told[2]


def test_boots_after_a_reset_are_the_same_on_every_tier() -> None:
    """Two boots in a row, in lock-step: what has become hot by then must not change what is counted."""
    files = Files(BIOS.read_bytes(), IMAGE.read_bytes(), INITRD.read_bytes(), "console=ttyS0 quiet run=reboot")
    boards = [Board(128 << 20, send=lambda data: None, tier=tier) for tier in ("native", "baseline")]
    boards[0].tiers._background = False  # regions as soon as may be
    for board in boards:
        board.boot(files)
    states: list[tuple[int, ...]] = []
    for _ in range(2):
        ended = 0
        while not ended:
            ended, other = (board.harts.run(50_000) for board in boards)
            states = [(board.harts.elapsed, *board.harts.each[0].cpu[: at.PC + 1], board.harts.each[0].cpu[at.INSTRET]) for board in boards]
            assert ended == other and states[0] == states[1]
        for board in boards:
            board.reset()
    for board in boards:
        board.close()


def test_disk_and_random_numbers(tmp_path: Path) -> None:
    """What one boot has written, another one reads; an overlay takes what a third one writes."""
    image, overlay = tmp_path / "disk", tmp_path / "overlay"
    image.write_bytes(bytes(8 << 20))
    got = linux("--drive", str(image), "--rng", run="fill /dev/vda 1000000;sum /dev/vda;cat /sys/block/vda/serial;echo;random /dev/hwrng")
    total = re.search(rb"8388608 bytes, sum ([0-9a-f]+)\r\n", got.stdout)
    assert got.returncode == 0 and total and b"drive0\r\n" in got.stdout and re.search(rb"\n[0-9a-f]{32}\r\n", got.stdout), got
    written = image.read_bytes()
    assert written[:65536] == bytes((n * 7 + (n >> 8)) & 255 for n in range(65536)) and not any(written[1 << 20 :])
    again = linux("--drive", f"{image},overlay={overlay}", run="sum /dev/vda;fill /dev/vda 3000000;sum /dev/vda")
    sums = re.findall(rb"8388608 bytes, sum ([0-9a-f]+)", again.stdout)
    assert sums[0] == total[1] != sums[1] and image.read_bytes() == written, again


@pytest.mark.skipif(bool(support.have("mke2fs", "debugfs", "cpio")), reason="not installed: e2fsprogs, cpio")
def test_root_file_system_on_a_disk(tmp_path: Path) -> None:
    """No initial RAM disk: init comes from an ext4 image, and what it writes is there afterwards, for the host's tools too."""
    tree, image = tmp_path / "tree", tmp_path / "root.img"
    tree.mkdir()
    subprocess.run("gunzip | cpio -idu --quiet init", shell=True, cwd=tree, input=INITRD.read_bytes(), check=True)
    for name in ("sbin", "dev", "proc", "sys", "tmp"):
        (tree / name).mkdir()
    (tree / "init").rename(tree / "sbin/init")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), "16M"], check=True)
    append = "console=ttyS0 root=/dev/vda rw run=ls+/;echo+kept+>+/kept;cat+/proc/mounts"
    got = boot("--timeout", "50", *FILES[:4], "--drive", str(image), "--append", append, timeout_s=60)
    assert got.returncode == 0 and b"/dev/root / ext4 rw" in got.stdout and b"lost+found" in got.stdout, got
    found = subprocess.run(["debugfs", "-R", "cat /kept", str(image)], capture_output=True, check=True)
    assert found.stdout == b"kept\n"


def test_flash_is_erased_and_written(tmp_path: Path) -> None:
    bank = tmp_path / "flash"
    bank.write_bytes(b"\xff" * (32 << 20))
    got = linux("--flash", str(bank), run="cat /proc/mtd;fill /dev/mtd0 3000")
    assert got.returncode == 0 and b"mtd0: 02000000 00040000" in got.stdout, got
    with bank.open("rb") as file:
        assert file.read(3001) == bytes((n * 7 + (n >> 8)) & 255 for n in range(3000)) + b"\xff"


@pytest.mark.skipif(bool(support.have("qemu-system-riscv64")), reason="not installed: qemu-system-misc")
def test_network_with_a_machine_of_qemus(tmp_path: Path) -> None:
    """Each answers the other's echo requests over one wire."""
    wire = tmp_path / "wire"
    words = ["-machine", "virt", "-nographic", "-global", "virtio-mmio.force-legacy=false", "-bios", str(BIOS), "-kernel", str(IMAGE)]
    words += ["-netdev", f"stream,id=n,server=on,addr.type=unix,addr.path={wire}", "-device", "virtio-net-device,netdev=n"]
    words += ["-initrd", str(INITRD), "-append", "console=ttyS0 run=net+10.0.0.2;ping+10.0.0.1+5;sleep+5"]
    with subprocess.Popen(["qemu-system-riscv64", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
        while not wire.exists():
            assert qemu.poll() is None
            time.sleep(0.05)
        ours = linux("--net", f"connect:{wire}", run="net 10.0.0.1;ping 10.0.0.2 5 1400;sleep 2")
        theirs, _ = qemu.communicate(timeout=60)
    assert b"5 of 5 answered" in ours.stdout and b"5 of 5 answered" in theirs, (ours, theirs)


def test_network_between_two_boards(tmp_path: Path) -> None:
    wire = tmp_path / "wire"
    command = [sys.executable, "-m", "trapline", "boot", "--timeout", "60", *FILES, "--net", f"listen:{wire}"]
    command += ["--append", "console=ttyS0 run=net+10.0.0.2;sleep+60"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(support.SRC)}) as other:
        while not wire.exists():
            assert other.poll() is None
            time.sleep(0.05)
        got = linux("--net", f"connect:{wire}", run="net 10.0.0.1;ping 10.0.0.2 20 1400")
        other.terminate()
    assert b"20 of 20 answered" in got.stdout, got


def test_shared_directory(tmp_path: Path) -> None:
    """Through Linux's own 9p client: the guest reads and writes files of the host's, and a link out of the directory leads nowhere."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "greeting").write_text("from the host\n")
    (shared / "out").symlink_to("/etc/passwd")
    mount = "mount 9p host /mnt trans=virtio,version=9p2000.L"
    got = linux("--share", f"{shared}:host", run=f"{mount};ls /mnt;cat /mnt/greeting;cat /mnt/out;fill /mnt/big 300000;sum /mnt/big;echo back > /mnt/new")
    assert b"from the host\r\n" in got.stdout and b"/mnt/out: No such file" in got.stdout and b"300000 bytes, sum" in got.stdout, got
    assert (shared / "new").read_text() == "back\n" and (shared / "big").stat().st_size == 300_000
    protected = linux("--share", f"{shared}:host:ro", run=f"{mount};cat /mnt/new;echo no > /mnt/new")
    assert b"back\r\n" in protected.stdout and b"Read-only file system" in protected.stdout and (shared / "new").read_text() == "back\n"


def test_virtio_console_is_a_terminal() -> None:
    got = boot("--timeout", "100", *FILES, "--console", "virtio", "--append", "console=hvc0", stdin=b"uname\npoweroff\n", timeout_s=120)
    assert got.returncode == 0 and b"riscv64\r\n" in got.stdout, got


def test_reboot_starts_firmware_and_kernel_again() -> None:
    command = [sys.executable, "-m", "trapline", "boot", "--timeout", "100", *FILES, "--append", "console=ttyS0 run=reboot"]
    environment = {**os.environ, "PYTHONPATH": str(support.SRC)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen += [word for word in ("OpenSBI v", "init: ready", "Restarting system") if word.encode() in line]
            if len(seen) == 5:
                break
        process.kill()
    assert seen == ["OpenSBI v", "init: ready", "Restarting system", "OpenSBI v", "init: ready"]
