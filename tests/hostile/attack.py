"""What attacks on the line share: their programs, and what may not be seen after one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import support

HERE = Path(__file__).parent
CHECK_H = HERE.parent / "conformance" / "check.h"
Guest = Callable[..., support.Result]


def reachable(path: Path) -> Path:
    """`path`, to which every user of the host may now walk: pytest's own directories admit nobody else."""
    for each in (path, *path.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)
    return path


def unharmed(stderr: bytes) -> bool:
    """Neither the kernel nor what surrounds it stumbled over a bug of its own."""
    return b"kernel panic" not in stderr and b"Traceback" not in stderr


def compiled(name: str, headers: tuple[Path, ...] = ()) -> Path:
    """guest/NAME.c as a program; it sees the path of each of `headers` as NAME_H."""
    source = HERE / "guest" / f"{name}.c"
    flags = source.read_text().split("cc:", 1)[1].split("\n", 1)[0].split()
    defines = [f'-D{each.stem.upper()}_H="{each}"' for each in headers]
    return support.compile_c(source, ["-Wall", "-Wno-unused-result", *flags, *defines], [CHECK_H, *headers])
