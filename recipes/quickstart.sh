#!/usr/bin/env bash
# The whole job on data that every machine with PyTorch has: the PyTorch package itself. `make demo` runs it.
#
# Its sources are the code, its documentation strings the tool documentation, the `>>>` sessions in them the trajectories,
# its prose files the text. A small base model learns code and text; continual pre-training then mixes in the agent sources.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/release
package=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
site=$(dirname "$package")
started=$SECONDS

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
run() { printf '$ %s\n' "$*"; "$@"; }

rm -rf demo checkpoints/quickstart checkpoints/quickstart-base
mkdir -p demo/corpus

say "1  A tokenizer and four corpora from $package"
run $bin/hephaestus-forge tokenizer "$package" --reader python-code --vocab-size 4096 --max-bytes 8M --output demo/tokenizer
tokenize() { run $bin/hephaestus-forge tokenize "$2" --reader "python-$1" --tokenizer demo/tokenizer --source "$1" --output "demo/corpus/$1"; }
tokenize code "$package"
tokenize docs "$package"
tokenize calls "$package"
tokenize text "$site"
run $bin/hephaestus-forge inspect demo/corpus/calls --tokenizer demo/tokenizer --documents 1

say "2  A base model that has seen code and text only"
run $bin/hephaestus-train --recipe recipes/quickstart-base.yaml
run $bin/hephaestus-export checkpoints/quickstart-base demo/base

say "3  The plan of continual pre-training with the agent sources mixed in"
run $bin/hephaestus-train --recipe recipes/quickstart.yaml --dry-run

say "4  Continual pre-training, stopped half-way and resumed"
run $bin/hephaestus-train --recipe recipes/quickstart.yaml --stop-after 50%
run $bin/hephaestus-train --recipe recipes/quickstart.yaml --resume auto

say "5  Back to Hugging Face, and a completion"
run $bin/hephaestus-export checkpoints/quickstart demo/model --prompt 'torch.nn.Linear(in_features, out_features'

say "Done in $((SECONDS - started)) s. The model is demo/model; its curves are checkpoints/quickstart."
