"""Decoder: one system call being shown: its arguments, its result, and the memory they point to."""

from __future__ import annotations

from typing import Any

from trapline.abi.errno import Errno
from trapline.kernel.mm.errors import OutOfMemory
from trapline.scope.structs import OWN, Shape

MAX_STRINGS = 32  #: elements of an array that are shown
PATH_LIMIT = 4095


class Decoder:
    """`result` is None while the call has not returned; `values` are the arguments by parameter name.

    `before`: what lay at some addresses when the call came in.
    """

    __slots__ = ("args", "before", "result", "task", "values")

    def __init__(self, task: Any, values: dict[str, int]) -> None:
        self.task = task
        self.values = values
        self.args = tuple(values.values())
        self.result: int | None = None
        self.before: dict[int, bytes | None] = {}

    @property
    def own(self) -> dict[str, Shape]:
        """The structures that the task's architecture lays out in its own way."""
        return OWN.get(self.task.kernel.machine.arch.name, {})

    @property
    def failed(self) -> bool:
        return self.result is not None and -4096 < self.result < 0

    def read(self, address: int, count: int) -> bytes | None:
        """`count` bytes of user memory, or None where it cannot be read."""
        if count <= 0:
            return b""
        try:
            return bytes(self.task.mm.read(address, count))
        except (Errno, OutOfMemory, AttributeError):  # AttributeError: the task has no memory any more
            return None

    def read_some(self, address: int, count: int) -> bytes | None:
        """Up to `count` bytes: what is readable from `address` on."""
        try:
            return bytes(self.task.mm.read_partial(address, count))
        except (Errno, OutOfMemory, AttributeError):
            return None

    def string(self, address: int, limit: int) -> tuple[bytes, bool] | None:
        """(bytes up to `limit`, whether the string goes on)."""
        data = self.read_some(address, limit + 1)
        if data is None:
            return None
        end = data.find(0)
        return (data[:limit], True) if end < 0 else (data[:end], False)

    def words(self, address: int, limit: int) -> list[int] | None:
        """A NULL-terminated array of pointers, at most `limit` + 1 of them."""
        found: list[int] = []
        while len(found) <= limit:
            data = self.read(address + 8 * len(found), 8)
            if data is None:
                return found or None
            word = int.from_bytes(data, "little")
            if not word:
                break
            found.append(word)
        return found
