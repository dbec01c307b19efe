"""Disks in checkpoints: a machine that goes on from one finds on its disks what was there, wherever they are now; what nobody has
kept is not written over, and hostile or damaged files are refused before anything is written.

The guest is the bare-metal driver (riscv/disk.c), which reads back all that it writes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_riscv_boot import CC, HERE, boot, build

import support
from trapline.cli import kept_disks
from trapline.cli.checkpoints import restore_disks, save
from trapline.cli.disks import Disk, drive
from trapline.cli.options import UsageError
from trapline.machine.riscv.checkpoint import Checkpoint

BLOCK = 4096
SIZE = 70 * BLOCK + 512  # the last block is not whole
needs_compiler = pytest.mark.skipif(bool(support.have(CC)), reason=str(support.have(CC)))


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    return build(tmp_path, HERE / "disk.S", HERE / "disk.c")


def image(path: Path) -> Path:
    path.write_bytes(bytes(range(100, 200)) * 2600 + bytes((256 << 10) - 260_000))
    return path


def words(at: Path, *more: str) -> tuple[str, ...]:
    return "--timeout", "50", "--drive", str(at), *more


# ---- the command line, with a guest


@needs_compiler
@pytest.mark.parametrize("how", ["in place", "overlay"])
def test_a_machine_goes_on_with_the_disk_that_it_had(tmp_path: Path, driver: Path, how: str) -> None:
    """Again and again, on new files or over the old one: the same lines, and the same disk at the end."""
    base, kept = image(tmp_path / "base"), tmp_path / "kept"
    before = base.read_bytes()
    given = f"{base},overlay={tmp_path / 'top'}" if how == "overlay" else str(base)
    saved = boot("--timeout", "50", "--drive", given, "--save", str(kept), "--save-at", "30000", str(driver))
    assert saved.returncode == 0 and saved.stderr == b"" and kept.stat().st_mode & 0o777 == 0o600, saved
    assert 0 < saved.stdout.count(b"ok ") < 17
    first = boot("--timeout", "50", "--drive", given, "--restore", str(kept))
    assert first.returncode == 0 and first.stderr == b"" and (saved.stdout + first.stdout).count(b"ok ") == 17, first
    after = base.read_bytes()

    refused = boot("--timeout", "50", "--drive", given, "--restore", str(kept))
    assert refused.returncode == 125 and b"written to since" in refused.stderr and b"--rewind-disks" in refused.stderr, refused
    assert refused.stdout == b"" and base.read_bytes() == after
    for again in ((given, "--rewind-disks"), (f"{base},overlay={tmp_path / 'new'}",), (f"{base},overlay",)):
        found = boot("--timeout", "50", "--drive", again[0], "--restore", str(kept), *again[1:])
        assert (found.returncode, found.stdout, found.stderr) == (0, first.stdout, b""), (again, found)
    assert base.read_bytes() == after and (how == "in place" or after == before)


@needs_compiler
def test_an_image_that_is_another_one_is_refused(tmp_path: Path, driver: Path) -> None:
    base, kept, moved = image(tmp_path / "base"), tmp_path / "kept", tmp_path / "moved"
    saved = boot(*words(base), "--drive", f"{image(tmp_path / 'ro')},ro", "--save", str(kept), "--save-at", "100", str(driver))
    assert saved.returncode == 0, saved
    shutil.copy(tmp_path / "ro", moved)  # another name and time: it is what it holds that counts
    os.utime(moved, ns=(0, 0))
    assert boot(*words(base), "--drive", f"{moved},ro", "--restore", str(kept)).returncode == 0
    moved.write_bytes(moved.read_bytes()[:-1] + b"\1")
    for drives, said in (
        ((f"{base},overlay", f"{moved},ro"), "not what it was"), ((f"{base},overlay", str(moved)), "was read only"),
        ((f"{base},ro", f"{tmp_path / 'ro'},ro"), "was written to"), ((f"{tmp_path / 'ro'},ro", f"{base},overlay"), "give it as it was"),
        ((f"{base},overlay",), "other devices"),
    ):  # fmt: skip
        given = [word for each in drives for word in ("--drive", each)]
        refused = boot("--timeout", "50", *given, "--restore", str(kept))
        assert refused.returncode == 125 and said in refused.stderr.decode(), (drives, refused)


@needs_compiler
def test_nowhere_to_save_to(tmp_path: Path, driver: Path) -> None:
    got = boot("--save", "/no/such/place", "--save-at", "100", str(driver))
    assert got.returncode == 125 and b"--save /no/such/place: no checkpoint" in got.stderr and b"No such file" in got.stderr, got
    alone = boot("--rewind-disks", str(driver))
    assert alone.returncode == 125 and b"--restore" in alone.stderr, alone


# ---- without a guest


@contextmanager
def opened(*given: str) -> Iterator[list[Disk]]:
    with ExitStack() as stack:
        disks = [drive(each) for each in given]
        for each in disks:
            stack.callback(each.storage.close)
        yield disks


def contents(disk: Disk) -> bytes:
    data = bytearray(disk.storage.size)
    disk.storage.read_into(0, memoryview(data))
    return bytes(data)


def scribble(rng: random.Random, disk: Disk) -> None:
    for _ in range(rng.randrange(1, 12)):
        offset = rng.randrange(disk.storage.size // 512) * 512
        length = min(512 * rng.choice((1, 3, 8, 9, 40)), disk.storage.size - offset)
        if rng.random() < 0.3:
            disk.storage.zero(offset, length)
        else:
            disk.storage.write_from(offset, memoryview(rng.randbytes(length)))


def sparse(path: Path, rng: random.Random) -> Path:
    with path.open("wb") as file:
        file.truncate(SIZE)
        for block in rng.sample(range(70), 20):
            file.seek(block * BLOCK)
            file.write(rng.randbytes(BLOCK))
    return path


def board_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("state.json"))["board"]  # type: ignore[no-any-return]


def keep(path: Path, disks: list[Disk]) -> None:
    save(str(path), Checkpoint({"memory": 1 << 20}, {}, []), disks)


def bring_back(path: Path, disks: list[Disk], *, over: bool = False) -> None:
    restore_disks(str(path), Checkpoint(board_of(path), {}, []), disks, over=over)


@pytest.mark.parametrize("seed", range(8))
def test_every_block_comes_back(tmp_path: Path, seed: int) -> None:
    """Disks of both kinds after any writes, zeros and holes among them, restored over any other state and to new files."""
    rng = random.Random(seed)
    raw, base = sparse(tmp_path / "raw", rng), sparse(tmp_path / "base", rng)
    given = [str(raw), f"{base},overlay={tmp_path / 'top'}"]
    with opened(*given) as disks:
        for disk in disks:
            scribble(rng, disk)
        keep(tmp_path / "kept", disks)
        held = [contents(disk) for disk in disks]
        for disk in disks:
            scribble(rng, disk)
        with pytest.raises(UsageError, match="written to since"):
            bring_back(tmp_path / "kept", disks)
        bring_back(tmp_path / "kept", disks, over=True)
        assert [contents(disk) for disk in disks] == held
    with opened(*given) as disks:  # it is in the files
        assert [contents(disk) for disk in disks] == held
    (tmp_path / "elsewhere").write_bytes(rng.randbytes(SIZE))
    below = base.read_bytes()
    with opened(f"{tmp_path / 'elsewhere'},overlay={tmp_path / 'new1'}", f"{base},overlay={tmp_path / 'new2'}") as disks:
        bring_back(tmp_path / "kept", disks)
        assert [contents(disk) for disk in disks] == held
    assert base.read_bytes() == below


def test_holes_cost_nothing(tmp_path: Path) -> None:
    """A disk of 64 GiB with little on it: a small checkpoint, and a sparse file afterwards."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 << 30)
        file.seek(40 << 30)
        file.write(b"here")
    with opened(str(big)) as disks:
        keep(tmp_path / "kept", disks)
        disks[0].storage.write_from(50 << 30, memoryview(b"there" * 1000))
        bring_back(tmp_path / "kept", disks, over=True)
        view = memoryview(bytearray(5000))
        disks[0].storage.read_into(50 << 30, view)
        assert not any(view)
        disks[0].storage.read_into(40 << 30, view)
        assert bytes(view[:5]) == b"here\0"
    assert (tmp_path / "kept").stat().st_size < 100_000 and big.stat().st_blocks * 512 < 1 << 20


