#!/bin/sh
# format.sh [--check]: clang-format over all C files, or only a look at what it would change. Without clang-format: says so, exit 0.
# Versions of the tool differ in details, so this is no part of `make test`.
set -eu
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null 2>&1; then
    echo "format: clang-format is not here (Debian: apt-get install clang-format); nothing done"
    exit 0
fi
# Public headers and *.inc are tables for readers: laid out by hand.
files=$(git ls-files 'src/*.c' 'src/*.h' 'apps/*.c' 'apps/*.h' 'tests/*.c' 'tests/*.h' 'fuzz/*.c')
[ -n "$files" ] || exit 0
if [ "${1:-}" = --check ]; then
    # shellcheck disable=SC2086
    clang-format --dry-run --Werror $files && echo "format: $(echo "$files" | wc -l) files as clang-format wants them"
else
    # shellcheck disable=SC2086
    clang-format -i $files
fi
