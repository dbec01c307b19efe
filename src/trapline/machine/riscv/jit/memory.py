"""Memory for translated code: one file without a name, mapped twice.

In a nutshell: code is written through a mapping that cannot be executed, and executed through one that cannot be written, so
no page is ever both. The two are at addresses of the host's choice; no guest can name either. Memory is given out from the
start on and never returned while the object lives; what is not touched costs nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref

ALIGN = 64  #: bytes: code brings constants along, and vector instructions want theirs aligned
CODE_BYTES = 256 << 20  #: far below what a 32-bit displacement reaches
_FAILED = ctypes.c_void_p(-1).value


class CodeMemory:
    """`start` and `writable` are the addresses of the same first byte. Raises OSError if the host refuses such a mapping."""

    def __init__(self, size: int = CODE_BYTES) -> None:
        self.size = size
        fd = os.memfd_create("trapline-code", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self.start = _map_executable(fd, size)
        finally:
            os.close(fd)
        weakref.finalize(self, _unmap, self.start, size)
        self._bytes = memoryview(self._map)
        self.writable: int = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.used = 0
        self._lock = threading.Lock()

    def reserve(self, size: int, align: int = ALIGN) -> int | None:
        """The offset of `size` bytes that are the caller's from now on; None if so many are not left."""
        with self._lock:
            offset = self.used + align - 1 & -align
            if offset + size > self.size:
                return None
            self.used = offset + size
            return offset

    def put(self, code: bytes, align: int = ALIGN) -> int | None:
        """Store position-independent code: the address that it is executed at, or None if it does not fit."""
        offset = self.reserve(len(code), align)
        if offset is None:
            return None
        self._bytes[offset : offset + len(code)] = code
        return self.start + offset


def _map_executable(fd: int, size: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    found: int | None = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED, fd, 0)
    if found is None or found == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"memory for translated code: {os.strerror(error)}")
    return found


def _unmap(address: int, size: int) -> None:
    ctypes.CDLL(None).munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
