"""ELF images: what a file asks to be loaded, decoded and checked before anything is touched.

Every number in the file is hostile. `parse` refuses what Linux refuses, and whatever could wrap; a `Image` it returns
can be mapped without further checks of its arithmetic.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi import elf, riscv64
from trapline.abi.arch import ABIS
from trapline.abi.errno import EINVAL, ENOEXEC, ENOMEM, Errno
from trapline.abi.mman import PROT_EXEC, PROT_READ, PROT_WRITE
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File

HEAD = 1024  #: bytes of a file within which all that is decoded mostly lies
MAX_KNOWN = 64  #: images that are kept, decoded
MAX_HEADERS = 65536 // 56  #: the program headers must fit into 64 KiB
_known: dict[tuple[bytes, str, int], Image] = {}
_ARCHITECTURES = {abi.elf_machine: name for name, abi in ABIS.items()}


class ForeignProgram(Errno):
    """ENOEXEC: a program for another architecture: `arch`, if some machine of ours runs it, else None."""

    number, name, text = ENOEXEC.number, ENOEXEC.name, ENOEXEC.text

    def __init__(self, arch: str | None, here: str, what: str = "") -> None:
        self.why = f"a program for {arch or what}, and this machine is {here}"
        super().__init__(self.why)
        self.arch = arch


class Segment(NamedTuple):
    """One PT_LOAD, as the file has it."""

    vaddr: int
    offset: int
    file_bytes: int
    length: int
    prot: int


class Image(NamedTuple):
    """A program or interpreter that may be mapped."""

    entry: int
    movable: bool  #: ET_DYN: any load address will do
    segments: tuple[Segment, ...]
    low: int  #: first page, as linked
    high: int  #: end of the last page
    align: int
    interpreter: bytes
    headers: int  #: where the program headers are in memory, as linked; 0: nowhere
    header_count: int
    executable_stack: bool


def parse(file: File, machine: str, task_size: int, head: bytes = b"") -> Image:
    """The image in `file`, whose first HEAD bytes are `head` if these were read; the same one for the same bytes.

    Raises ENOEXEC if it is none for this machine, EINVAL or ENOMEM if it cannot be loaded.
    """
    head = head or file.try_pread(HEAD, 0) or b""
    found = _known.get((head, machine, task_size))
    if found is None:
        found, reach = _parse(file, machine, task_size, head[: elf.EHDR.size])
        if reach <= len(head):
            if len(_known) >= MAX_KNOWN:
                _known.clear()
            _known[head, machine, task_size] = found
    return found


def _parse(file: File, machine: str, task_size: int, head: bytes) -> tuple[Image, int]:
    """The image, and the end of what was looked at in the file."""
    if len(head) < elf.EHDR.size or head[:4] != elf.MAGIC:
        raise ENOEXEC("not an ELF file")
    ident, kind, arch, _, entry, phoff, _, e_flags, _, phentsize, phnum, _, _, _ = elf.EHDR.unpack(head)
    found = _ARCHITECTURES.get(arch) if ident[4] == elf.ELFCLASS64 and ident[5] == elf.ELFDATA2LSB else None
    if found is None:
        bits = 64 if ident[4] == elf.ELFCLASS64 else 32
        raise ForeignProgram(None, machine, f"{elf.MACHINES.get(arch, f'ELF machine {arch}')} ({bits} bits)")
    if found != machine:
        raise ForeignProgram(found, machine)
    if arch == elf.EM_RISCV and (e_flags & riscv64.EF_RVE or e_flags & riscv64.EF_FLOAT_ABI == riscv64.EF_FLOAT_ABI_QUAD):
        raise ENOEXEC("a program for RV64E or for quad-precision registers")
    if kind not in (elf.ET_EXEC, elf.ET_DYN) or phentsize != elf.PHDR.size:
        raise ENOEXEC("not an executable ELF file")
    if not 0 < phnum <= MAX_HEADERS or phoff >= 1 << 62:
        raise ENOEXEC("bad program headers")
    table = file.try_pread(phnum * elf.PHDR.size, phoff) or b""
    if len(table) < phnum * elf.PHDR.size:
        raise ENOEXEC("truncated program headers")
    return _decode(file, kind == elf.ET_DYN, entry, phoff, phnum, table, task_size)


def _decode(
    file: File, movable: bool, entry: int, phoff: int, phnum: int, table: bytes, task_size: int
) -> tuple[Image, int]:
    reach = phoff + len(table)
    segments: list[Segment] = []
    interpreter = b""
    align, headers, executable_stack = PAGE_SIZE, 0, True
    for kind, flags, offset, vaddr, _, filesz, memsz, p_align in elf.PHDR.iter_unpack(table):
        if kind == elf.PT_INTERP and not interpreter:
            interpreter = _interpreter(file, offset, filesz)
            reach = max(reach, offset + filesz)
        elif kind == elf.PT_GNU_STACK:
            executable_stack = bool(flags & elf.PF_X)
        elif kind == elf.PT_LOAD and memsz:
            segments.append(_segment(flags, offset, vaddr, filesz, memsz, task_size))
            if p_align > align and not p_align & (p_align - 1) and p_align <= 1 << 30:
                align = p_align
            if offset <= phoff < offset + filesz:
                headers = phoff - offset + vaddr
    if not segments:
        raise ENOEXEC("nothing to load")
    low = min(each.vaddr for each in segments) & ~PAGE_MASK
    high = max(each.vaddr + each.length for each in segments) + PAGE_MASK & ~PAGE_MASK
    if high - low > task_size:
        raise ENOMEM("the image is larger than user space")
    image = Image(entry, movable, tuple(segments), low, high, align, interpreter, headers, phnum, executable_stack)
    return image, reach


def _segment(flags: int, offset: int, vaddr: int, filesz: int, memsz: int, task_size: int) -> Segment:
    if filesz > memsz:
        raise EINVAL("a segment has more bytes in the file than in memory")
    if vaddr >= task_size or memsz > task_size - vaddr or offset >= 1 << 62:
        raise ENOMEM("a segment lies outside user space")
    if (vaddr ^ offset) & PAGE_MASK:
        raise EINVAL("a segment's address and offset disagree")
    prot = (PROT_READ if flags & elf.PF_R else 0) | (PROT_WRITE if flags & elf.PF_W else 0)
    prot |= PROT_EXEC if flags & elf.PF_X else 0
    return Segment(vaddr, offset, filesz, memsz, prot)


def _interpreter(file: File, offset: int, size: int) -> bytes:
    if not 2 <= size <= 4096 or offset >= 1 << 62:
        raise ENOEXEC("bad interpreter name")
    name = file.try_pread(size, offset) or b""
    if len(name) != size or name[-1]:
        raise ENOEXEC("bad interpreter name")
    return name[: name.index(0)]
