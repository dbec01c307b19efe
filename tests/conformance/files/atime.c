/* cc: -static
 * Access times: what reading does to files, directories and links under relatime, noatime, O_NOATIME and strictatime. */
#include "../check.h"
#include <linux/mount.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define STRICTATIME (1 << 24)

static struct stat st;

/* Access and modification times in seconds. */
static void set(const char *path, long atime, long mtime)
{
    struct timespec both[2] = {{.tv_sec = atime}, {.tv_sec = mtime}};
    utimensat(AT_FDCWD, path, both, AT_SYMLINK_NOFOLLOW);
}

static bool moved(const char *path, long from)
{
    return lstat(path, &st) == 0 && st.st_atim.tv_sec != from;
}

static void look(const char *path, int flags)
{
    char byte;
    int fd = open(path, O_RDONLY | flags);
    read(fd, &byte, 1);
    close(fd);
}

static void list(const char *path)
{
    DIR *dir = opendir(path);
    while (readdir(dir))
        ;
    closedir(dir);
}

static void kinds(void)
{
    long now = time(NULL);
    close(new_file("f", "content"));
    set("f", 1000, 2000);
    look("f", O_NOATIME);
    CHECK("O_NOATIME", !moved("f", 1000));
    look("f", 0);
    CHECK("an access time before the last change", moved("f", 1000));
    set("f", now - 100, 2000);
    look("f", 0);
    char text[16];
    mkdir("d", 0755);
    close(new_file("d/x", ""));
    set("d", 1000, 2000);
    list("d");
    CHECK("a directory", moved("d", 1000));
    symlink("f", "l");
    set("l", 1000, 2000);
    readlink("l", text, sizeof text);
    CHECK("a link", moved("l", 1000));
    set("f", 1000, 2000);
    close(open("f", O_RDONLY));
    CHECK("not by opening", !moved("f", 1000));
    set("f", now + 5000, now + 1000);
    look("f", 0);
    CHECK("nor when it is newer than all else", !moved("f", now + 5000));
}

static void mounted(unsigned long flags, const char *name, bool always, bool never)
{
    mkdir("m", 0755);
    mount("none", "m", "tmpfs", flags, NULL);
    close(new_file("m/f", "content"));
    mkdir("m/d", 0755);
    long now = time(NULL);
    set("m/f", 1000, 2000), set("m/d", 1000, 2000);
    look("m/f", 0), list("m/d");
    CHECK(name, moved("m/f", 1000) == !never && moved("m/d", 1000) == (!never && !(flags & MS_NODIRATIME)));
    set("m/f", now + 5000, now + 1000);
    look("m/f", 0);
    CHECK_EQ("again", moved("m/f", now + 5000), always);
    umount2("m", 2);
}

int main(void)
{
    enter_scratch();
    kinds();
    if (IS_ROOT) {
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mounted(0, "relatime", false, false);
        mounted(MS_NOATIME, "noatime", false, true);
        mounted(MS_NODIRATIME, "nodiratime", false, false);
        mounted(STRICTATIME, "strictatime", true, false);
    }
    return finish();
}
