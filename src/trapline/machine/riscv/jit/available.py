"""Whether the native tiers can be used here. They need llvmlite, which is an extra, and one whose LLVM knows their calls.

Nothing is imported to find out: llvmlite takes longer to import than a small program to run.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.machinery import PathFinder

NEEDED = (0, 46)  #: llvmlite with LLVM 20, the first that has what jit/interpreter.py asks for
_CPU = frozenset(("vendor_id", "cpu family", "model", "stepping", "flags"))  #: lines of /proc/cpuinfo
HOW = "pip install 'llvmlite>=0.46'"
TIERS = ("native", "baseline", "interpreter", "reference")  #: how instructions may be executed; what each but the last may use


def choose(tier: str = "") -> str:
    """The tier to use: the one asked for, or the best there is. Raises ValueError, which says what is wrong."""
    if tier and tier not in TIERS:
        raise ValueError(f"{tier}: write {', '.join(TIERS[:-1])} or {TIERS[-1]}")
    lacking = "" if tier == "reference" else why_not()
    if lacking and tier:
        raise ValueError(f"{tier}: {lacking}")
    return "reference" if lacking else tier or "native"


def why_not() -> str:
    """What keeps the native tiers from being used, and what helps; "" if nothing does."""
    found = version()
    if not found:
        return f"llvmlite is not installed: {HOW}"
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < NEEDED:
        return f"llvmlite {found} is too old: {HOW}"
    return ""


def version() -> str:
    """The version of the llvmlite that an import would find; "" if there is none."""
    if "llvmlite" in sys.modules:
        return str(getattr(sys.modules["llvmlite"], "__version__", ""))
    spec = PathFinder.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return ""
    with suppress(OSError), open(os.path.join(os.path.dirname(spec.origin), "_version.py"), encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition("=")
            if name.strip() == "version_version":
                return value.strip().strip("'\"")
    try:
        import llvmlite
    except ImportError:
        return ""
    return str(llvmlite.__version__)


def identity() -> str:
    """What code depends on besides the text it is compiled from: the compiler's library, and this computer's CPU."""
    spec = PathFinder.find_spec("llvmlite")
    library = os.path.join(os.path.dirname(spec.origin or ""), "binding", "libllvmlite.so") if spec is not None else ""
    with suppress(OSError):
        about = os.stat(library)
        library = f"{library} {about.st_size} {about.st_mtime_ns}"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        first = file.read(8192).partition("\n\n")[0]
    kept = [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU]
    return "\n".join([version(), library, *kept])
