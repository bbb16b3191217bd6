#!/bin/sh
# check-numa.sh [BUILD]: what Quern does on a machine whose processors have memory of their own, in an emulated one: two nodes with two processors each,
# and one of one node with one processor and one with three. Runs test_numa there (where pages of files and of plain memory lie, warm and from a disk)
# and lets the built-in model write with and without nodes. Correctness only: an emulator has no near and far memory.
# Needs qemu-system-x86_64, busybox (static), cpio, mke2fs and a Linux kernel, KERNEL=FILE (default: the newest in /boot that can be read), with ext4 and
# NVMe built in; without these the part about a disk is skipped.
# Debian: qemu-system-x86 busybox-static cpio e2fsprogs linux-image-cloud-amd64 (it need not be installed: dpkg -x will do).
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
skip() {
    echo "SKIP: check-numa: $1"
    exit 77
}
for tool in qemu-system-x86_64 busybox cpio mke2fs; do
    command -v "$tool" >/dev/null 2>&1 || skip "no $tool here"
done
kernel=${KERNEL:-$(find /boot -name 'vmlinuz-*' -readable 2>/dev/null | sort -V | tail -n 1)}
[ -n "$kernel" ] && [ -r "$kernel" ] || skip "no kernel to boot (KERNEL=...)"
[ "$(uname -m)" = x86_64 ] || skip "the machine that is emulated runs programs for x86-64, not $(uname -m)'s"
[ -x "$build/test_numa" ] && [ -x "$build/quern" ] || {
    echo "check-numa: build $build first" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
root=$scratch/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root$PWD/tests/data/goldens"
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$build/quern" "$build/test_numa" "$root/bin/"
# the shared libraries of both, at their own places
for library in $(ldd "$build/quern" "$build/test_numa" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/lib[^ ]*ld-[^ ]*\) .*/\1/p' | sort -u); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
for name in gguf/quant/qwen3.Q4_K_M.gguf mlx/qwen3.q4_g64; do
    mkdir -p "$root$PWD/tests/data/goldens/$(dirname $name)"
    cp -r "tests/data/goldens/$name" "$root$PWD/tests/data/goldens/$name"
done
if [ -d ../shared/goldens/hf/qwen3_moe ]; then # experts too, where they are beside the checkout
    mkdir -p "$root$(dirname "$PWD")/shared/goldens/hf"
    cp -r ../shared/goldens/hf/qwen3_moe "$root$(dirname "$PWD")/shared/goldens/hf/"
fi
mkdir -p "$root$PWD/models" && cp -r models/quern-coder-8m "$root$PWD/models/"
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir /tmp/disk
for second in 1 2 3 4 5; do [ -e /dev/nvme0n1 ] || sleep 1; done
mount -t ext4 /dev/nvme0n1 /tmp/disk && echo "a disk: ext4" || echo "SKIP: check-numa, reading from a disk: this kernel has no NVMe or ext4 built in"
failed=0
[ "$(quern doctor --json | grep -o '"id":' | wc -l)" = 2 ] || { echo "the machine has not got two memory nodes"; failed=1; }
for place in /tmp /tmp/disk; do
    echo "---- test_numa in $place"
    TMPDIR=$place test_numa >/tmp/said 2>&1 || failed=1
    cat /tmp/said
    grep -q 'SKIP: memory_nodes' /tmp/said && failed=1
done
echo "---- the program"
quern doctor | sed -n '/^threads/p; /^memory nodes/p'
say() { quern run demo "Write a Python function that adds two numbers." --temp 0 -n 24 -q --threads 4; }
say >/tmp/with && QUERN_NUMA=off say >/tmp/without && cmp /tmp/with /tmp/without || failed=1
cat /tmp/with
[ "$failed" = 0 ] && echo "numa: machine passed" || echo "numa: machine failed"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$scratch/initramfs.gz"

# machine NAME NODE_OPTIONS...: boots it; its serial line is what we see
machine() {
    echo "==== $1"
    shift
    rm -f "$scratch/disk"
    truncate -s 256M "$scratch/disk"
    mke2fs -q -t ext4 "$scratch/disk"
    timeout --foreground 900 qemu-system-x86_64 -accel tcg -cpu max -smp 4 -m 1536M "$@" -kernel "$kernel" -initrd "$scratch/initramfs.gz" -nographic -no-reboot \
        -append "console=ttyS0 quiet panic=-1" -drive "file=$scratch/disk,if=none,id=disk,format=raw" -device nvme,drive=disk,serial=1 </dev/null >"$scratch/log" 2>&1 || true
    tr -d '\r' <"$scratch/log" | sed -n 's/^.*\(a disk: ext4\|SKIP: check-numa.*\)$/\1/p; /^the machine has not/p; /^---- test_numa in .tmp$/,$p'
    tr -d '\r' <"$scratch/log" | grep -qx 'numa: machine passed' || {
        tail -n 40 "$scratch/log"
        echo "check-numa: failed"
        exit 1
    }
}
machine "two nodes, two processors each" -object memory-backend-ram,id=m0,size=768M -object memory-backend-ram,id=m1,size=768M \
    -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1
machine "one processor and three" -object memory-backend-ram,id=m0,size=768M -object memory-backend-ram,id=m1,size=768M \
    -numa node,nodeid=0,cpus=1,memdev=m0 -numa node,nodeid=1,cpus=0,cpus=2-3,memdev=m1
echo "numa: all passed"
