#!/usr/bin/env bash
# The corpora of benches/recipes, of what every machine with PyTorch has, as in recipes/quickstart.sh.
#
#   benches/corpora.sh TOKENS FOLDER       FOLDER/tokenizer of so many tokens, FOLDER/{calls,code,text,tools}
set -euo pipefail
cd "$(dirname "$0")/.."
tokens=$1 folder=$2
[ ! -e "$folder/code.manifest.json" ] || exit 0

package=$("${PYTHON:-.venv/bin/python}" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
paths=(--set "sources.text.inputs.0.paths.0=$(dirname "$package")")
for source in code tools calls; do paths+=(--set "sources.$source.inputs.0.paths.0=$package"); done
target/release/hephaestus-forge tokenizer "$package" --reader python-code,python-docs,python-calls,python-text \
    --vocab-size "$tokens" --output "$folder/tokenizer"
target/release/hephaestus-forge build --recipe recipes/quickstart/forge.yaml "${paths[@]}" \
    --set "tokenizer=$folder/tokenizer" --set "output=$folder"
rm -f "$folder"/report.*
