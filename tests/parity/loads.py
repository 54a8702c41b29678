"""Whether transformers makes the same of two folders, without a missing or unexpected key.

    loads.py ORIGINAL EXPORTED [ORIGINAL EXPORTED ...]
"""

import sys

import torch
import transformers


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True)
    complaints = {key: value for key, value in info.items() if value}
    assert not complaints, f"{folder}: {complaints}"
    return model.eval()


def main(pairs):
    tokens = torch.arange(3, 43)[None]
    for original, exported in zip(pairs[::2], pairs[1::2], strict=True):
        ours, theirs = load(exported), load(original)
        expected = dict(theirs.named_parameters())
        found = dict(ours.named_parameters())
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), exported
        with torch.no_grad():
            assert torch.equal(ours(tokens).logits, theirs(tokens).logits), exported


if __name__ == "__main__":
    main(sys.argv[1:])
