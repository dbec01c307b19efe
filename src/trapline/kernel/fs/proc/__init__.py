"""procfs: processes and the kernel as files, proc(5).

Everything is made when it is asked for, and nothing is remembered of processes: `mount_proc` puts an empty shell into the
tree, whose contents are imported when a program first looks into it.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME
from trapline.kernel.fs.inode import VOLATILE, Entry, Inode
from trapline.kernel.fs.proc.base import OPTIONS, ROOT_INO, ProcDir, ProcSuperBlock

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.proc.root import ProcRoot
    from trapline.kernel.fs.vfs import Vfs


class _Shell(ProcDir):
    """The root directory until its real one is needed."""

    __slots__ = ("_real",)
    volatile = VOLATILE

    def __init__(self, sb: ProcSuperBlock) -> None:
        super().__init__(sb, None, 0o555, ino=ROOT_INO)
        self._real: ProcRoot | None = None

    def real(self) -> ProcRoot:
        if self._real is None:
            from trapline.kernel.fs.proc.root import ProcRoot

            self._real = ProcRoot(self.sb)  # type: ignore[arg-type]
        return self._real

    def net(self) -> Inode:
        return self.real().net()

    def lookup(self, name: bytes) -> Inode:
        return self.real().lookup(name)

    def entries(self) -> list[Entry]:
        return self.real().entries()


def make_proc(vfs: Vfs, kernel: Any) -> ProcSuperBlock:
    """A procfs of `kernel`."""
    sb = ProcSuperBlock(vfs, kernel)
    sb.root = _Shell(sb)
    return sb


def mount_proc(kernel: Any) -> Mount:
    """Register the file system, and mount it at /proc."""
    vfs: Vfs = kernel.vfs

    def make(vfs: Vfs, source: bytes, options: dict[bytes, bytes], task: Any) -> ProcSuperBlock:
        sb = make_proc(vfs, kernel)
        sb.reconfigure(options)
        return sb

    vfs.register_filesystem(b"proc", make, OPTIONS)
    mount = vfs.new_mount(make_proc(vfs, kernel), b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME)
    return vfs.mount(mount, vfs.at_root(b"/proc"))
