"""The board's devices, register by register: ACLINT, PLIC, serial port, finisher, clock, ROM, flash."""

from __future__ import annotations

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Bus, BusError, Halt
from trapline.machine.riscv.devices.aclint import MSIP, MTIME, MTIMECMP, Aclint
from trapline.machine.riscv.devices.finisher import REBOOT, Finisher
from trapline.machine.riscv.devices.flash import SECTOR, Flash
from trapline.machine.riscv.devices.goldfish import (
    ALARM_HIGH,
    ALARM_LOW,
    ALARM_STATUS,
    CLEAR_ALARM,
    CLEAR_INTERRUPT,
    IRQ_ENABLED,
    TIME_HIGH,
    TIME_LOW,
    GoldfishRtc,
)
from trapline.machine.riscv.devices.plic import Plic
from trapline.machine.riscv.devices.rom import Rom
from trapline.machine.riscv.devices.storage import Memory
from trapline.machine.riscv.devices.uart import FIFO, IER, IIR, LCR, LSR, MCR, MSR, RBR, SCR, Uart
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

    def test_bytes_that_only_join_others_may_be_posted(self) -> None:
        uart, sent, wire = self.made()
        assert not uart.posts(RBR)  # the first one tells that the transmitter has become empty
        uart.write(IER, 1, 2)
        uart.write(RBR, 1, 0x41)
        assert uart.posts(RBR) and not any(uart.posts(offset) for offset in range(1, 8))
        changes = len(wire)
        uart.post(b"BC")
        assert len(wire) == changes and uart.read(LSR, 1) == 0x60
        for register, value in ((MCR, 0x10), (LCR, 0x80)):
            uart.write(register, 1, value)
            assert not uart.posts(RBR)
            uart.write(register, 1, 0)
            assert uart.posts(RBR)
        uart.read(IIR, 1)  # it has been told
        assert not uart.posts(RBR)
        uart.post(b"D" * 5000)
        assert b"".join(sent) == b"ABC" + b"D" * 5000

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


class TestClock:
    def made(self, harts: Harts) -> tuple[GoldfishRtc, list[bool]]:
        wire: list[bool] = []
        return GoldfishRtc(harts, 5 << 32, wire.append), wire

    def now(self, clock: GoldfishRtc) -> int:
        return clock.read(TIME_LOW, 4) | clock.read(TIME_HIGH, 4) << 32

    def test_runs_with_the_harts(self, harts: Harts) -> None:
        clock, _ = self.made(harts)
        assert self.now(clock) == 5 << 32
        harts.let_pass(12_300)  # instructions: a nanosecond each, in ticks of 100
        assert self.now(clock) == (5 << 32) + 12_300

    def test_reading_low_keeps_high(self, harts: Harts) -> None:
        clock, _ = self.made(harts)
        clock.read(TIME_LOW, 4)
        harts.let_pass(10**10)
        assert clock.read(TIME_HIGH, 4) == 5

    def test_is_set(self, harts: Harts) -> None:
        clock, _ = self.made(harts)
        harts.let_pass(1000)
        clock.write(TIME_HIGH, 4, 7)
        clock.write(TIME_LOW, 4, 9)
        assert self.now(clock) == (7 << 32) + 9
        harts.let_pass(1000)
        assert self.now(clock) == (7 << 32) + 1009

    def test_alarm_goes_off_at_its_time(self, harts: Harts) -> None:
        clock, wire = self.made(harts)
        clock.write(IRQ_ENABLED, 4, 1)
        clock.write(ALARM_HIGH, 4, 5)
        clock.write(ALARM_LOW, 4, 1000)
        assert clock.read(ALARM_STATUS, 4) == 1 and harts.deadlines[-1]() == 10
        harts.let_pass(900)
        assert not wire[-1]
        harts.let_pass(100)
        assert wire[-1] and clock.read(ALARM_STATUS, 4) == 0 and harts.deadlines[-1]() is None
        clock.write(CLEAR_INTERRUPT, 4, 1)
        assert not wire[-1]

    def test_alarm_is_called_off(self, harts: Harts) -> None:
        clock, wire = self.made(harts)
        clock.write(IRQ_ENABLED, 4, 1)
        clock.write(ALARM_HIGH, 4, 5)
        clock.write(ALARM_LOW, 4, 1000)
        clock.write(CLEAR_ALARM, 4, 1)
        harts.let_pass(10_000)
        assert not any(wire)

    def test_only_its_registers(self, harts: Harts) -> None:
        clock, _ = self.made(harts)
        for offset, size in ((0, 8), (0x20, 4), (2, 2)):
            with pytest.raises(BusError):
                clock.read(offset, size)


class TestRom:
    def test_is_read_and_not_written(self) -> None:
        rom = Rom(b"\x01\x02\x03\x04", 4096)
        assert rom.read(0, 4) == 0x04030201 and rom.read(2, 8) == 0x0403 and rom.code_page(0)[:5] == b"\1\2\3\4\0"
        with pytest.raises(BusError):
            rom.write(0, 4, 0)


