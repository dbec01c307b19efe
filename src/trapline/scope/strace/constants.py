"""How constants are written: by name, as numbers, or as numbers with their names behind: strace(1), -X.

Renderers are plain functions of values, called one at a time: which way is wanted stands here while one runs (`printed`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ABBREV, RAW, VERBOSE = "abbrev", "raw", "verbose"
STYLES = (ABBREV, RAW, VERBOSE)


class _Wanted:
    how = ABBREV


def wanted() -> str:
    """One of STYLES."""
    return _Wanted.how


def printed(how: str, render: Callable[..., Any]) -> Callable[..., Any]:
    """`render`, with constants written so."""
    if how == ABBREV:
        return render

    def styled(*args: Any) -> Any:
        _Wanted.how = how
        try:
            return render(*args)
        finally:
            _Wanted.how = ABBREV

    return styled


def constant(number: str, name: Callable[[], str]) -> str:
    """A constant: `number` is how it is written without its name, `name()` how it is with nothing else."""
    how = _Wanted.how
    if how == ABBREV:
        return name()
    if how == RAW:
        return number
    _Wanted.how = ABBREV
    try:
        text = name()
    finally:
        _Wanted.how = how
    return number if text == number or text.endswith("??? */") else f"{number} /* {text} */"


def hexadecimal(value: int) -> str:
    """A number as constants are: 0, 0x1, -0x1."""
    return f"{value:#x}" if value else "0"
