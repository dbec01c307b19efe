/* cc: -static
 * stat(2), lstat(2), fstatat(2), statx(2), chmod(2), utimensat(2), truncate(2). */
#include "../check.h"
#include <sys/sysmacros.h>

static struct stat st;

static void kinds(void)
{
    close(new_file("f", "0123456789"));
    mkdir("d", 0750);
    symlink("f", "l");
    mkfifo("p", 0640);
    CHECK("file", stat("f", &st) == 0 && st.st_mode == (S_IFREG | 0644) && st.st_size == 10 && st.st_nlink == 1);
    CHECK("owner", st.st_uid == geteuid() && st.st_gid == getegid());
    CHECK("blocks of 512", st.st_blocks >= 1 && st.st_blksize == 4096);
    ino_t file = st.st_ino;
    CHECK("directory", stat("d", &st) == 0 && st.st_mode == (S_IFDIR | 0750) && st.st_nlink == 2);
    CHECK("stat follows", stat("l", &st) == 0 && st.st_ino == file);
    CHECK("lstat does not", lstat("l", &st) == 0 && st.st_mode == (S_IFLNK | 0777) && st.st_size == 1);
    CHECK("FIFO", stat("p", &st) == 0 && st.st_mode == (S_IFIFO | 0640));
    CHECK("character device", stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
    int pipes[2];
    pipe(pipes);
    CHECK("pipe", fstat(pipes[0], &st) == 0 && S_ISFIFO(st.st_mode) && st.st_nlink == 1);
    CHECK_ERRNO("missing", stat("none", &st), ENOENT);
    CHECK_ERRNO("through a file", stat("f/x", &st), ENOTDIR);
    CHECK_ERRNO("bad path", stat((char *)8, &st), EFAULT);
    CHECK_ERRNO("bad buffer", syscall(SYS_newfstatat, AT_FDCWD, "f", 8, 0), EFAULT);
    CHECK_ERRNO("fstat bad descriptor", fstat(777, &st), EBADF);
    int fd = open("f", O_RDONLY);
    CHECK("AT_EMPTY_PATH", fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_ino == file);
    CHECK_ERRNO("empty without the flag", fstatat(fd, "", &st, 0), ENOENT);
    CHECK_ERRNO("unknown flag", fstatat(fd, "f", &st, 0x10000000), EINVAL);
    CHECK("AT_SYMLINK_NOFOLLOW", fstatat(AT_FDCWD, "l", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
    close(fd);
}

static void extended(void)
{
    struct statx x;
    CHECK_EQ("statx", statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x), 0);
    CHECK("statx fields", x.stx_mode == (S_IFREG | 0644) && x.stx_size == 10 && x.stx_nlink == 1);
    CHECK_EQ("basic fields are filled", x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    stat("f", &st);
    CHECK("same inode and device", x.stx_ino == st.st_ino && makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
    CHECK_ERRNO("reserved mask", statx(AT_FDCWD, "f", 0, 0x80000000, &x), EINVAL);
    CHECK_ERRNO("bad flags", statx(AT_FDCWD, "f", 0x10000000, 0, &x), EINVAL);
    CHECK_ERRNO("both sync flags", statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, 0, &x), EINVAL);
}

static void modes(void)
{
    CHECK("chmod", chmod("f", 04755) == 0 && stat("f", &st) == 0 && (st.st_mode & 07777) == 04755);
    int fd = open("f", O_RDWR);
    CHECK("fchmod", fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0600);
    CHECK("chmod follows", chmod("l", 0640) == 0 && stat("f", &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK_ERRNO("chmod missing", chmod("none", 0600), ENOENT);
    CHECK_EQ("chown to itself", fchown(fd, geteuid(), -1), 0);
    close(fd);
}

static void times(void)
{
    struct timespec set[2] = {{1000, 5}, {2000, 999999999}};
    CHECK_EQ("utimensat", utimensat(AT_FDCWD, "f", set, 0), 0);
    stat("f", &st);
    CHECK("set to the nanosecond", st.st_atim.tv_sec == 1000 && st.st_atim.tv_nsec == 5 && st.st_mtim.tv_sec == 2000 &&
                                       st.st_mtim.tv_nsec == 999999999);
    set[0].tv_nsec = UTIME_OMIT, set[1].tv_nsec = UTIME_NOW;
    CHECK_EQ("UTIME_OMIT, UTIME_NOW", utimensat(AT_FDCWD, "f", set, 0), 0);
    stat("f", &st);
    CHECK("one kept, one now", st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec > 1000000);
    CHECK("ctime is now too", st.st_ctim.tv_sec > 1000000);
    set[0].tv_nsec = 1000000000;
    CHECK_ERRNO("nanoseconds out of range", utimensat(AT_FDCWD, "f", set, 0), EINVAL);
    struct timespec old[2] = {{1, 0}, {1, 0}};
    utimensat(AT_FDCWD, "f", old, 0);
    int fd = open("f", O_WRONLY);
    write(fd, "x", 1);
    close(fd);
    stat("f", &st);
    CHECK("write updates mtime, not atime", st.st_mtim.tv_sec > 1 && st.st_atim.tv_sec == 1);
    utimensat(AT_FDCWD, "l", old, AT_SYMLINK_NOFOLLOW);
    CHECK("AT_SYMLINK_NOFOLLOW", lstat("l", &st) == 0 && st.st_mtim.tv_sec == 1);
}

static void sizes(void)
{
    CHECK("grow", truncate("f", 5000) == 0 && stat("f", &st) == 0 && st.st_size == 5000);
    int fd = open("f", O_RDWR);
    char text[8];
    CHECK("zeros in the growth", pread(fd, text, 4, 4000) == 4 && memcmp(text, "\0\0\0\0", 4) == 0);
    CHECK("shrink", ftruncate(fd, 3) == 0 && pread(fd, text, 8, 0) == 3);
    ftruncate(fd, 10);
    CHECK("shrunk bytes are gone", pread(fd, text, 8, 3) == 7 && memcmp(text, "\0\0\0\0\0\0\0", 7) == 0);
    CHECK_ERRNO("negative", ftruncate(fd, -1), EINVAL);
    CHECK_EQ("fallocate", fallocate(fd, 0, 0, 9000), 0);
    CHECK("extends", fstat(fd, &st) == 0 && st.st_size == 9000);
    CHECK_EQ("FALLOC_FL_KEEP_SIZE", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000), 0);
    CHECK("keeps", fstat(fd, &st) == 0 && st.st_size == 9000);
    pwrite(fd, "full", 4, 4096);
    CHECK_EQ("punch a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
    CHECK("punched bytes are zero", pread(fd, text, 4, 4096) == 4 && memcmp(text, "\0\0\0\0", 4) == 0);
    CHECK_ERRNO("fallocate nothing", fallocate(fd, 0, 0, 0), EINVAL);
    close(fd);
    CHECK_ERRNO("truncate a directory", truncate("d", 0), EISDIR);
    fd = open("f", O_RDONLY);
    CHECK_ERRNO("ftruncate read-only", ftruncate(fd, 0), EINVAL);
}

int main(void)
{
    enter_scratch();
    kinds();
    extended();
    modes();
    times();
    sizes();
    return finish();
}
