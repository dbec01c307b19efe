/* cc: -static
 * wait4(2) with a SIGCHLD handler that does not restart calls: a child that has ended counts before the signal that says so. */
#include "../check.h"

static volatile sig_atomic_t caught;

static void on_child(int signo)
{
    caught++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_child};
    sigaction(SIGCHLD, &action, NULL);
    int status, interrupted = 0, reaped = 0;
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            usleep(2000);
            _exit(i);
        }
        pid_t found = wait4(-1, &status, 0, NULL);
        interrupted += found == -1 && errno == EINTR;
        reaped += found == pid && WIFEXITED(status) && WEXITSTATUS(status) == i;
        if (found != pid)
            waitpid(pid, &status, 0);
    }
    CHECK_EQ("no wait was interrupted", interrupted, 0);
    CHECK_EQ("each found its child", reaped, 20);
    CHECK_EQ("the handler ran each time", caught, 20);
    return finish();
}
