"""Page tables as text: the runs a process has mapped, and single walks, entry by entry, from the real entries in RAM."""

from __future__ import annotations

from typing import Any

from trapline.machine.paging.entry import PAGE_SHIFT, Format
from trapline.machine.paging.walk import Run, Step, leaves, runs, steps

_LEVELS = ("PTE", "PMD", "PUD", "PGD", "P5D")


def mapped(mm: Any) -> list[Run]:
    """What an address space maps."""
    return list(runs(mm.ram.words, mm.tables.root, 0, mm.task_size, mm.tables.fmt))


def walk_of(mm: Any, address: int) -> list[Step]:
    return list(steps(mm.ram.words, mm.tables.root, address, mm.tables.fmt))


def flag_letters(entry: int, fmt: Format) -> str:
    """The bits of a leaf: present, write, execute, user, accessed, dirty, copy-on-write, file."""
    bits = (
        ("P", entry & fmt.present), ("W", entry & fmt.write), ("X", fmt.can_execute(entry)), ("U", entry & fmt.user),
        ("A", entry & fmt.accessed), ("D", entry & fmt.dirty), ("c", entry & fmt.soft_cow), ("f", entry & fmt.soft_file),
    )  # fmt: skip
    return "".join(letter if on else "-" for letter, on in bits)


def _size(pages: int) -> str:
    kb = pages << (PAGE_SHIFT - 10)
    return f"{kb >> 10} MiB" if kb >= 1024 and not kb & 1023 else f"{kb} KiB"


def dump(mm: Any) -> str:
    """Every run, with the walk to its first page: level, address of the entry in RAM, the entry."""
    fmt = mm.tables.fmt
    lines = [f"{fmt.name}: top-level table in frame {mm.tables.root:#x}, {mm.tables.table_pages} tables"]
    lines.append("flags: Present Write eXecute User Accessed Dirty copy-on-write file")
    for run in mapped(mm):
        pages = (run.end - run.start) >> PAGE_SHIFT
        flags = flag_letters(run.entry, fmt)
        lines.append(f"{run.start:012x}-{run.end:012x}  {_size(pages):>10}  {flags}  -> frame {run.pa >> PAGE_SHIFT:#x}")
        lines.append("    " + walk_text(mm, run.start))
    return "\n".join(lines) + "\n"


def walk_text(mm: Any, address: int) -> str:
    """One walk on one line."""
    parts = [f"{_LEVELS[step.level]}@{step.word * 8:#x}={step.entry:#x}" for step in walk_of(mm, address)]
    return "  ".join(parts)


def resident_pages(mm: Any) -> int:
    """How many pages of user memory are mapped, counted in the tables."""
    fmt = mm.tables.fmt
    total = 0
    for _, step in leaves(mm.ram.words, mm.tables.root, 0, mm.task_size, fmt):
        total += 1 << (fmt.index_bits * step.level)
    return total