class TestFlash:
    def made(self, **given: bool) -> tuple[Flash, Memory]:
        storage = Memory(bytes(range(256)) * (2 * SECTOR // 256), **given)
        return Flash(storage), storage

    def test_reads_as_memory(self) -> None:
        flash, _ = self.made()
        assert flash.read(4, 4) == 0x07060504 and flash.read(1, 1) == 1 and flash.read(8, 8) == 0x0F0E0D0C0B0A0908
        assert flash.code_page(4096) == bytes(range(256)) * 16

    def test_says_what_it_is(self) -> None:
        flash, _ = self.made()
        flash.write(0, 4, 0x900090)
        assert (flash.read(0, 4), flash.read(4, 4)) == (0x890089, 0x180018) and flash.code_page(0) is None
        flash.write(0x55 * 4, 4, 0x980098)
        assert bytes(flash.read(4 * n, 1) for n in range(0x10, 0x13)) == b"QRY"
        assert 2 << flash.read(4 * 0x27, 1) == flash.size  # two chips
        assert bytes(flash.read(4 * n, 1) for n in range(0x31, 0x36)) == b"PRI10"
        flash.write(0, 4, 0xFF00FF)
        assert flash.read(4, 4) == 0x07060504

    def test_programming_clears_bits_only(self) -> None:
        flash, storage = self.made()
        flash.write(0, 4, 0x400040)
        flash.write(4, 4, 0xFF00FF0F)
        assert flash.read(0, 4) == 0x800080
        assert storage.data[4:8] == bytes((4 & 0x0F, 5, 6 & 0, 7))

    def test_erasing_a_sector(self) -> None:
        flash, storage = self.made()
        flash.write(SECTOR + 8, 4, 0x200020)
        flash.write(SECTOR + 8, 4, 0xD000D0)
        assert flash.read(0, 4) == 0x800080
        assert storage.data[SECTOR:] == b"\xff" * SECTOR and storage.data[:256] == bytes(range(256))

    def test_buffered_write(self) -> None:
        flash, storage = self.made()
        storage.data[:] = b"\xff" * len(storage.data)
        flash.write(0x100, 4, 0xE800E8)
        assert flash.read(0, 4) == 0x800080
        flash.write(0x100, 4, 0x010001)
        flash.write(0x100, 4, 0x11223344)
        flash.write(0x104, 4, 0x55667788)
        assert storage.data[0x100] == 0xFF  # not before it is confirmed
        flash.write(0x100, 4, 0xD000D0)
        assert storage.data[0x100:0x109] == bytes.fromhex("4433221188776655ff")

    def test_wrong_sequences_say_so(self) -> None:
        flash, storage = self.made()
        before = bytes(storage.data)
        for words in ((0x20, 0x33), (0xE8, 0xFFFF), (0x60, 0x77)):
            for word in words:
                flash.write(0, 4, word << 16 | word)
            assert flash.read(0, 1) & 0x30
            flash.write(0, 4, 0x500050)
            flash.write(0, 4, 0x700070)
            assert flash.read(0, 4) == 0x800080
        flash.write(0, 4, 0xE800E8)
        flash.write(0, 4, 0x010001)
        flash.write(0x4000, 4, 0)  # not in the block it began in
        assert flash.read(0, 1) & 0x10 and storage.data == before

    def test_protected_bank_stays_as_it_is(self) -> None:
        flash, storage = self.made(read_only=True)
        flash.write(0, 4, 0x200020)
        flash.write(0, 4, 0xD000D0)
        assert flash.read(0, 1) == 0xA2 and storage.data[:256] == bytes(range(256))

    def test_bus_is_four_bytes_wide(self) -> None:
        flash, _ = self.made()
        with pytest.raises(BusError):
            flash.write(0, 8, 0)
        flash.write(0, 4, 0x700070)
        with pytest.raises(BusError):
            flash.read(0, 8)


class TestBoardDevices:
    def test_first_byte_of_piped_input_is_not_lost_when_linux_starts_the_port(self) -> None:
        """It reads the line status twice in a row, and then throws away what it finds."""
        uart = Uart(lambda data: None, lambda high: None)
        waiting = bytearray(b"poweroff")

        def serve() -> None:
            uart.receive(bytes(waiting[: uart.room()]))
            del waiting[: uart.room()]

        uart.hungry = serve
        for register in (LSR, RBR, IIR, MSR, LSR, LSR, LSR, RBR):
            uart.read(register, 1)
        assert waiting == b"poweroff"
        uart.write(IER, 1, 1)
        assert uart.room() == 1

    def test_serial_port_takes_no_input_before_somebody_listens(self) -> None:
        uart = Uart(lambda data: None, lambda high: None)
        assert uart.room() == 0
        for _ in range(7):
            uart.read(LSR, 1)
        assert uart.room() == 0  # whoever sends looks once or twice
        uart.read(LSR, 1)
        assert uart.room() == 1
        uart.receive(b"a")
        assert uart.read(RBR, 1) == 97 and uart.room() == 1  # and goes on listening
        uart.write(RBR, 1, 65)
        assert uart.room() == 0
        uart.write(IER, 1, 1)
        assert uart.room() == 1
