/* cc: -static -pthread
 * Programs that take all they can get; argv[1] names what. Each ends by itself with status 42 if it was refused politely. */
#include "../../conformance/check.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>

static void *rest(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static int forks(void)
{
    for (int i = 0; i < 10000; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return errno == EAGAIN ? 42 : 1;
        if (pid == 0)
            rest(NULL);
    }
    return 2;
}

static int fork_tree(void)
{
    for (;;)
        fork();
    return 2;
}

static int threads(void)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 16384);
    pthread_t thread;
    for (int i = 0; i < 10000; i++)
        if (pthread_create(&thread, &attr, rest, NULL) != 0)
            return 42;
    return 2;
}

static int memory(void)
{
    for (size_t total = 0; total < 64ul << 30; total += 1 << 20) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return 42;
        for (int i = 0; i < 256; i++)
            p[i * PAGE] = 1;
    }
    return 2;
}

static int file_memory(void)
{
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    int fd = open("/tmp/big", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 64 << 10; i++)
        if (write(fd, block, sizeof block) <= 0)
            return errno == ENOSPC || errno == ENOMEM || errno == EDQUOT ? 42 : 1;
    return 2;
}

static int descriptors(void)
{
    int count = 0, last = 0;
    while ((last = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    bool good = errno == EMFILE;
    int pipes[2];
    good &= pipe(pipes) < 0 && errno == EMFILE && epoll_create1(0) < 0;
    for (int i = 3; i < count; i++)
        close(i);
    return good && open("/dev/null", O_RDONLY) >= 0 ? 42 : 1;
}

static int deep(void)
{
    chdir("/tmp");
    int depth = 0;
    while (depth < 3000 && mkdir("d", 0755) == 0 && chdir("d") == 0)
        depth++;
    char *cwd = malloc(100000);
    long length = syscall(SYS_getcwd, cwd, 100000);
    for (int i = 0; i < depth; i++)
        if (chdir("..") != 0 || rmdir("d") != 0)
            return 1;
    return depth == 3000 && (length > 6000 || (length == -1 && errno)) ? 42 : 3;
}

static int links(void)
{
    chdir("/tmp");
    symlink("b/x", "a"), symlink("a/x", "b"), symlink(".", "here");
    char path[4096] = "";
    for (int i = 0; i < 800; i++)
        strcat(path, "here/");
    struct stat st;
    bool good = stat("a", &st) < 0 && errno == ELOOP && stat(path, &st) < 0 && errno == ELOOP;
    good &= open("a", O_CREAT | O_WRONLY, 0600) < 0 && errno == ELOOP;
    char longest[9000];
    memset(longest, 'a', sizeof longest - 1), longest[sizeof longest - 1] = 0;
    good &= open(longest, O_RDONLY) < 0 && errno == ENAMETOOLONG && symlink(longest, "c") < 0 && errno == ENAMETOOLONG;
    return good ? 42 : 1;
}

static int signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    long sent = 0;
    for (int i = 0; i < 20000; i++)
        sent += sigqueue(getpid(), SIGRTMIN + i % 20, (union sigval){.sival_int = i}) == 0;
    return sent < 20000 ? 42 : 41;
}

static int spin_blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (volatile long n = 0;; n++)
        ;
    return 2;
}

/* Ten thousand open files at once, each its own, all of them in one poll(2). */
static int files(void)
{
    enum { COUNT = 10000 };
    struct rlimit limit = {COUNT + 10, COUNT + 10};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 3;
    static struct pollfd polled[COUNT];
    mkdir("/tmp/many", 0700), chdir("/tmp/many");
    for (int i = 0; i < COUNT; i++) {
        char name[16];
        sprintf(name, "%d", i);
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || pwrite(fd, &i, sizeof i, 0) != sizeof i)
            return 4;
        polled[i] = (struct pollfd){fd, POLLIN, 0};
    }
    if (poll(polled, COUNT, 0) != COUNT)
        return 5;
    for (int i = 0; i < COUNT; i++) {
        int seen = -1;
        if (pread(polled[i].fd, &seen, sizeof seen, 0) != sizeof seen || seen != i)
            return 6;
    }
    return syscall(SYS_close_range, 3, ~0u, 0) == 0 && open("7", O_RDONLY) == 3 ? 42 : 7;
}

static pthread_barrier_t everybody;
static volatile int woken;

