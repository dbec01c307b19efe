"""Which driver opens a device node, a FIFO or a socket node: drivers register here, from above.

An opener takes (inode, path, flags, task) and returns a File, or a coroutine that will. A driver that is only announced is
imported when the first node of its number is opened, and registers then.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EACCES, ENXIO
from trapline.abi.mount import MS_NODEV
from trapline.abi.stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK, major, minor

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

Opener = Callable[["Inode", "Path", int, Any], "File | Coroutine[Any, Any, File]"]

_openers: dict[int, Opener] = {}
_chardevs: dict[tuple[int, int], Opener] = {}
_announced: dict[tuple[int, int], str] = {}


def register_opener(kind: int, opener: Opener) -> None:
    """`opener` opens nodes of type `kind`: S_IFIFO (open of S_IFSOCK is ENXIO unless somebody registers)."""
    _openers[kind] = opener


def register_chardev(major_number: int, minor_number: int, opener: Opener) -> None:
    """`opener` opens the character device; minor -1 stands for every minor of `major_number`."""
    _chardevs[major_number, minor_number] = opener


def announce_chardevs(modules: Mapping[tuple[int, int], str]) -> None:
    """Name the module of each device number (minor -1: every minor); imported, it calls `register_chardev`."""
    _announced.update(modules)


def _chardev(number: int, minor_number: int) -> Opener | None:
    for key in ((number, minor_number), (number, -1)):
        if key not in _chardevs and key in _announced:
            import_module(_announced[key])
        if key in _chardevs:
            return _chardevs[key]
    return None


def open_special(inode: Inode, path: Path, flags: int, task: Any) -> File | Coroutine[Any, Any, File]:
    """Open a FIFO, device or socket node of any file system; raises ENXIO where there is no driver."""
    kind = inode.mode & S_IFMT
    if kind in (S_IFCHR, S_IFBLK):
        if path.mount.flags & MS_NODEV:
            raise EACCES("devices cannot be opened on a nodev mount")
        opener = _chardev(major(inode.rdev), minor(inode.rdev)) if kind == S_IFCHR else None
    else:
        assert kind in (S_IFIFO, S_IFSOCK)
        opener = _openers.get(kind)
    if opener is None:
        raise ENXIO
    return opener(inode, path, flags, task)
