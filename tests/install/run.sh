#!/bin/sh
# run.sh BUILD_DIR CC: installs into a temporary DESTDIR, then builds and runs an outside program against what is there,
# with pkg-config alone: once with the shared library and once with the static one.
set -eu
build=$1 cc=$2
here=$(cd "$(dirname "$0")" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR="$stage" cmake --install "$build" --prefix /opt/quern >/dev/null
prefix=$stage/opt/quern
pc=$(find "$prefix" -name quern.pc)
libdir=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH

# shellcheck disable=SC2046
$cc -std=c17 -Wall -Wextra -Werror $(pkg-config --cflags quern) -o "$stage/shared" "$here/outside.c" $(pkg-config --libs quern)
LD_LIBRARY_PATH=$libdir "$stage/shared" >"$stage/shared.txt"
# The program with the shared library must need it, and it alone of the two: the third-party libraries are its own affair.
ldd "$stage/shared" | grep -q libquern || LD_LIBRARY_PATH=$libdir ldd "$stage/shared" | grep -q "libquern.*$libdir"

static_libs=$(pkg-config --static --libs quern | sed "s# -lquern # $libdir/libquern.a #")
case $static_libs in *libquern.a*) ;; *) echo "pkg-config --static --libs has no -lquern: $static_libs"; exit 1 ;; esac
foreign=$(nm -g --defined-only "$libdir/libquern.a" | awk 'NF == 3 && $3 !~ /^quern_/ { print $3 }')
if [ -n "$foreign" ]; then
    echo "libquern.a lets more than quern_* be linked to:"
    echo "$foreign" | head
    exit 1
fi
# shellcheck disable=SC2046,SC2086
$cc -std=c17 -Wall -Wextra -Werror $(pkg-config --cflags quern) -o "$stage/static" "$here/outside.c" $static_libs
"$stage/static" >"$stage/static.txt"
if ldd "$stage/static" | grep -q libquern; then
    echo "the static program still needs libquern.so"
    exit 1
fi
grep -q '^QUERN_OK done$' "$stage/shared.txt"
cmp "$stage/shared.txt" "$stage/static.txt"
if [ -x "$build/quern" ]; then
    "$prefix/bin/quern" help >/dev/null
    echo "installed program runs"
fi
echo "outside program ran with the shared and with the static library"
