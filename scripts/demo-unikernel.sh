#!/usr/bin/env bash
# A server and three machines without an operating system, one for each kind of processor, in QEMU: a computation goes from
# one to the next while it runs, and comes back.
# Called by ./x demo with WAYFARE and GUESTS set.
set -euo pipefail

# shellcheck source=scripts/demo-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-common.sh"
export WAYFARE_STATE=$work/server

has_joined() { "$WAYFARE" nodes | grep -q "^$1 "; }

address=127.0.0.1:$(free_port)
"$WAYFARE" node init --cluster demo --name server >/dev/null
"$WAYFARE" node serve --listen "$address" 2>"$work/server.log" &
started+=($!)
eventually "$WAYFARE" nodes
for target in aarch64 riscv64 x86_64; do
    board=board-${target/_/-}
    "$WAYFARE" unikernel build --target "$target" --join "$("$WAYFARE" node invite)@$address" --name "$board" -o "$work/$board.img"
    "$WAYFARE" unikernel run "$work/$board.img" --memory 32M >"$work/$board.log" 2>&1 &
    started+=($!)
    eventually has_joined "$board"
done
"$WAYFARE" nodes
echo

"$WAYFARE" run "$GUESTS/sha256.wasm" -- 300 >"$work/whole"
"$WAYFARE" run --detach --name hash "$GUESTS/sha256.wasm" -- 300 >/dev/null
for node in board-aarch64 board-riscv64 board-x86-64 server; do
    sleep 0.5
    "$WAYFARE" migrate hash --to "$node"
done
"$WAYFARE" logs -f hash >"$work/moved"
if cmp -s "$work/whole" "$work/moved"; then
    echo "hash: output identical to an undisturbed run"
else
    echo "hash: OUTPUT DIFFERS"
    exit 1
fi
