/* cc:
 * System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
 */
#include "../check.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

struct message {
    long type;
    char text[64];
};

static int id;

static int send_text(long type, const char *text, int flags)
{
    struct message message = {.type = type};
    strcpy(message.text, text);
    return msgsnd(id, &message, strlen(text), flags);
}

static struct message last;

static long take(long type, int flags)
{
    memset(&last, 0, sizeof last);
    return msgrcv(id, &last, sizeof last.text, type, flags);
}

static void basics(void)
{
    key_t key = (key_t)(0x56000000 | (getpid() & 0xffffff));
    CHECK_ERRNO("no such key", msgget(key, 0), ENOENT);
    id = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    CHECK("create", id >= 0);
    CHECK_ERRNO("exclusive", msgget(key, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK_EQ("found", msgget(key, 0), id);
    CHECK_EQ("send", send_text(5, "five", 0), 0);
    CHECK_EQ("send", send_text(3, "three", 0), 0);
    CHECK_EQ("send", send_text(4, "four", 0), 0);
    CHECK_EQ("send nothing", send_text(9, "", 0), 0);
    CHECK_EQ("first", take(0, 0), 4);
    CHECK("is five", last.type == 5 && strcmp(last.text, "five") == 0);
    CHECK_EQ("by type", take(4, 0), 4);
    CHECK("is four", last.type == 4 && strcmp(last.text, "four") == 0);
    CHECK_ERRNO("no such type", take(4, IPC_NOWAIT), ENOMSG);
    CHECK_EQ("any other", take(3, MSG_EXCEPT), 0);
    CHECK_EQ("is nine", last.type, 9);
    send_text(7, "seven", 0), send_text(2, "two", 0), send_text(2, "too", 0);
    CHECK_ERRNO("none so low", take(-1, IPC_NOWAIT), ENOMSG);
    CHECK_EQ("the lowest up to 5", take(-5, 0), 3);
    CHECK("is two", strcmp(last.text, "two") == 0);
    take(-5, 0);
    CHECK("is too", strcmp(last.text, "too") == 0);
    take(-5, 0);
    CHECK("is three", strcmp(last.text, "three") == 0);
    CHECK_ERRNO("seven is above", take(-5, IPC_NOWAIT), ENOMSG);
    CHECK_ERRNO("does not fit", msgrcv(id, &last, 3, 0, 0), E2BIG);
    CHECK_EQ("cut off", msgrcv(id, &last, 3, 0, MSG_NOERROR), 3);
    CHECK("first bytes", memcmp(last.text, "sev", 3) == 0);
    CHECK_ERRNO("empty", take(0, IPC_NOWAIT), ENOMSG);
    CHECK_ERRNO("type 0", send_text(0, "x", 0), EINVAL);
    CHECK_ERRNO("type -1", send_text(-1, "x", 0), EINVAL);
    CHECK_ERRNO("too long", msgsnd(id, &last, 10000000, 0), EINVAL);
    CHECK_ERRNO("negative", msgsnd(id, &last, (size_t)-1, 0), EINVAL);
    CHECK_ERRNO("negative", msgrcv(id, &last, (size_t)-1, 0, 0), EINVAL);
    CHECK_ERRNO("bad id", msgsnd(-1, &last, 1, 0), EINVAL);
    CHECK_ERRNO("bad address", msgsnd(id, (void *)8, 1, 0), EFAULT);
    CHECK_ERRNO("bad command", msgctl(id, 99, NULL), EINVAL);
}

/* A sleeper says nothing, as its parent goes on meanwhile: it exits with 0 if all was as expected. */
static pid_t start(bool (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(!body());
    until_asleep(pid);
    return pid;
}

static int end(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static bool receiver(void)
{
    return take(6, 0) == 3 && strcmp(last.text, "six") == 0;
}

static bool small_receiver(void)
{
    return msgrcv(id, &last, 1, 0, 0) == -1 && errno == E2BIG;
}

static bool filler(void)
{
    char buffer[8 + 4000] = {1};
    *(long *)buffer = 1;
    int sent = 0;
    while (msgsnd(id, buffer, 4000, IPC_NOWAIT) == 0)
        sent++;
    return errno == EAGAIN && sent == 4 && msgsnd(id, buffer, 4000, 0) == 0;
}

static bool removed(void)
{
    return take(77, 0) == -1 && errno == EIDRM;
}

static void nothing(int signo)
{
    (void)signo;
}

static void interrupted(void)
{
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    CHECK_ERRNO("a signal ends it", take(78, 0), EINTR);
}

static void sleeping(void)
{
    pid_t pid = start(receiver);
    send_text(5, "other", 0);
    CHECK_EQ("still asleep", task_state(pid), 'S');
    send_text(6, "six", 0);
    CHECK("received", exited(end(pid), 0));
    take(0, 0);
    CHECK("the other is left", strcmp(last.text, "other") == 0);
    pid = start(small_receiver);
    send_text(1, "large", 0);
    CHECK("E2BIG", exited(end(pid), 0));
    CHECK_EQ("and the message stays", take(0, IPC_NOWAIT), 5);
    struct msqid_ds ds;
    msgctl(id, IPC_STAT, &ds);
    if (ds.msg_qbytes == 16384) {
        pid = start(filler);
        struct message large[64];
        CHECK_EQ("make room", msgrcv(id, large, 4000, 0, 0), 4000);
        CHECK("sent", exited(end(pid), 0));
        while (msgrcv(id, large, 4000, 0, IPC_NOWAIT) == 4000)
            ;
    }
    CHECK("signal", exited(in_child(interrupted), 0));
}

static void status(void)
{
    struct msqid_ds ds;
    send_text(3, "abc", 0);
    CHECK_EQ("IPC_STAT", msgctl(id, IPC_STAT, &ds), 0);
    CHECK("what it says", ds.msg_qnum == 1 && ds.__msg_cbytes == 3 && ds.msg_lspid == getpid() && ds.msg_stime > 0);
    CHECK_EQ("mode", ds.msg_perm.mode, 0600);
    CHECK_EQ("copy", msgrcv(id, &last, sizeof last.text, 0, 040000 | IPC_NOWAIT), 3);
    CHECK_ERRNO("copy beyond", msgrcv(id, &last, sizeof last.text, 1, 040000 | IPC_NOWAIT), ENOMSG);
    CHECK_ERRNO("copy may not wait", msgrcv(id, &last, sizeof last.text, 0, 040000), EINVAL);
    CHECK_EQ("still there", take(0, IPC_NOWAIT), 3);
    ds.msg_qbytes = 4;
    ds.msg_perm.mode = 0640;
    CHECK_EQ("IPC_SET", msgctl(id, IPC_SET, &ds), 0);
    CHECK_ERRNO("smaller queue", send_text(1, "12345", IPC_NOWAIT), EAGAIN);
    CHECK_EQ("fits", send_text(1, "1234", IPC_NOWAIT), 0);
    ds.msg_qbytes = 100000000;
    if (!IS_ROOT)
        CHECK_ERRNO("nobody makes it large", msgctl(id, IPC_SET, &ds), EPERM);
    struct msginfo info;
    CHECK("IPC_INFO", msgctl(0, IPC_INFO, (void *)&info) >= 0 && info.msgmax > 0 && info.msgssz == 16);
    CHECK("MSG_INFO", msgctl(0, MSG_INFO, (void *)&info) >= 0 && info.msgpool >= 1 && info.msgtql >= 4);
    CHECK_EQ("MSG_STAT", msgctl(id & 0x7fff, MSG_STAT, &ds), id);
    pid_t pid = start(removed);
    CHECK_EQ("IPC_RMID", msgctl(id, IPC_RMID, NULL), 0);
    CHECK("EIDRM", exited(end(pid), 0));
    CHECK_ERRNO("gone", send_text(1, "x", 0), EINVAL);
}

static void put_next(const char *kind, const char *number)
{
    char path[64];
    sprintf(path, "/proc/sys/kernel/%s_next_id", kind);
    int fd = open(path, O_WRONLY);
    CHECK("wish for an identifier", write(fd, number, strlen(number)) == (ssize_t)strlen(number));
    close(fd);
}

static void chosen(void)
{
    int fd = open("/proc/sys/kernel/msg_next_id", O_WRONLY);
    CHECK_ERRNO("no identifier", write(fd, "-2", 2), EINVAL);
    close(fd);
    put_next("msg", "131172");
    int id = msgget(IPC_PRIVATE, 0600);
    CHECK_EQ("it is that", id, 131172);
    put_next("msg", "131172");
    int other = msgget(IPC_PRIVATE, 0600);
    CHECK_EQ("or the next that is free", other, 131173);
    char text[8] = "";
    fd = open("/proc/sys/kernel/msg_next_id", O_RDONLY);
    CHECK("once", read(fd, text, sizeof text) == 3 && strcmp(text, "-1\n") == 0);
    close(fd), msgctl(id, IPC_RMID, NULL), msgctl(other, IPC_RMID, NULL);
    put_next("sem", "98404");
    id = semget(IPC_PRIVATE, 1, 0600);
    CHECK_EQ("semaphores too", id, 98404);
    semctl(id, 0, IPC_RMID);
    put_next("shm", "98405");
    id = shmget(IPC_PRIVATE, 4096, 0600);
    CHECK_EQ("and segments", id, 98405);
    shmctl(id, IPC_RMID, NULL);
}

int main(void)
{
    if (IS_ROOT && access("/proc/sys/kernel/msg_next_id", F_OK) == 0)
        chosen();
    basics();
    sleeping();
    status();
    return finish();
}
