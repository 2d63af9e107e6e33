#!/usr/bin/env bash
# A program is captured while it runs, and goes on on a machine without an operating system (in QEMU).
# Called by ./x demo with WAYFARE and GUESTS set.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"

"$WAYFARE" run "$GUESTS/sha256.wasm" -- 200 >"$work/whole"

"$WAYFARE" run --name hash "$GUESTS/sha256.wasm" -- 200 >"$work/before" &
task=$!
for try in $(seq 200); do
    if "$WAYFARE" ps -o json 2>/dev/null | grep -q '"hash"'; then break; fi
    sleep 0.05
done
sleep 0.2
"$WAYFARE" capture hash -o "$work/hash.snap"
wait "$task" || (($? == 75))

"$WAYFARE" unikernel build --target x86_64 --task "$GUESTS/sha256.wasm" --snapshot "$work/hash.snap" -o "$work/node.img"
"$WAYFARE" unikernel run "$work/node.img" --memory 16M | tee "$work/after"
if cat "$work/before" "$work/after" | cmp -s "$work/whole"; then
    echo "captured here, ended on bare metal with 16 MiB of memory: output identical to an undisturbed run"
else
    echo "bare metal: OUTPUT DIFFERS"
    exit 1
fi
