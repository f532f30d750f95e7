/**
 * Notebooks as people write them, cell by cell (`//%%` begins a cell), and stand-ins for libraries that this package does
 * not depend on: their types, as far as the notebooks need them, made in the same way as theirs.
 */

const zod = `
export declare class ZodError extends Error { issues: { message: string; path: (string | number)[] }[] }
export interface ZodType<O> {
  parse(input: unknown): O;
  safeParse(input: unknown): { success: true; data: O } | { success: false; error: ZodError };
  optional(): ZodType<O | undefined>;
  default(value: O): ZodType<O>;
  transform<T>(change: (value: O) => T): ZodType<T>;
}
type Of<T> = T extends ZodType<infer O> ? O : never;
declare namespace z {
  export function string(): ZodType<string>;
  export function number(): ZodType<number>;
  export function literal<T extends string | number>(value: T): ZodType<T>;
  export function array<O>(element: ZodType<O>): ZodType<O[]>;
  export function object<S extends Record<string, ZodType<any>>>(shape: S): ZodType<{ [K in keyof S]: Of<S[K]> }>;
  export function discriminatedUnion<T extends ZodType<any>[]>(key: string, options: [...T]): ZodType<Of<T[number]>>;
  export { Of as infer };
}
export { z };`;

const rxjs = `
export declare class Subscription { unsubscribe(): void; readonly closed: boolean }
export type Operator<T, R> = (source: Observable<T>) => Observable<R>;
export declare class Observable<T> {
  private _source;
  pipe<A>(a: Operator<T, A>): Observable<A>;
  pipe<A, B>(a: Operator<T, A>, b: Operator<A, B>): Observable<B>;
  subscribe(next: (value: T) => void): Subscription;
}
export declare class Subject<T> extends Observable<T> { next(value: T): void }
export declare function of<T extends readonly unknown[]>(...values: T): Observable<T[number]>;
export declare function map<T, R>(change: (value: T) => R): Operator<T, R>;
export declare function filter<T, S extends T>(test: (value: T) => value is S): Operator<T, S>;
export declare function filter<T>(test: (value: T) => boolean): Operator<T, T>;
export declare function toArray<T>(): Operator<T, T[]>;
export declare function firstValueFrom<T>(source: Observable<T>): Promise<T>;`;

const effect = `
declare const EffectTypeId: unique symbol;
export interface Effect<out A, out E = never> { readonly [EffectTypeId]: { a: A; e: E }; [Symbol.iterator](): Generator<Effect<A, E>, A, any>; pipe<B>(f: (self: this) => B): B }
export declare namespace Effect {
  function succeed<A>(value: A): Effect<A>;
  function fail<E>(error: E): Effect<never, E>;
  function gen<Y extends Effect<any, any>, A>(body: () => Generator<Y, A, any>): Effect<A, Y extends Effect<any, infer E> ? E : never>;
  function catchTag<E extends { readonly _tag: string }, K extends E["_tag"], B>(tag: K, handle: (error: Extract<E, { _tag: K }>) => Effect<B>): <A>(self: Effect<A, E>) => Effect<A | B, Exclude<E, { _tag: K }>>;
  function runPromise<A>(self: Effect<A, any>): Promise<A>;
}
export type Option<A> = { readonly _tag: "None" } | { readonly _tag: "Some"; readonly value: A };
export declare namespace Option {
  function fromNullable<A>(value: A): Option<NonNullable<A>>;
  function isNone<A>(self: Option<A>): self is { readonly _tag: "None" };
}`;

const react = `
export type ReactNode = string | number | boolean | null | undefined | ReactElement | readonly ReactNode[];
export interface ReactElement<P = any> { readonly type: unknown; readonly props: P }
export declare function useState<S>(initial: S | (() => S)): [S, (value: S | ((before: S) => S)) => void];
export declare namespace JSX {
  type Element = ReactElement;
  interface ElementChildrenAttribute { children: {} }
  interface IntrinsicAttributes { key?: string | number }
  interface IntrinsicElements { [tag: string]: { key?: string | number; className?: string; onClick?: () => void; children?: ReactNode } }
}`;

const typeorm = `
export declare function Entity(): ClassDecorator;
export declare function PrimaryGeneratedColumn(): PropertyDecorator;
export declare function Column(options?: { nullable?: boolean }): PropertyDecorator;
export declare class Repository<T> { findOneBy(where: Partial<T>): Promise<T | null>; save(entity: T): Promise<T>; private target; }
export declare class DataSource { constructor(options: { entities: Function[] }); getRepository<T>(entity: new () => T): Repository<T> }`;

