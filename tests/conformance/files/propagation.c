/* cc: -static
 * mount_namespaces(7): shared, slave, private and unbindable mounts; what is passed on, and what mountinfo says. */
#include "../check.h"
#include <linux/mount.h>
#include <sys/vfs.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define DETACH 2
#define SET_GROUP 0x100
#define BENEATH 0x200

static int type(const char *path, unsigned long kind)
{
    return mount("none", path, NULL, kind, NULL);
}

static int tmpfs(const char *path)
{
    return mount("none", path, "tmpfs", 0, NULL);
}

static int bind(const char *from, const char *to)
{
    return mount(from, to, NULL, MS_BIND, NULL);
}

static int move(const char *from, const char *to)
{
    return mount(from, to, NULL, MS_MOVE, NULL);
}

/* Whether something is mounted there. */
static bool is_mounted(const char *path)
{
    char whole[PATH_MAX], line[4096], at[PATH_MAX];
    if (!realpath(path, whole))
        return false;
    FILE *file = fopen("/proc/self/mountinfo", "r");
    bool found = false;
    while (fgets(line, sizeof line, file))
        found |= sscanf(line, "%*d %*d %*s %*s %s", at) == 1 && strcmp(at, whole) == 0;
    fclose(file);
    return found;
}

/* The number after "shared:", "master:" or another word in the optional fields of the topmost mount there; 0: none. */
static int field(const char *path, const char *word)
{
    char whole[PATH_MAX], line[4096], at[PATH_MAX];
    int number = 0;
    realpath(path, whole);
    FILE *file = fopen("/proc/self/mountinfo", "r");
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*d %*d %*s %*s %s", at) != 1 || strcmp(at, whole))
            continue;
        char *end = strstr(line, " - "), *found = strstr(line, word);
        number = found && found < end ? strcmp(word, "unbindable") == 0 ? 1 : atoi(found + strlen(word) + 1) : 0;
    }
    fclose(file);
    return number;
}

#define SHARED_(path) field(path, "shared")
#define MASTER(path) field(path, "master")

static void dirs(const char *names)
{
    char all[256], *rest = all, *name;
    snprintf(all, sizeof all, "%s", names);
    while ((name = strsep(&rest, " ")))
        mkdir(name, 0755);
}

static void types(void)
{
    dirs("a b");
    tmpfs("a");
    CHECK("private at first", !SHARED_("a") && !MASTER("a"));
    CHECK_ERRNO("not a mount", type("b", MS_SHARED), EINVAL);
    CHECK_EQ("shared", type("a", MS_SHARED), 0);
    int group = SHARED_("a");
    CHECK("has a group", group > 0);
    CHECK("again: the same group", type("a", MS_SHARED) == 0 && SHARED_("a") == group);
    CHECK("a slave of nobody is private", type("a", MS_SLAVE) == 0 && !SHARED_("a") && !MASTER("a"));
    CHECK("unbindable", type("a", MS_UNBINDABLE) == 0 && field("a", "unbindable"));
    CHECK("an unbindable slave", type("a", MS_SLAVE) == 0 && field("a", "unbindable"));
    CHECK("shared is not unbindable", type("a", MS_SHARED) == 0 && !field("a", "unbindable"));
    bind("a", "b");
    CHECK("a bind is a peer", SHARED_("a") == SHARED_("b") && SHARED_("a"));
    group = SHARED_("a");
    CHECK("slave", type("b", MS_SLAVE) == 0 && MASTER("b") == group && !SHARED_("b"));
    CHECK("slave and shared", type("b", MS_SHARED) == 0 && MASTER("b") == group && SHARED_("b") && SHARED_("b") != group);
    CHECK("slave again", type("b", MS_SLAVE) == 0 && MASTER("b") == group && !SHARED_("b"));
    dirs("c");
    bind("b", "c");
    CHECK("a bind of a slave is a slave", MASTER("c") == group && !SHARED_("c"));
    CHECK("private", type("c", MS_PRIVATE) == 0 && !MASTER("c"));
    umount2("c", 0);
    CHECK("a master that goes", umount2("a", 0) == 0 && !MASTER("b"));
    umount2("b", 0);
}

