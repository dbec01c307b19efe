/* cc: -pthread
 * unshare(2) of what needs no namespace, setns(2)'s refusals, and reboot(2)'s.
 */
#include "../check.h"
#include <linux/reboot.h>
#include <pthread.h>
#include <sys/sem.h>

static char stack[65536] __attribute__((aligned(16)));
static int semid;

static int unshares(void *arg)
{
    (void)arg;
    if (unshare(CLONE_FILES | CLONE_FS) != 0)
        return 1;
    close(0);
    umask(0777);
    return chdir("/proc") != 0;
}

static int shares(void *arg)
{
    (void)arg;
    close(0);
    umask(0700);
    return chdir("/proc") != 0;
}

static int run(int (*body)(void *), int flags)
{
    int status;
    pid_t pid = clone(body, stack + sizeof stack, flags | SIGCHLD, NULL);
    waitpid(pid, &status, __WALL);
    return status;
}

static bool at_root(void)
{
    char path[PATH_MAX];
    return getcwd(path, sizeof path) && strcmp(path, "/") == 0;
}

static int gives_back(void *arg)
{
    (void)arg;
    struct sembuf up = {0, 1, SEM_UNDO};
    if (semop(semid, &up, 1) != 0 || unshare(CLONE_SYSVSEM) != 0)
        return 1;
    return semctl(semid, 0, GETVAL) != 0;
}

static void *with_threads(void *arg)
{
    (void)arg;
    CHECK_ERRNO("CLONE_THREAD with threads", unshare(CLONE_THREAD), EINVAL);
    CHECK_ERRNO("CLONE_SIGHAND with threads", unshare(CLONE_SIGHAND), EINVAL);
    CHECK_ERRNO("CLONE_VM with threads", unshare(CLONE_VM), EINVAL);
    CHECK_EQ("CLONE_FILES in a thread", unshare(CLONE_FILES), 0);
    close(0);
    return NULL;
}

int main(void)
{
    chdir("/");
    umask(022);
    CHECK_EQ("nothing", unshare(0), 0);
    CHECK_EQ("alone", unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM), 0);
    CHECK_ERRNO("unknown flag", unshare(CLONE_PARENT), EINVAL);
    CHECK("child unshares", exited(run(unshares, CLONE_FILES | CLONE_FS), 0));
    CHECK("descriptor is still ours", fcntl(0, F_GETFD) >= 0);
    CHECK("directory too", at_root());
    CHECK_EQ("mask too", umask(022), 022);
    pthread_t thread;
    pthread_create(&thread, NULL, with_threads, NULL);
    pthread_join(thread, NULL);
    CHECK("a thread's descriptors", fcntl(0, F_GETFD) >= 0);
    CHECK("child shares", exited(run(shares, CLONE_FILES | CLONE_FS), 0));
    CHECK_ERRNO("descriptor is gone", fcntl(0, F_GETFD), EBADF);
    CHECK("directory changed", !at_root());
    CHECK_EQ("mask changed", umask(022), 0700);
    semid = semget(IPC_PRIVATE, 1, 0600);
    CHECK("CLONE_SYSVSEM undoes", exited(run(gives_back, 0), 0));
    semctl(semid, 0, IPC_RMID);
    CHECK_ERRNO("setns: no file", setns(99, 0), EBADF);
    CHECK_ERRNO("setns: not a namespace", setns(1, 0), EINVAL);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK_ERRNO("setns: which", setns(self, 0), EINVAL);
    CHECK_ERRNO("setns: no such kind", setns(self, 1), EINVAL);
    if (!IS_ROOT) {
        CHECK_ERRNO("setns: not permitted", setns(self, CLONE_NEWUTS), EPERM);
        CHECK_ERRNO("reboot: not permitted", syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0), EPERM);
        CHECK_ERRNO("reboot: before the magic", syscall(SYS_reboot, 1, 2, 3, 0), EPERM);
    }
    return finish();
}
