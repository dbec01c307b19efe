/* cc: -static
 * fcntl(2) record locks, open-file-description locks, flock(2). */
#include "../check.h"
#include <sys/file.h>

static int fd;

static int lock_with(int file, int command, short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(file, command, &lock);
}

static void child_conflict(void)
{
    int mine = open("f", O_RDWR);
    CHECK_ERRNO("write lock refused", lock_with(mine, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
    CHECK_EQ("free range granted", lock_with(mine, F_SETLK, F_WRLCK, 20, 5), 0);
    struct flock ask = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
    CHECK_EQ("F_GETLK", fcntl(mine, F_GETLK, &ask), 0);
    CHECK("names the holder", ask.l_type == F_WRLCK && ask.l_start == 0 && ask.l_len == 10 && ask.l_pid == getppid());
    CHECK_EQ("read lock on a read range", lock_with(mine, F_SETLK, F_RDLCK, 12, 2), 0);
    CHECK_ERRNO("write lock on a read range", lock_with(mine, F_SETLK, F_WRLCK, 12, 2), EAGAIN);
}

static void child_waits(void)
{
    int mine = open("f", O_RDWR);
    CHECK_EQ("F_SETLKW waits and gets it", lock_with(mine, F_SETLKW, F_WRLCK, 0, 1), 0);
}

static void child_free(void)
{
    int mine = open("f", O_RDWR);
    CHECK_EQ("closing any descriptor dropped them", lock_with(mine, F_SETLK, F_WRLCK, 0, 0), 0);
}

static void records(void)
{
    CHECK_EQ("write lock", lock_with(fd, F_SETLK, F_WRLCK, 0, 10), 0);
    close(open("f", O_PATH)); /* drops nothing: child_conflict */
    CHECK_EQ("read lock", lock_with(fd, F_SETLK, F_RDLCK, 10, 5), 0);
    CHECK_EQ("own lock is no conflict", lock_with(fd, F_SETLK, F_WRLCK, 0, 5), 0);
    CHECK("child sees conflicts", exited(in_child(child_conflict), 0));
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        child_waits();
        _exit(finish());
    }
    until_asleep(pid);
    int unlocked = lock_with(fd, F_SETLK, F_UNLCK, 0, 0), status;
    waitpid(pid, &status, 0);
    CHECK_EQ("unlock", unlocked, 0);
    CHECK("the waiter finished", exited(status, 0));
    lock_with(fd, F_SETLK, F_WRLCK, 0, 0);
    close(open("f", O_RDONLY));
    CHECK("POSIX closing rule", exited(in_child(child_free), 0));
    int readonly = open("f", O_RDONLY);
    CHECK_ERRNO("write lock needs O_WRONLY or O_RDWR", lock_with(readonly, F_SETLK, F_WRLCK, 0, 1), EBADF);
    CHECK_ERRNO("negative start", lock_with(fd, F_SETLK, F_RDLCK, -5, 1), EINVAL);
    close(readonly);
}

static void descriptions(void)
{
    int other = open("f", O_RDWR);
    CHECK_EQ("OFD write lock", lock_with(fd, F_OFD_SETLK, F_WRLCK, 0, 10), 0);
    CHECK_ERRNO("conflict within one process", lock_with(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    struct flock ask = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    CHECK_EQ("F_OFD_GETLK", fcntl(other, F_OFD_GETLK, &ask), 0);
    CHECK_EQ("holder is -1", ask.l_pid, -1);
    int copy = dup(fd);
    close(copy);
    CHECK_ERRNO("closing a copy keeps it", lock_with(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    CHECK_EQ("unlock", lock_with(fd, F_OFD_SETLK, F_UNLCK, 0, 0), 0);
    CHECK_EQ("granted now", lock_with(other, F_OFD_SETLK, F_WRLCK, 5, 1), 0);
    close(other);
}

static void whole_file(void)
{
    int other = open("f", O_RDONLY);
    CHECK_EQ("flock exclusive", flock(fd, LOCK_EX), 0);
    CHECK_ERRNO("another description", flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK_EQ("downgrade", flock(fd, LOCK_SH), 0);
    CHECK_EQ("shared with shared", flock(other, LOCK_SH | LOCK_NB), 0);
    CHECK_ERRNO("upgrade refused", flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_EQ("unlock", flock(fd, LOCK_UN), 0);
    CHECK_EQ("upgrade granted", flock(other, LOCK_EX | LOCK_NB), 0);
    close(other);
    CHECK_EQ("close unlocks", flock(fd, LOCK_EX | LOCK_NB), 0);
    CHECK_ERRNO("bad operation", flock(fd, 77), EINVAL);
}

int main(void)
{
    enter_scratch();
    fd = new_file("f", "data data data data data data");
    records();
    descriptions();
    whole_file();
    return finish();
}
