"""ramfs: the plainest file system in memory. No limits but the computer's, no attributes, no promises of space.

The only option is mode=; like Linux's, it ignores all others, and shows in /proc/mounts a mode that is not the usual one.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINVAL
from trapline.abi.mount import RAMFS_MAGIC
from trapline.abi.stat import S_IFDIR
from trapline.kernel.fs.memdir import MemDir
from trapline.kernel.fs.memory import MemorySuperBlock

if TYPE_CHECKING:
    from trapline.kernel.fs.vfs import Vfs

DEFAULT_MODE = 0o755


class RamFs(MemorySuperBlock):
    """An instance."""

    __slots__ = ()
    plain = True
    swaps = False

    def __init__(self, vfs: Vfs, mode: int) -> None:
        super().__init__(vfs, b"ramfs", RAMFS_MAGIC)
        self.charge_inode()
        self.root = MemDir(self, S_IFDIR | mode, 0, 0)
        if mode != DEFAULT_MODE:
            self.options = b",mode=%o" % mode

    def reconfigure(self, options: dict[bytes, bytes]) -> None:
        """The root keeps its mode: only new instances take one."""


def make_ramfs(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> RamFs:
    """mount(2) of type ramfs. EINVAL for a mode that is not octal."""
    text = options.get(b"mode", b"%o" % DEFAULT_MODE)
    try:
        if not text.isdigit() or len(text) > 10:
            raise ValueError
        mode = int(text, 8) & 0o7777
    except ValueError:
        raise EINVAL("mode: an octal number was expected") from None
    return RamFs(vfs, mode)
