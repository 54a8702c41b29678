#!/usr/bin/env bash
# All that a GPU is measured for, in one report within ten minutes: is it right (hephaestus-doctor, the tests of CUDA), how
# fast is it beside transformers, does it learn the same.
#
#   benches/gpu.sh prepare            where cargo is, GPU or not: makes target/bench, which has to lie in the checkout there
#   benches/gpu.sh [PART...]          where the GPU is: doctor, tests, 8b, 124m, curves, 1b; all of them where none is named
#   benches/gpu.sh smoke [PART...]    the same on a CPU with a small model, to see that all of it works
#
# The machine with the GPU needs no cargo, but a Python with torch 2.11.0 and transformers: PYTHON, else .venv/bin/python,
# else python3. The report and what programs said go to OUT (target/bench-out); they hold the parts of earlier calls too.
# What takes longer than BUDGET (575) seconds together is left out, and said.
set -uo pipefail
cd "$(dirname "$0")/.."
carried=target/bench work=target/bench-work

prepare() {
    set -e
    cargo build --release --locked -p hephaestus-forge --bins
    cargo build --release --locked --bin hephaestus-train --bin hephaestus-doctor --bench throughput --test tests \
        --message-format json >target/bench.json
    rm -rf $work/bin
    mkdir -p $work/bin $carried
    ${PYTHON:-.venv/bin/python} benches/gpu/programs.py target/bench.json hephaestus-train hephaestus-doctor throughput tests |
        while read -r name program; do strip -o "$work/bin/$name" "$program"; done
    tar -C $work/bin -czf $carried/programs.tar.gz .
    benches/corpora.sh 50000 $carried/50k
    # For `smoke` alone, so not among what is carried.
    benches/corpora.sh 4096 $work/4k
    du -sh $carried
}

# The model and how often: MODEL WARMUP ROUNDS STEPS.
declare -A often=([8b]="2 3 3" [1b]="3 5 4" [124m]="5 5 20" [small]="1 2 2")
large=8b small=124m middle=1b curve=124m curve_steps=300 device=cuda smoke=
all=(doctor tests 8b 124m curves 1b)

case ${1:-} in
prepare) prepare && exit ;;
smoke)
    shift
    large=small small=small middle=small curve=small curve_steps=40 device=cpu smoke=1
    # The card is left alone also where there is one.
    export CUDA_VISIBLE_DEVICES=
    ;;
