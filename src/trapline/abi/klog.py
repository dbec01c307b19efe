"""Priorities of the kernel log: a facility and a level, syslog(2), syslog(3)."""

from __future__ import annotations

LOG_WARNING = 4
LOG_USER = 1 << 3  #: the facility of whoever names none, or the kernel's
MAX_PRIORITY = 0x7FF  #: a facility has 8 bits, a level 3
LOG_LINE_MAX = 1024  #: bytes of a record that is written to /dev/kmsg
