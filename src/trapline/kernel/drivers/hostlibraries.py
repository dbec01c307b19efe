"""What programs of another architecture than the host's find in a root made of the host's trees: its C library.

Debian keeps the libraries of its cross compilers below /usr/ARCH-linux-gnu; programs expect them where a computer of that
architecture has them.
"""

from __future__ import annotations

import os
from trapline.typed import NamedTuple


class Libraries(NamedTuple):
    """Of one architecture: the host's directory, the guest's, the dynamic loader in it, and the package they come in."""

    host: str
    guest: str
    loader: str
    package: str


LIBRARIES = {
    "riscv64": Libraries(
        "/usr/riscv64-linux-gnu/lib", "/lib/riscv64-linux-gnu", "ld-linux-riscv64-lp64d.so.1", "libc6-riscv64-cross"
    )
}


def library_binds(arch: str) -> list[str]:
    """Binds that put the cross libraries in their place; none where the host has them there already, or not at all."""
    libraries = LIBRARIES.get(arch)
    if libraries is None or os.path.exists(f"/lib/{libraries.loader}") or not os.path.isdir(libraries.host):
        return []
    return [f"{libraries.host}/{libraries.loader}:/lib/{libraries.loader}", f"{libraries.host}:{libraries.guest}"]


def library_hint(arch: str, interpreter: bytes) -> str:
    """What to do when a program's `interpreter` is missing; "" when we know nothing of it."""
    libraries = LIBRARIES.get(arch)
    if libraries is None or not interpreter.endswith(libraries.loader.encode()):
        return ""
    if os.path.isdir(libraries.host):
        return f"`--bind {libraries.host}:/lib` shows the host's cross libraries"
    return f"install {libraries.package} and leave out --root, or use a --root of {arch} programs"
