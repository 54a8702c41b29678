"""PyTorch's own ways to train on several ranks, over the model, weights, rows and AdamW of train.py, on CPUs by Gloo.

    torchrun --standalone --nproc-per-node 2 distributed.py ROWS MODEL --mode ddp|zero1|fsdp [--warmup 2] [--steps 5]
    distributed.py ROWS MODEL --mode alone

`ddp` is DistributedDataParallel; `zero1` the same with ZeroRedundancyOptimizer; `fsdp` is FSDP2, `fully_shard` of every layer and
of the model; `alone` is one process with the plain model. fp32, eager. Every rank has as many rows of each step; losses and gradients are sums over all ranks' tokens, divided
by their number over all ranks.

Rank 0 prints a JSON line: its seconds of each step, losses, and what a rank communicates in one: the bytes of every collective
of a further step, seen where they are dispatched. What a rank sends, as rings do it, with n the bytes of the whole tensor: (W - 1)/W n
of a gather, a scatter or (the mean over ranks) a broadcast, twice that of an all-reduce.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from optimizers import CLIP, adamw, set_rate
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from train import Rows, load

# Of each collective: the argument that holds the whole, and how often a rank sends its share of it.
COLLECTIVES = {
    "c10d::allreduce_": (0, 2),
    "c10d::broadcast_": (0, 1),
    "c10d::_allgather_base_": (0, 1),
    "c10d::allgather_": (0, 1),
    "c10d::_reduce_scatter_base_": (1, 1),
    "c10d::reduce_scatter_": (1, 1),
    "_c10d_functional::all_reduce": (0, 2),
    "_c10d_functional::all_reduce_": (0, 2),
}
SILENT = {"c10d::barrier", "_c10d_functional::wait_tensor", "_c10d_functional::_wrap_tensor_autograd"}


class Communicated(TorchDispatchMode):
    """Counts what collectives send; one that it does not know is an error, never a zero."""

    def __init__(self):
        super().__init__()
        self.bytes = 0.0
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if DTensor in types:
            return NotImplemented  # its own dispatch comes back with the local tensors
        name = function._schema.name
        if name.startswith(("c10d::", "_c10d_functional::")) and name not in SILENT:
            where, times = COLLECTIVES[name]
            world = dist.get_world_size()
            self.bytes += times * (world - 1) / world * sum(t.nbytes for t in tensors(arguments[where]))
            self.calls[name.split("::")[1].strip("_")] += 1
        return function(*arguments, **(keywords or {}))


def tensors(argument) -> list[torch.Tensor]:
    if isinstance(argument, torch.Tensor):
        return [argument]
    return [tensor for part in argument for tensor in tensors(part)]


class Share(Rows):
    """This rank's rows, and how many tokens all ranks train in a step."""

    def __init__(self, file: Path, rank: int, world: int):
        super().__init__(file)
        rows = self.tokens.shape[1]
        assert rows % world == 0, f"{rows} rows are not shared evenly by {world} ranks"
        self.trained = (self.targets != -100).sum((1, 2)).tolist()
        mine = slice(rank * rows // world, (rank + 1) * rows // world)
        self.tokens, self.targets, self.positions = (
            x[:, mine].contiguous() for x in (self.tokens, self.targets, self.positions))

    def of(self, step: int) -> dict:
        return super().of(step) | {"num_items_in_batch": self.trained[step % len(self.trained)]}


class Loop:
    def __init__(self, mode: str, rows: Share, model: torch.nn.Module):
        self.rows, self.made = rows, 0
        self.scale = 1
        if mode == "fsdp":
            for part in [*model.model.layers, model]:
                fully_shard(part)
                assert isinstance(part, FSDPModule)
                part.set_gradient_divide_factor(1.0)  # gradients are sums
                part.set_force_sum_reduction_for_comms(True)  # Gloo has no other
            self.model = model
        elif mode == "alone":
            self.model = model
        else:
            # Buffers are those of RoPE, the same everywhere; DDP takes the mean of gradients, ours is their sum.
            self.model = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
            self.scale = dist.get_world_size()
        self.weights = list(self.model.parameters())
        self.optimizer = adamw(self.weights)
        if mode == "zero1":
            groups = [{"params": group["params"], "weight_decay": group["weight_decay"]}
                      for group in self.optimizer.param_groups]
            self.optimizer = ZeroRedundancyOptimizer(
                groups, torch.optim.AdamW, parameters_as_bucket_view=True,
                lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def step(self) -> torch.Tensor:
        """This rank's share of the loss."""
        rate = self.rows.rates[self.made % len(self.rows.rates)]
        loss = self.model(**self.rows.of(self.made)).loss
        (loss * self.scale).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.made += 1
        return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mode", choices=["alone", "ddp", "zero1", "fsdp"], required=True)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rank, world = 0, 1
    if arguments.mode != "alone":
        dist.init_process_group("gloo")
        rank, world = dist.get_rank(), dist.get_world_size()
    rows = Share(arguments.rows, rank, world)
    loop = Loop(arguments.mode, rows, load(arguments.model))
    losses, seconds = [], []
    for _ in range(arguments.warmup + arguments.steps):
        begin = time.perf_counter()
        losses.append(loop.step())
        seconds.append(time.perf_counter() - begin)
    with Communicated() as communicated:
        loop.step()
    losses = torch.stack(losses).double()
    if world > 1:
        dist.all_reduce(losses)
    if rank == 0:
        print(json.dumps({
            "program": "pytorch", "mode": arguments.mode, "ranks": world, "model": arguments.rows.stem,
            "seconds": seconds[arguments.warmup:], "losses": losses.tolist(),
            "communicated_bytes": round(communicated.bytes), "calls": communicated.calls,
            "tokens": rows.tokens[0].numel() * world, "parameter_bytes": sum(w.numel() * 4 for w in loop.weights),
        }), flush=True)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
    os._exit(0)  # under load a rank of DDP once did not come back from Python's own end


if __name__ == "__main__":
    main()
