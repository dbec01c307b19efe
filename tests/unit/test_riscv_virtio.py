"""Virtio: registers, split rings and what a hostile driver does to them, disks, overlays, entropy, console."""

from __future__ import annotations

import random
import struct

import pytest
from riscv_virtio import BASE, DATA, READY, Driver

from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.overlay import BLOCK, Overlay
from trapline.machine.riscv.devices.storage import Memory, StorageError
from trapline.machine.riscv.devices.virtio import console
from trapline.machine.riscv.devices.virtio import transport as at
from trapline.machine.riscv.devices.virtio.block import (
    DISCARD,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    OK,
    OUT,
    UNSUPP,
    WRITE_ZEROES,
    Block,
)
from trapline.machine.riscv.devices.virtio.console import Console
from trapline.machine.riscv.devices.virtio.entropy import Entropy, Stream
from trapline.machine.riscv.devices.virtio.net import (
    BACKLOG,
    F_MRG_RXBUF,
    GATHERING,
    HEADER,
    PATIENCE,
    Hub,
    Net,
)
from trapline.machine.riscv.devices.virtio.queue import F_EVENT_IDX, F_INDIRECT_DESC, INDIRECT, NEXT, WRITE

DISK = 64 << 10


def disk(**given: bool) -> Memory:
    return Memory(bytes(range(256)) * (DISK // 256), **given)


def request(driver: Driver, kind: int, sector: int, *, out: bytes = b"", room: int = 0) -> tuple[int, bytes]:
    """One request to a disk: (status, what was read)."""
    driver.put(DATA, struct.pack("<IIQ", kind, 0, sector))
    driver.put(DATA + 16, out)
    places = driver.chain(0, [16, len(out)] if out else [16], [room, 1] if room else [1])
    return driver.look(places[-1], 1)[0], driver.look(places[-2], room) if room else b""


class TestTransport:
    def test_identity(self) -> None:
        driver = Driver(Block(disk()))
        assert [driver.get(4 * n) for n in range(3)] == [0x74726976, 2, 2]
        assert driver.device.read(at.CONFIG, 8) == DISK // 512 and driver.device.read(at.CONFIG + 7, 1) == 0
        assert driver.device.read(0xFFC, 4) == 0

    def test_features_that_were_not_offered_are_not_accepted(self) -> None:
        driver = Driver(Block(disk()))
        for features, good in ((1 << 60, False), (0, True)):
            driver.start(features, READY)
            assert bool(driver.get(at.STATUS) & at.FEATURES_OK) is good and bool(driver.get(at.STATUS) & at.DRIVER_OK) is good

    def test_without_version_1_it_does_not_start(self) -> None:
        driver = Driver(Block(disk()))
        driver.set(at.STATUS, 0)
        driver.set(at.STATUS, at.FEATURES_OK)
        assert not driver.get(at.STATUS) & at.FEATURES_OK

    def test_queues_do_not_change_while_in_use(self) -> None:
        driver = Driver(Block(disk()))
        driver.set(at.QUEUE_SEL, 0)
        driver.set(at.QUEUE_SIZE, 4)
        driver.set(at.QUEUE_DESC, 0)
        assert request(driver, IN, 0, room=512)[0] == OK

    def test_queue_that_is_not_there(self) -> None:
        driver = Driver(Block(disk()))
        driver.set(at.QUEUE_SEL, 7)
        assert driver.get(at.QUEUE_SIZE_MAX) == 0 == driver.get(at.QUEUE_READY)
        driver.set(at.QUEUE_READY, 1)
        driver.set(at.QUEUE_NOTIFY, 7)
        driver.set(at.QUEUE_NOTIFY, 0xFFFF_FFFF)
        assert driver.get(at.QUEUE_READY) == 0 and not driver.stopped

    @pytest.mark.parametrize(
        ("register", "value"),
        [(at.QUEUE_SIZE, 0), (at.QUEUE_SIZE, 3), (at.QUEUE_SIZE, 512), (at.QUEUE_DESC, BASE + 8), (at.QUEUE_DESC, 0), (at.QUEUE_DESC + 4, 1),
         (at.QUEUE_DRIVER, BASE + 1), (at.QUEUE_DEVICE, BASE + 2), (at.QUEUE_DEVICE, BASE + (4 << 20) - 64)],
    )  # fmt: skip
    def test_queues_in_wrong_places_stop_it(self, register: int, value: int) -> None:
        driver = Driver(Block(disk()))
        driver.set(at.QUEUE_SEL, 0)
        driver.set(at.QUEUE_READY, 0)
        driver.set(register, value)
        driver.set(at.QUEUE_READY, 1)
        assert driver.stopped and driver.get(at.QUEUE_READY) == 0

    def test_odd_accesses_are_refused(self) -> None:
        driver = Driver(Block(disk()))
        for offset, size in ((0, 8), (0x70, 1), (0x72, 2)):
            with pytest.raises(BusError):
                driver.device.read(offset, size)
            with pytest.raises(BusError):
                driver.device.write(offset, size, 0)

    def test_interrupt_is_acknowledged(self) -> None:
        driver = Driver(Block(disk()))
        request(driver, FLUSH, 0)
        assert driver.wire and driver.get(at.INTERRUPT_STATUS) == 1
        driver.set(at.INTERRUPT_ACK, 1)
        assert not driver.wire and driver.get(at.INTERRUPT_STATUS) == 0

    def test_driver_that_polls_gets_no_interrupt(self) -> None:
        driver = Driver(Block(disk()))
        driver.put(BASE + 0x4000, struct.pack("<H", 1))
        request(driver, FLUSH, 0)
        assert len(driver.used(0)) == 1 and not driver.wire

    def test_event_index_says_when_to_interrupt(self) -> None:
        driver = Driver(Block(disk()), F_EVENT_IDX)
        driver.put(BASE + 0x4000 + 4 + 2 * driver.size, struct.pack("<H", 1))  # after the second
        request(driver, FLUSH, 0)
        assert not driver.wire
        request(driver, FLUSH, 0)
        assert driver.wire
        assert driver.look(BASE + 0x8000 + 4 + 8 * driver.size, 2) == struct.pack("<H", 2)  # notify me of the third

    def test_nothing_happens_before_driver_ok_and_all_of_it_then(self) -> None:
        driver = Driver(Block(disk()))
        driver.start(0, READY & ~at.DRIVER_OK)
        driver.put(DATA, struct.pack("<IIQ", FLUSH, 0, 0))
        driver.chain(0, [16], [1])
        assert driver.used(0) == []
        driver.set(at.STATUS, READY)
        assert len(driver.used(0)) == 1

    def test_index_wraps(self) -> None:
        driver = Driver(Block(disk()), size=4)
        for _ in range(65_700):
            driver.put(DATA + 16, b"\x55")
            assert request(driver, FLUSH, 0)[0] == OK


class TestRings:
    """Each breaks one rule; the device stops, and works again after a reset."""

    def broken(self, driver: Driver) -> None:
        assert driver.stopped and driver.wire and driver.get(at.INTERRUPT_STATUS) & 2
        driver.set(at.QUEUE_NOTIFY, 0)
        driver.start(0)
        assert not driver.stopped and request(driver, IN, 0, room=512)[0] == OK

    @pytest.mark.parametrize(
        ("address", "length", "flags"),
        [(0, 16, 0), (BASE - 8, 16, 0), (BASE + (4 << 20) - 8, 16, 0), (BASE, 0, 0), (BASE, 0xFFFF_FFFF, 0), ((1 << 64) - 8, 16, 0),
         (BASE, 16, INDIRECT), (0x1000_0000, 4, WRITE)],
    )  # fmt: skip
    def test_bad_buffer(self, address: int, length: int, flags: int) -> None:
        driver = Driver(Block(disk()))
        driver.describe(0, 0, address, length, flags)
        driver.offer(0, 0)
        self.broken(driver)

    def test_chain_that_never_ends(self) -> None:
        driver = Driver(Block(disk()))
        driver.describe(0, 0, DATA, 16, NEXT, 1)
        driver.describe(0, 1, DATA, 16, NEXT, 0)
        driver.offer(0, 0)
        self.broken(driver)

    @pytest.mark.parametrize("index", [16, 17, 0xFFFF])
    def test_descriptor_that_is_not_there(self, index: int) -> None:
        driver = Driver(Block(disk()))
        driver.offer(0, index)
        self.broken(driver)
        driver.describe(0, 0, DATA, 16, NEXT, index)
        driver.offer(0, 0)
        self.broken(driver)

    def test_readable_behind_writable(self) -> None:
        driver = Driver(Block(disk()))
        driver.describe(0, 0, DATA, 16, NEXT | WRITE, 1)
        driver.describe(0, 1, DATA, 16)
        driver.offer(0, 0)
        self.broken(driver)

    def test_index_that_jumps(self) -> None:
        driver = Driver(Block(disk()))
        driver.put(BASE + 0x4002, struct.pack("<H", 17))
        driver.set(at.QUEUE_NOTIFY, 0)
        self.broken(driver)

    @pytest.mark.parametrize(
        ("address", "length", "flags", "inner"),
        [(DATA, 15, 0, 0), (DATA, 0, 0, 0), (DATA, 32, NEXT, 0), (BASE + (4 << 20) - 16, 32, 0, 0), (DATA, 32, 0, INDIRECT), (0, 16, 0, 0),
         (DATA, 16 * 65537, 0, 0)],
    )  # fmt: skip
    def test_bad_indirect_table(self, address: int, length: int, flags: int, inner: int) -> None:
        driver = Driver(Block(disk()), F_INDIRECT_DESC)
        driver.put(DATA, struct.pack("<QIHH", DATA + 64, 16, inner | NEXT, 1) + struct.pack("<QIHH", DATA + 64, 16, 0, 0))
        driver.describe(0, 0, address, length, INDIRECT | flags)
        driver.offer(0, 0)
        self.broken(driver)

    def test_indirect_table_at_an_odd_address(self) -> None:
        driver = Driver(Block(disk()), F_INDIRECT_DESC)
        driver.put(DATA, struct.pack("<IIQ", FLUSH, 0, 0))
        driver.put(DATA + 101, struct.pack("<QIHH", DATA, 16, NEXT, 1) + struct.pack("<QIHH", DATA + 32, 1, WRITE, 0))
        driver.put(DATA + 32, b"\x55")
        driver.describe(0, 3, DATA + 101, 32, INDIRECT)
        driver.offer(0, 3)
        assert driver.used(0) == [(3, 1)] and driver.look(DATA + 32, 1) == b"\0"

    def test_more_than_a_request_may_have(self) -> None:
        driver = Driver(Block(disk()), size=256)
        for n in range(32):
            driver.describe(0, n, BASE, 4 << 20, NEXT, n + 1)
        driver.offer(0, 0)
        self.broken(driver)

    @pytest.mark.parametrize("seed", range(4))
    def test_random_rings_hurt_nobody(self, seed: int) -> None:
        rng = random.Random(seed)
        contents = disk()
        driver = Driver(Block(contents), F_INDIRECT_DESC | F_EVENT_IDX)
        stopped = 0
        for _ in range(600):
            for index in range(driver.size):
                driver.describe(
                    0, index, rng.choice((DATA, DATA + 8192, BASE, BASE + 0x4000, BASE + 0x8000, 0, rng.getrandbits(64))),
                    rng.choice((16, 16, 1, 512, 4096, 0, rng.getrandbits(32))), rng.choice((0, 1, 1, 2, 3, 3, 4, 7)), rng.choice((index + 1, index, 99)),
                )  # fmt: skip
            driver.put(DATA, struct.pack("<IIQ", rng.choice((IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, 77)), 0, rng.choice((0, 127, 1 << 63))))
            driver.offer(0, rng.randrange(18))
            driver.put(BASE + 0x4000, rng.randbytes(2))
            if driver.stopped:
                stopped += 1
                driver.start(F_INDIRECT_DESC | F_EVENT_IDX)
        assert 0 < stopped < 600 and contents.size == len(contents.data) == DISK


class TestBlock:
    def test_reads_and_writes(self) -> None:
        contents = disk()
        driver = Driver(Block(contents))
        assert request(driver, IN, 2, room=1024) == (OK, bytes(contents.data[1024:2048]))
        assert request(driver, OUT, 3, out=b"z" * 512) == (OK, b"")
        assert contents.data[1536:2048] == b"z" * 512 and driver.used(0) == [(0, 1025), (0, 1)]

    @pytest.mark.parametrize(
        ("kind", "sector", "length", "status"),
        [(IN, 127, 512, OK), (IN, 128, 512, IOERR), (IN, 127, 1024, IOERR), (IN, (1 << 64) - 1, 512, IOERR), (IN, 0, 511, IOERR), (IN, 0, 20, IOERR),
         (55, 0, 512, UNSUPP), (GET_ID, 0, 19, IOERR)],
    )  # fmt: skip
    def test_bounds(self, kind: int, sector: int, length: int, status: int) -> None:
        got, data = request(Driver(Block(disk())), kind, sector, room=length)
        assert got == status and (status == OK or data == bytes(length))

    def test_serial_number(self) -> None:
        assert request(Driver(Block(disk(), "a name")), GET_ID, 0, room=20) == (OK, b"a name".ljust(20, b"\0"))

    def test_zeroes(self) -> None:
        contents = disk()
        driver = Driver(Block(contents))
        for kind in (DISCARD, WRITE_ZEROES):
            contents.data[:] = b"x" * DISK
            assert request(driver, kind, 0, out=struct.pack("<QII", 5, 2, 0))[0] == OK
            assert contents.data.count(0) == 1024 and contents.data.find(0) == 5 * 512
        for sector, count, flags, status in ((127, 2, 0, IOERR), (1 << 63, 1, 0, IOERR), (0, 1 << 31, 0, IOERR), (0, 1, 2, UNSUPP)):
            assert request(driver, WRITE_ZEROES, 0, out=struct.pack("<QII", sector, count, flags))[0] == status
        assert request(driver, WRITE_ZEROES, 0, out=b"short")[0] == IOERR
        assert request(driver, DISCARD, 0, out=struct.pack("<QII", 0, 1, 1))[0] == UNSUPP

    def test_read_only(self) -> None:
        contents = disk(read_only=True)
        driver = Driver(Block(contents))
        assert driver.device.accepted & 1 << 5
        assert request(driver, OUT, 0, out=b"z" * 512)[0] == IOERR
        assert request(driver, WRITE_ZEROES, 0, out=struct.pack("<QII", 0, 1, 0))[0] == UNSUPP
        assert contents.data == disk().data

    def test_failing_storage_is_an_error_to_the_guest(self) -> None:
        class Failing(Memory):
            def read_into(self, offset: int, view: memoryview) -> None:
                raise StorageError("on purpose")

        driver = Driver(Block(Failing(bytes(DISK))))
        assert request(driver, IN, 0, room=512) == (IOERR, bytes(512)) and not driver.stopped

    def test_chain_without_a_place_for_the_status(self) -> None:
        driver = Driver(Block(disk()))
        driver.chain(0, [16], [])
        driver.chain(0, [], [1])
        assert driver.used(0) == [(0, 0), (0, 0)] and not driver.stopped

    def test_much_work_is_done_piece_by_piece(self) -> None:
        """A store that notifies returns before all is done; the rest follows as time passes."""
        big = Memory(bytes(2 << 20))
        driver = Driver(Block(big), size=64)
        driver.put(DATA, struct.pack("<IIQ", IN, 0, 0))
        driver.describe(0, 0, DATA, 16, NEXT, 1)
        driver.describe(0, 1, DATA + 4096, 2 << 20, NEXT | WRITE, 2)
        driver.describe(0, 2, DATA + 64, 1, WRITE)
        for _ in range(20):
            driver.offer(0, 0, notify=False)
        driver.set(at.QUEUE_NOTIFY, 0)
        first = len(driver.used(0))
        assert 0 < first < 20 and driver.harts.deadlines[0]() is not None
        for _ in range(10):
            driver.harts.let_pass(1000)
        assert len(driver.used(0)) == 20 and driver.harts.deadlines[0]() is None


class Growing(Memory):
    """A file that gets longer where it is written to."""

    def write_from(self, offset: int, view: memoryview) -> None:
        self._reach(offset + len(view))
        super().write_from(offset, view)

    def read_into(self, offset: int, view: memoryview) -> None:
        self._reach(offset + len(view))
        super().read_into(offset, view)

    def zero(self, offset: int, length: int) -> None:
        self._reach(offset + length)
        super().zero(offset, length)

    def _reach(self, end: int) -> None:
        self.data += bytes(max(0, end - len(self.data)))
        self.size = len(self.data)


class TestOverlay:
    def test_behaves_like_a_disk_of_its_own(self) -> None:
        rng = random.Random(3)
        size = 40 * BLOCK + 512
        base = Memory(rng.randbytes(size))
        before, model = bytes(base.data), bytearray(base.data)
        top = Growing(b"")
        overlay = Overlay(base, top)
        for step in range(1500):
            offset = rng.randrange(size)
            length = min(size - offset, rng.choice((1, 512, BLOCK, 3 * BLOCK + 17)))
            kind = rng.randrange(4)
            if kind == 0:
                data = rng.randbytes(length)
                overlay.write_from(offset, memoryview(data))
                model[offset : offset + length] = data
            elif kind == 1 and step % 5 == 0:
                overlay.zero(offset, length)
                model[offset : offset + length] = bytes(length)
            elif kind == 2 and step % 50 == 0:
                overlay.flush()
                overlay = Overlay(base, top)
            got = bytearray(length)
            overlay.read_into(offset, memoryview(got))
            assert got == model[offset : offset + length]
        assert base.data == before

    def test_what_was_not_flushed_is_not_there(self) -> None:
        base, top = Memory(bytes(8 * BLOCK)), Growing(b"")
        Overlay(base, top).write_from(0, memoryview(b"lost"))
        again = Overlay(base, top)
        got = bytearray(4)
        again.read_into(0, memoryview(got))
        assert got == bytes(4)

    def test_belongs_to_one_disk(self) -> None:
        top = Growing(b"")
        Overlay(Memory(bytes(8 * BLOCK)), top)
        with pytest.raises(StorageError, match="belongs to a disk"):
            Overlay(Memory(bytes(9 * BLOCK)), top)
        with pytest.raises(StorageError, match="too short"):
            Overlay(Memory(bytes(BLOCK)), Growing(b"x" * 100))
        with pytest.raises(StorageError, match="of ours"):
            Overlay(Memory(bytes(BLOCK)), Growing(b"x" * 5000))


class TestOthers:
    def test_entropy_fills_what_it_is_given(self) -> None:
        driver = Driver(Entropy(Stream(b"7")))
        first, second = driver.chain(0, [], [100, 33])
        assert driver.used(0) == [(0, 133)]
        assert driver.look(first, 100) + driver.look(second, 33) == Stream(b"7")(160)[:133] != Stream(b"8")(133)
        driver.chain(0, [16], [])
        assert driver.used(0)[1] == (0, 0)

    def test_console(self) -> None:
        sent: list[bytes] = []
        console = Console(sent.append, 80, 24)
        driver = Driver(console)
        assert driver.device.read(at.CONFIG, 4) == 24 << 16 | 80 and console.room() == 0
        driver.put(DATA, b"hello")
        driver.chain(1, [5], [])
        assert sent == [b"hello"]
        (place,) = driver.chain(0, [], [8])
        assert driver.used(0) == [] and console.room() == 8
        console.receive(b"typed")
        assert driver.used(0) == [(0, 5)] and driver.look(place, 5) == b"typed" and console.room() == 0
        console.receive(b"lost")
        assert driver.used(0) == [(0, 5)]
        driver.set(at.INTERRUPT_ACK, 3)
        generation = driver.get(at.CONFIG_GENERATION)
        console.resize(100, 40)
        assert driver.get(at.INTERRUPT_STATUS) == 2 and driver.get(at.CONFIG_GENERATION) == generation + 1

    def test_driver_hears_late_that_text_is_gone(self) -> None:
        """It looks itself; who sleeps is woken in a millisecond."""
        text: list[bytes] = []
        driver = Driver(Console(text.append))
        driver.put(DATA, b"hello")
        driver.chain(1, [5], [])
        assert text == [b"hello"] and driver.used(1) == [(0, 0)] and not driver.wire
        driver.wait(console.PATIENCE)
        assert driver.wire

    def test_console_with_a_broken_ring_takes_nothing(self) -> None:
        console = Console(lambda data: None)
        driver = Driver(console)
        driver.offer(0, 99)
        assert console.room() == 0 and driver.stopped


class TestNet:
    FRAME = b"\xff" * 6 + b"\2abcde" + b"\x08\0" + b"payload"

    def made(self) -> tuple[Net, Driver, list[bytes]]:
        card = Net(b"\2abcde")
        sent: list[bytes] = []
        card.send = sent.append
        return card, Driver(card), sent

    def test_configuration(self) -> None:
        card, driver, _ = self.made()
        assert bytes(driver.device.read(at.CONFIG + n, 1) for n in range(6)) == b"\2abcde" and driver.device.read(at.CONFIG + 6, 2) == 1
        card.link(False)
        assert driver.get(at.INTERRUPT_STATUS) == 2 and driver.device.read(at.CONFIG + 6, 2) == 0

    def test_sends_frames_without_their_header(self) -> None:
        _, driver, sent = self.made()
        driver.put(DATA, bytes(HEADER) + self.FRAME)
        driver.chain(1, [HEADER + len(self.FRAME)], [])
        driver.wait()
        driver.put(DATA, bytes(10))
        driver.put(DATA + 16, bytes(2) + self.FRAME)  # the header in two buffers
        driver.chain(1, [10, 2 + len(self.FRAME)], [])
        driver.wait()
        driver.chain(1, [HEADER + 3], [])  # too short for a frame
        driver.chain(1, [5], [])
        driver.wait()
        assert sent == [self.FRAME] * 2 and len(driver.used(1)) == 4 and not driver.stopped

    def test_a_frame_alone_is_sent_at_once_and_more_gather(self) -> None:
        card, driver, sent = self.made()
        batches: list[int] = []
        card.sent = lambda: batches.append(len(sent))
        driver.put(DATA, bytes(HEADER) + self.FRAME)
        for done in (1, 5):
            driver.chain(1, [HEADER + len(self.FRAME)], [])
            assert sent == [self.FRAME] * done and batches[-1] == done and len(driver.used(1)) == done
            for _ in range(3):
                driver.chain(1, [HEADER + len(self.FRAME)], [])
            assert len(sent) == done and not driver.device.quiet
            driver.wait(GATHERING - 1)
            assert len(sent) == done
            driver.wait(1)
            assert sent == [self.FRAME] * (done + 3) and batches[-1] == done + 3 and len(driver.used(1)) == done + 3
            driver.wait(10 * GATHERING + 1)

    def test_driver_hears_of_what_is_sent_with_what_comes_or_later(self) -> None:
        card, driver, _ = self.made()
        driver.put(DATA, bytes(HEADER) + self.FRAME)
        driver.chain(1, [HEADER + len(self.FRAME)], [])
        driver.wait(GATHERING)
        assert len(driver.used(1)) == 1 and not driver.wire and driver.device.quiet
        driver.chain(0, [], [1526])
        card.receive(self.FRAME)
        assert driver.wire
        driver.set(at.INTERRUPT_ACK, 1)
        driver.wait(PATIENCE)
        assert not driver.wire  # it has looked at both queues
        driver.chain(1, [HEADER + len(self.FRAME)], [])
        driver.wait(PATIENCE - 1)
        assert not driver.wire
        driver.wait(1)
        assert driver.wire

    def test_driver_hears_at_once_if_much_is_sent(self) -> None:
        _, driver, _ = self.made()
        driver.put(DATA, bytes(HEADER) + self.FRAME)
        for _ in range(64):
            assert not driver.wire
            driver.chain(1, [HEADER + len(self.FRAME)], [])
            driver.wait(GATHERING)
        driver.wait(1)
        assert driver.wire

    def test_untold_news_are_in_a_checkpoint(self) -> None:
        _, driver, _ = self.made()
        driver.put(DATA, bytes(HEADER) + self.FRAME)
        driver.chain(1, [HEADER + len(self.FRAME)], [])
        driver.wait(GATHERING)
        kept = driver.device.state()
        driver.device.reset()
        driver.device.load(kept)
        driver.wait(PATIENCE)
        assert driver.wire

    def test_receives_into_buffers_or_waits_for_them(self) -> None:
        card, driver, _ = self.made()
        card.receive(self.FRAME)
        assert driver.used(0) == []
        (place,) = driver.chain(0, [], [1526])
        assert driver.used(0) == [(0, HEADER + len(self.FRAME))]
        assert driver.look(place, HEADER + len(self.FRAME)) == bytes(10) + b"\1\0" + self.FRAME

    def test_frames_that_find_no_room_are_lost(self) -> None:
        card, driver, _ = self.made()
        for _ in range(BACKLOG + 5):
            card.receive(self.FRAME)
        assert card.lost == 5
        card.receive(b"short")
        driver.set(at.STATUS, 0)
        card.receive(self.FRAME)
        assert card.lost == 7

    def test_buffer_too_small_for_a_frame_stops_the_card(self) -> None:
        card, driver, _ = self.made()
        driver.chain(0, [], [20])
        card.receive(self.FRAME)
        assert driver.stopped

    def test_long_frames_fill_several_buffers(self) -> None:
        card = Net(b"\2abcde", whole=True)
        driver = Driver(card)
        frame = self.FRAME[:14] + bytes(range(250)) * 20
        assert card.large and driver.device.accepted & F_MRG_RXBUF
        card.receive(self.FRAME, frame)
        places = []
        for n in range(5):
            places.append(DATA + 0x1000 * n)
            driver.describe(0, n, places[-1], 1526, WRITE)
            driver.offer(0, n)
            assert len(driver.used(0)) == (1, 1, 1, 1, 5)[n]
        assert driver.used(0) == [(0, HEADER + len(self.FRAME)), (1, 1526), (2, 1526), (3, 1526), (4, HEADER + len(frame) - 3 * 1526)]
        got = b"".join(driver.look(each, 1526) for each in places[1:])
        assert got[HEADER : HEADER + len(frame)] == frame
        # needs a checksum, TCP over IPv4, 54 bytes of headers, 1460 of data each; the checksum's place; four buffers
        assert got[:HEADER] == struct.pack("<BBHHHHH", 1, 1, 54, 1460, 34, 16, 4)
        assert driver.look(places[0], HEADER) == bytes(10) + b"\1\0"

    def test_long_frames_are_not_for_drivers_that_know_none(self) -> None:
        card = Net(b"\2abcde", whole=True)
        driver = Driver(card)
        driver.start(card.features & ~F_MRG_RXBUF)
        assert not card.large

    def test_hub(self) -> None:
        hub = Hub()
        cards = [hub.card(bytes((2, 0, 0, 0, 0, n))) for n in range(3)]
        drivers = [Driver(card) for card in cards]
        for driver in drivers:
            driver.chain(0, [], [1526])
        drivers[0].put(DATA, bytes(HEADER) + self.FRAME)
        drivers[0].chain(1, [HEADER + len(self.FRAME)], [])
        drivers[0].wait()
        assert [len(driver.used(0)) for driver in drivers] == [0, 1, 1]
