"""Unpacking a tar archive of the host (plain, gzip, bzip2 or xz) into a tmpfs tree.

Every name is resolved inside the tree being built: links of the archive lead nowhere else, names with ".." are skipped.
Owners, modes, times and extended attributes (SCHILY.xattr) are restored. Anything refused is said to `log`.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EEXIST, Errno
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, makedev
from trapline.kernel.fs import namei
from trapline.kernel.fs.mount import Path
from trapline.kernel.fs.path import Place, walk, walk_parent

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.memory import MemorySuperBlock
    from trapline.kernel.fs.vfs import Vfs

CHUNK = 1 << 20
_XATTR = "SCHILY.xattr."
_UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


class BadArchiveError(ValueError):
    """The archive cannot be read."""


def unpack(vfs: Vfs, sb: MemorySuperBlock, archive: str, log: Callable[[str], None]) -> None:
    """Fill the empty tmpfs `sb` from the archive; raises BadArchiveError, or ENOSPC."""
    mount = vfs.new_mount(sb)
    top = Path(mount, mount.root)
    directories: list[tuple[Inode, tarfile.TarInfo]] = []
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _add(vfs, top, tar, member, directories, log)
    except (*_UNREADABLE, ValueError) as error:
        raise BadArchiveError(f"{archive}: {error}") from error
    for inode, member in reversed(directories):  # last: filling a directory changes its times
        _attributes(inode, member)


def _add(
    vfs: Vfs, top: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, directories: list[Any], log: Callable[[str], None]
) -> None:
    name = _clean(member.name)
    if name is None:
        log(f"archive: {member.name!r} is left out: its name leads outside")
        return
    if not name:
        directories.append((top.inode, member))
        return
    try:
        inode = _make(vfs, top, tar, member, name)
    except Errno as error:
        if error.number == 28:
            raise
        log(f"archive: {member.name!r} is left out: {error}")
        return
    if inode is None:
        return
    if inode.mode & S_IFMT == S_IFDIR:
        directories.append((inode, member))
    else:
        _attributes(inode, member)


def _clean(name: str) -> bytes | None:
    """A member's name without dots and slashes at the start; None if it has ".." in it."""
    parts = [each for each in name.encode(errors="surrogateescape").split(b"/") if each not in (b"", b".")]
    return None if b".." in parts else b"/".join(parts)


def _make(vfs: Vfs, top: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, name: bytes) -> Inode | None:
    """The inode made for a member; None for a hard link, whose attributes are there already."""
    place = _place(vfs, top, name)
    if member.isdir():
        try:
            return namei.mkdir(vfs, place, member.mode & 0o7777, None)
        except EEXIST:
            return walk(vfs, place.parent, top, place.name, None).inode  # a link stays one: its target gets the attributes
    _replace(vfs, place)
    mode = member.mode & 0o7777
    if member.issym():
        return namei.symlink(vfs, place, member.linkname.encode(errors="surrogateescape"), None)
    if member.islnk():
        source = _clean(member.linkname)
        if source:
            namei.link(vfs, walk(vfs, top, top, source, None, None, 0), place, None)
        return None
    if member.isfifo():
        return namei.mknod(vfs, place, S_IFIFO | mode, 0, None)
    if member.ischr() or member.isblk():
        kind = S_IFCHR if member.ischr() else S_IFBLK
        return namei.mknod(vfs, place, kind | mode, makedev(member.devmajor, member.devminor), None)
    inode = namei.mknod(vfs, place, S_IFREG | mode, 0, None)
    data = tar.extractfile(member)
    if data is not None:
        offset = 0
        while chunk := data.read(CHUNK):
            view = memoryview(chunk)
            while view:
                done = inode.store(offset, view)
                offset += done
                view = view[done:]
        if offset < member.size:
            inode.truncate(member.size)
    return inode


def _place(vfs: Vfs, top: Path, name: bytes) -> Place:
    """Where a member goes; directories that are missing above it are made."""
    parent = name.rpartition(b"/")[0]
    made = b""
    for part in parent.split(b"/") if parent else ():
        made = made + b"/" + part if made else part
        with suppress(EEXIST):
            namei.mkdir(vfs, walk_parent(vfs, top, top, made, None), 0o755, None)
    return walk_parent(vfs, top, top, name, None)


def _replace(vfs: Vfs, place: Place) -> None:
    """A later member takes the place of an earlier one."""
    old = namei.find(vfs, place).inode
    if old is not None and old.mode & S_IFMT != S_IFDIR:
        namei.unlink(vfs, place, None)


def _attributes(inode: Inode, member: tarfile.TarInfo) -> None:
    mtime_ns = int(float(member.mtime) * 1_000_000_000)
    mode = None if member.issym() else member.mode & 0o7777
    for name, value in member.pax_headers.items():
        if name.startswith(_XATTR):
            full = name[len(_XATTR) :].encode(errors="surrogateescape")
            if not full.startswith(b"system."):
                inode.setxattr(full, value.encode(errors="surrogateescape"), 0)
    inode.setattr(mode=mode, uid=member.uid & 0xFFFFFFFF, gid=member.gid & 0xFFFFFFFF, atime_ns=mtime_ns, mtime_ns=mtime_ns)
