"""Clocks, timers and their structures: clock_gettime(2), setitimer(2), timer_create(2), adjtimex(2). Source: linux/time.h."""

from struct import Struct

NSEC = 1_000_000_000
USEC_NS = 1_000
TICK_NS = 10_000_000  #: of clock_t: 1/100 s (USER_HZ)
COARSE_RES_NS = 4_000_000  #: resolution of the coarse clocks: HZ=250
#: the longest time the kernel counts with (KTIME_MAX)
TIME_MAX_NS = (1 << 63) - 1

CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID = 0, 1, 2, 3
CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME = 4, 5, 6, 7
CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM, CLOCK_TAI = 8, 9, 11
# clock ids below zero: ~pid << 3 | per-thread << 2 | which
CPUCLOCK_PROF, CPUCLOCK_VIRT, CPUCLOCK_SCHED, CLOCKFD = 0, 1, 2, 3
CPUCLOCK_PERTHREAD = 4

TIMER_ABSTIME = 1
ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = 0, 1, 2

TIMESPEC = Struct("<qq")
TIMEVAL = Struct("<qq")
TIMEZONE = Struct("<ii")
TMS = Struct("<qqqq")  #: user, system, children's user, children's system time
ITIMERVAL = Struct("<qqqq")  #: interval, value
ITIMERSPEC = Struct("<qqqq")

# struct timex, 208 bytes: modes, offset, freq, maxerror, esterror, status, constant, precision, tolerance, time (s, us),
# tick, ppsfreq, jitter, shift, stabil, jitcnt, calcnt, errcnt, stbcnt, tai
TIMEX = Struct("<I4xqqqqi4xqqqqqqqqi4xqqqqqi44x")
ADJ_OFFSET, ADJ_SETOFFSET, ADJ_MICRO, ADJ_NANO, ADJ_ADJTIME = 1, 0x100, 0x1000, 0x2000, 0x8000
ADJ_OFFSET_SS_READ = 0xA001
STA_UNSYNC = 0x0040
TIME_OK, TIME_ERROR = 0, 5
