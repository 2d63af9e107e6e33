#!/usr/bin/env bash
# Two nodes on this machine, one x86-64, one AArch64 under qemu-user: a computation and a service move between them
# while they work, and the service's clients do not notice.
# Called by ./x demo with WAYFARE, WAYFARE_AARCH64 (a command) and GUESTS set.
set -euo pipefail

# One user on one machine: both nodes share the cache, where images for both instruction sets are.
# shellcheck source=scripts/demo-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-common.sh"
read -ra aarch64 <<<"$WAYFARE_AARCH64"

server=$(free_port) gateway=$(free_port) port=$(free_port)

# serve name address command...: starts an agent and waits until it answers.
serve() {
    local name=$1 address=$2
    shift 2
    WAYFARE_STATE=$work/$name "$@" node serve --listen "$address" 2>"$work/$name.log" &
    started+=($!)
    eventually on "$name" nodes
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
