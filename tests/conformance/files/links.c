/* cc: -static
 * link(2), symlink(2), readlink(2), unlink(2), rename(2), renameat2(2), xattr(7). */
#include "../check.h"
#include <sys/xattr.h>

static struct stat st, other;
static char text[300];

static void hard(void)
{
    int fd = new_file("f", "content");
    CHECK_EQ("link", link("f", "g"), 0);
    CHECK("one inode, two names", stat("f", &st) == 0 && stat("g", &other) == 0 && st.st_ino == other.st_ino && st.st_nlink == 2);
    CHECK_ERRNO("existing name", link("f", "g"), EEXIST);
    CHECK_ERRNO("missing file", link("none", "h"), ENOENT);
    mkdir("d", 0755);
    CHECK_ERRNO("directory", link("d", "h"), EPERM);
    symlink("f", "s");
    CHECK("link(2) does not follow", link("s", "s2") == 0 && lstat("s2", &st) == 0 && S_ISLNK(st.st_mode));
    CHECK("AT_SYMLINK_FOLLOW does", linkat(AT_FDCWD, "s", AT_FDCWD, "h", AT_SYMLINK_FOLLOW) == 0 && lstat("h", &st) == 0 &&
                                       S_ISREG(st.st_mode));
    CHECK_EQ("unlink", unlink("f"), 0);
    CHECK("other names stay", stat("g", &st) == 0 && st.st_nlink == 2);
    unlink("g"), unlink("h");
    CHECK("open file outlives its names", fstat(fd, &st) == 0 && st.st_nlink == 0 && pread(fd, text, 7, 0) == 7);
    CHECK_ERRNO("unlink missing", unlink("g"), ENOENT);
    CHECK_ERRNO("unlink with a trailing slash", unlink("s/"), ENOTDIR);
    close(fd);
}

static void symbolic(void)
{
    CHECK_EQ("readlink", readlink("s", text, sizeof text), 1);
    symlink("0123456789", "long");
    CHECK_EQ("truncated silently", readlink("long", text, 4), 4);
    CHECK_ERRNO("buffer of none", readlink("long", text, 0), EINVAL);
    CHECK_ERRNO("not a link", readlink("d", text, 4), EINVAL);
    CHECK_ERRNO("empty target", symlink("", "e"), ENOENT);
    CHECK_ERRNO("existing name", symlink("x", "long"), EEXIST);
    CHECK_ERRNO("through a dangling link", open("long/x", O_RDONLY), ENOENT);
}

static void renames(void)
{
    close(new_file("a", "A"));
    close(new_file("b", "BB"));
    CHECK_EQ("rename over a file", rename("a", "b"), 0);
    CHECK("it is the other file", stat("b", &st) == 0 && st.st_size == 1);
    CHECK_ERRNO("source is gone", stat("a", &st), ENOENT);
    CHECK_ERRNO("missing source", rename("a", "c"), ENOENT);
    link("b", "b2");
    CHECK("two names of one file: nothing happens", rename("b", "b2") == 0 && stat("b", &st) == 0);
    mkdir("d/in", 0755), mkdir("e", 0755);
    CHECK_ERRNO("directory into itself", rename("d", "d/in/x"), EINVAL);
    CHECK_ERRNO("file over a directory", rename("b", "e"), EISDIR);
    CHECK_ERRNO("directory over a file", rename("e", "b"), ENOTDIR);
    CHECK_ERRNO("over a non-empty directory", rename("e", "d"), ENOTEMPTY);
    CHECK_EQ("over an empty directory", rename("d", "e"), 0);
    CHECK("it moved whole", stat("e/in", &st) == 0 && stat("d", &st) == -1);
    mkdir("p", 0755), rename("e/in", "p/in");
    CHECK("link counts follow", stat("e", &st) == 0 && st.st_nlink == 2 && stat("p", &st) == 0 && st.st_nlink == 3);
    CHECK("..", stat("p/in/..", &other) == 0 && other.st_ino == st.st_ino);
    CHECK_ERRNO("rename .", rename("p/.", "q"), EBUSY);
    CHECK_ERRNO("RENAME_NOREPLACE", renameat2(AT_FDCWD, "b", AT_FDCWD, "b2", RENAME_NOREPLACE), EEXIST);
    close(new_file("x", "xxx"));
    CHECK_EQ("RENAME_EXCHANGE", renameat2(AT_FDCWD, "x", AT_FDCWD, "p", RENAME_EXCHANGE), 0);
    CHECK("exchanged", stat("x/in", &st) == 0 && stat("p", &st) == 0 && st.st_size == 3);
    CHECK_ERRNO("exchange with nothing", renameat2(AT_FDCWD, "x", AT_FDCWD, "zz", RENAME_EXCHANGE), ENOENT);
    CHECK_ERRNO("both flags", renameat2(AT_FDCWD, "x", AT_FDCWD, "zz", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    int fd = open("p", O_RDONLY);
    rename("p", "moved");
    snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
    char path[PATH_MAX] = {0};
    readlink(text, path, sizeof path - 1);
    CHECK("/proc/self/fd follows the rename", strstr(path, "/moved") != NULL);
    unlink("moved");
    memset(path, 0, sizeof path);
    readlink(text, path, sizeof path - 1);
    CHECK("and says deleted", strstr(path, "/moved (deleted)") != NULL);
    close(fd);
}

static void attributes(void)
{
    close(new_file("f", ""));
    CHECK_ERRNO("absent attribute", getxattr("f", "user.none", text, sizeof text), ENODATA);
    if (setxattr("f", "user.color", "blue", 4, 0) != 0 && errno == EOPNOTSUPP) {
        SKIP("attributes", "no user attributes here");
        return;
    }
    CHECK_EQ("size", getxattr("f", "user.color", NULL, 0), 4);
    CHECK("value", getxattr("f", "user.color", text, sizeof text) == 4 && memcmp(text, "blue", 4) == 0);
    CHECK_ERRNO("small buffer", getxattr("f", "user.color", text, 2), ERANGE);
    CHECK_ERRNO("XATTR_CREATE", setxattr("f", "user.color", "red", 3, XATTR_CREATE), EEXIST);
    CHECK_ERRNO("XATTR_REPLACE", setxattr("f", "user.new", "red", 3, XATTR_REPLACE), ENODATA);
    CHECK_EQ("remove", removexattr("f", "user.color"), 0);
    CHECK_ERRNO("remove again", removexattr("f", "user.color"), ENODATA);
    CHECK_ERRNO("unknown name space", setxattr("f", "nowhere.x", "1", 1, 0), EOPNOTSUPP);
}

int main(void)
{
    enter_scratch();
    hard();
    symbolic();
    renames();
    attributes();
    return finish();
}
