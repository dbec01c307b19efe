"""IpcNamespace: the System V objects and message queues of one kernel, and the limits that /proc/sys shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.abi import ipc
from trapline.kernel.ipc.sysv.ids import Table

if TYPE_CHECKING:
    from trapline.kernel.ipc.sysv.msg import Queue
    from trapline.kernel.ipc.sysv.sem import SemSet
    from trapline.kernel.ipc.sysv.shm import Segment


class IpcNamespace:
    """Limits are plain fields: whoever writes /proc/sys changes them."""

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
        self.aio_max = ipc.AIO_MAX_NR
        self.aio_events = 0  #: room for events in all contexts of io_setup(2)

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
