"""Prints as JSON what TensorBoard makes of a run's event files: {tag: [[step, value], ...]}.

usage: read.py FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader, plugin_event_accumulator
from tensorboard.util import tensor_util
import glob

folder = sys.argv[1]

# The strict reader: every record of every file, checksums verified.
records = [[event for event in event_file_loader.EventFileLoader(path).Load()]
           for path in sorted(glob.glob(f"{folder}/events.out.tfevents.*"))]

# What the scalars page of TensorBoard shows, by both of its readers.
old = event_accumulator.EventAccumulator(folder)
old.Reload()
new = plugin_event_accumulator.EventAccumulator(folder)
new.Reload()
json.dump({
    "files": [{
        "first": {"file_version": events[0].file_version, "start_at": events[1].step,
                  "starts": events[1].session_log.status == 1},
        "events": len(events),
    } for events in records],
    "old": {tag: [[event.step, event.value] for event in old.Scalars(tag)] for tag in old.Tags()["scalars"]},
    "new": {tag: [[event.step, tensor_util.make_ndarray(event.tensor_proto).item()] for event in new.Tensors(tag)]
            for tag in new.Tags()["tensors"]},
}, sys.stdout, allow_nan=True)
