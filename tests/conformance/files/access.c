/* cc: -static
 * Permission checks: access(2), faccessat2(2), path search, sticky and set-group-ID directories, umask(2). */
#include "../check.h"
#include <sys/fsuid.h>

static struct stat st;

static void drop(void)
{
    if (IS_ROOT && (setgid(12345) || setuid(12345)))
        _exit(97);
}

static void as_owner(void)
{
    CHECK("access: everything of a 0700 file", access("mine", R_OK | W_OK | X_OK) == 0);
    CHECK_ERRNO("missing", access("none", F_OK), ENOENT);
    CHECK_ERRNO("bad mode", access("mine", 8), EINVAL);
    CHECK_EQ("faccessat2", syscall(SYS_faccessat2, AT_FDCWD, "mine", R_OK, AT_EACCESS), 0);
    CHECK_ERRNO("faccessat2 bad flag", syscall(SYS_faccessat2, AT_FDCWD, "mine", R_OK, 1 << 28), EINVAL);
    symlink("none", "dangling");
    CHECK_ERRNO("follows links", access("dangling", F_OK), ENOENT);
    CHECK_EQ("AT_SYMLINK_NOFOLLOW", faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW), 0);
}

static void without_privilege(void)
{
    drop();
    CHECK_ERRNO("search needs x", open("closed/f", O_RDONLY), EACCES);
    CHECK_ERRNO("so does stat", stat("closed/f", &st), EACCES);
    CHECK_ERRNO("list needs r", open("closed", O_RDONLY), EACCES);
    CHECK_ERRNO("read of 0200", open("writeonly", O_RDONLY), EACCES);
    CHECK("write of 0200", open("writeonly", O_WRONLY) >= 0);
    CHECK_ERRNO("write of 0444", open("readonly", O_RDWR), EACCES);
    CHECK_ERRNO("O_TRUNC needs w", open("readonly", O_RDONLY | O_TRUNC), EACCES);
    CHECK_ERRNO("execute needs x", access("readonly", X_OK), EACCES);
    CHECK_ERRNO("create in a 0555 directory", open("locked/new", O_CREAT | O_WRONLY, 0644), EACCES);
    CHECK_ERRNO("unlink in it", unlink("locked/f"), EACCES);
    CHECK_ERRNO("mkdir in it", mkdir("locked/d", 0755), EACCES);
    CHECK_ERRNO("rename out of it", rename("locked/f", "f2"), EACCES);
    CHECK_ERRNO("chown to another user", chown("readonly", 0, -1), EPERM);
    CHECK_ERRNO("truncate of 0444", truncate("readonly", 0), EACCES);
    CHECK_ERRNO("chdir needs x", chdir("closed"), EACCES);
    CHECK_ERRNO("utimes of another's file", utimensat(AT_FDCWD, "/etc/passwd", NULL, 0), EACCES);
    CHECK_ERRNO("chmod of another's file", chmod("/etc/passwd", 0666), EPERM);
    CHECK_ERRNO("mknod of a device", mknod("dev", S_IFCHR | 0600, 0x103), EPERM);
    CHECK_ERRNO("chroot", chroot("."), EPERM);
}

static void prepare(void)
{
    close(new_file("mine", ""));
    chmod("mine", 0700);
    close(new_file("writeonly", ""));
    close(new_file("readonly", "r"));
    mkdir("closed", 0755);
    close(new_file("closed/f", ""));
    mkdir("locked", 0755);
    close(new_file("locked/f", ""));
    if (IS_ROOT) {
        const char *names[] = {".", "mine", "writeonly", "readonly", "closed", "closed/f", "locked", "locked/f"};
        for (int i = 0; i < 8; i++)
            chown(names[i], 12345, 12345);
    }
    chmod("writeonly", 0200);
    chmod("readonly", 0444);
    chmod("closed", 0);
    chmod("locked", 0555);
}

static void masks(void)
{
    CHECK_EQ("umask returns the old one", umask(027), 022);
    CHECK("file", close(open("u1", O_CREAT | O_WRONLY, 0777)) == 0 && stat("u1", &st) == 0 && (st.st_mode & 07777) == 0750);
    CHECK("directory", mkdir("u2", 0777) == 0 && stat("u2", &st) == 0 && (st.st_mode & 07777) == 0750);
    CHECK_EQ("upper bits are ignored", umask(07777777), 027);
    CHECK_EQ("only 0777 counts", umask(022), 0777);
}

static void as_root(void)
{
    CHECK("root reads anything", open("writeonly", O_RDONLY) >= 0);
    CHECK("root searches anything", open("closed/f", O_RDONLY) >= 0);
    CHECK_ERRNO("root executes only with some x", access("readonly", X_OK), EACCES);
    mkdir("sg", 0755);
    CHECK("set-group-ID directory", chown("sg", 0, 777) == 0 && chmod("sg", 02755) == 0);
    close(new_file("sg/f", ""));
    CHECK("file inherits the group", stat("sg/f", &st) == 0 && st.st_gid == 777);
    mkdir("sg/d", 0755);
    CHECK("directory inherits the bit", stat("sg/d", &st) == 0 && st.st_gid == 777 && (st.st_mode & S_ISGID));
    close(new_file("suid", ""));
    chmod("suid", 06755);
    chown("suid", 12345, 12345);
    CHECK("chown clears set-user-ID", stat("suid", &st) == 0 && (st.st_mode & 07777) == 0755);
    CHECK_EQ("setfsuid returns the old one", setfsuid(12345), 0);
    close(new_file("fs", ""));
    setfsuid(0);
    CHECK("new files belong to fsuid", stat("fs", &st) == 0 && st.st_uid == 12345);
}

static void sticky(void)
{
    setgid(2222), setuid(2222);
    CHECK_ERRNO("unlink another's file in a sticky directory", unlink("st/f"), EPERM);
    CHECK_ERRNO("rename it", rename("st/f", "st/g"), EPERM);
    CHECK("make one's own", close(open("st/own", O_CREAT | O_WRONLY, 0644)) == 0);
    CHECK_EQ("unlink one's own", unlink("st/own"), 0);
}

int main(void)
{
    enter_scratch();
    prepare();
    CHECK("owner", exited(in_child(as_owner), 0));
    CHECK("no privilege", exited(in_child(without_privilege), 0));
    masks();
    if (IS_ROOT) {
        as_root();
        chmod(".", 0755), mkdir("st", 0755), close(new_file("st/f", "")), chmod("st", 01777);
        CHECK("sticky", exited(in_child(sticky), 0));
    } else {
        SKIP("root's checks", "not root");
    }
    chmod("closed", 0755), chmod("locked", 0755);
    return finish();
}
