"""The report of gpu.sh: tables, goals, and what did not run, as Markdown.

    report.py RESULTS OUT [--smoke]
"""

import json
import statistics
import sys
from pathlib import Path

import curves

PARTS = "large", "small", "middle"
# Lines of the profile that are shown.
OPERATIONS = 12
FORMULA = """MFU is tokens a second x FLOPs a token / the card's dense peak. FLOPs a token are `6 N + 12 L H D T` (PaLM, appendix B):
N parameters without an embedding that is only looked up, all T positions of a row for every query, nothing for what is computed
again. Rows hold several documents that do not see each other, so less is computed than the second term says: "documents alone"
puts the mean length of a token's own document in the place of T. The peak is that of bf16, for fp8 too,
from the data sheet."""


class Results:
    """What gpu.sh left: a file of JSON lines a measurement, or why there is none."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.failed = {file.stem: file.read_text().strip() for file in sorted(folder.glob("*.failed"))}

    def lines(self, name: str) -> list[dict]:
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def of(self, part: str) -> list[dict]:
        """Of a model, ours in bf16 first."""
        names = [file.name.removesuffix(".jsonl") for file in sorted(self.folder.glob(f"{part}.*.jsonl"))]
        return [line for name in names for line in self.lines(name)]

    def passed(self, name: str) -> bool | None:
        if name in self.failed:
            return None if self.failed[name].startswith("left out") else False
        return True if (self.folder / f"{name}.jsonl").exists() else None


def rate(line: dict) -> float:
    return line["tokens"] / statistics.median(line["seconds"])


def is_ours(line: dict) -> bool:
    return line["program"] == "hephaestus"


def utilization(line: dict, ours: dict) -> tuple[float, float] | None:
    """Of the peak: as PaLM counts, and for documents alone. A peer's arithmetic and peak are those of ours in bf16."""
    if not ours["peak_flops"]:
        return None
    attention = ours["flops_of_attention"]
    documents = ours["flops_a_token"] - attention * (1 - ours["mean_segment"] / ours["length"])
    return tuple(rate(line) * flops / ours["peak_flops"] for flops in (ours["flops_a_token"], documents))


def best(lines: list[dict]) -> dict | None:
    return max(lines, key=rate, default=None)


def table(lines: list[dict]) -> list[str]:
    base = best([line for line in lines if is_ours(line) and line["precision"] == "bf16"])
    if not base:
        return ["Nothing of ours was measured."]
    rows = [
        f"{base['parameters'] / 1e6:,.0f} M parameters, {base['layers']} layers, {base['tokens']:,} tokens a step in rows of "
        f"{base['length']:,}; documents of {base['mean_segment']:.0f} tokens as a token sees it; {base['device']}.", "",
        "| program | precision | weights | recomputed | tokens/s | spread | MFU | documents alone | peak GB | ours in bf16 is faster by |",
        "|---|---|---|---|---|---|---|---|---|---|"]
    for line in lines:
        used = utilization(line, line if is_ours(line) else base)
        used = [f"{100 * share:.1f} %" for share in used] if used else ["-", "-"]
        spread = [line["tokens"] / seconds for seconds in (max(line["seconds"]), min(line["seconds"]))]
        mode = line.get("mode", "")
        mine = line["program"] + (", CUDA graphs" if line.get("graphs") else "")
        program = mine if is_ours(line) else f"transformers, {'compiled ' + mode if mode != 'eager' else mode}"
        rows.append(
            f"| {program} | {line['precision']} | {line.get('weights', 'masters')} | {line['checkpointing']} | {rate(line):,.0f} "
            f"| {spread[0]:,.0f} to {spread[1]:,.0f} | {used[0]} | {used[1]} | {line['peak_mib'] * 2**20 / 1e9:.1f} "
            f"| {rate(base) / rate(line):.2f} |")
    if estimated := base.get("estimated_mib"):
        rows += ["", f"The plan's estimate of memory is {estimated * 2**20 / 1e9:.1f} GB."]
    return rows


