"""Termios: the modes of one terminal, and their forms in user memory."""

from __future__ import annotations

from trapline.typed import Any

from trapline.abi.termios import (
    BOTHER,
    CBAUD,
    INIT_CC,
    INIT_CFLAG,
    INIT_IFLAG,
    INIT_LFLAG,
    INIT_OFLAG,
    INIT_SPEED,
    NCCS,
    SPEEDS,
    TERMIO,
    TERMIOS,
    TERMIOS2,
)


class Termios:
    """`cc` holds the special characters, indexed by V*. `locked` says what cannot change: TIOCSLCKTRMIOS of ioctl_tty(2)."""

    __slots__ = ("cc", "cflag", "iflag", "ispeed", "lflag", "locked", "oflag", "ospeed")

    def __init__(self) -> None:
        self.iflag = INIT_IFLAG
        self.oflag = INIT_OFLAG
        self.cflag = INIT_CFLAG
        self.lflag = INIT_LFLAG
        self.cc = INIT_CC
        self.ispeed = self.ospeed = INIT_SPEED
        self.locked = bytes(TERMIOS.size)

    def pack(self) -> bytes:
        return TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, 0, self.cc)

    def pack2(self) -> bytes:
        return TERMIOS2.pack(self.iflag, self.oflag, self.cflag, self.lflag, 0, self.cc, self.ispeed, self.ospeed)

    def pack_v(self) -> bytes:
        low = 0xFFFF
        return TERMIO.pack(self.iflag & low, self.oflag & low, self.cflag & low, self.lflag & low, 0, self.cc[:8])

    def load(self, fields: tuple[Any, ...]) -> None:
        """From the unpacked struct termios, termios2 or termio, which leaves what it does not know as it is."""
        iflag, oflag, cflag, lflag, _, cc = fields[:6]
        if len(cc) < NCCS:
            high = ~0xFFFF
            iflag |= self.iflag & high
            oflag |= self.oflag & high
            cflag |= self.cflag & high
            lflag |= self.lflag & high
            cc = cc + self.cc[len(cc) :]
        old = self.iflag, self.oflag, self.cflag, self.lflag
        *locks, _, fixed = TERMIOS.unpack(self.locked)
        iflag, oflag, cflag, lflag = (
            new & ~lock | was & lock for new, was, lock in zip((iflag, oflag, cflag, lflag), old, locks, strict=True)
        )
        cc = bytes(was if lock else new for new, was, lock in zip(cc, self.cc, fixed, strict=True))
        self.iflag, self.oflag, self.cflag, self.lflag, self.cc = iflag, oflag, cflag, lflag, cc
        code = cflag & CBAUD
        if len(fields) > 6 and code == BOTHER:
            self.ispeed, self.ospeed = fields[6:]
        elif code in SPEEDS:
            self.ispeed = self.ospeed = SPEEDS[code]
