/* cc: -static
 * Instances of devpts: each mount has pairs of its own. */
#include "../check.h"
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

static void leader(void)
{
    setsid();
    int fd = open("a/0", O_RDWR | O_NOCTTY);
    CHECK("opened", fd >= 0 && !(fcntl(fd, F_GETFL) & O_NOCTTY));
    CHECK_ERRNO("O_NOCTTY: not the controlling terminal", open("/dev/tty", O_RDWR), ENXIO);
    close(fd), open("a/0", O_RDWR);
    CHECK("the controlling terminal", open("/dev/tty", O_RDWR) >= 0);
    ioctl(0, TIOCNOTTY);
}

static void instances(void)
{
    struct stat st;
    struct statfs info;
    unsigned number = 9;
    int unlock = 0;
    mkdir("a", 0755), mkdir("b", 0755);
    CHECK_ERRNO("no such option", mount("none", "a", "devpts", 0, "nosuch=1"), EINVAL);
    CHECK_ERRNO("no number", mount("none", "a", "devpts", 0, "mode=abc"), EINVAL);
    CHECK_EQ("mount", mount("none", "a", "devpts", 0, "newinstance,ptmxmode=0666,mode=620,gid=5,max=1"), 0);
    CHECK_EQ("another", mount("none", "b", "devpts", 0, NULL), 0);
    CHECK("its type", statfs("a", &info) == 0 && info.f_type == 0x1cd1);
    CHECK("its ptmx", stat("a/ptmx", &st) == 0 && st.st_mode == (S_IFCHR | 0666) && st.st_rdev == 0x502);
    CHECK("nobody's", stat("b/ptmx", &st) == 0 && st.st_mode == S_IFCHR);
    int master = open("a/ptmx", O_RDWR | O_NOCTTY), other = open("b/ptmx", O_RDWR | O_NOCTTY);
    CHECK("both have a first", ioctl(master, TIOCGPTN, &number) == 0 && number == 0 && ioctl(other, TIOCGPTN, &number) == 0 && number == 0);
    CHECK("with the options", stat("a/0", &st) == 0 && st.st_mode == (S_IFCHR | 0620) && st.st_gid == 5);
    CHECK("without", stat("b/0", &st) == 0 && st.st_mode == (S_IFCHR | 0600) && st.st_gid == 0);
    CHECK_ERRNO("no more", open("a/ptmx", O_RDWR | O_NOCTTY), ENOSPC);
    ioctl(master, TIOCSPTLCK, &unlock), ioctl(other, TIOCSPTLCK, &unlock);
    int slave = open("a/0", O_RDWR | O_NOCTTY), peer = ioctl(other, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    CHECK("their slaves", slave >= 0 && peer >= 0);
    char text[8] = "";
    write(slave, "one", 3), write(peer, "two", 3);
    CHECK("the one", read(master, text, 8) == 3 && memcmp(text, "one", 3) == 0);
    CHECK("the other", read(other, text, 8) == 3 && memcmp(text, "two", 3) == 0);
    char link[32], name[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", peer);
    CHECK("its name", readlink(link, name, sizeof name - 1) > 4 && strcmp(name + strlen(name) - 4, "/b/0") == 0);
    CHECK("a session", exited(in_child(leader), 0));
    close(master), close(slave), close(other), close(peer);
    CHECK("they go", access("a/0", F_OK) < 0 && access("b/0", F_OK) < 0);
    mknod("ptmx", S_IFCHR | 0666, 0x502);
    CHECK_ERRNO("nothing beside it", open("ptmx", O_RDWR | O_NOCTTY), ENOENT);
    mkdir("pts", 0755);
    CHECK_ERRNO("a plain directory beside it", open("ptmx", O_RDWR | O_NOCTTY), ENODEV);
    mount("a", "pts", NULL, MS_BIND, NULL);
    master = open("ptmx", O_RDWR | O_NOCTTY);
    CHECK("what is beside it", master >= 0 && access("a/0", F_OK) == 0);
    close(master);
    umount2("pts", 0);
    CHECK("umount", umount2("a", 0) == 0 && umount2("b", 0) == 0);
}

int main(void)
{
    enter_scratch();
    if (IS_ROOT) { /* in a place of its own, so that nothing of it reaches others */
        unshare(CLONE_NEWNS);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount("none", ".", "tmpfs", 0, NULL);
        chdir(check_scratch);
        instances();
        chdir("/");
        umount2(check_scratch, 2);
    }
    return finish();
}
