"""The loaders that people write in Python, over the same corpus and batch shape as `benches/corpus.rs`, and that one.

    .venv/bin/python benches/peers/loader.py [--rounds 7] [--seconds 1]

writes the corpus into a temporary folder, measures every loader in turn, round after round, and prints the medians and
how many times as fast as each of the others this project's loader is. Every number is tokens a second of whole batches,
the corpus in the page cache, after a warm-up.

`nanogpt`           rows at random places: a memory map anew for each batch, a slice to int64 for each row, `torch.stack`
`nanogpt, resumable` the same over a shuffled epoch (`numpy.random.permutation` of the rows) instead of random places
`megatron`          document, sample and shuffle index; rows joined from their documents; positions that restart at every
                    end of a document; loss mask; default collation. Without attention masks (T x T a row), which would
                    slow it down much further.
`megatron, workers` that in a `torch.utils.data.DataLoader` with two worker processes
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch

ROWS, LENGTH, END = 8, 2048, 2
OURS = ["cargo", "bench", "--quiet", "--bench", "corpus", "--"]


def nanogpt(prefix):
    while True:
        data = numpy.memmap(f"{prefix}.bin", dtype=numpy.uint16, mode="r")
        starts = torch.randint(len(data) - LENGTH, (ROWS,))
        yield (
            torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(numpy.int64)) for i in starts]),
            torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(numpy.int64)) for i in starts]),
        )


def nanogpt_resumable(prefix):
    while True:
        data = numpy.memmap(f"{prefix}.bin", dtype=numpy.uint16, mode="r")
        order = numpy.random.permutation((len(data) - 1) // LENGTH) * LENGTH
        for first in range(0, len(order) - ROWS, ROWS):
            starts = order[first : first + ROWS]
            yield (
                torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(numpy.int64)) for i in starts]),
                torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(numpy.int64)) for i in starts]),
            )


class Megatron(torch.utils.data.Dataset):
    """Rows of LENGTH + 1 tokens from shuffled documents, each row starting at the last token of the one before."""

    def __init__(self, prefix):
        index = Path(f"{prefix}.idx").read_bytes()
        sequences = int.from_bytes(index[18:26], "little")
        self.lengths = numpy.frombuffer(index, numpy.int32, sequences, 34)
        self.offsets = numpy.frombuffer(index, numpy.int64, sequences, 34 + 4 * sequences)
        self.tokens = memoryview(numpy.memmap(f"{prefix}.bin", dtype=numpy.uint8, mode="r"))
        generator = numpy.random.RandomState(0)
        self.documents = numpy.arange(sequences, dtype=numpy.int32)
        generator.shuffle(self.documents)
        ends = numpy.cumsum(self.lengths[self.documents], dtype=numpy.int64)
        places = numpy.arange((ends[-1] - 1) // LENGTH + 1) * LENGTH
        holders = numpy.searchsorted(ends, places, side="right")
        self.samples = numpy.stack([holders, places - (ends - self.lengths[self.documents])[holders]], axis=1)
        self.shuffled = numpy.arange(len(self.samples) - 1, dtype=numpy.uint32)
        generator.shuffle(self.shuffled)

    def __len__(self):
        return len(self.shuffled)

    def get(self, document, offset, length=None):
        length = int(self.lengths[document]) - offset if length is None else length
        return numpy.frombuffer(self.tokens, numpy.uint16, length, int(self.offsets[document]) + 2 * offset)

    def __getitem__(self, number):
        sample = self.shuffled[number]
        (first, start), (last, stop) = self.samples[sample], self.samples[sample + 1]
        if first == last:
            parts = [self.get(self.documents[first], start, stop - start + 1)]
        else:
            parts = [self.get(self.documents[first], start)]
            parts += [self.get(self.documents[i], 0) for i in range(first + 1, last)]
            parts.append(self.get(self.documents[last], 0, stop + 1))
        text = torch.from_numpy(numpy.concatenate(parts).astype(numpy.int64)).long()
        tokens, labels = text[:-1].contiguous(), text[1:].contiguous()
        loss_mask = torch.ones(LENGTH, dtype=torch.float)
        positions = torch.arange(LENGTH, dtype=torch.long)
        loss_mask[tokens == END] = 0.0
        before = 0
        for place in positions[tokens == END].clone():
            positions[place + 1 :] -= place + 1 - before
            before = place + 1
        return {"tokens": tokens, "labels": labels, "loss_mask": loss_mask, "position_ids": positions}


def megatron(prefix, workers=0):
    dataset = Megatron(prefix)
    while True:
        yield from torch.utils.data.DataLoader(dataset, batch_size=ROWS, drop_last=True, num_workers=workers)


def rate(batches, seconds, warmup=200):
    for _ in range(warmup):
        next(batches)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        next(batches)
        count += 1
    return count * ROWS * LENGTH / (time.perf_counter() - begun)


def ours(prefix, packing, seconds):
    command = [*OURS, "measure", str(prefix), packing, str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--bench", nargs="+", default=OURS, help="how to run benches/corpus.rs")
    arguments = parser.parse_args()
    OURS[:] = arguments.bench
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "corpus"
        subprocess.run([*OURS, "write", str(prefix)], check=True)
        seconds = arguments.seconds
        loaders = {
            "hephaestus, split": lambda: ours(prefix, "split", seconds),
            "hephaestus, best fit": lambda: ours(prefix, "best_fit", seconds),
            "nanogpt": lambda: rate(nanogpt(prefix), seconds),
            "nanogpt, resumable": lambda: rate(nanogpt_resumable(prefix), seconds),
            "megatron": lambda: rate(megatron(prefix), seconds),
            "megatron, workers": lambda: rate(megatron(prefix, 2), seconds),
        }
        rates = {name: [] for name in loaders}
        for _ in range(arguments.rounds):
            for name, measure in loaders.items():
                rates[name].append(measure())
    ours_median = statistics.median(rates["hephaestus, split"])
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"{min(values) / 1e6:.1f} to {max(values) / 1e6:.1f}"
        print(f"{name:22} {median / 1e6:8.1f} M tokens/s  ({spread})  split is {ours_median / median:6.1f} times that")


if __name__ == "__main__":
    main()
