#!/usr/bin/env bash
# A monitor service on a server, its clients beside a gateway, and between the two a link that gets worse, breaks and comes
# back. The gateway is the standby: it goes on with the service, and gives it back. The client sends a sample 50 times a
# second and misses no answer. What happened is drawn.
# Called by ./x demo with WAYFARE, GUESTS and CHART (the file that is drawn) set.
set -euo pipefail

# shellcheck source=scripts/demo-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-common.sh"

on() {
    local name=$1
    shift
    WAYFARE_STATE=$work/$name "$WAYFARE" "$@"
}

# serve name listen advertised
serve() {
    WAYFARE_STATE=$work/$1 "$WAYFARE" node serve --listen "$2" --advertise "$3" 2>"$work/$1.log" &
    started+=($!)
    eventually on "$1" nodes
}

server=127.0.0.1:$(free_port) gateway=127.0.0.1:$(free_port) port=$(free_port)
to_server=127.0.0.1:$(free_port) to_gateway=127.0.0.1:$(free_port)
# Good for as long as it takes to set everything up and some seconds more; then worse and worse, gone, and good again.
cat >"$work/link.csv" <<'EOF'
t_s,rate_bps,delay_ms
0,160000000,5
18,40000000,20
22,8000000,60
25,2000000,150
27,0,150
37,20000000,40
39,160000000,5
EOF
on server node init --cluster demo --name server >/dev/null
"$WAYFARE" simulate link "$to_server=$server" "$to_gateway=$gateway" --trace "$work/link.csv" 2>"$work/link.log" &
started+=($!)
began=$SECONDS
serve server "$server" "$to_server"
on gateway node join "$(on server node invite)@$to_server" --name gateway >/dev/null
serve gateway "$gateway" "$to_gateway"
eventually bash -c "WAYFARE_STATE='$work/server' '$WAYFARE' nodes | grep -q gateway"

# Its clients connect to the gateway; it works on the server.
on gateway run --detach --name monitor --publish "$port" "$GUESTS/monitor.wasm" >/dev/null
on gateway migrate monitor --to server
on server protect monitor --standby gateway --max-loss 2s
on server protected
echo
python3 scripts/samples.py "$port" 45 &
samples=$!
on gateway protected monitor --plot "$CHART" --for 50s &
watched=$!
while ((SECONDS < began + 33)); do sleep 0.5; done
echo "the link is gone:"
on gateway ps
on gateway protected
echo
wait "$samples"
wait "$watched"
on gateway protected
for node in server gateway; do
    echo "on $node:"
    on $node ps -a
done
