"""The board's devices, register by register: ACLINT, PLIC, serial port, finisher."""

from __future__ import annotations

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus, BusError, Halt
from trapline.machine.riscv.devices.aclint import MSIP, MTIME, MTIMECMP, Aclint
from trapline.machine.riscv.devices.finisher import REBOOT, Finisher
from trapline.machine.riscv.devices.plic import Plic
from trapline.machine.riscv.devices.uart import FIFO, IER, IIR, LCR, LSR, MCR, RBR, SCR, Uart
from trapline.machine.riscv.harts import Harts
from trapline.machine.riscv.trap import MEI, MSI, MTI, SEI


@pytest.fixture
def harts() -> Harts:
    return Harts(Bus(Ram(4 << 20), 0x8000_0000), 2)


def line(harts: Harts, n: int, bit: int) -> int:
    return int(harts.each[n].cpu[at.LINES]) >> bit & 1


class TestAclint:
    def test_software_interrupts_are_per_hart(self, harts: Harts) -> None:
        device = Aclint(harts)
        device.write(MSIP + 4, 4, 3)
        assert (line(harts, 0, MSI), line(harts, 1, MSI)) == (0, 1)
        assert device.read(MSIP + 4, 4) == 1
        device.write(MSIP + 4, 4, 0)
        assert line(harts, 1, MSI) == 0

    def test_timer_fires_at_its_time_and_not_before(self, harts: Harts) -> None:
        device = Aclint(harts)
        device.write(MTIMECMP, 8, 50)
        assert line(harts, 0, MTI) == 0
        device.write(MTIME, 8, 49)
        assert line(harts, 0, MTI) == 0
        device.write(MTIME, 8, 50)
        assert line(harts, 0, MTI) == 1 and line(harts, 1, MTI) == 0
        device.write(MTIMECMP, 8, 51)
        assert line(harts, 0, MTI) == 0

    def test_halves_of_a_register(self, harts: Harts) -> None:
        device = Aclint(harts)
        device.write(MTIMECMP + 4, 4, 0x1234)
        device.write(MTIMECMP, 4, 0x5678)
        assert device.read(MTIMECMP, 8) == 0x1234_0000_5678
        assert device.read(MTIMECMP + 4, 4) == 0x1234

    def test_deadline_is_the_nearest_timer(self, harts: Harts) -> None:
        device = Aclint(harts)
        assert [source() for source in harts.deadlines] == [None]
        device.write(MTIMECMP, 8, 900)
        device.write(MTIMECMP + 8, 8, 700)
        assert harts.deadlines[0]() == 700

    def test_odd_accesses_are_refused(self, harts: Harts) -> None:
        device = Aclint(harts)
        for offset, size in ((MTIME, 1), (MTIMECMP, 2)):
            with pytest.raises(BusError):
                device.read(offset, size)


class TestPlic:
    def prepared(self, harts: Harts) -> Plic:
        plic = Plic(harts)
        plic.write(4 * 10, 4, 3)
        plic.write(4 * 11, 4, 5)
        plic.write(0x2080, 4, 1 << 10 | 1 << 11)  # context 1: hart 0 in S-mode
        return plic

    def test_highest_priority_is_claimed_first(self, harts: Harts) -> None:
        plic = self.prepared(harts)
        plic.raise_line(10)
        plic.raise_line(11)
        assert line(harts, 0, SEI) == 1 and line(harts, 0, MEI) == 0 and line(harts, 1, SEI) == 0
        assert plic.read(0x201004, 4) == 11
        assert plic.read(0x201004, 4) == 10
        assert plic.read(0x201004, 4) == 0
        assert line(harts, 0, SEI) == 0

    def test_level_stays_until_the_wire_goes_low(self, harts: Harts) -> None:
        plic = self.prepared(harts)
        plic.raise_line(10)
        assert plic.read(0x201004, 4) == 10
        plic.write(0x201004, 4, 10)
        assert line(harts, 0, SEI) == 1  # still high: pending again
        assert plic.read(0x201004, 4) == 10
        plic.lower_line(10)
        plic.write(0x201004, 4, 10)
        assert line(harts, 0, SEI) == 0

    def test_threshold_masks(self, harts: Harts) -> None:
        plic = self.prepared(harts)
        plic.write(0x201000, 4, 4)
        plic.raise_line(10)
        assert line(harts, 0, SEI) == 0 and plic.read(0x1000, 4) == 1 << 10
        plic.write(0x201000, 4, 2)
        assert line(harts, 0, SEI) == 1

    def test_source_zero_does_not_exist(self, harts: Harts) -> None:
        plic = Plic(harts)
        plic.write(0, 4, 7)
        plic.write(0x2000, 4, 1)
        assert plic.read(0, 4) == 0 and plic.read(0x2000, 4) == 0

    def test_only_words(self, harts: Harts) -> None:
        with pytest.raises(BusError):
            Plic(harts).read(0x1000, 8)


