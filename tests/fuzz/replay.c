/* Runs a fuzzer's function over the files of its corpus, in the ordinary build: every seed is a test, also
 * where there is no fuzzer. usage: replay DIRECTORY... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "re");
    uint8_t *data = NULL;
    long n = -1;

    if (f && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0) {
        rewind(f);
        data = malloc((size_t)n); /* exactly, so that a byte beyond is seen */
        if (n > 0 && (!data || fread(data, 1, (size_t)n, f) != (size_t)n))
            n = -1;
    }
    if (f)
        fclose(f);
    if (n >= 0)
        LLVMFuzzerTestOneInput(data, (size_t)n);
    else
        perror(path);
    free(data);
    return n >= 0 ? 0 : -1;
}

static int replay_directory(const char *path)
{
    DIR *d = opendir(path);
    int files = 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        _cleanup_free_ char *file = xasprintf("%s/%s", path, e->d_name);

        if (e->d_name[0] == '.')
            continue;
        if (replay_file(file) < 0) {
            files = -1;
            break;
        }
        files++;
    }
    if (d)
        closedir(d);
    return files;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int files = replay_directory(argv[i]);

        printf("%s: %d files\n", argv[i], files);
        if (files <= 0)
            return 1;
    }
    return argc > 1 ? 0 : 2;
}
