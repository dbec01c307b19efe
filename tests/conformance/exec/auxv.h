/* The initial stack: what exec/{static,pie,dynamic}.c check, each linked its own way. */
#include "../check.h"
#include <elf.h>
#include <sys/auxv.h>

extern char **environ;
static int data_word = 77, zero_word;

static int check_image(int argc, char **argv, bool relocated)
{
    CHECK_EQ("argc", argc, 1);
    CHECK("argv ends with NULL", argv[1] == NULL);
    CHECK("the environment follows argv", environ == argv + 2);
    CHECK("stack is below argv, aligned strings above", (uintptr_t)argv % 8 == 0 && (char *)argv < argv[0]);
    CHECK_EQ("data and bss", data_word + zero_word, 77);
    CHECK_EQ("AT_PAGESZ", getauxval(AT_PAGESZ), 4096);
    CHECK_EQ("AT_CLKTCK", getauxval(AT_CLKTCK), 100);
    CHECK_EQ("AT_PHENT", getauxval(AT_PHENT), sizeof(Elf64_Phdr));
    CHECK("AT_UID, AT_GID", getauxval(AT_UID) == getuid() && getauxval(AT_EGID) == getegid());
    CHECK_EQ("AT_SECURE", getauxval(AT_SECURE), 0);
    ON_X86("AT_PLATFORM", CHECK("AT_PLATFORM", strcmp((char *)getauxval(AT_PLATFORM), MACHINE) == 0));
    CHECK("AT_EXECFN", getauxval(AT_EXECFN) && strcmp((char *)getauxval(AT_EXECFN), argv[0]) == 0);
    unsigned char *random = (unsigned char *)getauxval(AT_RANDOM), all = 0;
    for (int i = 0; i < 16; i++)
        all |= random[i];
    CHECK("AT_RANDOM", all != 0);
    Elf64_Phdr *headers = (Elf64_Phdr *)getauxval(AT_PHDR);
    bool loads = false;
    for (unsigned i = 0; i < getauxval(AT_PHNUM); i++)
        loads |= headers[i].p_type == PT_LOAD && (headers[i].p_flags & PF_X);
    CHECK("AT_PHDR", loads);
    Elf64_Ehdr *vdso = (Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    CHECK("AT_SYSINFO_EHDR is an ELF image", vdso && memcmp(vdso->e_ident, "\177ELF", 4) == 0 && vdso->e_type == ET_DYN);
    CHECK("AT_ENTRY is near main", labs((long)getauxval(AT_ENTRY) - (long)&check_image) < 1 << 20);
    CHECK("high addresses only when relocatable", ((uintptr_t)&data_word > 1ul << 36) == relocated);
    char path[PATH_MAX] = {0}, *name = strrchr(argv[0], '/');
    readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash = strrchr(path, '/');
    CHECK("/proc/self/exe", slash && strcmp(slash, name ? name : argv[0]) == 0);
    return finish();
}
