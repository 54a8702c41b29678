#!/bin/sh
# Training steps of ours and of the loop in peers/train.py, by turns in the same run, and the ratios of their medians.
#
#   benches/throughput.sh [SIZE...]        small, 124m; default both
#
# ROUNDS (3) turns of STEPS (5) measured steps each; OMP_NUM_THREADS sets the threads of both. Wall time is what counts;
# CPU time is what it would be on a machine that nothing else runs on, with OMP_NUM_THREADS=1.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
rounds=${ROUNDS:-3} steps=${STEPS:-5}
precisions=${PRECISIONS:-fp32 bf16} modes=${MODES:-eager compiled}
[ $# -gt 0 ] || set -- small 124m

cargo build --release --bench throughput --message-format json 2>/dev/null >target/throughput.json
ours=$($python -c '
import json, sys
lines = [json.loads(line) for line in open("target/throughput.json")]
print([line["executable"] for line in lines if line.get("executable") and line["target"]["name"] == "throughput"][-1])')

results=target/throughput.jsonl
: >"$results"
for size; do
    folder=target/throughput/$size
    [ -e "$folder/batches.safetensors" ] || $python benches/peers/train.py make "$size" "$folder" 2>/dev/null
    for precision in $precisions; do
        for round in $(seq "$rounds"); do
            echo "$size $precision, turn $round of $rounds" >&2
            "$ours" "$folder" "$precision" 2 "$steps" >>"$results"
            for mode in $modes; do
                $python benches/peers/train.py run "$folder" "$precision" "$mode" 2 "$steps" 2>/dev/null >>"$results"
            done
        done
    done
done
$python benches/peers/compare.py "$results"
