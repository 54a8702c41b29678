"""The training loop a PyTorch user writes: transformers, fused AdamW, clipping at norm 1, over rows that ours has written.

    train.py ROWS MODEL --modes eager,whole,... [--weights autocast] [--checkpointing] [--warmup 2] [--rounds 1] [--steps 5]

MODEL is a config.json, for random weights, or a folder with weights. A JSON line a mode: seconds a step of each round, losses,
the most memory. Modes go on with the same model: `whole` compiles the model with its loss, `graphs` records it as CUDA graphs
besides, `layers` compiles each layer and the loss.

Rows hold documents one after another; positions restart with a document. On a GPU attention is `torch.nn.attention`'s
varlen_attn, FlashAttention over the documents without a mask, registered as transformers' own interface has it. On a CPU
transformers builds the block-diagonal causal mask by itself, the fastest correct way it has there: flattening all rows into one
would build a mask of N x N.

Weights are `fp32`; fp32 under `autocast` to bf16; or `masters`: bf16 weights and gradients whose fp32 masters are kept by
hand, in 16 bytes a parameter with AdamW's moments.
"""

import argparse
import contextlib
import gc
import json
import time
from pathlib import Path

import torch
import transformers
from optimizers import Masters, Plain
from safetensors.torch import load_file
from torch.nn.attention.varlen import varlen_attn

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")


def attend_to_documents(module, query, key, value, attention_mask, scaling=None, ends=None, longest=0, **_):
    """[1, heads, N, D] queries, keys and values; what autocast left in fp32 is rounded, as transformers' flash attention does."""
    query, key, value = (x[0].transpose(0, 1).to(torch.bfloat16) for x in (query, key, value))
    y = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0))
    return y[None], None


class Rows:
    """The batches of every step, on the device; cut to what the model takes there."""

    def __init__(self, file: Path):
        data = load_file(file)
        self.rates = data["rates"].tolist()
        self.tokens, self.targets, self.positions = (
            data[name].to(DEVICE) for name in ("tokens", "targets", "positions"))
        if ON_GPU:
            steps = self.tokens.shape[0]
            self.tokens, self.targets, self.positions = (
                x.reshape(steps, 1, -1) for x in (self.tokens, self.targets, self.positions))
            self.documents()

    def documents(self) -> None:
        """Where documents end, padded with empty ones to as many everywhere: shapes that do not change compile once."""
        tokens = self.tokens.shape[-1]
        ends = [torch.cat([(row[0] == 0).nonzero()[:, 0], row.new_tensor([tokens])]) for row in self.positions]
        self.longest = max(int(row.diff().max()) for row in ends)
        most = max(len(row) for row in ends)
        self.ends = [torch.nn.functional.pad(row, (0, most - len(row)), value=tokens).int() for row in ends]

    def of(self, step: int) -> dict:
        at = step % len(self.rates)
        inputs = {"input_ids": self.tokens[at], "position_ids": self.positions[at], "labels": self.targets[at],
                  "shift_labels": self.targets[at], "use_cache": False}
        return inputs | ({"ends": self.ends[at], "longest": self.longest} if ON_GPU else {})


def load(model: Path) -> torch.nn.Module:
    attention = "documents" if ON_GPU else "sdpa"
    transformers.AttentionInterface.register("documents", attend_to_documents)
    if model.is_dir():
        made = transformers.AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation=attention)
        return made.to(DEVICE).train()
    config = transformers.AutoConfig.from_pretrained(model, attn_implementation=attention)
    with DEVICE:
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def compiled(model: torch.nn.Module, mode: str) -> torch.nn.Module:
    if mode in ("whole", "graphs"):
        return torch.compile(model, dynamic=False, mode="reduce-overhead" if mode == "graphs" else None)
    if mode == "layers":
        for layer in [*model.model.layers, model.model.norm]:
            layer.compile(dynamic=False)
        model.loss_function = torch.compile(model.loss_function, dynamic=False)
    return model


class Loop:
    def __init__(self, arguments: argparse.Namespace):
        self.rows = Rows(arguments.rows)
        self.model = load(arguments.model)
        self.optimizer = (Masters if arguments.weights == "masters" else Plain)(self.model)
        self.is_reduced = arguments.weights == "autocast"
        self.checkpointing = False
        self.made = 0
        if arguments.checkpointing:
            self.checkpoint()

    def checkpoint(self) -> None:
        self.checkpointing = True
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def make(self, compute: torch.nn.Module, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            reduced = torch.autocast(DEVICE.type, torch.bfloat16) if self.is_reduced else contextlib.nullcontext()
            with reduced:
                loss = compute(**self.rows.of(self.made)).loss
            loss.backward()
            self.optimizer.step(self.rows.rates[self.made % len(self.rows.rates)])
            losses.append(loss.detach().clone())  # what a graph writes, it writes again
            self.made += 1
        wait()
        return [loss.item() for loss in losses]

    def measure(self, mode: str, warmup: int, rounds: int, steps: int) -> dict:
        compute = compiled(self.model, mode)
        begin = time.perf_counter()
        losses = self.make(compute, warmup)
        started = time.perf_counter() - begin
        forget_peak()
        seconds, cpu = [], []
        for _ in range(rounds):
            begin, spent = time.perf_counter(), time.process_time()
            losses += self.make(compute, steps)
            seconds.append((time.perf_counter() - begin) / steps)
            cpu.append((time.process_time() - spent) / steps)
        return {"seconds": seconds, "cpu": cpu, "losses": losses, "peak_mib": peak_mib(), "warmup_seconds": started}


def wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def forget_peak() -> None:
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    if ON_GPU:
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--modes", default="eager")
    parser.add_argument("--weights", choices=["fp32", "autocast", "masters"], default="autocast")
    parser.add_argument("--checkpointing", action="store_true", help="from the start; else where memory does not suffice")
    for name, default in ("warmup", 2), ("rounds", 1), ("steps", 5):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    loop = Loop(arguments)
    for mode in arguments.modes.split(","):
        how = mode, arguments.warmup, arguments.rounds, arguments.steps
        try:
            found = loop.measure(*how)
        except torch.OutOfMemoryError:
            if loop.checkpointing:
                raise
            found = None
        if found is None:  # outside the handler, whose traceback keeps what was computed
            loop.optimizer.forget()
            gc.collect()
            torch.cuda.empty_cache()
            loop.checkpoint()
            found = loop.measure(*how)
        print(json.dumps({
            "program": "eager" if mode == "eager" else "compiled", "mode": mode, "model": arguments.rows.stem,
            "weights": arguments.weights, "precision": "fp32" if arguments.weights == "fp32" else "bf16",
            "checkpointing": "full" if loop.checkpointing else "none", "tokens": loop.rows.tokens[0].numel(), **found,
        }), flush=True)


if __name__ == "__main__":
    main()
