/* Numbers that /proc shows of memory. */
/* The number after `field` in a file of /proc, for the mapping that contains `at` in smaps, if that is not NULL; or -1. */
static long field_of(const char *path, const char *field, void *at)
{
    static char line[4096];
    FILE *file = fopen(path, "r");
    bool here = !at;
    long found = -1;
    while (fgets(line, sizeof line, file)) {
        unsigned long low, high;
        if (at && sscanf(line, "%lx-%lx ", &low, &high) == 2)
            here = (unsigned long)at >= low && (unsigned long)at < high;
        if (here && strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
            found = atol(line + strlen(field) + 1);
    }
    fclose(file);
    return found;
}

/* A number of the mapping that contains `at`. */
static long smaps(const char *field, void *at)
{
    return field_of("/proc/self/smaps", field, at);
}
