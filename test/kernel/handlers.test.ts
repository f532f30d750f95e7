/**
 * The table of requests, which types hold to the protocol in both directions: that the lines marked with
 * `@ts-expect-error` don't compile is checked by the build.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PublishedContents } from "../../kernel/protocol/published.js";
import type { CommInfoReply } from "../../kernel/protocol/replies.js";
import { parse } from "../../kernel/protocol/requests.js";
import type { Handler, Handlers } from "../../kernel/server/handlers.js";
import { busyUntil, startKernel } from "./support.js";

test("a handler reads the request's fields and gives the reply's", () => {
  const right: Handler<"comm_info_request"> = {
    parse: parse.commInfo,
    handle: ({ targetName }) => ({ status: "ok", comms: { a: { target_name: targetName ?? "" } } }),
    reply: "comm_info_reply",
  };
  const wrong: Partial<Handler<"comm_info_request">>[] = [
    // @ts-expect-error: the request has no such field
    { handle: ({ target }) => ({ status: "ok", comms: { a: { target_name: target } } }) },
    // @ts-expect-error: a field is missing
    { handle: () => ({ status: "ok" }) },
    // @ts-expect-error: a field is called otherwise
    { handle: () => ({ status: "ok", comms: { a: { targetName: "" } } }) },
    // @ts-expect-error: a field too many
    { handle: (): CommInfoReply => ({ status: "ok", comms: {}, coms: {} }) },
    // @ts-expect-error: there is no such status
    { handle: () => ({ status: "fine", comms: {} }) },
    // @ts-expect-error: another request's reply
    { reply: "complete_reply" },
    // @ts-expect-error: another request's content
    { parse: parse.isComplete },
  ];
  // @ts-expect-error: every request has an entry
  const incomplete: Handlers = { comm_info_request: right };
  // @ts-expect-error: what is published has a content, too
  const published: PublishedContents["status"] = { execution_state: "tired" };
  assert.deepEqual(
    [wrong.length, Object.keys(incomplete).length, published.execution_state.length],
    [7, 1, 5],
  );
  assert.throws(() => parse.commInfo({ target_name: 1 }), /target_name: expected a string, found a number/);
});

test("names of Object's own are no requests", async () => {
  const kernel = await startKernel();
  for (const type of ["constructor", "toString", "__proto__", "hasOwnProperty"]) kernel.client.post(type, {});
  assert.equal((await kernel.run("6 * 7")).text, "42");
  assert.match(kernel.log, /shell: unknown message type "constructor"/);
  assert.doesNotMatch(kernel.log, /TypeError/);
});

test("while a cell is executed, front ends last see busy, and idle once it is over", async () => {
  const kernel = await startKernel();
  const states: string[] = [];
  const stop = kernel.client.listen(({ header, content }) => {
    if (header.msg_type === "status") states.push(String(content.execution_state));
  });
  let meanwhile: string | undefined;
  await busyUntil(kernel, async () => {
    const seen = states.length;
    await kernel.client.request("comm_info_request");
    // Busy and idle of the request, and busy again.
    while (states.length < seen + 3) await new Promise((resolve) => setTimeout(resolve, 10));
    meanwhile = states.slice(seen).join(" ");
  });
  stop();
  assert.equal(meanwhile, "busy idle busy");
  assert.equal(states.at(-1), "idle");
});
