#!/bin/sh
# run_long.sh JOBS: what `make test` leaves out because it takes long or needs more tools: clang with warnings as errors, ThreadSanitizer,
# a processor without AVX, aarch64, a machine with two memory nodes. A tool that is not here is a visible SKIP; a step that fails makes the run fail.
set -u
cd "$(dirname "$0")/.."
jobs=$1
failed=""
have() { command -v "$1" >/dev/null 2>&1; }
skip() { echo "SKIP: $1: $2"; }
step() { # step NAME COMMAND...
    name=$1
    shift
    echo "==== $name"
    "$@"
    case $? in
    0) ;;
    77) skip "$name" "see above" ;;
    *)
        failed="$failed $name"
        echo "==== $name FAILED"
        ;;
    esac
}
build() { # build FOLDER CMAKE_OPTIONS...
    folder=$1
    shift
    cmake -S . -B "$folder" --log-level=WARNING -DQUERN_WERROR=ON "$@" >/dev/null && cmake --build "$folder" --parallel "$jobs" >"$folder/build.log" 2>&1 || {
        tail -n 40 "$folder/build.log"
        return 1
    }
}
clang_tests() { build build-clang -DCMAKE_C_COMPILER=clang && python3 tests/run.py clang=build-clang; }
# Clang's sanitizers see more than GCC's (an offset to a null pointer, for one).
clang_sanitized() { build build-clang-asan -DCMAKE_C_COMPILER=clang -DQUERN_SANITIZE=address && python3 tests/run.py clang-asan=build-clang-asan; }
thread_tests() { build build-tsan -DQUERN_SANITIZE=thread && TSAN_OPTIONS=halt_on_error=1 python3 tests/run.py tsan=build-tsan; }
# The same binary on a processor of 2003: SSE2 and nothing newer, so every kernel is the scalar one.
old_processor() {
    build build-plain -DQUERN_TESTS=OFF && qemu-x86_64 -cpu qemu64 build-plain/quern doctor &&
        qemu-x86_64 -cpu qemu64 build-plain/quern run demo "Write a Python function that adds two numbers." --temp 0 -n 24 -q >build-plain/emulated.txt &&
        build-plain/quern run demo "Write a Python function that adds two numbers." --temp 0 -n 24 -q >build-plain/native.txt &&
        cmp build-plain/emulated.txt build-plain/native.txt && echo "plain x86-64 writes the same text as this machine:" && cat build-plain/native.txt
}

memory_nodes() { build build && tools/check-numa.sh build; }

# Every file of library and program compiles for aarch64; the third-party headers are this machine's, which serves for compiling.
aarch64_compiles() {
    mkdir -p build-aarch64 && find src apps -name '*.c' ! -name '*_avx*.c' ! -name '*_amx.c' | xargs -P "$jobs" -I{} sh -c '
        isa=
        case "$1" in *_neon.c) isa=-march=armv8.2-a+dotprod+fp16 ;; *_i8mm.c) isa=-march=armv8.2-a+dotprod+fp16+i8mm ;; esac
        aarch64-linux-gnu-gcc -std=c17 -O1 -Wall -Wextra -Wshadow -Wconversion -Werror -ffp-contract=off -fno-strict-aliasing $isa \
            -Iinclude -Isrc -Iapps/cli -idirafter /usr/include -idirafter "/usr/include/$(gcc -print-multiarch)" \
            -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -DQUERN_VERSION=\"aarch64\" -DQUERN_TEXTS_DIR=\"models/texts\" -c "$1" -o /dev/null' _ {} &&
        echo "$(find src apps -name '*.c' ! -name '*_avx*.c' ! -name '*_amx.c' | wc -l) files compile for aarch64"
}

if have clang; then step clang clang_tests && step clang-asan clang_sanitized; else skip clang "no clang here"; fi
step tsan thread_tests
if have qemu-x86_64; then step plain-x86-64 old_processor; else skip plain-x86-64 "no qemu-x86_64 here (Debian: qemu-user)"; fi
if have aarch64-linux-gnu-gcc; then step aarch64-compiles aarch64_compiles && step aarch64-kernels tools/check-aarch64.sh; else skip aarch64 "no aarch64-linux-gnu-gcc here"; fi
step memory-nodes memory_nodes
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
echo "long tests passed"
