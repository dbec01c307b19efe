"""Linux asynchronous I/O, io_setup(2) and io_submit(2): commands, flags and structures (linux/aio_abi.h, fs/aio.c)."""

from __future__ import annotations

from struct import Struct

IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_FSYNC, IOCB_CMD_FDSYNC = 0, 1, 2, 3
IOCB_CMD_POLL, IOCB_CMD_NOOP, IOCB_CMD_PREADV, IOCB_CMD_PWRITEV = 5, 6, 7, 8
IOCB_FLAG_RESFD, IOCB_FLAG_IOPRIO = 1, 2

#: struct iocb: data, key, rw_flags, opcode, reqprio, fildes, buf, nbytes, offset, reserved2, flags, resfd
IOCB = Struct("<QIiHhiQQqQII")
IOCB_KEY_OFFSET = 8
IO_EVENT = Struct("<QQqq")  #: data, obj (the iocb's address), res, res2
#: struct aio_ring: id nr head tail magic compat_features incompat_features header_length; events follow
AIO_RING = Struct("<8I")
AIO_RING_MAGIC = 0xA10A10A1
AIO_RING_HEAD, AIO_RING_TAIL = 8, 12  #: offsets
MAX_EVENTS = 0x1000_0000 // 32
AIO_SIGSET = Struct("<QQ")  #: struct __aio_sigset: sigmask, sigsetsize
