"""Names of UNIX sockets: struct sockaddr_un in user memory, the abstract namespace, and sockets bound to paths (unix(7)).

Invariant: an abstract name in `Names.abstract` belongs to an open socket; the `endpoint` of a socket inode is the open
socket bound to it.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from trapline.abi.errno import EADDRINUSE, ECONNREFUSED, EEXIST, EINVAL, EPROTOTYPE
from trapline.abi.fcntl import AT_FDCWD
from trapline.abi.socket import AF_UNIX, SOCKADDR_MAX, SOCKADDR_UN_SIZE
from trapline.abi.stat import S_IFMT, S_IFSOCK
from trapline.kernel.fs import namei
from trapline.kernel.fs.acl import umask_in
from trapline.kernel.fs.permission import MAY_WRITE, may_access
from trapline.kernel.net.unix import UnixSocket

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode

_FAMILY = AF_UNIX.to_bytes(2, "little")
AUTOBIND_NAMES = 1 << 20

_names: WeakKeyDictionary[Any, Names] = WeakKeyDictionary()


class Names:
    """The abstract namespace of one kernel."""

    def __init__(self) -> None:
        self.abstract: dict[tuple[int, bytes], UnixSocket] = {}  #: by type and name: each type has its own
        self.next_auto = 0


def names_of(kernel: Any) -> Names:
    names = _names.get(kernel)
    if names is None:
        names = _names[kernel] = Names()
    return names


def read_address(task: Any, address: int, length: int) -> bytes:
    """A struct sockaddr from user memory, unchecked but for its size: at most 128 bytes. EINVAL, EFAULT."""
    if not 0 <= length <= SOCKADDR_MAX:
        raise EINVAL
    raw: bytes = task.mm.read(address, length) if length else b""
    return raw


def parse(raw: bytes) -> bytes:
    """sun_path as it identifies a socket: a path without its NUL, b"\\0name", or b"" for none. EINVAL."""
    if len(raw) < 2 or len(raw) > SOCKADDR_UN_SIZE or raw[:2] != _FAMILY:
        raise EINVAL
    path = raw[2:]
    if path[:1] == b"\0" or not path:
        return path
    return path.partition(b"\0")[0]


def pack(name: bytes | None) -> bytes:
    """The struct sockaddr_un of a socket bound to `name`."""
    if not name:
        return _FAMILY
    return _FAMILY + name if name[:1] == b"\0" else _FAMILY + name + b"\0"


def write_address(task: Any, address: int, length_at: int, raw: bytes) -> None:
    """Copy out a socket address: cut to the caller's space, with its whole length. EINVAL, EFAULT."""
    space = task.mm.read_i32(length_at)
    if space < 0:
        raise EINVAL
    part = raw[:space]
    if part:
        task.mm.write(address, part)
    task.mm.write_u32(length_at, len(raw))


# ---- binding


def bind(task: Any, socket: UnixSocket, name: bytes) -> None:
    """bind(2): to a path, an abstract name, or (no name at all) a fresh abstract one."""
    if not name:
        autobind(socket)
        return
    if socket.address is not None:
        raise EINVAL
    if name[:1] == b"\0":
        _bind_abstract(socket, name)
    else:
        _bind_path(task, socket, name)


def autobind(socket: UnixSocket) -> None:
    """Give an unbound socket an abstract name of five hexadecimal digits."""
    if socket.address is not None:
        return
    names = names_of(socket.kernel)
    for _ in range(AUTOBIND_NAMES):
        name = b"\0%05x" % (names.next_auto % AUTOBIND_NAMES)
        names.next_auto += 1
        if (socket.kind, name) not in names.abstract:
            _bind_abstract(socket, name)
            return
    raise EADDRINUSE


def _bind_abstract(socket: UnixSocket, name: bytes) -> None:
    abstract = names_of(socket.kernel).abstract
    if (socket.kind, name) in abstract:
        raise EADDRINUSE
    abstract[socket.kind, name] = socket
    socket.address = name
    socket.unbind = _unbind_abstract


def _unbind_abstract(socket: UnixSocket) -> None:
    assert socket.address is not None
    names_of(socket.kernel).abstract.pop((socket.kind, socket.address), None)


def _bind_path(task: Any, socket: UnixSocket, name: bytes) -> None:
    vfs = task.kernel.vfs
    place = vfs.walk_parent(task, AT_FDCWD, name)
    mode = S_IFSOCK | (socket.inode.mode & 0o777 & ~umask_in(place.parent.inode, task.fs.umask))
    try:
        inode: Inode = namei.mknod(vfs, place, mode, 0, task.creds)
    except EEXIST:
        raise EADDRINUSE from None
    inode.endpoint = socket
    socket.address = name
    socket.unbind = _Bound(inode)


class _Bound:
    """Gives an inode back."""

    __slots__ = ("inode",)

    def __init__(self, inode: Inode) -> None:
        self.inode = inode

    def __call__(self, socket: UnixSocket) -> None:
        if self.inode.endpoint is socket:
            self.inode.endpoint = None


def find(task: Any, name: bytes, kind: int) -> UnixSocket:
    """The open socket of a name, for a socket of type `kind`. ECONNREFUSED if there is none, EPROTOTYPE, EACCES without write
    permission, errors of the walk."""
    if not name:
        raise ECONNREFUSED
    if name[:1] == b"\0":
        socket = names_of(task.kernel).abstract.get((kind, name))
        if socket is None:
            raise ECONNREFUSED
        return socket
    path = task.kernel.vfs.walk(task, AT_FDCWD, name)
    may_access(path, task.creds, MAY_WRITE)
    inode = path.inode
    if inode.mode & S_IFMT != S_IFSOCK or not isinstance(inode.endpoint, UnixSocket):
        raise ECONNREFUSED
    if inode.endpoint.kind != kind:
        raise EPROTOTYPE
    return inode.endpoint
