/* cc: -static
 * fcntl(2): leases and how they are broken; directory notification.
 */
#include "../check.h"

static volatile int told, code, from;
static volatile long band;

static void note(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    told++, code = info->si_code, from = info->si_fd, band = info->si_band;
}

static int lease(int fd, int kind)
{
    return fcntl(fd, F_SETLEASE, kind);
}

static int type(int fd)
{
    return fcntl(fd, F_GETLEASE);
}

static void rules(void)
{
    int reader = open("file", O_RDONLY), writer = open("file", O_RDWR);
    CHECK_EQ("none at first", type(reader), F_UNLCK);
    CHECK_ERRNO("a read lease while somebody may write", lease(reader, F_RDLCK), EAGAIN);
    CHECK_ERRNO("a write lease beside others", lease(writer, F_WRLCK), EAGAIN);
    CHECK_ERRNO("give up what is not there", lease(reader, F_UNLCK), EAGAIN);
    CHECK_ERRNO("a kind that is not", lease(reader, 7), EINVAL);
    close(writer);
    CHECK_EQ("a read lease", lease(reader, F_RDLCK), 0);
    CHECK_EQ("is one", type(reader), F_RDLCK);
    int second = open("file", O_RDONLY);
    CHECK("reading goes on", second >= 0);
    CHECK_EQ("a second one", lease(second, F_RDLCK), 0);
    CHECK_ERRNO("no stronger one beside it", lease(reader, F_WRLCK), EAGAIN);
    close(second);
    CHECK_EQ("alone again, it can be stronger", lease(reader, F_WRLCK), 0);
    CHECK_EQ("now a write lease", type(reader), F_WRLCK);
    CHECK_EQ("weaker", lease(reader, F_RDLCK), 0);
    int copy = dup(reader);
    CHECK_EQ("it is the open file's", type(copy), F_RDLCK);
    close(reader);
    CHECK_EQ("until that is closed", type(copy), F_RDLCK);
    CHECK_EQ("given up", lease(copy, F_UNLCK), 0);
    close(copy);
    int directory = open(".", O_RDONLY);
    CHECK_ERRNO("a directory", lease(directory, F_RDLCK), EINVAL);
    close(directory);
    if (IS_ROOT) {
        chown("file", 4321, 4321);
        reader = open("file", O_RDONLY);
        CHECK_EQ("root may anywhere", lease(reader, F_RDLCK), 0);
        lease(reader, F_UNLCK);
        close(reader);
        chown("file", 0, 0);
    } else {
        reader = open("/bin/sh", O_RDONLY);
        CHECK_ERRNO("somebody else's file", lease(reader, F_RDLCK), EACCES);
        close(reader);
    }
}

static pid_t breaker(int flags)
{
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_close_range, 3u, ~0u, 0); /* or it would hold the lease itself, too */
        int64_t start = now_ns(CLOCK_MONOTONIC);
        int fd = flags == O_TRUNC ? truncate("file", 0) : open("file", flags);
        _exit(fd < 0 ? 100 + errno : now_ns(CLOCK_MONOTONIC) - start > 50000000 ? 1 : 0);
    }
    return pid;
}

static int result(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void until_told(int count)
{
    for (int i = 0; i < 1000 && told < count; i++)
        sleep_ms(2);
}

static void breaking(void)
{
    told = 0;
    catch_with(SIGIO, note, SA_RESTART);
    catch_with(SIGRTMIN + 2, note, SA_RESTART);
    int fd = open("file", O_RDONLY);
    fcntl(fd, F_SETSIG, SIGRTMIN + 2);
    lease(fd, F_RDLCK);
    CHECK_EQ("readers do not break a read lease", result(breaker(O_RDONLY)), 0);
    CHECK_EQ("nothing is told", told, 0);
    CHECK_EQ("who will not wait", result(breaker(O_WRONLY | O_NONBLOCK)), 100 + EAGAIN);
    until_told(1);
    CHECK("told, which file, and what", told == 1 && from == fd && code == POLL_MSG && band == (POLLIN | POLLRDNORM | POLLMSG));
    CHECK_EQ("it is to go", type(fd), F_UNLCK);
    pid_t pid = breaker(O_WRONLY);
    sleep_ms(80);
    CHECK_EQ("once is enough", told, 1);
    lease(fd, F_UNLCK);
    CHECK_EQ("who waits goes on", result(pid), 1);
    CHECK_EQ("and there is none", type(fd), F_UNLCK);
    CHECK_EQ("nobody is named any more", fcntl(fd, F_GETOWN), 0);
    CHECK_EQ("nor the signal", fcntl(fd, F_GETSIG), 0);
    CHECK_EQ("a write lease", lease(fd, F_WRLCK), 0);
    told = 0;
    pid = breaker(O_RDONLY);
    until_told(1);
    sleep_ms(60);
    CHECK("SIGIO without another signal", told == 1 && code == SI_KERNEL);
    CHECK_EQ("a reader needs no more than", type(fd), F_RDLCK);
    CHECK_EQ("reduced", lease(fd, F_RDLCK), 0);
    CHECK_EQ("the reader goes on", result(pid), 1);
    CHECK_EQ("what is left", type(fd), F_RDLCK);
    told = 0;
    pid = breaker(O_TRUNC);
    until_told(1);
    CHECK_EQ("truncation breaks it, too", type(fd), F_UNLCK);
    sleep_ms(60);
    close(fd);
    CHECK_EQ("closing gives it up", result(pid), 1);
    fd = open("file", O_RDONLY);
    lease(fd, F_RDLCK);
    told = 0;
    pid = breaker(O_RDWR);
    until_told(1);
    until_asleep(pid);
    kill(pid, SIGKILL);
    CHECK_EQ("a breaker that died", result(pid), -1);
    int other = open("file", O_RDONLY);
    CHECK_ERRNO("does not take it back: there is no other lease meanwhile", lease(other, F_RDLCK), EAGAIN);
    close(other), close(fd);
}

/* A child that runs `path`: its exit status, 1 if it had to wait for the lease. */
static pid_t runner(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        char start[32];
        syscall(SYS_close_range, 3u, ~0u, 0);
        snprintf(start, sizeof start, "%lld", (long long)now_ns(CLOCK_MONOTONIC));
        execl(path, path, "child", start, NULL);
        _exit(100 + errno);
    }
    return pid;
}

