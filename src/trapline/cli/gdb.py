"""The connection to GDB (--gdb of `boot` and `run`), over a TCP port or a UNIX socket, and when it is listened to.

While the machine runs, the session looks at it as at a network card's wire: a first byte is an interrupt or a new peer. While
the machine is halted, nothing else is looked at. Anybody who can connect controls the machine, not the host: guest memory and
registers are all that a packet reaches.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.cli.main import complain
from trapline.cli.options import UsageError
from trapline.scope.gdb.packets import INTERRUPT, Framer, pack

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.scope.gdb.server import Server
    from trapline.scope.gdb.target import Target

PORT = 1234
PATIENCE_S = 20.0  #: with a peer that reads nothing: then it is left, and the machine goes on
_CHUNK = 1 << 16


class Debugger:
    """`where`: [HOST:]PORT (of 127.0.0.1), or the path of a UNIX socket. Raises UsageError."""

    def __init__(self, where: str, server: Target) -> None:
        self.server = server
        self._peer: socket.socket | None = None
        self._framer = Framer()
        self._sent = b""  # the last packet, in case it came badly
        host, _, port = where.rpartition(":")
        self._path = "" if port.isdigit() and "/" not in host else where
        self._listener = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self._path:
                self._listener.bind(self._path)
            else:
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listener.bind((host or "127.0.0.1", int(port)))
            self._listener.listen(1)
        except (OSError, OverflowError) as error:
            self._listener.close()
            raise UsageError(f"--gdb={where}: {getattr(error, 'strerror', None) or 'no such port'}") from None
        self.name = self._path or f"{host or '127.0.0.1'}:{self._listener.getsockname()[1]}"

    # ---- as a session sees a wire

    full = False

    def fileno(self) -> int:
        return (self._peer or self._listener).fileno()

    def due(self) -> float | None:
        return None

    def flush(self) -> bool:
        """Nothing waits to be sent."""
        return False

    def ready(self) -> None:
        """While the machine runs: somebody connects, or wants it to halt."""
        if self._peer is None:
            self._accept()
            self.server.halted()
            self._serve(b"")
        elif self._receive():
            self._serve(pack(self.server.halted(interrupted=True)))

    # ---- halted

    def wait(self) -> None:
        """Wait for GDB before the machine starts."""
        complain(f"waiting for gdb: target remote {self.name}")
        self._accept()
        self._serve(b"")

    def halted(self) -> None:
        """The machine has halted where the debugger wants it: say so, and serve until it is to go on."""
        if self._peer is None:
            return
        self._serve(pack(self.server.halted()))

    def ended(self, status: int) -> None:
        """The machine has ended."""
        if self._peer is not None:
            self._send(pack(b"W%02x" % (status & 0xFF)))

    @property
    def killed(self) -> bool:
        return self.server.killed

    def close(self) -> None:
        self._hang_up()
        self._listener.close()
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)

    # ---- the connection

    def _accept(self) -> None:
        self._peer, _ = self._listener.accept()
        if not self._path:
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framer = Framer()
        self.server.detached = False

    def _receive(self) -> list[bytes]:
        """What has come; nothing, and no peer any more, if it has gone."""
        if self._peer is None:
            return []
        try:
            data = self._peer.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return []
        found = self._framer.feed(data)
        self._send(self._framer.acknowledge)
        self._framer.acknowledge = b""
        if self._framer.refused:
            self._framer.refused = False
            self._send(self._sent)
        return found

    def _send(self, data: bytes) -> None:
        if self._peer is None or not data:
            return
        try:
            self._peer.settimeout(PATIENCE_S)
            self._peer.sendall(data)
            self._peer.settimeout(None)
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
            self.server.release()

    def _serve(self, first: bytes) -> None:
        """Answer packets until the machine is to go on."""
        self._sent = first
        self._send(first)
        while self._peer is not None:
            for packet in self._receive():
                if packet == INTERRUPT:
                    continue
                reply = self.server.answer(packet)
                if reply is None:
                    return
                self._sent = pack(reply)
                self._send(self._sent)
                if packet == b"QStartNoAckMode":
                    self._framer.acks = False
                if self.server.killed or self.server.detached:
                    self._hang_up()
                    return


class BoardDebugger(Debugger):
    """Of a board, with its history."""

    def __init__(self, where: str, server: Server) -> None:
        super().__init__(where, server)
        self.timeline = server.timeline


class ProcessDebugger(Debugger):
    """Of the first program that `kernel` runs, on the RISC-V machine. `waits`: for GDB, before its first instruction."""

    def __init__(self, where: str, kernel: Kernel, *, waits: bool) -> None:
        from trapline.scope.gdb.process import ProcessServer

        self._kernel, self._waits = kernel, waits
        self._process = ProcessServer(kernel.system, self.halted, self._look_around)
        super().__init__(where, self._process)
        self._watch(self._listener)

    def _watch(self, end: socket.socket) -> None:
        self._kernel.system.machine.watch(end.fileno(), select.EPOLLIN)

    def _look_around(self) -> bool:
        """The kernel is about to run somebody, or to sleep; whether something has been done."""
        if self._waits:
            self._waits = False
            complain(f"waiting for gdb: target remote {self.name}")
        elif self._peer is not None and self._process.news():
            return True
        elif not select.select([self], [], [], 0)[0]:
            return False
        self.ready()
        return True

    def _accept(self) -> None:
        super()._accept()
        self._process.attach()

    def ready(self) -> None:
        if self._peer is None:
            self._accept()
            assert self._peer is not None
            self._watch(self._peer)
            self._process.stop(self._begin)
        elif self._receive():
            self._process.stop(lambda: self._serve(pack(self.server.halted(interrupted=True))))

    def _begin(self) -> None:
        self.server.halted()
        self._serve(b"")

    def _serve(self, first: bytes) -> None:
        super()._serve(first)
        if self.server.killed:
            self._kernel.kill_all()

    def finish(self) -> None:
        """The program has ended, or never began."""
        *others, last = self._process.last_words() or [b""]
        for each in others:
            self._process.ended(each)
            self._serve(pack(each))
        if last:
            self._send(pack(last))
        self.close()
