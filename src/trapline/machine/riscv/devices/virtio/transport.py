"""Transport: the registers of a virtio device (Virtual I/O Device Specification, "Virtio Over MMIO", version 2).

A `Function` is what the device does: it is told which queues have requests, works on them, and says when it has more to do.
Work is done at the store that notifies, or, where stores follow one another, a set time after it, up to a limit; what is left
is done when time has passed, so a driver cannot keep the machine from running. Of some queues the driver need not hear at once
(`patience`): it is told with the next interrupt, or when much or time has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Protocol

from trapline.machine.riscv.bus import Bus, BusError
from trapline.machine.riscv.devices.saved import BadState, Kind, State, entry, pack, some, unpack, whole
from trapline.machine.riscv.devices.virtio.queue import F_EVENT_IDX, F_INDIRECT_DESC, MAX_SIZE, Broken, Queue
from trapline.machine.riscv.harts import Harts

MAGIC, VERSION, VENDOR = 0x7472_6976, 2, 0x4150_5254
DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x10, 0x14, 0x20, 0x24
QUEUE_SEL, QUEUE_SIZE_MAX, QUEUE_SIZE, QUEUE_READY, QUEUE_NOTIFY = 0x30, 0x34, 0x38, 0x44, 0x50
INTERRUPT_STATUS, INTERRUPT_ACK, STATUS = 0x60, 0x64, 0x70
QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE = 0x80, 0x90, 0xA0
SHM_FIRST, SHM_LAST, QUEUE_RESET, CONFIG_GENERATION, CONFIG = 0xAC, 0xBC, 0xC0, 0xFC, 0x100
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
F_VERSION_1 = 1 << 32
_RING, _CONFIG_CHANGE = 1, 2
_LOW = 0xFFFF_FFFF
_RARELY = 10  #: delays without work make a queue one that is not busy
_MUCH = 64  #: requests that are done, and that the driver has not been told of


class Function(Protocol):
    """What a device does with its queues."""

    device_id: int
    features: int
    queues: int  #: how many
    delays: dict[int, int]  #: by queue: ticks between its notification and `work`, while it is busy: more requests may gather
    patience: dict[int, int]  #: by queue: ticks in which the driver need not hear of what is done

    def attach(self, transport: Transport) -> None:
        """Called once, before anything else."""

    def config(self) -> bytes:
        """The device's configuration space as it is now."""

    def reset(self) -> None: ...

    def work(self, number: int) -> bool:
        """Serve queue `number`; True if there is more to do. Raises Broken."""

    def state(self) -> State: ...

    def load(self, state: State) -> None:
        """The transport's own state has been loaded before. Raises BadState."""


