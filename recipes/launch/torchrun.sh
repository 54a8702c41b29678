#!/usr/bin/env bash
# hephaestus-train on all GPUs of one node, or of several, by torchrun. docs/scaling-out.md explains.
#
#   recipes/launch/torchrun.sh RECIPE [ARGUMENT...]                                   # this node
#   NODES=2 HEAD=node0:29400 RUN=night recipes/launch/torchrun.sh RECIPE ...          # on each of two nodes
#   NODES=1:2 HEAD=node0:29400 RUN=night recipes/launch/torchrun.sh RECIPE ...        # one node, and a second while it is there
#   RANKS=2 recipes/launch/torchrun.sh RECIPE --set device.kind=cpu                   # two processes on the CPU
#
# HEAD is where ranks meet: a node of the job that all others reach, and a free port there. RUN is any name, the same on all
# nodes and no other job's. RESTARTS is how often all ranks are started again after a failure (3); they go on from the newest
# checkpoint. PROGRAM and TORCHRUN are paths of the two, where PATH does not find them. run.output is one folder for all nodes.
set -euo pipefail
recipe=${1:?RECIPE is missing: recipes/launch/torchrun.sh RECIPE [ARGUMENT...]}
shift

nodes=${NODES:-1} ranks=${RANKS:-gpu}
if [ "$nodes" = 1 ]; then
    meeting=(--standalone)
else
    meeting=(
        --rdzv-backend=c10d
        --rdzv-endpoint="${HEAD:?HEAD is missing: HOST:PORT of one of the nodes}"
        --rdzv-id="${RUN:?RUN is missing: a name of this job, the same on all nodes}"
    )
    # By default torchrun keeps the ranks' store too, and a node that comes later, or in the place of another, never learns
    # where (torch 2.11): a rank keeps it.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
fi

# The interface that nodes reach each other by, where NCCL or Gloo take another; the InfiniBand adapters, where not all are meant.
# export NCCL_SOCKET_IFNAME=eth0 GLOO_SOCKET_IFNAME=eth0
# export NCCL_IB_HCA=mlx5_0,mlx5_1,mlx5_2,mlx5_3
# What NCCL finds and chooses, to be read once on a new machine.
# export NCCL_DEBUG=INFO

exec "${TORCHRUN:-torchrun}" "${meeting[@]}" --nnodes="$nodes" --nproc-per-node="$ranks" --max-restarts="${RESTARTS:-3}" \
    --no-python "${PROGRAM:-hephaestus-train}" --recipe "$recipe" "$@"
