"""The logits of Hugging Face folders in whatever transformers PYTHONPATH leads to.

    logits.py VERSION OUTPUT FOLDER [FOLDER ...]

VERSION is what `transformers.__version__` must begin with. OUTPUT becomes a safetensors file with a [N, V] fp32 tensor for each
folder, under its path.
"""

import sys

import torch
import transformers
from safetensors.torch import save_file


def logits(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    complaints = {key: value for key, value in info.items() if value}
    assert not complaints, f"{folder}: {complaints}"
    with torch.no_grad():
        return model.eval()(torch.arange(3, 93)[None]).logits[0].contiguous()


def main(version, output, folders):
    assert transformers.__version__.startswith(version), f"{transformers.__version__} instead of {version}"
    torch.set_num_threads(1)
    save_file({folder: logits(folder) for folder in folders}, output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