def goals(results: Results, compared: list[tuple[str, float, float]]) -> list[tuple[str, str, bool | None]]:
    """Each with what was found, and whether that is enough; None where nothing was found."""
    remarks = doctor(results)
    bad = sum(line.startswith("BAD") for line in remarks)
    found = [("hephaestus-doctor is green", f"{bad} bad, {len(remarks) - bad} notes", results.passed("doctor"))]
    found.append(("the tests of CUDA pass", *tests(results)))
    for part in PARTS:
        lines = results.of(part)
        ours = {kind: best([line for line in lines if is_ours(line) and line["precision"] == kind]) for kind in ("bf16", "fp8")}
        compiled = best([line for line in lines if line["program"] == "compiled"])
        name = lines[0]["model"] if lines else part
        mine = ours["bf16"]
        times = rate(mine) / rate(compiled) if mine and compiled else None
        found.append((f"{name}: 1.2 x the fastest compiled peer", *judged(times, 1.2, "{:.2f} x")))
        if part == "large":
            used = utilization(mine, mine) if mine else None
            found.append((f"{name}: 55 % MFU in bf16", *judged(used[0] if used else None, 0.55, "{:.1%}")))
            times = rate(ours["fp8"]) / rate(mine) if mine and ours["fp8"] else None
            found.append((f"{name}: fp8 1.3 x our bf16", *judged(times, 1.3, "{:.2f} x")))
    for name, largest, _ in compared:
        found.append((f"losses: {name}, {curves.BOUND:.1%} at most", *judged(-largest, -curves.BOUND, "{:.2%}")))
    return found


def doctor(results: Results) -> list[str]:
    """What it did not find good."""
    file = results.folder / "doctor.jsonl"
    said = file.read_text().splitlines() if file.exists() else []
    return [line for line in said if line.startswith(("BAD", "note"))]


def judged(value: float | None, least: float, form: str) -> tuple[str, bool | None]:
    return ("not measured", None) if value is None else (form.format(abs(value)), value >= least)


def tests(results: Results) -> tuple[str, bool | None]:
    file = results.folder / "tests.jsonl"
    said = file.read_text().splitlines() if file.exists() else []
    ends = [line.removeprefix("test result: ") for line in said if line.startswith("test result")]
    skipped = sum("SKIPPED" in line for line in said)
    found = (ends[-1].split(";")[0] if ends else "not run") + (f", of which {skipped} skipped" if skipped else "")
    return found, None if skipped else results.passed("tests")


def report(results: Results, is_smoke: bool) -> str:
    page = ["# What was measured on this GPU", ""]
    if is_smoke:
        page = ["# A rehearsal on a CPU", "", "A small model stands for each: no figure here says anything of a GPU.", ""]
    compared = curves.compared(results)
    words = {True: "yes", False: "**no**", None: "not measured"}
    page += ["| goal | found | reached |", "|---|---|---|"]
    page += [f"| {goal} | {found} | {words[reached]} |" for goal, found, reached in goals(results, compared)]
    if remarks := doctor(results):
        page += ["", "What hephaestus-doctor remarks:", "", "```text", *remarks, "```"]
    for part in PARTS:
        if lines := results.of(part):
            page += ["", f"## {lines[0]['model']}", "", *table(lines)]
        if profile := next((line["profile"] for line in lines if line.get("profile")), None):
            page += ["", f"Where two steps more went, of the time on the device: {profile.split(';')[0].removeprefix('profile: ')}."]
            operations = results.folder / "profile.txt"
            if operations.exists():
                page += ["", "```text", *operations.read_text().splitlines()[2:OPERATIONS + 3], "```"]
    page += ["", FORMULA, "", "## Losses", "", *curves.table(results, compared)]
    if results.failed:
        page += ["", "## What did not run", "", "| | |", "|---|---|"]
        page += [f"| {name} | {why.replace('|', '/')} |" for name, why in results.failed.items()]
    return "\n".join(page) + "\n"


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    text = report(Results(folder), "--smoke" in sys.argv)
    (out / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