class Transport:
    """`line(bool)` is the interrupt wire."""

    size = 0x1000

    def __init__(self, bus: Bus, harts: Harts, function: Function, line: Callable[[bool], None]) -> None:
        self._harts = harts
        self._function = function
        self._line = line
        self.queues = [Queue(bus) for _ in range(function.queues)]
        self._features = function.features | F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX
        self._generation = 0
        harts.deadlines.append(self._deadline)
        harts.advance.append(self._advance)
        function.attach(self)
        self.reset()

    def reset(self) -> None:
        """As the driver asks by writing 0 to the status."""
        self._status = self._interrupts = 0
        self.accepted = 0  #: features
        self._device_sel = self._driver_sel = self._queue_sel = 0
        self._waiting: set[int] = set()  # queues with more to do,
        self._due = 0  # at this tick
        self._worked = -_LOW  # the tick of the last work on queues with delays
        self._untold: set[int] = set()  # queues with news for the driver,
        self._tell_at = 0  # that it is told at this tick at the latest
        for queue in self.queues:
            queue.reset()
        self._function.reset()
        self._line(False)

    def state(self) -> State:
        kind = self._function.device_id
        queues = [queue.state() for queue in self.queues]
        return {**pack(self, self._saved()), "kind": kind, "queues": queues, "function": self._function.state()}

    def load(self, state: State) -> None:
        kind, queues = entry(state, "kind"), entry(state, "queues")
        if kind != self._function.device_id or type(queues) is not list or len(queues) != len(self.queues):
            raise BadState("it is another virtio device")
        unpack(self, self._saved(), state)
        for queue, saved in zip(self.queues, queues, strict=True):
            queue.load(saved)
        self._function.load(entry(state, "function"))

    def _saved(self) -> dict[str, Kind]:
        return {
            "_status": whole(0xFF), "_interrupts": whole(_LOW), "accepted": whole(), "_device_sel": whole(_LOW),
            "_driver_sel": whole(_LOW), "_queue_sel": whole(_LOW), "_waiting": some(len(self.queues) - 1, len(self.queues)),
            "_generation": whole(_LOW), "_due": whole(1 << 80), "_tell_at": whole(1 << 80),
            "_worked": whole(1 << 80, -_LOW),
            "_untold": some(len(self.queues) - 1, len(self.queues)),
        }  # fmt: skip

    # ---- work

    @property
    def quiet(self) -> bool:
        """Whether there is no deadline now, and so none that a store has moved to earlier than it was; news can wait."""
        return not self._waiting

    @property
    def live(self) -> bool:
        """Whether the device may use its queues."""
        return self._status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK

    def serve(self, number: int) -> None:
        """Let the function look at a queue, and tell the driver what it has done."""
        queue = self.queues[number]
        if not self.live or not queue.ready:
            return
        try:
            if self._function.work(number):
                self._wait(number, 1)
        except Broken:
            self.broken()
        if number not in self._function.patience:
            self.tell(number)
        elif queue.untold:
            self._tell_later(number, self._function.patience[number] if queue.untold < _MUCH else 1)

    def tell(self, number: int) -> None:
        """Interrupt the driver if it wants to know what has been put into a queue; then it hears of all of them."""
        if self.queues[number].ready and self.queues[number].tell():
            self._interrupt(_RING)
            for other in self._untold:
                self.queues[other].tell()
            self._untold.clear()

    def _tell_later(self, number: int, ticks: int) -> None:
        due = self._harts.now() + ticks
        self._tell_at = min(self._tell_at, due) if self._untold else due
        self._untold.add(number)

    def config_changed(self) -> None:
        """The configuration space is not what it was."""
        self._generation = self._generation + 1 & _LOW
        if self.live:
            self._interrupt(_CONFIG_CHANGE)

    def broken(self) -> None:
        """The device stops until it is reset."""
        self._status |= NEEDS_RESET
        self._waiting.clear()
        self._untold.clear()
        self._interrupt(_CONFIG_CHANGE)

    def _interrupt(self, why: int) -> None:
        self._interrupts |= why
        self._line(True)

    def _wait(self, number: int, ticks: int) -> None:
        """Serve a queue in some time, or when others are served."""
        due = self._harts.now() + ticks
        self._due = min(self._due, due) if self._waiting else due
        self._waiting.add(number)

    def _deadline(self) -> int | None:
        if not self._waiting and not self._untold:
            return None
        due = self._due if self._waiting else self._tell_at
        return max(min(due, self._tell_at) if self._untold else due, self._harts.now() + 1)

    def _advance(self) -> None:
        if self._waiting and self._harts.now() >= self._due:
            waiting, self._waiting = self._waiting, set()
            self._worked = self._harts.now()
            for number in sorted(waiting):
                self.serve(number)
        if self._untold and self._harts.now() >= self._tell_at:
            untold, self._untold = self._untold, set()
            for number in sorted(untold):
                self.tell(number)

    # ---- registers

    def read(self, offset: int, size: int) -> int:
        if offset >= CONFIG:
            return int.from_bytes(self._function.config()[offset - CONFIG : offset - CONFIG + size], "little")
        if size != 4 or offset & 3:
            raise BusError(f"{size} bytes at offset {offset:#x}: the registers have four bytes")
        queue = self._queue()
        if offset < DEVICE_FEATURES:
            return (MAGIC, VERSION, self._function.device_id, VENDOR)[offset >> 2]
        if offset == DEVICE_FEATURES:
            return self._features >> 32 * self._device_sel & _LOW if self._device_sel < 2 else 0
        if offset == QUEUE_SIZE_MAX:
            return MAX_SIZE if queue is not None else 0
        if offset == QUEUE_READY:
            return int(queue is not None and queue.ready)
        if offset == INTERRUPT_STATUS:
            return self._interrupts
        if offset == STATUS:
            return self._status
        if SHM_FIRST < offset <= SHM_LAST:
            return _LOW  # there is no shared memory
        return self._generation if offset == CONFIG_GENERATION else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset >= CONFIG:
            return  # no device of ours has anything there to be written
        if size != 4 or offset & 3:
            raise BusError(f"{size} bytes at offset {offset:#x}: the registers have four bytes")
        if offset == STATUS:
            self._set_status(value & 0xFF)
        elif offset == DEVICE_FEATURES_SEL:
            self._device_sel = value
        elif offset == DRIVER_FEATURES_SEL:
            self._driver_sel = value
        elif offset == DRIVER_FEATURES:
            self._accept(value)
        elif offset == QUEUE_SEL:
            self._queue_sel = value
        elif offset == QUEUE_NOTIFY:
            if value < len(self.queues):
                self._notified(value)
        elif offset == INTERRUPT_ACK:
            self._interrupts &= ~value
            self._line(bool(self._interrupts))
        else:
            self._set_queue(offset, value)

    def _notified(self, number: int) -> None:
        delay = self._function.delays.get(number)
        if not delay:
            self.serve(number)
        elif self.live and self.queues[number].ready and number not in self._waiting:
            now = self._harts.now()
            if now - self._worked > _RARELY * delay:
                self._worked = now
                self.serve(number)
            else:
                self._wait(number, delay)

    def _queue(self) -> Queue | None:
        return self.queues[self._queue_sel] if self._queue_sel < len(self.queues) else None

    def _accept(self, value: int) -> None:
        if self._status & FEATURES_OK or self._driver_sel > 1:
            return
        shift = 32 * self._driver_sel
        self.accepted = self.accepted & ~(_LOW << shift) | value << shift

    def _set_status(self, value: int) -> None:
        if not value:
            self.reset()
            return
        if value & FEATURES_OK and (self.accepted & ~self._features or not self.accepted & F_VERSION_1):
            value &= ~FEATURES_OK  # the driver reads this back, and gives up
        if value & DRIVER_OK and not value & FEATURES_OK:
            value &= ~DRIVER_OK
        started = value & ~self._status & DRIVER_OK
        self._status |= value
        if started:
            for number in range(len(self.queues)):
                self.serve(number)

    def _set_queue(self, offset: int, value: int) -> None:
        queue = self._queue()
        if queue is None:
            return
        if offset == QUEUE_READY:
            if not value & 1:
                queue.ready = False
            elif not queue.ready:
                try:
                    queue.enable(self.accepted)
                except Broken:
                    self.broken()
            return
        if queue.ready:
            return  # not while it is in use
        if offset == QUEUE_SIZE:
            queue.size = value
        for first, name in ((QUEUE_DESC, "descriptors"), (QUEUE_DRIVER, "available"), (QUEUE_DEVICE, "used")):
            if offset in (first, first + 4):
                shift = 8 * (offset - first)
                setattr(queue, name, getattr(queue, name) & ~(_LOW << shift) | value << shift)
