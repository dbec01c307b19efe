/* cc: -static
 * mount(2) of type overlay: what is seen, what is copied up, and what the upper directory holds afterwards. */
#include "../check.h"
#include <linux/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define LAYERS "lowerdir=l1:l2,upperdir=u,workdir=w"

static const char *content(const char *path)
{
    static char text[64];
    memset(text, 0, sizeof text);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return "(none)";
    read(fd, text, sizeof text - 1);
    close(fd);
    return text;
}

static bool is(const char *path, const char *want)
{
    return strcmp(content(path), want) == 0;
}

static int entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}

static bool is_whiteout(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

static void put(const char *path, const char *text)
{
    close(new_file(path, text));
}

static void layers(void)
{
    const char *dirs[] = {"l1", "l2", "u", "w", "m", "l1/d", "l2/d", "l1/only", "l2/deep", "l2/deep/er", "l1/hidden"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        mkdir(dirs[i], 0755);
    put("l1/f", "upper of two"), put("l2/f", "lower of two"), put("l2/g", "g"), put("l2/d/in", "in"), put("l1/d/too", "too");
    put("l2/deep/er/x", "deep"), put("l2/gone", "gone"), put("l2/hidden", "a file"), put("l2/k", "k");
    mknod("l1/gone", S_IFCHR, 0);
    int fd = open("l2/deep/er/sparse", O_CREAT | O_RDWR, 0644);
    pwrite(fd, "x", 1, 1 << 20), ftruncate(fd, 8 << 20), close(fd);
    symlink("g", "l2/s"), chmod("l2/k", 0640), setxattr("l2/k", "trusted.mine", "1", 1, 0);
}

static void refused(void)
{
    CHECK_ERRNO("no lowerdir", mount("none", "m", "overlay", 0, "upperdir=u,workdir=w"), EINVAL);
    CHECK_ERRNO("no workdir", mount("none", "m", "overlay", 0, "lowerdir=l1,upperdir=u"), EINVAL);
    CHECK_ERRNO("one lowerdir", mount("none", "m", "overlay", 0, "lowerdir=l1"), EINVAL);
    CHECK_ERRNO("none there", mount("none", "m", "overlay", 0, "lowerdir=l9,upperdir=u,workdir=w"), ENOENT);
    CHECK_ERRNO("a bad option", mount("none", "m", "overlay", 0, LAYERS ",nosuch=1"), EINVAL);
    CHECK_ERRNO("the same twice", mount("none", "m", "overlay", 0, "lowerdir=l1,upperdir=u,workdir=u"), EINVAL);
}

static void seen(void)
{
    struct statfs info;
    struct stat st;
    CHECK("its type", statfs("m", &info) == 0 && info.f_type == 0x794c7630);
    CHECK_EQ("entries", entries("m"), 8);
    CHECK("of the first that has it", is("m/f", "upper of two") && is("m/g", "g"));
    CHECK("merged", is("m/d/in", "in") && is("m/d/too", "too") && entries("m/d") == 2);
    CHECK("whiteout", is("m/gone", "(none)"));
    CHECK("a directory over a file", stat("m/hidden", &st) == 0 && S_ISDIR(st.st_mode));
    CHECK("a link", is("m/s", "g"));
    CHECK("nothing is copied to look", entries("u") == 0);
}

static void changed(void)
{
    struct stat st;
    int fd = open("m/g", O_WRONLY | O_APPEND);
    CHECK("write", fd >= 0 && write(fd, "++", 2) == 2 && fstat(fd, &st) == 0 && st.st_size == 3);
    close(fd);
    CHECK("copied up", is("m/g", "g++") && is("u/g", "g++") && is("l2/g", "g"));
    fd = open("m/k", O_RDONLY);
    CHECK_EQ("chmod", chmod("m/k", 0600), 0);
    close(fd);
    char value[8] = "";
    CHECK("with its attributes", stat("u/k", &st) == 0 && st.st_mode == (S_IFREG | 0600) && is("u/k", "k")
          && getxattr("u/k", "trusted.mine", value, 8) == 1 && value[0] == '1');
    fd = open("m/deep/er/sparse", O_RDWR);
    CHECK("holes stay holes", fd >= 0 && stat("u/deep/er/sparse", &st) == 0 && st.st_size == 8 << 20 && st.st_blocks <= 2048
          && lseek(fd, 0, SEEK_DATA) == 1 << 20);
    close(fd);
    put("m/deep/er/new", "new");
    CHECK("directories above too", is("u/deep/er/new", "new") && is("m/deep/er/x", "deep"));
    CHECK_EQ("truncate", truncate("m/deep/er/x", 2), 0);
    CHECK("the copy only", is("m/deep/er/x", "de") && is("l2/deep/er/x", "deep"));
    put("m/fresh", "fresh");
    CHECK("made above", is("u/fresh", "fresh"));
    CHECK_EQ("link", link("m/fresh", "m/fresh2"), 0);
    CHECK("two names", stat("m/fresh2", &st) == 0 && st.st_nlink == 2);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd = open("m/fresh", O_RDWR), 0);
    map[0] = 'F';
    CHECK("mapped", is("m/fresh2", "Fresh") && is("u/fresh", "Fresh"));
    munmap(map, 4096), close(fd);
}

static void removed(void)
{
    char value[8] = "";
    CHECK_EQ("unlink what is below", unlink("m/f"), 0);
    CHECK("a whiteout", is("m/f", "(none)") && is_whiteout("u/f") && is("l1/f", "upper of two"));
    int fd = open("m/g", O_RDONLY);
    CHECK_EQ("unlink what is above", unlink("m/g"), 0);
    CHECK("a whiteout as well", is_whiteout("u/g") && is("m/g", "(none)"));
    CHECK("still open", pread(fd, value, 3, 0) == 3 && memcmp(value, "g++", 3) == 0);
    close(fd);
    CHECK_EQ("unlink the upper's own", unlink("m/fresh"), 0);
    CHECK("no whiteout", access("u/fresh", F_OK) < 0 && is("m/fresh2", "Fresh"));
    put("m/f", "again");
    CHECK("made again", is("m/f", "again") && is("u/f", "again"));
    CHECK_ERRNO("not empty", rmdir("m/d"), ENOTEMPTY);
    unlink("m/d/in"), unlink("m/d/too");
    CHECK_EQ("rmdir", rmdir("m/d"), 0);
    CHECK("a whiteout for it", is_whiteout("u/d") && access("m/d", F_OK) < 0);
    CHECK_EQ("mkdir again", mkdir("m/d", 0755), 0);
    CHECK("it hides what is below", entries("m/d") == 0 && getxattr("u/d", "trusted.overlay.opaque", value, 8) == 1 && value[0] == 'y');
    CHECK_ERRNO("which is not shown", getxattr("m/d", "trusted.overlay.opaque", value, 8), ENODATA);
    CHECK_EQ("entries", entries("m"), 8);
}

static void renamed(void)
{
    put("m/a", "a");
    CHECK_EQ("the upper's own", rename("m/a", "m/b"), 0);
    CHECK("it moves", is("u/b", "a") && access("u/a", F_OK) < 0);
    CHECK_EQ("what is below", rename("m/s", "m/s2"), 0);
    CHECK("leaves a whiteout", is_whiteout("u/s") && access("m/s", F_OK) < 0);
    CHECK_EQ("over what is below", rename("m/b", "m/only/b"), 0);
    CHECK_ERRNO("a directory of several layers", rename("m/deep", "m/d2"), EXDEV);
    mkdir("m/e", 0755), put("m/e/x", "x");
    CHECK_EQ("a directory of its own", rename("m/e", "m/e2"), 0);
    CHECK("with what is in it", is("m/e2/x", "x") && is("u/e2/x", "x"));
    CHECK_EQ("onto an empty one", rename("m/e2", "m/d"), 0);
    CHECK("it is opaque", is("m/d/x", "x") && entries("m/d") == 1);
    put("m/p", "p"), put("m/q", "q");
    CHECK_EQ("exchange", syscall(SYS_renameat2, AT_FDCWD, "m/p", AT_FDCWD, "m/q", 2), 0);
    CHECK("changed places", is("m/p", "q") && is("u/q", "p"));
}

static void again(void)
{
    CHECK_EQ("umount", umount2("m", 0), 0);
    CHECK_EQ("a second time", mount("none", "m", "overlay", 0, LAYERS), 0);
    CHECK("all is there", is("m/f", "again") && is("m/g", "(none)") && is("m/d/x", "x") && is("m/deep/er/x", "de") && is("m/only/b", "a"));
    umount2("m", 0);
    CHECK_EQ("only to read", mount("none", "m", "overlay", 0, "lowerdir=u:l1:l2"), 0);
    CHECK("shows the same", is("m/f", "again") && is("m/g", "(none)") && is("m/deep/er/new", "new"));
    CHECK_ERRNO("cannot be written", open("m/f", O_WRONLY), EROFS);
    CHECK_ERRNO("nor added to", mkdir("m/x", 0755), EROFS);
    umount2("m", 0);
}

int main(void)
{
    enter_scratch();
    if (IS_ROOT) { /* in a place of its own, so that nothing of it reaches others */
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount("none", ".", "tmpfs", 0, NULL);
        chdir(check_scratch);
        layers();
        refused();
        CHECK_EQ("mount", mount("none", "m", "overlay", 0, LAYERS), 0);
        seen();
        changed();
        removed();
        renamed();
        again();
        chdir("/");
        umount2(check_scratch, 2);
    }
    return finish();
}