/* s and t are peers, u is their slave, v is private: all show the same directories. */
static void family(void)
{
    dirs("s t u v");
    tmpfs("s");
    dirs("s/x s/y");
    type("s", MS_SHARED);
    bind("s", "t"), bind("s", "u"), bind("s", "v");
    type("u", MS_SLAVE), type("v", MS_PRIVATE);
}

static void no_family(void)
{
    umount2("v", DETACH), umount2("u", DETACH), umount2("t", DETACH), umount2("s", DETACH);
}

static void passed_on(void)
{
    family();
    CHECK_EQ("mount", tmpfs("s/x"), 0);
    CHECK("a peer has it", is_mounted("t/x"));
    CHECK("a slave has it", is_mounted("u/x"));
    CHECK("a private one has not", !is_mounted("v/x"));
    close(new_file("t/x/f", ""));
    CHECK("the same file system", access("s/x/f", F_OK) == 0 && access("u/x/f", F_OK) == 0);
    CHECK("it is shared", SHARED_("s/x") && SHARED_("s/x") == SHARED_("t/x"));
    CHECK("or a slave", MASTER("u/x") == SHARED_("s/x") && !SHARED_("u/x"));
    CHECK_EQ("in the slave", tmpfs("u/y"), 0);
    CHECK("stays there", !is_mounted("s/y") && !is_mounted("t/y"));
    CHECK_EQ("unmount at a peer", umount2("t/x", 0), 0);
    CHECK("goes everywhere", !is_mounted("s/x") && !is_mounted("u/x"));
    CHECK("the slave's own stays", is_mounted("u/y"));
    CHECK_EQ("beneath the slave's own", tmpfs("s/y"), 0);
    CHECK("two there", is_mounted("u/y") && umount2("u/y", 0) == 0 && is_mounted("u/y"));
    CHECK("which go together", umount2("s/y", 0) == 0 && !is_mounted("u/y") && !is_mounted("t/y"));
    tmpfs("s/x");
    int fd = open("t/x", O_RDONLY);
    CHECK_ERRNO("in use at a peer", umount2("s/x", 0), EBUSY);
    close(fd);
    tmpfs("u/x");
    CHECK("covered at the slave", umount2("s/x", 0) == 0 && !is_mounted("s/x") && is_mounted("u/x"));
    umount2("u/x", 0);
    CHECK("the cover is all there was", !is_mounted("u/x"));
    tmpfs("s/x"), dirs("u/x/z"), tmpfs("u/x/z");
    CHECK("kept where something is mounted on it", umount2("s/x", 0) == 0 && !is_mounted("t/x") && is_mounted("u/x"));
    umount2("u/x", DETACH);
    no_family();
}

static void binds(void)
{
    family();
    dirs("p q");
    tmpfs("p");
    CHECK_EQ("a private mount onto a shared one", bind("p", "s/x"), 0);
    CHECK("becomes shared", SHARED_("s/x") && SHARED_("s/x") == SHARED_("t/x") && !SHARED_("p"));
    CHECK("passed to the slave", MASTER("u/x") == SHARED_("s/x"));
    umount2("s/x", 0);
    type("p", MS_SHARED);
    bind("p", "s/x");
    CHECK("a shared one keeps its peers", SHARED_("s/x") == SHARED_("p") && SHARED_("t/x") == SHARED_("p"));
    umount2("s/x", 0);
    bind("p", "q"), type("q", MS_SLAVE);
    bind("q", "s/x");
    CHECK("a slave becomes both", MASTER("s/x") == SHARED_("p") && SHARED_("s/x") && SHARED_("s/x") != SHARED_("p"));
    CHECK("the slave's slave", MASTER("u/x") == SHARED_("s/x"));
    umount2("s/x", 0);
    type("q", MS_UNBINDABLE);
    CHECK_ERRNO("an unbindable one", bind("q", "s/x"), EINVAL);
    CHECK_ERRNO("moved onto a shared one", move("q", "s/x"), EINVAL);
    CHECK_EQ("onto a private one", move("q", "v/x"), 0);
    umount2("v/x", 0);
    CHECK_EQ("a mount into itself", bind("s", "s/y"), 0);
    CHECK("once", is_mounted("s/y") && is_mounted("t/y") && !is_mounted("s/y/y"));
    umount2("s/y", 0);
    umount2("p", 0);
    no_family();
}

