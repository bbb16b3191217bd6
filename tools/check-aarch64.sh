#!/bin/sh
# check-aarch64.sh [TEST...]: compiles base, quant and kernels for aarch64 and runs the kernel tests under qemu, so that the portable and the NEON code
# keep giving the bits of x86-64, and the choice of kernels on processors without I8MM and without dot product (test_isa). Leaves out the files that
# need third-party libraries of the target. Needs aarch64-linux-gnu-gcc and qemu-aarch64.
# Environment: CROSS_CC, CROSS_RUN, BUILD (build-aarch64), JOBS.
set -eu
cd "$(dirname "$0")/.."
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
run=${CROSS_RUN:-qemu-aarch64}
build=${BUILD:-build-aarch64}
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
for tool in "$cc" "$run"; do
    command -v "$tool" >/dev/null 2>&1 || { echo "SKIP: check-aarch64: no $tool here"; exit 77; }
done
mkdir -p "$build"
flags="-std=c17 -O2 -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror -ffp-contract=off -fno-strict-aliasing \
-fexcess-precision=standard -Iinclude -Isrc -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -DQUERN_TEXTS_DIR=\"models/texts\""
find src/base src/quant src/kernels -name '*.c' | grep -v -e '/json\.c$' -e '/sha256\.c$' -e '_avx2\.c$' -e '_avx512\.c$' -e '_avx512vnni\.c$' -e '_amx\.c$' |
    sort >"$build/sources"
# shellcheck disable=SC2016
xargs -P "$jobs" -I{} sh -c '
    object="$1/$(echo "$2" | tr / _).o"
    isa=
    case "$2" in
    *_neon.c) isa=-march=armv8.2-a+dotprod+fp16 ;;
    */tile_multiply_i8mm.c) isa="-march=armv8.2-a+dotprod+fp16+i8mm -fno-schedule-insns" ;;
    *_i8mm.c) isa=-march=armv8.2-a+dotprod+fp16+i8mm ;;
    esac
    if [ ! -e "$object" ] || [ -n "$(find "$2" src/base src/quant src/kernels -newer "$object" -print -quit)" ]; then
        $3 $4 $isa -c "$2" -o "$object"
    fi' _ "$build" {} "$cc" "$flags" <"$build/sources"
objects=$(sed "s|/|_|g; s|.*|$build/&.o|" "$build/sources")
[ $# -gt 0 ] || set -- test_isa test_matmul test_matmul_float test_ops test_vmath
for name in "$@"; do
    [ -e "tests/unit/$name.c" ] || { echo "SKIP: $name: no such test"; continue; }
    # shellcheck disable=SC2086
    "$cc" $flags -static -D_GNU_SOURCE -Wno-missing-prototypes -DQUERN_SOURCE_DIR="\"$(pwd)\"" -Itests/cross -Itests "tests/unit/$name.c" $objects -lm -lpthread -o "$build/$name"
    echo "---- $name"
    "$run" "$build/$name"
    if [ "$name" = test_isa ]; then # the emulator's own processor has everything
        for processor in "max:scalar neon i8mm" "neoverse-n1:scalar neon" "cortex-a72:scalar"; do
            QEMU_CPU=${processor%%:*} "$run" "$build/$name" >"$build/$name.txt" && grep -x "instruction sets: ${processor#*:}" "$build/$name.txt" || {
                echo "test_isa failed on ${processor%%:*}"
                exit 1
            }
        done
    fi
done
echo "aarch64: all passed"