def test_a_change_right_after_saving_is_noticed(tmp_path: Path) -> None:
    """However coarse the times of files are."""
    for n in range(5):
        raw = tmp_path / f"raw{n}"
        raw.write_bytes(bytes(SIZE // 512 * 512))
        with opened(str(raw)) as disks:
            disks[0].storage.write_from(0, memoryview(b"a" * 512))
            keep(tmp_path / f"kept{n}", disks)
            disks[0].storage.write_from(0, memoryview(b"b" * 512))
            with pytest.raises(UsageError, match="written to since"):
                bring_back(tmp_path / f"kept{n}", disks)


def test_too_much_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_disks, "MOST_KEPT", 5 * BLOCK)
    raw = sparse(tmp_path / "raw", random.Random(1))
    with opened(str(raw)) as disks, pytest.raises(OSError, match="use an overlay"):
        keep(tmp_path / "kept", disks)
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("kept")]


# ---- hostile files


def test_damage_is_found_before_anything_is_written(tmp_path: Path) -> None:
    rng = random.Random(5)
    raw, path, bad = sparse(tmp_path / "raw", rng), tmp_path / "kept", tmp_path / "bad"
    with opened(str(raw)) as disks:
        keep(path, disks)
    board, data = board_of(path), path.read_bytes()
    raw.write_bytes(rng.randbytes(SIZE))
    now, refused = raw.read_bytes(), 0
    for _ in range(80):
        wrong = bytearray(data)
        if rng.random() < 0.3:
            del wrong[rng.randrange(len(wrong)) :]
        for _ in range(rng.randrange(1, 4)):
            wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        bad.write_bytes(wrong)
        with opened(str(raw)) as disks:
            try:
                restore_disks(str(bad), Checkpoint(board, {}, []), disks, over=True)
            except UsageError as error:
                assert str(error).startswith("--restore ")
                refused += 1
                assert raw.read_bytes() == now
            else:
                raw.write_bytes(now)
    assert refused > 50


