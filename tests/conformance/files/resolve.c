/* cc: -static
 * openat2(2): every RESOLVE_* rule, and what it refuses; O_PATH, O_TMPFILE, O_NOFOLLOW, O_DIRECTORY of open(2). */
#include "../check.h"
#include <linux/openat2.h>

static int dir;

static int open2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    int fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

static void rules(void)
{
    CHECK_EQ("plain", open2(dir, "file", O_RDONLY, 0, 0), 0);
    CHECK_EQ("beneath", open2(dir, "sub/../file", O_RDONLY, 0, RESOLVE_BENEATH), 0);
    CHECK_ERRNO("beneath: ..", open2(dir, "../file", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO("beneath: up and down again", open2(dir, "sub/../../d/file", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO("beneath: absolute", open2(dir, "/etc/passwd", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO("beneath: absolute link", open2(dir, "absolute", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO("beneath: link up", open2(dir, "up/file", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    CHECK_EQ("beneath: link inside", open2(dir, "inside", O_RDONLY, 0, RESOLVE_BENEATH), 0);
    CHECK_EQ("in root: absolute", open2(dir, "/file", O_RDONLY, 0, RESOLVE_IN_ROOT), 0);
    CHECK_EQ("in root: ..", open2(dir, "../../../file", O_RDONLY, 0, RESOLVE_IN_ROOT), 0);
    CHECK_EQ("in root: link to /", open2(dir, "root/file", O_RDONLY, 0, RESOLVE_IN_ROOT), 0);
    CHECK_ERRNO("in root: link out", open2(dir, "absolute", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
    CHECK_ERRNO("no links", open2(dir, "inside", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    CHECK_ERRNO("no links on the way", open2(dir, "here/file", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    CHECK_EQ("the link itself", open2(dir, "inside", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS), 0);
    CHECK_ERRNO("no magic links", open2(AT_FDCWD, "/proc/self/fd/0", O_PATH, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
    CHECK_ERRNO("nor on the way", open2(AT_FDCWD, "/proc/self/cwd/d", O_PATH, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
    CHECK_EQ("text links of proc are none", open2(AT_FDCWD, "/proc/self/status", O_PATH, 0, RESOLVE_NO_MAGICLINKS), 0);
    int root = open("/proc/self", O_PATH);
    CHECK_ERRNO("magic links leave the root", open2(root, "cwd", O_PATH, 0, RESOLVE_IN_ROOT), EXDEV);
    close(root);
    root = open("/", O_PATH);
    CHECK_ERRNO("no other mount", open2(root, "proc/version", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
    CHECK_EQ("the same mount", open2(dir, "file", O_RDONLY, 0, RESOLVE_NO_XDEV), 0);
    close(root);
    CHECK_EQ("create beneath", open2(dir, "new", O_CREAT | O_EXCL | O_RDWR, 0644, RESOLVE_BENEATH), 0);
    CHECK_ERRNO("create through a link up", open2(dir, "up/new", O_CREAT | O_RDWR, 0644, RESOLVE_BENEATH), EXDEV);
    CHECK_ERRNO("create behind a dangling link", open2(dir, "dangling", O_CREAT | O_RDWR, 0644, RESOLVE_BENEATH), EXDEV);
}

static void arguments(void)
{
    CHECK_ERRNO("unknown rule", open2(dir, "file", O_RDONLY, 0, 1 << 20), EINVAL);
    CHECK_ERRNO("unknown flag", open2(dir, "file", 1ull << 40, 0, 0), EINVAL);
    CHECK_ERRNO("mode without O_CREAT", open2(dir, "file", O_RDONLY, 0644, 0), EINVAL);
    CHECK_ERRNO("odd mode", open2(dir, "new2", O_CREAT | O_RDWR, 0100644, 0), EINVAL);
    CHECK_ERRNO("beneath and in root", open2(dir, "file", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
    CHECK_ERRNO("O_PATH with more", open2(dir, "file", O_PATH | O_RDWR, 0, 0), EINVAL);
    CHECK_ERRNO("cached and O_TRUNC", open2(dir, "file", O_RDWR | O_TRUNC, 0, RESOLVE_CACHED), EAGAIN);
    struct {
        struct open_how how;
        char more[40];
    } large = {.how = {.flags = O_RDONLY}};
    int fd = syscall(SYS_openat2, dir, "file", &large, sizeof large);
    CHECK("a larger structure of zeros", fd >= 0);
    close(fd);
    large.more[30] = 1;
    CHECK_ERRNO("what it does not know", syscall(SYS_openat2, dir, "file", &large, sizeof large), E2BIG);
    CHECK_ERRNO("too small", syscall(SYS_openat2, dir, "file", &large, 8), EINVAL);
    CHECK_ERRNO("too large", syscall(SYS_openat2, dir, "file", &large, 8192), E2BIG);
    CHECK_ERRNO("bad pointer", syscall(SYS_openat2, dir, "file", 8, sizeof large.how), EFAULT);
}

static void kinds(void)
{
    CHECK_ERRNO("O_NOFOLLOW", open("d/inside", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_ERRNO("O_DIRECTORY on a file", open("d/file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO("a file as a directory", open("d/file/", O_RDONLY), ENOTDIR);
    CHECK_ERRNO("writing a directory", open("d", O_RDWR), EISDIR);
    CHECK_ERRNO("O_EXCL on a link", open("d/dangling", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    CHECK_ERRNO("O_CREAT with a slash", open("d/none/", O_CREAT | O_RDWR, 0644), EISDIR);
    int path = open("d/file", O_PATH);
    char text[8];
    CHECK_ERRNO("O_PATH: read", read(path, text, 1), EBADF);
    CHECK_ERRNO("O_PATH: fchmod", fchmod(path, 0600), EBADF);
    CHECK_ERRNO("O_PATH: lseek", lseek(path, 0, SEEK_SET), EBADF);
    CHECK_ERRNO("O_PATH: ioctl", syscall(SYS_ioctl, path, 0x5401, text), EBADF);
    struct stat st;
    CHECK("O_PATH: fstat", fstat(path, &st) == 0 && S_ISREG(st.st_mode));
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", path);
    int again = open(name, O_RDONLY);
    CHECK("opened through proc", again >= 0 && read(again, text, 4) == 4);
    int tmp = open("d", O_TMPFILE | O_RDWR, 0600);
    CHECK("O_TMPFILE", tmp >= 0 && fstat(tmp, &st) == 0 && st.st_nlink == 0 && write(tmp, "t", 1) == 1);
    snprintf(name, sizeof name, "/proc/self/fd/%d", tmp);
    CHECK_EQ("gets a name", linkat(AT_FDCWD, name, AT_FDCWD, "d/named", AT_SYMLINK_FOLLOW), 0);
    CHECK("and a link", fstat(tmp, &st) == 0 && st.st_nlink == 1);
    tmp = open("d", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(name, sizeof name, "/proc/self/fd/%d", tmp);
    CHECK_ERRNO("not with O_EXCL", linkat(AT_FDCWD, name, AT_FDCWD, "d/other", AT_SYMLINK_FOLLOW), ENOENT);
    CHECK_ERRNO("O_TMPFILE read-only", open("d", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    CHECK_ERRNO("O_TMPFILE on a file", open("d/file", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    CHECK_ERRNO("an empty name", open("", O_RDONLY), ENOENT);
    char longer[300];
    memset(longer, 'x', sizeof longer), longer[299] = 0;
    CHECK_ERRNO("a long component", open(longer, O_RDONLY), ENAMETOOLONG);
    CHECK_ERRNO("a loop", open("d/loop", O_RDONLY), ELOOP);
}

int main(void)
{
    enter_scratch();
    mkdir("d", 0755), mkdir("d/sub", 0755);
    close(new_file("d/file", "content")), close(new_file("file", "outside"));
    symlink("/etc/passwd", "d/absolute"), symlink("..", "d/up"), symlink("file", "d/inside"), symlink("/", "d/root");
    symlink(".", "d/here"), symlink("../nowhere", "d/dangling"), symlink("loop", "d/loop");
    dir = open("d", O_RDONLY | O_DIRECTORY);
    rules();
    arguments();
    kinds();
    return finish();
}
