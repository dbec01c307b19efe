"""The console: what the first program's descriptors 0, 1 and 2 are.

Each is a host descriptor, a stream of the caller's (`stdio`), nothing (/dev/null), or closed. Host terminals become one guest
terminal, /dev/pts/0 (also /dev/console), whose modes are mirrored to the host's, so that the host's own line discipline
does the echo and the editing; signals from its keyboard come in as host signals and go to the guest's foreground group.

Invariant: host terminals get their modes back when the console is closed.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import ENXIO, Errno
from trapline.abi.fcntl import O_RDONLY, O_RDWR, O_WRONLY
from trapline.abi.signal import SIGCONT, SIGWINCH
from trapline.kernel.drivers.groupsignal import signal_group
from trapline.kernel.drivers.hostio import HostIo, HostStream
from trapline.kernel.drivers.pts import ptys_of
from trapline.kernel.drivers.stdio import CLOSED, Stream, StreamFile, StreamInode
from trapline.kernel.fs.devices import register_chardev

if TYPE_CHECKING:
    from trapline.kernel.drivers.console_tty import ConsoleTty
    from trapline.kernel.drivers.hosttty import HostTerminal
    from trapline.kernel.drivers.tty import TtyFile
    from trapline.kernel.fs.fdtable import FdTable
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path

Source = int | Stream  #: a host descriptor (or NOTHING, CLOSED) or a stream


class Console:
    """The three descriptors, once the guest's file systems are mounted (/dev/pts/0 must have a place to be).

    `ready` is what the trap loop calls for host descriptors, `host_signal` for host signals.
    """

    def __init__(self, kernel: Any, sources: tuple[Source, Source, Source] = (0, 1, 2), uid: int = 0, gid: int = 0) -> None:
        self.kernel = kernel
        self.io = HostIo(kernel.machine)
        self.tty: ConsoleTty | None = None
        self.first_group: Any = None
        self._streams: list[Stream] = []
        self._uid = uid
        self._gid = gid
        self._files: dict[int, File] = {}
        terminal: File | None = None
        for number, source in enumerate(sources):
            if source == CLOSED:
                continue
            stream = self._stream(source)
            if isinstance(stream, HostStream) and stream.is_tty and self._same_terminal(stream):  # type: ignore[arg-type]
                if terminal is None:
                    self._files[number] = terminal = self._terminal_file()
                else:
                    self._files[number] = terminal.get()
            else:
                self._files[number] = self._file(stream, O_RDONLY if number == 0 else O_WRONLY)

    def _stream(self, source: Source) -> Stream | None:
        if isinstance(source, Stream):
            stream: Stream = source
        elif source < 0:
            return None
        else:
            stream = HostStream(self.io, source)
            if stream.is_tty:
                from trapline.kernel.drivers.hosttty import HostTerminal

                stream.close()
                stream = HostTerminal(self.io, source)
        self._streams.append(stream)
        return stream

    def _same_terminal(self, stream: HostTerminal) -> bool:
        """The first host terminal becomes the console; another one is only a stream."""
        if self.tty is None:
            from trapline.kernel.drivers.console_tty import ConsoleTty

            self.tty = ConsoleTty(self.kernel, stream)
            ptys_of(self.kernel).add(0, self.tty, self.kernel.vfs, self._uid)
            return True
        if stream.rdev != self.tty.host.rdev:
            return False
        if not self.tty.output.writable:
            self.tty.output = stream
            stream.queue = self.tty.queue
        return True

    def _terminal_file(self) -> File:
        from trapline.kernel.drivers.tty import TtyFile

        assert self.tty is not None
        inode = ptys_of(self.kernel).inode(0)
        path: Path | None
        try:
            path = self.kernel.vfs.at_root(self.tty.name)
        except Errno:
            path = None
        return TtyFile(self.tty, inode, O_RDWR, path)

    def _file(self, stream: Stream | None, access: int) -> File:
        vfs = self.kernel.vfs
        if stream is None:
            file: File = vfs.open_path(vfs.at_root(b"/dev/null"), O_RDWR)
            return file
        if stream.readable and stream.writable:
            access = O_RDWR
        return StreamFile(StreamInode(vfs.pipe_sb, stream, self._uid, self._gid), access)

    def install(self, files: FdTable) -> None:
        """Give the first program its descriptors."""
        for fd, file in self._files.items():
            files.install_at(fd, file.get())

    def adopt(self, group: Any) -> None:
        """The first program, a session leader, gets the terminal; without one, host signals still go to its group."""
        self.first_group = group
        if self.tty is not None:
            self.tty.attach(group)

    def ready(self, fd: int, mask: int) -> None:
        """A host descriptor that is watched became ready."""
        self.io.ready(fd, mask)

    def host_signal(self, signo: int) -> None:
        """A host signal that the guest should see: it goes to the foreground group, or to the first program's."""
        tty = self.tty
        if tty is not None and signo == SIGWINCH:
            tty.resize(tty.host.winsize())
            return
        if signo == SIGCONT:
            self.resume()
        if tty is not None and tty.pgrp:
            tty.signal_foreground(signo)
        elif self.first_group is not None:
            signal_group(self.kernel, self.first_group.pgid, signo)

    def suspend(self) -> None:
        """The host process is about to be stopped: the terminal is the shell's for a while."""
        if self.tty is not None:
            self.tty.host.restore()

    def resume(self) -> None:
        """After `suspend`: the guest's modes again, unless the terminal is still somebody else's."""
        if self.tty is not None and self.tty.host.in_foreground():
            self.tty.apply_modes(False)
            self.tty.resize(self.tty.host.winsize())

    def close(self) -> None:
        """Restore host terminals and close what was opened. Idempotent."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()


def open_console(inode: Inode, path: Path, flags: int, task: Any) -> TtyFile:
    """/dev/console: the host's terminal, if there is one."""
    from trapline.kernel.drivers.tty import TtyFile

    console = getattr(task.kernel, "console", None) if task is not None else None
    if console is None or console.tty is None:
        raise ENXIO
    return TtyFile(console.tty, inode, flags, path, task)


register_chardev(5, 1, open_console)
