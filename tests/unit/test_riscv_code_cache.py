"""Compiled code between two runs: what is kept, what is refused, and what it takes to start from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trapline.machine.riscv.jit import cache as module
from trapline.machine.riscv.jit.cache import Cache, default_directory
from trapline.machine.riscv.jit.memory import ALIGN, CodeMemory
from trapline.machine.riscv.jit.objects import Image, unpack

KEY = "0" * 64


def kept(where: Path, data: bytes = b"code") -> Path:
    Cache(str(where)).keep(KEY, data)
    return where / KEY


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    kept(tmp_path / "new")
    cache = Cache(str(tmp_path / "new"))
    assert cache.get(KEY) == b"code" and cache.get("1" * 64) is None
    assert (cache.hits, cache.misses) == (1, 1)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700 and os.listdir(tmp_path / "new") == [KEY]


@pytest.mark.parametrize("position", [0, 20, -1])
def test_damage_shows(tmp_path: Path, position: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert Cache(str(tmp_path)).get(KEY) is None
    assert "damaged" in capsys.readouterr().err


def test_a_file_cut_off_is_damaged(tmp_path: Path) -> None:
    path = kept(tmp_path)
    for length in range(len(path.read_bytes())):
        os.truncate(kept(tmp_path), length)
        assert Cache(str(tmp_path)).get(KEY) is None


def test_files_that_others_could_have_written_are_not_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path)
    path.chmod(0o620)
    assert Cache(str(tmp_path)).get(KEY) is None
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert Cache(str(tmp_path)).get(KEY) is None
    assert "by others" in capsys.readouterr().err


def test_a_directory_of_others_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path)
    tmp_path.chmod(0o777)
    cache = Cache(str(tmp_path))
    cache.keep("1" * 64, b"more")
    assert cache.get(KEY) is None and os.listdir(tmp_path) == [path.name]
    assert "not kept there" in capsys.readouterr().err


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), max_bytes=10_000)
    for n in range(20):
        key = f"{n:064}"
        cache.keep(key, bytes(1000))
        os.utime(tmp_path / key, (n, n))
    names = sorted(os.listdir(tmp_path))
    assert sum((tmp_path / each).stat().st_size for each in names) <= 11_100
    assert names[-1] == f"{19:064}" and f"{0:064}" not in names


def test_the_environment_chooses_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAPLINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_directory() == "/x/trapline"
    monkeypatch.setenv("TRAPLINE_CACHE", "/y")
    assert default_directory() == "/y"
    for off in ("off", "0", ""):
        monkeypatch.setenv("TRAPLINE_CACHE", off)
        assert default_directory() is None
    assert Cache(None).get(KEY) is None


def test_no_cache_that_can_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(str(tmp_path / "file" / "below"))
    cache.keep(KEY, b"code")
    assert cache.get(KEY) is None


def test_an_image_keeps_its_symbols() -> None:
    image = Image(b"\x90\n\n\xc3" * 10, {"run": 0, "op_1": 12})
    assert unpack(image.pack()) == image
    for bad in (b"", b"run 0", b"run 9\n\n\x90", b"run\n\n\x90", b"run -1\n\n\x90"):
        with pytest.raises(ValueError):
            unpack(bad)


def test_constants_of_code_are_aligned_for_vector_instructions() -> None:
    """A region's constants of 32 bytes, at a multiple of 32 in its image, are at one in memory too, whatever lies before it."""
    memory = CodeMemory(1 << 16)
    for length in (1, 16, 48, 100):
        assert (memory.put(bytes(length)) or 0) % ALIGN == 0 and ALIGN % 64 == 0


def test_no_address_is_writable_and_executable() -> None:
    memory = CodeMemory(1 << 16)
    address = memory.put(b"\xc3")
    assert address == memory.start
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, *_ = line.split()
        start, end = (int(each, 16) for each in span.split("-"))
        found.update({name: rights for name, at in (("x", memory.start), ("w", memory.writable)) if start <= at < end})
    assert found == {"x": "r-xs", "w": "rw-s"}
    assert memory.put(bytes(1 << 16)) is None, "it is full"


def test_a_start_with_the_interpreter_cached_starts_no_compiler(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    program = (
        "import sys; from trapline.machine.ram import Ram; from trapline.machine.riscv.jit.tiers import Tiers; "
        "tiers = Tiers(Ram(2 << 20)); print(tiers._compiler.worker.running, 'llvmlite' in sys.modules); tiers.close()"
    )
    environment = {**os.environ, "TRAPLINE_CACHE": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True False", "False False"]
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < module.MAX_BYTES


def test_doctor_prepares_what_a_first_start_would_compile(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    environment = {**os.environ, "TRAPLINE_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "trapline", "doctor", "--prepare"], env=environment, capture_output=True, check=False)
    assert b"native code" in done.stdout and len(list(tmp_path.iterdir())) == 2
    program = (
        "from trapline.machine.ram import Ram; from trapline.machine.riscv.jit.tiers import Tiers; "
        "tiers = Tiers(Ram(2 << 20)); print(tiers._compiler.worker.running); tiers.close()"
    )
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout
    assert said == "False\n"
