"""eventfd(2), timerfd_create(2), signalfd(2), inotify(7): flags and structures (linux/{eventfd,timerfd,signalfd,inotify}.h)."""

from __future__ import annotations

from struct import Struct

EFD_SEMAPHORE = 1
EFD_NONBLOCK = 0o4000
EFD_CLOEXEC = 0o2000000

TFD_TIMER_ABSTIME = 1
TFD_TIMER_CANCEL_ON_SET = 2
TFD_NONBLOCK = 0o4000
TFD_CLOEXEC = 0o2000000
ITIMERSPEC = Struct("<qqqq")  #: struct itimerspec: interval (s, ns), value (s, ns)

SFD_NONBLOCK = 0o4000
SFD_CLOEXEC = 0o2000000
#: struct signalfd_siginfo: signo errno code pid uid fd tid band overrun trapno status int, ptr utime stime addr,
#: addr_lsb (pad) syscall call_addr arch
SIGNALFD_SIGINFO = Struct("<IiiIIiIIIIiiQQQQHHiQI28x")

IN_ACCESS = 0x001
IN_MODIFY = 0x002
IN_ATTRIB = 0x004
IN_CLOSE_WRITE = 0x008
IN_CLOSE_NOWRITE = 0x010
IN_OPEN = 0x020
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ALL_EVENTS = 0xFFF
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_EXCL_UNLINK = 0x04000000
IN_MASK_CREATE = 0x10000000
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000
IN_ONESHOT = 0x80000000
IN_NONBLOCK = 0o4000
IN_CLOEXEC = 0o2000000
INOTIFY_EVENT = Struct("<iIII")  #: struct inotify_event without its name: wd mask cookie len
