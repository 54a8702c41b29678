"""Prints as JSON what TensorBoard reads in a folder of event files.

usage: read.py FOLDER

files: a file's first two events and their number, by the reader that verifies checksums.
old, new: {tag: [[step, value], ...]}, by the reader of scalars and by the one of TensorBoard's pages.
"""

import glob
import json
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader, plugin_event_accumulator
from tensorboard.util import tensor_util


def opening(path):
    events = list(event_file_loader.EventFileLoader(path).Load())
    version, start = events[:2]
    return {"version": version.file_version, "status": start.session_log.status, "step": start.step, "events": len(events)}


folder = sys.argv[1]
old = event_accumulator.EventAccumulator(folder)
new = plugin_event_accumulator.EventAccumulator(folder)
old.Reload()
new.Reload()
result = {
    "files": [opening(path) for path in sorted(glob.glob(f"{folder}/events.out.tfevents.*"))],
    "old": {tag: [[e.step, e.value] for e in old.Scalars(tag)] for tag in old.Tags()["scalars"]},
    "new": {tag: [[e.step, tensor_util.make_ndarray(e.tensor_proto).item()] for e in new.Tensors(tag)] for tag in new.Tags()["tensors"]},
}
json.dump(result, sys.stdout)
