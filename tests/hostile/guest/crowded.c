/* cc: -static
 * Forks until a host that has no more processes makes fork(2) fail with EAGAIN; the children that it has must live, and run
 * another program. */
#include "../../conformance/check.h"

int main(int argc, char **argv)
{
    if (argc > 1)
        for (;;)
            pause();
    pid_t children[150];
    int made = 0, refused = 0, killed = 0, status;
    for (int i = 0; i < 150; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            execl(argv[0], argv[0], "wait", NULL);
            _exit(1);
        }
        if (pid > 0)
            children[made++] = pid;
        else if (errno == EAGAIN)
            refused++;
        else
            return 1;
    }
    for (int i = 0; i < made; i++)
        if (waitpid(children[i], &status, WNOHANG) == children[i]) {
            killed++;
            children[i] = 0;
        }
    printf("%d made, %d refused, %d killed\n", made, refused, killed);
    for (int i = 0; i < made; i++)
        if (children[i] && (kill(children[i], SIGTERM) != 0 || waitpid(children[i], &status, 0) != children[i]))
            return 2;
    pid_t last = fork(); /* there is room again */
    if (last == 0)
        _exit(7);
    if (last < 0 || waitpid(last, &status, 0) != last || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        return 3;
    return refused > 0 && killed <= 12 ? 42 : 4;
}
