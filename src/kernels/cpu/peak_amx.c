/* peak_amx.c - the AMX loops: registers only. That of 8-bit integers is the limit that integer prefill is measured against where AMX serves it. */
#include "kernels/cpu/amx.h"
#include "kernels/peak.h"

static void begin(void)
{
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = 16;
        config.row_bytes[i] = 64;
    }
    amx_configure(&config);
    AMX_ZERO(0);
    AMX_ZERO(1);
    AMX_ZERO(2);
    AMX_ZERO(3);
    AMX_ZERO(4);
    AMX_ZERO(5);
    AMX_ZERO(6);
    AMX_ZERO(7);
}

uint64_t qn_peak_int8_amx(uint64_t rounds)
{
    begin();
    for (uint64_t i = 0; i < rounds; i++) { /* four sums: a chain of one would wait for itself */
        AMX_DOT_US(0, 4, 6);
        AMX_DOT_US(1, 4, 7);
        AMX_DOT_US(2, 5, 6);
        AMX_DOT_US(3, 5, 7);
    }
    amx_release();
    return rounds * 4 * 16 * 16 * 64 * 2;
}

uint64_t qn_peak_bf16_amx(uint64_t rounds)
{
    begin();
    for (uint64_t i = 0; i < rounds; i++) {
        AMX_DOT_BF16(0, 4, 6);
        AMX_DOT_BF16(1, 4, 7);
        AMX_DOT_BF16(2, 5, 6);
        AMX_DOT_BF16(3, 5, 7);
    }
    amx_release();
    return rounds * 4 * 16 * 16 * 32 * 2;
}
