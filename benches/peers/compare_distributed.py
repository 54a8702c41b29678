"""What distributed.sh gathers and compares.

    compare_distributed.py rows ROWS                                    rows a step
    compare_distributed.py ours METRICS MODE RANKS WARMUP SIZE          a run's metrics.jsonl, as one line of results
    compare_distributed.py compare RESULTS                              medians, ratios, traffic and losses as a Markdown table

Losses are compared step by step, with those of every other run; above 1e-4 of their size the exit code is 1.
"""

import json
import statistics
import sys

TOLERANCE = 1e-4


def ours(metrics: str, mode: str, ranks: str, warmup: str, size: str) -> dict:
    with open(metrics) as lines:
        records = [record for record in map(json.loads, lines) if record["event"] == "train"]
    tokens = [record["tokens"] for record in records]
    a_step = [after - before for before, after in zip([0, *tokens], tokens)]
    seconds = [count / record["tokens_per_second"] for count, record in zip(a_step, records)]
    measured = records[int(warmup):]
    communicated = [record["communicated_bytes"] for record in measured if "communicated_bytes" in record]
    return {
        "program": "hephaestus", "mode": mode, "ranks": int(ranks), "model": size, "seconds": seconds[int(warmup):],
        "losses": [record["loss"] for record in records], "tokens": a_step[0],
        # A process alone has nothing to tell of it.
        "communicated_bytes": 0 if mode == "alone" else round(statistics.median(communicated)) if communicated else None,
    }


def megabytes(count: int | None) -> str:
    return "not told" if count is None else f"{count / 1e6:.2f}"


def compare(results: str) -> int:
    runs = {}
    with open(results) as lines:
        for line in map(json.loads, lines):
            runs.setdefault((line["model"], line["ranks"], line["mode"]), {}).setdefault(line["program"], []).append(line)
    print("| size | ranks | mode | program | s a step, median (least to most) | ours is faster by | MB a rank and step "
          "| losses differ at most by |")
    print("|---|---|---|---|---|---|---|---|")
    first = {}
    worst = 0.0
    for (size, ranks, mode), programs in runs.items():
        seconds = {name: [s for line in lines for s in line["seconds"]] for name, lines in programs.items()}
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, lines in programs.items():
            # Of the first run of all, whatever its mode and ranks: they all compute the same.
            expected = first.setdefault(size, lines[0]["losses"])
            off = max(abs(loss - other) / other for line in lines for loss, other in zip(line["losses"], expected, strict=True))
            worst = max(worst, off)
            ratio = medians[name] / medians["hephaestus"] if "hephaestus" in medians else float("nan")
            print(f"| {size} | {ranks} | {mode} | {name} "
                  f"| {medians[name]:.3f} ({min(seconds[name]):.3f} to {max(seconds[name]):.3f}) | {ratio:.2f} "
                  f"| {megabytes(lines[0]['communicated_bytes'])} | {off:.1e} |")
    print(f"\nlosses {'agree' if worst <= TOLERANCE else 'DO NOT agree'} within {TOLERANCE:.0e}: {worst:.1e} at most")
    return 0 if worst <= TOLERANCE else 1


def rows(file: str) -> int:
    from safetensors import safe_open
    with safe_open(file, "pt") as opened:
        return opened.get_slice("tokens").get_shape()[1]


def main() -> None:
    match sys.argv[1:]:
        case ["rows", file]:
            print(rows(file))
        case ["ours", metrics, mode, ranks, warmup, size]:
            print(json.dumps(ours(metrics, mode, ranks, warmup, size)))
        case ["compare", results]:
            sys.exit(compare(results))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
