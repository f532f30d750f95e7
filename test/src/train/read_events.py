"""Prints what TensorBoard reads from the event files in a folder, as JSON: `read_events.py LOG_DIR`."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()
image = events.Images("sample/0")[0] if "sample/0" in tags["images"] else None
print(
    json.dumps(
        {
            "loss": [[event.step, event.value] for event in events.Scalars("loss")],
            "tags": tags["scalars"],
            "text": tags["tensors"],
            "image": image and [image.width, image.height, len(image.encoded_image_string)],
        }
    )
)
