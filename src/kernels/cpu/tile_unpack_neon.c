/* tile_unpack_neon.c - the tile unpackers for this instruction set; what they do stands in tile_unpack.inc. */
#include "kernels/cpu/rows_neon.h"
#include "kernels/cpu/tile.h"
#include "quant/blocks.h"

#define UNPACK_TABLE qn_tile_unpack_neon
#include "kernels/cpu/tile_unpack.inc"
