"""FsContext: where a process is in the tree, and its umask; shared by CLONE_FS."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path


class FsContext:
    __slots__ = ("cwd", "root", "umask", "users")

    def __init__(self, root: Path, cwd: Path, umask: int = 0o022) -> None:
        self.root = root
        self.cwd = cwd
        self.umask = umask
        self.users = 1

    def fork(self) -> FsContext:
        return FsContext(self.root, self.cwd, self.umask)

    def share(self) -> FsContext:
        self.users += 1
        return self

    def put(self) -> None:
        self.users -= 1
