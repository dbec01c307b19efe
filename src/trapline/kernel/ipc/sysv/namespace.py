"""IpcNamespace: the System V objects and message queues of one kernel, and the limits that /proc/sys shows."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import ipc
from trapline.abi.errno import ENOMEM
from trapline.kernel.ipc.sysv.ids import Table

if TYPE_CHECKING:
    from trapline.kernel.ipc.sysv.msg import Queue
    from trapline.kernel.ipc.sysv.sem import SemSet
    from trapline.kernel.ipc.sysv.shm import Segment


HELD_MAX = 64 << 20  #: bytes of the kernel's own memory that messages may take, in all queues together
UNDO_MAX = 1 << 20  #: adjustments for SEM_UNDO, of all processes together
MESSAGE_COST = 256  #: what a message takes beside its bytes


class IpcNamespace:
    """Limits are plain fields: whoever writes /proc/sys changes them.

    What sleeps in queues is the kernel's memory, not the programs': `hold` and `note_undo` bound it, whatever the limits say.
    """

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.shm: Table[Segment] = Table(ipc.SHMMNI)
        self.shmmax, self.shmall = ipc.SHMMAX, ipc.SHMALL
        self.shm_pages = 0  #: of all segments
        self.sem: Table[SemSet] = Table(ipc.SEMMNI)
        self.semmsl, self.semmns, self.semopm = ipc.SEMMSL, ipc.SEMMNS, ipc.SEMOPM
        self.semaphores = 0  #: of all sets
        self.msg: Table[Queue] = Table(ipc.MSGMNI)
        self.msgmax, self.msgmnb = ipc.MSGMAX, ipc.MSGMNB
        self.mq_msg_max = self.mq_msg_default = ipc.MQ_MSG_MAX
        self.mq_msgsize_max = self.mq_msgsize_default = ipc.MQ_MSGSIZE_MAX
        self.mq_queues_max = ipc.MQ_QUEUES_MAX
        self.mqueues: Any = None  #: the file system of ipc.mqueue, once one was made
        self._held = self._undo = 0
        self.aio_max = ipc.AIO_MAX_NR
        self.aio_events = 0  #: room for events in all contexts of io_setup(2)

    def hold(self, length: int) -> None:
        """A message of so many bytes is about to be queued. Raises ENOMEM."""
        if self._held + length + MESSAGE_COST > HELD_MAX:
            raise ENOMEM("too many messages")
        self._held += length + MESSAGE_COST

    def let_go(self, length: int) -> None:
        """A message left its queue."""
        self._held -= length + MESSAGE_COST

    def note_undo(self, change: int) -> None:
        """So many more adjustments are remembered. Raises ENOMEM."""
        if change > 0 and self._undo + change > UNDO_MAX:
            raise ENOMEM("too many adjustments")
        self._undo += change

    @property
    def shmmni(self) -> int:
        return self.shm.limit

    @shmmni.setter
    def shmmni(self, limit: int) -> None:
        self.shm.limit = limit

    @property
    def semmni(self) -> int:
        return self.sem.limit

    @semmni.setter
    def semmni(self, limit: int) -> None:
        self.sem.limit = limit

    @property
    def msgmni(self) -> int:
        return self.msg.limit

    @msgmni.setter
    def msgmni(self, limit: int) -> None:
        self.msg.limit = limit
