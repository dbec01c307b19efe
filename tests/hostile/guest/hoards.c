/* cc: -static
 * Programs that have the kernel hold objects that are no memory of theirs; argv[1] names which. Each ends with status 42 once
 * it was refused, and can go on when it has given some back. */
#include "../../conformance/check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static char name[300], block[65536];

static const char *numbered(const char *directory, int n)
{
    memset(name, 'x', sizeof name - 1);
    name[snprintf(name, sizeof name, "%s/%08d-", directory, n)] = 'x';
    name[250] = 0;
    return name;
}

static void all_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* One process's limit is not the kernel's: forks multiply what is open. */
static int descriptors(void)
{
    int last = -1;
    for (int i = 0; i < 100000; i++) {
        int fd = eventfd(0, 0);
        if (fd < 0) {
            if (errno != ENFILE || fork() >= 0 || errno != ENOMEM)
                return 1;
            close(last);
            return eventfd(0, 0) == last && dup(last) < 0 && errno == ENFILE && dup2(last, 0) == 0 ? 42 : 2;
        }
        last = fd;
    }
    return 3;
}

static int streams(void)
{
    long sent = 0;
    for (int i = 0; i < 8000; i++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
            return 1;
        long before = sent, count;
        while ((count = write(ends[0], block, sizeof block)) > 0)
            sent += count;
        if (sent - before < 16384) { /* it still carries something */
            if (sent == before)
                return 2;
            while (read(ends[1], block, sizeof block) > 0)
                ;
            return write(ends[0], block, 4096) == 4096 ? 42 : 3;
        }
    }
    return 4;
}

static int records(void)
{
    for (int i = 0; i < 8000; i++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) != 0)
            return 1;
        if (send(ends[0], block, sizeof block, 0) < 0)
            return errno == ENOBUFS && send(ends[0], block, 4000, 0) == 4000 ? 42 : 2;
    }
    return 3;
}

static int links(void)
{
    if (mknod("/tmp/first", S_IFREG | 0600, 0) != 0 || mkdir("/tmp/links", 0700) != 0)
        return 1;
    for (int i = 0; i < 60000; i++)
        if (link("/tmp/first", numbered("/tmp/links", i)) != 0) {
            if (errno != ENOSPC || unlink(numbered("/tmp/links", 0)) != 0)
                return 2;
            return link("/tmp/first", numbered("/tmp/links", 0)) == 0 && link("/tmp/first", "/tmp/more") < 0 ? 42 : 3;
        }
    return 4;
}

static int events(void)
{
    int queues[64];
    if (mkdir("/tmp/watched", 0700) != 0)
        return 1;
    for (int i = 0; i < 64; i++)
        if ((queues[i] = inotify_init1(IN_NONBLOCK)) < 0 || inotify_add_watch(queues[i], "/tmp/watched", IN_ALL_EVENTS) < 0)
            return 2;
    for (int i = 0; i < 1000; i++) {
        close(open(numbered("/tmp/watched", i), O_CREAT | O_WRONLY, 0600));
        unlink(name);
    }
    long held = 0;
    int overflows = 0;
    for (int i = 0; i < 64; i++) {
        long count;
        while ((count = read(queues[i], block, sizeof block)) > 0) {
            held += count;
            for (long at = 0; at < count;) {
                struct inotify_event *event = (void *)(block + at);
                overflows += (event->mask & IN_Q_OVERFLOW) != 0;
                at += (long)(sizeof *event + event->len);
            }
        }
    }
    if (overflows == 0 || held > 16 << 20)
        return 3;
    mkdir("/tmp/watched/again", 0700);
    return read(queues[63], block, sizeof block) > (long)sizeof(struct inotify_event) ? 42 : 4;
}

static int directories(void)
{
    mkdir("/tmp/many", 0700);
    for (int i = 0; i < 3000; i++)
        if (mknod(numbered("/tmp/many", i), S_IFREG | 0600, 0) != 0)
            return 1;
    int last = -1;
    for (int i = 0; i < 1000; i++) {
        int fd = open("/tmp/many", O_RDONLY | O_DIRECTORY);
        if (syscall(SYS_getdents64, fd, block, sizeof block) < 0)
            return errno == ENOMEM && close(last) == 0 && syscall(SYS_getdents64, fd, block, sizeof block) > 0 ? 42 : 2;
        last = fd;
    }
    return 3;
}

static int texts(void)
{
    char *area = mmap(0, 1ul << 26, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int i = 0; i < 4000; i++)
        if (mprotect(area + i * 2l * PAGE, PAGE, PROT_READ) != 0)
            return 1;
    int last = -1;
    for (int i = 0; i < 1000; i++) {
        int fd = open("/proc/self/maps", O_RDONLY);
        if (read(fd, block, 1) < 0)
            return errno == ENOMEM && close(last) == 0 && read(fd, block, 1) == 1 ? 42 : 2;
        last = fd;
    }
    return 3;
}

static int interests(void)
{
    int ends[2], fds[400];
    pipe(ends);
    for (int i = 0; i < 400; i++)
        fds[i] = dup(ends[0]);
    for (int i = 0; i < 400; i++) {
        int epoll = epoll_create1(0);
        for (int j = 0; j < 400; j++) {
            struct epoll_event event = {.events = EPOLLIN};
            if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[j], &event) == 0)
                continue;
            if (errno != ENOSPC)
                return 1;
            if (epoll_ctl(epoll, EPOLL_CTL_DEL, fds[0], NULL) != 0)
                return 2;
            return epoll_ctl(epoll, EPOLL_CTL_ADD, fds[j], &event) == 0 ? 42 : 3;
        }
    }
    return 4;
}

static int areas(void)
{
    char *area = mmap(0, 1ul << 28, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int i = 0; i < 16000; i++)
        if (mprotect(area + i * 2l * PAGE, PAGE, PROT_READ) != 0)
            return 1;
    pid_t children[100];
    for (int i = 0; i < 100; i++) {
        children[i] = fork();
        if (children[i] == 0)
            for (;;)
                pause();
        if (children[i] < 0) {
            int refused = errno, status;
            for (int j = 0; j < i; j++) {
                kill(children[j], SIGKILL);
                waitpid(children[j], &status, 0);
            }
            pid_t last = fork();
            if (last == 0)
                _exit(0);
            return refused == ENOMEM && last > 0 && waitpid(last, &status, 0) == last && status == 0 ? 42 : 2;
        }
    }
    return 3;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    static const struct {
        const char *name;
        int (*run)(void);
    } all[] = {{"descriptors", descriptors}, {"streams", streams}, {"records", records}, {"links", links},
               {"events", events}, {"directories", directories}, {"texts", texts}, {"interests", interests},
               {"areas", areas}};
    all_descriptors();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, what) == 0)
            return all[i].run();
    return 99;
}
