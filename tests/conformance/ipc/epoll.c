/* cc: -static
 * epoll(7): level and edge triggered, one-shot, data, nesting, closed descriptors, errors; eventfd(2). */
#include "../check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int watch, pipes[2];
static struct epoll_event events[8];

static int control(int op, int fd, uint32_t mask)
{
    struct epoll_event event = {.events = mask, .data.u64 = 0x100000000ull + (unsigned)fd};
    return epoll_ctl(watch, op, fd, &event);
}

static int ready(void)
{
    return epoll_wait(watch, events, 8, 0);
}

static void levels(void)
{
    char c;
    CHECK_EQ("add", control(EPOLL_CTL_ADD, pipes[0], EPOLLIN), 0);
    CHECK_ERRNO("add twice", control(EPOLL_CTL_ADD, pipes[0], EPOLLIN), EEXIST);
    CHECK_EQ("nothing yet", ready(), 0);
    write(pipes[1], "ab", 2);
    CHECK_EQ("ready", ready(), 1);
    CHECK("event and data", events[0].events == EPOLLIN && events[0].data.u64 == 0x100000000ull + (unsigned)pipes[0]);
    CHECK_EQ("level: still ready", ready(), 1);
    CHECK_EQ("edge: change", control(EPOLL_CTL_MOD, pipes[0], EPOLLIN | EPOLLET), 0);
    CHECK_EQ("edge: once", ready(), 1);
    CHECK_EQ("edge: not again", ready(), 0);
    read(pipes[0], &c, 1);
    CHECK_EQ("edge: a partial read is no edge", ready(), 0);
    write(pipes[1], "c", 1);
    CHECK_EQ("edge: new data is", ready(), 1);
    control(EPOLL_CTL_MOD, pipes[0], EPOLLIN | EPOLLONESHOT);
    CHECK_EQ("one shot", ready(), 1);
    CHECK_EQ("is over", ready(), 0);
    control(EPOLL_CTL_MOD, pipes[0], EPOLLIN | EPOLLONESHOT);
    CHECK_EQ("armed again", ready(), 1);
    CHECK_EQ("delete", control(EPOLL_CTL_DEL, pipes[0], 0), 0);
    CHECK_ERRNO("delete twice", control(EPOLL_CTL_DEL, pipes[0], 0), ENOENT);
    CHECK_ERRNO("change what is not there", control(EPOLL_CTL_MOD, pipes[0], 0), ENOENT);
}

static void errors(void)
{
    CHECK_ERRNO("regular file", control(EPOLL_CTL_ADD, open("/etc/passwd", O_RDONLY), EPOLLIN), EPERM);
    CHECK_ERRNO("closed", control(EPOLL_CTL_ADD, 900, EPOLLIN), EBADF);
    CHECK_ERRNO("itself", control(EPOLL_CTL_ADD, watch, EPOLLIN), EINVAL);
    CHECK_ERRNO("bad operation", control(9, pipes[0], EPOLLIN), EINVAL);
    CHECK_ERRNO("not an epoll", epoll_wait(pipes[0], events, 8, 0), EINVAL);
    CHECK_ERRNO("no room", epoll_wait(watch, events, 0, 0), EINVAL);
    CHECK_ERRNO("bad buffer", (control(EPOLL_CTL_ADD, pipes[0], EPOLLIN), epoll_wait(watch, (void *)8, 1, 0)), EFAULT);
    control(EPOLL_CTL_DEL, pipes[0], 0);
    CHECK_ERRNO("epoll_create of none", epoll_create(0), EINVAL);
    CHECK_ERRNO("bad flag", epoll_create1(1), EINVAL);
    int loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(loop, EPOLL_CTL_ADD, watch, &event);
    CHECK_ERRNO("a loop", control(EPOLL_CTL_ADD, loop, EPOLLIN), ELOOP);
    close(loop);
}

static void lifetimes(void)
{
    int own[2], copy = dup(pipes[0]);
    pipe(own);
    control(EPOLL_CTL_ADD, copy, EPOLLIN);
    close(copy);
    CHECK_EQ("it lives as long as the description", ready(), 1);
    control(EPOLL_CTL_ADD, own[0], EPOLLIN);
    write(own[1], "x", 1);
    CHECK_EQ("two ready", ready(), 2);
    CHECK_EQ("one at a time", epoll_wait(watch, events, 1, 0), 1);
    int first = (int)events[0].data.u32;
    CHECK("in turn", epoll_wait(watch, events, 1, 0) == 1 && (int)events[0].data.u32 != first);
    close(own[0]);
    CHECK_EQ("a closed one is forgotten", ready(), 1);
    signal(SIGPIPE, SIG_IGN);
    int gone[2];
    pipe(gone);
    int second = epoll_create1(0);
    struct epoll_event event = {.events = 0};
    epoll_ctl(second, EPOLL_CTL_ADD, gone[0], &event);
    close(gone[1]);
    CHECK("EPOLLHUP without asking", epoll_wait(second, events, 1, 0) == 1 && events[0].events == EPOLLHUP);
    struct pollfd nested = {second, POLLIN, 0};
    CHECK("an epoll is pollable", poll(&nested, 1, 0) == 1 && nested.revents == POLLIN);
    struct timespec brief = {0, 2000000};
    int empty = epoll_create1(0);
    CHECK_EQ("epoll_pwait2 times out", syscall(SYS_epoll_pwait2, empty, events, 8, &brief, NULL, 8), 0);
}

static void counters(void)
{
    uint64_t value = 5;
    int fd = eventfd(3, EFD_NONBLOCK);
    CHECK("write adds", write(fd, &value, 8) == 8 && read(fd, &value, 8) == 8 && value == 8);
    CHECK_ERRNO("zero would block", read(fd, &value, 8), EAGAIN);
    CHECK_ERRNO("too short", read(fd, &value, 4), EINVAL);
    value = ~0ull;
    CHECK_ERRNO("all ones is invalid", write(fd, &value, 8), EINVAL);
    value = ~0ull - 1;
    CHECK_EQ("the most", write(fd, &value, 8), 8);
    value = 1;
    CHECK_ERRNO("overflow would block", write(fd, &value, 8), EAGAIN);
    struct pollfd one = {fd, POLLIN | POLLOUT, 0};
    CHECK("readable, not writable", poll(&one, 1, 0) == 1 && one.revents == POLLIN);
    int semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK("semaphore", read(semaphore, &value, 8) == 8 && value == 1 && read(semaphore, &value, 8) == 8);
    CHECK_ERRNO("used up", read(semaphore, &value, 8), EAGAIN);
    int waiting = eventfd(0, 0);
    if (fork() == 0) {
        until_asleep(getppid());
        value = 7;
        write(waiting, &value, 8);
        _exit(0);
    }
    CHECK("a reader waits", read(waiting, &value, 8) == 8 && value == 7);
    wait(NULL);
    CHECK_ERRNO("bad flags", eventfd(0, 0x100), EINVAL);
}

int main(void)
{
    watch = epoll_create1(EPOLL_CLOEXEC);
    pipe(pipes);
    levels();
    errors();
    lifetimes();
    counters();
    return finish();
}
