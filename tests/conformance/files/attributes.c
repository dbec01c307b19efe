/* cc: -static
 * xattr(7), utimensat(2), chmod(2), chown(2), umask(2), statx(2), truncate(2) and set-id bits. */
#include "../check.h"
#include <linux/stat.h>
#include <sys/xattr.h>

static void extended(void)
{
    char text[64];
    int fd = new_file("f", "content");
    CHECK_EQ("set", setxattr("f", "user.one", "value", 5, 0), 0);
    CHECK("get", getxattr("f", "user.one", text, 64) == 5 && memcmp(text, "value", 5) == 0);
    CHECK_EQ("its size", getxattr("f", "user.one", NULL, 0), 5);
    CHECK_ERRNO("too small a buffer", getxattr("f", "user.one", text, 3), ERANGE);
    CHECK_ERRNO("none", getxattr("f", "user.two", text, 64), ENODATA);
    CHECK_ERRNO("create what is there", setxattr("f", "user.one", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERRNO("replace what is not", setxattr("f", "user.two", "x", 1, XATTR_REPLACE), ENODATA);
    CHECK_EQ("empty", fsetxattr(fd, "user.two", "", 0, 0), 0);
    CHECK_EQ("empty value", fgetxattr(fd, "user.two", text, 64), 0);
    CHECK_ERRNO("unknown namespace", setxattr("f", "nosuch.x", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO("no name", setxattr("f", "user.", "x", 1, 0), EINVAL);
    CHECK_ERRNO("empty name", setxattr("f", "", "x", 1, 0), ERANGE);
    char longer[300];
    memset(longer, 'x', 299), memcpy(longer, "user.", 5), longer[299] = 0;
    CHECK_ERRNO("long name", setxattr("f", longer, "x", 1, 0), ERANGE);
    CHECK_ERRNO("large value", setxattr("f", "user.x", text, 70000, 0), E2BIG);
    CHECK_ERRNO("bad flags", setxattr("f", "user.x", "x", 1, 8), EINVAL);
    CHECK_ERRNO("both flags of none", setxattr("f", "user.x", "x", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA);
    ssize_t length = listxattr("f", text, 64);
    bool one = false, two = false;
    for (char *at = text; at < text + length; at += strlen(at) + 1)
        one |= !strcmp(at, "user.one"), two |= !strcmp(at, "user.two");
    CHECK("list", one && two);
    CHECK_ERRNO("list: too small", listxattr("f", text, 3), ERANGE);
    CHECK_EQ("remove", removexattr("f", "user.one"), 0);
    CHECK_ERRNO("remove twice", removexattr("f", "user.one"), ENODATA);
    symlink("f", "l");
    CHECK_ERRNO("links have none", lsetxattr("l", "user.x", "x", 1, 0), EPERM);
    mkfifo("p", 0600);
    CHECK_ERRNO("FIFOs neither", setxattr("p", "user.x", "x", 1, 0), EPERM);
    chmod("f", 0400);
    if (!IS_ROOT)
        CHECK_ERRNO("trusted", setxattr("f", "trusted.x", "x", 1, 0), EPERM);
    if (!IS_ROOT)
        CHECK_ERRNO("needs write permission", setxattr("f", "user.x", "x", 1, 0), EACCES);
    close(fd);
}

static void times(void)
{
    close(new_file("t", "x"));
    struct timespec both[2] = {{.tv_sec = 1000, .tv_nsec = 123}, {.tv_sec = 2000, .tv_nsec = 999999999}};
    struct stat st, again;
    CHECK_EQ("utimensat", utimensat(AT_FDCWD, "t", both, 0), 0);
    CHECK("both times", stat("t", &st) == 0 && st.st_atim.tv_sec == 1000 && st.st_atim.tv_nsec == 123 && st.st_mtim.tv_nsec == 999999999);
    both[0].tv_nsec = UTIME_OMIT, both[1].tv_nsec = UTIME_NOW;
    CHECK_EQ("omit and now", utimensat(AT_FDCWD, "t", both, 0), 0);
    CHECK("one moved", stat("t", &again) == 0 && again.st_atim.tv_sec == 1000 && again.st_mtim.tv_sec > 1000000);
    both[1].tv_nsec = UTIME_OMIT;
    CHECK_EQ("omit both", utimensat(AT_FDCWD, "t", both, 0), 0);
    both[1].tv_nsec = 1000000000;
    CHECK_ERRNO("too many nanoseconds", utimensat(AT_FDCWD, "t", both, 0), EINVAL);
    both[0].tv_sec = -100, both[0].tv_nsec = 5, both[1].tv_nsec = 0;
    CHECK("before 1970", utimensat(AT_FDCWD, "t", both, 0) == 0 && stat("t", &st) == 0 && st.st_atim.tv_sec == -100);
    CHECK_ERRNO("bad flags", utimensat(AT_FDCWD, "t", both, 0x8000), EINVAL);
    symlink("t", "tl");
    both[0].tv_sec = both[1].tv_sec = 77, both[0].tv_nsec = 0;
    CHECK("the link itself", utimensat(AT_FDCWD, "tl", both, AT_SYMLINK_NOFOLLOW) == 0 && lstat("tl", &st) == 0 && st.st_mtim.tv_sec == 77
          && stat("t", &again) == 0 && again.st_mtim.tv_sec != 77);
}

static void modes(void)
{
    struct stat st;
    umask(027);
    close(open("m", O_CREAT | O_RDWR, 0666));
    CHECK("umask", stat("m", &st) == 0 && (st.st_mode & 0777) == 0640);
    CHECK("umask tells the old one", umask(0) == 027 && umask(022) == 0);
    chmod("m", 06755);
    int fd = open("m", O_RDWR);
    write(fd, "x", 1);
    fstat(fd, &st);
    CHECK_EQ("a write takes the set-id bits", st.st_mode & 07000, IS_ROOT ? 06000 : 0);
    fchmod(fd, 02644);
    write(fd, "x", 1);
    fstat(fd, &st);
    CHECK_EQ("but not that of mandatory locks", st.st_mode & 07777, 02644);
    fchmod(fd, 06755);
    chown("m", -1, getegid());
    fstat(fd, &st);
    CHECK_EQ("chown takes them", st.st_mode & 07000, 0);
    fchmod(fd, 06755);
    ftruncate(fd, 1);
    fstat(fd, &st);
    CHECK_EQ("truncation too", st.st_mode & 07000, IS_ROOT ? 06000 : 0);
    mkdir("sg", 0755);
    chmod("sg", 02755);
    mkdir("sg/d", 0755);
    CHECK("set-group-id directories pass it on", stat("sg/d", &st) == 0 && (st.st_mode & S_ISGID));
    CHECK_ERRNO("links have no mode", fchmodat(AT_FDCWD, "l", 0644, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    CHECK_ERRNO("chown of nothing", chown("nothing", 0, 0), ENOENT);
    CHECK_EQ("chown to nobody in particular", chown("m", -1, -1), 0);
    close(fd);
}

static void extended_stat(void)
{
    struct statx stx;
    close(new_file("s", "12345"));
    CHECK_EQ("statx", statx(AT_FDCWD, "s", 0, STATX_BASIC_STATS | STATX_BTIME, &stx), 0);
    CHECK("what it says", (stx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS && stx.stx_size == 5 && stx.stx_nlink == 1
          && (stx.stx_mode & S_IFMT) == S_IFREG && stx.stx_uid == geteuid());
    struct stat st;
    stat("s", &st);
    CHECK("stat agrees", st.st_ino == stx.stx_ino && st.st_mtim.tv_nsec == stx.stx_mtime.tv_nsec && st.st_blocks == stx.stx_blocks);
    CHECK_ERRNO("bad flags", statx(AT_FDCWD, "s", 0x8000, 0, &stx), EINVAL);
    CHECK_ERRNO("reserved mask", statx(AT_FDCWD, "s", 0, 0x80000000, &stx), EINVAL);
    CHECK_ERRNO("both syncs", statx(AT_FDCWD, "s", 0x6000, 0, &stx), EINVAL);
    CHECK_ERRNO("no such file", statx(AT_FDCWD, "nothing", 0, 0, &stx), ENOENT);
    CHECK("the root of a mount", statx(AT_FDCWD, "/proc", 0, 0, &stx) == 0 && (stx.stx_attributes & 0x2000));
    int fd = open("s", O_PATH);
    CHECK("by descriptor", statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &stx) == 0 && stx.stx_size == 5);
    close(fd);
}

int main(void)
{
    enter_scratch();
    extended();
    times();
    modes();
    extended_stat();
    return finish();
}
