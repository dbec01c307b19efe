"""The table of system calls for the page: what the kernel makes of each, from the declarations, as docs/coverage.md has it."""

from __future__ import annotations

from typing import Any

from trapline.abi.syscalls import RISCV64, X86_64
from trapline.kernel.syscalls.declare import SystemCall
from trapline.kernel.syscalls.find import declaration, status


def table() -> list[dict[str, Any]]:
    """A row for each call of either architecture, by name; "x86_64", "riscv64": its number there, or None."""
    rows = []
    for name in sorted(X86_64.keys() | RISCV64.keys()):
        kind, notes = status(name)
        call = declaration(name)
        rows.append(
            {"name": name, "status": kind, "notes": notes, "family": call.family if isinstance(call, SystemCall) else "",
             "x86_64": X86_64.get(name), "riscv64": RISCV64.get(name)}
        )  # fmt: skip
    return rows
