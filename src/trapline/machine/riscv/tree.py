"""The board's device tree: what a kernel or firmware is told about the board, made from what is on it.

Node names and bindings are those of QEMU's `virt`, so whoever knows that board knows this one.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv import addresses as place
from trapline.machine.riscv.arch import ISA
from trapline.machine.riscv.devices.finisher import PASS, RESET
from trapline.machine.riscv.devices.plic import SOURCES
from trapline.machine.riscv.devicetree import Node, Tree, cells, wide
from trapline.machine.riscv.harts import PER_TICK
from trapline.machine.riscv.privileged import BLOCK
from trapline.machine.riscv.trap import MEI, MSI, MTI, SEI

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board

#: What supervisors may rely on besides what user code may.
_SUPERVISOR_ISA = "_smepmp_sstc_svadu_svinval_svnapot_svpbmt"
#: in the order of the manual: what S-mode has comes behind what all modes have
_ISA = ISA.replace("_", "h_", 1) + "_zimop_zcmop_zicfilp_zicfiss" + _SUPERVISOR_ISA
TIMEBASE_HZ = 1_000_000_000 // PER_TICK
UART_HZ = 3_686_400
UART_TAKES = 256  #: bytes that the transmitter takes at once: as many as anybody has, for sending takes it no time
_INTC, _PLIC, _TEST = 0x100, 1, 2  #: phandles; a hart's interrupt controller has _INTC + its number, the hart itself 0x200 more
_CPU = 0x300


def board_tree(board: Board) -> Tree:
    """The tree of `board`, with nothing about what it starts: see `choose`."""
    root = Node("")
    for name, value in (("#address-cells", 2), ("#size-cells", 2)):
        root.set(name, value)
    root.set("compatible", "riscv-virtio")
    root.set("model", "riscv-virtio,trapline")
    root.add("chosen", stdout_path=f"/soc/serial@{place.UART:x}")
    ram = board.bus.ram_base, board.ram.size
    root.add(f"memory@{ram[0]:x}", device_type="memory", reg=wide(*ram))
    _cpus(root, len(board.harts.each))
    soc = root.add("soc", n_address_cells=2, n_size_cells=2, compatible="simple-bus", ranges=None)
    _interrupts(soc, board)
    soc.add(
        f"test@{place.FINISHER:x}", compatible=("sifive,test1", "sifive,test0", "syscon"),
        reg=wide(place.FINISHER, 0x1000), phandle=_TEST,
    )  # fmt: skip
    for name, value in (("poweroff", PASS), ("reboot", RESET)):
        root.add(name, compatible=f"syscon-{name}", regmap=_TEST, offset=0, value=value)
    serial = _wired(soc, f"serial@{place.UART:x}", "ns16550a", place.UART, 0x100, place.UART_SOURCE)
    for name, value in (("clock-frequency", UART_HZ), ("fifo-size", UART_TAKES), ("tx-threshold", 0)):
        serial.set(name, value)
    _wired(soc, f"rtc@{place.RTC:x}", "google,goldfish-rtc", place.RTC, 0x1000, place.RTC_SOURCE)
    for n, address in board.virtio_slots():
        _wired(soc, f"virtio_mmio@{address:x}", "virtio,mmio", address, 0x1000, place.VIRTIO_SOURCE + n)
    if board.flash:
        banks = [word for n, bank in enumerate(board.flash) for word in (place.FLASH + n * place.FLASH_BYTES, bank.size)]
        root.add(f"flash@{place.FLASH:x}", compatible="cfi-flash", reg=wide(*banks), bank_width=4)
    return Tree(root)


def choose(tree: Tree, *, bootargs: str, initrd: tuple[int, int] | None, seed: bytes) -> None:
    """What the next stage is told in /chosen. A tree without one gets one."""
    chosen = tree.root.find("/chosen") or tree.root.add("chosen")
    if bootargs:
        chosen.set("bootargs", bootargs)
    if initrd:
        chosen.set("linux,initrd-start", wide(initrd[0]))
        chosen.set("linux,initrd-end", wide(initrd[1]))
    if seed:
        chosen.set("rng-seed", seed)
        chosen.set("kaslr-seed", seed[:8])


def _cpus(root: Node, count: int) -> None:
    cpus = root.add("cpus", n_address_cells=1, n_size_cells=0, timebase_frequency=TIMEBASE_HZ)
    for n in range(count):
        cpu = cpus.add(
            f"cpu@{n:x}", device_type="cpu", reg=n, status="okay", compatible="riscv", riscv__isa=_ISA,
            mmu_type="riscv,sv57", riscv__cbom_block_size=BLOCK, riscv__cboz_block_size=BLOCK, phandle=_CPU + n,
        )  # fmt: skip
        cpu.add(
            "interrupt-controller", n_address_cells=0, n_interrupt_cells=1, interrupt_controller=None,
            compatible="riscv,cpu-intc", phandle=_INTC + n,
        )  # fmt: skip
    cluster = cpus.add("cpu-map").add("cluster0")
    for n in range(count):
        cluster.add(f"core{n}", cpu=_CPU + n)


def _interrupts(soc: Node, board: Board) -> None:
    harts = range(len(board.harts.each))
    soc.add(
        f"clint@{place.ACLINT:x}", compatible=("sifive,clint0", "riscv,clint0"), reg=wide(place.ACLINT, 0x1_0000),
        interrupts_extended=cells(*(word for n in harts for word in (_INTC + n, MSI, _INTC + n, MTI))),
    )  # fmt: skip
    soc.add(
        f"plic@{place.PLIC:x}", compatible=("sifive,plic-1.0.0", "riscv,plic0"), reg=wide(place.PLIC, board.plic.size),
        interrupts_extended=cells(*(word for n in harts for word in (_INTC + n, MEI, _INTC + n, SEI))),
        interrupt_controller=None, n_interrupt_cells=1, n_address_cells=0, riscv__ndev=SOURCES - 1, phandle=_PLIC,
    )  # fmt: skip


def _wired(soc: Node, name: str, compatible: str, address: int, size: int, source: int) -> Node:
    """A device with registers and one interrupt."""
    return soc.add(name, compatible=compatible, reg=wide(address, size), interrupt_parent=_PLIC, interrupts=source)
