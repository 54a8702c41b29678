"""The training loop a PyTorch user writes: transformers, scaled-dot-product attention, fused AdamW.

    train.py make SIZE FOLDER                          a random model and packed rows, for both programs
    train.py run FOLDER PRECISION eager|compiled WARMUP STEPS    one JSON line: wall and CPU seconds of each
                                                 step, losses, peak memory of the measured steps

Rows hold documents one after another; positions restart with a document, and from them transformers builds the
block-diagonal causal mask by itself. It is the fastest correct way it has on a CPU: its varlen attention needs CUDA, and
flattening all rows into one builds a mask of N x N for N = B x T. bf16 is autocast over fp32 weights, which is what keeps
fp32 master weights in such a loop.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

SIZES = {  # layers, width, MLP width, heads, key and value heads, vocabulary, rows, tokens a row
    "small": (4, 256, 688, 4, 4, 4096, 8, 512),
    "124m": (12, 768, 2048, 12, 12, 50257, 4, 512),
}
BATCHES = 8


def positions(rows: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """Rows cut from a stream of documents of log-normal lengths: half under 165 tokens, 260 on average, some over 1000."""
    documents = (torch.randn(rows * length, generator=generator) * 0.95 + 5.1).exp().long().clamp(8, 4000)
    places = torch.cat([torch.arange(n) for n in documents.tolist()])[: rows * length].reshape(rows, length)
    first = (places == 0).int().argmax(1)  # a document cut by the row's start is a segment of its own
    first = torch.where((places == 0).any(1), first, length)
    at = torch.arange(length)
    return torch.where(at < first[:, None], at, places)


def make(size: str, folder: Path) -> None:
    layers, width, inner, heads, kv_heads, vocabulary, rows, length = SIZES[size]
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=length,
        tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    batches = torch.stack([positions(rows, length, generator) for _ in range(BATCHES)])
    tokens = torch.randint(3, vocabulary, batches.shape, generator=generator)
    save_file({"tokens": tokens, "positions": batches}, folder / "batches.safetensors")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(folder: Path, precision: str, mode: str, warmup: int, steps: int) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
    compute = torch.compile(model, dynamic=False) if mode == "compiled" else model
    data = load_file(folder / "batches.safetensors")
    seconds, cpu, losses = [], [], []
    for step in range(warmup + steps):
        if step == warmup:
            forget_peak()
        tokens, places = data["tokens"][step % BATCHES], data["positions"][step % BATCHES]
        begin, spent = time.perf_counter(), time.process_time()
        labels = torch.where(places == 0, -100, tokens)
        autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with autocast:
            loss = compute(input_ids=tokens, position_ids=places, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - spent)
    print(json.dumps({
        "program": mode, "model": folder.name, "precision": precision, "tokens": tokens.numel(),
        "seconds": seconds[warmup:], "cpu": cpu[warmup:], "losses": losses, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        run(Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
