/* cc: -static
 * mount(2), umount2(2), open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), fspick(2), mount_setattr(2). */
#include "../check.h"
#include <linux/mount.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define DETACH 2
#define EXPIRE 4

static int fsopen_(const char *type, unsigned flags)
{
    return syscall(SYS_fsopen, type, flags);
}

static int config(int fd, unsigned command, const char *key, const void *value, int aux)
{
    return syscall(SYS_fsconfig, fd, command, key, value, aux);
}

static int tree(int dirfd, const char *path, unsigned flags)
{
    return syscall(SYS_open_tree, dirfd, path, flags);
}

static int move(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
    return syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}

static int setattr(const char *path, unsigned flags, struct mount_attr *attr, size_t size)
{
    return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, attr, size);
}

static void watched(void)
{
    int fd = open("/proc/self/mounts", O_RDONLY);
    struct pollfd one = {fd, POLLERR | POLLPRI, 0};
    CHECK_EQ("poll: no change", poll(&one, 1, 0), 0);
    mkdir("w", 0755);
    mount("none", "w", "tmpfs", 0, NULL);
    CHECK("a mount", poll(&one, 1, 0) == 1 && one.revents == (POLLERR | POLLPRI));
    CHECK_EQ("told once", poll(&one, 1, 0), 0);
    umount2("w", 0);
    CHECK_EQ("an umount", poll(&one, 1, 0), 1);
    close(fd);
}

