"""PyTorch's ways to save the tensors of a checkpoint, each synced to the disk: their time as one JSON line each.

    saving.py CHECKPOINT FOLDER

CHECKPOINT is one of ours; its tensors are read into memory first. Each way writes the model and the optimizer as two files. No way
but ours hashes what it writes.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def synced(path: Path) -> int:
    """Waits until the file is on the disk; returns its size."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def warm(path: Path, size: int) -> None:
    """Writes so many bytes and removes them, as saving.sh does before each save."""
    with path.open("wb", buffering=0) as file:
        for _ in range(0, size, 1 << 23):
            file.write(bytes(1 << 23))
        os.fsync(file.fileno())
    path.unlink()


def main() -> None:
    checkpoint, folder = map(Path, sys.argv[1:])
    files = {name: checkpoint / name for name in ("model/model.safetensors", "optimizer.safetensors")}
    parts = {}
    for name, path in files.items():
        # Copies, as those read are maps of the file.
        parts[Path(name).stem] = {key: tensor.clone() for key, tensor in load_file(path).items()}
    for program, save in (("torch.save", torch.save), ("safetensors", save_file)):
        folder.mkdir(parents=True)
        warm(folder / "zeros", sum(path.stat().st_size for path in files.values()))
        began = time.perf_counter()
        size = 0
        for name, tensors in parts.items():
            path = folder / f"{name}.saved"
            save(tensors, path)
            size += synced(path)
        seconds = time.perf_counter() - began
        shutil.rmtree(folder)
        print(json.dumps({"program": program, "bytes": size, "seconds": seconds}))


main()
