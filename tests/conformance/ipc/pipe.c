/* cc: -static
 * pipe(2), pipe2(2), fifo(7): blocking, atomicity, SIGPIPE, end of file, O_NONBLOCK, FIFOs. */
#include "../check.h"
#include <sys/ioctl.h>

static int pipes[2], status;
static char block[70000];

static void plain(void)
{
    int count = -1;
    CHECK_EQ("pipe2", pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK("flags", fcntl(pipes[0], F_GETFD) == FD_CLOEXEC && (fcntl(pipes[1], F_GETFL) & O_NONBLOCK));
    CHECK_ERRNO("empty", read(pipes[0], block, 10), EAGAIN);
    CHECK_EQ("fill", write(pipes[1], block, sizeof block), 65536);
    CHECK_ERRNO("full", write(pipes[1], block, 1), EAGAIN);
    CHECK("FIONREAD", ioctl(pipes[0], FIONREAD, &count) == 0 && count == 65536);
    CHECK_EQ("make 4095 bytes of room", read(pipes[0], block, 4095), 4095);
    CHECK_ERRNO("PIPE_BUF bytes are all or nothing", write(pipes[1], block, 4096), EAGAIN);
    CHECK_EQ("drain", read(pipes[0], block, sizeof block), 65536 - 4095);
    CHECK_ERRNO("read of the write end", read(pipes[1], block, 1), EBADF);
    CHECK_ERRNO("write of the read end", write(pipes[0], block, 1), EBADF);
    CHECK_ERRNO("bad flags", pipe2(pipes, 0x8), EINVAL);
    CHECK_ERRNO("bad flags beside O_NOTIFICATION_PIPE", pipe2(pipes, O_EXCL | O_CREAT), EINVAL);
    int watched[2];
    CHECK("O_NOTIFICATION_PIPE, where the kernel has it", pipe2(watched, O_EXCL) == 0 || errno == ENOPKG);
    CHECK_ERRNO("bad pointer", pipe((int *)8), EFAULT);
    write(pipes[1], "end", 3);
    close(pipes[1]);
    CHECK_EQ("what was written stays", read(pipes[0], block, 10), 3);
    CHECK_EQ("then end of file", read(pipes[0], block, 10), 0);
    close(pipes[0]);
}

static void broken_kill(void)
{
    write(pipes[1], "x", 1);
}

static void broken(void)
{
    pipe(pipes);
    close(pipes[0]);
    CHECK("SIGPIPE kills", killed(in_child(broken_kill), SIGPIPE));
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO("EPIPE", write(pipes[1], "x", 1), EPIPE);
    CHECK_EQ("writing nothing is no error", write(pipes[1], "x", 0), 0);
    close(pipes[1]);
}

static void blocking(void)
{
    pipe(pipes);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        bool good = write(pipes[1], block, sizeof block) == (long)sizeof block;
        good &= write(pipes[1], block, sizeof block) == (long)sizeof block;
        _exit(good ? 0 : 1);
    }
    close(pipes[1]);
    until_asleep(pid);
    long total = 0;
    for (ssize_t n; (n = read(pipes[0], block, 1000)) > 0;)
        total += n;
    waitpid(pid, &status, 0);
    CHECK("a writer waits for room", exited(status, 0) && total == 2 * (long)sizeof block);
    close(pipes[0]);
    pipe(pipes);
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            char line[100];
            memset(line, 'a' + i, sizeof line);
            for (int j = 0; j < 100; j++)
                write(pipes[1], line, sizeof line);
            _exit(0);
        }
    close(pipes[1]);
    FILE *file = fdopen(pipes[0], "r");
    char line[100];
    bool whole = true;
    int lines = 0;
    while (fread(line, 100, 1, file) == 1) {
        lines++;
        for (int i = 1; i < 100; i++)
            whole &= line[i] == line[0];
    }
    fclose(file);
    while (wait(&status) > 0)
        ;
    CHECK("small writes of four processes do not mix", whole && lines == 400);
}

static void fifos(void)
{
    CHECK_EQ("mkfifo", mkfifo("f", 0600), 0);
    CHECK_ERRNO("O_WRONLY | O_NONBLOCK without a reader", open("f", O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = open("f", O_RDONLY | O_NONBLOCK);
    CHECK("O_RDONLY | O_NONBLOCK opens at once", reader >= 0);
    CHECK_EQ("no writer yet: end of file", read(reader, block, 10), 0);
    int writer = open("f", O_WRONLY | O_NONBLOCK);
    CHECK("now there is a reader", writer >= 0);
    CHECK_ERRNO("a writer, no data", read(reader, block, 10), EAGAIN);
    CHECK_EQ("through it", write(writer, "hello", 5) == 5 ? read(reader, block, 10) : -1, 5);
    close(reader), close(writer);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open("f", O_WRONLY);
        _exit(write(fd, "blocked", 7) == 7 ? 0 : 1);
    }
    until_asleep(pid);
    reader = open("f", O_RDONLY);
    CHECK_EQ("both ends wait for each other", read(reader, block, 100), 7);
    waitpid(pid, &status, 0);
    CHECK("writer", exited(status, 0));
    int both = open("f", O_RDWR);
    CHECK("O_RDWR never waits", both >= 0 && write(both, "x", 1) == 1 && read(both, block, 1) == 1);
    CHECK_ERRNO("lseek", lseek(both, 0, SEEK_SET), ESPIPE);
    struct stat st;
    CHECK("FIFO in the file system", stat("f", &st) == 0 && S_ISFIFO(st.st_mode) && st.st_size == 0);
    CHECK("open by /proc/self/fd", pipe(pipes) == 0 && write(pipes[1], "via", 3) == 3 && ({
              snprintf(block, 64, "/proc/self/fd/%d", pipes[0]);
              int fd = open(block, O_RDONLY | O_NONBLOCK);
              read(fd, block, 10) == 3;
          }));
}

int main(void)
{
    enter_scratch();
    plain();
    broken();
    blocking();
    fifos();
    return finish();
}
