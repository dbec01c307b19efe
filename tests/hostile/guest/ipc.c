/* cc: -static
 * Programs that make the kernel hold what it can for them; argv[1] names what. Each ends with status 42 if it was refused. */
#include "../../conformance/check.h"
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>

static char buffer[1 << 16];

static int messages(void)
{
    *(long *)buffer = 1;
    for (int i = 0; i < 40000; i++) {
        int queue = msgget(IPC_PRIVATE, 0600);
        if (queue < 0)
            return errno == ENOSPC ? 42 : 1;
        while (msgsnd(queue, buffer, 8192, IPC_NOWAIT) == 0)
            ;
        if (errno != EAGAIN)
            return errno == ENOMEM ? 42 : 2;
    }
    return 3;
}

static int semaphores(void)
{
    for (int i = 0; i < 40000; i++) {
        int set = semget(IPC_PRIVATE, 32000, 0600);
        if (set < 0)
            return errno == ENOSPC ? 42 : 1;
        for (int at = 0; at < 32000; at += 500) {
            struct sembuf all[500];
            for (int j = 0; j < 500; j++)
                all[j] = (struct sembuf){(unsigned short)(at + j), 1, SEM_UNDO};
            if (semop(set, all, 500) != 0)
                return errno == ENOMEM ? 42 : 2;
        }
    }
    return 3;
}

static int queues(void)
{
    for (int i = 0; i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, "/hostile-%d", i);
        mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, NULL);
        if (queue < 0)
            return errno == EMFILE || errno == ENOSPC ? 42 : 1;
        while (mq_send(queue, buffer, 8192, 0) == 0)
            ;
        if (errno != EAGAIN)
            return errno == ENOMEM ? 42 : 2;
        mq_close(queue);
    }
    return 3;
}

static int segments(void)
{
    for (int i = 0; i < 40000; i++) {
        int id = shmget(IPC_PRIVATE, 1ul << 40, 0600 | SHM_NORESERVE);
        if (id < 0)
            return errno == ENOSPC || errno == EINVAL || errno == ENOMEM ? 42 : 1;
    }
    return 3;
}

static int filters(void)
{
    static struct sock_filter code[4096];
    for (size_t i = 0; i < 4096; i++)
        code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 4096, .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int ends[2];
    pipe(ends);
    setpgid(0, 0);
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            int made = 0;
            while (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
                made++;
            write(ends[1], made ? "y" : "n", 1);
            pause();
        }
        char answer;
        if (pid < 0 || (read(ends[0], &answer, 1) == 1 && answer == 'n')) {
            signal(SIGTERM, SIG_IGN);
            kill(0, SIGTERM);
            return 42;
        }
    }
    return 3;
}

static int slow_filter(void)
{
    static struct sock_filter code[4096];
    for (size_t i = 0; i < 4094; i++)
        code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16);
    code[4094] = code[4095] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 4096, .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    while (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        ;
    for (int i = 0; i < 50; i++)
        getppid();
    return 42;
}

static int rings(void)
{
    for (int i = 0; i < 100000; i++) {
        aio_context_t context = 0;
        if (syscall(SYS_io_setup, 1000, &context) != 0)
            return errno == EAGAIN || errno == ENOMEM ? 42 : 1;
        unsigned *ring = (void *)context; /* its numbers are ours to forge */
        ring[1] = ring[2] = ring[3] = 0xfffffff0;
        struct iocb poll_out = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = 1, .aio_buf = 4}, *list = &poll_out;
        for (int j = 0; j < 5000; j++)
            if (syscall(SYS_io_submit, context, 1, &list) != 1)
                break;
        struct io_event events[4];
        struct timespec none = {0, 0};
        syscall(SYS_io_getevents, context, 0, 4, events, &none);
        if (i % 3 == 0)
            munmap((void *)context, PAGE);
    }
    return 3;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    static const struct {
        const char *name;
        int (*run)(void);
    } all[] = {{"messages", messages}, {"semaphores", semaphores}, {"queues", queues}, {"segments", segments},
               {"filters", filters}, {"slow-filter", slow_filter}, {"rings", rings}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, what) == 0)
            return all[i].run();
    return 99;
}
