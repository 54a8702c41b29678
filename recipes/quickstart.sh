#!/usr/bin/env bash
# Real data that every machine with PyTorch has: the PyTorch package itself, as a corpus. `make demo` runs it.
#
# Its sources are the code, its documentation strings the tool documentation, the `>>>` sessions in them the trajectories,
# the prose of the packages around it the text.
set -euo pipefail
cd "$(dirname "$0")/.."

forge=target/release/hephaestus-forge
package=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')

say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
run() { printf '$ %s\n' "$*"; "$@"; }

rm -rf demo
mkdir -p demo/corpus

say "1  A byte-level BPE tokenizer"
run $forge tokenizer "$package" --reader python-code,python-docs,python-calls,python-text \
    --vocab-size 4096 --max-bytes 20M --output demo/tokenizer

say "2  Four corpora"
tokenize() {
    run $forge tokenize "$3" --reader "$2" --tokenizer demo/tokenizer --source "$1" --output "demo/corpus/$1" \
        --exclude 'testing/**' --exclude '_inductor/**' --exclude '_dynamo/**'
}
tokenize code python-code "$package"
tokenize tools python-docs "$package"
tokenize calls python-calls "$package"
tokenize text python-text "$(dirname "$package")"

say "3  What is in them"
for source in code tools calls text; do run $forge verify "demo/corpus/$source"; done
run $forge inspect demo/corpus/tools --stats --documents 0
run $forge inspect demo/corpus/calls --tokenizer demo/tokenizer --sample 7 --documents 2

say "Done in $SECONDS s: the tokenizer is demo/tokenizer, the corpora are demo/corpus."
