/* cc: -static
 * The C library at work: sorting, searching, formatting, parsing, allocation, non-local jumps, variable arguments. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint32_t state = 12345;

static uint32_t random_word(void)
{
    return state = state * 1664525u + 1013904223u;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sorting(void)
{
    char *words[60];
    for (int i = 0; i < 60; i++) {
        words[i] = malloc(16);
        uint32_t number = random_word() % 100000;
        snprintf(words[i], 16, "%05u-%x", number, random_word() >> 28);
    }
    qsort(words, 60, sizeof *words, by_text);
    char *key = words[17], **found = bsearch(&key, words, 60, sizeof *words, by_text);
    printf("%s %s %s %ld\n", words[0], words[30], words[59], (long)(found - words));
    for (int i = 0; i < 60; i++)
        free(words[i]);
}

static int total(const char *kinds, ...)
{
    va_list list;
    double sum = 0;
    va_start(list, kinds);
    for (; *kinds; kinds++)
        sum += *kinds == 'i' ? va_arg(list, int) : *kinds == 'd' ? va_arg(list, double) : (double)va_arg(list, long);
    va_end(list);
    return (int)sum;
}

static void heap(void)
{
    unsigned char *blocks[32] = {0};
    size_t sizes[32] = {0};
    uint64_t sum = 0;
    for (int round = 0; round < 400; round++) {
        int i = (int)(random_word() % 32);
        size_t size = random_word() >> 8 & (round % 50 ? 2047 : 262143);
        blocks[i] = realloc(blocks[i], size + 1);
        for (size_t at = sizes[i]; at < size; at += 64)
            blocks[i][at] = (unsigned char)at;
        sizes[i] = size;
        blocks[i][size / 2] = (unsigned char)round;
        sum = sum * 31 + blocks[i][size / 2] + size;
    }
    printf("heap %llx\n", (unsigned long long)sum);
}

static jmp_buf back;

static int deep(int levels)
{
    volatile char room[100];
    memset((char *)room, levels, sizeof room);
    if (levels == 0)
        longjmp(back, 42);
    return levels < 0 ? 0 : deep(levels - 1) + room[3];
}

int main(int argc, char **argv)
{
    (void)argv;
    sorting();
    printf("%d\n", total("idlidl", 1, 2.5, 3l, 4, 5.25, 6l));
    heap();
    int how = setjmp(back);
    if (how == 0)
        deep(50);
    printf("jumped %d\n", how);
    char text[] = "The Quick  brown-fox; jumps", *save = NULL;
    for (char *word = strtok_r(text, " ;-", &save); word; word = strtok_r(NULL, " ;-", &save))
        printf("[%s:%zu:%c]", word, strlen(word), toupper(word[0]));
    printf("\n%ld %lu %lld\n", strtol("-0x7f", NULL, 0), strtoul("4294967296", NULL, 10), strtoll("777", NULL, 8));
    time_t when = 1700000000;
    struct tm *parts = gmtime(&when);
    char shown[64];
    strftime(shown, sizeof shown, "%Y-%m-%d %H:%M:%S %j %a", parts);
    printf("%s %d\n%-8s|%+05d|%#o|%8.3s|%c%%\n", shown, argc, "left", 42, 8, "truncate", 'x');
    return 17;
}
