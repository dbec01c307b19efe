"""The table of guest/arguments.c, from the declarations of the system calls: for each, its number and the kinds of its arguments."""

from __future__ import annotations

from pathlib import Path

import support
from trapline.abi.syscalls import I386, X86_64
from trapline.kernel.syscalls.declare import SYSCALLS, Parameter, parameters
from trapline.kernel.syscalls.find import declare_all

_KINDS = {
    "ptr": "p", "argv": "p", "buf_in": "p", "buf_out": "p", "struct": "p", "struct_out": "p", "iov_in": "p", "iov_out": "p",
    "path": "s", "str": "s", "fd": "f", "dirfd": "d", "pid": "i", "signal": "g",
}  # fmt: skip


def declared() -> list[str]:
    """The names of all declared calls that x86-64 has, in the table's order."""
    declare_all()
    return sorted(name for name in SYSCALLS if name in X86_64)


def kind(parameter: Parameter) -> str:
    """The letter for an argument: guest/arguments.c says what each means."""
    letter = _KINDS.get(parameter.show.split(":")[0])
    return letter or ("n" if abs(parameter.width) == 64 else "v")


def table() -> Path:
    """The header, written where compiled test programs are kept."""
    lines = []
    for name in declared():
        kinds = "".join(map(kind, parameters(SYSCALLS[name])))
        lines.append(f'{{"{name}", "{kinds}", {X86_64[name]}, {I386.get(name, -1)}}},')
    path = support.build_dir() / "calls.h"
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
