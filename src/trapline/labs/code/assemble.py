"""Code: machine code that grows, with labels; what both architectures' assemblers have in common.

An instruction that names a label may come before it: a `Fix` says how its bytes follow from the two addresses, and `link` asks.
"""

from __future__ import annotations

from collections.abc import Callable

Fix = Callable[[int, int], bytes]  #: (address of the instruction, address of the label) -> its bytes


class Code:
    """Code that will be at `base`."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.data = bytearray()
        self.labels: dict[str, int] = {}
        self._fixes: list[tuple[int, str, Fix]] = []

    @property
    def here(self) -> int:
        """The address of what comes next."""
        return self.base + len(self.data)

    def label(self, name: str) -> None:
        """`name` is here. Raises ValueError if it is somewhere already."""
        if name in self.labels:
            raise ValueError(f"label {name!r} is defined twice")
        self.labels[name] = self.here

    def raw(self, data: bytes) -> None:
        self.data += data

    def at_label(self, name: str, size: int, fix: Fix) -> None:
        """An instruction of `size` bytes that needs to know where `name` is."""
        self._fixes.append((len(self.data), name, fix))
        self.data += bytes(size)

    def link(self) -> bytes:
        """All of it. Raises KeyError for a label that is nowhere."""
        for at, name, fix in self._fixes:
            data = fix(self.base + at, self.labels[name])
            self.data[at : at + len(data)] = data
        self._fixes.clear()
        return bytes(self.data)
