import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Command, parseCommand } from "../../../src/cli/arguments.js";
import { commands } from "../../../src/cli/commands.js";
import { Cli } from "./cli.js";
import { projectRoot } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

describe("the command line", () => {
  it("explains itself, as a whole and by command", async () => {
    const all = await cli.run("--help");
    assert.equal(all.code, 0);
    for (const [name, command] of Object.entries(commands)) {
      assert.match(all.stdout, new RegExp(`^  ${name} `, "m"));
      const { code, stdout, stderr } = await cli.run(...name.split(" "), "--help");
      assert.equal(code, 0, stderr);
      assert.ok(stdout.startsWith(`Usage: firstframe ${name} ${command.usage}\n`));
      for (const option of Object.keys(command.options)) assert.ok(stdout.includes(`--${option}`), option);
      assert.ok(
        stdout.split("\n").every((line) => line.length <= 104),
        stdout,
      );
    }
    const group = await cli.run("help", "procedural");
    assert.equal(group.code, 0);
    assert.match(
      group.stdout,
      /^Usage: firstframe procedural COMMAND \[options\]\n[\s\S]*^ {2}overfit-clip /m,
    );
    const { version } = JSON.parse(readFileSync(join(projectRoot, "package.json"), "utf8")) as {
      version: string;
    };
    assert.equal((await cli.run("--version")).stdout, `${version}\n`);
  });

  it("answers what it does not know with one line and exit code 2", async () => {
    for (const [argv, message] of [
      [["rnu"], /^firstframe: unknown command rnu; did you mean run\? See also `firstframe --help`$/],
      [["--verison"], /^firstframe: unknown option --verison/],
      [["kernel", "instal"], /^firstframe: unknown command kernel instal; did you mean kernel install\?/],
      [
        ["kernel", "install", "--usr"],
        /unknown option --usr of `firstframe kernel install`; did you mean --user\? See also `firstframe kernel install --help`$/,
      ],
      [["kernel", "install", "--user", "--prefix", "x"], /exclude each other/],
      [["engine", "use", "gpu"], /expected one of .*, found "gpu"/],
      [["engine", "list", "gpu"], /engine list: unexpected argument "gpu"/],
      [["engine", "install", "webgpu"], /found "webgpu"; webgpu needs no installation/],
      [["procedural", "datset"], /unknown command procedural datset; did you mean procedural dataset\?/],
      [
        ["procedural", "dataset", "--clips", "many"],
        /--clips: expected a whole number of at least 0, found "many"/,
      ],
      [["procedural", "overfit-clip"], /^firstframe: --clip FILE is missing$/],
      [["lab", "nowhere"], /nowhere: no such folder/],
      [["site", "nowhere.ipynb"], /nowhere\.ipynb: no such file/],
    ] as const) {
      const { code, stderr, stdout } = await cli.run(...argv);
      assert.equal(code, 2, `${argv.join(" ")}: ${stderr}`);
      assert.match(stderr.trimEnd(), message);
      assert.equal(stderr.trimEnd().split("\n").length, 1);
      assert.equal(stdout, "");
    }
    assert.equal((await cli.run()).code, 2);
    assert.equal((await cli.run("procedural")).code, 2);
  });

  it("reads flags by the table", () => {
    const { values, positionals } = parseCommand("run", commands.run, [
      "a",
      "-j2",
      "--param=x=-1",
      "-p",
      "y=",
      "--timeout",
      "1.5",
      "b",
    ]);
    assert.deepEqual(positionals, ["a", "b"]);
    assert.deepEqual(
      [values.jobs, values.param, values.timeout, values.out, values.check],
      [2, ["x=-1", "y="], 1.5, "out", false],
    );
    const lab = parseCommand("lab", commands.lab, ["dir", "--", "--port", "1"]);
    assert.deepEqual([lab.positionals, lab.rest], [["dir"], ["--port", "1"]]);
    const wrong = (argv: string[], message: RegExp) =>
      assert.throws(() => parseCommand("run", commands.run, argv), { name: "UsageError", message });
    wrong(["a", "--out"], /--out needs a value: --out DIR/);
    wrong(["a", "--out", "--check"], /--out needs a value/);
    wrong(["a", "--check=yes"], /--check takes no value, found "yes"/);
    wrong(["a", "--out", "b", "--out", "c"], /--out was given twice/);
    wrong(["a", "-j", "1.5"], /-j: expected a whole number of at least 1, found "1.5"/);
    assert.throws(() => parseCommand("doctor", commands.doctor, ["x"]), /unexpected argument "x"/);
  });

  it("takes every flag of every command with _ and with -", () => {
    const table: Record<string, Command> = commands;
    for (const [name, command] of Object.entries(table)) {
      const rest = Array<string>(command.positionals[0]).fill("x");
      for (const [key, option] of Object.entries(command.options)) {
        const text = option.choices?.[0] ?? (option.type === "string" ? "a" : "3");
        for (const spelling of [key.replaceAll("-", "_"), key.replaceAll("_", "-")]) {
          const words =
            option.type === "boolean" ? [`--${spelling}`] : [`--${spelling}`, text, `--${spelling}=${text}`];
          for (const argv of option.type === "boolean" ? [words] : [words.slice(0, 2), words.slice(2)]) {
            const { values } = parseCommand(name, command, [...rest, ...argv]);
            const expected = option.type === "boolean" ? true : option.type === "string" ? text : 3;
            assert.deepEqual(values[key], option.multiple ? [expected] : expected, `${name} ${argv}`);
          }
        }
      }
    }
    const train = (...argv: string[]) => parseCommand("train", commands.train, argv).values;
    assert.deepEqual(train("--target-modules", "to_q", "to_v").target_modules, ["to_q", "to_v"]);
    assert.equal(train("--use-ema", "--rank", "4").use_ema, "true");
    assert.throws(() => train("--data_root", "a", "--data-root", "b"), /--data-root was given twice/);
    assert.throws(() => train("--data-rot", "a"), /unknown option --data-rot .*did you mean --data_root\?/);
  });

  it("installs, lists and removes the kernel", async () => {
    const { JUPYTER_DATA_DIR } = { JUPYTER_DATA_DIR: cli.path("data") };
    for (const [argv, data] of [
      [["--prefix", "there"], cli.path("there/share/jupyter")],
      [["--user"], JUPYTER_DATA_DIR],
    ] as const) {
      const installed = await cli.run("kernel", "install", ...argv);
      assert.deepEqual(
        [installed.code, installed.stdout.trim()],
        [0, join(data, "kernels/firstframe")],
        installed.stderr,
      );
      const spec = JSON.parse(readFileSync(join(data, "kernels/firstframe/kernel.json"), "utf8")) as {
        argv: string[];
      };
      assert.ok(spec.argv.slice(0, 2).every(existsSync));
      assert.ok(existsSync(join(data, "labextensions/firstframe/package.json")));
      const list = await cli.start(["kernel", "list", "--json"], { JUPYTER_PATH: data }).ended;
      const [first] = JSON.parse(list.stdout) as { name: string; folder: string; missing?: string }[];
      assert.deepEqual(
        [first!.name, first!.folder, first!.missing],
        ["firstframe", join(data, "kernels/firstframe"), undefined],
      );
      assert.equal((await cli.run("kernel", "uninstall", ...argv)).code, 0);
      assert.ok(
        !existsSync(join(data, "kernels/firstframe")) && !existsSync(join(data, "labextensions/firstframe")),
      );
      const again = await cli.run("kernel", "uninstall", ...argv);
      assert.deepEqual([again.code, again.stderr.includes("no such kernelspec")], [1, true]);
    }
  });
});
