"""FdTable: the file descriptors of a process, or of the processes that share them (CLONE_FILES).

Invariants: every slot holds one reference to its file, and is counted in `budget`, which all tables of a kernel share; no
free descriptor is below `_lowest`.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EBADF, EINVAL, EMFILE, ENFILE, ENOMEM
from trapline.abi.fcntl import O_PATH
from trapline.kernel.sync.budget import Budget, Budgets

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File

DEFAULT_LIMIT = 1024
OPEN = Budgets(0.5, 16384)  #: descriptors in all tables of a kernel: /proc/sys/fs/file-max


class FdTable:
    """`limit` is the soft RLIMIT_NOFILE; `users` counts the tasks that share the table."""

    __slots__ = ("_cloexec", "_files", "_lowest", "budget", "limit", "users")

    def __init__(self, limit: int = DEFAULT_LIMIT, budget: Budget | None = None) -> None:
        self._files: dict[int, File] = {}
        self._cloexec: set[int] = set()
        self._lowest = 0
        self.limit = limit
        self.budget = budget if budget is not None else Budget(1 << 62)
        self.users = 1

    def get(self, fd: int) -> File:
        """The open file `fd`; raises EBADF, for one opened with O_PATH too."""
        file = self._files.get(fd)
        if file is None or file.flags & O_PATH:
            raise EBADF
        return file

    def get_any(self, fd: int) -> File:
        """The open file `fd`, O_PATH or not."""
        file = self._files.get(fd)
        if file is None:
            raise EBADF
        return file

    def install(self, file: File, cloexec: bool = False, lowest: int = 0) -> int:
        """Give `file` (whose reference the table takes over) the lowest free descriptor >= `lowest`. EMFILE, ENFILE."""
        files = self._files
        fd = first = lowest if lowest > self._lowest else self._lowest
        while fd in files:
            fd += 1
        if fd >= self.limit:
            raise EMFILE
        if not self.budget.take():
            raise ENFILE
        files[fd] = file
        if first == self._lowest:
            self._lowest = fd + 1
        if cloexec:
            self._cloexec.add(fd)
        return fd

    def reserve(self, lowest: int = 0) -> int:
        """What `install` would give. Raises EMFILE now if it would: so that nothing fails once a call has had effects."""
        fd = max(lowest, self._lowest)
        while fd in self._files:
            fd += 1
        if fd >= self.limit:
            raise EMFILE
        if not self.budget.has():
            raise ENFILE
        return fd

    def install_at(self, fd: int, file: File, cloexec: bool = False) -> None:
        """Make `fd` refer to `file` (whose reference the table takes over); closes what was there.

        Raises EBADF above the limit, ENFILE.
        """
        if not 0 <= fd < self.limit:
            raise EBADF
        if fd in self._files:
            self.close(fd)
        if not self.budget.take():
            raise ENFILE
        self._files[fd] = file
        if cloexec:
            self._cloexec.add(fd)

    def close(self, fd: int) -> None:
        file = self._files.pop(fd, None)
        if file is None:
            raise EBADF
        self.budget.give()
        self._cloexec.discard(fd)
        if fd < self._lowest:
            self._lowest = fd
        self._dropped(file)

    def _dropped(self, file: File) -> None:
        locks = file.inode.locks
        # closing any descriptor of a file drops the process's fcntl(2) locks on it, but for one that only names the place
        if locks is not None and not file.flags & O_PATH:
            locks.on_close(self, file)
        file.put()

    def check_copy(self) -> None:
        """Raises ENOMEM if there may not be as many descriptors more as `fork` makes, which does not ask."""
        if not self.budget.has(len(self._files)):
            raise ENOMEM("too many open files")

    def fork(self) -> FdTable:
        """A copy, as fork(2) makes it."""
        self.budget.force(len(self._files))
        copy = FdTable(self.limit, self.budget)
        copy._files = self._files.copy()
        copy._cloexec = self._cloexec.copy()
        copy._lowest = self._lowest
        for file in copy._files.values():
            file.refs += 1
        return copy

    def share(self) -> FdTable:
        """One more task shares the table."""
        self.users += 1
        return self

    def put(self) -> None:
        """One task less; the last closes everything."""
        self.users -= 1
        if self.users:
            return
        files, self._files, self._lowest = self._files, {}, 0
        self._cloexec.clear()
        self.budget.give(len(files))
        for file in files.values():
            self._dropped(file)

    def close_on_exec(self) -> None:
        for fd in sorted(self._cloexec):
            self.close(fd)

    def get_cloexec(self, fd: int) -> bool:
        self.get_any(fd)
        return fd in self._cloexec

    def set_cloexec(self, fd: int, on: bool) -> None:
        self.get_any(fd)
        if on:
            self._cloexec.add(fd)
        else:
            self._cloexec.discard(fd)

    def fds(self) -> list[int]:
        return sorted(self._files)

    def items(self) -> list[tuple[int, File]]:
        return sorted(self._files.items(), key=_first)

    def close_range(self, first: int, last: int) -> None:
        """Close every descriptor in [first, last]."""
        if first > last:
            raise EINVAL
        for fd in [each for each in self._files if first <= each <= last]:
            self.close(fd)

    def __len__(self) -> int:
        return len(self._files)


def _first(item: tuple[int, File]) -> int:
    return item[0]
