#!/bin/sh
# Two nodes on one machine: two network namespaces with addresses of their own, joined by a link that is cut while ranks run.
#
#   two-nodes.sh LOGS RANKS WHEN COMMAND [ARGUMENT...]
#
# runs COMMAND as RANKS ranks on each node, with the variables that torchrun would set (and NODE, 0 or 1, so that with RANKS 1
# the command may be a torchrun of its own). When the file WHEN is there, or that many seconds have passed, it runs CUT; by
# default that takes node-a's end of the link down, `true` cuts nothing, and where the kernel has netem,
# `tc qdisc add dev veth-a root netem loss 100%` loses packets silently. LOGS/log-N is what rank N said and LOGS/code-N how it
# ended. Needs unshare, nsenter and ip, no root.
set -eu
if [ "${TWO_NODES:-}" != inside ]; then
    # All that is started here ends with it.
    TWO_NODES=inside exec unshare --user --map-root-user --net --uts --pid --fork --kill-child --mount-proc "$0" "$@"
fi
logs=$1 ranks=$2 when=$3
shift 3

hostname node-a
unshare --net --uts sh -c 'hostname node-b && exec sleep 100000' &
other=$!
until [ "$(nsenter --target $other --uts hostname)" = node-b ]; do sleep 0.05; done
on_b() { nsenter --target $other --net --uts "$@"; }
ip link add name veth-a type veth peer name veth-b netns $other
ip address add 10.77.0.1/24 dev veth-a
ip link set dev lo up
ip link set dev veth-a up
on_b ip address add 10.77.0.2/24 dev veth-b
on_b ip link set dev lo up
on_b ip link set dev veth-b up

started=
rank=0
while [ $rank -lt $((2 * ranks)) ]; do
    node=$((rank / ranks))
    if [ $node = 0 ]; then on= link=veth-a; else on=on_b link=veth-b; fi
    (
        export RANK=$rank WORLD_SIZE=$((2 * ranks)) LOCAL_RANK=$((rank % ranks)) LOCAL_WORLD_SIZE="$ranks" NODE=$node
        export MASTER_ADDR=10.77.0.1 MASTER_PORT="${PORT:-29500}" GLOO_SOCKET_IFNAME=$link NCCL_SOCKET_IFNAME=$link
        code=0
        $on "$@" >"$logs/log-$rank" 2>&1 || code=$?
        echo $code >"$logs/code-$rank"
    ) &
    started="$started $!"
    rank=$((rank + 1))
done

running() {
    for one in $started; do if kill -0 "$one" 2>/dev/null; then return 0; fi; done
    return 1
}
case $when in
    *[!0-9]*) until [ -e "$when" ] || ! running; do sleep 0.1; done ;;
    *) sleep "$when" ;;
esac
sh -c "${CUT:-ip link set dev veth-a down}"
for one in $started; do wait "$one"; done
kill $other
