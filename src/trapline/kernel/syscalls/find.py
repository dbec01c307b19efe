"""Finding the declaration of a system call, and importing its family only then: a program makes few of some 400 calls.

Which file of this package declares a call is in index.py, which tools/syscall_index.py writes from the declarations.
"""

from __future__ import annotations

from importlib import import_module

from trapline.kernel import syscalls
from trapline.kernel.syscalls.declare import REFUSALS, SYSCALLS, Refusal, SystemCall
from trapline.kernel.syscalls.index import FAMILIES, FAMILY


def declaration(name: str) -> SystemCall | Refusal | None:
    """How call `name` is declared; None: not at all."""
    found = SYSCALLS.get(name) or REFUSALS.get(name)
    if found is None and name in FAMILY:
        _import(FAMILY[name])
        found = SYSCALLS.get(name) or REFUSALS.get(name)
    return found


def declare_all() -> None:
    """Import every family, for whoever wants to see all of SYSCALLS and REFUSALS."""
    for family in FAMILIES:
        _import(family)


def _import(family: str) -> None:
    import_module(f"{syscalls.__name__}.{family}")


def status(name: str) -> tuple[str, str]:
    """(what becomes of call `name`: supported, partial, refused or missing; why, or how it fails)."""
    found = declaration(name)
    if isinstance(found, SystemCall):
        return ("partial", found.partial) if found.partial else ("supported", "")
    if found is not None:
        return "refused", f"{found.error.name}: {found.why}"
    return "missing", "ENOSYS"
