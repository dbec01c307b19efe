"""`same`: run a command natively and under Trapline in equal directories, and compare output, status and what it left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import support

MTIME_NS = 1_700_000_000_000_000_000
FILES = {
    "fruit.txt": "pear\napple\nfig\nbanana\ncherry\napple\n",
    "numbers": "".join(f"{n * 7919 % 101}\n" for n in range(200)),
    "table.csv": "name,size,city\nann,3,Oslo\nbob,12,Rome\ncid,7,Oslo\n",
    "text": "The quick brown fox\njumps over the lazy dog.\n\n  Indented line\twith a tab\nlast line without end",
    "sub/one.c": "int one(void) { return 1; }\n",
    "sub/deep/two.h": "int two(void);\n",
    "sub/empty": "",
    "run.sh": "#!/bin/sh\necho script ran with $# words: $*\n",
}


def populate(where: Path) -> None:
    """The files that every program test starts from, with fixed modes and times."""
    for name, content in FILES.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    (where / "bytes").write_bytes(bytes(range(256)) * 40)
    (where / "link").symlink_to("fruit.txt")
    for path in sorted(where.rglob("*"), reverse=True):
        os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
    os.utime(where, ns=(MTIME_NS, MTIME_NS))


def tree(where: Path) -> dict[str, object]:
    """Names, kinds, modes and contents of all files below a directory."""
    found: dict[str, object] = {}
    for path in sorted(where.rglob("*")):
        name = str(path.relative_to(where))
        mode = path.lstat().st_mode
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_file():
            found[name] = (oct(mode), path.read_bytes())
        else:
            found[name] = (oct(mode),)
    return found


Same = Callable[..., support.Result]


@pytest.fixture
def same(tmp_path: Path, no_process_left: None) -> Same:
    """same(argv or shell text, ...): the result under Trapline, after it was found equal to the native one.

    The sandbox sees its copy of the directory under the native one's path, so that messages with paths are equal too.
    `files=True` compares what both directories hold afterwards; `ignore` names files that may differ.
    """
    tmp_path.chmod(0o755)
    here, there = tmp_path / "work", tmp_path / "copy"

    def compare(
        argv: Sequence[str] | str,
        *,
        stdin: str | bytes = b"",
        files: bool = False,
        ignore: Sequence[str] = (),
        stderr: bool = True,
        options: Sequence[str] = (),
        expect: int | None = None,
        contains: str = "",
        timeout_s: float = support.TIMEOUT_S,
        env: dict[str, str] | None = None,
    ) -> support.Result:
        for each in (here, there):
            if not each.exists():
                each.mkdir()
                populate(each)
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        want = support.native(words, cwd=here, stdin=data, timeout_s=30, env=env)
        assert want.status != -1, want.tail()
        if expect is not None:
            assert want.status == expect, "natively: " + want.tail()
        assert contains in want.text, "natively: " + want.tail()
        got = support.trapline(
            words,
            ["--bind", f"{there}:{here}:rw", "--workdir", str(here), *options],
            cwd="/usr",
            stdin=data,
            timeout_s=timeout_s,
            env=env,
        )
        assert got.status == want.status, f"natively {want.status}, here " + got.tail()
        assert got.stdout == want.stdout, f"natively:\n{want.tail()}\nhere: {got.tail()}"
        if stderr:
            assert got.stderr == want.stderr, f"natively:\n{want.tail()}\nhere: {got.tail()}"
        if files:
            wanted, found = tree(here), tree(there)
            for name in ignore:
                wanted.pop(name, None)
                found.pop(name, None)
            assert found == wanted, "files differ: " + got.tail()
        return got

    return compare
