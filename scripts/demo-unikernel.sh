#!/usr/bin/env bash
# A server and three machines without an operating system, one for each kind of processor, in QEMU: a computation goes from
# one to the next while it runs, and comes back.
# Called by ./x demo with WAYFARE and GUESTS set.
set -euo pipefail

work=$(mktemp -d)
started=()
finish() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT
export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data WAYFARE_STATE=$work/server
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"

# eventually command...: waits until it succeeds.
eventually() {
    local try
    for try in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    cat "$work"/*.log >&2
    exit 1
}

has_joined() { "$WAYFARE" nodes | grep -q "^$1 "; }

address=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
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
