"""Whether the native tiers can be used here. They need llvmlite, which is an extra, and one whose LLVM knows their calls."""

from __future__ import annotations

NEEDED = (0, 46)  #: llvmlite with LLVM 20, the first that has what jit/interpreter.py asks for
HOW = "pip install 'llvmlite>=0.46'"


def why_not() -> str:
    """What keeps the native tiers from being used, and what helps; "" if nothing does."""
    try:
        import llvmlite
    except ImportError:
        return f"llvmlite is not installed: {HOW}"
    version: str = llvmlite.__version__
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < NEEDED:
        return f"llvmlite {version} is too old: {HOW}"
    return ""
