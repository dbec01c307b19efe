"""Uart: a 16550A serial port: byte registers, FIFOs of sixteen bytes, one interrupt line.

Transmitting takes no time in the guest: the transmitter is always empty. The line speed is stored and
ignored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trapline.machine.riscv.bus import BusError
from trapline.machine.riscv.devices.saved import State, flag, octets, pack, unpack, whole

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)  # THR is RBR's write side, FCR is IIR's
_DLAB = 0x80
_RX_ENABLED, _TX_ENABLED = 1, 2
_NONE, _TX_EMPTY, _RX_READY, _RX_TIMEOUT = 1, 2, 4, 12  #: what IIR says
_DATA_READY, _OVERRUN, _TX_IDLE = 0x01, 0x02, 0x60
_LOOP = 0x10
FIFO = 16
_GATHERED = 4096  #: bytes of output that do not wait for `flush`
_SAVED = {
    "_input": octets(FIFO), "_ier": whole(0x0F), "_lcr": whole(0xFF), "_mcr": whole(0x1F), "_scratch": whole(0xFF),
    "_fifo": flag, "_level": whole(14, 1), "_divisor": whole(0xFFFF), "_overrun": whole(_OVERRUN),
    "_tx_pending": flag, "_polled": whole(),
}  # fmt: skip
_LEVELS = (1, 4, 8, 14)  #: bytes in the FIFO that raise the interrupt
_LISTENS = 8  #: reads of the line status in a row that only who waits for input makes: who sends or sets up makes two


class Uart:
    """`send(bytes)` transmits. `line(bool)` is the interrupt wire. `receive` brings input, `room` says how much fits. What the
    guest writes is gathered until somebody calls `flush`.
    """

    size = 0x100
    quiet = True

    def __init__(self, send: Callable[[bytes], object], line: Callable[[bool], None]) -> None:
        self._send = send
        self.hungry: Callable[[], object] = bool  #: called when somebody polls for input and there is none: it may `receive`
        self._line = line
        self._output = bytearray()
        self.reset()

    def reset(self) -> None:
        """As at power-on: no input, no interrupts, no FIFOs."""
        self._input: deque[int] = deque()
        self._ier = self._lcr = self._mcr = self._scratch = 0
        self._fifo = False
        self._level = 1
        self._divisor = 0
        self._overrun = 0
        self._tx_pending = False  #: the transmitter became empty, and nobody has been told
        self._polled = 0  #: reads of the line status since anything but taking input was done
        self._line(False)

    def state(self) -> State:
        """What has been written is sent before."""
        self.flush()
        return pack(self, _SAVED)

    def load(self, state: State) -> None:
        self._output.clear()
        unpack(self, _SAVED, state)

    # ---- the wire

    def room(self) -> int:
        """How many bytes `receive` can take without losing any: none before somebody listens, by interrupt or by polling."""
        if not (self._ier & _RX_ENABLED or self._polled >= _LISTENS):
            return 0
        return self._space()

    def flush(self) -> None:
        """Send what has been written."""
        if self._output:
            data = bytes(self._output)
            self._output.clear()
            self._send(data)

    def _space(self) -> int:
        return (FIFO if self._fifo else 1) - len(self._input)

    def receive(self, data: bytes) -> None:
        """Input arrives; what does not fit is lost, and the line status says so."""
        for byte in data:
            if self._space() > 0:
                self._input.append(byte)
            else:
                self._overrun = _OVERRUN
        self._update()

    def _cause(self) -> int:
        """IIR's low bits: the most urgent enabled cause."""
        if self._ier & _RX_ENABLED and self._input:
            return _RX_READY if len(self._input) >= self._level or not self._fifo else _RX_TIMEOUT
        if self._ier & _TX_ENABLED and self._tx_pending:
            return _TX_EMPTY
        return _NONE

    def _update(self) -> None:
        self._line(self._cause() != _NONE)

    # ---- the registers

    def read(self, offset: int, size: int) -> int:
        register = self._register(offset, size)
        if register != LSR and not (register == RBR and self._input):
            self._polled = 0
        if self._lcr & _DLAB and register < 2:
            return self._divisor >> 8 * register & 0xFF
        value = 0
        if register == RBR:
            value = self._input.popleft() if self._input else 0
        elif register == IER:
            value = self._ier
        elif register == IIR:
            value = self._cause()
            if value == _TX_EMPTY:
                self._tx_pending = False
            value |= 0xC0 if self._fifo else 0
        elif register == LCR:
            value = self._lcr
        elif register == MCR:
            value = self._mcr
        elif register == LSR:
            self._polled += 1
            if self._polled >= _LISTENS and not self._input and not self._ier & _RX_ENABLED:
                self.hungry()
            value = _TX_IDLE | (_DATA_READY if self._input else 0) | self._overrun
            self._overrun = 0
            return value  # nothing that would change the interrupt
        elif register == MSR:
            value = 0xB0  # carrier, ready, clear to send
        else:
            value = self._scratch
        self._update()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == RBR and self._tx_pending and size == 1 and not self._lcr & _DLAB and not self._mcr & _LOOP:
            self._polled = 0  # one more byte behind the last one: nothing that would change the interrupt
            self._output.append(value & 0xFF)
            if len(self._output) >= _GATHERED:
                self.flush()
            return
        register = self._register(offset, size)
        self._polled = 0
        if self._lcr & _DLAB and register < 2:
            shift = 8 * register
            self._divisor = self._divisor & ~(0xFF << shift) | (value & 0xFF) << shift
        elif register == RBR:
            self._transmit(value & 0xFF)
        elif register == IER:
            if value & ~self._ier & _TX_ENABLED:
                self._tx_pending = True
            self._ier = value & 0x0F
        elif register == IIR:
            self._fifo = bool(value & 1)
            self._level = _LEVELS[value >> 6 & 3]
            if value & 2:
                self._input.clear()
        elif register == LCR:
            self._lcr = value & 0xFF
        elif register == MCR:
            self._mcr = value & 0x1F
        elif register == SCR:
            self._scratch = value & 0xFF
        self._update()

    def posts(self, offset: int) -> bool:
        """Whether a byte stored there does no more than join those that wait to be sent (see jit/registers.py)."""
        return offset == RBR and self._tx_pending and not self._lcr & _DLAB and not self._mcr & _LOOP

    def post(self, data: bytes) -> None:
        """Bytes that were stored so."""
        self._output += data
        if len(self._output) >= _GATHERED:
            self.flush()

    def _transmit(self, byte: int) -> None:
        self._tx_pending = True
        if self._mcr & _LOOP:
            self.receive(bytes([byte]))
        else:
            self._output.append(byte)
            if len(self._output) >= _GATHERED:
                self.flush()

    @staticmethod
    def _register(offset: int, size: int) -> int:
        if size != 1 or offset > 7:
            raise BusError(f"{size} bytes at offset {offset:#x}: the serial port has eight registers of one byte")
        return offset
