#!/usr/bin/env bash
# Saves of a checkpoint of a 124 M model (bf16 weights, fp32 moments and masters: 1.7 GB), by ours, torch.save, safetensors and
# dd, by turns on the same disk, each synced; medians, and the ratio to dd.
#
#   benches/saving.sh [FOLDER]        a folder on the disk to measure; default target/bench-work/saving
#
# ROUNDS (5) turns. Before each save a file of the same size is written and removed, so that all find memory for the page cache
# alike: a virtual machine may have given it back meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
export CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
python=.venv/bin/python work=${1:-target/bench-work/saving}

cargo build --release --locked --bench saving --message-format json 2>/dev/null >target/saving.json
read -r _ ours < <($python benches/gpu/programs.py target/saving.json saving)

zeros() {
    dd if=/dev/zero of="$work/zeros" bs=8M count=206 conv=fsync 2>&1 | tail -n 1
    rm "$work/zeros"
}
results=target/saving.jsonl
: >"$results"
rm -rf "$work"
mkdir -p "$work"
for turn in $(seq "${ROUNDS:-5}"); do
    echo "turn $turn of ${ROUNDS:-5}" >&2
    zeros >/dev/null
    zeros | sed -E 's/^([0-9]+) bytes.* ([0-9.e-]+) s,.*/{"program": "dd", "bytes": \1, "seconds": \2}/' >>"$results"
    zeros >/dev/null
    "$ours" benches/recipes/124m.json "$work/ours" >>"$results"
    $python benches/peers/saving.py "$work/ours/step-1" "$work/theirs" >>"$results"
    rm -rf "$work/ours"
done
$python - "$results" <<'END'
import json, statistics, sys

rates = {}
for line in open(sys.argv[1]):
    save = json.loads(line)
    rates.setdefault(save["program"], []).append(save["bytes"] / save["seconds"] / 1e9)
dd = statistics.median(rates["dd"])
print("| program | GB/s | from, to | of dd |\n|---|---|---|---|")
for program, of in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
    print(f"| {program} | {statistics.median(of):.2f} | {min(of):.2f}, {max(of):.2f} | {statistics.median(of) / dd:.0%} |")
END
