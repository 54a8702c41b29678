"""Hugging Face's tokenizers against this project's encoder, on the same text, cores and in the same run.

    .venv/bin/python benches/peers/tokenizing.py --make FILE [--bytes 1000000000]
    .venv/bin/python benches/peers/tokenizing.py FILE TOKENIZER [--rounds 5] [--seconds 3]
    .venv/bin/python benches/peers/tokenizing.py FILE TOKENIZER --check

`--make` writes JSON lines with mixed text of what is on the machine: Python packages, what lies in /usr/share and
/usr/include, the folders given with `--from`; documents of a few KB, shuffled, the same for the same machine. Where that is
not enough, later passes cut the files elsewhere. Measuring alternates rounds of `encode_batch`, of `encode_batch_fast` (which
leaves out offsets) and of ours over batches of 1000 documents, prints the medians and how many times as fast ours is. `--check`
compares every id in FILE. TOKENIZER is a folder with `tokenizer.json`.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

BATCH, MEASURED = 1000, 256 << 20
OURS = ["cargo", "bench", "--quiet", "-p", "hephaestus-forge", "--bench", "tokenize", "--"]


def make(target, size, folders):
    """Writes documents of 200 bytes to 16 KB, log-uniform, until they hold `size` bytes of text."""
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*") if readable(path))
    dice = random.Random(0)
    written = 0
    with open(f"{target}.partial", "w", encoding="utf-8") as out:
        while written < size:
            dice.shuffle(paths)
            before = written
            for path in paths:
                for text in cut(path, dice):
                    out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    written += len(text.encode())
                if written >= size:
                    break
            if written == before:
                raise SystemExit(f"no text in {folders}")
    shuffle(f"{target}.partial", target, dice)
    print(f"{target}: {written / 1e6:.0f} MB of text")


def readable(path):
    return path.is_file() and not path.is_symlink() and 64 < path.stat().st_size < 20_000_000


def cut(path, dice):
    """The documents in a file: none if it is not text."""
    try:
        text = path.read_bytes().decode()
    except (UnicodeDecodeError, OSError):
        return
    if "\0" in text:
        return
    at = dice.randrange(min(len(text), 2000))
    while at < len(text):
        length = int(200 * 80 ** dice.random())
        yield text[at : at + length]
        at += length


def shuffle(source, target, dice):
    """Lines in another order; only where they start is held in memory."""
    starts = [0]
    with open(source, "rb") as lines:
        starts.extend(itertools.accumulate(len(line) for line in lines))
    spans = list(itertools.pairwise(starts))
    dice.shuffle(spans)
    with open(source, "rb") as lines, open(target, "wb") as out:
        for start, end in spans:
            lines.seek(start)
            out.write(lines.read(end - start))
    os.remove(source)


def batches(file):
    with open(file, encoding="utf-8") as lines:
        while batch := [json.loads(line)["text"] for line in itertools.islice(lines, BATCH)]:
            yield batch


def rate(texts, encode, seconds):
    """Megabytes a second, after a tenth of the time to warm up."""
    endless = itertools.cycle(texts)
    for limit in (seconds / 10, seconds):
        begun, measured = time.perf_counter(), 0
        while time.perf_counter() - begun < limit:
            batch, size = next(endless)
            encode(batch)
            measured += size
        taken = time.perf_counter() - begun
    return measured / 1e6 / taken


def ours(file, tokenizer, seconds):
    # Cargo runs a bench in its package's folder.
    command = [*OURS, "measure", os.path.abspath(file), os.path.abspath(tokenizer), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(arguments, tokenizer):
    texts, size = [], 0
    for batch in batches(arguments.file):
        texts.append((batch, sum(len(text.encode()) for text in batch)))
        size += texts[-1][1]
        if size > MEASURED:
            break
    seconds = arguments.seconds
    encoders = {
        "hephaestus": lambda: ours(arguments.file, arguments.tokenizer, seconds),
        "encode_batch": lambda: rate(texts, lambda batch: tokenizer.encode_batch(batch, add_special_tokens=False), seconds),
        "encode_batch_fast": lambda: rate(
            texts, lambda batch: tokenizer.encode_batch_fast(batch, add_special_tokens=False), seconds
        ),
    }
    rates = {name: [] for name in encoders}
    for _ in range(arguments.rounds):
        for name, encode in encoders.items():
            rates[name].append(encode())
    median = {name: statistics.median(values) for name, values in rates.items()}
    threads = int(os.environ["RAYON_NUM_THREADS"])
    for name, values in rates.items():
        print(
            f"{name:18} {median[name]:8.1f} MB/s on {threads} threads ({min(values):.1f} to {max(values):.1f}), "
            f"{median[name] / threads:.1f} a thread; hephaestus is {median['hephaestus'] / median[name]:.1f} times as fast"
        )


def check(arguments, tokenizer):
    """Compares digests batch by batch; the first that differs ends it."""
    import numpy

    command = [*OURS, "digests", os.path.abspath(arguments.file), os.path.abspath(arguments.tokenizer)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        documents = tokens = size = 0
        for number, batch in enumerate(batches(arguments.file)):
            digest = hashlib.sha256()
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids = encoding.ids
                digest.update(len(ids).to_bytes(4, "little"))
                digest.update(numpy.array(ids, dtype="<u4").tobytes())
                tokens += len(ids)
            found = process.stdout.readline().strip()
            if found != digest.hexdigest():
                process.kill()
                raise SystemExit(f"{arguments.file}: ids differ in lines {number * BATCH + 1} to {number * BATCH + len(batch)}")
            documents += len(batch)
            size += sum(len(text.encode()) for text in batch)
            print(f"\r{size / 1e6:.0f} MB the same", end="", file=sys.stderr, flush=True)
        if process.stdout.read().strip():
            raise SystemExit("more batches than documents")
    print(f"\r{documents} documents, {size} bytes, {tokens} tokens: every id is the same")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("tokenizer", nargs="?")
    parser.add_argument("--make", action="store_true", help="write FILE instead")
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--from", nargs="+", dest="folders", metavar="FOLDER", help="folders to take text from, in place of the usual")
    parser.add_argument("--check", action="store_true", help="compare ids instead")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--bench", nargs="+", default=OURS, help="how to run crates/forge/benches/tokenize.rs")
    arguments = parser.parse_args()
    OURS[:] = arguments.bench
    if arguments.make:
        data = Path(__file__).resolve().parents[2].parent / "shared" / "data"
        packages, library = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
        usual = [data, packages, library, "/usr/share", "/usr/include", "/usr/lib/python3"]
        return make(arguments.file, arguments.bytes, arguments.folders or usual)
    if arguments.tokenizer is None:
        parser.error("TOKENIZER is missing")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(arguments.tokenizer) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return check(arguments, tokenizer) if arguments.check else measure(arguments, tokenizer)


if __name__ == "__main__":
    main()
