#!/usr/bin/env bash
# Training steps on the CPU of ours and of the loop in peers/train.py, by turns in the same run over the same rows from the
# same weights, and the ratios of their medians. gpu.sh measures GPUs.
#
#   benches/throughput.sh [SIZE...]        small, 124m; default both
#
# ROUNDS (3) turns of STEPS (5) measured steps each; OMP_NUM_THREADS sets the threads of both. Wall time is what counts;
# CPU time is what it would be on a machine that nothing else runs on, with OMP_NUM_THREADS=1.
set -euo pipefail
cd "$(dirname "$0")/.."
export CUDA_VISIBLE_DEVICES=
python=.venv/bin/python work=target/bench-work
turns=${ROUNDS:-3} counted=(--warmup 2 --rounds "${STEPS:-5}" --steps 1)
precisions=${PRECISIONS:-fp32 bf16} modes=${MODES:-eager whole}
[ $# -gt 0 ] || set -- small 124m

cargo build --release --locked -p hephaestus-forge --bins 2>/dev/null
cargo build --release --locked --bench throughput --message-format json 2>/dev/null >target/throughput.json
read -r _ ours < <($python benches/gpu/programs.py target/throughput.json throughput)
benches/corpora.sh 4096 $work/4k
benches/corpora.sh 50000 target/bench/50k

results=target/throughput.jsonl
: >"$results"
for size; do
    rows=$work/cpu/$size.safetensors first=$work/cpu/$size set=(--set device.kind=cpu)
    [ "$size" != 124m ] || set+=(--set data.sequence_length=512 --set batch.sequences=4 --set batch.micro_sequences=4)
    rm -rf "$first"
    "$ours" "benches/recipes/$size.yaml" "${set[@]}" "${counted[@]}" --rows "$rows" --weights "$first" >/dev/null
    for precision in $precisions; do
        weights=fp32
        [ "$precision" = fp32 ] || weights=autocast
        for turn in $(seq "$turns"); do
            echo "$size $precision, turn $turn of $turns" >&2
            "$ours" "benches/recipes/$size.yaml" "${set[@]}" --set "device.precision=$precision" "${counted[@]}" >>"$results"
            for mode in $modes; do
                $python benches/peers/train.py "$rows" "$first" --weights $weights --modes "$mode" "${counted[@]}" \
                    2>/dev/null >>"$results"
            done
        done
    done
done
$python benches/peers/compare.py "$results"
