"""Decoder: one system call being shown: its arguments, its result, and the memory they point to."""

from __future__ import annotations

from typing import Any

from trapline.abi.errno import Errno
from trapline.kernel.mm.errors import OutOfMemory
from trapline.scope.strace.files import description, working_directory
from trapline.scope.strace.structs import OWN, Shape
from trapline.scope.strace.style import PLAIN, Style
from trapline.scope.strace.text import quote
from trapline.scope.strace.whole import WHOLE
from trapline.scope.watched import observe

MAX_STRINGS = 32  #: elements of an array that are shown
PATH_LIMIT = 4095


class Decoder:
    """`result` is None while the call has not returned; `values` are the arguments by parameter name.

    `before`: what lay at some addresses when the call came in.
    """

    __slots__ = ("args", "before", "result", "style", "task", "values")

    def __init__(self, task: Any, values: dict[str, int], style: Style = PLAIN) -> None:
        self.task = task
        self.style = style
        self.values = values
        self.args = tuple(values.values())
        self.result: int | None = None
        self.before: dict[int, bytes | None] = {}

    def shape(self, name: str, usual: Shape) -> Shape:
        """The structure `name` as the architecture lays it out and the style wants it; `usual` where they have no say."""
        arch = self.task.kernel.machine.arch.name
        if self.style.whole:
            return WHOLE.get(arch, {}).get(name) or OWN.get(arch, {}).get(name, usual)
        return OWN.get(arch, {}).get(name, usual)

    def quote(self, data: bytes, limit: int = -1, *, more: bool = False) -> str:
        """Bytes as a string, at most `limit` of them (default: as the style says)."""
        return quote(data, self.style.limit if limit < 0 else limit, more=more, escape=self.style.escape)

    def descriptor(self, fd: int) -> str:
        """The number, and, if the style wants it, what is open there."""
        return str(fd) + description(self.task, fd, self.style) if self.style.paths else str(fd)

    def here(self) -> str:
        """What follows AT_FDCWD."""
        return working_directory(self.task, self.style) if self.style.paths else ""

    @property
    def failed(self) -> bool:
        return self.result is not None and -4096 < self.result < 0

    def read(self, address: int, count: int) -> bytes | None:
        """`count` bytes of user memory, or None where it cannot be read."""
        if self.style.pointers:
            return None
        if count <= 0:
            return b""
        try:
            return bytes(observe(self.task.mm, self.task.mm.read, address, count))
        except (Errno, OutOfMemory, AttributeError):  # AttributeError: the task has no memory any more
            return None

    def read_some(self, address: int, count: int) -> bytes | None:
        """Up to `count` bytes: what is readable from `address` on."""
        try:
            return bytes(observe(self.task.mm, self.task.mm.read_partial, address, count))
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
