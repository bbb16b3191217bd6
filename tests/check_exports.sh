#!/bin/sh
# check_exports.sh LIBQUERN.SO INCLUDE_DIR: the shared library exports every function that the public headers declare,
# and nothing else.
set -eu
exported=$(nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort -u)
foreign=$(echo "$exported" | grep -v '^quern_' || true)
if [ -n "$foreign" ]; then
    echo "exported, but not quern_*:"
    echo "$foreign"
    exit 1
fi
declared=$(cat "$2"/quern/*.h | tr '\n' ' ' | grep -o 'QUERN_API [^;(]*[ *]quern_[a-z0-9_]*(' | sed 's/.*[ *]\(quern_[a-z0-9_]*\)($/\1/' | sort -u)
lost=$(printf '%s\n%s\n%s\n' "$declared" "$exported" "$exported" | sort | uniq -u)
extra=$(printf '%s\n%s\n%s\n' "$exported" "$declared" "$declared" | sort | uniq -u)
status=0
if [ -n "$lost" ]; then
    echo "declared in include/quern but not in the library:"
    echo "$lost"
    status=1
fi
if [ -n "$extra" ]; then
    echo "exported but not declared in include/quern:"
    echo "$extra"
    status=1
fi
echo "$(echo "$declared" | wc -l) public functions, $(echo "$exported" | wc -l) exported symbols"
exit $status
