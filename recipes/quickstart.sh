#!/usr/bin/env bash
# The whole job on real data that every machine with PyTorch has: the PyTorch package itself. `make demo` runs it.
#
# Its sources are the code, its documentation strings the tool documentation, the `>>>` sessions in them the trajectories
# (calls with what they returned), the prose of the packages around it the text.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/release
package=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')

say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
run() { printf '$ %s\n' "$*"; "$@"; }

rm -rf demo
mkdir -p demo/corpus

say "1  A byte-level BPE tokenizer"
run $bin/hephaestus-forge tokenizer "$package" --reader python-code,python-docs,python-calls,python-text \
    --vocab-size 4096 --max-bytes 20M --output demo/tokenizer

say "2  Four corpora: code and text, and what an agent needs, tools and calls"
paths=(--set "sources.text.inputs.0.paths.0=$(dirname "$package")")
for source in code tools calls; do paths+=(--set "sources.$source.inputs.0.paths.0=$package"); done
run $bin/hephaestus-forge build --recipe recipes/quickstart/forge.yaml "${paths[@]}"
for source in code text tools calls; do run $bin/hephaestus-forge verify "demo/corpus/$source"; done
run $bin/hephaestus-forge inspect demo/corpus/calls --tokenizer demo/tokenizer --sample 7 --documents 1

say "3  A base model, from fresh weights, on code and text alone"
run $bin/hephaestus-train --recipe recipes/quickstart/base.yaml
run $bin/hephaestus-export demo/base demo/base-model

say "4  What continuing from it will do"
run $bin/hephaestus-train --recipe recipes/quickstart.yaml --dry-run

say "5  Continual pre-training with the agent sources mixed in, stopped half-way"
run $bin/hephaestus-train --recipe recipes/quickstart.yaml --stop-at 70

say "6  The same command goes on from there"
run $bin/hephaestus-train --recipe recipes/quickstart.yaml

say "7  Back to Hugging Face, and a look at what it says"
run $bin/hephaestus-export demo/quickstart demo/model --prompt '### API
torch.add' --tokens 80 --temperature 0.7

say "Done in $SECONDS s. The model is demo/model, its curves are demo/quickstart/losses.svg and, in TensorBoard,
.venv/bin/tensorboard --logdir demo"
