"""Medians of the lines that throughput.sh gathered, and their ratios to ours, as a Markdown table.

    compare.py RESULTS.jsonl
"""

import json
import statistics
import sys


def main(file: str) -> None:
    runs = {}
    with open(file) as lines:
        for line in map(json.loads, lines):
            key = line["model"], line["precision"]
            mine = runs.setdefault(key, {}).setdefault(line["program"], {"seconds": [], "cpu": [], "peak": []})
            mine["seconds"] += line["seconds"]
            mine["cpu"] += line["cpu"]
            mine["peak"].append(line["peak_mib"])
            mine["tokens"] = line["tokens"]
    print("| size | precision | program | tokens/s | ours is faster by | CPU s a step | by CPU time | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for (size, precision), programs in runs.items():
        ours = {key: statistics.median(programs["hephaestus"][key]) for key in ("seconds", "cpu")}
        for program, values in programs.items():
            seconds, cpu = statistics.median(values["seconds"]), statistics.median(values["cpu"])
            print(f"| {size} | {precision} | {program} | {values['tokens'] / seconds:.0f} "
                  f"| {seconds / ours['seconds']:.2f} | {cpu:.2f} | {cpu / ours['cpu']:.2f} | {max(values['peak']):.0f} |")


if __name__ == "__main__":
    main(sys.argv[1])
