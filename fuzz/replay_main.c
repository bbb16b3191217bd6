/* replay_main.c - runs one fuzz target over files instead of under a fuzzer.
 *
 * Every argument is a file or a folder (its files, one level); each is given to LLVMFuzzerTestOneInput once. The check is made
 * by the sanitizers. A run without any file fails, so that a lost corpus is noticed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_files;

/* The data is in a block of exactly its size, so that ASan sees a read one byte past the end. */
static int replay_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size != 0 ? size : 1);
    int failed = f == NULL || data == NULL || fread(data, 1, size, f) != size;
    if (failed) {
        (void)fprintf(stderr, "%s: cannot read\n", path);
    } else {
        (void)LLVMFuzzerTestOneInput(data, size);
        n_files++;
    }
    free(data);
    if (f != NULL) {
        (void)fclose(f);
    }
    return failed;
}

static int replay(const char *path, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        (void)fprintf(stderr, "%s: cannot stat\n", path);
        return 1;
    }
    if (S_ISREG(st.st_mode)) {
        return replay_file(path, (size_t)st.st_size);
    }
    DIR *dir = depth == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    int failed = 0;
    for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL; entry = readdir(dir)) {
        char child[4096];
        int n = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && n > 0 && (size_t)n < sizeof child) {
            failed |= replay(child, depth + 1);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= replay(argv[i], 0);
    }
    (void)printf("%zu inputs replayed\n", n_files);
    return failed != 0 || n_files == 0;
}
