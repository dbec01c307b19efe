"""UserAccess: the only code that dereferences addresses of user space.

An address is an allegation: it is looked up in the page tables, faulted in like an access by user code, and refused with
EFAULT. What was found is remembered in two dictionaries, page number to physical address of the page, one for pages that may
be read and one for pages that may be written; `forget` empties them whenever a leaf changes or goes.
Measured budget: 0.3 µs for a remembered page.
"""

from __future__ import annotations

from collections.abc import Iterator
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EFAULT, EINVAL, ENAMETOOLONG
from trapline.abi.mman import IOV_MAX, IOVEC, MAX_RW_COUNT
from trapline.kernel.mm.errors import OutOfMemory
from trapline.machine.contract import READ, WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.tables import PageTables
    from trapline.machine.ram import Ram

PATH_MAX = 4096
REMEMBERED = 4096  #: pages; beyond, everything is forgotten


class UserAccess:
    """Part of AddressSpace."""

    __slots__ = ("_mem", "_readable", "_words", "_words32", "_writable", "ram", "tables", "task_size")

    def __init__(self, ram: Ram, tables: PageTables, task_size: int) -> None:
        self.ram = ram
        self.tables = tables
        self.task_size = task_size
        self._mem = ram.mem
        self._words = ram.words
        self._words32 = ram.words32
        self._readable: dict[int, int] = {}
        self._writable: dict[int, int] = {}

    def repair(self, addr: int, access: int) -> tuple[int, int, int] | None:
        """None: the access may be tried again. Else (signo, si_code, si_addr)."""
        raise NotImplementedError

    def forget(self) -> None:
        """Leaves have changed."""
        self._readable.clear()
        self._writable.clear()

    # ---- one page

    def _page(self, addr: int, access: int) -> int:
        """The physical address of the page at `addr`, faulted in for `access` (READ or WRITE). Raises EFAULT."""
        if not 0 <= addr < self.task_size:
            raise EFAULT
        tables = self.tables
        fmt = tables.fmt
        needed = fmt.present | fmt.user | (fmt.write if access == WRITE else 0)
        entry = tables.entry(addr)
        while entry & needed != needed:
            if self.repair(addr, access) is not None:
                raise EFAULT
            entry = tables.entry(addr)
        pa = tables.frame(addr, entry) << PAGE_SHIFT
        if len(self._readable) >= REMEMBERED:
            self.forget()
        self._readable[addr >> PAGE_SHIFT] = pa
        if entry & fmt.write:
            self._writable[addr >> PAGE_SHIFT] = pa
        return pa

    def phys(self, addr: int, write: bool) -> int:
        """The physical address of a user byte, faulted in. Valid until the kernel's next await. Raises EFAULT."""
        pa = (self._writable if write else self._readable).get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, WRITE if write else READ)
        return pa + (addr & PAGE_MASK)

    @staticmethod
    def _together(known: dict[int, int], addr: int, n: int) -> int:
        """The physical address of `addr` if all `n` bytes from there on are remembered, in consecutive frames; else -1."""
        page, last = addr >> PAGE_SHIFT, addr + n - 1 >> PAGE_SHIFT
        pa = first = known.get(page, -1)
        while page < last and pa >= 0:
            page += 1
            pa += PAGE_SIZE
            if known.get(page) != pa:
                return -1
        return first + (addr & PAGE_MASK) if first >= 0 else -1

    # ---- bytes

    def read(self, addr: int, n: int) -> bytes:
        """`n` bytes from `addr` on; raises EFAULT unless all are readable."""
        offset = addr & PAGE_MASK
        if 0 < n <= PAGE_SIZE - offset:
            pa = self._readable.get(addr >> PAGE_SHIFT)
            if pa is None:
                pa = self._page(addr, READ)
            pa += offset
            return self._mem[pa : pa + n].tobytes()
        if n <= 0:
            return b""
        pa = self._together(self._readable, addr, n)
        if pa >= 0:
            return self._mem[pa : pa + n].tobytes()
        if addr + n > self.task_size:
            raise EFAULT
        return b"".join(self.buffers(addr, n, False))

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `addr`; raises EFAULT unless all of it can be, though some may have been."""
        n = len(data)
        offset = addr & PAGE_MASK
        if 0 < n <= PAGE_SIZE - offset:
            pa = self._writable.get(addr >> PAGE_SHIFT)
            if pa is None:
                pa = self._page(addr, WRITE)
            pa += offset
            self._mem[pa : pa + n] = data
        elif n and self.write_partial(addr, data) < n:
            raise EFAULT

    def write_partial(self, addr: int, data: bytes | bytearray | memoryview) -> int:
        """Store as much of `data` as can be; how many bytes. Raises EFAULT if none."""
        view = memoryview(data)
        done = 0
        pa = self._together(self._writable, addr, len(view)) if view else -1
        if pa >= 0:
            self._mem[pa : pa + len(view)] = view
            return len(view)
        try:
            for part in self.buffers(addr, len(view), True):
                part[:] = view[done : done + len(part)]
                done += len(part)
        except (EFAULT, OutOfMemory):
            if not done:
                raise
        return done

    def read_partial(self, addr: int, n: int) -> bytes:
        """As many of `n` bytes as are readable. Raises EFAULT if none."""
        pa = self._together(self._readable, addr, n) if n > 0 else -1
        if pa >= 0:
            return self._mem[pa : pa + n].tobytes()
        parts: list[bytes] = []
        try:
            for part in self.buffers(addr, n, False):
                parts.append(part.tobytes())  # noqa: PERF401 - what came before a fault counts
        except (EFAULT, OutOfMemory):
            if not parts:
                raise
        return b"".join(parts)

    def buffers(self, addr: int, n: int, write: bool) -> Iterator[memoryview]:
        """Views of RAM that are the `n` bytes from `addr` on, consecutive frames as one view. Raises EFAULT where it ends.

        A view is valid until the kernel's next await.
        """
        known = self._writable if write else self._readable
        access = WRITE if write else READ
        end = addr + n
        start = follows = 0  # the physical run so far
        while addr < end:
            pa = known.get(addr >> PAGE_SHIFT)
            if pa is None:
                try:
                    pa = self._page(addr, access)
                except (EFAULT, OutOfMemory):
                    if follows > start:
                        yield self._mem[start:follows]
                    raise
            length = min(PAGE_SIZE - (addr & PAGE_MASK), end - addr)
            pa += addr & PAGE_MASK
            if pa != follows:
                if follows > start:
                    yield self._mem[start:follows]
                start = pa
            follows = pa + length
            addr += length
        if follows > start:
            yield self._mem[start:follows]

    def fill_zeros(self, addr: int, n: int) -> None:
        """Store `n` zero bytes at `addr`."""
        for part in self.buffers(addr, n, True):
            part[:] = bytes(len(part))

    # ---- words

    def read_u32(self, addr: int) -> int:
        if addr & 3:
            return int.from_bytes(self.read(addr, 4), "little")
        pa = self._readable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, READ)
        value: int = self._words32[(pa + (addr & PAGE_MASK)) >> 2]
        return value

    def read_i32(self, addr: int) -> int:
        return (self.read_u32(addr) ^ 0x8000_0000) - 0x8000_0000

    def read_u64(self, addr: int) -> int:
        if addr & 7:
            return int.from_bytes(self.read(addr, 8), "little")
        pa = self._readable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, READ)
        value: int = self._words[(pa + (addr & PAGE_MASK)) >> 3]
        return value

    def write_u32(self, addr: int, value: int) -> None:
        """Store the low 32 bits of `value`."""
        if addr & 3:
            self.write(addr, (value & 0xFFFF_FFFF).to_bytes(4, "little"))
            return
        pa = self._writable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, WRITE)
        self._words32[(pa + (addr & PAGE_MASK)) >> 2] = value & 0xFFFF_FFFF

    def write_u64(self, addr: int, value: int) -> None:
        """Store the low 64 bits of `value`."""
        value &= (1 << 64) - 1
        if addr & 7:
            self.write(addr, value.to_bytes(8, "little"))
            return
        pa = self._writable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, WRITE)
        self._words[(pa + (addr & PAGE_MASK)) >> 3] = value

    def compare_exchange_u32(self, addr: int, old: int, new: int) -> int:
        """Store `new` at aligned `addr` if `old` is there; what was found. EFAULT; EINVAL if not aligned."""
        if addr & 3:
            raise EINVAL("not aligned")
        pa = self._writable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, WRITE)
        return self.ram.compare_exchange32(pa + (addr & PAGE_MASK), old, new)

    def modify_u32(self, addr: int, operation: int, argument: int) -> int:
        """`Ram.modify32` at aligned `addr`; what was there. EFAULT; EINVAL if not aligned."""
        if addr & 3:
            raise EINVAL("not aligned")
        pa = self._writable.get(addr >> PAGE_SHIFT)
        if pa is None:
            pa = self._page(addr, WRITE)
        return self.ram.modify32(pa + (addr & PAGE_MASK), operation, argument)

    # ---- strings and vectors

    def read_cstr(self, addr: int, limit: int) -> bytes | None:
        """The bytes before the first NUL; None if there is none within `limit` bytes. Raises EFAULT."""
        parts: list[bytes] = []
        chunk = 256  # most strings are short
        while limit > 0:
            length = min(chunk, limit, PAGE_SIZE - (addr & PAGE_MASK))
            part = self.read(addr, length)
            end = part.find(0)
            if end >= 0:
                if not parts:
                    return part[:end]
                parts.append(part[:end])
                return b"".join(parts)
            parts.append(part)
            addr += length
            limit -= length
            chunk = PAGE_SIZE
        return None

    def read_path(self, addr: int) -> bytes:
        """A path; raises EFAULT, or ENAMETOOLONG if it has more than 4095 bytes."""
        path = self.read_cstr(addr, PATH_MAX)
        if path is None:
            raise ENAMETOOLONG
        return path

    def read_iovec(self, addr: int, count: int) -> list[tuple[int, int]]:
        """The (address, length) of `count` iovec structures, cut so that they sum to MAX_RW_COUNT at most.

        EINVAL: a count beyond IOV_MAX, a length beyond SSIZE_MAX; EFAULT: not readable, or a range beyond user space.
        """
        if not 0 <= count <= IOV_MAX:
            raise EINVAL("too many segments")
        if not count:
            return []
        vector: list[tuple[int, int]] = []
        room = MAX_RW_COUNT
        for base, length in IOVEC.iter_unpack(self.read(addr, count * IOVEC.size)):
            if length >> 63:
                raise EINVAL("a segment's length is negative")
            if base + length > self.task_size and length:
                raise EFAULT
            length = min(length, room)
            room -= length
            vector.append((base, length))
        return vector