static void classic(void)
{
    mkdir("a", 0755), mkdir("b", 0755);
    CHECK_ERRNO("no such type", mount("none", "a", "nosuchfs", 0, NULL), ENODEV);
    CHECK_ERRNO("no type", mount("none", "a", NULL, 0, NULL), EINVAL);
    CHECK_ERRNO("no such option", mount("none", "a", "tmpfs", 0, "nosuchoption=1"), EINVAL);
    CHECK_ERRNO("no such option of proc", mount("none", "a", "proc", 0, "size=1m"), EINVAL);
    CHECK_EQ("tmpfs", mount("none", "a", "tmpfs", MS_NOEXEC, "size=64k,mode=700"), 0);
    struct stat st;
    struct statvfs vst;
    CHECK("its mode", stat("a", &st) == 0 && (st.st_mode & 07777) == 0700);
    CHECK("its size and flags", statvfs("a", &vst) == 0 && vst.f_blocks * vst.f_frsize == 65536 && (vst.f_flag & ST_NOEXEC));
    close(new_file("a/f", "in a"));
    CHECK_EQ("remount with a size", mount("none", "a", NULL, MS_REMOUNT | MS_NOSUID, "size=1m"), 0);
    CHECK("the new size and flags", statvfs("a", &vst) == 0 && vst.f_blocks * vst.f_frsize == 1 << 20 && !(vst.f_flag & ST_NOEXEC)
          && (vst.f_flag & ST_NOSUID));
    CHECK_ERRNO("remount with less than is used", mount("none", "a", NULL, MS_REMOUNT, "nr_inodes=1"), EINVAL);
    int fd = open("a/f", O_RDWR);
    CHECK_ERRNO("read-only while it is written", mount("none", "a", NULL, MS_REMOUNT | MS_RDONLY, NULL), EBUSY);
    CHECK_ERRNO("in use", umount2("a", 0), EBUSY);
    close(fd);
    CHECK_EQ("read-only", mount("none", "a", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    CHECK_ERRNO("no writes", open("a/f", O_RDWR), EROFS);
    CHECK_EQ("writable again", mount("none", "a", NULL, MS_REMOUNT, NULL), 0);
    fd = open("a/f", O_RDWR);
    struct stat small;
    CHECK_EQ("fallocate", posix_fallocate(fd, 0, 600 << 10), 0);
    CHECK("takes blocks", fstat(fd, &small) == 0 && small.st_blocks == 1200 && small.st_size == 600 << 10);
    CHECK_EQ("which count once", posix_fallocate(fd, 0, 800 << 10), 0);
    CHECK_EQ("but no more than there are", posix_fallocate(fd, 0, 2 << 20), ENOSPC);
    ftruncate(fd, 0), close(fd);
    CHECK_EQ("bind", mount("a", "b", NULL, MS_BIND, NULL), 0);
    CHECK("shows the same", access("b/f", F_OK) == 0);
    CHECK_EQ("one mount read-only", mount("none", "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
    CHECK("the other is not", open("b/f", O_RDWR) < 0 && errno == EROFS && close(open("a/f", O_RDWR)) == 0);
    CHECK_EQ("private", mount("none", "b", NULL, MS_PRIVATE, NULL), 0);
    CHECK_EQ("unbindable", mount("none", "b", NULL, MS_UNBINDABLE, NULL), 0);
    mkdir("c", 0755);
    CHECK_ERRNO("an unbindable mount", mount("b", "c", NULL, MS_BIND, NULL), EINVAL);
    CHECK_ERRNO("two types at once", mount("none", "b", NULL, MS_PRIVATE | MS_SLAVE, NULL), EINVAL);
    mkdir("a/sub", 0755);
    CHECK_ERRNO("a directory onto a file", mount("a", "a/f", NULL, MS_MOVE, NULL), EINVAL);
    CHECK_ERRNO("onto itself", mount("a", "a", NULL, MS_MOVE, NULL), ELOOP);
    CHECK_ERRNO("into itself", mount("a", "a/sub", NULL, MS_MOVE, NULL), ELOOP);
    CHECK_EQ("move", mount("b", "c", NULL, MS_MOVE, NULL), 0);
    CHECK("moved", access("c/f", F_OK) == 0 && access("b/f", F_OK) < 0);
    CHECK_ERRNO("not a mount point", umount2("b", 0), EINVAL);
    CHECK_ERRNO("bad flags", umount2("c", 64), EINVAL);
    CHECK_ERRNO("expire: marked", umount2("c", EXPIRE), EAGAIN);
    access("c/f", F_OK);
    CHECK_ERRNO("used since", umount2("c", EXPIRE), EAGAIN);
    CHECK_EQ("not used since", umount2("c", EXPIRE), 0);
    CHECK_EQ("lazy", umount2("a", DETACH), 0);
    CHECK("gone", access("a/f", F_OK) < 0);
}

/* Who stands in a directory that a mount covers mounts over that, not beneath it. */
static void covered(void)
{
    mkdir("g", 0755), mkdir("h", 0755);
    chdir("g");
    for (char name[] = "1"; *name < '4'; ++*name) {
        if (*name < '3')
            CHECK_EQ("mount on `.`", mount("none", ".", "tmpfs", 0, NULL), 0);
        else {
            mount("none", "../h", "tmpfs", 0, NULL);
            CHECK_EQ("move onto `.`", mount("../h", ".", NULL, MS_MOVE, NULL), 0);
        }
        char inside[] = "../g/1";
        inside[5] = *name;
        CHECK("it is on top", access("../g/1", F_OK) < 0 && access("../g/2", F_OK) < 0);
        close(open(inside, O_CREAT | O_WRONLY, 0600));
    }
    CHECK_EQ("bind onto `.`", mount("../h", ".", NULL, MS_BIND, NULL), 0);
    CHECK("it is on top", access("../g/3", F_OK) < 0);
    CHECK("below it is what came before", umount2("../g", 0) == 0 && access("../g/3", F_OK) == 0);
    CHECK("and before that", umount2("../g", 0) == 0 && access("../g/2", F_OK) == 0);
    CHECK("and first", umount2("../g", 0) == 0 && access("../g/1", F_OK) == 0);
    CHECK("then none is left", umount2("../g", 0) == 0 && umount2("../g", 0) < 0 && errno == EINVAL);
    chdir("..");
}

/* Each further name of a file counts as an inode of a tmpfs; the one that an O_TMPFILE file gets first does not. */
static void counted_names(void)
{
    mount("none", "a", "tmpfs", 0, "nr_inodes=3");
    int fd = open("a", O_TMPFILE | O_WRONLY, 0600);
    CHECK_EQ("a first name", linkat(fd, "", AT_FDCWD, "a/1", AT_EMPTY_PATH), 0);
    CHECK_EQ("a second", link("a/1", "a/2"), 0);
    CHECK_ERRNO("a third", link("a/1", "a/3"), ENOSPC);
    CHECK_ERRNO("another file", open("a", O_TMPFILE | O_WRONLY, 0600), ENOSPC);
    unlink("a/1");
    int other = open("a", O_TMPFILE | O_WRONLY, 0600);
    CHECK("once a name is gone", other >= 0);
    CHECK_ERRNO("and no more", open("a/x", O_CREAT | O_WRONLY, 0600), ENOSPC);
    close(other), unlink("a/2"), close(fd);
    struct statvfs vst;
    CHECK("all come back", statvfs("a", &vst) == 0 && vst.f_ffree == 2);
    umount2("a", 0);
}

static void plain(void)
{
    struct statvfs vst;
    struct stat st;
    char target[8];
    CHECK_ERRNO("no mode", mount("none", "a", "ramfs", 0, "mode=9"), EINVAL);
    CHECK_EQ("ramfs, with options that it does not know", mount("none", "a", "ramfs", MS_NOSYMFOLLOW, "mode=700,size=1k"), 0);
    CHECK("has no limits", statvfs("a", &vst) == 0 && vst.f_blocks == 0 && vst.f_files == 0 && stat("a", &st) == 0 && (st.st_mode & 07777) == 0700);
    CHECK_EQ("nosymfollow shows", vst.f_flag & 0x2000, 0x2000);
    int fd = new_file("a/f", "");
    CHECK_EQ("takes what comes", pwrite(fd, "x", 1, 100 << 10), 1);
    CHECK_ERRNO("promises nothing", fallocate(fd, 0, 0, PAGE), EOPNOTSUPP);
    CHECK_ERRNO("no attributes", fsetxattr(fd, "user.x", "1", 1, 0), EOPNOTSUPP);
    CHECK_ERRNO("none to read", fgetxattr(fd, "user.x", target, sizeof target), EOPNOTSUPP);
    symlink("f", "a/link");
    CHECK_ERRNO("a link is not followed", open("a/link", O_RDONLY), ELOOP);
    CHECK_EQ("but read", readlink("a/link", target, sizeof target), 1);
    close(fd), umount2("a", 0);
}

static bool listed(const char *path, const char *name)
{
    bool found = false;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        found |= strcmp(entry->d_name, name) == 0;
    if (dir)
        closedir(dir);
    return found;
}

static char other[16]; /* a process, by its number */

/* What belongs to that process, in a procfs mounted at `where`. */
static const char *in(const char *where, const char *what)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s%s", where, other, what);
    return path;
}

static void stranger_to_proc(void)
{
    struct stat st;
    setresgid(65534, 65534, 65534), setresuid(65534, 65534, 65534);
    CHECK("noaccess: the directory shows", listed("a", other) && stat(in("a", ""), &st) == 0);
    CHECK_ERRNO("what is in it does not", open(in("a", "/status"), O_RDONLY), EPERM);
    CHECK_ERRNO("it cannot be opened", open(in("a", ""), O_RDONLY), EPERM);
    CHECK("invisible: nothing shows", !listed("b", other));
    CHECK_ERRNO("no such directory", access(in("b", ""), F_OK), ENOENT);
    CHECK("oneself does", access("b/self/status", R_OK) == 0 && access("a/self/status", R_OK) == 0);
}

static void member_of_proc(void)
{
    setresgid(4242, 4242, 4242), setresuid(65534, 65534, 65534);
    CHECK("a member sees all", listed("b", other) && access(in("b", "/status"), R_OK) == 0);
}

static void processes(void)
{
    chmod(".", 0755);
    sprintf(other, "%d", getpid());
    CHECK_ERRNO("a level that is none", mount("none", "a", "proc", 0, "hidepid=3"), EINVAL);
    CHECK_ERRNO("a subset that is none", mount("none", "a", "proc", 0, "subset=net"), EINVAL);
    CHECK_EQ("hidepid by number", mount("none", "a", "proc", 0, "hidepid=1"), 0);
    CHECK_EQ("by name, with a group", mount("none", "b", "proc", 0, "hidepid=invisible,gid=4242"), 0);
    CHECK("strangers", exited(in_child(stranger_to_proc), 0));
    CHECK("a group", exited(in_child(member_of_proc), 0));
    CHECK("the privileged see all", listed("b", other) && access(in("a", "/status"), R_OK) == 0);
    mkdir("c", 0755);
    CHECK_EQ("only processes", mount("none", "c", "proc", 0, "subset=pid"), 0);
    CHECK("they are there", listed("c", other) && listed("c", "self") && listed("c", "thread-self"));
    CHECK("and nothing else", !listed("c", "meminfo") && !listed("c", "net") && access("c/meminfo", F_OK) < 0 && access("c/sys", F_OK) < 0);
    umount2("a", 0), umount2("b", 0), umount2("c", 0);
}

/* What fallocate(2) promises counts at once, beyond the end of the file too. */
static void allocated(void)
{
    struct statvfs vst;
    struct stat st;
    mount("none", "a", "tmpfs", 0, "size=64m");
    int fd = new_file("a/f", "");
    statvfs("a", &vst);
    long before = vst.f_bfree;
    CHECK_EQ("40 MiB", fallocate(fd, 0, 0, 40 << 20), 0);
    CHECK("are taken", statvfs("a", &vst) == 0 && before - (long)vst.f_bfree == 10240 && fstat(fd, &st) == 0 && st.st_blocks == 81920);
    CHECK_EQ("8 MiB beyond the end", fallocate(fd, FALLOC_FL_KEEP_SIZE, 40 << 20, 8 << 20), 0);
    CHECK("are taken", statvfs("a", &vst) == 0 && before - (long)vst.f_bfree == 12288 && fstat(fd, &st) == 0 && st.st_size == 40 << 20);
    CHECK_ERRNO("more than there is", fallocate(fd, 0, 0, 80 << 20), ENOSPC);
    CHECK("takes nothing", statvfs("a", &vst) == 0 && before - (long)vst.f_bfree == 12288);
    CHECK_EQ("what was promised is there", pwrite(fd, "x", 1, (48 << 20) - 1), 1);
    CHECK_EQ("shorter", ftruncate(fd, PAGE), 0);
    CHECK("gives it back", statvfs("a", &vst) == 0 && before - (long)vst.f_bfree == 1);
    close(fd), umount2("a", 0);
}

static void configured(void)
{
    CHECK_ERRNO("fsopen: no such type", fsopen_("nosuchfs", 0), ENODEV);
    CHECK_ERRNO("fsopen: bad flags", fsopen_("tmpfs", 2), EINVAL);
    int fs = fsopen_("tmpfs", FSOPEN_CLOEXEC);
    CHECK("fsopen", fs >= 0 && fcntl(fs, F_GETFD) == FD_CLOEXEC);
    char text[256];
    CHECK_ERRNO("no messages", read(fs, text, sizeof text), ENODATA);
    CHECK_ERRNO("unknown command", config(fs, 99, NULL, NULL, 0), EOPNOTSUPP);
    CHECK_ERRNO("string without a value", config(fs, FSCONFIG_SET_STRING, "size", NULL, 0), EINVAL);
    CHECK_ERRNO("command with a key", config(fs, FSCONFIG_CMD_CREATE, "size", NULL, 0), EINVAL);
    CHECK_ERRNO("not such a descriptor", config(1, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO("unknown parameter", config(fs, FSCONFIG_SET_STRING, "nosuch", "1", 0), EINVAL);
    CHECK("says why", read(fs, text, sizeof text) > 2 && text[0] == 'e' && text[1] == ' ');
    CHECK_ERRNO("no mount before it is created", syscall(SYS_fsmount, fs, 0, 0), EINVAL);
    CHECK_EQ("size", config(fs, FSCONFIG_SET_STRING, "size", "128k", 0), 0);
    CHECK_EQ("source", config(fs, FSCONFIG_SET_STRING, "source", "mine", 0), 0);
    CHECK_ERRNO("a second source", config(fs, FSCONFIG_SET_STRING, "source", "other", 0), EINVAL);
    CHECK_EQ("create", config(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), 0);
    CHECK_ERRNO("create twice", config(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBUSY);
    CHECK_ERRNO("too late", config(fs, FSCONFIG_SET_STRING, "size", "1m", 0), EBUSY);
    CHECK_ERRNO("bad attributes", syscall(SYS_fsmount, fs, 0, 0x8000000), EINVAL);
    int m = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID);
    CHECK("fsmount", m >= 0);
    CHECK_ERRNO("only once", syscall(SYS_fsmount, fs, 0, 0), EBUSY);
    int fd = openat(m, "f", O_CREAT | O_RDWR, 0644);
    CHECK("files in a detached mount", fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    mkdir("d", 0755);
    CHECK_ERRNO("move_mount: bad flags", move(m, "", AT_FDCWD, "d", 0x8000), EINVAL);
    CHECK_ERRNO("move_mount: a file", move(m, "", AT_FDCWD, "file", MOVE_MOUNT_F_EMPTY_PATH), ENOENT);
    CHECK_EQ("move_mount", move(m, "", AT_FDCWD, "d", MOVE_MOUNT_F_EMPTY_PATH), 0);
    struct statvfs vst;
    CHECK("attached", access("d/f", F_OK) == 0 && statvfs("d", &vst) == 0 && vst.f_blocks * vst.f_frsize == 131072 && (vst.f_flag & ST_NOSUID));
    close(m), close(fs);
    CHECK("stays when its descriptor goes", access("d/f", F_OK) == 0);
    int pick = syscall(SYS_fspick, AT_FDCWD, "d", FSPICK_CLOEXEC);
    CHECK("fspick", pick >= 0);
    CHECK_EQ("a new size", config(pick, FSCONFIG_SET_STRING, "size", "256k", 0), 0);
    CHECK_ERRNO("nothing to create", config(pick, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBUSY);
    CHECK_EQ("reconfigure", config(pick, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0), 0);
    CHECK("changed", statvfs("d", &vst) == 0 && vst.f_blocks * vst.f_frsize == 262144);
    close(pick);
    CHECK_ERRNO("fspick: not a mount", syscall(SYS_fspick, AT_FDCWD, "a", 0), EINVAL);
}

static void trees(void)
{
    mkdir("e", 0755);
    CHECK_ERRNO("recursive without clone", tree(AT_FDCWD, "d", AT_RECURSIVE), EINVAL);
    int plain = tree(AT_FDCWD, "d", OPEN_TREE_CLOEXEC);
    CHECK("open_tree", plain >= 0 && (fcntl(plain, F_GETFL) & O_PATH));
    close(plain);
    int copy = tree(AT_FDCWD, "d", OPEN_TREE_CLONE);
    CHECK("a copy", copy >= 0 && faccessat(copy, "f", F_OK, 0) == 0);
    close(copy);
    copy = tree(AT_FDCWD, "d", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    CHECK_EQ("attach it", move(copy, "", AT_FDCWD, "e", MOVE_MOUNT_F_EMPTY_PATH), 0);
    close(copy);
    CHECK("it shows the same", access("e/f", F_OK) == 0);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    CHECK_ERRNO("mount_setattr: too small", setattr("e", 0, &attr, 16), EINVAL);
    CHECK_ERRNO("too large", setattr("e", 0, &attr, 8192), E2BIG);
    CHECK_ERRNO("not a mount", setattr("a", 0, &attr, sizeof attr), EINVAL);
    CHECK_EQ("read-only", setattr("e", 0, &attr, sizeof attr), 0);
    CHECK_ERRNO("no writes", open("e/f", O_RDWR), EROFS);
    attr = (struct mount_attr){.attr_clr = MOUNT_ATTR_RDONLY, .attr_set = MOUNT_ATTR_NOEXEC};
    CHECK_EQ("clear and set", setattr("e", 0, &attr, sizeof attr), 0);
    CHECK("writes", close(open("e/f", O_RDWR)) == 0);
    attr = (struct mount_attr){.attr_set = MOUNT_ATTR_NOATIME};
    CHECK_ERRNO("atime must be cleared first", setattr("e", 0, &attr, sizeof attr), EINVAL);
    attr.attr_clr = MOUNT_ATTR__ATIME;
    CHECK_EQ("noatime", setattr("e", 0, &attr, sizeof attr), 0);
    struct statvfs vst;
    CHECK("all of it shows", statvfs("e", &vst) == 0 && (vst.f_flag & ST_NOATIME) && (vst.f_flag & ST_NOEXEC) && !(vst.f_flag & ST_RDONLY));
    attr = (struct mount_attr){.propagation = MS_PRIVATE | MS_SLAVE};
    CHECK_ERRNO("two propagations", setattr("e", 0, &attr, sizeof attr), EINVAL);
    CHECK_EQ("move an attached one", move(AT_FDCWD, "e", AT_FDCWD, "a", 0), 0);
    CHECK("moved", access("a/f", F_OK) == 0);
    CHECK_ERRNO("not a mount", move(AT_FDCWD, "e", AT_FDCWD, "a", 0), EINVAL);
    umount2("a", DETACH), umount2("d", DETACH);
}

static void unprivileged(void)
{
    setresuid(65534, 65534, 65534);
    CHECK_ERRNO("mount", mount("none", ".", "tmpfs", 0, NULL), EPERM);
    CHECK_ERRNO("umount", umount2(".", 0), EPERM);
    CHECK_ERRNO("fsopen", fsopen_("tmpfs", 0), EPERM);
    CHECK_ERRNO("open_tree", tree(AT_FDCWD, ".", OPEN_TREE_CLONE), EPERM);
    CHECK_ERRNO("move_mount", move(AT_FDCWD, ".", AT_FDCWD, ".", 0), EPERM);
    CHECK_ERRNO("fspick", syscall(SYS_fspick, AT_FDCWD, ".", 0), EPERM);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    CHECK_ERRNO("mount_setattr", setattr(".", 0, &attr, sizeof attr), EPERM);
}

int main(void)
{
    enter_scratch();
    if (IS_ROOT) { /* in a place of its own, so that nothing of it reaches others */
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        watched();
        classic();
        covered();
        counted_names();
        plain();
        processes();
        allocated();
        configured();
        trees();
        chmod(".", 0755);
        CHECK("unprivileged", exited(in_child(unprivileged), 0));
    }
    return finish();
}
