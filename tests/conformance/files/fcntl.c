/* cc: -static
 * fcntl(2) beyond locks: descriptors, flags, owners, leases, seals, pipe sizes; close_range(2); memfd_create(2). */
#include "../check.h"
#include <sys/mman.h>
#include <sys/socket.h>

#define RANGE_UNSHARE 2u
#define RANGE_CLOEXEC 4u

static void descriptors(void)
{
    int fd = new_file("f", "content");
    CHECK_EQ("F_DUPFD", fcntl(fd, F_DUPFD, 50), 50);
    CHECK_EQ("the next free one", fcntl(fd, F_DUPFD_CLOEXEC, 50), 51);
    CHECK_EQ("close-on-exec", fcntl(51, F_GETFD), FD_CLOEXEC);
    CHECK_ERRNO("negative", fcntl(fd, F_DUPFD, -1), EINVAL);
    CHECK_ERRNO("beyond the limit", fcntl(fd, F_DUPFD, 1 << 30), EINVAL);
    CHECK_ERRNO("bad command", fcntl(fd, 4711), EINVAL);
    CHECK_ERRNO("bad descriptor", fcntl(77, F_GETFD), EBADF);
    CHECK_EQ("F_GETFL", fcntl(50, F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR);
    fcntl(50, F_SETFL, O_APPEND | O_NONBLOCK | O_WRONLY | O_CREAT);
    CHECK_EQ("F_SETFL changes some", fcntl(fd, F_GETFL) & ~0100000, O_RDWR | O_APPEND | O_NONBLOCK);
    for (int i = 60; i < 70; i++)
        dup2(fd, i);
    CHECK_EQ("close_range, marking", syscall(SYS_close_range, 60, 64, RANGE_CLOEXEC), 0);
    CHECK("marked", fcntl(60, F_GETFD) == FD_CLOEXEC && fcntl(65, F_GETFD) == 0);
    CHECK_EQ("close_range", syscall(SYS_close_range, 50, ~0u, 0), 0);
    CHECK_ERRNO("closed", fcntl(50, F_GETFD), EBADF);
    CHECK_ERRNO("first after last", syscall(SYS_close_range, 5, 4, 0), EINVAL);
    CHECK_ERRNO("bad flags", syscall(SYS_close_range, 4, 5, 64), EINVAL);
    CHECK_EQ("unshare", syscall(SYS_close_range, 100, 200, RANGE_UNSHARE), 0);
    CHECK_ERRNO("dup2 beyond the limit", dup2(fd, 1 << 30), EBADF);
    CHECK_ERRNO("dup3 onto itself", dup3(fd, fd, 0), EINVAL);
    CHECK_EQ("dup2 onto itself", dup2(fd, fd), fd);
    CHECK_ERRNO("dup3 flags", dup3(fd, 60, O_NONBLOCK), EINVAL);
    close(fd);
}

static volatile int signals, signal_fd;

static void note(int signo, siginfo_t *info, void *context)
{
    (void)context;
    signals++;
    signal_fd = signo == SIGRTMIN ? info->si_fd : 0;
}

static void owners(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    catch_with(SIGIO, note, 0), catch_with(SIGRTMIN, note, 0);
    CHECK_EQ("no owner", fcntl(s[0], F_GETOWN), 0);
    CHECK_EQ("F_SETOWN", fcntl(s[0], F_SETOWN, getpid()), 0);
    CHECK_EQ("F_GETOWN", fcntl(s[0], F_GETOWN), getpid());
    struct f_owner_ex owner, nobody = {F_OWNER_PGRP, 0};
    CHECK("F_GETOWN_EX of one never owned", fcntl(s[1], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == 0);
    fcntl(s[1], F_SETOWN_EX, &nobody);
    CHECK("the kind is kept", fcntl(s[1], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PGRP && owner.pid == 0);
    CHECK("F_GETOWN_EX", fcntl(s[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PID && owner.pid == getpid());
    CHECK_EQ("O_ASYNC", fcntl(s[0], F_SETFL, O_ASYNC), 0);
    write(s[1], "x", 1);
    for (int i = 0; i < 100 && !signals; i++)
        sleep_ms(2);
    CHECK("SIGIO", signals >= 1);
    CHECK_EQ("F_SETSIG", fcntl(s[0], F_SETSIG, SIGRTMIN), 0);
    CHECK_EQ("F_GETSIG", fcntl(s[0], F_GETSIG), SIGRTMIN);
    signals = 0;
    write(s[1], "x", 1);
    for (int i = 0; i < 100 && !signals; i++)
        sleep_ms(2);
    CHECK("with the descriptor", signals >= 1 && signal_fd == s[0]);
    CHECK_ERRNO("bad signal", fcntl(s[0], F_SETSIG, 100), EINVAL);
    CHECK_ERRNO("nobody", fcntl(s[0], F_SETOWN, 999999), ESRCH);
    owner.type = 77;
    CHECK_ERRNO("bad kind", fcntl(s[0], F_SETOWN_EX, &owner), EINVAL);
    close(s[0]), close(s[1]);
}

static void pipes(void)
{
    int p[2];
    pipe(p);
    CHECK_EQ("64 KiB", fcntl(p[0], F_GETPIPE_SZ), 65536);
    CHECK_EQ("rounded up", fcntl(p[0], F_SETPIPE_SZ, 100000), 131072);
    CHECK_EQ("on both ends", fcntl(p[1], F_GETPIPE_SZ), 131072);
    CHECK_EQ("at least a page", fcntl(p[0], F_SETPIPE_SZ, 1), 4096);
    char page[4096] = "";
    write(p[1], page, sizeof page);
    fcntl(p[0], F_SETPIPE_SZ, 65536);
    write(p[1], page, sizeof page);
    CHECK_ERRNO("less than what is in it", fcntl(p[0], F_SETPIPE_SZ, 4096), EBUSY);
    int fd = new_file("g", "");
    CHECK_ERRNO("not a pipe", fcntl(fd, F_GETPIPE_SZ), EBADF);
    close(fd), close(p[0]), close(p[1]);
}

static void seals(void)
{
    int fd = memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char link[64], text[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    readlink(link, text, 63);
    CHECK("its name", strcmp(text, "/memfd:name (deleted)") == 0);
    CHECK_EQ("no seals", fcntl(fd, F_GET_SEALS), 0);
    write(fd, "content", 7);
    CHECK_EQ("F_SEAL_GROW", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    CHECK_ERRNO("cannot grow", ftruncate(fd, 100), EPERM);
    CHECK_ERRNO("nor by a write", pwrite(fd, "x", 1, 7), EPERM);
    CHECK_EQ("F_SEAL_SHRINK", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_ERRNO("cannot shrink", ftruncate(fd, 1), EPERM);
    char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK_ERRNO("F_SEAL_WRITE while it is mapped", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    munmap(shared, PAGE);
    CHECK_EQ("F_SEAL_WRITE", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    CHECK_ERRNO("cannot write", pwrite(fd, "x", 1, 0), EPERM);
    char again[32];
    sprintf(again, "/proc/self/fd/%d", fd);
    int second = open(again, O_RDWR);
    CHECK("can be opened for writing", second >= 0);
    CHECK_ERRNO("and still not be written", pwrite(second, "x", 1, 0), EPERM);
    CHECK_ERRNO("nor emptied", open(again, O_RDWR | O_TRUNC), EPERM);
    close(second);
    CHECK("nor map for writing", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
    CHECK_ERRNO("nor punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4), EPERM);
    CHECK_EQ("F_SEAL_SEAL", fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
    CHECK_ERRNO("no more seals", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    CHECK_EQ("all of them", fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    close(fd);
    fd = memfd_create("", 0);
    CHECK_EQ("sealed against seals", fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERRNO("memfd_create flags", memfd_create("x", 0x1000), EINVAL);
    close(fd);
    fd = new_file("h", "");
    CHECK_ERRNO("files have none", fcntl(fd, F_GET_SEALS), EINVAL);
    close(fd);
}

int main(void)
{
    enter_scratch();
    descriptors();
    owners();
    pipes();
    seals();
    return finish();
}
