"""UserBuffer: the places in user memory that one transfer reads from or writes to, with a cursor.

A single buffer and an iovec look the same from here. A copy that meets a bad address stops there: the caller sees fewer bytes
than it asked for, and reports EFAULT only if nothing was transferred at all.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.errno import EFAULT
from trapline.abi.rw import MAX_RW_COUNT


class UserBuffer:
    """`left` bytes are still to be transferred, at most MAX_RW_COUNT in all."""

    __slots__ = ("_base", "_index", "_mm", "_parts", "_size", "left")

    def __init__(self, mm: Any, parts: list[tuple[int, int]]) -> None:
        self._mm = mm
        self._parts = parts
        self._index = 0
        self._base, self._size = parts[0] if parts else (0, 0)
        self.left = min(sum([size for _, size in parts]), MAX_RW_COUNT)

    def _next(self) -> None:
        while not self._size and self._index + 1 < len(self._parts):
            self._index += 1
            self._base, self._size = self._parts[self._index]

    def _advance(self, count: int) -> None:
        self._base += count
        self._size -= count
        self.left -= count

    def put(self, data: bytes) -> int:
        """Copy to user memory; how many bytes it took."""
        done = 0
        while done < len(data):
            if not self._size:
                self._next()
            part = data[done : done + self._size] if done or len(data) > self._size else data
            if not part:
                break
            try:
                count = self._mm.write_partial(self._base, part)
            except EFAULT:
                break
            self._advance(count)
            done += count
            if count < len(part):
                break
        return done

    def take(self, count: int) -> bytes:
        """Up to `count` bytes from user memory; fewer at a bad address or at the end."""
        parts = []
        count = min(count, self.left)
        while count:
            if not self._size:
                self._next()
            want = min(count, self._size)
            try:
                data = self._mm.read_partial(self._base, want)
            except EFAULT:
                break
            parts.append(data)
            count -= len(data)
            self._advance(len(data))
            if len(data) < want:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)


def one(mm: Any, address: int, count: int) -> UserBuffer:
    return UserBuffer(mm, [(address, count)])


def many(mm: Any, address: int, count: int) -> UserBuffer:
    """From an array of struct iovec. EINVAL, EFAULT."""
    return UserBuffer(mm, mm.read_iovec(address, count))
