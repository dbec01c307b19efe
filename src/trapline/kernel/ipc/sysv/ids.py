"""What the three kinds of System V IPC have in common: identifiers, keys, owners and permissions.

An identifier is `seq << 15 | index`. The sequence number grows each time the indices start over, so that an identifier of
something removed does not soon name something else.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any, Generic, TypeVar

from trapline.abi import ipc
from trapline.abi.capability import CAP_IPC_OWNER, CAP_SYS_ADMIN
from trapline.abi.errno import EACCES, EEXIST, EINVAL, ENOENT, ENOSPC, EPERM
from trapline.kernel.fs.permission import in_group

if TYPE_CHECKING:
    from trapline.kernel.task.creds import Credentials

INDEX_MASK = ipc.IPC_MNI - 1
MIN_CYCLE = 64  #: so many indices are used in turn before one comes again
SEQ_MAX = 1 << 16


class Object:
    """One segment, set or queue: struct ipc_perm. `mode` has the permissions, and for segments SHM_DEST and SHM_LOCKED."""

    __slots__ = ("cgid", "cuid", "gid", "id", "key", "mode", "removed", "uid")

    def __init__(self, key: int, mode: int, creds: Credentials) -> None:
        self.id = -1
        self.key = key
        self.mode = mode & 0o777
        self.uid = self.cuid = creds.euid
        self.gid = self.cgid = creds.egid
        self.removed = False  #: who sleeps on it wakes up to EIDRM

    def pack_perm(self) -> bytes:
        seq = self.id >> ipc.IPC_ID_BITS
        return ipc.IPC_PERM.pack(self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, seq, 0, 0, 0)

    def check(self, creds: Credentials, wanted: int) -> None:
        """Raise EACCES unless `creds` has all permissions of `wanted`, given like a mode (0o444 reads)."""
        wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7
        granted = self.mode
        if creds.euid in (self.cuid, self.uid):
            granted >>= 6
        elif in_group(creds, self.cgid) or in_group(creds, self.gid):
            granted >>= 3
        if wanted & ~granted and not creds.has_cap(CAP_IPC_OWNER):
            raise EACCES

    def check_owner(self, creds: Credentials) -> None:
        """Raise EPERM unless `creds` may change or remove it."""
        if creds.euid not in (self.cuid, self.uid) and not creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM

    def set_perm(self, raw: bytes) -> None:
        """IPC_SET: take owner and permissions from a struct ipc_perm."""
        _, uid, gid, _, _, mode, *_ = ipc.IPC_PERM.unpack(raw[: ipc.IPC_PERM.size])
        if 0xFFFF_FFFF in (uid, gid):
            raise EINVAL
        self.uid, self.gid = uid, gid
        self.mode = self.mode & ~0o777 | mode & 0o777


T = TypeVar("T", bound=Object)


class Table(Generic[T]):
    """All objects of one kind; `limit` is how many there may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._by_index: dict[int, T] = {}
        self._by_key: dict[int, T] = {}
        self._next = self._seq = 0
        self._last = -1
        self.next_id = -1  #: what the next object shall be called, if that is free: /proc/sys/kernel/*_next_id

    def __len__(self) -> int:
        return len(self._by_index)

    def all(self) -> list[T]:
        return [self._by_index[index] for index in sorted(self._by_index)]

    @property
    def highest(self) -> int:
        """The highest index in use, 0 if there is none: what the INFO commands return."""
        return max(self._by_index, default=0)

    def get(
        self, task: Any, key: int, flags: int, make: Callable[[], T], fits: Callable[[T], None]
    ) -> int:
        """The identifier for `key` as shmget(2) and its kin have it; `fits` raises when what is there does not."""
        found = self._by_key.get(key) if key != ipc.IPC_PRIVATE else None
        if found is not None:
            if flags & ipc.IPC_CREAT and flags & ipc.IPC_EXCL:
                raise EEXIST
            fits(found)
            found.check(task.creds, flags)
            return found.id
        if key != ipc.IPC_PRIVATE and not flags & ipc.IPC_CREAT:
            raise ENOENT
        new = make()
        self._add(new)
        return new.id

    def check_room(self) -> None:
        if len(self._by_index) >= self.limit:
            raise ENOSPC

    def _add(self, new: T) -> None:
        self.check_room()
        index = self._take_wanted(new) if self.next_id >= 0 else self._take_next(new)
        self._by_index[index] = new
        if new.key != ipc.IPC_PRIVATE:
            self._by_key[new.key] = new

    def _take_wanted(self, new: T) -> int:
        """The identifier somebody wished for; if its index is taken, the next free one. ENOSPC if there is none."""
        sequence, index = self.next_id >> ipc.IPC_ID_BITS, self.next_id & INDEX_MASK
        while index in self._by_index:
            index += 1
        if index >= ipc.IPC_MNI:
            raise ENOSPC
        self.next_id = -1
        new.id = sequence << ipc.IPC_ID_BITS | index
        return index

    def _take_next(self, new: T) -> int:
        top = min(max(len(self._by_index) * 3 // 2, MIN_CYCLE), ipc.IPC_MNI)
        index = self._next if self._next < top else 0
        while index in self._by_index:
            index = index + 1 if index + 1 < top else 0
        if index <= self._last:
            self._seq = (self._seq + 1) % SEQ_MAX
        self._last, self._next = index, index + 1
        new.id = self._seq << ipc.IPC_ID_BITS | index
        return index

    def find(self, ident: int) -> T:
        """The object of an identifier. Raises EINVAL."""
        found = self._by_index.get(ident & INDEX_MASK) if ident >= 0 else None
        if found is None or found.id != ident:
            raise EINVAL("no such identifier")
        return found

    def at(self, index: int) -> T:
        """The object of an index: the STAT commands that list them. Raises EINVAL."""
        found = self._by_index.get(index & INDEX_MASK) if index >= 0 else None
        if found is None:
            raise EINVAL("no such index")
        return found

    def hide_key(self, gone: T) -> None:
        """Nobody finds it by its key any more; the key is IPC_PRIVATE now."""
        self._by_key.pop(gone.key, None)
        gone.key = ipc.IPC_PRIVATE

    def remove(self, gone: T) -> None:
        del self._by_index[gone.id & INDEX_MASK]
        if gone.key != ipc.IPC_PRIVATE:
            del self._by_key[gone.key]
        gone.removed = True


def now_s(kernel: Any) -> int:
    """Times of System V IPC are whole seconds of CLOCK_REALTIME."""
    return int(kernel.clock.realtime_ns()) // 1_000_000_000
