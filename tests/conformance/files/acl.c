/* cc: -static
 * acl(5): access control lists as extended attributes; whom they let in, chmod(2), and what new files inherit. */
#include "../check.h"
#include <grp.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
#define NONE 0xffffffffu

struct entry {
    uint16_t tag, perm;
    uint32_t id;
};
struct list {
    uint32_t version;
    struct entry entries[8];
};

static int set(const char *path, const char *name, const struct list *list, int count)
{
    return setxattr(path, name, list, 4 + 8 * count, 0);
}

static int mode_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int)(st.st_mode & 07777) : -1;
}

static int perm_of(const char *path, const char *name, int number)
{
    struct list list;
    ssize_t size = getxattr(path, name, &list, sizeof list);
    return size >= 4 + 8 * (number + 1) ? list.entries[number].perm : -1;
}

static const struct list plain = {2, {{USER_OBJ, 6, NONE}, {GROUP_OBJ, 4, NONE}, {OTHER, 0, NONE}}};
static const struct list named = {2, {{USER_OBJ, 7, NONE}, {USER, 6, 1001}, {GROUP_OBJ, 5, NONE}, {GROUP, 4, 2002}, {MASK, 6, NONE}, {OTHER, 1, NONE}}};

static void lists(void)
{
    struct list list;
    char names[256];
    CHECK_ERRNO("none at first", getxattr("f", ACCESS, &list, sizeof list), ENODATA);
    CHECK_EQ("what a mode can say", set("f", ACCESS, &plain, 3), 0);
    CHECK_EQ("becomes the mode", mode_of("f"), 0640);
    CHECK_ERRNO("and is no list", getxattr("f", ACCESS, &list, sizeof list), ENODATA);
    CHECK_EQ("a list", set("f", ACCESS, &named, 6), 0);
    CHECK_EQ("its mode: the mask for the group", mode_of("f"), 0761);
    CHECK_EQ("its size", getxattr("f", ACCESS, NULL, 0), 52);
    CHECK("itself", getxattr("f", ACCESS, &list, sizeof list) == 52 && memcmp(&list, &named, 52) == 0);
    CHECK("its name", listxattr("f", names, sizeof names) >= (ssize_t)sizeof ACCESS && strcmp(names, ACCESS) == 0);
    CHECK_EQ("chmod", chmod("f", 0654), 0);
    CHECK("changes the mask", perm_of("f", ACCESS, 0) == 6 && perm_of("f", ACCESS, 1) == 6 && perm_of("f", ACCESS, 2) == 5
          && perm_of("f", ACCESS, 4) == 5 && perm_of("f", ACCESS, 5) == 4);
    CHECK_EQ("remove", removexattr("f", ACCESS), 0);
    CHECK_ERRNO("removed", getxattr("f", ACCESS, &list, sizeof list), ENODATA);
    CHECK_EQ("the mode stays", mode_of("f"), 0654);
    CHECK_EQ("an empty one", set("f", ACCESS, &named, 0), 0);
}

static void bad(void)
{
    struct list list = named;
    CHECK_ERRNO("a part of an entry", setxattr("f", ACCESS, &named, 50, 0), EINVAL);
    list.version = 3;
    CHECK_ERRNO("another version", set("f", ACCESS, &list, 6), EOPNOTSUPP);
    list = named, list.entries[4].tag = OTHER;
    CHECK_ERRNO("no mask", set("f", ACCESS, &list, 5), EINVAL);
    list = named, list.entries[0].perm = 8;
    CHECK_ERRNO("no such permission", set("f", ACCESS, &list, 6), EINVAL);
    list = named, list.entries[1] = named.entries[2], list.entries[2] = named.entries[1];
    CHECK_ERRNO("out of order", set("f", ACCESS, &list, 6), EINVAL);
    CHECK_ERRNO("cut off", set("f", ACCESS, &named, 5), EINVAL);
    CHECK_ERRNO("a default of a file", set("f", DEFAULT, &named, 6), EACCES);
    CHECK_ERRNO("of a link", lsetxattr("s", ACCESS, &named, 52, 0), EOPNOTSUPP);
    CHECK_ERRNO("another name", setxattr("f", "system.nosuch", "x", 1, 0), EOPNOTSUPP);
}

