#!/usr/bin/env bash
# A program on a machine without an operating system: booted in QEMU, and compared with the same program here.
# Called by ./x demo with WAYFARE and GUESTS set.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"

"$WAYFARE" unikernel build --target x86_64 --task "$GUESTS/sha256.wasm" -o "$work/node.img" -- 20
"$WAYFARE" unikernel run "$work/node.img" --memory 16M | tee "$work/there"
"$WAYFARE" run "$GUESTS/sha256.wasm" -- 20 >"$work/here"
if cmp -s "$work/here" "$work/there"; then
    echo "bare metal, 16 MiB of memory: output identical to a run here"
else
    echo "bare metal: OUTPUT DIFFERS"
    exit 1
fi
