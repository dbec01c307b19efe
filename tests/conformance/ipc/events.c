/* cc: -static
 * eventfd(2), signalfd(2), epoll(7) beyond the simple cases, ppoll(2), pselect(2). */
#include "../check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

static void counters(void)
{
    uint64_t value = 0;
    int fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK("reads its value", read(fd, &value, 8) == 8 && value == 3);
    CHECK_ERRNO("and is empty", read(fd, &value, 8), EAGAIN);
    value = 5;
    write(fd, &value, 8), write(fd, &value, 8);
    CHECK("adds", read(fd, &value, 8) == 8 && value == 10);
    value = UINT64_MAX;
    CHECK_ERRNO("too large", write(fd, &value, 8), EINVAL);
    value = UINT64_MAX - 1;
    CHECK_EQ("the largest", write(fd, &value, 8), 8);
    value = 1;
    CHECK_ERRNO("full", write(fd, &value, 8), EAGAIN);
    struct pollfd one = {fd, POLLIN | POLLOUT, 0};
    CHECK("poll: full", poll(&one, 1, 0) == 1 && one.revents == POLLIN);
    CHECK_ERRNO("short read", read(fd, &value, 4), EINVAL);
    CHECK_ERRNO("short write", write(fd, &value, 4), EINVAL);
    CHECK_EQ("a seek goes nowhere", lseek(fd, 100, SEEK_SET), 0);
    CHECK_ERRNO("no position to read at", pread(fd, &value, 8, 0), ESPIPE);
    close(fd);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK("semaphore", read(fd, &value, 8) == 8 && value == 1 && read(fd, &value, 8) == 8 && value == 1 && read(fd, &value, 8) == -1);
    CHECK_ERRNO("bad flags", eventfd(0, 0x100), EINVAL);
    int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
    CHECK_ERRNO("a process has no place to go", lseek(pidfd, 0, SEEK_SET), ESPIPE);
    close(pidfd);
    close(fd);
}

static void signals(void)
{
    sigset_t mask;
    sigemptyset(&mask), sigaddset(&mask, SIGUSR1), sigaddset(&mask, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    struct signalfd_siginfo info[4];
    CHECK_ERRNO("no signal", read(fd, info, sizeof info), EAGAIN);
    struct pollfd one = {fd, POLLIN, 0};
    CHECK_EQ("poll: none", poll(&one, 1, 0), 0);
    kill(getpid(), SIGUSR1), kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 4711});
    CHECK_EQ("poll: some", poll(&one, 1, 0), 1);
    CHECK_EQ("two signals", read(fd, info, sizeof info), 2 * sizeof *info);
    CHECK("the standard one first", info[0].ssi_signo == SIGUSR1 && info[0].ssi_pid == getpid() && info[0].ssi_uid == getuid());
    CHECK("with its value", info[1].ssi_signo == SIGRTMIN && info[1].ssi_int == 4711 && info[1].ssi_code == SI_QUEUE);
    CHECK_ERRNO("short buffer", read(fd, info, 10), EINVAL);
    CHECK_ERRNO("cannot write", write(fd, info, 8), EINVAL);
    sigdelset(&mask, SIGUSR1);
    CHECK_EQ("a new mask", signalfd(fd, &mask, 0), fd);
    kill(getpid(), SIGUSR1);
    CHECK_ERRNO("not for it now", read(fd, info, sizeof info), EAGAIN);
    CHECK_ERRNO("bad flags", signalfd(-1, &mask, 1), EINVAL);
    CHECK_ERRNO("not one", signalfd(0, &mask, 0), EINVAL);
    sigset_t nothing;
    sigemptyset(&nothing);
    struct timespec now = {0};
    sigaddset(&mask, SIGUSR1);
    sigtimedwait(&mask, NULL, &now);
    close(fd);
}

static int ep;

static int wait_events(struct epoll_event *events)
{
    return epoll_wait(ep, events, 8, 0);
}

