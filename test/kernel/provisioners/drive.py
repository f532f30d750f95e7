"""Starts the kernel through Gateway Provisioners' distributed provisioner, as a Jupyter server does, and prints what came of it as JSON."""
import asyncio
import json
import os
import sys

from jupyter_client.manager import AsyncKernelManager


async def run(client, code):
    texts = []

    def output(message):
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = await client.execute_interactive(code, output_hook=output, timeout=120)
    return {"status": reply["content"]["status"], "text": "".join(texts)}


async def interrupted(manager, client):
    begun = asyncio.Event()

    def output(message):
        if message["msg_type"] == "stream":
            begun.set()

    endless = asyncio.ensure_future(
        client.execute_interactive(
            'console.log("begun"); for (;;) {}', output_hook=output, timeout=120
        )
    )
    await begun.wait()
    await manager.interrupt_kernel()
    return (await endless)["content"]["status"]


async def main(name, policy):
    manager = AsyncKernelManager(kernel_name=name, transport_encryption=policy)
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=120)
    found = {
        "provisioner": type(manager.provisioner).__name__,
        "encrypted": bool(manager.get_connection_info().get("curve_publickey")),
        "first": await run(client, "console.log(6 * 7); let kept = 1;"),
        "interrupted": await interrupted(manager, client),
        "kept": await run(client, "console.log(kept)"),
        "pid": (await run(client, "console.log(process.ppid)"))["text"].strip(),
    }
    client.stop_channels()
    await manager.restart_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=120)
    found["restarted"] = await run(client, "console.log(process.ppid)")
    client.stop_channels()
    await manager.shutdown_kernel()
    found["alive"] = await manager.is_alive()
    print(json.dumps(found))


asyncio.run(main(*sys.argv[1:]))
# The response address is served by a thread that nobody ends.
sys.stdout.flush()
os._exit(0)