static void *meets(void *arg)
{
    pthread_barrier_wait(&everybody);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return arg;
}

/* Five thousand threads alive at once, woken at once. */
static int crowd(void)
{
    enum { COUNT = 5000 };
    static pthread_t threads[COUNT];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 16384);
    pthread_barrier_init(&everybody, NULL, COUNT + 1);
    for (int i = 0; i < COUNT; i++)
        if (pthread_create(&threads[i], &attr, meets, NULL) != 0)
            return 3;
    pthread_barrier_wait(&everybody);
    for (int i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    return woken == COUNT ? 42 : 4;
}

/* A file system that is full, of bytes and of names: ENOSPC, nothing lost, and room again after an unlink. */
static int full(void)
{
    mkdir("/tmp/small", 0700);
    if (mount("none", "/tmp/small", "tmpfs", 0, "size=1m,nr_inodes=20") != 0 || chdir("/tmp/small") != 0)
        return 3;
    static char block[8192];
    memset(block, 'x', sizeof block);
    int fd = open("big", O_RDWR | O_CREAT, 0600);
    long total = 0, done;
    while ((done = write(fd, block, sizeof block)) > 0)
        total += done;
    if (errno != ENOSPC || total < 900 << 10 || total > 1 << 20 || lseek(fd, 0, SEEK_CUR) != total)
        return 4;
    char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED || map[0] != 'x' || ftruncate(fd, 4 << 20) != 0 || pwrite(fd, "y", 1, 3 << 20) != -1 || errno != ENOSPC)
        return 5;
    char *hole = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid = fork(); /* a page for a hole of a file on a full disk: SIGBUS */
    if (pid == 0)
        hole[3 << 20] = 1, _exit(0);
    int status, names = 0;
    waitpid(pid, &status, 0);
    if (!killed(status, SIGBUS))
        return 6;
    for (char name[8]; sprintf(name, "n%d", names), mknod(name, S_IFREG | 0600, 0) == 0;)
        names++;
    if (errno != ENOSPC || names > 20 || mkdir("d", 0700) != -1 || errno != ENOSPC || symlink("x", "l") != -1 || errno != ENOSPC)
        return 7;
    if (ftruncate(fd, 4096) != 0 || lseek(fd, 4096, SEEK_SET) != 4096 || write(fd, block, sizeof block) != sizeof block)
        return 8;
    return unlink("n0") == 0 && open("again", O_CREAT | O_WRONLY, 0600) >= 0 ? 42 : 9;
}

static volatile long taken;

static void take(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info, (void)context;
    taken++;
}

/* Four processes send all they can to one whose handlers interrupt one another, with a timer that fires all the time. */
static int storm(void)
{
    for (int signo = SIGRTMIN; signo < SIGRTMIN + 8; signo++)
        catch_with(signo, take, SA_RESTART);
    catch_with(SIGALRM, take, SA_RESTART);
    struct itimerval always = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &always, NULL);
    pid_t target = getpid(), senders[4];
    for (int i = 0; i < 4; i++)
        if ((senders[i] = fork()) == 0) {
            for (int n = 0; n < 5000; n++)
                sigqueue(target, SIGRTMIN + n % 8, (union sigval){.sival_int = n});
            _exit(0);
        }
    for (int i = 0; i < 4; i++)
        while (waitpid(senders[i], NULL, 0) < 0 && errno == EINTR)
            ;
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    return taken > 5000 ? 42 : 3;
}

static void nest(int signo)
{
    raise(signo);
}

/* A handler that raises its own signal until the stack is full: the process dies of SIGSEGV, nobody else does. */
static int recursion(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction action = {.sa_handler = nest, .sa_flags = SA_NODEFER};
        sigaction(SIGUSR1, &action, NULL);
        raise(SIGUSR1);
    }
    int status;
    waitpid(pid, &status, 0);
    return killed(status, SIGSEGV) ? 42 : 3;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } all[] = {{"forks", forks},        {"fork-tree", fork_tree},     {"threads", threads}, {"memory", memory},
               {"file-memory", file_memory}, {"descriptors", descriptors}, {"deep", deep},       {"links", links},
               {"signals", signals},    {"spin", spin_blocked},      {"files", files},
               {"crowd", crowd},        {"full", full},              {"storm", storm},     {"recursion", recursion}};
    for (unsigned i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
        if (strcmp(argv[1], all[i].name) == 0)
            _exit(all[i].run());
    return 99;
}
