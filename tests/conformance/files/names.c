/* cc: -static
 * renameat2(2), linkat(2), unlinkat(2), rmdir(2): flags, dots, sticky directories, and the order of errors. */
#include "../check.h"

#define NOREPLACE 1u
#define EXCHANGE 2u
#define WHITEOUT 4u

static int rename2(const char *old, const char *new, unsigned flags)
{
    return syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, flags);
}

static char first(const char *path)
{
    char text[2] = "-";
    int fd = open(path, O_RDONLY);
    read(fd, text, 1);
    close(fd);
    return text[0];
}

static void renames(void)
{
    close(new_file("a", "a")), close(new_file("b", "b"));
    mkdir("d", 0755), mkdir("d/e", 0755), mkdir("empty", 0755);
    CHECK_ERRNO("no replacing", rename2("a", "b", NOREPLACE), EEXIST);
    CHECK("exchange", rename2("a", "b", EXCHANGE) == 0 && first("a") == 'b' && first("b") == 'a');
    CHECK_EQ("a file and a directory", rename2("a", "d", EXCHANGE), 0);
    struct stat st;
    CHECK("changed places", stat("a", &st) == 0 && S_ISDIR(st.st_mode) && first("d") == 'b');
    rename2("a", "d", EXCHANGE);
    CHECK_ERRNO("exchange with nothing", rename2("a", "none", EXCHANGE), ENOENT);
    CHECK_ERRNO("exchange and no replace", rename2("a", "b", EXCHANGE | NOREPLACE), EINVAL);
    CHECK_ERRNO("exchange with what it is in", rename2("d", "d/e", EXCHANGE), EINVAL);
    CHECK_ERRNO("unknown flags", rename2("a", "b", 64), EINVAL);
    CHECK_ERRNO("a directory into itself", rename("d", "d/e/f"), EINVAL);
    CHECK_ERRNO("over what it is in", rename("d/e", "d"), ENOTEMPTY);
    CHECK_ERRNO("a file over a directory", rename("a", "empty"), EISDIR);
    CHECK_ERRNO("a directory over a file", rename("empty", "a"), ENOTDIR);
    CHECK_ERRNO("over a full directory", rename("empty", "d"), ENOTEMPTY);
    CHECK_EQ("over an empty one", rename("d", "empty"), 0);
    CHECK_EQ("to itself", rename("a", "a"), 0);
    link("a", "c");
    CHECK("two names of one file", rename("a", "c") == 0 && access("a", F_OK) == 0);
    CHECK_ERRNO("a dot", rename("empty/.", "x"), EBUSY);
    CHECK_ERRNO("two dots", rename("empty/..", "x"), EBUSY);
    CHECK_ERRNO("onto a dot", rename("empty/e", "."), EBUSY);
    CHECK_ERRNO("nothing", rename("none", "x"), ENOENT);
    CHECK_ERRNO("a file with a slash", rename("a/", "x"), ENOTDIR);
    CHECK_ERRNO("to a name with a slash", rename("a", "x/"), ENOTDIR);
    CHECK_EQ("a directory to one", rename("empty", "dir/"), 0);
    CHECK_ERRNO("elsewhere", rename("a", "/proc/x"), EXDEV);
}

