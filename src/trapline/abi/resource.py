"""Resource limits and usage: getrlimit(2), getrusage(2)."""

from __future__ import annotations

import struct

(
    RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE,
    RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME,
) = range(16)  # fmt: skip
RLIM_NLIMITS = 16
RLIM_INFINITY = (1 << 64) - 1
RLIMIT = struct.Struct("<QQ")

RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD = 0, -1, 1
#: struct rusage: utime, stime, maxrss (KiB), ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv,
#: nsignals, nvcsw, nivcsw
RUSAGE = struct.Struct("<16q2q")

PRIO_PROCESS, PRIO_PGRP, PRIO_USER = range(3)
