/* make_demo.c - build step: makes the program's built-in model, a Q8_0 GGUF, from the checkpoint in models/ with the library's own quantizer.
 *
 * usage: quern_make_demo CHECKPOINT_FOLDER OUTPUT_FOLDER    (the file is OUTPUT_FOLDER/gguf/demo-Q8_0.gguf) */
#include <stdio.h>

#include "quern/quern.h"

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: quern_make_demo CHECKPOINT_FOLDER OUTPUT_FOLDER\n");
        return 2;
    }
    quern_error err;
    char *manifest = NULL;
    size_t manifest_len;
    const quern_quantize_options opt = {.source = argv[1], .output_dir = argv[2], .name = "demo", .formats = "gguf:Q8_0", .n_threads = 1};
    quern_status status = quern_quantize(&opt, &manifest, &manifest_len, &err);
    quern_free(manifest);
    if (status != QUERN_OK) {
        (void)fprintf(stderr, "quern_make_demo: %s\n", err.message);
    }
    return quern_status_exit_code(status);
}