static void links(void)
{
    CHECK_ERRNO("a directory", link("dir", "x"), EPERM);
    CHECK_ERRNO("existing", link("a", "b"), EEXIST);
    CHECK_ERRNO("nothing", link("none", "x"), ENOENT);
    CHECK_ERRNO("elsewhere", link("/proc/version", "x"), EXDEV);
    CHECK_ERRNO("flags", linkat(AT_FDCWD, "a", AT_FDCWD, "x", 0x8000), EINVAL);
    symlink("a", "s");
    struct stat st;
    CHECK("a link to a link", link("s", "s2") == 0 && lstat("s2", &st) == 0 && S_ISLNK(st.st_mode));
    CHECK("or to what it leads to", linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW) == 0 && lstat("s3", &st) == 0 && S_ISREG(st.st_mode));
    CHECK_ERRNO("a long target", symlink("", "x"), ENOENT);
    CHECK_ERRNO("unlink a directory", unlink("dir"), EISDIR);
    CHECK_ERRNO("unlink with a slash", unlink("a/"), ENOTDIR);
    CHECK_ERRNO("unlink a dot", unlink("."), EISDIR);
    CHECK_ERRNO("rmdir a dot", rmdir("."), EINVAL);
    CHECK_ERRNO("rmdir two dots", rmdir("dir/.."), ENOTEMPTY);
    CHECK_ERRNO("rmdir a file", rmdir("a"), ENOTDIR);
    CHECK_ERRNO("rmdir a full one", rmdir("dir"), ENOTEMPTY);
    CHECK_ERRNO("rmdir the root", rmdir("/"), EBUSY);
    CHECK_ERRNO("unlinkat flags", unlinkat(AT_FDCWD, "a", 0x8000), EINVAL);
    CHECK_EQ("AT_REMOVEDIR", unlinkat(AT_FDCWD, "dir/e", AT_REMOVEDIR), 0);
    CHECK_ERRNO("mkdir existing", mkdir("a", 0755), EEXIST);
    CHECK_ERRNO("mkdir a dangling link", symlink("nowhere", "dl") == 0 ? mkdir("dl", 0755) : 0, EEXIST);
    CHECK_ERRNO("below a file", mkdir("a/x", 0755), ENOTDIR);
    CHECK_EQ("mkdir with a slash", mkdir("slash/", 0755), 0);
}

static void as_nobody(void)
{
    if (IS_ROOT)
        setresgid(65534, 65534, 65534), setresuid(65534, 65534, 65534);
    CHECK_ERRNO("sticky: unlink", unlink("sticky/root"), EPERM);
    CHECK_ERRNO("sticky: rename away", rename("sticky/root", "sticky/other"), EPERM);
    close(open("sticky/mine", O_CREAT | O_RDWR, 0600));
    CHECK_ERRNO("sticky: rename over", rename("sticky/mine", "sticky/root"), EPERM);
    CHECK_EQ("one's own", unlink("sticky/mine"), 0);
    CHECK_ERRNO("no permission", unlink("closed/f"), EACCES);
    CHECK_ERRNO("nor to make", open("closed/g", O_CREAT | O_RDWR, 0600), EACCES);
    CHECK_ERRNO("nor to search", access("hidden/f", F_OK), EACCES);
    CHECK_EQ("existence comes first", open("closed/f", O_CREAT | O_EXCL | O_RDWR, 0600) == -1 && errno == EEXIST, 1);
    CHECK_ERRNO("chmod of another's", chmod("closed/f", 0777), EPERM);
    CHECK_ERRNO("chown", chown("sticky/root", 65534, -1), EPERM);
    CHECK_ERRNO("utimensat of another's", utimensat(AT_FDCWD, "closed/f", (struct timespec[2]){{1, 1}, {1, 1}}, 0), EPERM);
    CHECK_ERRNO("touch without write permission", utimensat(AT_FDCWD, "closed/f", NULL, 0), EACCES);
    CHECK_EQ("touch with it", utimensat(AT_FDCWD, "open", NULL, 0), 0);
    CHECK_ERRNO("whiteout", rename2("sticky/none", "sticky/x", WHITEOUT), ENOENT);
    CHECK_ERRNO("chroot", chroot("."), EPERM);
    CHECK_ERRNO("O_NOATIME of another's", open("open", O_RDONLY | O_NOATIME), EPERM);
}

static void rights(void)
{
    chmod(".", 0755);
    mkdir("sticky", 0777), chmod("sticky", 01777), mkdir("closed", 0755), mkdir("hidden", 0700);
    close(new_file("sticky/root", "")), close(new_file("closed/f", "")), close(new_file("hidden/f", "")), close(new_file("open", ""));
    chmod("open", 0666);
    CHECK("as nobody", exited(in_child(as_nobody), 0));
}

int main(void)
{
    enter_scratch();
    renames();
    links();
    if (IS_ROOT)
        rights();
    return finish();
}
