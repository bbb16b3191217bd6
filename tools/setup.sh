#!/bin/sh
# setup.sh build|demo|test: finds what this machine lacks for `make`, `make demo` or `make test`, says so, and installs it.
#
# Debian and its relatives: apt-get, with sudo when not root. Other systems: the names are printed in their own spelling.
# QUERN_NO_INSTALL=1 only prints, and exits 1 if something is missing. Silent and quick when nothing is.
set -u
mode=${1:-build}

missing="" # tools and libraries by our own names, see package_name
need_tool() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

need_compiler() {
    cc=${CC:-cc}
    command -v "${cc%% *}" >/dev/null 2>&1 || missing="$missing compiler"
}

# CMake is wanted at 3.25 or later (Debian 12 has it).
need_cmake() {
    version=$(cmake --version 2>/dev/null | sed -n '1s/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    if [ -z "$version" ]; then
        missing="$missing cmake"
        return
    fi
    # shellcheck disable=SC2086
    set -- $version
    if [ "$1" -lt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -lt 25 ]; }; then
        echo "setup: cmake $1.$2 is here; 3.25 or later is needed (python3 -m pip install cmake has a current one)" >&2
        exit 1
    fi
}

# All libraries in one question; only when that fails, one by one.
need_libraries() {
    if ! command -v pkg-config >/dev/null 2>&1; then
        missing="$missing pkg-config $*"
        return
    fi
    pkg-config --exists "$@" && return
    for library in "$@"; do
        pkg-config --exists "$library" || missing="$missing $library"
    done
}

need_compiler
need_tool make make
need_cmake
case $mode in
test) need_libraries jansson libcrypto libpcre2-8 libutf8proc libedit cmocka ;;
*) need_libraries jansson libcrypto libpcre2-8 libutf8proc libedit ;;
esac
case $mode in
test | demo) need_tool python3 python3 ;;
esac
case $mode in
test) need_tool gnuplot gnuplot ;;
esac
[ -z "$missing" ] && exit 0

# package_name MANAGER THING: what the thing is called there. Columns: apt dnf pacman zypper apk brew.
package_name() {
    case $2 in
    compiler) row="gcc gcc gcc gcc gcc gcc" ;;
    make) row="make make make make make make" ;;
    cmake) row="cmake cmake cmake cmake cmake cmake" ;;
    pkg-config) row="pkg-config pkgconf-pkg-config pkgconf pkg-config pkgconf pkgconf" ;;
    jansson) row="libjansson-dev jansson-devel jansson libjansson-devel jansson-dev jansson" ;;
    libcrypto) row="libssl-dev openssl-devel openssl libopenssl-devel openssl-dev openssl@3" ;;
    libpcre2-8) row="libpcre2-dev pcre2-devel pcre2 pcre2-devel pcre2-dev pcre2" ;;
    libutf8proc) row="libutf8proc-dev utf8proc-devel libutf8proc utf8proc-devel utf8proc-dev utf8proc" ;;
    libedit) row="libedit-dev libedit-devel libedit libedit-devel libedit-dev libedit" ;;
    cmocka) row="libcmocka-dev libcmocka-devel cmocka libcmocka-devel cmocka-dev cmocka" ;;
    gnuplot) row="gnuplot-nox gnuplot gnuplot gnuplot gnuplot gnuplot" ;;
    python3) row="python3 python3 python python3 python3 python3" ;;
    esac
    column=1
    for manager in apt dnf pacman zypper apk brew; do
        [ "$manager" = "$1" ] && break
        column=$((column + 1))
    done
    echo "$row" | cut -d' ' -f$column
    # A bare gcc package has no C library headers on these two.
    if [ "$2" = compiler ]; then
        case $1 in apt) echo libc6-dev ;; apk) echo musl-dev linux-headers ;; esac
    fi
}

packages_of() {
    for thing in $missing; do
        package_name "$1" "$thing"
    done | tr '\n' ' ' | sed 's/ $//'
}

echo "setup: this machine lacks:$missing"
sudo=""
[ "$(id -u)" -ne 0 ] && sudo="sudo "
if command -v apt-get >/dev/null 2>&1; then
    packages=$(packages_of apt)
    if [ "${QUERN_NO_INSTALL:-0}" = 1 ]; then
        echo "setup: QUERN_NO_INSTALL=1, so nothing is installed. The command would be:"
        echo "    ${sudo}apt-get install --no-install-recommends $packages"
        exit 1
    fi
    if [ -n "$sudo" ] && ! command -v sudo >/dev/null 2>&1; then
        echo "setup: not root and no sudo here. As root, run: apt-get install --no-install-recommends $packages" >&2
        exit 1
    fi
    echo "setup: installing with apt-get: $packages"
    export DEBIAN_FRONTEND=noninteractive
    # An old or absent package list is the usual cause of a failure, so the list is renewed only then.
    # shellcheck disable=SC2086
    install() { ${sudo:+sudo -E} apt-get install -y -q --no-install-recommends $packages; }
    if ! install >/dev/null 2>&1; then
        ${sudo:+sudo -E} apt-get update -q || echo "setup: apt-get update failed; trying with the list that is here" >&2
        if ! install; then
            echo "setup: apt-get could not install: $packages" >&2
            exit 1
        fi
    fi
    echo "setup: done"
    exit 0
fi
for manager in dnf pacman zypper apk brew; do
    command -v "$manager" >/dev/null 2>&1 || continue
    case $manager in
    dnf | zypper) verb="install" ;;
    pacman) verb="-S --needed" ;;
    apk) verb="add" ;;
    brew) verb="install" sudo="" ;;
    esac
    echo "setup: install them and run make again:"
    echo "    ${sudo}$manager $verb $(packages_of "$manager")"
    exit 1
done
echo "setup: no package manager known here. Debian calls them: $(packages_of apt)" >&2
exit 1
