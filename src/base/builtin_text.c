/* builtin_text.c - puts the files of models/texts between symbols of the read-only data.
 *
 * The assembler copies them (.incbin), which gcc and clang both do and which costs no compile time. QUERN_TEXTS_DIR comes from the build. */
#include "base/builtin_text.h"

#define INCLUDE_TEXT(name, file) \
    __asm__(".pushsection .rodata\n" \
            ".globl " #name "_begin\n" \
            ".hidden " #name "_begin\n" #name "_begin:\n" \
            ".incbin \"" QUERN_TEXTS_DIR "/" file "\"\n" \
            ".globl " #name "_end\n" \
            ".hidden " #name "_end\n" #name "_end:\n" \
            ".balign 64\n" \
            ".popsection\n"); \
    extern const char name##_begin[], name##_end[]

INCLUDE_TEXT(qn_text_calibration, "calibration.txt");
INCLUDE_TEXT(qn_text_gate, "gate.txt");

const char *qn_builtin_text_calibration(size_t *len)
{
    *len = (size_t)(qn_text_calibration_end - qn_text_calibration_begin);
    return qn_text_calibration_begin;
}

const char *qn_builtin_text_gate(size_t *len)
{
    *len = (size_t)(qn_text_gate_end - qn_text_gate_begin);
    return qn_text_gate_begin;
}
