"""The cache of compiled code on disk: what was compiled once is loaded the next time.

In a nutshell: a file per key, whose name is the digest of everything that its content depends on. $TRAPLINE_CACHE names the
directory ("off": there is none); else it is $XDG_CACHE_HOME/trapline or ~/.cache/trapline.

Invariants:
- the directory and the file are ours and nobody else may write to them, or they are not used;
- a file is there whole or not at all, and its digest is checked, so damage shows; what cannot be read is compiled anew;
- the files together stay below MAX_BYTES: those that were not used for longest go first.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

try:
    from _blake2 import blake2b  # what hashlib has, without the library of ciphers that comes with it
except ImportError:
    from hashlib import blake2b

MAX_BYTES = 64 << 20
DIGEST = 32  #: bytes
_MAGIC = b"trapline image 3\n"
_SWITCHED_OFF = ("off", "0", "no")
_BLOCK = 4096  #: what a file counts at least: so there are never too many
_TOUCH_AFTER_S = 3600  #: how exactly the time of last use is kept
_off = False


class Cache:
    """`directory`: None for none. Whatever fails is as if nothing had been kept; what is wrong is noted once."""

    def __init__(self, directory: str | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.directory = _trusted(directory) if directory else None
        self._max_bytes = max_bytes
        self._room = -1  #: bytes until somebody must look at how full it is
        self.hits = self.misses = 0

    def get(self, key: str) -> bytes | None:
        """What was kept under `key`."""
        data = self._read(key) if self.directory else None
        if data is None:
            self.misses += 1
        else:
            self.hits += 1
        return data

    def _read(self, key: str) -> bytes | None:
        assert self.directory is not None
        path = os.path.join(self.directory, key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(fd, "rb") as file:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or not _ours(about):
                _note(f"{path} can be written by others: not used")
                return None
            content = file.read()
            data = content[len(_MAGIC) + DIGEST :]
            if not content.startswith(_MAGIC) or digest(data) != content[len(_MAGIC) : len(_MAGIC) + DIGEST]:
                _note(f"{path} is damaged: not used")
                return None
            if about.st_mtime + _TOUCH_AFTER_S < os.stat(self.directory).st_mtime:
                with suppress(OSError):
                    os.utime(fd)
        return data

    def keep(self, key: str, data: bytes) -> None:
        """Keep `data`, if it can be kept."""
        if self.directory is None:
            return
        scratch = os.path.join(self.directory, f".{key}.{os.getpid()}")
        with suppress(OSError):
            fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(_MAGIC + digest(data) + data)
                os.replace(scratch, os.path.join(self.directory, key))
            except OSError:
                with suppress(OSError):
                    os.unlink(scratch)
            self._bound(max(len(data), _BLOCK))

    def _bound(self, added: int) -> None:
        """Make room when the files together have become too large."""
        assert self.directory is not None
        self._room -= added
        if self._room >= 0:
            return
        files = []
        for each in os.scandir(self.directory):
            if each.is_file(follow_symlinks=False):
                about = each.stat(follow_symlinks=False)
                files.append((about.st_mtime, max(about.st_size, _BLOCK), each.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files) if total > self._max_bytes else ():
            if total <= self._max_bytes * 3 // 4:
                break
            os.unlink(path)
            total -= size
        self._room = max(0, self._max_bytes - total)


def digest(data: bytes) -> bytes:
    """What names or seals `data`."""
    return bytes(blake2b(data, digest_size=DIGEST).digest())


def switch_off() -> None:
    """Neither read nor keep anything in this process, whatever the environment says."""
    global _off
    _off = True


def default_directory() -> str | None:
    """Where compiled code is kept; None if it is not to be."""
    if _off:
        return None
    chosen = os.environ.get("TRAPLINE_CACHE")
    if chosen is not None:
        return None if chosen.lower() in _SWITCHED_OFF else chosen or None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "trapline")


def _trusted(directory: str) -> str | None:
    """The directory, made if it is not there; None if it is not ours alone."""
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        about = os.stat(directory)
    except OSError:
        return None
    if stat.S_ISDIR(about.st_mode) and _ours(about):
        return directory
    if about.st_uid or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):  # the superuser's own is just not ours
        _note(f"{directory} can be written by others: compiled code is not kept there")
    return None


def _ours(about: os.stat_result) -> bool:
    return about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _note(text: str) -> None:
    sys.stderr.write(f"trapline: cache: {text}\n")
