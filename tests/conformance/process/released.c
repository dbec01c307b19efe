/* cc: -static
 * _exit(2), execve(2), wait(2): what a process held is free when its parent hears of its end, and when another program runs in it. */
#include "../check.h"

static int status;

/* A copy of this program that may be written. */
static int copy_of_self(const char *name)
{
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    char buffer[65536];
    ssize_t length;
    while ((length = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)length) != length)
            return -1;
    close(from);
    return close(to);
}

static void text(void)
{
    CHECK_EQ("a program to run", copy_of_self("program"), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0)
            execl("./program", "program", "quit", NULL);
        if (waitpid(pid, &status, 0) != pid || !exited(status, 0))
            break;
        int fd = open("program", O_RDWR);
        if (fd < 0)
            break;
        close(fd);
    }
    CHECK("its file may be written after each run", exited(status, 0) && access("program", W_OK) == 0);
    int fd = open("program", O_RDWR);
    CHECK("and is not busy", fd >= 0);
    close(fd);
}

static void shared_memory(void)
{
    int sealed = 0;
    for (int i = 0; i < 20; i++) {
        int fd = memfd_create("seal", MFD_ALLOW_SEALING);
        ftruncate(fd, 4096);
        pid_t pid = fork();
        if (pid == 0) {
            char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            at[0] = 1;
            _exit(0);
        }
        waitpid(pid, &status, 0);
        sealed += fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0;
        close(fd);
    }
    CHECK_EQ("nobody maps what a child mapped", sealed, 20);
}

static void after_exec(void)
{
    int refused = 0;
    for (int i = 0; i < 10; i++) {
        int fd = memfd_create("seal", MFD_ALLOW_SEALING), ready[2];
        ftruncate(fd, 4096);
        pipe(ready);
        pid_t pid = fork();
        if (pid == 0) {
            char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            at[0] = 1;
            dup2(ready[1], 1);
            execl("./program", "program", "say", NULL);
            _exit(1);
        }
        char c;
        close(ready[1]);
        read(ready[0], &c, 1);
        refused += fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0;
        close(ready[0]);
        waitpid(pid, &status, 0);
        close(fd);
    }
    CHECK_EQ("nor what it mapped before it ran a program", refused, 0);
}

static void many(void)
{
    int ended = 0;
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char *at = mmap(NULL, 64 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            for (int page = 0; page < 64; page++) {
                if (at[page << 12])
                    _exit(1); /* somebody else's */
                at[page << 12] = (char)i | 1;
            }
            _exit(0);
        }
        ended += waitpid(pid, &status, 0) == pid && exited(status, 0);
    }
    CHECK_EQ("memory of the dead comes back clean", ended, 300);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "quit") == 0)
        return 0;
    if (argc > 1 && strcmp(argv[1], "say") == 0)
        return write(1, "x", 1) == 1 ? 0 : 1;
    enter_scratch();
    text();
    shared_memory();
    after_exec();
    many();
    unlink("program");
    return finish();
}
