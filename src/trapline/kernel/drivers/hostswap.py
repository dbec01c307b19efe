"""What is swapped to is stored on the host: in a file of its that a program may write, or in one that has no name.

Only the first `pages` pages of the file are ever touched. They hold programs' memory; nothing here looks at them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

from trapline.abi.errno import EIO
from trapline.kernel.drivers.hostfs import errno_of
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE


class HostSwap:
    """A descriptor of its own, open for reading and writing."""

    def __init__(self, fd: int, pages: int, *, stays: bool = False) -> None:
        """`stays`: it is switched on and off, and closed with the kernel."""
        self._fd = fd
        self.pages = pages
        self._stays = stays

    def read(self, page: int, views: Sequence[memoryview]) -> None:
        self._all(os.preadv, page, views)

    def write(self, page: int, views: Sequence[memoryview]) -> None:
        self._all(os.pwritev, page, views)

    def _all(self, transfer: Callable[..., int], page: int, views: Sequence[memoryview]) -> None:
        """Transfer every page; raises the host's errno, or EIO where the file has ended."""
        if not 0 <= page <= self.pages - len(views):
            raise AssertionError(f"{len(views)} pages at {page} of {self.pages}")
        left = list(views)
        at = page << PAGE_SHIFT
        while left:
            try:
                done = transfer(self._fd, left, at)
            except OSError as error:
                raise errno_of(error) from error
            if not done:
                raise EIO("the file that is swapped to has become shorter")
            at += done
            whole, part = done >> PAGE_SHIFT, done & PAGE_SIZE - 1
            left = left[whole:]
            if part:
                left[0] = left[0][part:]

    def close(self) -> None:
        if not self._stays:
            self.end()

    def end(self) -> None:
        """Nobody needs it any more. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def nameless(size: int, directory: str | None) -> HostSwap:
    """`size` bytes in a file without a name, in `directory` (None: where temporary files go). Raises OSError.

    It takes room on the host's disk as pages are put there.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        os.ftruncate(file.fileno(), size)
        return HostSwap(os.dup(file.fileno()), size >> PAGE_SHIFT, stays=True)
