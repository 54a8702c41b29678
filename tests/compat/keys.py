"""Keys of config.json that change nothing: attributes of transformers' configurations that no forward pass depends on.

    keys.py

For each family, every key of its configuration's `to_dict()` that building and running the model in training mode does not
read is taken; so is a key that is read where no other value of it changes a bit of the logits, the loss or a gradient, or the
model cannot be built with one. What decides the arithmetic, and what src/hf/config.rs reads itself, is left out. Prints one
line a key, `+ KEY` where it changes nothing and `- KEY` where it does. A key counts as changing nothing where no family and no
release says otherwise.
"""

import warnings

import torch
import transformers

# What src/hf/config.rs takes, with rules of its own.
READ = {
    "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "rope_theta", "rope_scaling",
    "rope_parameters", "rms_norm_eps", "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window",
    "use_sliding_window", "max_window_layers", "layer_types", "initializer_range", "bos_token_id", "eos_token_id",
    "hidden_act", "attention_dropout", "dtype", "torch_dtype",
}
SIZES = dict(
    vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, attn_implementation="eager",
)
TOKENS = torch.arange(3, 35)[None]


def others(value):
    """Values of the same type and of types that a key which is null may have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value * 2 + 3]
    if isinstance(value, str):
        return [value + "x"]
    if isinstance(value, dict):
        return [{"0": "one", "1": "two", "2": "three"}]
    if isinstance(value, list):
        return [[1, 2, 3]]
    return [True, 3, 0.5, "text", [1, 2]]


def computed(make_model, config, weights):
    model = make_model(config).float().train()
    if weights is not None:
        model.load_state_dict(weights)
    torch.manual_seed(1)
    out = model(input_ids=TOKENS, labels=TOKENS, return_dict=True)
    out.loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return model.state_dict(), [out.logits.detach(), out.loss.detach(), *gradients]


def family(name):
    make_config = getattr(transformers, f"{name}Config")
    make_model = getattr(transformers, f"{name}ForCausalLM")
    seen = set()

    class Watched(make_config):
        def __getattribute__(self, key):
            seen.add(key)
            return super().__getattribute__(key)

    config = Watched(**SIZES)
    keys = set(config.to_dict()) - READ
    seen.clear()
    torch.manual_seed(0)
    weights, expected = computed(make_model, config, None)
    read = set(seen)
    for key in sorted(keys):
        harmless = key not in read
        if not harmless:
            same = []
            for other in others(make_config(**SIZES).to_dict()[key]):
                try:
                    found = computed(make_model, make_config(**{**SIZES, key: other}), weights)[1]
                except Exception:  # a value that no model can be built with trains nothing differently
                    continue
                same.append(all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)))
            harmless = bool(same) and all(same)
        yield key, harmless


def main():
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    verdicts = {}
    for name in ["Llama", "Mistral", "Qwen2", "Qwen3"]:
        for key, harmless in family(name):
            verdicts[key] = verdicts.get(key, True) and harmless
    for key, harmless in sorted(verdicts.items()):
        print("+" if harmless else "-", key)


if __name__ == "__main__":
    main()
