/** Whatever the pages tell people to type is executed by a test, or it is said why not. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { classified, commands, commandsOf, isTracer, needFunctions } from "./commands.ts";
import { scenarios } from "./vm/scenarios/all.ts";

test("commands are found in blocks, in lines and in tables", () => {
  const page =
    "Type `npm\ntest` or `sudo ./pwru 'a \\| b'`, not `npm`.\n\n```\n$ ./pwru -d udp # why\nout\n```\n" +
    "```ts\nbun test\n```\n";
  expect(commandsOf(page)).toEqual(["./pwru -d udp", "npm test", "sudo ./pwru 'a | b'"]);
});

test("every command of the pages is the tracer's or in the table", () => {
  expect(commands.filter((command) => !isTracer(command) && classified[command] === undefined)).toEqual([]);
  expect(commands.filter(isTracer).length).toBeGreaterThan(25);
});

test("nothing is in the tables that no page has", () => {
  const known = [...Object.keys(classified), ...Object.keys(needFunctions)];
  expect(known.filter((command) => !commands.includes(command))).toEqual([]);
});

test("scenarios that are named run the command's words", () => {
  for (const [command, name] of Object.entries(needFunctions)) {
    const scenario = scenarios.find((one) => one.name === name);
    const words = command.replace(/^sudo \.\/pwru /, "").replace(/ .*/, "");
    expect([name, scenario?.script.includes(words)]).toEqual([name, true]);
  }
});

test("the manifest that kubectl is given asks for the rights that docs/security.md names", () => {
  const read = (name: string) => readFileSync(join(import.meta.dir, "..", name), "utf8");
  const manifest = read("contrib/kubernetes/pwru.yaml");
  const added = /add: \[(.*)\]/.exec(manifest)?.[1]?.split(", ").map((name) => `CAP_${name}`) ?? [];
  const rows = [...read("docs/security.md").matchAll(/^\| `(CAP_\w+)` +\| ([^|]*)/gm)];
  const named = rows.filter(([, , purpose = ""]) => !purpose.startsWith("`--demo`")).map(([, name = ""]) =>
    name
  );
  expect(added).toEqual(named);
  const explained = [...read("contrib/kubernetes/README.md").matchAll(/`(CAP_\w+)`/g)].map(([, name]) =>
    name
  );
  expect(new Set(explained)).toEqual(new Set(named));
  expect(manifest).not.toMatch(/DaemonSet|privileged: true/);
});
