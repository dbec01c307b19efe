/* cc: -static
 * /proc/PID/ns and ioctl_ns(2), for a process that never left its namespaces. */
#include "../check.h"
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

static const struct {
    const char *name;
    int flag;
} kinds[] = {
    {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC}, {"mnt", CLONE_NEWNS}, {"net", CLONE_NEWNET}, {"pid", CLONE_NEWPID},
    {"user", CLONE_NEWUSER}, {"uts", CLONE_NEWUTS}, {"pid_for_children", CLONE_NEWPID},
};

int main(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64], text[64] = "", expected[64];
        struct stat st, again;
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
        readlink(path, text, sizeof text - 1);
        stat(path, &st);
        int length = strcspn(kinds[i].name, "_");
        snprintf(expected, sizeof expected, "%.*s:[%lu]", length, kinds[i].name, (unsigned long)st.st_ino);
        CHECK(kinds[i].name, strcmp(text, expected) == 0 && S_ISREG(st.st_mode));
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK_EQ("its kind", ioctl(fd, NS_GET_NSTYPE), kinds[i].flag);
        CHECK("the same file", fstat(fd, &again) == 0 && again.st_ino == st.st_ino && again.st_dev == st.st_dev);
        struct statfs fs;
        CHECK("on nsfs", fstatfs(fd, &fs) == 0 && fs.f_type == 0x6e736673);
        CHECK_ERRNO("not readable", read(fd, text, 1), EINVAL);
        CHECK_ERRNO("not a terminal", ioctl(fd, 0x5401, text), ENOTTY);
        close(fd);
    }
    int fd = open("/proc/self/ns/uts", O_RDONLY);
    CHECK_ERRNO("no parents of this kind", ioctl(fd, NS_GET_PARENT), EINVAL);
    CHECK_ERRNO("no owner's id of this kind", ioctl(fd, NS_GET_OWNER_UID, &fd), EINVAL);
    CHECK_ERRNO("nothing else in there", open("/proc/self/ns/other", O_RDONLY), ENOENT);
    char mine[64] = "", child[64] = "";
    pid_t pid = fork();
    if (pid == 0)
        pause();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
    CHECK("a child shares them", readlink("/proc/self/ns/mnt", mine, 63) > 0 && readlink(path, child, 63) > 0 && strcmp(mine, child) == 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return finish();
}
