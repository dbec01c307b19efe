"""What kcmp(2) compares: linux/kcmp.h."""

from __future__ import annotations

import struct

KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM, KCMP_EPOLL_TFD = range(8)
EPOLL_SLOT = struct.Struct("<III")  #: efd, tfd, toff
