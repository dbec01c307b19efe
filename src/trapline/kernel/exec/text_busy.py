"""ETXTBSY: a program that runs may not be written, and what is being written may not be run.

The open file that execve(2) made holds the denial; it goes with the last address space that runs the program.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File


def deny_write(file: File) -> None:
    """Until `allow_write`, or until `file` is released. Raises ETXTBSY; a memfd is never busy, as on Linux."""
    if file.inode.seals >= 0:
        return
    file.inode.deny_write()
    if file.on_release is None:
        file.on_release = []
    file.on_release.append(_released)


def allow_write(file: File) -> None:
    """The image was loaded and is not the program itself: libraries may be written."""
    if file.on_release is not None and _released in file.on_release:
        file.on_release.remove(_released)
        _released(file)


def _released(file: File) -> None:
    file.inode.allow_write()