const frame = `
export interface Column<T> extends Iterable<T> { readonly length: number; at(i: number): T | undefined }
export declare class Table<R extends Record<string, unknown>> {
  private readonly rows;
  filter(test: (row: R) => boolean): Table<R>;
  derive<N extends Record<string, (row: R) => unknown>>(columns: N): Table<R & { [K in keyof N]: ReturnType<N[K]> }>;
  select<K extends keyof R>(...names: K[]): Table<Pick<R, K>>;
  groupby<K extends keyof R>(name: K): { rollup<A extends Record<string, (rows: R[]) => unknown>>(of: A): Table<Pick<R, K> & { [N in keyof A]: ReturnType<A[N]> }> };
  get<K extends keyof R>(name: K, row: number): R[K];
  column<K extends keyof R>(name: K): Column<R[K]> | undefined;
  objects(): R[];
  numRows(): number;
}
export declare function table<C extends Record<string, readonly unknown[]>>(columns: C): Table<{ [K in keyof C]: C[K][number] }>;
export declare const op: { mean(values: readonly number[]): number; sum(values: readonly number[]): number };`;

const scales = `
export interface ScaleLinear<O> { (x: number): O; domain(): number[]; domain(d: Iterable<number>): this; range(): O[]; range(r: Iterable<O>): this; ticks(n?: number): number[] }
export declare function scaleLinear<O = number>(): ScaleLinear<O>;
export declare function extent<T>(values: Iterable<T>, of: (value: T) => number): [number, number] | [undefined, undefined];
export declare function group<T, K>(values: Iterable<T>, key: (value: T) => K): Map<K, T[]>;
export interface Line<T> { (data: Iterable<T>): string | null; x(of: (d: T) => number): this; y(of: (d: T) => number): this }
export declare function line<T>(): Line<T>;
interface BaseSelection { node(): Element | null }
export interface Selection<E extends Element, D> extends BaseSelection { attr(name: string, value: string | number | ((this: E, d: D, i: number) => string | number)): this; append<K extends keyof HTMLElementTagNameMap>(tag: K): Selection<HTMLElementTagNameMap[K], D>; append(tag: string): Selection<Element, D>; selectAll(tag: string): { data<N>(data: N[]): { join(tag: string): Selection<Element, N> } } }
export declare function select<E extends Element>(element: E): Selection<E, unknown>;`;

/** Types of libraries by package. */
export const packages: Readonly<Record<string, string>> = {
  zod,
  rxjs,
  effect,
  react,
  typeorm,
  frame,
  scales,
};

