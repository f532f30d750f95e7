"""A subscriber in a process of its own: prints how many messages of a type it has read. Arguments: endpoint, type."""

import json
import sys

import zmq

endpoint, wanted = sys.argv[1:]
socket = zmq.Context().socket(zmq.SUB)
socket.rcvhwm = 0
socket.subscribe(b"")
socket.connect(endpoint)
count = 0
while True:
    frames = socket.recv_multipart()
    header = json.loads(frames[frames.index(b"<IDS|MSG>") + 2])
    count += header["msg_type"] == wanted
    print(count, flush=True)
