"""What the system calls itself: uname(2), /proc/version, /proc/sys/kernel. The Linux this kernel is compatible with."""

from __future__ import annotations

SYSNAME = b"Linux"
RELEASE = b"6.1.0-trapline"
VERSION = b"#1 SMP Trapline"
NAME_MAX = 64  #: bytes of a host or domain name
