"""The directory that a program test starts from, and what is in it afterwards; the type of the fixture `same` for annotations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import support

Same = Callable[..., support.Result]
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
