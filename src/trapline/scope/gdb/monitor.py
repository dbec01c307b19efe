"""What `monitor COMMAND` does in GDB: a table of commands, each a function of the server and the words behind its name."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv.csr import NUMBERS
from trapline.machine.riscv.trap import PAGE
from trapline.scope.gdb import lens, registers

if TYPE_CHECKING:
    from trapline.scope.gdb.server import Server


def _walk(server: Server, words: list[str]) -> str:
    """walk VA: the page-table entries that translate an address"""
    va = int(words[0], 0) & (1 << 64) - 1
    taken, leaf = lens.walk(server.hart, va)
    lines = [f"level {step.level}: entry at {step.at:#x} is {step.entry:#x}" for step in taken]
    if leaf is None:
        lines.append("addresses are physical in this mode")
    elif isinstance(leaf, int):
        lines.append("page fault" if leaf == PAGE else "access fault")
    else:
        lines.append(f"{va:#x} is at {leaf.pa | va & ((1 << leaf.shift) - 1):#x}, in a page of {1 << leaf.shift} bytes")
    return "\n".join(lines)


def _tlb(server: Server, words: list[str]) -> str:
    """tlb: what the reference tier's TLB holds"""
    state = server.hart.tlb.state()
    lines = [
        f"{page << shift:#x} asid {asid} -> {leaf[3]:#x} entry {leaf[0]:#x}" for page, shift, asid, *leaf in state["entries"]
    ]
    return "\n".join([*lines, f"{len(lines)} entries, {state['hits']} hits, {state['misses']} misses"])


def _csr(server: Server, words: list[str]) -> str:
    """csr NAME...: registers"""
    lines = []
    for name in words:
        value = registers.read(server.hart, registers.CSR + NUMBERS[name]) if name in NUMBERS else None
        lines.append(f"{name} {value:#x}" if value is not None else f"{name}: no such register")
    return "\n".join(lines)


def _checkpoint(server: Server, words: list[str]) -> str:
    """checkpoint: take one here; going back gets faster"""
    server.timeline.mark()
    return f"checkpoint {len(server.timeline.marks) - 1}"


def _checkpoints(server: Server, words: list[str]) -> str:
    """checkpoints: list them"""
    return "\n".join(f"{n}: round {mark.position[0]}" for n, mark in enumerate(server.timeline.marks))


def _restore(server: Server, words: list[str]) -> str:
    """restore N: go back to a checkpoint"""
    marks = server.timeline.marks
    n = int(words[0])
    if not 0 <= n < len(marks):
        return f"there are {len(marks)} checkpoints"
    server.timeline.restore(marks[n])
    return "restored; `maintenance flush register-cache` makes GDB look again"


def _reset(server: Server, words: list[str]) -> str:
    """reset: the board starts again; its past is forgotten"""
    server.timeline.board.reset()
    server.timeline.change()
    return "reset; `maintenance flush register-cache` makes GDB look again"


def _ticks(server: Server, words: list[str]) -> str:
    """ticks: virtual time, and where in history this is"""
    harts = server.timeline.harts
    return f"{harts.now()} ticks; round {harts.position()[0]}; {'present' if server.timeline.live else 'past'}"


def _physical(server: Server, words: list[str]) -> str:
    """physical on|off: whether addresses of memory are physical"""
    server.direct = words[:1] == ["on"]
    return f"addresses are {'physical' if server.direct else 'virtual'}"


COMMANDS: dict[str, Callable[[Server, list[str]], str]] = {
    "walk": _walk, "tlb": _tlb, "csr": _csr, "checkpoint": _checkpoint, "checkpoints": _checkpoints, "restore": _restore,
    "reset": _reset, "ticks": _ticks, "physical": _physical,
}  # fmt: skip


def monitor(server: Server, text: str) -> str:
    """The answer to a command."""
    name, *words = text.split() or ["help"]
    command = COMMANDS.get(name)
    if command is None:
        return "\n".join(each.__doc__ or "" for each in COMMANDS.values())
    try:
        return command(server, words)
    except (ValueError, IndexError):
        return f"write: monitor {command.__doc__}"