static void inherited(void)
{
    CHECK_EQ("a default list", set("d", DEFAULT, &named, 6), 0);
    CHECK_EQ("changes no mode", mode_of("d"), 0755);
    umask(077);
    close(open("d/f", O_CREAT | O_WRONLY, 0666));
    CHECK_EQ("a file: no umask", mode_of("d/f"), 0660);
    CHECK("its list", perm_of("d/f", ACCESS, 0) == 6 && perm_of("d/f", ACCESS, 1) == 6 && perm_of("d/f", ACCESS, 4) == 6 && perm_of("d/f", ACCESS, 5) == 0);
    mkdir("d/sub", 0700);
    CHECK_EQ("a directory", mode_of("d/sub"), 0700);
    CHECK("both lists", perm_of("d/sub", ACCESS, 4) == 0 && perm_of("d/sub", DEFAULT, 4) == 6);
    mknod("d/p", S_IFIFO | 0666, 0);
    CHECK_EQ("a FIFO", mode_of("d/p"), 0660);
    CHECK_EQ("no default", removexattr("d", DEFAULT), 0);
    close(open("d/g", O_CREAT | O_WRONLY, 0666));
    CHECK_EQ("then the umask", mode_of("d/g"), 0600);
    umask(022);
    struct list simple = plain;
    set("d", DEFAULT, &simple, 3);
    close(open("d/h", O_CREAT | O_WRONLY, 0666));
    CHECK("a default that a mode can say", mode_of("d/h") == 0640 && perm_of("d/h", ACCESS, 0) == -1 && perm_of("d", DEFAULT, 2) == 0);
}

static uid_t as_uid;
static gid_t as_group;
static const char *path;
static int mask, want;

static void become(void)
{
    setgroups(1, &as_group);
    setresgid(3000, 3000, 3000), setresuid(as_uid, as_uid, as_uid);
    int got = access(path, mask) ? errno : 0;
    _exit(got == want ? 0 : got ? got : 200);
}

static bool may(uid_t uid, gid_t group, const char *name, int bits, int error)
{
    as_uid = uid, as_group = group, path = name, mask = bits, want = error;
    return exited(in_child(become), 0);
}

static void enforced(void)
{
    chown("f", 1000, 2000), chmod(".", 0755);
    set("f", ACCESS, &named, 6); /* rwx, 1001 rw-, 2000 r-x, 2002 r--, mask rw-, others --x */
    CHECK("the owner", may(1000, 1, "f", R_OK | W_OK | X_OK, 0));
    CHECK("a user by name", may(1001, 1, "f", R_OK | W_OK, 0) && may(1001, 1, "f", X_OK, EACCES));
    CHECK("the group, masked", may(1002, 2000, "f", R_OK, 0) && may(1002, 2000, "f", W_OK, EACCES) && may(1002, 2000, "f", X_OK, EACCES));
    CHECK("a group by name", may(1002, 2002, "f", R_OK, 0) && may(1002, 2002, "f", X_OK, EACCES));
    CHECK("others", may(1002, 1, "f", X_OK, 0) && may(1002, 1, "f", R_OK, EACCES));
    chmod("f", 0701);
    CHECK("an empty mask", may(1001, 1, "f", R_OK, EACCES));
    struct list shut = {2, {{USER_OBJ, 7, NONE}, {USER, 0, 1001}, {GROUP_OBJ, 5, NONE}, {MASK, 5, NONE}, {OTHER, 5, NONE}}};
    close(new_file("d/in", ""));
    set("d", ACCESS, &shut, 5);
    CHECK("a directory that one may not search", may(1001, 1, "d/in", F_OK, EACCES) && may(1002, 1, "d/in", F_OK, 0));
    as_uid = 1002, as_group = 1;
    if (fork() == 0) {
        setresuid(1002, 1002, 1002);
        CHECK_ERRNO("only the owner changes it", set("f", ACCESS, &plain, 3), EPERM);
        CHECK_ERRNO("or removes it", removexattr("f", ACCESS), EPERM);
        _exit(0);
    }
    wait(NULL);
}

int main(void)
{
    enter_scratch();
    close(new_file("f", "")), mkdir("d", 0755), symlink("f", "s");
    if (set("f", ACCESS, &plain, 3) != 0 && errno == EOPNOTSUPP) {
        say("skip all: the file system has no access control lists\n");
        return 0;
    }
    chmod("f", 0644);
    lists();
    bad();
    inherited();
    if (IS_ROOT)
        enforced();
    return finish();
}
