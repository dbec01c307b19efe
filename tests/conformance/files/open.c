/* cc: -static
 * open(2), openat(2), creat(2), close(2): flags, errors, lowest descriptor, O_TMPFILE, O_PATH. */
#include "../check.h"

static void flags(void)
{
    CHECK_ERRNO("missing file", open("none", O_RDONLY), ENOENT);
    int fd = open("a", O_WRONLY | O_CREAT | O_EXCL, 0666);
    CHECK("O_CREAT makes it", fd >= 0);
    struct stat st;
    fstat(fd, &st);
    CHECK_EQ("mode obeys umask", st.st_mode, S_IFREG | 0644);
    char c;
    CHECK_ERRNO("O_WRONLY forbids read", read(fd, &c, 1), EBADF);
    CHECK_EQ("write", write(fd, "hello", 5), 5);
    CHECK_ERRNO("O_EXCL on existing", open("a", O_RDWR | O_CREAT | O_EXCL, 0666), EEXIST);
    close(fd);
    CHECK_ERRNO("close twice", close(fd), EBADF);
    fd = open("a", O_RDONLY);
    CHECK_ERRNO("O_RDONLY forbids write", write(fd, "x", 1), EBADF);
    CHECK_EQ("access mode", fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    close(fd);
    fd = open("a", O_RDWR | O_TRUNC);
    fstat(fd, &st);
    CHECK_EQ("O_TRUNC empties", st.st_size, 0);
    close(fd);
    fd = open("a", O_WRONLY | O_APPEND);
    CHECK("append 1", write(fd, "one", 3) == 3 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "two", 3) == 3);
    CHECK_EQ("append moves to the end", lseek(fd, 0, SEEK_CUR), 6);
    close(fd);
    fd = creat("made", 0600);
    CHECK_EQ("creat is write-only", fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    close(fd);
}

static void directories(void)
{
    mkdir("d", 0755);
    CHECK_ERRNO("write a directory", open("d", O_WRONLY), EISDIR);
    CHECK_ERRNO("O_CREAT on a directory", open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
    CHECK_ERRNO("O_DIRECTORY on a file", open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO("file as a directory", open("a/b", O_RDONLY), ENOTDIR);
    CHECK_ERRNO("trailing slash on a file", open("a/", O_RDONLY), ENOTDIR);
    CHECK_ERRNO("O_CREAT with trailing slash", open("new/", O_RDWR | O_CREAT, 0644), EISDIR);
    CHECK_ERRNO("empty path", open("", O_RDONLY), ENOENT);
    CHECK_ERRNO("bad pointer", open((char *)8, O_RDONLY), EFAULT);
    int dir = open("d", O_RDONLY | O_DIRECTORY);
    CHECK("O_DIRECTORY", dir >= 0);
    char c;
    CHECK_ERRNO("read a directory", read(dir, &c, 1), EISDIR);
    int fd = openat(dir, "inner", O_RDWR | O_CREAT, 0644);
    CHECK("openat relative", fd >= 0 && access("d/inner", F_OK) == 0);
    CHECK_ERRNO("openat bad dirfd", openat(999, "inner", O_RDONLY), EBADF);
    CHECK_ERRNO("openat dirfd is a file", openat(fd, "inner", O_RDONLY), ENOTDIR);
    close(fd);
    fd = openat(999, check_scratch, O_RDONLY);
    CHECK("absolute path ignores dirfd", fd >= 0);
    close(fd);
    close(dir);
}

static void links(void)
{
    CHECK_EQ("symlink", symlink("a", "l"), 0);
    int fd = open("l", O_RDONLY);
    CHECK("follow a link", fd >= 0);
    close(fd);
    CHECK_ERRNO("O_NOFOLLOW on a link", open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_ERRNO("O_NOFOLLOW | O_DIRECTORY on a link", open("l", O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
    symlink("absent", "dangling");
    CHECK_ERRNO("dangling link", open("dangling", O_RDONLY), ENOENT);
    CHECK_ERRNO("O_EXCL does not follow", open("dangling", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    fd = open("dangling", O_RDWR | O_CREAT, 0644);
    CHECK("O_CREAT follows a dangling link", fd >= 0 && access("absent", F_OK) == 0);
    close(fd);
}

static void opath(void)
{
    int fd = open("a", O_PATH);
    char c;
    struct stat st;
    CHECK_ERRNO("O_PATH forbids read", read(fd, &c, 1), EBADF);
    CHECK_EQ("O_PATH allows fstat", fstat(fd, &st), 0);
    CHECK("O_PATH flag shows", fcntl(fd, F_GETFL) & O_PATH);
    CHECK_ERRNO("O_PATH forbids fchmod", fchmod(fd, 0600), EBADF);
    close(fd);
    fd = open("l", O_PATH | O_NOFOLLOW);
    CHECK("O_PATH on a link itself", fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode));
    char text[8] = {0};
    CHECK("readlinkat with an empty path", readlinkat(fd, "", text, sizeof text) == 1 && text[0] == 'a');
    close(fd);
}

static void others(void)
{
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    struct stat st;
    CHECK("O_TMPFILE has no name", fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    write(fd, "t", 1);
    CHECK_EQ("link a temporary file", linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), 0);
    CHECK("it has its content", stat("named", &st) == 0 && st.st_size == 1 && st.st_nlink == 1);
    CHECK_ERRNO("O_TMPFILE needs writing", open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    close(fd);
    int low = open("a", O_RDONLY), high = open("a", O_RDONLY);
    close(low);
    CHECK_EQ("lowest free descriptor", open("a", O_RDONLY), low);
    CHECK_EQ("close_range", syscall(SYS_close_range, low, high, 0), 0);
    CHECK_ERRNO("both are closed", fcntl(high, F_GETFD), EBADF);
    CHECK_ERRNO("close_range backwards", syscall(SYS_close_range, 9, 3, 0), EINVAL);
}

int main(void)
{
    enter_scratch();
    flags();
    directories();
    links();
    opath();
    others();
    return finish();
}
