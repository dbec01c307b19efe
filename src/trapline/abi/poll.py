"""Events, structures and flags of poll(2), select(2), epoll(7) (asm-generic/poll.h, linux/eventpoll.h)."""

from __future__ import annotations

from struct import Struct

POLLIN = 0x001
POLLPRI = 0x002
POLLOUT = 0x004
POLLERR = 0x008
POLLHUP = 0x010
POLLNVAL = 0x020
POLLRDNORM = 0x040
POLLRDBAND = 0x080
POLLWRNORM = 0x100
POLLWRBAND = 0x200
POLLMSG = 0x400
POLLRDHUP = 0x2000

POLL_IN = POLLIN | POLLRDNORM  #: what a readable file reports
POLL_OUT = POLLOUT | POLLWRNORM  #: what a writable file reports
POLL_ALWAYS = POLL_IN | POLL_OUT  #: what a file that never blocks reports (DEFAULT_POLLMASK)

# What each set of select(2) asks for.
POLLIN_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
POLLOUT_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
POLLEX_SET = POLLPRI

POLLFD = Struct("<ihh")  #: struct pollfd: fd, events, revents
FD_SETSIZE = 1024

EPOLLEXCLUSIVE = 1 << 28
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31
EPOLL_PRIVATE = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLEXCLUSIVE_OK = POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE

EPOLL_CTL_ADD = 1
EPOLL_CTL_DEL = 2
EPOLL_CTL_MOD = 3
EPOLL_CLOEXEC = 0o2000000
EPOLL_EVENT = Struct("<IQ")  #: struct epoll_event, packed on x86-64: events, data
EPOLL_EVENT_ALIGNED = Struct("<I4xQ")  #: the same elsewhere
EPOLL_MAX_BYTES = (1 << 31) - 1  #: of the array that epoll_wait(2) fills
EPOLL_MAX_NESTS = 4
