"""NativeMachine: the RISC-V machine with harts that run native code."""

from __future__ import annotations

from trapline.machine.ram import Ram
from trapline.machine.riscv.hart import Hart
from trapline.machine.riscv.jit.native import NativeHart
from trapline.machine.riscv.jit.tiers import LADDER, Tiers
from trapline.machine.riscv.machine import RiscvMachine, host_ticks


class NativeMachine(RiscvMachine):
    """Its harts share code pages and regions, for they run the same RAM."""

    prefers_runs = True  # see window.py
    quantum = 1_000_000

    def __init__(self, ram: Ram, cpus: int = 1, tier: str = "native") -> None:
        hot, warm = LADDER[tier]
        self.tiers = Tiers(ram, hot=hot, warm=warm)
        super().__init__(ram, cpus)

    def make_hart(self, hartid: int) -> Hart:
        return NativeHart(self.bus, self.code, hartid=hartid, time=host_ticks, hosted=True, tiers=self.tiers)

    def tier(self) -> str:
        return f"native tiers: LLVM interpreter, {self.tiers.summary()}"

    def close(self) -> None:
        super().close()
        self.tiers.close()
