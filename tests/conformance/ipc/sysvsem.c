/* cc:
 * System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2), SEM_UNDO.
 */
#include "../check.h"
#include <sys/ipc.h>
#include <sys/sem.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static int id;

static int value(int num)
{
    return semctl(id, num, GETVAL);
}

static int set(int num, int to)
{
    return semctl(id, num, SETVAL, (union semun){.val = to});
}

static int op(int num, int change, int flags)
{
    struct sembuf buf = {(unsigned short)num, (short)change, (short)flags};
    return semop(id, &buf, 1);
}

static void until_waiting(int what, int count)
{
    for (int i = 0; i < 500 && semctl(id, 0, what) != count; i++)
        sleep_ms(2);
}

static void basics(void)
{
    key_t key = (key_t)(0x55000000 | (getpid() & 0xffffff));
    CHECK_ERRNO("no such key", semget(key, 1, 0), ENOENT);
    CHECK_ERRNO("no semaphores", semget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERRNO("fewer than none", semget(IPC_PRIVATE, -1, 0600), EINVAL);
    id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
    CHECK("create", id >= 0);
    CHECK_ERRNO("exclusive", semget(key, 3, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK_EQ("found", semget(key, 0, 0), id);
    CHECK_ERRNO("too many asked for", semget(key, 4, 0), EINVAL);
    CHECK_EQ("starts at 0", value(0) + value(1) + value(2), 0);
    CHECK_EQ("up", op(0, 3, 0), 0);
    CHECK_EQ("value", value(0), 3);
    CHECK_EQ("pid", semctl(id, 0, GETPID), getpid());
    CHECK_EQ("nobody's pid", semctl(id, 1, GETPID), 0);
    CHECK_EQ("down", op(0, -2, 0), 0);
    CHECK_EQ("value now", value(0), 1);
    CHECK_ERRNO("too far down", op(0, -2, IPC_NOWAIT), EAGAIN);
    CHECK_ERRNO("not zero", op(0, 0, IPC_NOWAIT), EAGAIN);
    CHECK_EQ("zero", op(1, 0, 0), 0);
    CHECK_ERRNO("no such semaphore", op(3, 1, 0), EFBIG);
    CHECK_ERRNO("too high", op(0, 32767, 0), ERANGE);
    CHECK_EQ("not changed", value(0), 1);
    CHECK_ERRNO("semnum", semctl(id, 3, GETVAL), EINVAL);
    CHECK_ERRNO("SETVAL range", set(0, 32768), ERANGE);
    CHECK_ERRNO("SETVAL negative", set(0, -1), ERANGE);
    CHECK_ERRNO("SETVAL semnum", set(3, 1), EINVAL);
    struct sembuf none;
    CHECK_ERRNO("no operations", semop(id, &none, 0), EINVAL);
    CHECK_ERRNO("too many operations", semop(id, &none, 100000), E2BIG);
    CHECK_ERRNO("bad address", semop(id, (void *)8, 1), EFAULT);
    CHECK_ERRNO("bad id", semop(-1, &none, 1), EINVAL);
    CHECK_ERRNO("bad command", semctl(id, 0, 99), EINVAL);
}

static void together(void)
{
    set(0, 1), set(1, 0);
    struct sembuf both[] = {{0, -1, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
    CHECK_ERRNO("all or nothing", semop(id, both, 2), EAGAIN);
    CHECK_EQ("first was not done", value(0), 1);
    struct sembuf chain[] = {{1, 2, 0}, {1, -1, 0}, {0, -1, 0}, {0, 0, 0}};
    CHECK_EQ("each sees those before", semop(id, chain, 4), 0);
    CHECK_EQ("values", value(0) * 10 + value(1), 1);
    unsigned short all[3] = {7, 8, 9}, got[3] = {0};
    CHECK_EQ("SETALL", semctl(id, 0, SETALL, (union semun){.array = all}), 0);
    CHECK_EQ("GETALL", semctl(id, 0, GETALL, (union semun){.array = got}), 0);
    CHECK("same", memcmp(all, got, sizeof all) == 0);
    all[1] = 40000;
    CHECK_ERRNO("SETALL range", semctl(id, 0, SETALL, (union semun){.array = all}), ERANGE);
}

static bool blocked_in_semop(void)
{
    return op(0, -2, 0) == 0;
}

static bool zero_sleeper(void)
{
    return op(0, 0, 0) == 0;
}

static bool removed_sleeper(void)
{
    return op(0, -1, 0) == -1 && errno == EIDRM;
}

static void nothing(int signo)
{
    (void)signo;
}

static void signalled_sleeper(void)
{
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_ERRNO("a signal ends it, SA_RESTART or not", op(0, -1, 0), EINTR);
}

/* A child that sleeps says nothing, as its parent goes on meanwhile: it exits with 0 if all was as expected. */
static pid_t start(bool (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(!body());
    return pid;
}

static int end(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static void sleeping(void)
{
    set(0, 0);
    pid_t pid = start(blocked_in_semop);
    until_waiting(GETNCNT, 1);
    CHECK_EQ("one waits", semctl(id, 0, GETNCNT), 1);
    CHECK_EQ("none for zero", semctl(id, 0, GETZCNT), 0);
    CHECK_EQ("one is not enough", op(0, 1, 0), 0);
    CHECK_EQ("still waits", semctl(id, 0, GETNCNT), 1);
    CHECK_EQ("two", op(0, 1, 0), 0);
    CHECK("done", exited(end(pid), 0));
    CHECK_EQ("both taken", value(0), 0);
    set(0, 1);
    pid = start(zero_sleeper);
    until_waiting(GETZCNT, 1);
    CHECK_EQ("waits for zero", semctl(id, 0, GETZCNT), 1);
    CHECK_EQ("down", op(0, -1, 0), 0);
    CHECK("zero", exited(end(pid), 0));
    pid = start(blocked_in_semop);
    until_waiting(GETNCNT, 1);
    set(0, 5);
    CHECK("SETVAL wakes", exited(end(pid), 0));
    CHECK_EQ("three left", value(0), 3);
    set(0, 0);
    CHECK("signal", exited(in_child(signalled_sleeper), 0));
    CHECK_EQ("nobody waits", semctl(id, 0, GETNCNT), 0);
    struct sembuf down = {0, -1, 0};
    struct timespec soon = {0, 20000000}, bad = {0, 2000000000};
    CHECK_ERRNO("time-out", semtimedop(id, &down, 1, &soon), EAGAIN);
    CHECK_ERRNO("bad time", semtimedop(id, &down, 1, &bad), EINVAL);
}

static void undoer(void)
{
    op(0, -3, SEM_UNDO);
    op(1, 2, SEM_UNDO);
    op(2, 1, 0);
}

static void undo_forgotten(void)
{
    op(0, -3, SEM_UNDO);
    set(0, 1);
}

static void undo_below(void)
{
    op(0, 5, SEM_UNDO);
    op(0, -4, 0);
}

static void undoing(void)
{
    unsigned short all[3] = {5, 0, 0};
    semctl(id, 0, SETALL, (union semun){.array = all});
    CHECK("child", exited(in_child(undoer), 0));
    CHECK_EQ("given back", value(0), 5);
    CHECK_EQ("taken back", value(1), 0);
    CHECK_EQ("without SEM_UNDO", value(2), 1);
    in_child(undo_forgotten);
    CHECK_EQ("SETVAL forgets", value(0), 1);
    set(0, 0);
    in_child(undo_below);
    CHECK_EQ("not below zero", value(0), 0);
    set(0, 2);
    pid_t pid = start(blocked_in_semop);
    CHECK("takes two", exited(end(pid), 0));
    pid = start(blocked_in_semop);
    until_waiting(GETNCNT, 1);
    set(1, 0);
    struct sembuf gives[] = {{0, 1, 0}};
    semop(id, gives, 1);
    set(0, 0);
    CHECK_EQ("not woken", semctl(id, 0, GETNCNT), 1);
    kill(pid, SIGKILL);
    CHECK("killed", killed(end(pid), SIGKILL));
    CHECK_EQ("and gone", semctl(id, 0, GETNCNT), 0);
}

static void status(void)
{
    struct semid_ds ds;
    CHECK_EQ("IPC_STAT", semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}), 0);
    CHECK("what it says", ds.sem_nsems == 3 && ds.sem_perm.mode == 0600 && ds.sem_otime > 0 && ds.sem_ctime > 0);
    ds.sem_perm.mode = 0640;
    CHECK_EQ("IPC_SET", semctl(id, 0, IPC_SET, (union semun){.buf = &ds}), 0);
    semctl(id, 0, IPC_STAT, (union semun){.buf = &ds});
    CHECK_EQ("mode", ds.sem_perm.mode, 0640);
    struct seminfo info;
    CHECK("IPC_INFO", semctl(0, 0, IPC_INFO, (union semun){.info = &info}) >= 0);
    CHECK("limits", info.semvmx == 32767 && info.semopm >= 1 && info.semmsl >= 3);
    int highest = semctl(0, 0, SEM_INFO, (union semun){.info = &info});
    CHECK("SEM_INFO", highest >= 0 && info.semusz >= 1 && info.semaem >= 3);
    CHECK_EQ("SEM_STAT", semctl(id & 0x7fff, 0, SEM_STAT, (union semun){.buf = &ds}), id);
    pid_t pid = start(removed_sleeper);
    set(0, 0);
    until_waiting(GETNCNT, 1);
    CHECK_EQ("IPC_RMID", semctl(id, 0, IPC_RMID), 0);
    CHECK("EIDRM", exited(end(pid), 0));
    CHECK_ERRNO("gone", op(0, 1, 0), EINVAL);
}

int main(void)
{
    basics();
    together();
    sleeping();
    undoing();
    status();
    return finish();
}
