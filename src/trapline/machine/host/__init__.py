"""The host machine: user mode is this computer's own, in stub processes whose every system call is a trap.

In a nutshell: an address space is a host process that holds nothing but a small stub (`stub.c`) and shared views of guest
RAM; those views are the TLB. A slot is a stretch of memory shared with one thread of it, for traps and commands.

    machine.py   HostMachine: resume, wait, kick          trap.py     what a slot says happened
    space.py     one address space: fills and shoot-downs  tlb.py      which ranges its process has mapped
    process.py   one stub process, its threads and slots   fill.py     a miss: walk, set A and D, find the run to map
    zygote.py    where stub processes come from            notify.py   let a held system call go on, if it is ours
    context.py   one thread's registers; fpstate.py: its XSAVE image    layout.py, arch.py, checks.py
    suspicion.py does a thread that is to obey do something else?

Invariants:
- nothing in a slot is believed: it is copied once and only ever hurts the space it belongs to;
- a stub process changes its mappings only by an operation the kernel ordered, verified argument by argument;
- when `flush` returns, no thread of the space can reach the old frames, whatever it wrote in its slots.
"""

from trapline.typed import TYPE_CHECKING

from trapline.machine.host.errors import MachineUnavailable

if TYPE_CHECKING:
    from trapline.machine.host.machine import HostMachine

__all__ = ["HostMachine", "MachineUnavailable"]


def __getattr__(name: str) -> object:
    if name == "HostMachine":  # so that asking for the checks does not need the native parts
        from trapline.machine.host.machine import HostMachine

        return HostMachine
    raise AttributeError(name)
