import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, delimiter, join } from "node:path";
import { describe, test } from "node:test";
import { pinnedBuilds } from "../../../src/engine/install.js";
import type { PinnedWheel } from "../../../src/engine/package-index.js";
import { withLock } from "../../../src/files/lock.js";
import {
  cached,
  children,
  content,
  filename,
  folder,
  havePartly,
  index,
  install,
  installPinned,
  lastLine,
  linux,
  onlyPython,
  pause,
  pin,
  serve,
  setUpInstaller,
  smallWheel,
  withoutPython,
} from "./installer.js";
import { PackageIndex } from "./package-index.js";

// The installer's own program against an index that somebody else holds, and against another installer.

setUpInstaller();

describe("installing from an index that can't be trusted", {
  skip: linux ? false : "the wheel served is one for Linux on x86-64",
}, () => {
  const ways = { "without pip": () => withoutPython, "by pip": () => onlyPython };
  const downloaded = () => existsSync(cached()) || havePartly() > 0;

  for (const [way, path] of Object.entries(ways)) {
    const by = () => ({ PATH: path() });

    test(`a changed wheel under a page that says its SHA-256 is refused, ${way}`, async () => {
      await serve({ content: await smallWheel(Buffer.alloc(content.length, "evil library!")) });
      const ended = await install(by()).ended;
      assert.equal(ended.code, 1);
      assert.match(lastLine(ended), /SHA-256/);
      assert.ok(!downloaded(), ended.output);
    });

    test(`a changed wheel under a page that says nothing, or the right SHA-256, is refused, ${way}`, async () => {
      const changed = await smallWheel(Buffer.alloc(content.length, "evil library!"));
      for (const claim of [null, "right"]) {
        await serve({ content: changed });
        index!.releases[0]!.sha256 = claim && pin.sha256;
        const ended = await install(by()).ended;
        assert.equal(ended.code, 1);
        assert.match(lastLine(ended), /expected (another )?SHA-256/);
        assert.ok(!downloaded(), ended.output);
        await index!.close();
      }
    });

    test(`the package's own pins hold against a wheel of the right name, ${way}`, async () => {
      await serve();
      const [{ filename: real }] = pinnedBuilds["linux-x64"]!.tensorflow as [PinnedWheel];
      index!.releases[0]!.filename = real;
      const ended = await installPinned(by());
      assert.equal(ended.code, 1);
      assert.match(lastLine(ended), /^firstframe: tensorflow: .*SHA-256/);
      assert.ok(!downloaded(), ended.output);
    });

    test(`a newer wheel beside the right one is not taken, ${way}`, async () => {
      await serve();
      const evil = await smallWheel(Buffer.alloc(10, "evil"));
      for (const name of [
        filename.replace("2.21.0", "2.21.0.post1"),
        filename.replace("2.21.0-", "2.21.0-1-"),
        filename.replace("2_17", "2_27"),
      ]) {
        index!.releases.push({ name: pin.name, filename: name, content: evil });
      }
      const ended = await install(by()).ended;
      assert.match(ended.output, /compiling/);
      assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
    });

    test(`an http index elsewhere is refused, ${way}`, async () => {
      await serve();
      const env = { ...by(), PIP_INDEX_URL: index!.remoteUrl };
      const ended = await install(env).ended;
      assert.equal(ended.code, 1);
      assert.match(lastLine(ended), /not a trusted or secure host|expected an https address, found http:/);
      assert.deepEqual(index!.requests, [], "nobody asks it");
      assert.ok(!downloaded(), ended.output);
    });

    test(`a page that leads to http elsewhere is refused, ${way}`, async () => {
      await serve();
      index!.releases[0]!.url = `${index!.remoteUrl}/../files/${filename}`;
      const ended = await install(by()).ended;
      assert.equal(ended.code, 1);
      assert.ok(!downloaded(), ended.output);
    });

    test(`a redirection to http elsewhere is refused, ${way}`, async () => {
      const elsewhere = await PackageIndex.start([{ name: "x", filename, content: await smallWheel() }]);
      try {
        await serve({ redirect: `${elsewhere.remoteUrl}/../files/${filename}` });
        const ended = await install(by()).ended;
        assert.equal(ended.code, 1);
        assert.match(lastLine(ended), /expected an https address, found http:/);
        assert.ok(!existsSync(cached()), ended.output);
      } finally {
        await elsewhere.close();
      }
    });

    test(`a mirror that sends on to the same file on this machine will do, ${way}`, async () => {
      const elsewhere = await PackageIndex.start([{ name: "x", filename, content: await smallWheel() }]);
      try {
        await serve({ redirect: `${elsewhere.url}/../files/${filename}`, sha256: null });
        assert.match((await install(by()).ended).output, /compiling/);
        assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
      } finally {
        await elsewhere.close();
      }
    });
  }

  test("a page with a wrong SHA-256 of the right wheel is believed no more than any other", async () => {
    await serve({ sha256: "0".repeat(64) });
    const refused = await install().ended;
    assert.equal(refused.code, 1);
    assert.match(lastLine(refused), /expected .* with SHA-256 [0-9a-f]{64}, the index offers 0{64}/);
    assert.deepEqual(index!.downloads, []);
    // pip does not ask what the page says where it knows what it must be
    assert.match((await install({ PATH: onlyPython }).ended).output, /compiling/);
    assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
  });

  test("what pip trusts because the user said so is still not fetched over http", async () => {
    await serve();
    const ended = await install({
      PATH: onlyPython,
      PIP_INDEX_URL: index!.remoteUrl,
      PIP_TRUSTED_HOST: "0.0.0.0",
    }).ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /expected an https address, found http:/);
    assert.ok(!downloaded(), ended.output);
  });

  test("the index of pip.conf is asked, and no other one when pip refuses it", async () => {
    await serve();
    const conf = join(folder, "pip.conf");
    const env = { PATH: onlyPython, PIP_INDEX_URL: undefined, PIP_CONFIG_FILE: conf };
    await writeFile(conf, `[global]\nindex-url = ${index!.remoteUrl}\n`);
    const refused = await install(env).ended;
    assert.equal(refused.code, 1);
    assert.match(lastLine(refused), /^firstframe: tensorflow: pip: .*not a trusted or secure host/);
    await writeFile(conf, `[global]\nindex-url = ${index!.url}\n`);
    assert.match((await install(env).ended).output, /compiling/);
  });

  test("a pip that can't say where wheels are is not asked", async () => {
    await serve();
    const old = join(folder, "old");
    await mkdir(old);
    const script =
      '#!/bin/sh\ncase "$*" in *--version*) exit 0;; esac\necho "no such option: --dry-run" >&2; exit 2\n';
    await writeFile(join(old, "pip3"), script, { mode: 0o755 });
    const ended = await install({ PATH: [old, withoutPython].join(delimiter) }).ended;
    assert.match(ended.output, /compiling/);
  });

  test("a server that sends more than the wheel is cut off", async () => {
    await serve({ excess: 50_000_000 });
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /expected \d+ bytes, the server sends more/);
    assert.ok(havePartly() <= pin.size);
  });

  test("a page that names a file of this machine is refused", async () => {
    await serve();
    index!.releases[0]!.url = "file:///etc/passwd";
    const ended = await install().ended;
    assert.equal(ended.code, 1);
    assert.match(lastLine(ended), /expected a web address, found file:/);
  });
});

