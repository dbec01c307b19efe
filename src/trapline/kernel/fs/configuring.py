"""A file system being configured: what fsopen(2) and fspick(2) open, fsconfig(2) fills and fsmount(2) takes.

Its life goes from phase to phase: parameters of a new instance, an instance that waits for its mount, parameters of a change to
one in use. What went wrong is told by read(2), a message at a time.
"""

from __future__ import annotations

from collections import deque
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EBUSY, EINVAL, EMSGSIZE, ENODATA, Errno
from trapline.abi.fcntl import O_RDWR
from trapline.kernel.fs.file import File
from trapline.kernel.fs.inode import AnonInode

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.superblock import SuperBlock
    from trapline.kernel.fs.vfs import Vfs

CREATE_PARAMS, AWAITING_MOUNT, RECONF_PARAMS, AWAITING_RECONF, FAILED = range(5)
MAX_MESSAGES = 8  #: the oldest go first, as on Linux
#: Flags of the file system that any type understands: whether it becomes read-only, or None where that is not the question.
_COMMON = {
    b"ro": True, b"rw": False, b"sync": None, b"async": None, b"dirsync": None, b"lazytime": None, b"nolazytime": None,
    b"mand": None, b"nomand": None,
}  # fmt: skip


class Configuration(File):
    """`mount` is set where an instance in use is changed; `sb` once there is one."""

    __slots__ = ("fstype", "messages", "mount", "options", "phase", "read_only", "sb", "source", "vfs")

    def __init__(self, vfs: Vfs, fstype: bytes, mount: Mount | None = None) -> None:
        super().__init__(AnonInode(vfs.anon_sb, 0o600, b"anon_inode:[fscontext]"), O_RDWR)
        self.vfs = vfs
        self.fstype = fstype
        self.mount = mount
        self.sb: SuperBlock | None = mount.sb if mount is not None else None
        self.phase = CREATE_PARAMS if mount is None else RECONF_PARAMS
        self.source: bytes | None = None
        self.messages: deque[bytes] = deque(maxlen=MAX_MESSAGES)
        self._clear()

    def _clear(self) -> None:
        self.options: dict[bytes, bytes] = {}
        self.read_only = self.sb.read_only if self.sb is not None else False

    def complain(self, text: str) -> Errno:
        """The error to raise; the words go to whoever reads the descriptor."""
        self.messages.append(f"e {self.fstype.decode(errors='replace')}: {text}\n".encode())
        return EINVAL(text)

    def set(self, name: bytes, value: bytes | None) -> None:
        """One parameter: a flag (None) or a string. EBUSY, EINVAL; types check their own when they are used."""
        if self.phase == AWAITING_RECONF:
            self.phase = RECONF_PARAMS
            self._clear()
        if self.phase not in (CREATE_PARAMS, RECONF_PARAMS):
            raise EBUSY
        if not name:
            raise self.complain("Unnamed parameter")
        if name in _COMMON:
            on = _COMMON[name]
            self.read_only = self.read_only if on is None else on
        elif name == b"source":
            if value is None:
                raise self.complain("Non-string source")
            if self.source is not None:
                raise self.complain("Multiple sources")
            self.source = value
        else:
            try:
                self.vfs.check_option(self.fstype, name)
            except EINVAL as error:
                raise self.complain(str(error.args[0])) from None
            self.options[name] = value or b""

    def create(self, task: Any) -> None:
        """FSCONFIG_CMD_CREATE."""
        if self.phase != CREATE_PARAMS:
            raise EBUSY
        self.phase = FAILED
        try:
            self.sb = self.vfs.make_superblock(self.fstype, self.source or b"none", self.options, task)
        except Errno as error:
            self.complain(error.args[0] if error.args else "the instance could not be made")
            raise
        if self.read_only:
            self.sb.read_only = True
        self.phase = AWAITING_MOUNT

    def check_change(self) -> None:
        """FSCONFIG_CMD_RECONFIGURE comes next, and may."""
        if self.phase != RECONF_PARAMS:
            raise EBUSY

    def changed(self) -> None:
        self.phase = AWAITING_RECONF

    # ---- as a file

    def try_read(self, count: int) -> bytes:
        """The oldest message. ENODATA, EMSGSIZE."""
        if not self.messages:
            raise ENODATA
        if len(self.messages[0]) > count:
            raise EMSGSIZE
        return self.messages.popleft()

    def release(self) -> None:
        if self.phase == AWAITING_MOUNT and self.sb is not None:
            self.sb.unmounted()
