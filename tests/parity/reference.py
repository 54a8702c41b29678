"""Tiny random models of every family, and what transformers computes with them in fp32.

    reference.py OUTPUT

For each NAME, OUTPUT/NAME is a Hugging Face folder, and OUTPUT/NAME.safetensors holds
  tokens [N] i64        the tokens of all documents, one after another
  lengths [S] i64       the documents' lengths
  logits [N, V]         each document run by itself
  loss                  cross-entropy summed over every document's next tokens
  grad.PARAMETER        the gradient of that sum
  losses [20]           that sum over its tokens, in 20 steps of the loop a PyTorch user writes: clipping at 1.0, AdamW
                        at 1e-2 with decay 0.1 on matrices alone
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

SIZES = dict(
    vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, initializer_range=0.2,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
PLAIN = dict(rope_type="default", rope_theta=10000.0)
FAMILIES = {
    "llama2": ("Llama", dict(num_key_value_heads=4, rope_parameters=PLAIN, tie_word_embeddings=False)),
    "llama31_tied": ("Llama", dict(num_key_value_heads=2, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "mistral_window": (
        "Mistral", dict(num_key_value_heads=2, rope_parameters=PLAIN, sliding_window=6, tie_word_embeddings=False)),
    "qwen2_bias": ("Qwen2", dict(num_key_value_heads=2, rope_parameters=PLAIN, tie_word_embeddings=True)),
    "qwen3_qk_norm": (
        "Qwen3", dict(num_key_value_heads=1, head_dim=16, rope_parameters=PLAIN, tie_word_embeddings=False)),
}
LENGTHS = [1, 23, 9, 15]


def train(model, documents) -> torch.Tensor:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    trained, losses = sum(len(document) - 1 for document in documents), []
    for _ in range(20):
        logits = [model(document[None]).logits[0, :-1] for document in documents]
        loss = torch.nn.functional.cross_entropy(
            torch.cat(logits), torch.cat([document[1:] for document in documents]), reduction="sum") / trained
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def main(output: Path) -> None:
    torch.set_num_threads(1)
    for seed, (name, (family, extra)) in enumerate(FAMILIES.items()):
        torch.manual_seed(seed)
        config = getattr(transformers, f"{family}Config")(**SIZES, **extra, attn_implementation="sdpa")
        model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
        with torch.no_grad():  # norms and biases away from 1 and 0, where a mistake would not show
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(output / name)
        tokens = torch.randint(3, SIZES["vocab_size"], (sum(LENGTHS),))
        logits, loss = [], torch.zeros(())
        for document in tokens.split(LENGTHS):
            mine = model(document[None]).logits[0]
            logits.append(mine)
            loss = loss + torch.nn.functional.cross_entropy(mine[:-1], document[1:], reduction="sum")
        loss.backward()
        tensors = {"tokens": tokens, "lengths": torch.tensor(LENGTHS), "logits": torch.cat(logits).detach()}
        tensors["loss"] = loss.detach().reshape(1)
        tensors |= {f"grad.{key}": value.grad.clone() for key, value in model.named_parameters()}
        tensors["losses"] = train(model, tokens.split(LENGTHS))
        save_file({key: value.contiguous() for key, value in tensors.items()}, output / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
