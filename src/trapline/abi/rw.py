"""Flags of preadv2(2), splice(2), close_range(2), and the bounds of one transfer (linux/fs.h, linux/splice.h)."""

from __future__ import annotations

MAX_RW_COUNT = 0x7FFFF000  #: most that one read(2) or write(2) transfers
UIO_MAXIOV = 1024
PIPE_BUF = 4096

RWF_HIPRI = 0x01
RWF_DSYNC = 0x02
RWF_SYNC = 0x04
RWF_NOWAIT = 0x08
RWF_APPEND = 0x10
RWF_SUPPORTED = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2
SPLICE_F_MORE = 4
SPLICE_F_GIFT = 8
SPLICE_F_ALL = 15

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4

F_OWNER_TID = 0
F_OWNER_PID = 1
F_OWNER_PGRP = 2
