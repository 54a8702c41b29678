"""Megatron-LM's tools/preprocess_data.py against `hephaestus-forge build`, end to end, on the same JSON lines and cores.

    git clone --depth 1 --branch core_v0.17.1 https://github.com/NVIDIA/Megatron-LM MEGATRON
    .venv/bin/pip install --target DEPENDENCIES --no-deps six
    .venv/bin/python benches/peers/tokenizing.py --make FILE --bytes 200000000
    .venv/bin/python benches/peers/preprocess.py FILE TOKENIZER --megatron MEGATRON --dependencies DEPENDENCIES

FILE holds JSON lines with `text`; TOKENIZER is a folder in the Hugging Face layout. Both are run by turns, each anew from
the start of its program to its end, with nothing left out but tokens: no filters, no deduplication, an end-of-document token
after each document. Printed are the wall times, their medians' ratio, and whether the two corpora hold the same tokens.
Megatron-LM's versions from core_v0.19.0 on need Python 3.12.
"""

import argparse
import filecmp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """\
version: 1
output: {output}
tokenizer: {tokenizer}
end_of_document: auto
duplicates: {{exact: false, near: false}}
sources:
  mixed:
    inputs:
      - {{reader: jsonl, paths: [{file}]}}
"""


def timed(command, environment, log):
    begun = time.perf_counter()
    with open(log, "w") as out:
        done = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{Path(log).read_text()[-3000:]}")
    return time.perf_counter() - begun


def megatron(arguments, folder):
    prefix = folder / "megatron"
    command = [sys.executable, arguments.megatron / "tools" / "preprocess_data.py", "--input", arguments.file]
    command += ["--output-prefix", prefix, "--workers", str(arguments.workers), "--append-eod"]
    command += ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", arguments.tokenizer]
    path = os.pathsep.join(map(str, [arguments.megatron, *arguments.dependencies]))
    # It says on its own that its processes, not threads, share the work.
    environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return timed(command, environment, folder / "megatron.log"), Path(f"{prefix}_text_document.bin")


def hephaestus(arguments, folder):
    recipe = folder / "recipe.yaml"
    output = folder / "corpus"
    recipe.write_text(RECIPE.format(output=output, tokenizer=arguments.tokenizer, file=arguments.file))
    command = [*arguments.forge, "build", "--recipe", recipe]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(arguments.workers)}
    return timed(command, environment, folder / "hephaestus.log"), output / "mixed.bin"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--megatron", type=Path, required=True, help="a checkout of Megatron-LM")
    parser.add_argument("--dependencies", type=Path, nargs="*", default=[], help="folders with what it needs besides")
    parser.add_argument("--forge", nargs="+", default=["target/release/hephaestus-forge"], help="how to run ours")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for name in ("file", "tokenizer", "megatron"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    arguments.dependencies = [path.resolve() for path in arguments.dependencies]
    times = {"megatron": [], "hephaestus": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            took, theirs = megatron(arguments, folder)
            times["megatron"].append(took)
            took, ours = hephaestus(arguments, folder)
            times["hephaestus"].append(took)
            same = filecmp.cmp(theirs, ours, shallow=False)
    size = arguments.file.stat().st_size / 1e6
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:12} {median[name]:8.1f} s ({spread}), {size / median[name]:.1f} MB of JSON lines a second")
    print(f"hephaestus is {median['megatron'] / median['hephaestus']:.1f} times as fast")
    print(f"the tokens are {'the same' if same else 'not the same: special tokens spelled out in the text become themselves there'}")


if __name__ == "__main__":
    main()
