/**
 * Runs many cells in one kernel and says how its processes' memory grows:
 *
 *     node dist/test/bench/kernel-soak.js [--cells N] [--seconds S]
 */
import { readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TestKernel } from "../kernel/support.js";

const { values } = parseArgs({
  options: { cells: { type: "string", default: "5000" }, seconds: { type: "string", default: "600" } },
});
const cells = Number(values.cells);
const pause = (Number(values.seconds) * 1000) / cells;

/** What people do: declare, declare again, compute, print, show, fail, import. */
const kinds = [
  (i: number) => `let value${i % 50} = ${i}; value${i % 50} + 1`,
  (i: number) => `function f${i % 20}(x: number): number { return x * ${i}; }\nf${i % 20}(2)`,
  (i: number) => `class Point${i % 10} { constructor(readonly x = ${i}) {} }\nnew Point${i % 10}().x`,
  () => 'for (let k = 0; k < 200; k++) console.log("line", k)',
  (i: number) => `await new Promise((r) => setTimeout(r, 1)); [${i}, { two: "zwei" }]`,
  (i: number) => `display.html("<b>${i}</b>", { displayId: "soak", update: ${i > 50} })`,
  (i: number) => `const wrong: number = "${i}"`,
  (i: number) => `throw new Error("${i}")`,
  () => 'import { readFile } from "node:fs/promises"; (await readFile("/etc/hostname")).length',
  () => "new Float32Array(1e6).fill(1).reduce((a, b) => a + b)",
];

const kernel = new TestKernel();
await kernel.start({ FIRSTFRAME_HISTORY: ":memory:" });
const start = performance.now();
const times: number[] = [];
console.log(
  "| cells | s | server MB | executor MB | compiler MB | median ms |\n| --- | --- | --- | --- | --- | --- |",
);
for (let i = 0; i <= cells; i++) {
  const began = performance.now();
  await kernel.client.execute(kinds[i % kinds.length]!(i));
  times.push(performance.now() - began);
  if (i % Math.max(1, Math.floor(cells / 10)) === 0) report(i);
  const ahead = i * pause - (performance.now() - start);
  if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead));
}
await kernel.stop();

function report(count: number): void {
  const server = kernel.client.process!.pid!;
  const children = childrenOf(server).map((pid) => ({ command: commandOf(pid), memory: memoryOf(pid) }));
  const sum = (wanted: boolean) =>
    children
      .filter(({ command }) => /executor/.test(command) === wanted)
      .reduce((total, { memory }) => total + memory, 0);
  const recent = times.slice(-500).sort((a, b) => a - b);
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  const row = [
    count,
    seconds,
    memoryOf(server),
    sum(true),
    sum(false),
    recent[recent.length >> 1]!.toFixed(1),
  ];
  console.log(`| ${row.join(" | ")} |`);
}

function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => new RegExp(`^PPid:\\s+${parent}$`, "m").test(read(`/proc/${pid}/status`)));
}

function memoryOf(pid: number): number {
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) / 1024);
}

function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`);
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // it has ended
  }
}
