"""An address space as text of 80 columns: the table of areas, the picture, tables by level, walks, sharers, TLBs."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING

from trapline.scope.strace.text import printable
from trapline.scope.views.space import amount

if TYPE_CHECKING:
    from trapline.scope.views.cached import Cached, Hart
    from trapline.scope.views.sharing import Shared
    from trapline.scope.views.space import Area, Mapping, Space
    from trapline.scope.views.walks import Walk

WIDTH = 80
BOX = 24  #: columns of the picture's box
NEAR = 4 << 20  #: parts of one file closer than this are one block of the picture


def fit(text: str, width: int) -> str:
    """A name in so many columns: of a long one, its end."""
    text = printable(text)
    return text if len(text) <= width else "~" + text[-(width - 1) :]


def head(space: Space) -> str:
    """Two lines: what its page tables are, and how much memory it has."""
    threads = f"{space.threads} threads, " if space.threads > 1 else ""
    threads += f"{space.users} tasks in this space, " if space.users > space.threads else ""
    size, rss, pss = (amount(space.total(field)) for field in ("size", "rss", "pss"))
    minor, major = space.faults
    return (
        f"{threads}{space.paging} page tables, root in frame {space.root:#x}\n"
        f"{len(space.areas)} areas of {size}, {rss} resident, {pss} its share; {minor} minor, {major} major faults\n"
    )


def table(space: Space) -> str:
    """The areas, and what the page tables hold of each."""
    title = f"{'start':>12} {'':4}{'size':>6}{'rss':>6}{'pss':>6}{'shared':>7}{'access':>7}{'dirty':>6}{'huge':>6}  name"
    rows = [
        f"{each.start:012x} {each.rights}{amount(each.size):>6}{amount(each.rss):>6}{amount(each.pss):>6}"
        f"{amount(each.shared):>7}{amount(each.accessed):>7}{amount(each.dirty):>6}{amount(each.huge):>6}"
        f"  {fit(label(each), 17)}"
        for each in space.areas
    ]
    return "\n".join([title, *rows]) + "\n"


def label(area: Area) -> str:
    return area.name or f"({area.kind})"


def levels(space: Space) -> str:
    """Tables by level."""
    lines = [f"{'table':<10}{'an entry covers':>16}{'tables':>8}{'bytes':>8}{'entries':>9}{'used':>7}{'leaves':>8}"]
    lines += [
        f"{each.name:<10}{amount(each.covers):>16}{each.tables:>8}{amount(each.bytes):>8}{each.entries:>9}"
        f"{each.used:>7}{each.leaves:>8}"
        for each in space.levels
    ]
    mapped = space.total("rss")
    cost = f", {100 * space.table_bytes / mapped:.1f} % of what they map" if mapped else ""
    lines.append(f"{'':<26}{sum(each.tables for each in space.levels):>8}{amount(space.table_bytes):>8}{cost}")
    return "\n".join(lines) + "\n"


# ---- the picture


def blocks(areas: Sequence[Area]) -> list[list[Area]]:
    """Areas that belong together: neighbours of one name, and what follows a file closely without a name of its own."""
    found: list[list[Area]] = []
    for each in areas:
        if found and _belongs(each, found[-1]):
            found[-1].append(each)
        else:
            found.append([each])
    return found


def _belongs(area: Area, block: list[Area]) -> bool:
    gap = area.start - block[-1].end
    return gap < NEAR and (area.name == block[0].name or (not area.name and not gap))


def picture(space: Space) -> str:
    """User space from its end down to 0: a block for each program, library, heap, stack; gaps between; heights by magnitude."""
    lines = ["name, size (resident); # is resident, of each block from its lower left corner"]
    lines += [f"{space.task_size:012x} {_edge()} end of user space"]
    above = space.task_size
    for block in reversed(blocks(space.areas)):
        start, end = block[0].start, block[-1].end
        if end < above:
            lines += _gap(above - end)
            lines.append(f"{end:012x} {_edge()}")
        lines += _block(block)
        lines.append(f"{start:012x} {_edge()}")
        above = start
    if above:
        lines += _gap(above)
        lines.append(f"{0:012x} {_edge()}")
    return "\n".join(lines) + "\n"


def _edge() -> str:
    return "+" + "-" * BOX + "+"


def _gap(size: int) -> list[str]:
    rows = max(1, int(log2(size) - 20) // 10) if size > 1 << 20 else 1
    text = f"free {amount(size)}".center(BOX)
    return [" " * 13 + f"|{text if row == rows // 2 else '':{BOX}}|" for row in range(rows)]


def _block(block: list[Area]) -> list[str]:
    """Rows by magnitude, the filled ones below."""
    size = sum(each.size for each in block)
    rss = sum(each.rss for each in block)
    rows = min(4, max(1, int(log2(size) - 12) // 5))
    full = -(-rss * rows * BOX // size)
    rights = sorted({each.rights for each in block})
    texts = [fit(label(block[0]), 24), f"{amount(size)}, {amount(rss)} resident", " ".join(rights)[: WIDTH - BOX - 17]]
    notes = [f"{texts[0]}  {amount(size)} ({amount(rss)})"] if rows == 1 else texts
    lines = []
    for row in range(rows):
        filled = min(BOX, max(0, full - (rows - 1 - row) * BOX))
        note = notes[row] if row < len(notes) else ""
        lines.append(" " * 13 + f"|{'#' * filled:.<{BOX}}| {note}".rstrip())
    return lines


# ---- walks, sharers, leaves


def walk(found: Walk) -> str:
    """Each step with every bit of its entry."""
    cut = " | ".join(f"{name} {value:#x}" if name == "offset" else f"{name} {value}" for name, value in found.parts)
    lines = [f"walk for {found.address:#x} of process {found.pid}: {found.paging}", f"  {cut}"]
    lines += [f"  in area {fit(found.area, 66)}"] if found.area else ["  in no area"]
    for step in found.steps:
        lines.append(f"  {step.table}[{step.slot}] at {step.address:#x} = {step.entry:016x}: {step.summary}")
        for bit in reversed(step.bits):
            where = f"{bit.low}" if bit.low == bit.high else f"{bit.high}-{bit.low}"
            lines.append(f"    {where:>6} {bit.name:<6}{bit.value:>10x}  {bit.meaning}")
    known = f", {_count(found.references, 'reference')}, user rights {found.rights}" if found.mapped else ""
    lines += _wrapped(f"  {found.outcome}{known}") + _wrapped(f"  {found.touch}")
    return "\n".join(lines) + "\n"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > WIDTH and lines[-1].strip():
            lines.append("   ")
        lines[-1] += (" " if lines[-1].strip() else "") + word if word else " "
    return lines


def shared(found: Sequence[Shared]) -> str:
    """Who else has the frames; runs of pages with the same sharers are one paragraph, whatever their frames."""
    if not found:
        return "no frame is shared, and none belongs to a file\n"
    lines: list[str] = []
    for start, end, first, frames in _merged(found):
        what = "copy on write" if first.copy_on_write else "shared"
        if first.file:
            what = f"{fit(first.file, 30)} +{first.offset:#x}"
        lines.append(f"{start:012x}-{end:012x} {amount(end - start):>6}  {what}")
        more = f", in {frames} runs of frames" if frames > 1 else ""
        lines.append(f"      from frame {first.frame:#x}{more}{'' if first.sharers else '; nobody else maps it now'}")
        lines += [
            f"      {printable(each.command)}[{each.pid}] at {each.address:012x} {each.rights} {fit(each.area, 30)}"
            for each in first.sharers[:8]
        ]
        if len(first.sharers) > 8:
            lines.append(f"      and {len(first.sharers) - 8} more")
    return "\n".join(lines) + "\n"


def _merged(found: Sequence[Shared]) -> list[tuple[int, int, Shared, int]]:
    """(start, end, the first, how many) of neighbours that differ in nothing but frames."""
    merged: list[tuple[int, int, Shared, int]] = []
    for each in found:
        if merged:
            start, end, first, count = merged[-1]
            offset = each.start - start
            others = tuple(other._replace(address=other.address + offset) for other in first.sharers)
            same = others == each.sharers and (first.file, first.copy_on_write) == (each.file, each.copy_on_write)
            if end == each.start and same:
                merged[-1] = (start, each.end, first, count + 1)
                continue
        merged.append((each.start, each.end, each, 1))
    return merged


def mappings(found: Sequence[Mapping], nothing: str) -> str:
    """Runs of leaves."""
    if not found:
        return f"{nothing}\n"
    rows = ["flags: Present Write eXecute User Accessed Dirty copy-on-write file"]
    rows += [
        f"{each.start:012x}-{each.end:012x} {amount(each.end - each.start):>6} of {amount(each.leaf):>4}  {each.flags}  "
        f"at physical {each.physical:#x}"
        for each in found
    ]
    total = sum(each.end - each.start for each in found)
    return "\n".join([*rows, f"{'together':>25} {amount(total):>6}"]) + "\n"


# ---- caches


def cached(found: Cached) -> str:
    """TLBs, or the mappings of the host's process."""
    if found.machine != "riscv":
        lines = [
            f"the machine's TLB is what the host's process {found.pid} has mapped: {len(found.entries)} ranges,",
            f"{amount(found.bytes)} of the {amount(found.tables_bytes)} that the page tables map",
        ]
        lines += [
            f"{each.start:012x}-{each.end:012x} {amount(each.end - each.start):>6} {each.rights} at physical {each.physical:#x}"
            for each in found.entries
        ]
        return "\n".join(lines) + "\n"
    return "".join(_hart(each) for each in found.harts)


def _hart(hart: Hart) -> str:
    looked = hart.hits + hart.misses
    each = f", {hart.walk_steps / hart.misses:.2f} for each" if hart.misses else ""
    inner = hart.innermost
    lines = [
        f"hart {hart.hart}: {hart.retired} instructions retired; TLB of {hart.sets} sets of {hart.ways}, {hart.size} in use",
        f"  {hart.misses} misses, walked in {hart.walk_steps} steps{each}; {hart.flushes} flushes",
    ]
    if hart.counts_all:
        rate = f": {100 * hart.hits / looked:.3f} % of all loads and stores" if looked else ""
        lines.append(f"  {hart.hits} hits{rate}")
    else:
        kinds = ", ".join(f"{pages} pages to {kind}" for kind, pages in inner.items())
        lines.append(f"  in front of it: {kinds}, whose hits are not")
        lines.append(f"  counted (--tlb-size counts each access); behind them {hart.hits} hits")
    lines += [f"  {e.start:012x} {amount(e.end - e.start):>6} {e.rights} at physical {e.physical:#x}" for e in hart.entries]
    return "\n".join(lines) + "\n"