static void epolls(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 1}, events[8];
    int p[2];
    pipe2(p, O_NONBLOCK);
    ep = epoll_create1(EPOLL_CLOEXEC);
    CHECK_EQ("add", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event), 0);
    CHECK_ERRNO("add twice", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event), EEXIST);
    CHECK_ERRNO("change what is not there", epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &event), ENOENT);
    CHECK_ERRNO("itself", epoll_ctl(ep, EPOLL_CTL_ADD, ep, &event), EINVAL);
    int file = open("/proc/self/exe", O_RDONLY);
    CHECK_ERRNO("a regular file", epoll_ctl(ep, EPOLL_CTL_ADD, file, &event), EPERM);
    CHECK_ERRNO("no events wanted", epoll_wait(ep, events, 0, 0), EINVAL);
    write(p[1], "x", 1);
    CHECK("edge", wait_events(events) == 1 && events[0].data.u64 == 1);
    CHECK_EQ("only once", wait_events(events), 0);
    write(p[1], "y", 1);
    CHECK_EQ("again with more", wait_events(events), 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &event);
    CHECK("one shot", wait_events(events) == 1 && wait_events(events) == 0);
    event.events = EPOLLIN;
    epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &event);
    CHECK("level", wait_events(events) == 1 && wait_events(events) == 1);
    int outer = epoll_create1(0);
    event.data.u64 = 2;
    epoll_ctl(outer, EPOLL_CTL_ADD, ep, &event);
    CHECK("nested", epoll_wait(outer, events, 8, 0) == 1 && events[0].data.u64 == 2);
    CHECK_ERRNO("in a circle", epoll_ctl(ep, EPOLL_CTL_ADD, outer, &event), ELOOP);
    int copy = dup(p[0]);
    close(p[0]);
    CHECK_EQ("a copy keeps it", wait_events(events), 1);
    close(copy);
    CHECK_EQ("the last close removes it", wait_events(events), 0);
    event.events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &event);
    CHECK("no reader", wait_events(events) == 1 && (events[0].events & EPOLLERR));
    CHECK_EQ("remove", epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), 0);
    CHECK_ERRNO("remove twice", epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
    event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    CHECK_ERRNO("exclusive and one shot", epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &event), EINVAL);
    close(outer), close(ep), close(p[1]), close(file);
}

static void nothing(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
}

static void masks(void)
{
    catch_with(SIGUSR2, nothing, 0);
    sigset_t blocked, open_mask;
    sigemptyset(&blocked), sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigdelset(&open_mask, SIGUSR2);
    struct timespec wait = {5, 0};
    kill(getpid(), SIGUSR2);
    CHECK_ERRNO("ppoll lets it in", ppoll(NULL, 0, &wait, &open_mask), EINTR);
    kill(getpid(), SIGUSR2);
    CHECK_ERRNO("pselect too", pselect(0, NULL, NULL, NULL, &wait, &open_mask), EINTR);
    ep = epoll_create1(0);
    struct epoll_event events[1];
    kill(getpid(), SIGUSR2);
    CHECK_ERRNO("epoll_pwait too", epoll_pwait(ep, events, 1, 5000, &open_mask), EINTR);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("and the mask is back", sigismember(&now, SIGUSR2));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(60, &set);
    struct timeval zero = {0};
    CHECK_ERRNO("select of a bad descriptor", select(61, &set, NULL, NULL, &zero), EBADF);
    struct pollfd bad = {900, POLLIN, 0};
    CHECK("poll says POLLNVAL", poll(&bad, 1, 0) == 1 && bad.revents == POLLNVAL);
    bad.fd = -1;
    CHECK_EQ("and skips negative ones", poll(&bad, 1, 0), 0);
    CHECK_ERRNO("negative time", select(0, NULL, NULL, NULL, &(struct timeval){-1, 0}), EINVAL);
    close(ep);
}

int main(void)
{
    counters();
    signals();
    epolls();
    masks();
    return finish();
}
