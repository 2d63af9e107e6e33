#!/usr/bin/env bash
# Moves two programs between x86-64 and AArch64 while they run, and compares with an undisturbed run.
# Called by ./x demo with WAYFARE, WAYFARE_AARCH64 (a command) and GUESTS set.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
read -ra aarch64 <<<"$WAYFARE_AARCH64"

# capture_when_it_runs name output: waits until the task is there and has worked for a moment.
capture() {
    local name=$1 output=$2 try
    for try in $(seq 200); do
        if "$WAYFARE" ps -o json 2>/dev/null | grep -q "\"$name\""; then break; fi
        sleep 0.05
    done
    sleep "$3"
    "$WAYFARE" capture "$name" -o "$output" --json
}

# A task that was captured ends with status 75.
expect_captured() {
    local status=0
    wait "$1" || status=$?
    ((status == 75)) || {
        echo "the task ended with status $status before it was captured" >&2
        exit 1
    }
}

field() { sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" <<<"$2" | head -n 1; }

row() { printf '%-9s %-9s %14s %12s  %s\n' "$@"; }

move() {
    local name=$1 wasm=$2 image=$work/$1.aarch64.img first second result status
    local whole=$work/$1.whole out=$work/$1.out
    shift 2
    # Compiling for both ISAs is work for this machine, not for the emulated one.
    "$WAYFARE" compile "$wasm" -o "$work/$name.x86_64.img"
    "$WAYFARE" compile "$wasm" --target aarch64 -o "$image"
    "$WAYFARE" run "$wasm" -- "$@" >"$whole"

    "$WAYFARE" run --name "$name" "$wasm" -- "$@" >"$out" 2>/dev/null &
    first=$(capture "$name" "$work/$name.1.snap" 0.3)
    expect_captured $!
    row "$name" x86-64 "$(field bytes "$first")" "$(($(field pause_ns "$first") / 1000)) us" captured

    "${aarch64[@]}" resume "$work/$name.1.snap" --program "$image" >>"$out" 2>/dev/null &
    second=$(capture "$name" "$work/$name.2.snap" 2)
    expect_captured $!
    row "$name" AArch64 "$(field bytes "$second")" "$(($(field pause_ns "$second") / 1000)) us" captured

    status=0
    "$WAYFARE" resume "$work/$name.2.snap" >>"$out" || status=$?
    result="finished, output identical to an undisturbed run"
    cmp -s "$whole" "$out" || result="finished, OUTPUT DIFFERS"
    row "$name" x86-64 - - "$result"
    ((status == 0)) && cmp "$whole" "$out"
}

row program ran-on snapshot-bytes pause result
move sqlite "$GUESTS/sqlite.wasm" 200000
move npb_cg "$GUESTS/npb_cg.wasm" A