def test_lies_about_disks(tmp_path: Path) -> None:
    raw, path = sparse(tmp_path / "raw", random.Random(6)), tmp_path / "lies"
    now = raw.read_bytes()
    good = {"kind": "whole", "size": SIZE, "runs": [[0, 1, 1]], "written": [1, 1]}
    for change, said in (
        ({"kind": "x"}, "no sense"), ({"kind": "changes"}, "with an overlay"), ({"kind": "fixed"}, "read only"), ({"size": 1}, "bytes"),
        ({"runs": 5}, "missing"), ({"runs": [[0, 1]]}, "no numbers"), ({"runs": [[0, 1.0, 1]]}, "no numbers"), ({"runs": [[0, 2, 1]]}, "cut off"),
        ({"runs": [[0, 1, 0]]}, "longer"), ({"runs": []}, "longer"), ({"runs": [[71, 1, 1]]}, "outside"), ({"runs": [[0, 1 << 60, 1]]}, "outside"),
        ({"runs": [[-1, 1, 1]]}, "out of order"), ({"runs": [[0, 0, 1]]}, "out of order"), ({"runs": [[3, 1, 0], [2, 1, 1]]}, "out of order"),
    ):  # fmt: skip
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("state.json", json.dumps({"board": {"disks": [{**good, **change}]}}))
            archive.writestr("disk0", bytes(range(256)) * 16)
        with opened(str(raw)) as disks, pytest.raises(UsageError, match=said):
            bring_back(path, disks, over=True)
        assert raw.read_bytes() == now, change
    for states in (None, [], [good, good], [5], {"0": good}):
        with opened(str(raw)) as disks, pytest.raises(UsageError):
            restore_disks(str(path), Checkpoint({"disks": states}, {}, []), disks, over=True)


@needs_compiler
def test_flash_is_kept_too(tmp_path: Path, driver: Path) -> None:
    bank, kept = tmp_path / "bank", tmp_path / "kept"
    with bank.open("wb") as file:
        file.write(b"firmware")
        file.truncate(32 << 20)
    given = ("--timeout", "50", "--drive", f"{image(tmp_path / 'disk')},overlay", "--flash", str(bank))
    assert boot(*given, "--save", str(kept), "--save-at", "1000", str(driver)).returncode == 0
    assert kept.stat().st_size < 1 << 20
    bank.write_bytes(b"another!" + bytes((32 << 20) - 8))
    refused = boot(*given, "--restore", str(kept))
    assert b"bank has been written to since" in refused.stderr, refused
    assert boot(*given, "--restore", str(kept), "--rewind-disks").returncode == 0
    assert bank.read_bytes()[:8] == b"firmware"
