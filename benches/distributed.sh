#!/usr/bin/env bash
# Training steps of several processes on the CPU, ours and PyTorch's (peers/distributed.py) by turns in the same run over the same
# rows from the same weights, in fp32 over Gloo, and before them of one process of each: medians with their spread, ratios, the
# bytes a rank communicates in a step, and whether the losses of every step agree.
#
#   benches/distributed.sh [MODE...]       ddp, zero1, fsdp; default all three
#
# RANKS (2) processes of one thread each; ROUNDS (3) turns of STEPS (5) measured steps each, after 2 others; SIZE (small).
#
# What differs besides: PyTorch's run eagerly, nothing is compiled (throughput.sh compares that), and their time is that of the
# step alone; ours is that of the whole trainer, with loading rows, logging every step and agreeing on how to go on. Neither
# computes a layer again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python work=target/bench-work size=${SIZE:-small}
ranks=${RANKS:-2} turns=${ROUNDS:-3} warmup=2 steps=${STEPS:-5}
last=$((warmup + steps))
[ $# -gt 0 ] || set -- ddp zero1 fsdp
export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

cargo build --release --locked -p hephaestus -p hephaestus-forge --bins 2>/dev/null
cargo build --release --locked --bench throughput --message-format json 2>/dev/null >target/throughput.json
read -r _ throughput < <($python benches/gpu/programs.py target/throughput.json throughput)
benches/corpora.sh 4096 $work/4k
benches/corpora.sh 50000 target/bench/50k

cut=(--set device.kind=cpu --set device.precision=fp32 --set device.threads=1 --set model.activation_checkpointing=none)
[ "$size" != 124m ] || cut+=(--set data.sequence_length=512 --set batch.sequences=4)
rows=$work/distributed/$size.safetensors first=$PWD/$work/distributed/$size run=$work/distributed/run
results=target/distributed.jsonl
rm -rf "$first"
"$throughput" "benches/recipes/$size.yaml" "${cut[@]}" --set batch.micro_sequences=auto --warmup 0 --rounds 1 --steps "$last" \
    --rows "$rows" --weights "$first" >/dev/null

# All rows of a rank at once, as the peers compute them; no checkpoint but the last step's, no validation but after it.
ours() {
    rm -rf "$run"
    start "$2" target/release/hephaestus-train --recipe "benches/recipes/$size.yaml" "${cut[@]}" \
        --set "run.output=$run" --set model.config=null --set "model.from=$first" --set "distributed.mode=${1/alone/auto}" \
        --set batch.micro_sequences="$(($($python benches/peers/compare_distributed.py rows "$rows") / $2))" \
        --set logging.every=1 --set logging.tensorboard=false --set validation.at_start=false --set validation.every=0 \
        --set validation.sequences=1 --resume never --stop-at "$last" >/dev/null
    $python benches/peers/compare_distributed.py ours "$run/metrics.jsonl" "$1" "$2" "$warmup" "$size" >>"$results"
}

theirs() {
    start "$2" $python -u benches/peers/distributed.py "$rows" "$first" --mode "$1" --warmup $warmup --steps "$steps" \
        >>"$results"
}

# So many processes, one without a launcher. What they have to say is shown only where they fail.
start() {
    local launcher=(.venv/bin/torchrun --standalone --nproc-per-node "$1" --no-python)
    [ "$1" -gt 1 ] || launcher=()
    shift
    "${launcher[@]}" "$@" 2>target/distributed.log ||
        { code=$?; cat target/distributed.log >&2; return $code; }
}

: >"$results"
for turn in $(seq "$turns"); do
    for mode in alone "$@"; do
        echo "$mode, turn $turn of $turns" >&2
        processes=$ranks
        [ "$mode" != alone ] || processes=1
        ours "$mode" "$processes"
        theirs "$mode" "$processes"
    done
done
$python benches/peers/compare_distributed.py compare "$results"
