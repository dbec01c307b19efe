/* cc: -static
 * timerfd_create(2), signalfd(2), inotify(7): readiness, contents, errors. */
#include "../check.h"
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void timers(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    uint64_t ticks = 0;
    struct itimerspec set = {{0, 0}, {0, 5000000}}, now;
    CHECK_ERRNO("not armed", read(fd, &ticks, 8), EAGAIN);
    CHECK_EQ("arm", timerfd_settime(fd, 0, &set, NULL), 0);
    CHECK("what is left", timerfd_gettime(fd, &now) == 0 && now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 5000000);
    struct pollfd one = {fd, POLLIN, 0};
    CHECK_EQ("poll", poll(&one, 1, 5000), 1);
    CHECK("one tick", read(fd, &ticks, 8) == 8 && ticks == 1);
    CHECK_ERRNO("read once", read(fd, &ticks, 8), EAGAIN);
    CHECK("disarmed by itself", timerfd_gettime(fd, &now) == 0 && now.it_value.tv_nsec == 0);
    set.it_interval.tv_nsec = 2000000;
    timerfd_settime(fd, 0, &set, NULL);
    sleep_ms(20);
    CHECK("ticks add up", read(fd, &ticks, 8) == 8 && ticks >= 5);
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    struct itimerspec absolute = {{0, 0}, {clock.tv_sec - 1, 0}}, old;
    CHECK("TFD_TIMER_ABSTIME, past; the old setting", timerfd_settime(fd, TFD_TIMER_ABSTIME, &absolute, &old) == 0 &&
                                                          old.it_interval.tv_nsec == 2000000);
    CHECK("fires at once", poll(&one, 1, 5000) == 1 && read(fd, &ticks, 8) == 8 && ticks == 1);
    fcntl(fd, F_SETFL, 0);
    set.it_interval.tv_nsec = 0;
    timerfd_settime(fd, 0, &set, NULL);
    CHECK("a blocking read waits", read(fd, &ticks, 8) == 8 && ticks == 1);
    CHECK_ERRNO("too short", read(fd, &ticks, 7), EINVAL);
    CHECK_ERRNO("bad clock", timerfd_create(77, 0), EINVAL);
    CHECK_ERRNO("bad flags", timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    set.it_value.tv_nsec = 1000000000;
    CHECK_ERRNO("bad time", timerfd_settime(fd, 0, &set, NULL), EINVAL);
    CHECK_ERRNO("not a timer", timerfd_settime(1, 0, &old, NULL), EINVAL);
}

static void signal_files(void)
{
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    struct signalfd_siginfo info[3];
    CHECK_ERRNO("none", read(fd, info, sizeof info), EAGAIN);
    raise(SIGUSR1);
    struct pollfd one = {fd, POLLIN, 0};
    CHECK_EQ("poll", poll(&one, 1, 0), 1);
    CHECK_EQ("read", read(fd, info, sizeof info), 128);
    CHECK("fields", info[0].ssi_signo == SIGUSR1 && info[0].ssi_pid == (unsigned)getpid() && info[0].ssi_uid == getuid());
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
    CHECK_EQ("of a child", read(fd, info, sizeof info), 128);
    CHECK("its status", info[0].ssi_signo == SIGCHLD && info[0].ssi_pid == (unsigned)pid && info[0].ssi_status == 3);
    waitpid(pid, NULL, 0);
    raise(SIGUSR1);
    sigdelset(&set, SIGUSR1);
    CHECK_EQ("change the set", signalfd(fd, &set, 0), fd);
    CHECK_ERRNO("other signals are not its own", read(fd, info, sizeof info), EAGAIN);
    CHECK_ERRNO("too short", read(fd, info, 64), EINVAL);
    CHECK_ERRNO("not a signalfd", signalfd(1, &set, 0), EINVAL);
    CHECK_ERRNO("bad flags", signalfd(-1, &set, 1), EINVAL);
}

static void watches(void)
{
    int fd = inotify_init1(IN_NONBLOCK);
    CHECK("inotify", fd >= 0);
    int watch = inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE);
    CHECK("watch", watch >= 1);
    char buffer[4096] __attribute__((aligned(8)));
    CHECK_ERRNO("nothing", read(fd, buffer, sizeof buffer), EAGAIN);
    close(new_file("new", "x"));
    rename("new", "old");
    unlink("old");
    ssize_t length = read(fd, buffer, sizeof buffer);
    uint32_t seen[8] = {0}, cookies[8] = {0};
    int count = 0;
    for (ssize_t at = 0; at < length && count < 8; count++) {
        struct inotify_event *event = (void *)(buffer + at);
        seen[count] = event->mask, cookies[count] = event->cookie;
        at += (ssize_t)(sizeof *event + event->len);
    }
    CHECK_EQ("five events", count, 5);
    CHECK("in order", seen[0] == IN_CREATE && seen[1] == IN_CLOSE_WRITE && seen[2] == IN_MOVED_FROM && seen[3] == IN_MOVED_TO &&
                          seen[4] == IN_DELETE);
    CHECK("a rename's cookie", cookies[2] == cookies[3] && cookies[2] != 0);
    CHECK_EQ("remove", inotify_rm_watch(fd, watch), 0);
    CHECK("IN_IGNORED", read(fd, buffer, sizeof buffer) > 0 && ((struct inotify_event *)(void *)buffer)->mask == IN_IGNORED);
    CHECK_ERRNO("remove twice", inotify_rm_watch(fd, watch), EINVAL);
    CHECK_ERRNO("missing path", inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
}

int main(void)
{
    enter_scratch();
    timers();
    signal_files();
    watches();
    return finish();
}
