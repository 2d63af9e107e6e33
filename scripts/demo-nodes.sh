#!/usr/bin/env bash
# Two nodes on this machine, one x86-64, one AArch64 under qemu-user: a computation and a service move between them
# while they work, and the service's clients do not notice.
# Called by ./x demo with WAYFARE, WAYFARE_AARCH64 (a command) and GUESTS set.
set -euo pipefail

work=$(mktemp -d)
agents=()
finish() {
    for agent in "${agents[@]}"; do kill "$agent" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT
# One user on one machine: both nodes share the cache, where images for both instruction sets are.
export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
read -ra aarch64 <<<"$WAYFARE_AARCH64"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
server=$(free_port) gateway=$(free_port) port=$(free_port)

# serve name address command...: starts an agent and waits until it answers.
serve() {
    local name=$1 address=$2 try
    shift 2
    WAYFARE_STATE=$work/$name "$@" node serve --listen "$address" 2>"$work/$name.log" &
    agents+=($!)
    for try in $(seq 300); do
        if WAYFARE_STATE=$work/$name "$WAYFARE" nodes >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    cat "$work/$name.log" >&2
    exit 1
}

on() {
    local name=$1
    shift
    WAYFARE_STATE=$work/$name "$WAYFARE" "$@"
}

# Compiling for both instruction sets is work for this machine, not for the emulated one.
for program in sha256 echo; do
    "$WAYFARE" compile "$GUESTS/$program.wasm" --target aarch64 -o "$work/$program.img"
done
on server node init --cluster demo --name server >/dev/null
serve server "127.0.0.1:$server" "$WAYFARE"
on gateway node join "$(on server node invite)@127.0.0.1:$server" --name gateway >/dev/null
serve gateway "127.0.0.1:$gateway" "${aarch64[@]}"
until on server nodes | grep -q gateway; do sleep 0.1; done
on server nodes
echo

"$WAYFARE" run "$GUESTS/sha256.wasm" -- 400 >"$work/whole"
on server run --detach --name hash "$GUESTS/sha256.wasm" -- 400 >/dev/null
on server run --detach --name echo --publish "$port" "$GUESTS/echo.wasm" >/dev/null
python3 scripts/talk.py "$port" 20 &
talk=$!
sleep 0.5
on server migrate hash --to gateway
on server migrate echo --to gateway
sleep 2
on gateway migrate hash --to server --mode post-copy
on gateway migrate echo --to server
sleep 1
on server migrate echo --to gateway
wait "$talk"
on server logs -f hash >"$work/moved"
if cmp -s "$work/whole" "$work/moved"; then
    echo "hash: output identical to an undisturbed run"
else
    echo "hash: OUTPUT DIFFERS"
    exit 1
fi
