/* What a kernel is for, one job after the other; it is init, and says when each has ended. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void done(const char *job)
{
	printf("done %s\n", job);
	fflush(stdout);
}

static void calls(void)
{
	for (int i = 0; i < 300000; i++)
		syscall(SYS_getppid);
}

static void forks(void)
{
	for (int i = 0; i < 300; i++) {
		if (!fork())
			_exit(0);
		wait(0);
	}
}

static void execs(void)
{
	for (int i = 0; i < 100; i++) {
		if (!fork()) {
			execl("/init", "init", "child", (char *)0);
			_exit(1);
		}
		wait(0);
	}
}

static void faults(void)
{
	size_t size = 32 << 20;
	for (int i = 0; i < 8; i++) {
		char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t at = 0; at < size; at += 4096)
			memory[at] = 1;
		munmap(memory, size);
	}
}

static void switches(void)
{
	int there[2], back[2];
	char byte = 0;
	if (pipe(there) || pipe(back))
		return;
	if (!fork()) {
		for (int i = 0; i < 15000; i++)
			if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 15000; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			return;
	wait(0);
}

static void copies(void)
{
	static char block[1 << 16];
	FILE *file = fopen("/file", "w+");
	for (int i = 0; i < 300; i++)
		fwrite(block, 1, sizeof block, file);
	rewind(file);
	while (fread(block, 1, sizeof block, file) > 0)
		;
	fclose(file);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} jobs[] = { { "calls", calls }, { "forks", forks }, { "execs", execs }, { "faults", faults },
		     { "switches", switches }, { "copies", copies } };
	if (argc > 1 && !strcmp(argv[1], "child"))
		return 0;
	done("boot");
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
		jobs[i].run();
		done(jobs[i].name);
	}
	reboot(RB_POWER_OFF);
	return 0;
}
