"""I/O priorities: linux/ioprio.h, ioprio_set(2)."""

from __future__ import annotations

IOPRIO_CLASS_NONE, IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE = range(4)
IOPRIO_NR_LEVELS = 8
IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP, IOPRIO_WHO_USER = 1, 2, 3
IOPRIO_CLASS_SHIFT = 13
IOPRIO_DEFAULT = 0  #: IOPRIO_CLASS_NONE: the nice value decides


def join(kind: int, level: int) -> int:
    return kind << IOPRIO_CLASS_SHIFT | level


def split(value: int) -> tuple[int, int]:
    """(class, level)."""
    return value >> IOPRIO_CLASS_SHIFT & 7, value & (1 << IOPRIO_CLASS_SHIFT) - 1
