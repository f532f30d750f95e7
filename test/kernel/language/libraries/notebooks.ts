/** Notebooks as people write them with real libraries, cell by cell (`//%%` begins a cell). package.json beside this names the libraries. */
export const notebooks: Readonly<Record<string, string>> = {
  "zod: an API's answers": `
import { z } from "zod";
//%%
const Address = z.object({ street: z.string().min(1), city: z.string(), zip: z.string().regex(/^\\d{5}$/).optional() });
const Customer = z.object({ id: z.coerce.number().int().positive(), name: z.string().trim(), address: Address.nullable(), tags: z.array(z.enum(["new", "vip"])).default([]) });
//%%
type Customer = z.infer<typeof Customer>;
type CustomerInput = z.input<typeof Customer>;
//%%
const raw: CustomerInput = { id: "7", name: " Ada ", address: { street: "Main", city: "Bonn" } };
const customer = Customer.parse(raw);
//%%
const { address } = customer;
if (!address) throw new Error("no address");
//%%
address.city.toUpperCase();
const byTag = (tag: Customer["tags"][number]) => [customer].filter(({ tags }) => tags.includes(tag));
byTag("vip").length;
//%%
const Shape = z.discriminatedUnion("kind", [z.object({ kind: z.literal("circle"), r: z.number() }), z.object({ kind: z.literal("box"), w: z.number(), h: z.number() })]);
type Shape = z.infer<typeof Shape>;
function area(shape: Shape): number { return shape.kind === "circle" ? Math.PI * shape.r ** 2 : shape.w * shape.h; }
//%%
const result = Shape.safeParse({ kind: "box", w: 2, h: 3 });
if (!result.success) throw new Error(z.prettifyError(result.error));
area(result.data).toFixed(1);
//%%
const Trimmed = z.string().transform((text) => text.trim().length).pipe(z.number().max(5));
const size: number = Trimmed.parse(" abc ");
const Config = Customer.pick({ id: true }).extend({ mode: z.union([z.literal("fast"), z.literal("slow")]) }).strict();
const config = Config.parse({ id: 1, mode: "fast" });
//%%
switch (config.mode) { case "fast": console.log(size); break; case "slow": console.log(config.id.toFixed()); break; }`,

  "rxjs: a search box": `
import { BehaviorSubject, combineLatest, debounceTime, distinctUntilChanged, EMPTY, firstValueFrom, from, interval, map, type Observable, scan, shareReplay, Subject, switchMap, take, takeUntil, tap, toArray } from "rxjs";
import { catchError, filter, mergeMap } from "rxjs/operators";
//%%
interface Hit { id: number; title: string; score?: number }
const search = (query: string): Observable<Hit[]> => from(Promise.resolve([{ id: query.length, title: query }]));
//%%
const query$ = new BehaviorSubject("a"); const stop$ = new Subject<void>();
let latest: Hit | undefined;
//%%
const hits$ = query$.pipe(debounceTime(1), distinctUntilChanged(), switchMap((query) => search(query).pipe(catchError(() => EMPTY))), tap(([first]) => { latest = first; }), shareReplay({ bufferSize: 1, refCount: true }), takeUntil(stop$));
const subscription = hits$.subscribe({ next: (hits) => hits.map(({ title }) => title), error: (error: unknown) => console.error(error) });
//%%
query$.next("abc");
const first = await firstValueFrom(hits$);
if (first.length === 0) throw new Error("nothing");
//%%
first[0]!.title.padEnd(3); latest?.title;
const totals = await firstValueFrom(interval(1).pipe(take(3), scan((sum, value) => sum + value, 0), toArray()));
totals.at(-1)?.toFixed();
//%%
const both$ = combineLatest([query$, hits$]).pipe(map(([query, hits]) => ({ query, count: hits.length })), filter(({ count }) => count > 0));
const texts$ = both$.pipe(mergeMap(({ query, count }) => Array.from({ length: count }, () => query)));
const seen: string[] = []; texts$.pipe(take(1)).subscribe((text) => seen.push(text));
//%%
subscription.unsubscribe(); stop$.next(); stop$.complete(); seen.map((text) => text.length);`,

  "effect: services, layers and errors": `
import { Context, Data, Effect, Either, Layer, Option, pipe, Schedule, Schema } from "effect";
//%%
class NotFound extends Data.TaggedError("NotFound")<{ readonly id: number }> {}
class Offline extends Data.TaggedError("Offline")<{ readonly url: string }> {}
//%%
class Users extends Context.Tag("Users")<Users, { readonly find: (id: number) => Effect.Effect<{ id: number; name: string }, NotFound | Offline> }>() {}
//%%
const UsersLive = Layer.succeed(Users, { find: (id) => (id > 0 ? Effect.succeed({ id, name: "ada" }) : Effect.fail(new NotFound({ id }))) });
const program = Effect.gen(function* () {
  const users = yield* Users;
  const user = yield* users.find(1).pipe(Effect.retry(Schedule.recurs(2)));
  return user.name.length;
});
//%%
const length = await Effect.runPromise(program.pipe(Effect.provide(UsersLive), Effect.catchTag("NotFound", ({ id }) => Effect.succeed(id)), Effect.catchTag("Offline", ({ url }) => Effect.succeed(url.length))));
//%%
length.toFixed();
const either = await Effect.runPromise(Effect.either(Effect.fail(new Offline({ url: "x" }))));
if (Either.isRight(either)) throw new Error("it should have failed");
//%%
either.left.url.length;
const Person = Schema.Struct({ name: Schema.String, age: Schema.NumberFromString });
type Person = typeof Person.Type;
const person: Person = Schema.decodeUnknownSync(Person)({ name: "a", age: "3" });
//%%
const half = pipe(person.age, (age) => age / 2, (value) => Option.liftPredicate(value, (x) => x > 1));
Option.match(half, { onNone: () => "small", onSome: (value) => value.toFixed(1) });`,

  "react: a page rendered on the server": `
import { createContext, type FC, Fragment, memo, type PropsWithChildren, type ReactNode, useContext, useMemo, useReducer, useRef } from "react";
import { renderToStaticMarkup } from "react-dom/server";
//%%
type Theme = "light" | "dark";
const ThemeContext = createContext<Theme>("light");
const useTheme = () => useContext(ThemeContext);
//%%
interface ButtonProps extends React.ComponentProps<"button"> { variant?: "primary" | "plain" }
const Button: FC<PropsWithChildren<ButtonProps>> = ({ variant = "plain", children, ...rest }) => {
  const theme = useTheme();
  return <button {...rest} className={\`\${variant} \${theme}\`}>{children}</button>;
};
//%%
type Action = { type: "add"; by: number } | { type: "reset" };
function reducer(state: number, action: Action): number { return action.type === "add" ? state + action.by : 0; }
function Counter({ start, label }: { start: number; label?: ReactNode }) {
  const [count, dispatch] = useReducer(reducer, start);
  const box = useRef<HTMLDivElement>(null);
  const doubled = useMemo(() => count * 2, [count]);
  return <div ref={box}>{label ?? null}<Button variant="primary" onClick={() => dispatch({ type: "add", by: 1 })} disabled={count > 3}>{doubled}</Button></div>;
}
//%%
const Table = <T extends { id: number }>({ rows, cell }: { rows: readonly T[]; cell: (row: T) => ReactNode }) => <ul>{rows.map((row) => <li key={row.id}>{cell(row)}</li>)}</ul>;
const Memo = memo(Counter);
//%%
const page = <ThemeContext.Provider value="dark"><><Memo start={2} label={<b>n</b>} /><Table rows={[{ id: 1, name: "a" }]} cell={({ name }) => name.toUpperCase()} /></></ThemeContext.Provider>;
const html = renderToStaticMarkup(page);
//%%
html.length; const list: ReactNode[] = [1, "two", <Fragment key="3">three</Fragment>]; list.push(null);
const style: React.CSSProperties = { color: "red", marginTop: 3 }; <p style={style} data-x={1} aria-label="p">{list}</p>;`,

  "typeorm: entities and a query": `
import "reflect-metadata";
import { Column, CreateDateColumn, DataSource, Entity, JoinColumn, ManyToOne, OneToMany, PrimaryGeneratedColumn, type Relation, type Repository } from "typeorm";
//%%
@Entity() class Author {
  @PrimaryGeneratedColumn() id!: number;
  @Column({ length: 80 }) name!: string;
  @OneToMany("Post", "author") posts!: Relation<Post>[];
}
@Entity() class Post {
  @PrimaryGeneratedColumn("uuid") id!: string;
  @Column("text", { nullable: true }) text!: string | null;
  @CreateDateColumn() created!: Date;
  @ManyToOne(() => Author, (author) => author.posts) @JoinColumn() author!: Relation<Author>;
}
//%%
let source: DataSource | undefined; const connect = async () => (source ??= await new DataSource({ type: "postgres", url: process.env.DATABASE_URL, entities: [Author, Post], synchronize: false }).initialize());
let posts: Repository<Post> | undefined;
//%%
if (process.env.DATABASE_URL) posts = (await connect()).getRepository(Post);
const byName = async (name: string) => posts!.find({ where: { author: { name } }, relations: { author: true }, order: { created: "DESC" }, take: 5 });
//%%
const count = async (): Promise<number> => (await connect()).createQueryBuilder(Post, "post").leftJoinAndSelect("post.author", "author").where("author.name = :name", { name: "a" }).getCount();
class PostService { constructor(private readonly repository: Repository<Post> | undefined) {} async shout(id: string): Promise<string> { if (!this.repository) throw new Error("not connected"); const post = await this.repository.findOneByOrFail({ id }); return post.text?.toUpperCase() ?? post.author.name; } }
//%%
const service = new PostService(posts); const draft = Object.assign(new Post(), { text: "x" }); draft.text.length; typeof byName; typeof count; service.shout; Reflect.getMetadata("design:type", Post.prototype, "created") === Date;`,

  "langchain: a prompt, a model and a parser": `
import { AIMessage, type BaseMessage, HumanMessage, isAIMessage, SystemMessage } from "@langchain/core/messages";
import { ChatPromptTemplate, MessagesPlaceholder } from "@langchain/core/prompts";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { RunnableLambda, RunnableSequence } from "@langchain/core/runnables";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
//%%
const model = new FakeListChatModel({ responses: ["four", "five"] });
const prompt = ChatPromptTemplate.fromMessages([["system", "You count in {language}."], new MessagesPlaceholder("history"), ["human", "{question}"]]);
//%%
const history: BaseMessage[] = [new SystemMessage("be short"), new HumanMessage("hi"), new AIMessage("hello")];
const chain = prompt.pipe(model).pipe(new StringOutputParser());
//%%
const answer = await chain.invoke({ language: "English", history, question: "2 + 2?" });
answer.toUpperCase();
//%%
const add = tool(async ({ a, b }) => String(a + b), { name: "add", description: "adds", schema: z.object({ a: z.number(), b: z.number() }) });
const sum = await add.invoke({ a: 1, b: 2 });
//%%
const sequence = RunnableSequence.from([RunnableLambda.from((input: { n: number }) => input.n * 2), RunnableLambda.from((n: number) => n.toFixed(1))]);
const text = await sequence.invoke({ n: 3 }); text.length; String(sum).length;
//%%
const last = history.at(-1);
if (!last || !isAIMessage(last)) throw new Error("the last one is the model's");
//%%
last.content; last.tool_calls?.map((call) => call.name); let streamed = "";
for await (const chunk of await chain.stream({ language: "German", history: [], question: "?" })) streamed += chunk;
streamed.length;`,

  "arquero, d3 and Plot: one look at a table": `
import * as aq from "arquero"; import * as d3 from "d3"; import * as Plot from "@observablehq/plot"; import { JSDOM } from "jsdom";
//%%
interface Sale { city: string; month: Date; value: number }
const sales: Sale[] = d3.range(12).map((i) => ({ city: i % 2 ? "Bonn" : "Ulm", month: new Date(2026, i, 1), value: i * 3 }));
//%%
const table = aq.from(sales).groupby("city").rollup({ total: aq.op.sum("value"), n: aq.op.count() }).orderby(aq.desc("total"));
const rows = table.objects() as { city: string; total: number; n: number }[];
//%%
const best = d3.greatest(rows, (row) => row.total); if (best === undefined) throw new Error("no rows");
const x = d3.scaleUtc().domain(d3.extent(sales, (sale) => sale.month) as [Date, Date]).range([0, 600]);
const y = d3.scaleLinear([0, d3.max(sales, (sale) => sale.value) ?? 1], [200, 0]).nice();
//%%
best.city.length; const path = d3.line<Sale>((sale) => x(sale.month), (sale) => y(sale.value)).curve(d3.curveMonotoneX)(sales);
const nested = d3.rollups(sales, (group) => d3.mean(group, ({ value }) => value), ({ city }) => city).map(([city, mean]) => ({ city, mean: mean ?? 0 }));
//%%
const { document } = new JSDOM("").window;
const svg = d3.select(document.body).append("svg").attr("width", 640);
svg.selectAll("circle").data(sales).join("circle").attr("cx", (sale) => x(sale.month)).attr("r", 3).style("fill", ({ city }) => d3.schemeTableau10[city.length % 10]!);
svg.append("path").attr("d", path).attr("fill", "none");
//%%
const chart = Plot.plot({ document, marks: [Plot.barY(nested, { x: "city", y: "mean", fill: "steelblue" }), Plot.lineY(sales, Plot.binX({ y: "count" }, { x: "month" })), Plot.ruleY([0])], color: { legend: true } });
chart.outerHTML.length; const format = d3.format(".1f"); nested.map(({ mean }) => format(mean));
const root = d3.hierarchy({ name: "a", children: [{ name: "b", children: [] as { name: string }[] }] }); root.leaves().map((leaf) => leaf.depth); d3.timeFormat("%b")(sales[0]!.month);`,

  "lodash and date-fns: tidying records": `
import _ from "lodash"; import { addDays, differenceInCalendarDays, format, isValid, parseISO, startOfWeek } from "date-fns"; import groupBy from "lodash/groupBy";
//%%
const people = [{ name: "Ada", born: "1815-12-10", langs: ["en"] }, { name: "Alan", born: "1912-06-23", langs: ["en", "fr"] }] as const;
type Person = (typeof people)[number];
//%%
const dates = people.map((person) => ({ ...person, born: parseISO(person.born) })).filter(({ born }) => isValid(born));
const oldest = _.minBy(dates, ({ born }) => born.getTime()); if (!oldest) throw new Error("nobody");
//%%
oldest.name.length; const next = addDays(startOfWeek(oldest.born, { weekStartsOn: 1 }), 7); format(next, "yyyy-MM-dd");
const byCount = groupBy(people, (person) => person.langs.length);
//%%
Object.entries(byCount).map(([count, group]) => [Number(count), _.map(group, "name")] as const);
const nested = _.merge({ a: { b: 1 } }, { a: { c: "x" } }); nested.a.b.toFixed(); nested.a.c.length;
//%%
const chunks = _.chain(_.range(10)).filter((n) => n % 2 === 0).chunk(2).value(); chunks[0]?.[0]?.toFixed();
const slow = _.debounce((person: Person) => person.name, 5); slow(people[0]); slow.cancel(); const age = _.memoize((person: Person) => differenceInCalendarDays(new Date(), parseISO(person.born)));
//%%
age(people[1]).toFixed(); const deep = _.get(people, [0, "name"]); const picked = _.pick(people[0], ["name"]); picked.name.length; deep;`,

  "express and ws: a server to talk to": `
import express, { type ErrorRequestHandler, type Request, type RequestHandler, Router } from "express"; import { WebSocket, WebSocketServer } from "ws"; import type { AddressInfo } from "node:net"; import type { Server } from "node:http"; import { once } from "node:events";
//%%
const app = express(); app.use(express.json());
const log: RequestHandler = (request, _response, next) => { console.log(request.method, request.path); next(); };
//%%
interface Todo { id: number; text: string; done?: boolean }
const todos = new Map<number, Todo>(); const router = Router();
router.get("/:id", log, (request: Request<{ id: string }>, response) => { const todo = todos.get(Number(request.params.id)); if (!todo) { response.status(404).json({ error: "no such todo" }); return; } response.json(todo); });
//%%
router.post<unknown, Todo, Omit<Todo, "id">>("/", (request, response) => { const todo = { id: todos.size + 1, ...request.body }; todos.set(todo.id, todo); response.status(201).json(todo); });
const onError: ErrorRequestHandler = (error: Error, _request, response, _next) => { response.status(500).send(error.message); }; app.use("/todos", router); app.use(onError);
//%%
let server: Server | undefined = app.listen(0); await once(server, "listening"); const { port } = server.address() as AddressInfo;
const created = (await (await fetch(\`http://localhost:\${port}/todos\`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ text: "x" }) })).json()) as Todo;
//%%
created.text.length; const sockets = new WebSocketServer({ server }); sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data.toString().toUpperCase())));
const client = new WebSocket(\`ws://localhost:\${port}\`); await once(client, "open"); client.send("hi"); const [data] = (await once(client, "message")) as [Buffer];
//%%
data.toString().length; client.close(); sockets.close(); server.close(); server = undefined;`,

  "hono: routes without a server": `
import { Hono } from "hono"; import { HTTPException } from "hono/http-exception"; import { logger } from "hono/logger"; import { validator } from "hono/validator";
//%%
type Variables = { user: { id: number; name: string } };
const app = new Hono<{ Variables: Variables }>(); app.use("*", logger());
//%%
app.use("/me", async (context, next) => { const token = context.req.header("authorization"); if (!token) throw new HTTPException(401, { message: "no token" }); context.set("user", { id: 1, name: token }); await next(); });
//%%
const routes = app.get("/me", (context) => context.json(context.get("user"))).post("/items", validator("json", (value: { n?: unknown }, context) => { const n = Number(value.n); return Number.isNaN(n) ? context.text("n?", 400) : { n }; }), (context) => context.json({ double: context.req.valid("json").n * 2 }, 201));
//%%
const response = await app.request("/me", { headers: { authorization: "ada" } }); const me = (await response.json()) as Variables["user"]; if (me.id !== 1) throw new Error("someone else");
//%%
me.name.length; response.status === 200; const missing = await app.request("/nowhere"); missing.ok; typeof routes;`,

  "cheerio and axios: pages read": `
import axios, { type AxiosInstance, AxiosError, isAxiosError } from "axios"; import * as cheerio from "cheerio"; import pLimit from "p-limit";
//%%
const client: AxiosInstance = axios.create({ baseURL: "http://localhost", timeout: 500, headers: { accept: "text/html" } });
client.interceptors.response.use((response) => response, (error: unknown) => Promise.reject(error));
//%%
const $ = cheerio.load('<ul class="x"><li data-id="1"><a href="/a">A</a></li><li data-id="2"><a href="/b">B</a></li></ul>');
const links = $("ul.x > li").map((_, element) => ({ id: $(element).data("id") as number, href: $(element).find("a").attr("href"), text: $(element).text().trim() })).get();
//%%
const first = links.find(({ href }) => href !== undefined); if (!first?.href) throw new Error("no link");
//%%
first.href.startsWith("/"); const limit = pLimit(2);
const answers = await Promise.allSettled(links.map(({ href }) => limit(() => client.get<{ title: string }>(href ?? "/"))));
const failed = answers.filter((answer): answer is PromiseRejectedResult => answer.status === "rejected"); const good = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value.data.title] : []));
//%%
good.join(); const reason: unknown = failed[0]?.reason ?? new AxiosError("none"); if (!isAxiosError(reason)) throw reason;
//%%
reason.response?.status; reason.code?.length; const $items = $("li"); $items.each((i, item) => { $(item).attr("data-i", String(i)); }); $items.length;`,

  "csv: measurements, cleaned and summed up": `
import { parse } from "csv-parse/sync"; import Papa from "papaparse"; import * as ss from "simple-statistics"; import { readFileSync, writeFileSync } from "node:fs";
//%%
const text = "site,depth,temp\\nA,1,3.5\\nA,2,\\nB,1,4.25\\n";
type Raw = { site: string; depth: string; temp: string };
const records = parse<Raw>(text, { columns: true, skip_empty_lines: true });
//%%
const clean = records.filter(({ temp }) => temp !== "").map(({ site, depth, temp }) => ({ site, depth: Number.parseInt(depth, 10), temp: Number.parseFloat(temp) }));
const temperatures = clean.map(({ temp }) => temp); const summary = { mean: ss.mean(temperatures), sd: ss.standardDeviation(temperatures), q90: ss.quantile(temperatures, 0.9) };
//%%
summary.mean.toFixed(2); const line = ss.linearRegressionLine(ss.linearRegression(clean.map(({ depth, temp }) => [depth, temp])));
line(3).toFixed(1); const bySite = new Map<string, typeof clean>(); for (const row of clean) { const group = bySite.get(row.site); if (group) group.push(row); else bySite.set(row.site, [row]); }
//%%
const siteA = bySite.get("A"); if (siteA === undefined) throw new RangeError("no site A");
//%%
siteA[0]?.temp.toFixed(); const parsed = Papa.parse<Record<string, number | null>>(text, { header: true, dynamicTyping: true }); parsed.errors.map((error) => error.row); parsed.meta.fields?.join();
const table = Papa.unparse(clean); if (process.env.OUT) writeFileSync(process.env.OUT, table); const again = process.env.OUT ? readFileSync(process.env.OUT, "utf8") : table; again.split("\\n").length;`,

  "immer, immutable and mobx: states that change": `
import { type Draft, enablePatches, produce, produceWithPatches } from "immer"; import { List, Map as ImmutableMap, Record as ImmutableRecord } from "immutable"; import { autorun, computed, makeAutoObservable, observable, runInAction } from "mobx";
//%%
enablePatches(); interface State { readonly user?: { readonly name: string }; readonly todos: readonly { readonly id: number; readonly done: boolean }[] }
let state: State = { todos: [{ id: 1, done: false }] };
//%%
state = produce(state, (draft) => { draft.todos[0]!.done = true; draft.user = { name: "ada" }; });
const finish = produce((draft: Draft<State>, id: number) => { const todo = draft.todos.find((each) => each.id === id); if (todo) todo.done = true; });
//%%
if (!state.user) throw new Error("no user");
//%%
state.user.name.length; state = finish(state, 1); const [next, patches] = produceWithPatches(state, (draft) => { draft.todos.push({ id: 2, done: false }); }); patches.map((patch) => patch.op); next.todos.length;
const Point = ImmutableRecord({ x: 0, y: 0 }); let points = List([Point({ x: 1 })]);
//%%
points = points.push(Point({ y: 2 })).map((point) => point.set("x", point.x + 1)); const last = points.last(); if (!last) throw new Error("none");
//%%
last.x.toFixed(); const counts = ImmutableMap<string, number>().update("a", (n = 0) => n + 1); (counts.get("a") ?? 0).toFixed();
class Timer { seconds = 0; label = observable.box("t"); constructor() { makeAutoObservable(this); } get minutes() { return this.seconds / 60; } tick() { this.seconds += 1; } }
//%%
const timer = new Timer(); const said: number[] = []; const stop = autorun(() => said.push(timer.minutes)); runInAction(() => { timer.seconds = 60; }); const double = computed(() => timer.seconds * 2); double.get().toFixed(); stop(); said.at(-1)?.toFixed();`,

  "ts-pattern, remeda and fp-ts: functions over unions": `
import { match, P } from "ts-pattern"; import * as R from "remeda"; import * as E from "fp-ts/Either"; import * as TE from "fp-ts/TaskEither"; import { flow, pipe } from "fp-ts/function";
//%%
type Event = { type: "open"; file: string } | { type: "close"; file: string; saved: boolean } | { type: "error"; error: Error };
const events: Event[] = [{ type: "open", file: "a.ts" }, { type: "close", file: "a.ts", saved: true }];
//%%
const describe = (event: Event): string => match(event).with({ type: "open" }, ({ file }) => \`opened \${file}\`).with({ type: "close", saved: true }, ({ file }) => \`saved \${file}\`).with({ type: "close" }, ({ file }) => file).with({ type: "error", error: P.instanceOf(RangeError) }, ({ error }) => error.message).exhaustive();
//%%
const texts = R.pipe(events, R.filter((event) => event.type !== "error"), R.groupBy(({ file }) => file), R.mapValues((group) => group.length), R.entries(), R.sortBy([([, n]) => n, "desc"]));
describe(events[0]!).length;
//%%
const parse = (text: string): E.Either<Error, number> => { const n = Number(text); return Number.isNaN(n) ? E.left(new Error(text)) : E.right(n); };
const half = flow(parse, E.map((n) => n / 2), E.getOrElse(() => 0)); const parsed = parse("4"); if (E.isLeft(parsed)) throw parsed.left;
//%%
parsed.right.toFixed(); half("3"); const load = (id: number) => TE.tryCatch(async () => ({ id, name: "x" }), (reason) => new Error(String(reason)));
const name = await pipe(load(1), TE.map(({ name }) => name), TE.match((error) => error.message, (value) => value))(); name.length; texts.map(([file, count]) => file.repeat(count));`,

  "kysely: queries whose rows have types": `
import { DummyDriver, type Generated, Kysely, type Selectable, sql, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler, type Insertable } from "kysely";
//%%
interface Database { person: PersonTable; pet: { id: Generated<number>; owner_id: number; name: string; species: "cat" | "dog" } }
interface PersonTable { id: Generated<number>; first_name: string; age: number | null; created_at: Generated<Date> }
type Person = Selectable<PersonTable>; type NewPerson = Insertable<PersonTable>;
//%%
const db = new Kysely<Database>({ dialect: { createAdapter: () => new SqliteAdapter(), createDriver: () => new DummyDriver(), createIntrospector: (each) => new SqliteIntrospector(each), createQueryCompiler: () => new SqliteQueryCompiler() } });
//%%
const query = db.selectFrom("person").innerJoin("pet", "pet.owner_id", "person.id").select(["person.first_name", "pet.name as pet", (builder) => builder.fn.count<number>("pet.id").as("pets")]).where("pet.species", "in", ["cat", "dog"]).groupBy("person.id");
const compiled = query.compile(); compiled.sql.length;
//%%
const rows = await query.execute(); rows.map(({ first_name, pet, pets }) => first_name + pet + pets.toFixed());
const ada: NewPerson = { first_name: "Ada", age: 36 }; const insert = db.insertInto("person").values(ada).returningAll();
//%%
const person: Person | undefined = await insert.executeTakeFirst(); const found = rows.find((row) => row.pets > 1);
const older = sql<number>\`max(\${sql.ref("age")})\`.as("oldest"); db.selectFrom("person").select(older).compile().parameters.length; person?.age?.toFixed(); found?.pet.length;`,

  "valibot, ajv and commander: a tool's settings": `
import * as v from "valibot"; import { Ajv, type JSONSchemaType } from "ajv"; import { Command, InvalidArgumentError, Option } from "commander";
//%%
const Settings = v.object({ port: v.pipe(v.number(), v.integer(), v.minValue(1)), host: v.optional(v.string(), "localhost"), levels: v.array(v.picklist(["info", "warn"])) });
type Settings = v.InferOutput<typeof Settings>;
//%%
const parsed = v.safeParse(Settings, { port: 80, levels: ["info"] }); if (!parsed.success) throw new Error(parsed.issues.map(({ message }) => message).join());
let settings: Settings = parsed.output;
//%%
settings = { ...settings, host: settings.host.toUpperCase() }; settings.levels[0]?.length; interface Point { x: number; y?: number }
const schema: JSONSchemaType<Point> = { type: "object", properties: { x: { type: "number" }, y: { type: "number", nullable: true } }, required: ["x"], additionalProperties: false };
//%%
const validate = new Ajv().compile(schema); const input: unknown = JSON.parse('{ "x": 1 }'); if (!validate(input)) throw new Error(validate.errors?.[0]?.message);
//%%
input.x.toFixed(); const program = new Command("tool").option("-n, --count <n>", "how many", (text: string) => { const n = Number(text); if (Number.isNaN(n)) throw new InvalidArgumentError("a number"); return n; }, 1).addOption(new Option("--mode <mode>").choices(["a", "b"] as const));
program.exitOverride().parse(["--count", "3"], { from: "user" }); const options = program.opts<{ count: number; mode?: "a" | "b" }>();
//%%
options.count.toFixed(); options.mode?.length; const never: never[] = []; never.length;`,

  "arrow: columns and batches": `
import { DataType, Field, Float64, Int32, makeVector, RecordBatchReader, Schema, Table, tableFromArrays, tableFromIPC, tableToIPC, Utf8, vectorFromArray } from "apache-arrow";
//%%
const table = tableFromArrays({ n: Int32Array.from([1, 2, 3]), x: Float64Array.from([0.5, 1.5, 2.5]), name: ["a", "b", "c"] });
const bytes = tableToIPC(table, "stream");
//%%
const again = tableFromIPC(bytes); const column = again.getChild("x"); if (column === null) throw new Error("no x");
//%%
let sum = 0; for (const value of column) sum += Number(value); sum.toFixed(2); const names = again.schema.fields.map((field) => field.name); names.join();
const numbers = again.schema.fields.filter((field) => DataType.isFloat(field.type) || DataType.isInt(field.type)).map(({ name }) => name); numbers.length;
//%%
const schema = new Schema([new Field("id", new Int32()), new Field("v", new Float64(), true), new Field("s", new Utf8())]); schema.fields.length; const vector = makeVector(new Float64Array(3)); vector.length; const words = vectorFromArray(["x", null, "z"], new Utf8()); words.get(1)?.length;
const reader = await RecordBatchReader.from(bytes); let batches = 0; for (const batch of reader) { batches += batch.numRows > 0 ? 1 : 0; } batches.toFixed(); const small = table.slice(0, 2); small.numRows; const joined: Table = table.concat(table) as unknown as Table; joined.numRows;`,

  "playwright and jsdom: pages taken apart": `
import { type Browser, chromium, type Page } from "playwright-core"; import { JSDOM } from "jsdom";
//%%
let browser: Browser | undefined; let page: Page | undefined;
async function open(url: string): Promise<Page> { browser ??= await chromium.launch({ headless: true }); const made = await browser.newPage(); await made.goto(url); return made; }
//%%
const texts = async (from: Page, selector: string) => from.$$eval(selector, (elements) => elements.map((element) => element.textContent?.trim() ?? ""));
const size = async (from: Page) => from.evaluate(() => ({ width: document.documentElement.clientWidth, height: window.innerHeight }));
//%%
if (process.env.URL) { page = await open(process.env.URL); const { width } = await size(page); width.toFixed(); await texts(page, "h1"); await page.locator("button").first().click(); await browser?.close(); }
const dom = new JSDOM('<form><input name="q" value="x"><select><option>1</option></select></form>', { url: "https://example.com/a?b=1" });
//%%
const { window: made } = dom; const input = made.document.querySelector<HTMLInputElement>("input[name=q]"); if (input === null) throw new Error("no input");
//%%
input.value.length; const form = input.form; if (!form) throw new Error("no form"); const data = new made.FormData(form); data.get("q");
//%%
const values = [...form.elements].map((element) => (element instanceof made.HTMLInputElement ? element.value : element.tagName)); values.join(); new URL(made.location.href).searchParams.get("b")?.length; input.addEventListener("change", (event) => { const target = event.target as HTMLInputElement; target.value = target.value.trim(); });`,

  "openai and luxon: answers with a schedule": `
import OpenAI from "openai"; import { DateTime, Duration, Interval, Settings } from "luxon";
//%%
const client = new OpenAI({ apiKey: process.env.OPENAI_API_KEY ?? "none", baseURL: "http://localhost:1", maxRetries: 0 });
const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [{ role: "system", content: "Be brief." }, { role: "user", content: "When?" }];
//%%
type Reply = { ok: true; text: string } | { ok: false; status: number | undefined };
async function ask(model = "gpt"): Promise<Reply> { try { const completion = await client.chat.completions.create({ model, messages, temperature: 0 }); return { ok: true, text: completion.choices[0]?.message.content ?? "" }; } catch (error) { if (error instanceof OpenAI.APIError) return { ok: false, status: error.status }; throw error; } }
//%%
let reply: Reply | null = null; reply = await ask(); if (reply.ok) console.log(reply.text.length); else console.log(reply.status ?? 0);
//%%
Settings.defaultZone = "utc"; const start = DateTime.fromISO("2026-11-29T10:00", { zone: "Europe/Berlin" }); if (!start.isValid) throw new Error(start.invalidReason ?? "invalid");
//%%
const span = Interval.after(start, Duration.fromObject({ hours: 3 })); span.splitBy({ minutes: 45 }).map((part) => part.start?.toFormat("HH:mm")); span.length("minutes").toFixed(); start.plus({ days: 1 }).diff(start, "hours").hours.toFixed();
async function* stream() { const chunks = await client.chat.completions.create({ model: "gpt", messages, stream: true }); for await (const chunk of chunks) yield chunk.choices[0]?.delta.content ?? ""; } const first = await stream().next().catch(() => undefined); first?.done;`,

  "drizzle's cousin: a typed builder of one's own": `
type Columns = Record<string, "int" | "text">;
type TypeOf<C extends "int" | "text"> = C extends "int" ? number : string;
type RowOf<C extends Columns> = { [K in keyof C]: TypeOf<C[K]> };
//%%
class Query<C extends Columns, S extends keyof C = keyof C> {
  private constructor(private readonly rows: RowOf<C>[], private readonly picked?: readonly S[]) {}
  static from<C extends Columns>(columns: C, rows: RowOf<C>[]) { void columns; return new Query<C>(rows); }
  select<K extends S>(...names: K[]): Query<C, K> { return new Query<C, K>(this.rows, names); }
  where<K extends keyof C>(name: K, is: RowOf<C>[K]): Query<C, S> { return new Query<C, S>(this.rows.filter((row) => row[name] === is), this.picked); }
  all(): Pick<RowOf<C>, S>[] { return this.rows; }
}
//%%
const people = { id: "int", name: "text" } as const satisfies Columns; let query = Query.from(people, [{ id: 1, name: "ada" }]);
//%%
query = query.where("name", "ada"); const names = query.select("name").all(); names[0]?.name.toUpperCase();
declare global { interface Array<T> { secondOf?(): T | undefined } }
//%%
Array.prototype.secondOf = function <T>(this: T[]) { return this[1]; }; [1, 2].secondOf?.()?.toFixed(); const key: unique symbol = Symbol("key"); const held = { [key]: 1 }; held[key].toFixed();
//%%
function overload(x: number): "n"; function overload(x: string): "s"; function overload(x: number | string): "n" | "s" { return typeof x === "number" ? "n" : "s"; }
const kind: "n" = overload(1); type Getters<T> = { [K in keyof T & string as \`get\${Capitalize<K>}\`]: () => T[K] }; const getters: Getters<{ age: number }> = { getAge: () => 3 };
//%%
getters.getAge().toFixed(); kind.length; using _resource = { [Symbol.dispose]() {} }; const readonlyList = [1, 2, 3] as const; type Item = (typeof readonlyList)[number]; const item: Item = 2; item.toFixed(); label: for (const a of readonlyList) { for (const b of readonlyList) { if (a * b > 4) break label; } }`,
};
