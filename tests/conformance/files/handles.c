/* cc: -static
 * name_to_handle_at(2), open_by_handle_at(2), sysfs(2), swapon(2), swapoff(2), and mknod(2) by who may. */
#include "../check.h"
#include <sys/sysmacros.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

static struct {
    struct file_handle head;
    unsigned char bytes[128];
} handle;

static void handles(void)
{
    int id = -1, expected = -1;
    mkdir("m", 0755);
    unshare(CLONE_NEWNS);
    mount("none", "/", NULL, 1 << 14 | 1 << 18, NULL);
    mount("none", "m", "tmpfs", 0, NULL);
    close(new_file("m/f", "content"));
    handle.head.handle_bytes = 0;
    CHECK_ERRNO("its size is told", name_to_handle_at(AT_FDCWD, "m/f", &handle.head, &id, 0), EOVERFLOW);
    CHECK("12 bytes", handle.head.handle_bytes == 12 && id != -1);
    CHECK_EQ("a handle", name_to_handle_at(AT_FDCWD, "m/f", &handle.head, &expected, 0), 0);
    CHECK_EQ("the same mount", id, expected);
    int at = open("m", O_RDONLY | O_DIRECTORY);
    int fd = open_by_handle_at(at, &handle.head, O_RDONLY);
    char text[10] = "";
    CHECK("opened by it", fd >= 0 && read(fd, text, 10) == 7 && memcmp(text, "content", 7) == 0);
    CHECK_ERRNO("flags", name_to_handle_at(AT_FDCWD, "m/f", &handle.head, &id, 0x4000), EINVAL);
    handle.head.handle_bytes = 200;
    CHECK_ERRNO("too large", name_to_handle_at(AT_FDCWD, "m/f", &handle.head, &id, 0), EINVAL);
    handle.head.handle_bytes = 12;
    close(fd);
    unlink("m/f");
    CHECK_ERRNO("gone", open_by_handle_at(at, &handle.head, O_RDONLY), ESTALE);
    CHECK_ERRNO("bad descriptor", open_by_handle_at(77, &handle.head, O_RDONLY), EBADF);
    CHECK_ERRNO("proc has none", name_to_handle_at(AT_FDCWD, "/proc/version", &handle.head, &id, 0), EOPNOTSUPP);
    CHECK_ERRNO("no such file", name_to_handle_at(AT_FDCWD, "nothing", &handle.head, &id, 0), ENOENT);
    close(at);
    umount2("m", 2);
}

static void unprivileged(void)
{
    if (IS_ROOT)
        setresuid(65534, 65534, 65534);
    handle.head.handle_bytes = 12, handle.head.handle_type = 1;
    CHECK_ERRNO("open_by_handle_at", open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY), EPERM);
    CHECK_ERRNO("swapon", syscall(SYS_swapon, "nothing", 0), EPERM);
    CHECK_ERRNO("swapoff", syscall(SYS_swapoff, "nothing"), EPERM);
    CHECK_ERRNO("vhangup", syscall(SYS_vhangup), EPERM);
    CHECK_ERRNO("a character device", mknod("c", S_IFCHR | 0644, makedev(1, 3)), EPERM);
    CHECK_ERRNO("a block device", mknod("b", S_IFBLK | 0644, makedev(0, 0)), EPERM);
    CHECK_EQ("a whiteout", mknod("w", S_IFCHR | 0644, makedev(0, 0)), 0);
    CHECK_EQ("a FIFO", mknod("p", S_IFIFO | 0644, 0), 0);
    CHECK_EQ("a socket", mknod("s", S_IFSOCK | 0644, 0), 0);
    CHECK_EQ("a file", mknod("r", 0644, 0), 0);
    CHECK_ERRNO("a directory", mknod("d", S_IFDIR | 0755, 0), EPERM);
    CHECK_ERRNO("a link", mknod("l", S_IFLNK | 0755, 0), EINVAL);
    CHECK_ERRNO("existing", mknod("r", S_IFCHR | 0644, makedev(1, 3)), EEXIST);
}

/* sysfs(2) */
static void types(void)
{
#ifdef SYS_sysfs
    char name[64] = "";
    CHECK("types of file systems", syscall(SYS_sysfs, 3) > 3);
    int index = syscall(SYS_sysfs, 1, "tmpfs");
    CHECK("by name and number", index >= 0 && syscall(SYS_sysfs, 2, index, name) == 0 && strcmp(name, "tmpfs") == 0);
    CHECK_ERRNO("no such type", syscall(SYS_sysfs, 1, "nosuchfs"), EINVAL);
    CHECK_ERRNO("no such number", syscall(SYS_sysfs, 2, 1000, name), EINVAL);
    CHECK_ERRNO("no such question", syscall(SYS_sysfs, 4), EINVAL);
#else
    static const char *const names[] = {"types of file systems", "by name and number", "no such type", "no such number",
                                        "no such question"};
    for (int i = 0; i < 5; i++)
        SKIP(names[i], "only x86-64 has it");
#endif
}

int main(void)
{
    enter_scratch();
    chmod(".", 0777);
    types();
    if (IS_ROOT) {
        handles();
        CHECK_ERRNO("swapon: flags", syscall(SYS_swapon, "nothing", 1 << 30), EINVAL);
        CHECK_ERRNO("swapon: no such file", syscall(SYS_swapon, "nothing", 0), ENOENT);
        CHECK_ERRNO("swapoff: not in use", syscall(SYS_swapoff, "/proc/version"), EINVAL);
        CHECK_EQ("devices are root's", mknod("null", S_IFCHR | 0644, makedev(1, 3)), 0);
    }
    CHECK("unprivileged", exited(in_child(unprivileged), 0));
    return finish();
}