export const notebooks: Readonly<Record<string, string>> = {
  "forms: a schema and the type made of it": `
import { z } from "zod";
//%%
const User = z.object({ name: z.string(), age: z.number().optional(), tags: z.array(z.string()).default([]) });
//%%
type User = z.infer<typeof User>;
//%%
const parsed = User.safeParse({ name: "a" });
if (!parsed.success) throw parsed.error;
//%%
const user: User = parsed.data;
user.tags.map((tag) => tag.length);
//%%
const Event = z.discriminatedUnion("type", [
  z.object({ type: z.literal("click"), x: z.number() }),
  z.object({ type: z.literal("key"), code: z.string() }),
]);
type Event = z.infer<typeof Event>;
//%%
const event: Event = Event.parse({ type: "key", code: "a" });
if (event.type !== "key") throw new Error("no key");
//%%
event.code.length;
//%%
function handle(e: Event): number | string {
  switch (e.type) {
    case "click":
      return e.x;
    case "key":
      return e.code;
  }
}
//%%
handle(event); const seen: Record<Event["type"], number> = { click: 0, key: 0 }; seen[event.type] += 1;`,

  "streams: subjects and subscriptions": `
import { filter, firstValueFrom, map, type Observable, of, Subject, type Subscription, toArray } from "rxjs";
//%%
const subject = new Subject<number>(); let subscription: Subscription | undefined; let latest: number | undefined;
//%%
subscription = subject.pipe(filter((x) => x > 1), map((x) => x * 2)).subscribe((value) => { latest = value; });
//%%
subject.next(5); if (latest !== undefined) console.log(latest);
//%%
subscription.unsubscribe(); subscription = undefined;
//%%
const texts = of(1, "two").pipe(filter((x): x is string => typeof x === "string"), toArray());
const all: Observable<string[]> = texts; const list = await firstValueFrom(all); list.map((text) => text.length);`,

  "effects: generators and tagged errors": `
import { Effect, Option } from "effect";
//%%
class NotFound { readonly _tag = "NotFound"; constructor(readonly id: number) {} }
const find = (id: number): Effect<string, NotFound> => (id > 0 ? Effect.succeed("x") : Effect.fail(new NotFound(id)));
//%%
const program = Effect.gen(function* () { const text = yield* find(1); return text.length; }).pipe(Effect.catchTag("NotFound", (error: NotFound) => Effect.succeed(error.id)));
//%%
const length = await Effect.runPromise(program); length.toFixed();
const home = Option.fromNullable(process.env.HOME);
if (Option.isNone(home)) throw new Error("no home");
//%%
home.value.length;`,

  "components: JSX on the server": `
import { type ReactNode, useState } from "react";
//%%
interface CardProps { title: string; children?: ReactNode }
function Card({ title, children }: CardProps) {
  const [n, setN] = useState(3);
  return <section className="card" onClick={() => setN((before) => before + 1)}><h1>{title}</h1>{n}{children}</section>;
}
//%%
const element = <Card title="T"><b>bold</b>{[1, 2].map((n) => <i key={n}>{n}</i>)}</Card>;
//%%
const List = <T,>({ items, render }: { items: T[]; render: (item: T) => ReactNode }) => <ul>{items.map(render)}</ul>;
//%%
<List items={[1, 2]} render={(n) => n.toFixed()} />; element.props.title;`,

  "entities: decorators of the older kind": `
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type Repository } from "typeorm";
//%%
@Entity() class Photo { @PrimaryGeneratedColumn() id!: number; @Column() name!: string; @Column({ nullable: true }) note?: string; }
//%%
const source = new DataSource({ entities: [Photo] }); let photos: Repository<Photo> | null = null;
photos = source.getRepository(Photo);
//%%
const photo = await photos.findOneBy({ name: "a" }); if (!photo) throw new Error("no photo");
//%%
photo.note = "seen"; await photos.save(photo); photo.note?.length; photo.name.length;`,

  "tables: columns, groups and summaries": `
import { op, type Table, table } from "frame";
//%%
let data = table({ city: ["a", "b", "a"], sales: [1, 2, 3] });
//%%
data = data.filter((row) => row.sales > 1);
//%%
const derived = data.derive({ double: (row) => row.sales * 2, label: (row) => row.city.toUpperCase() });
const totals = derived.groupby("city").rollup({ mean: (rows) => op.mean(rows.map((row) => row.double)) });
//%%
for (const { city, mean } of totals.objects()) console.log(city.padEnd(5), mean.toFixed(2));
const column = totals.column("mean"); if (!column) throw new Error("no column");
//%%
const values = [...column]; const top = values.sort((a, b) => b - a)[0]; Math.max(...values).toFixed();
function show<R extends Record<string, unknown>>(t: Table<R>) { return t.numRows(); }
//%%
show(totals) + show(data.select("city")); data.get("city", 0).length;`,

  "drawing: scales, lines and a document": `
import { extent, group, line, scaleLinear, select } from "scales"; import { JSDOM } from "jsdom";
//%%
interface Point { t: number; v: number; kind?: "a" | "b" }
const points: Point[] = [{ t: 0, v: 1 }, { t: 1, v: 4, kind: "a" }];
//%%
const [first, last] = extent(points, (p) => p.t); if (first === undefined) throw new Error("no data");
const x = scaleLinear().domain([first, last]).range([0, 640]); const y = scaleLinear().domain([0, 4]).range([200, 0]);
//%%
const path = line<Point>().x((p) => x(p.t)).y((p) => y(p.v))(points); if (path === null) throw new Error("no path");
//%%
const { document } = new JSDOM("<svg></svg>").window; const svg = document.querySelector("svg"); if (!svg) throw new Error();
//%%
select(svg).append("path").attr("d", path); select(document.body).selectAll("rect").data([1, 2]).join("rect").attr("x", (d, i) => d * i);
const kinds = group(points, (p) => p.kind ?? "none").get("a");
//%%
if (kinds) for (const { v } of kinds) console.log(v); svg.outerHTML.length; let node: HTMLElement | null = null; node = document.createElement("div");
//%%
node.append("text"); document.body.append(node); const nodes: Element[] = [...document.querySelectorAll("div")]; nodes.length;`,

  "files: rows read, cleaned and counted": `
import { readFileSync } from "node:fs"; import path from "node:path"; import { parseArgs } from "node:util";
//%%
const token = process.env.API_TOKEN;
if (!token) throw new Error("set API_TOKEN");
//%%
const headers = { authorization: \`Bearer \${token.trim()}\` }; const auth = () => token.length;
//%%
interface Row { id: number; name: string; score?: number }
const rows: Row[] = [{ id: 1, name: "a", score: 2 }, { id: 2, name: "b" }];
//%%
const index = new Map(rows.map((row) => [row.id, row] as const)); const row = index.get(2); if (row === undefined) throw new Error("no row");
const best = rows.filter((r): r is Required<Row> => r.score !== undefined).sort((a, b) => b.score - a.score)[0];
//%%
row.name.length; const { name: who, ...rest } = row; rest.id; best?.score.toFixed();
//%%
let total = 0; let winner: Row | undefined;
for (const r of rows) { if (r.score === undefined) continue; total += r.score; if (!winner || r.score > (winner.score ?? 0)) winner = r; }
if (!winner) throw new Error("nobody");
//%%
winner.name.length; const mean = total / rows.length; mean.toFixed(2);
//%%
const { values } = parseArgs({ args: ["--n", "3"], options: { n: { type: "string" } } }); if (!values.n) throw new Error("--n");
//%%
Number.parseInt(values.n, 10); path.extname("x.csv") === ".csv" ? readFileSync("x.csv", "utf8").split("\\n") : [];
//%%
type Json = string | number | boolean | null | Json[] | { [key: string]: Json }; const document_: Json = JSON.parse("{}");
if (typeof document_ !== "object" || document_ === null || Array.isArray(document_)) throw new TypeError("no object");
//%%
Object.entries(document_).map(([key, value]) => key + typeof value); const match = "v1.2".match(/v(?<major>\\d+)/); if (!match?.groups) throw new Error();
//%%
match.groups.major?.length; match[0].length;`,

  "a service: server, requests, answers that may fail": `
import http from "node:http"; import { once } from "node:events"; import type { AddressInfo } from "node:net";
//%%
let server: http.Server | null = null;
//%%
server = http.createServer((request, response) => { response.end(request.url); }); server.listen(0); await once(server, "listening");
//%%
const { port } = server.address() as AddressInfo;
type Answer<T> = { ok: true; value: T } | { ok: false; error: Error };
async function get<T>(url: string): Promise<Answer<T>> {
  try { const response = await fetch(url, { headers: { accept: "json" } satisfies HeadersInit }); return { ok: true, value: (await response.json()) as T }; }
  catch (error) { return { ok: false, error: error instanceof Error ? error : new Error(String(error)) }; }
}
//%%
const answer = await get<{ items: string[] }>(\`http://localhost:\${port}\`); if (!answer.ok) throw answer.error;
//%%
answer.value.items.join(); const controller = new AbortController(); let timer: NodeJS.Timeout | undefined; timer = setTimeout(() => controller.abort(), 5);
//%%
clearTimeout(timer); timer = undefined; server.close(); server = null;
//%%
const failure: unknown = await Promise.reject(new RangeError("x")).catch((error: unknown) => error); if (!(failure instanceof RangeError)) throw failure;
//%%
failure.message.length; const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("x")); Buffer.from(digest).toString("hex");`,

  "training: a model that is loaded, losses, states": `
interface Model { predict(x: number): number; loss?: number }
let model: Model | undefined; async function load(): Promise<Model> { return { predict: (x) => x * 2 }; }
//%%
model ??= await load();
//%%
model.predict(1).toFixed(); const losses: number[] = []; const predict = (x: number) => (model ? model.predict(x) : 0);
//%%
for (let epoch = 0; epoch < 3; epoch++) { const loss = 1 / (epoch + 1); losses.push(loss); if (loss < 0.1) break; }
//%%
const final = losses.at(-1); if (final === undefined) throw new Error("not trained");
//%%
final.toFixed(3); let state: "idle" | "running" = "idle" as "idle" | "running"; const set = (next: typeof state) => { state = next; };
//%%
set("running"); if (state === "running") console.log("runs");
//%%
class Queue<T> { #items: T[] = []; push(...items: T[]): this { this.#items.push(...items); return this; } *[Symbol.iterator]() { yield* this.#items; } }
let queue: Queue<number> | null = null;
//%%
queue = new Queue<number>().push(1, 2);
//%%
for (const item of queue) console.log(item.toFixed()); const settings = { retries: 3, out: null as string | null }; settings.out = "x";
//%%
settings.out.length; settings.retries += 1; const tuple: [number, string?] = [1]; tuple[1]?.length;
//%%
function assertText(x: unknown, what: string): asserts x is string { if (typeof x !== "string") throw new TypeError(what); }
const config: unknown = JSON.parse('"x"'); assertText(config, "config");
//%%
config.toUpperCase(); abstract class Shape { abstract area(): number; describe() { return this.area().toFixed(1); } } class Square extends Shape { constructor(private side: number) { super(); } area() { return this.side ** 2; } }
//%%
const shapes: Shape[] = [new Square(2)]; const square = shapes.find((shape) => shape instanceof Square); if (!(square instanceof Square)) throw new Error();
//%%
square.describe(); enum Level { Low = 1, High } const level: Level = Level.High; Level[level]; namespace Units { export const metre = 1; export type Name = "m"; } const unit: Units.Name = "m"; Units.metre;`,
};
