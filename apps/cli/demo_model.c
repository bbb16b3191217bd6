/* demo_model.c - puts the file QUERN_DEMO_GGUF (a path, from the build) between two symbols of the read-only data.
 *
 * The assembler copies the file (.incbin), which gcc and clang both do and which costs no compile time; the start is at a page
 * border, as in a mapped file. */
#include "demo_model.h"

#ifdef QUERN_DEMO_GGUF
__asm__(".pushsection .rodata\n"
        ".balign 4096\n"
        ".globl qn_demo_model_begin\n"
        ".hidden qn_demo_model_begin\n"
        "qn_demo_model_begin:\n"
        ".incbin \"" QUERN_DEMO_GGUF "\"\n"
        ".globl qn_demo_model_end\n"
        ".hidden qn_demo_model_end\n"
        "qn_demo_model_end:\n"
        ".balign 64\n"
        ".popsection\n");

extern const unsigned char qn_demo_model_begin[], qn_demo_model_end[];

const void *qn_demo_model_find(size_t *size_bytes)
{
    *size_bytes = (size_t)(qn_demo_model_end - qn_demo_model_begin);
    return qn_demo_model_begin;
}
#else
const void *qn_demo_model_find(size_t *size_bytes)
{
    *size_bytes = 0;
    return NULL;
}
#endif
