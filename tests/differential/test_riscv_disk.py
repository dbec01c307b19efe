"""A bare-metal driver for a virtio disk (riscv/disk.c) on the board and on QEMU's `virt`: the same lines, the same disk afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_riscv_boot import CC, HERE, TIERS, boot, build

import support

pytestmark = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))
DISK_BYTES = 256 << 10


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    return build(tmp_path, HERE / "disk.S", HERE / "disk.c")


def disk(path: Path) -> Path:
    path.write_bytes(bytes(range(100, 200)) * (DISK_BYTES // 100) + bytes(DISK_BYTES % 100))
    return path


@pytest.mark.parametrize("tier", TIERS)
def test_driver_finds_everything_as_it_should_be(tmp_path: Path, driver: Path, tier: str) -> None:
    image = disk(tmp_path / "disk")
    got = boot("--tier", tier, "--timeout", "50", "--drive", str(image), str(driver))
    assert got.returncode == 0 and b"FAIL" not in got.stdout and got.stdout.count(b"ok ") == 17, got
    assert image.read_bytes()[10 * 512 :][:1024] == bytes((n * 13 + n // 512) & 255 for n in range(1024))


@pytest.mark.skipif(bool(support.have("qemu-system-riscv64")), reason="not installed: qemu-system-misc")
def test_qemu_gives_the_same_lines_and_disk(tmp_path: Path, driver: Path) -> None:
    mine, theirs = disk(tmp_path / "mine"), disk(tmp_path / "theirs")
    ours = boot("--timeout", "50", "--drive", str(mine), str(driver))
    words = ["-machine", "virt", "-bios", "none", "-nographic", "-global", "virtio-mmio.force-legacy=false"]
    drive = ["-drive", f"if=none,id=d,format=raw,discard=unmap,detect-zeroes=off,file={theirs}"]
    command = ["qemu-system-riscv64", *words, *drive, "-device", "virtio-blk-device,drive=d,serial=drive0", "-kernel", str(driver)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.stdout.replace(b"\r", b"") == ours.stdout, (done, ours)
    assert mine.read_bytes() == theirs.read_bytes()


def test_overlay_keeps_the_disk_as_it_was(tmp_path: Path, driver: Path) -> None:
    image, overlay = disk(tmp_path / "disk"), tmp_path / "overlay"
    before = image.read_bytes()
    plain = disk(tmp_path / "plain")
    image.chmod(0o444)
    expected = boot("--timeout", "50", "--drive", str(plain), str(driver))
    for _ in range(2):  # the second time over what the first one left
        got = boot("--timeout", "50", "--drive", f"{image},overlay={overlay}", str(driver))
        assert (got.returncode, got.stdout) == (0, expected.stdout), got
    assert image.read_bytes() == before and plain.read_bytes() != before
    assert overlay.stat().st_size > 4096


def test_read_only_disk_refuses_writes(tmp_path: Path, driver: Path) -> None:
    image = disk(tmp_path / "disk")
    before = image.read_bytes()
    got = boot("--timeout", "50", "--drive", f"{image},ro", str(driver))
    assert got.returncode == 1 and b"FAIL it starts" in got.stdout, got
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/no/such/disk", "No such file"), ("{disk},rw", "write --drive FILE"), ("{disk},ro,overlay={other}", "exclude each other"),
        ("{odd}", "no multiple of 512"), ("{disk},overlay={disk}", "another machine"), ("{disk},overlay={odd}", "not an overlay"),
    ],
)  # fmt: skip
def test_wrong_drives(tmp_path: Path, given: str, said: str) -> None:
    image, odd = disk(tmp_path / "disk"), tmp_path / "odd"
    odd.write_bytes(b"x" * 5000)
    got = boot("--drive", given.format(disk=image, odd=odd, other=tmp_path / "other"), "--dump-dtb", "/dev/null")
    assert got.returncode == 125 and said in got.stderr.decode(), got


@pytest.mark.parametrize("overlaid", [False, True])
def test_going_back_takes_the_disk_along(tmp_path: Path, driver: Path, overlaid: bool) -> None:
    """History with a disk that is written to: each place has the disk that belongs to it, and what follows is as it was."""
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.devices.overlay import Overlay
    from trapline.machine.riscv.devices.storage import Memory
    from trapline.machine.riscv.devices.undo import Undo
    from trapline.machine.riscv.devices.virtio.block import Block
    from trapline.machine.riscv.firmware import parse
    from trapline.machine.riscv.harts import HALTED
    from trapline.machine.riscv.timeline import Timeline

    out = bytearray()
    muted: list[bool] = [False]
    image = disk(tmp_path / "disk").read_bytes()
    below = Memory(image)
    top = Memory(bytes(1 << 20))
    top.size = 0
    undo = Undo(Overlay(below, top) if overlaid else below)
    board = Board(128 << 20, send=lambda data: None if muted[0] else out.extend(data), native=False)
    try:
        board.add(Block(undo, "drive0"))
        board.load(parse(driver.read_bytes()))
        timeline = Timeline(board, board.uart, lambda on: muted.__setitem__(0, on), [undo])

        def contents() -> bytes:
            data = bytearray(undo.size)
            undo.read_into(0, memoryview(data))
            return bytes(data)

        seen = []
        while timeline.run(30_000) != HALTED:
            timeline.mark()
            seen.append((timeline.harts.position(), contents()))
        end = contents()
        assert board.harts.halt is not None and board.harts.halt.status == 0
        assert len({data for _, data in seen}) > 2 and end != image
        for position, data in seen[::-3]:
            timeline.back_to(position)
            assert contents() == data
        timeline.forward()
        assert contents() == end and b"FAIL" not in out and out.count(b"ok ") == 17
    finally:
        board.close()


def test_ninth_device_is_refused(tmp_path: Path) -> None:
    drives = [word for n in range(9) for word in ("--drive", str(disk(tmp_path / f"disk{n}")))]
    got = boot(*drives, "--dump-dtb", "/dev/null")
    assert got.returncode == 125 and "8 slots" in got.stderr.decode(), got