class TestUart:
    def made(self) -> tuple[Uart, list[bytes], list[bool]]:
        sent: list[bytes] = []
        wire: list[bool] = []
        return Uart(sent.append, wire.append), sent, wire

    def test_what_is_written_is_sent(self) -> None:
        uart, sent, _ = self.made()
        uart.write(RBR, 1, 0x41)
        uart.write(RBR, 1, 0x42)
        assert sent == [] and uart.read(LSR, 1) == 0x60
        uart.flush()
        uart.flush()
        assert sent == [b"AB"]

    def test_receiver_interrupts_while_it_has_data(self) -> None:
        uart, _, wire = self.made()
        uart.write(IIR, 1, 1)
        uart.write(IER, 1, 1)
        uart.receive(b"xy")
        assert wire[-1] and uart.read(IIR, 1) & 0x0F == 4 and uart.read(LSR, 1) & 1
        assert uart.read(RBR, 1) == ord("x") and wire[-1]
        assert uart.read(RBR, 1) == ord("y") and not wire[-1]
        assert uart.read(IIR, 1) & 1

    def test_transmitter_interrupt_is_cleared_by_reading_its_cause(self) -> None:
        uart, _, wire = self.made()
        uart.write(IER, 1, 2)
        assert wire[-1] and uart.read(IIR, 1) & 0x0F == 2 and not wire[-1]
        uart.write(RBR, 1, 1)
        assert wire[-1]

    def test_overrun_is_told_once(self) -> None:
        uart, _, _ = self.made()
        uart.write(IIR, 1, 1)
        uart.receive(bytes(FIFO + 1))
        assert uart.room() == 0 and uart.read(LSR, 1) & 2 and not uart.read(LSR, 1) & 2

    def test_divisor_hides_behind_its_latch(self) -> None:
        uart, sent, _ = self.made()
        uart.write(LCR, 1, 0x83)
        uart.write(0, 1, 0x34)
        uart.write(1, 1, 0x12)
        assert (uart.read(0, 1), uart.read(1, 1)) == (0x34, 0x12) and sent == []
        uart.write(LCR, 1, 3)
        assert uart.read(IER, 1) == 0

    def test_loop_back(self) -> None:
        uart, sent, _ = self.made()
        uart.write(MCR, 1, 0x10)
        uart.write(RBR, 1, 7)
        assert sent == [] and uart.read(RBR, 1) == 7

    def test_scratch_and_odd_accesses(self) -> None:
        uart, _, _ = self.made()
        uart.write(SCR, 1, 0x5A)
        assert uart.read(SCR, 1) == 0x5A
        with pytest.raises(BusError):
            uart.read(0, 4)


@pytest.mark.parametrize(("value", "status"), [(0x5555, 0), (0x3333, 1), (0x2_3333, 2), (0x7777, REBOOT)])
def test_finisher(value: int, status: int) -> None:
    with pytest.raises(Halt) as halted:
        Finisher().write(0, 4, value)
    assert halted.value.status == status


def test_finisher_ignores_what_it_does_not_know() -> None:
    finisher = Finisher()
    finisher.write(0, 4, 0x1234)
    finisher.write(4, 4, 0x5555)
    assert finisher.read(0, 4) == 0