static void moved(void)
{
    family();
    dirs("p q r");
    tmpfs("p");
    CHECK_EQ("onto a shared one", move("p", "s/x"), 0);
    CHECK("is passed on", is_mounted("t/x") && is_mounted("u/x") && !is_mounted("p") && SHARED_("s/x"));
    CHECK_ERRNO("from a shared one", move("s/x", "q"), EINVAL);
    CHECK_EQ("from a slave", move("u/x", "q"), 0);
    CHECK("still a slave", MASTER("q") == SHARED_("s/x"));
    umount2("q", 0), umount2("s/x", 0);
    tmpfs("p"), dirs("p/1"), tmpfs("p/1");
    CHECK_EQ("a tree", mount("p", "s/x", NULL, MS_BIND | MS_REC, NULL), 0);
    CHECK("all of it", is_mounted("t/x/1") && is_mounted("u/x/1") && SHARED_("t/x/1"));
    CHECK_EQ("a part goes", umount2("t/x/1", 0), 0);
    CHECK("everywhere", !is_mounted("s/x/1") && !is_mounted("u/x/1") && is_mounted("p/1"));
    CHECK_EQ("recursively private", type("s", MS_PRIVATE | MS_REC), 0);
    CHECK("nothing is passed on", umount2("s/x", 0) == 0 && is_mounted("t/x"));
    umount2("p", DETACH);
    no_family();
}

static void chains(void)
{
    family();
    dirs("w w2");
    type("u", MS_SHARED);
    bind("u", "w"), bind("u", "w2"), type("w", MS_SLAVE);
    tmpfs("s/x");
    CHECK("through a slave that is shared", is_mounted("w/x") && is_mounted("w2/x"));
    CHECK("its type", MASTER("u/x") == SHARED_("s/x") && SHARED_("u/x") == SHARED_("w2/x") && MASTER("w/x") == SHARED_("u/x"));
    chroot("w");
    chdir("/");
    mkdir("proc", 0755);
    mount("none", "/proc", "proc", 0, NULL);
    CHECK("who is seen from there", MASTER("/x") > 0 && field("/x", "propagate_from") == 0);
}

static void apart(void)
{
    CHECK("in a root of its own", exited(in_child(chains), 0));
    umount2("w", DETACH), umount2("w2", DETACH);
    no_family();
}

static int move_mount_(const char *from, const char *to, unsigned flags)
{
    return syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void by_call(void)
{
    dirs("a b c d");
    tmpfs("a"), tmpfs("b");
    CHECK_ERRNO("set group: not a mount", move_mount_("a", "c", SET_GROUP), EINVAL);
    CHECK_ERRNO("another file system", move_mount_("a", "b", SET_GROUP), EINVAL);
    bind("a", "c");
    CHECK_ERRNO("both private", move_mount_("a", "c", SET_GROUP), EINVAL);
    type("a", MS_SHARED);
    CHECK_EQ("set group", move_mount_("a", "c", SET_GROUP), 0);
    CHECK("peers now", SHARED_("a") && SHARED_("a") == SHARED_("c"));
    CHECK_ERRNO("not private", move_mount_("a", "c", SET_GROUP), EINVAL);
    struct mount_attr attr = {.propagation = MS_SLAVE};
    CHECK_EQ("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "c", 0, &attr, sizeof attr), 0);
    CHECK("a slave", MASTER("c") == SHARED_("a"));
    umount2("c", 0), umount2("a", 0);
    dirs("b/m b/n");
    tmpfs("b/m"), tmpfs("b/n");
    close(new_file("b/m/over", "")), close(new_file("b/n/under", ""));
    CHECK_ERRNO("beneath what is no mount", move_mount_("b/n", "d", BENEATH), EINVAL);
    CHECK_EQ("beneath", move_mount_("b/n", "b/m", BENEATH), 0);
    CHECK("still covered", access("b/m/over", F_OK) == 0 && !is_mounted("b/n"));
    umount2("b/m", 0);
    CHECK("then seen", access("b/m/under", F_OK) == 0);
    CHECK_ERRNO("both at once", move_mount_("b/m", "b", SET_GROUP | BENEATH), EINVAL);
    umount2("b", DETACH);
}

int main(void)
{
    enter_scratch();
    if (IS_ROOT) { /* in a place of its own, so that nothing of it reaches others */
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        types();
        passed_on();
        binds();
        moved();
        by_call();
        apart();
    }
    return finish();
}
