#!/bin/sh
# run_fuzz.sh SECONDS JOBS [NAME...]: every fuzz target (or those named) under libFuzzer for SECONDS each.
# build-fuzz/history.txt adds up what was run. Crashing inputs stay in build-fuzz/findings; inputs that reach new code are kept in build-fuzz/corpus for the next run.
set -eu
cd "$(dirname "$0")/.."
seconds=$1 jobs=$2
shift 2
if ! command -v clang >/dev/null 2>&1; then
    echo "make fuzz needs clang (Debian: apt-get install clang)" >&2
    exit 1
fi
cmake -S . -B build-fuzz --log-level=WARNING -DCMAKE_C_COMPILER=clang -DQUERN_SANITIZE=address -DQUERN_FUZZ=ON \
    -DQUERN_TESTS=OFF -DQUERN_WERROR=OFF >/dev/null
cmake --build build-fuzz --parallel "$jobs" --target fuzzers
mkdir -p build-fuzz/findings build-fuzz/log
failed=0
summary=build-fuzz/summary.txt
printf '%-24s %10s %10s %8s %8s  %s\n' target executions per_second cover corpus result >"$summary"
for source in fuzz/fuzz_*.c; do
    [ -f "$source" ] || continue
    name=$(basename "$source" .c)
    corpus=${name#fuzz_}
    if [ $# -gt 0 ]; then
        case " $* " in *" $corpus "*) ;; *) continue ;; esac
    fi
    mkdir -p "build-fuzz/corpus/$corpus"
    log=build-fuzz/log/$name.txt
    dictionary=""
    [ -f "fuzz/$corpus.dict" ] && dictionary="-dict=fuzz/$corpus.dict"
    echo "== $name for $seconds s"
    result=ok
    # shellcheck disable=SC2086
    build-fuzz/"$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 $dictionary \
        -artifact_prefix="build-fuzz/findings/$corpus-" "build-fuzz/corpus/$corpus" "fuzz/corpus/$corpus" >"$log" 2>&1 || {
        result="FAILED, see $log"
        failed=1
    }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    kept=$(find "build-fuzz/corpus/$corpus" -type f | wc -l)
    printf '%-24s %10s %10s %8s %8s  %s\n' "$name" "${executions:--}" "${rate:--}" "${cover:--}" "$kept" "$result" >>"$summary"
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $name ${seconds}s ${executions:-0} executions: $result" >>build-fuzz/history.txt
done
cat "$summary"
exit $failed
