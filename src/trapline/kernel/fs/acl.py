"""POSIX access control lists, acl(5), as the attributes system.posix_acl_access and _default hold them.

A list is kept as these bytes, once `checked`: entries of (tag, permissions, id) in the order that acl(5) gives. A list that
says no more than permission bits do is not kept. The owner's, the mask's (or else the group's) and the others' entries equal
the permission bits of the mode, always.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, ENOTSUP

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.permission import Creds

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
_NAMED = USER | GROUP
_VERSION = 2
_NO_ID = 0xFFFF_FFFF
_HEAD = Struct("<I")
_ENTRY = Struct("<HHI")
#: Which tags may follow a tag; 0 is the start.
_NEXT = {
    0: USER_OBJ, USER_OBJ: USER | GROUP_OBJ, USER: USER | GROUP_OBJ, GROUP_OBJ: GROUP | MASK | OTHER,
    GROUP: GROUP | MASK | OTHER, MASK: OTHER, OTHER: 0,
}  # fmt: skip

Entry = tuple[int, int, int]  #: (tag, permissions, id)


def entries(acl: bytes) -> Iterable[Entry]:
    return _ENTRY.iter_unpack(memoryview(acl)[_HEAD.size :])


def _packed(found: Iterable[Entry]) -> bytes:
    return _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*each) for each in found)


def checked(value: bytes) -> bytes | None:
    """The list that user space gave; None for an empty one. EINVAL, ENOTSUP for another version."""
    if len(value) < _HEAD.size or (len(value) - _HEAD.size) % _ENTRY.size:
        raise EINVAL("no list")
    if _HEAD.unpack_from(value) != (_VERSION,):
        raise ENOTSUP("another version")
    found: list[Entry] = []
    last, tags = 0, 0
    for tag, allowed, ident in entries(value):
        if tag not in _NEXT or not tag & _NEXT[last] or allowed & ~7:
            raise EINVAL("an entry out of order")
        if tag & _NAMED and ident == _NO_ID:
            raise EINVAL("nobody's entry")
        last, tags = tag, tags | tag
        found.append((tag, allowed, ident if tag & _NAMED else _NO_ID))
    if not found:
        return None
    if last != OTHER or (tags & _NAMED and not tags & MASK):
        raise EINVAL("an entry is missing")
    return _packed(found)


def mode_of(acl: bytes) -> tuple[int, bool]:
    """The permission bits that a list comes to, and whether they say all of it."""
    found = {tag: allowed for tag, allowed, _ in entries(acl) if not tag & _NAMED}
    group = found.get(MASK, found[GROUP_OBJ])
    return found[USER_OBJ] << 6 | group << 3 | found[OTHER], len(acl) == _HEAD.size + 3 * _ENTRY.size


def with_mode(acl: bytes, mode: int) -> bytes:
    """The list after chmod(2)."""
    group = MASK if any(tag == MASK for tag, _, _ in entries(acl)) else GROUP_OBJ
    bits = {USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    return _packed((tag, bits.get(tag, allowed), ident) for tag, allowed, ident in entries(acl))


def inherited(default: bytes, mode: int) -> tuple[bytes | None, int]:
    """What a new file gets from its directory's default list and the mode it is made with: (access list, mode)."""
    wanted, _ = mode_of(default)
    mode = mode & ~0o777 | mode & wanted
    acl = with_mode(default, mode)
    return None if mode_of(acl)[1] else acl, mode


def permits(inode: Inode, acl: bytes, creds: Creds, wanted: int) -> bool:
    """Whether the list lets `creds`, who do not own the inode, do all of `wanted` (MAY_*): acl(5), "Access check algorithm"."""
    in_group = False
    granted, mask = -1, 7
    for tag, allowed, ident in entries(acl):
        if tag == USER and ident == creds.fsuid and granted < 0:
            granted = allowed
        elif tag in (GROUP_OBJ, GROUP) and granted < 0:
            gid = inode.gid if tag == GROUP_OBJ else ident
            if gid == creds.fsgid or gid in creds.groups:
                in_group = True
                if allowed & wanted == wanted:
                    granted = allowed
        elif tag == MASK:
            mask = allowed
        elif tag == OTHER and granted < 0:
            return not in_group and allowed & wanted == wanted
    return granted & mask & wanted == wanted


def umask_in(directory: Inode, umask: int) -> int:
    """The umask that counts for what is made in a directory: where a default list says what may be, none."""
    return umask if directory.default_acl is None else 0
