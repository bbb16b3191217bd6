/* tile_unpack_i8mm.c - the tile unpackers for this instruction set; what they do stands in tile_unpack.inc. */
#include "kernels/cpu/rows_neon.h"
#include "kernels/cpu/tile.h"
#include "quant/blocks.h"

#define UNPACK_TABLE qn_tile_unpack_i8mm
#define UNPACK_ROW_PAIRS
#include "kernels/cpu/tile_unpack.inc"
