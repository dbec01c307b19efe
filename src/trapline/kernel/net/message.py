"""What travels between UNIX sockets: bytes, credentials and open files; and the control messages that carry the last two.

unix(7), cmsg(3). Files in flight hold a reference each; whoever drops a message puts them.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import EINVAL, EMFILE, EPERM, ESRCH, ETOOMANYREFS
from trapline.abi.socket import (
    CMSGHDR,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    SCM_CREDENTIALS,
    SCM_MAX_FD,
    SCM_RIGHTS,
    SOL_SOCKET,
    UCRED,
)

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File

Ucred = tuple[int, int, int]  #: pid, uid, gid
NOBODY: Ucred = (0, 65534, 65534)
OVERHEAD = 256  #: what a queued message is charged besides its bytes
MAX_IN_FLIGHT = 16384  #: files in flight in one kernel; Linux grants each user RLIMIT_NOFILE
CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID = 21, 7, 6

_flights: WeakKeyDictionary[Any, Flights] = WeakKeyDictionary()


class Flights:
    """The files in flight in one kernel, and how often each is."""

    def __init__(self) -> None:
        self.counts: dict[File, int] = {}
        self.total = 0
        self.collect_at = 1000  #: when to look for garbage next
        self._falling: list[File] = []
        self._dropping = False

    def take_off(self, files: tuple[File, ...]) -> Cargo:
        """Take a reference to each. Raises ETOOMANYREFS."""
        if self.total + len(files) > MAX_IN_FLIGHT:
            raise ETOOMANYREFS
        for each in files:
            each.get()
            self.counts[each] = self.counts.get(each, 0) + 1
        self.total += len(files)
        return Cargo(self, files)

    def landed(self, files: tuple[File, ...]) -> None:
        self.total -= len(files)
        for each in files:
            left = self.counts[each] - 1
            if left:
                self.counts[each] = left
            else:
                del self.counts[each]

    def drop(self, files: tuple[File, ...]) -> None:
        """Put references; a socket that dies of it may drop more, which is done here and not one call deeper."""
        self._falling += files
        if self._dropping:
            return
        self._dropping = True
        try:
            while self._falling:
                self._falling.pop().put()
        finally:
            self._dropping = False


def flights_of(kernel: Any) -> Flights:
    flights = _flights.get(kernel)
    if flights is None:
        flights = _flights[kernel] = Flights()
    return flights


class Cargo:
    """The files of one message. It is landed (its references given away) or dropped, once."""

    __slots__ = ("files", "flights")

    def __init__(self, flights: Flights, files: tuple[File, ...]) -> None:
        self.flights = flights
        self.files = files

    def copy(self) -> Cargo:
        """Another reference to each, for a message that is only peeked at."""
        return self.flights.take_off(self.files)

    def land(self) -> tuple[File, ...]:
        files, self.files = self.files, ()
        self.flights.landed(files)
        return files

    def drop(self) -> None:
        self.flights.drop(self.land())


class Message:
    """`data` from `start` on has not been read. `sender` is charged `charge` until the message is gone."""

    __slots__ = ("address", "cargo", "charge", "creds", "data", "sender", "start")

    def __init__(
        self, data: bytes, sender: Any, creds: Ucred, cargo: Cargo | None = None, address: bytes | None = None
    ) -> None:
        self.data = data
        self.start = 0
        self.sender = sender
        self.creds = creds
        self.cargo = cargo
        self.address = address
        self.charge = len(data) + OVERHEAD

    def __len__(self) -> int:
        return len(self.data) - self.start

    def drop_cargo(self) -> None:
        """Nobody took the files."""
        cargo, self.cargo = self.cargo, None
        if cargo is not None:
            cargo.drop()


def joined(batch: list[Message], count: int) -> bytes:
    """The first `count` unread bytes of some messages."""
    if len(batch) == 1:
        return batch[0].data[batch[0].start :][:count]
    return b"".join([each.data[each.start :] for each in batch])[:count]


def load_cargo(task: Any, fds: tuple[int, ...]) -> Cargo | None:
    """The files of descriptors, for a flight. EBADF, ETOOMANYREFS."""
    if not fds:
        return None
    return flights_of(task.kernel).take_off(tuple([task.files.get_any(fd) for fd in fds]))


def ucred_of(task: Any) -> Ucred:
    return task.group.pid, task.creds.euid, task.creds.egid


# ---- control messages


def parse_control(task: Any, control: bytes) -> tuple[Ucred | None, tuple[int, ...]]:
    """The control part of sendmsg(2): credentials to show, descriptors to pass. EINVAL, EPERM, ESRCH."""
    creds: Ucred | None = None
    fds: tuple[int, ...] = ()
    offset = 0
    while offset + CMSGHDR.size <= len(control):
        length, level, kind = CMSGHDR.unpack_from(control, offset)
        if length < CMSGHDR.size or offset + length > len(control):
            raise EINVAL
        body = control[offset + CMSGHDR.size : offset + length]
        if level == SOL_SOCKET:
            if kind == SCM_RIGHTS:
                count = len(body) // 4
                if len(fds) + count > SCM_MAX_FD:
                    raise EINVAL
                fds += tuple(int.from_bytes(body[4 * i : 4 * i + 4], "little", signed=True) for i in range(count))
            elif kind == SCM_CREDENTIALS:
                if len(body) != UCRED.size:
                    raise EINVAL
                creds = _check_ucred(task, *UCRED.unpack(body))
            else:
                raise EINVAL
        offset += (length + 7) & ~7
    return creds, fds


def _check_ucred(task: Any, pid: int, uid: int, gid: int) -> Ucred:
    """Credentials that a process claims: its own, unless it is privileged."""
    creds = task.creds
    if pid != task.group.pid:
        if not creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM
        if pid not in task.kernel.groups:
            raise ESRCH
    if uid not in (creds.uid, creds.euid, creds.suid) and not creds.has_cap(CAP_SETUID):
        raise EPERM
    if gid not in (creds.gid, creds.egid, creds.sgid) and not creds.has_cap(CAP_SETGID):
        raise EPERM
    return pid, uid, gid


class ControlWriter:
    """Builds the control part of recvmsg(2) in at most `space` bytes; `flags` gets MSG_CTRUNC if that is too little."""

    def __init__(self, space: int) -> None:
        self.space = space
        self.data = b""
        self.flags = 0

    def _add(self, kind: int, body: bytes) -> None:
        header = CMSGHDR.pack(CMSGHDR.size + len(body), SOL_SOCKET, kind)
        item = header + body
        left = self.space - len(self.data)
        self.data += (item + bytes(-len(item) & 7))[:left]

    def credentials(self, creds: Ucred) -> None:
        left = self.space - len(self.data)
        body = UCRED.pack(*creds)
        if left < CMSGHDR.size:
            self.flags |= MSG_CTRUNC
            return
        if left < CMSGHDR.size + len(body):
            self.flags |= MSG_CTRUNC
            body = body[: left - CMSGHDR.size]
        self._add(SCM_CREDENTIALS, body)

    def rights(self, task: Any, cargo: Cargo, flags: int) -> None:
        """Install as many files as there is room for; the rest is closed."""
        room = max(0, self.space - len(self.data) - CMSGHDR.size) // 4
        files = cargo.land()
        fds: list[int] = []
        for file in files[:room]:
            try:
                fds.append(task.files.install(file, bool(flags & MSG_CMSG_CLOEXEC)))
            except EMFILE:
                break
        cargo.flights.drop(files[len(fds) :])
        if fds:
            self._add(SCM_RIGHTS, b"".join([fd.to_bytes(4, "little") for fd in fds]))
        if len(fds) < len(files):
            self.flags |= MSG_CTRUNC