static int child(const char *start)
{
    return now_ns(CLOCK_MONOTONIC) - atoll(start) > 50000000;
}

static void copy_self(const char *path)
{
    static char buffer[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    for (ssize_t got; (got = read(from, buffer, sizeof buffer)) > 0;)
        write(to, buffer, (size_t)got);
    close(from), close(to);
}

static void running(void)
{
    copy_self("program");
    int script = new_file("script", "#!./program\n");
    fchmod(script, 0755);
    close(script);
    int fd = open("program", O_RDONLY | O_CLOEXEC);
    told = 0;
    lease(fd, F_RDLCK);
    CHECK_EQ("a program with a read lease runs", result(runner("./program")), 0);
    CHECK_EQ("nobody is told of it", told, 0);
    CHECK_EQ("a write lease of a program", lease(fd, F_WRLCK), 0);
    pid_t pid = runner("./program");
    until_told(1);
    until_asleep(pid);
    sleep_ms(60);
    CHECK("running it is told", told == 1 && type(fd) == F_RDLCK);
    lease(fd, F_RDLCK);
    CHECK_EQ("and waits", result(pid), 1);
    told = 0;
    lease(fd, F_WRLCK);
    pid = runner("./program");
    until_told(1);
    until_asleep(pid);
    kill(pid, SIGTERM);
    CHECK_EQ("a signal ends the wait", result(pid), -1);
    lease(fd, F_UNLCK);
    CHECK_EQ("nothing is left of it", result(runner("./program")), 0);
    told = 0;
    CHECK_EQ("a write lease again", lease(fd, F_WRLCK), 0);
    pid = runner("./script");
    until_told(1);
    sleep_ms(60);
    CHECK("an interpreter is as good", told == 1 && type(fd) == F_RDLCK);
    close(fd);
    pid = result(pid);
    CHECK("and the script runs", pid == 0 || pid == 1);
}

static void in_directory(void)
{
    told = 0;
    mkdir("d", 0755);
    close(new_file("d/old", "1"));
    int fd = open("d", O_RDONLY), file = open("d/old", O_RDWR);
    CHECK_ERRNO("not a directory", fcntl(file, F_NOTIFY, DN_CREATE), ENOTDIR);
    CHECK_EQ("nothing, of a file", fcntl(file, F_NOTIFY, 0), 0);
    fcntl(fd, F_SETSIG, SIGRTMIN + 2);
    CHECK_EQ("notify", fcntl(fd, F_NOTIFY, DN_CREATE), 0);
    CHECK("its owner is who asks", fcntl(fd, F_GETOWN) == getpid());
    write(file, "2", 1);
    CHECK_EQ("not of writing", told, 0);
    close(new_file("d/new", ""));
    CHECK("of a new file", told == 1 && from == fd && code == POLL_MSG);
    close(new_file("d/newer", ""));
    CHECK_EQ("once", told, 1);
    fcntl(fd, F_NOTIFY, DN_MULTISHOT | DN_MODIFY | DN_ACCESS);
    fcntl(fd, F_NOTIFY, DN_MULTISHOT | DN_ATTRIB | DN_DELETE);
    char c;
    told = 0;
    write(file, "3", 1);
    CHECK_EQ("of writing", told, 1);
    pread(file, &c, 1, 0);
    CHECK_EQ("of reading", told, 2);
    chmod("d/old", 0600);
    CHECK_EQ("of attributes", told, 3);
    unlink("d/newer");
    CHECK_EQ("of removal", told, 4);
    chmod("d", 0700);
    CHECK_EQ("of the directory itself", told, 5);
    fcntl(fd, F_NOTIFY, 0);
    unlink("d/new");
    CHECK_EQ("no more", told, 5);
    fcntl(fd, F_NOTIFY, DN_RENAME | DN_MULTISHOT);
    rename("d/old", "d/older");
    CHECK_EQ("of a new name", told, 6);
    close(dup(fd));
    rename("d/older", "d/oldest");
    CHECK_EQ("closing any descriptor of it ends it", told, 6);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        return child(argc > 3 ? argv[3] : argv[2]);
    enter_scratch();
    close(new_file("file", "content"));
    rules();
    breaking();
    running();
    in_directory();
    return finish();
}
