"""Trapline: a Linux-compatible kernel in Python, which runs unmodified programs in hardware user mode.

`run`, `Popen` and their exceptions follow `subprocess`; `Kernel` is for those who embed a kernel and look inside.
They are loaded when first used, so that `import trapline` costs nothing.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.api import (
        DEVNULL,
        PIPE,
        STDOUT,
        CalledProcessError,
        CompletedProcess,
        Kernel,
        Popen,
        SubprocessError,
        TimeoutExpired,
        call,
        check_call,
        check_output,
        run,
    )

__version__ = "0.1.0"
__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Kernel",
    "Popen",
    "SubprocessError",
    "TimeoutExpired",
    "__version__",
    "call",
    "check_call",
    "check_output",
    "run",
]


def load_ipython_extension(shell: object) -> None:
    """`%load_ext trapline`: the cell magic `%%trapline`."""
    from trapline.cli.notebook import load

    load(shell)


def __getattr__(name: str) -> object:
    if name in __all__:
        from trapline import api

        return getattr(api, name)
    raise AttributeError(f"module 'trapline' has no attribute {name!r}")
