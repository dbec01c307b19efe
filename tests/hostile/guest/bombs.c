/* cc: -static -pthread
 * Programs that take all they can get; argv[1] names what. Each ends by itself with status 42 if it was refused politely. */
#include "../../conformance/check.h"
#include <pthread.h>
#include <sys/epoll.h>

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
    for (int i = 0; i < 200000; i++)
        sent += sigqueue(getpid(), SIGRTMIN + i % 20, (union sigval){.sival_int = i}) == 0;
    return sent < 200000 ? 42 : 41;
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

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } all[] = {{"forks", forks},        {"fork-tree", fork_tree},     {"threads", threads}, {"memory", memory},
               {"file-memory", file_memory}, {"descriptors", descriptors}, {"deep", deep},       {"links", links},
               {"signals", signals},    {"spin", spin_blocked}};
    for (unsigned i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
        if (strcmp(argv[1], all[i].name) == 0)
            _exit(all[i].run());
    return 99;
}
