/* cc: -static
 * dup(2), dup2(2), dup3(2), fcntl(2) descriptor and status commands. */
#include "../check.h"
#include <sys/resource.h>

static void dups(void)
{
    int fd = new_file("f", "0123456789");
    int copy = dup(fd);
    lseek(fd, 4, SEEK_SET);
    CHECK_EQ("dup shares the offset", lseek(copy, 0, SEEK_CUR), 4);
    CHECK_EQ("original keeps FD_CLOEXEC", fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ("dup clears FD_CLOEXEC", fcntl(copy, F_GETFD), 0);
    CHECK_EQ("dup2 to itself", dup2(fd, fd), fd);
    CHECK_EQ("dup2 to itself keeps FD_CLOEXEC", fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ("dup2 to a high number", dup2(fd, 100), 100);
    CHECK_ERRNO("dup2 of a closed one", dup2(50, 51), EBADF);
    CHECK_ERRNO("dup2 to -1", dup2(fd, -1), EBADF);
    CHECK_ERRNO("dup3 to itself", dup3(fd, fd, 0), EINVAL);
    CHECK_ERRNO("dup3 bad flag", dup3(fd, 101, O_APPEND), EINVAL);
    CHECK_EQ("dup3 O_CLOEXEC", dup3(fd, 101, O_CLOEXEC), 101);
    CHECK_EQ("dup3 set it", fcntl(101, F_GETFD), FD_CLOEXEC);
    CHECK_EQ("F_DUPFD from 60", fcntl(fd, F_DUPFD, 60), 60);
    CHECK_EQ("F_DUPFD_CLOEXEC from 60", fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
    CHECK_EQ("it has FD_CLOEXEC", fcntl(61, F_GETFD), FD_CLOEXEC);
    CHECK_ERRNO("F_DUPFD below zero", fcntl(fd, F_DUPFD, -1), EINVAL);
    int other = open("f", O_RDONLY);
    CHECK_EQ("open has its own offset", lseek(other, 0, SEEK_CUR), 0);
    CHECK_EQ("kcmp: same description", syscall(SYS_kcmp, getpid(), getpid(), 0, fd, copy), 0);
    CHECK("kcmp: different", syscall(SYS_kcmp, getpid(), getpid(), 0, fd, other) > 0);
}

static void status(void)
{
    int fd = open("f", O_RDWR), copy = dup(fd);
    CHECK_EQ("F_GETFL", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR);
    CHECK_EQ("F_SETFL", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_WRONLY | O_CREAT), 0);
    CHECK_EQ("only the settable flags changed", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_CREAT),
             O_RDWR | O_APPEND | O_NONBLOCK);
    CHECK("the copy sees them", fcntl(copy, F_GETFL) & O_APPEND);
    CHECK_EQ("F_SETFD", fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
    CHECK_EQ("F_GETFD", fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_ERRNO("unknown command", fcntl(fd, 9999), EINVAL);
    CHECK_ERRNO("bad descriptor", fcntl(555, F_GETFD), EBADF);
    CHECK_EQ("F_SETOWN", fcntl(fd, F_SETOWN, getpid()), 0);
    CHECK_EQ("F_GETOWN", fcntl(fd, F_GETOWN), getpid());
    int pipes[2];
    pipe(pipes);
    CHECK_EQ("default pipe size", fcntl(pipes[0], F_GETPIPE_SZ), 65536);
    CHECK_EQ("pipe size rounds up", fcntl(pipes[1], F_SETPIPE_SZ, 5000), 8192);
    CHECK_EQ("and shows", fcntl(pipes[0], F_GETPIPE_SZ), 8192);
    CHECK_ERRNO("not a pipe", fcntl(fd, F_GETPIPE_SZ), EBADF);
}

static void limits(void)
{
    struct rlimit limit = {64, 64};
    CHECK_EQ("lower RLIMIT_NOFILE", setrlimit(RLIMIT_NOFILE, &limit), 0);
    int last = -1, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        last = fd;
    CHECK_EQ("open until the table is full", errno, EMFILE);
    CHECK_EQ("last one below the limit", last, 63);
    CHECK_ERRNO("dup", dup(0), EMFILE);
    int pipes[2];
    CHECK_ERRNO("pipe", pipe(pipes), EMFILE);
    CHECK_ERRNO("F_DUPFD at the limit", fcntl(0, F_DUPFD, 64), EINVAL);
    CHECK_ERRNO("dup2 at the limit", dup2(0, 64), EBADF);
}

int main(void)
{
    enter_scratch();
    dups();
    status();
    CHECK("in a child", exited(in_child(limits), 0));
    return finish();
}