esac
if [ -z "${PYTHON:-}" ]; then PYTHON=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3); fi
PYTHON=$(command -v "$PYTHON") || { echo "no Python: PYTHON names one with torch and transformers" >&2; exit 2; }
case $PYTHON in /*) ;; *) PYTHON=$PWD/$PYTHON ;; esac
out=${OUT:-target/bench-out} deadline=${BUDGET:-575}
mkdir -p "$out" $work/bin $work/results $work/logs
[ -e $carried/programs.tar.gz ] || { echo "no $carried/programs.tar.gz: \`benches/gpu.sh prepare\` makes it" >&2; exit 2; }
tar -C $work/bin -xzf $carried/programs.tar.gz
read -r torch memory < <("$PYTHON" -c '
import torch
print(torch.__path__[0], torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0)')
[ -n "$smoke" ] || [ "${memory:-0}" -gt 0 ] || { echo "torch sees no GPU: \`benches/gpu.sh smoke\` needs none" >&2; exit 2; }
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} TOKENIZERS_PARALLELISM=false
export HEPHAESTUS_PYTHON=$PYTHON HEPHAESTUS_PROGRAMS=$PWD/$work/bin PYTHONDONTWRITEBYTECODE=1

# measure SECONDS NAME COMMAND...: its output becomes a result; what it did not manage, a line of the report.
measure() {
    local most=$1 name=$2 left=$((deadline - SECONDS - 5)) code=0 begun=$SECONDS
    shift 2
    rm -f "$work/results/$name".*
    if [ $left -lt 10 ]; then
        echo "left out: no time was left" >"$work/results/$name.failed"
        return 1
    fi
    [ "$most" -lt $left ] || most=$left
    timeout -k 5 "$most" "$@" >"$work/results/$name.jsonl" 2>"$work/logs/$name" || code=$?
    case $code in
    0) ;;
    124 | 137) echo "stopped after $most s" >"$work/results/$name.failed" ;;
    *) echo "exit code $code: $(why "$work/logs/$name")" >"$work/results/$name.failed" ;;
    esac
    printf '%4d s  %-40s %3d s%s\n' $SECONDS "$name" $((SECONDS - begun)) "${code/#0/}" >&2
    return $code
}

# why LOG: our programs' error with the line after it, else the last line, which is that of Python's.
why() {
    grep -m 1 -A 1 '^error: ' "$1" | tr -s '\n ' ' ' | grep . || grep -v '^ *$' "$1" | tail -n 1
}

# ours SECONDS NAME MODEL ARGUMENTS...
ours() {
    local most=$1 name=$2 model=$3
    shift 3
    measure "$most" "$name" $work/bin/throughput "benches/recipes/$model.yaml" --set device.kind=$device "$@"
}

# counted MODEL: how often, as arguments of ours and of peers.
counted() {
    # shellcheck disable=SC2086
    set -- ${often[$1]}
    echo --warmup "$1" --rounds "$2" --steps "$3"
}

# peer SECONDS NAME MODEL ARGUMENTS...: over the rows that ours has written.
peer() {
    local most=$1 name=$2 model=$3
    shift 3
    # Memory that is not cut into pieces is to the peers' good: without it the largest model may not fit.
    PYTORCH_ALLOC_CONF=expandable_segments:True measure "$most" "$name" "$PYTHON" benches/peers/train.py "$work/$model.safetensors" "$@"
}

# The largest model: in whatever keeps most and fits, with a profile. `auto` is for recipes that know it.
largest() {
    local model=$large config=benches/recipes/$large.json checkpointing kept='' overrides=() peers=(--checkpointing)
    if [ -z "$smoke" ] && [ "$memory" -lt 130000000000 ]; then
        # 16 bytes of each of 8 billion parameters are more than this card has: the same layers, fewer of them.
        config=$work/8b-8-layers.json model=8b-8-layers
        sed 's/"num_hidden_layers": 32/"num_hidden_layers": 8/' benches/recipes/8b.json >$config
        # The peer keeps everything here if that fits; of all layers it cannot.
        overrides=(--set "model.config=$config" --set "run.name=$model") peers=()
    fi
    rm -rf $work/results/large.* $work/results/profile.txt $work/profile
    for checkpointing in auto none selective full; do
        # shellcheck disable=SC2046
        ours 150 large.bf16.$checkpointing $large "${overrides[@]}" --set device.precision=bf16 \
            --set model.activation_checkpointing=$checkpointing $(counted $large) --rows "$work/$model.safetensors" \
            --profile $work/profile && kept=$checkpointing && break
    done
    cp $work/profile/profile-*.txt $work/results/profile.txt 2>/dev/null
    [ -n "$kept" ] || return
    # shellcheck disable=SC2046
    ours 120 large.fp8.$kept $large "${overrides[@]}" --set device.precision=fp8 \
        --set model.activation_checkpointing=$kept $(counted $large)
    # Layer by layer: the whole of 32 takes minutes to compile.
    # shellcheck disable=SC2046
    peer 150 large.peer "$model" $config --weights masters --modes eager,layers \
        "${peers[@]}" $(counted $large)
}

# A model that fits with all it keeps: PART MODEL MODES [MORE], MORE being `graphs` to record micro-batches besides.
fitting() {
    local part=$1 model=$2 modes=$3 more=${4:-}
    rm -f "$work/results/$part".*
    # shellcheck disable=SC2046
    ours 60 "$part.bf16" "$model" --set device.precision=bf16 $(counted "$model") --rows "$work/$model.safetensors"
    # shellcheck disable=SC2046
    ours 60 "$part.fp8" "$model" --set device.precision=fp8 $(counted "$model")
    if [ -n "$more" ]; then
        # shellcheck disable=SC2046
        ours 60 "$part.bf16.$more" "$model" --set device.precision=bf16 --set device.cuda_graphs=true $(counted "$model")
    fi
    # Weights in bf16 beside fp32 masters, the fastest that such a peer can have.
    # shellcheck disable=SC2046
    peer 150 "$part.peer" "$model" "benches/recipes/$model.json" --weights masters --modes "$modes${more:+,$more}" \
        $(counted "$model")
}

curves() {
    local rows=$work/curve.safetensors first=$work/first weights steps=(--warmup 0 --steps $curve_steps)
    local batch=(--set batch.sequences=8 --set batch.micro_sequences=8)
    rm -rf "$work/results/curve".* "$first"
    ours 60 curve.ours $curve "${batch[@]}" --set device.precision=bf16 "${steps[@]}" --rows $rows --weights $first
    ours 90 curve.twins $curve "${batch[@]}" --set device.precision=bf16 "${steps[@]}" --twins
    ours 60 curve.fp8 $curve "${batch[@]}" --set device.precision=fp8 "${steps[@]}"
    for weights in autocast masters; do
        peer 75 curve.peer.$weights curve $first --weights $weights --modes eager "${steps[@]}"
    done
}

[ $# -gt 0 ] || { set -- "${all[@]}"; rm -f $work/results/*; }
for part; do
    case $part in
    doctor) measure 75 doctor $work/bin/hephaestus-doctor --device $device ;;
    # A test that skips says so on the other stream.
    tests) measure 90 tests sh -c "$work/bin/tests cuda:: 2>&1" ;;
    8b) largest ;;
    124m) fitting small $small eager,whole graphs ;;
    1b) fitting middle $middle eager,layers ;;
    curves) curves ;;
    *) echo "no part $part: ${all[*]}" >&2 && exit 2 ;;
    esac
done
cat $work/results/{large,small,middle,curve}.*.jsonl >"$out/results.jsonl" 2>/dev/null
for name in doctor tests; do cp $work/results/$name.jsonl "$out/$name.txt" 2>/dev/null; done
cp $work/results/profile.txt "$out/" 2>/dev/null
tail -n 20 $work/logs/* >"$out/logs.txt" 2>/dev/null
"$PYTHON" benches/gpu/report.py $work/results "$out" ${smoke:+--smoke} && echo "$SECONDS s; $out/report.md" >&2
