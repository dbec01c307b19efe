"""`same`: run a command natively and under Trapline in equal directories, and compare output, status and what it left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from side_by_side import Same, populate, tree

import support


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