describe("an installer that was asleep", {
  skip: linux ? false : "the wheel served is one for Linux on x86-64",
}, () => {
  test("goes on after the one that took over, and takes nothing from it", async () => {
    await serve({ speed: 300_000 });
    const first = install();
    const said = (text: string) =>
      new Promise<void>((seen) => {
        let output = "";
        first.child.stderr!.on("data", (chunk) => {
          output += chunk;
          if (output.includes(text)) seen();
        });
      });
    while (havePartly() === 0) await pause();
    first.child.kill("SIGSTOP");
    // as slow as before: the first one wakes in the middle of the second one's download
    const second = install();
    while (index!.downloads.length < 2 || index!.downloads[1]!.sent < 200_000) await pause();
    const tookOver = said("another process took over");
    first.child.kill("SIGCONT");
    await tookOver;
    index!.releases[0]!.speed = undefined;
    for (const { code, output } of await Promise.all([first.ended, second.ended])) {
      assert.equal(code, 1, output);
      assert.doesNotMatch(output, /ECOMPROMISED|Error:|SHA-256/);
      assert.match(lastLine({ code, output }), /the binding can't be compiled: .*Python 3/);
    }
    assert.equal(index!.downloads.length, 2, "what the second one fetched serves the first one");
    assert.match(index!.downloads[1]!.range ?? "", /^bytes=[1-9]\d*-$/, "what the first one fetched is used");
    assert.deepEqual(await readFile(join(cached(), "tensorflow", "libtensorflow_cc.so.2")), content);
    assert.deepEqual(readdirSync(join(folder, "firstframe")).sort(), [
      "downloads",
      "packages",
      basename(cached()),
    ]);
    assert.deepEqual(readdirSync(join(folder, "firstframe", "downloads")), []);
  });

  test("ends its turn at once when it wakes, before it touches what others see", async () => {
    const directory = join(folder, "locked");
    const script = `
      import { withLock } from ${JSON.stringify(new URL("../../../src/files/lock.js", import.meta.url).href)};
      import { once } from "node:events";
      let turns = 0;
      await withLock(process.argv[1], { busy: "waits", log: console.log }, async (lock) => {
        console.log("turn", ++turns);
        process.stdin.resume();
        if (turns === 1) await once(process.stdin, "data");
        lock.assertHeld();
        console.log("writes", turns);
      });
      process.exit(0);`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", script, directory], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    children.add(child);
    let output = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    const ended = new Promise<number | null>((done) => child.on("close", done));
    while (!output.includes("turn 1")) await pause();
    child.kill("SIGSTOP");
    // held and released again before the sleeper wakes: no lock is left that could tell it
    const other = { ran: false };
    await withLock(directory, { busy: "waits", log: () => {} }, async () => {
      other.ran = true;
    });
    assert.ok(other.ran);
    child.stdin.write("now\n");
    child.kill("SIGCONT");
    assert.equal(await ended, 0);
    assert.equal(
      output,
      "turn 1\nanother process took over and waits while this one was asleep\nturn 2\nwrites 2\n",
    );
  });
});
