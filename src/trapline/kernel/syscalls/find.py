"""Finding the declaration of a system call, and importing its family only then: a program makes few of some 400 calls.

Which file of this package declares a call is read from the files' text (families.py names them), which takes a tenth of the
time that importing them all takes. Where there is no text (a package without its sources), they are all imported.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module

from trapline.kernel import syscalls
from trapline.kernel.syscalls.declare import REFUSALS, SYSCALLS, Refusal, SystemCall

_DECLARED = re.compile(r'^@syscall\(\s*"(\w+)"', re.MULTILINE)
_REFUSAL = re.compile(r"^refuse\(", re.MULTILINE)
_FAMILY = re.compile(r"^    (\w+),$", re.MULTILINE)
_WORD = re.compile(r'"(\w+)"')


def declaration(name: str) -> SystemCall | Refusal | None:
    """How call `name` is declared; None: not at all."""
    found = SYSCALLS.get(name) or REFUSALS.get(name)
    if found is not None:
        return found
    for family in _families().get(name, ()):
        import_module(f"{syscalls.__name__}.{family}")
    return SYSCALLS.get(name) or REFUSALS.get(name)


@cache
def _families() -> dict[str, list[str]]:
    """Which files may declare a call, by its name."""
    found: dict[str, list[str]] = {}
    families = _text("families")
    if families is None:
        import_module(f"{syscalls.__name__}.families")
        return {}
    for family in _FAMILY.findall(families):
        text = _text(family) or ""
        names = _DECLARED.findall(text)
        if _REFUSAL.search(text):
            names += _WORD.findall(text)
        for name in names:
            found.setdefault(name, []).append(family)
    return found


def _text(module: str) -> str | None:
    spec = syscalls.__spec__
    assert spec is not None and spec.origin is not None
    try:
        data: bytes = spec.loader.get_data(spec.origin.replace("__init__.py", f"{module}.py"))  # type: ignore[union-attr]
    except (AttributeError, OSError):
        return None
    return data.decode()
