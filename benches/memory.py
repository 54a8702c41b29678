"""Peak memory of `hephaestus-forge build` against the size of its input, as a Markdown table.

    .venv/bin/python benches/memory.py --text TEXT.jsonl --tokenizer FOLDER --sizes 10M,100M,1G,5G

TEXT is any JSON lines file with "text" (`benches/peers/tokenizing.py --make` writes one). Inputs are made of its lines, drawn at
random with a seed into documents of a few kilobytes, so that they are no duplicates of one another. They are scrubbed and
compared for exact and near duplicates; web filters are off, as they would leave out nearly all of such text.
"""

import argparse
import json
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORGE = ROOT / "target/release/hephaestus-forge"
UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}

RECIPE = """version: 1
output: {folder}/out
tokenizer: {tokenizer}
sources:
  text:
    inputs:
      - {{ reader: jsonl, paths: [{folder}/input.jsonl] }}
    quality: {{ scrub: {{ emails: true, secrets: true, ip_addresses: true }} }}
"""


def pool(path: Path, limit: int) -> list[str]:
    lines, size = [], 0
    with path.open(encoding="utf-8") as file:
        for document in file:
            for line in json.loads(document)["text"].splitlines():
                if len(line) > 20:
                    lines.append(line)
                    size += len(line)
            if size > limit:
                break
    return lines


def make(path: Path, size: int, lines: list[str]) -> None:
    draw = random.Random(size)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            document = "\n".join(draw.choices(lines, k=draw.randint(10, 80)))
            written += file.write(json.dumps({"text": document}) + "\n")


def build(folder: Path, tokenizer: Path) -> tuple[float, float, str]:
    """Seconds, peak resident MiB, and what the program said last."""
    recipe = folder / "forge.yaml"
    recipe.write_text(RECIPE.format(folder=folder, tokenizer=tokenizer))
    started, peak = time.monotonic(), 0.0
    told = folder / "told"
    with told.open("w") as file:
        program = subprocess.Popen([FORGE, "build", "--recipe", recipe], stderr=file)
    # What a child has used at most, as `wait4` tells it, is at least what this process has: the kernel's own mark is not.
    while program.poll() is None:
        peak = max(peak, high_water(program.pid))
        time.sleep(0.01)
    if program.returncode != 0:
        raise SystemExit(told.read_text())
    return time.monotonic() - started, peak, told.read_text()


def high_water(pid: int) -> float:
    """Peak resident MiB of a process; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    marks = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(marks[0].split()[1]) / 1024 if marks else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--sizes", default="10M,100M,1G,5G")
    arguments = parser.parse_args()
    lines = pool(arguments.text, 200 * 10**6)
    print("| input | peak resident | seconds | MB/s | phases |\n|---|---|---|---|---|")
    for size in arguments.sizes.split(","):
        folder = Path(tempfile.mkdtemp(dir=ROOT.parent))
        try:
            make(folder / "input.jsonl", int(size[:-1]) * UNITS[size[-1]], lines)
            took, peak, told = build(folder, arguments.tokenizer.resolve())
            phases = next((line[4:].strip() for line in told.splitlines() if line.startswith("time")), "")
            bytes_ = (folder / "input.jsonl").stat().st_size
            print(f"| {size}B | {peak:.0f} MiB | {took:.1f} | {bytes_ / took / 1e6:.1f} | {phases} |", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
