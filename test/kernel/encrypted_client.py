"""Python's own client with transport_encryption="required": what a front end does, on all five sockets."""

import json
import os
import time

from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name="firstframe", transport_encryption="required")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=120)

info = json.load(open(manager.connection_file))
assert len(info["curve_publickey"]) == 40 and len(info["curve_secretkey"]) == 40, info.keys()
assert os.stat(manager.connection_file).st_mode & 0o777 == 0o600


def run(code, **options):
    texts = []

    def hook(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            texts.append(content["text"])
        elif message["msg_type"] == "execute_result":
            texts.append(content["data"]["text/plain"])

    reply = client.execute_interactive(code, output_hook=hook, timeout=120, **options)
    return reply["content"], "".join(texts)


reply, text = run('console.log("out"); 6 * 7')
assert reply["status"] == "ok" and text == "out\n42", (reply, text)

answer = client.complete("'abc'.toUpperC", reply=True, timeout=120)
assert "toUpperCase" in answer["content"]["matches"], answer["content"]

reply, text = run('await prompt("name? ")', allow_stdin=True, stdin_hook=lambda _: client.input("Ada"))
assert text == "'Ada'", (reply, text)

# The heartbeat: it beats as long as it is answered.
deadline = time.monotonic() + 120
while not client.hb_channel.is_beating():
    assert time.monotonic() < deadline, "no heartbeat"
    time.sleep(0.1)
assert client.is_alive()

for _ in range(2):
    request = client.execute('console.log("on"); while (true) {}')
    while client.get_iopub_msg(timeout=120)["msg_type"] != "stream":
        pass
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=120)
    while reply["parent_header"]["msg_id"] != request:
        reply = client.get_shell_msg(timeout=120)
    assert reply["content"]["ename"] == "KeyboardInterrupt", reply["content"]

run("let kept = 1")
manager.restart_kernel()
client.wait_for_ready(timeout=120)
again = json.load(open(manager.connection_file))
assert again["curve_publickey"] == info["curve_publickey"]
reply, text = run("typeof kept")
assert reply["status"] == "error", reply
reply, text = run("1 + 1")
assert text == "2", text

answer = client.shutdown(reply=True, timeout=120) if hasattr(client, "shutdown") else None
assert answer["content"]["status"] == "ok", answer
client.stop_channels()
manager.shutdown_kernel(now=True)
print("all is well")
