/* cc: -static
 * execve(2) of broken and unusual ELF files: each fails with its errno, and the caller goes on. */
#include "../check.h"
#include <elf.h>
#include <sys/resource.h>

static struct image {
    Elf64_Ehdr header;
    Elf64_Phdr program[2];
    unsigned char code[32];
} image;

static int status;

#define CODE offsetof(struct image, code)

/* A program of one segment: exit(11). */
static void reset(void)
{
    memset(&image, 0, sizeof image);
    memcpy(image.header.e_ident, "\177ELF\2\1\1", 7);
    image.header.e_type = ET_EXEC, image.header.e_machine = EM_HERE, image.header.e_version = 1;
    image.header.e_entry = 0x400000 + CODE;
    image.header.e_phoff = sizeof image.header, image.header.e_ehsize = sizeof image.header;
    image.header.e_phentsize = sizeof(Elf64_Phdr), image.header.e_phnum = 2;
    image.program[0] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, 0x400000, 0, sizeof image, sizeof image, PAGE};
    image.program[1] = (Elf64_Phdr){PT_NULL, 0, 0, 0, 0, 0, 0, 0};
#ifdef __x86_64__
    memcpy(image.code, "\xbf\x0b\x00\x00\x00\xb8\x3c\x00\x00\x00\x0f\x05", 12);
#else
    memcpy(image.code, "\x13\x05\xb0\x00\x93\x08\xd0\x05\x73\x00\x00\x00", 12);
#endif
}

/* 0-255 exit status, 1000+errno when execve failed, 2000+signal when it died. */
static int outcome(size_t size)
{
    static int number;
    char name[16];
    snprintf(name, sizeof name, "e%d", number++);
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755), report[2], error = 0;
    write(fd, &image, size);
    close(fd);
    pipe2(report, O_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        execl(name, name, NULL);
        write(report[1], &errno, sizeof errno);
        _exit(0);
    }
    close(report[1]);
    ssize_t got = read(report[0], &error, sizeof error);
    close(report[0]);
    waitpid(pid, &status, 0);
    reset();
    return got > 0 ? 1000 + error : WIFSIGNALED(status) ? 2000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void headers(void)
{
    CHECK_EQ("whole", outcome(sizeof image), 11);
    image.header.e_ident[EI_MAG3] = 'G';
    CHECK_EQ("magic", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_machine = EM_AARCH64;
    CHECK_EQ("machine", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_type = ET_REL;
    CHECK_EQ("relocatable", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_phentsize = 1;
    CHECK_EQ("entry size", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_phnum = 0;
    CHECK_EQ("no program headers", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_phnum = 0xffff;
    CHECK_EQ("too many program headers", outcome(sizeof image), 1000 + ENOEXEC);
    image.header.e_phoff = 1 << 20;
    CHECK_EQ("program headers beyond the file", outcome(sizeof image) >= 1000, 1);
    CHECK_EQ("cut in the header", outcome(40), 1000 + ENOEXEC);
    CHECK_EQ("cut in the program headers", outcome(100) >= 1000, 1);
}

static void segments(void)
{
    image.program[1] = (Elf64_Phdr){PT_LOAD, PF_R | PF_W, 0, 0x500000, 0, 0, 3 * PAGE, PAGE};
    CHECK_EQ("a segment of zeros", outcome(sizeof image), 11);
    image.program[1] = (Elf64_Phdr){PT_LOAD, PF_R, 0, 0x8000000000000000, 0, PAGE, PAGE, PAGE};
    CHECK_EQ("a segment in kernel space", outcome(sizeof image) > 1000, 1);
    image.program[0].p_filesz = ~0ul;
    CHECK_EQ("file size that wraps", outcome(sizeof image) > 1000, 1);
    image.program[0].p_memsz = ~0ul >> 1;
    CHECK_EQ("memory size without end", outcome(sizeof image) > 1000, 1);
    image.program[0].p_memsz = 1;
    CHECK_EQ("memory size below file size", outcome(sizeof image) > 1000, 1);
    image.header.e_entry = 0x123;
    CHECK_EQ("entry unmapped", outcome(sizeof image), 2000 + SIGSEGV);
    image.program[0].p_flags = PF_R;
    CHECK_EQ("entry not executable", outcome(sizeof image), 2000 + SIGSEGV);
    image.program[0].p_offset = 8;
    CHECK_EQ("offset and address disagree", outcome(sizeof image) > 1000, 1);
    image.program[1] = (Elf64_Phdr){PT_INTERP, PF_R, sizeof image, 0, 0, 4, 4, 1};
    CHECK_EQ("interpreter name beyond the file", outcome(sizeof image) > 1000, 1);
    image.program[1] = (Elf64_Phdr){PT_INTERP, PF_R, CODE + 5, 0, 0, 2, 2, 1};
    CHECK_EQ("interpreter name without its NUL", outcome(sizeof image), 1000 + ENOEXEC);
    image.program[1] = (Elf64_Phdr){PT_INTERP, PF_R, CODE + 13, 0, 0, 3, 3, 1};
    memcpy(image.code + 13, "/x", 3);
    CHECK_EQ("interpreter missing", outcome(sizeof image), 1000 + ENOENT);
    image.program[1] = (Elf64_Phdr){PT_GNU_STACK, PF_R | PF_W | PF_X, 0, 0, 0, 0, 0, 16};
    CHECK_EQ("executable stack asked for", outcome(sizeof image), 11);
    image.header.e_type = ET_DYN, image.program[0].p_vaddr = 0, image.header.e_entry -= 0x400000;
    CHECK_EQ("position-independent, no interpreter", outcome(sizeof image), 11);
}

int main(void)
{
    enter_scratch();
    reset();
    headers();
    segments();
    return finish();
}
