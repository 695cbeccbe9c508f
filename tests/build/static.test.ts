/**
 * The real thing: main.ts compiled, merged with Debian's C library, and started where a plain executable
 * starts, where it does not, and with everything in the environment that could turn it into another program.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compile } from "../../build/bun.ts";
import { BuildError } from "../../build/error.ts";
import { command } from "../../build/host.ts";
import { libc } from "../../build/libc.ts";
import { type Machine, machines } from "../../build/machines.ts";
import { staticFile } from "../../build/static.ts";
import { muslLibrary } from "./musl.ts";
import { notAScript, otherNames, trap } from "./trap.ts";

setDefaultTimeout(60_000); // on a busy machine

const folder = mkdtempSync("/var/tmp/pwru-static-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const isRoot = process.getuid?.() === 0;
const machine = machines.find(({ arch }) => arch === process.arch) as Machine;

/** Why something cannot be had, if so. */
function missing(fetch: () => unknown): string | undefined {
  try {
    fetch();
    return undefined;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    return error.message.split("\n", 1)[0];
  }
}

const lacking = missing(() => libc(machine, console.error));
const muslLacking = isRoot ? missing(muslLibrary) : "needs root";

function built(name: string, launched: boolean, main = "main.ts"): string {
  const work = join(folder, `${name}.d`), path = join(folder, name);
  mkdirSync(work);
  const executable = compile(work, { main, version: "9.9.9", launched });
  if (launched) writeFileSync(path, staticFile(machine, executable, console.error));
  else copyFileSync(executable, path);
  chmodSync(path, 0o755);
  rmSync(work, { recursive: true });
  return path;
}

interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function run(argv: readonly string[], env: Record<string, string> = {}, cwd = "/"): Outcome {
  const done = Bun.spawnSync([...argv], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
    cwd,
    timeout: 50_000,
  });
  return { status: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

const versionLine = "pwru 9.9.9\n";

describe.skipIf(lacking !== undefined)(`A static file${lacking === undefined ? "" : ` (${lacking})`}`, () => {
  const pwru = lacking === undefined ? built("pwru", true) : "";
  const plain = lacking === undefined ? built("plain", false) : "";
  const help = lacking === undefined ? run([plain, "--help"]).out : "";

  /** Runs the file in a root of its own, read-only, that holds nothing but /proc, /sys, a /tmp without exec and what `fill` adds. */
  function inRoot(name: string, file = pwru, fill: (root: string) => void = () => {}) {
    const root = join(folder, name);
    for (const sub of ["proc", "sys", "tmp"]) mkdirSync(join(root, sub), { recursive: true });
    writeFileSync(join(root, "pwru"), "");
    fill(root);
    const script = `
      mount --bind ${root} ${root}
      mount --bind ${file} ${root}/pwru
      mount -o remount,ro,bind ${root}
      mount -t proc proc ${root}/proc
      mount -t tmpfs -o noexec none ${root}/tmp
      mount --rbind /sys ${root}/sys
      exec chroot ${root} /pwru "$@"`;
    return ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh"];
  }

  const places: readonly [name: string, can: boolean, argv: readonly string[]][] = [
    ["here", true, [pwru]],
    ["with 64 files", true, ["sh", "-c", `ulimit -n 64; exec ${pwru} "$@"`, "sh"]],
    ["where there is nothing but /proc, /sys and a /tmp without exec (needs root)", isRoot, inRoot("bare")],
    [
      `where there is musl${muslLacking === undefined ? "" : ` (${muslLacking})`}`,
      muslLacking === undefined,
      inRoot("musl", pwru, (root) => {
        mkdirSync(join(root, "lib"));
        // Some distributions offer musl under glibc's name too; it must not be taken for it.
        for (const name of ["ld-musl-x86_64.so.1", "libc.so", "libc.so.6"]) {
          copyFileSync(muslLibrary(), join(root, "lib", name));
        }
      }),
    ],
  ];

  describe.each(places)("%s", (_, can, argv) => {
    test.skipIf(!can)("--version, --help, a wrong option", () => {
      expect(run([...argv, "--version"])).toEqual({ status: 0, out: versionLine, err: "" });
      expect(run([...argv, "--help"])).toEqual({ status: 0, out: help, err: "" });
      expect(run([...argv, "--helb"])).toMatchObject({ status: 2, out: "" });
    });

    test.skipIf(!can || !isRoot)("traces (needs root)", async () => {
      const socket = await Bun.udpSocket({}); // speaks to itself
      const traffic = setInterval(() => socket.send("x", socket.port, "127.0.0.1"), 10);
      try {
        const words = [
          "--backend=tracepoint",
          "--output-limit-lines=2",
          "--output-tuple",
          `udp and dst port ${socket.port}`,
        ];
        await using child = Bun.spawn([...argv, ...words], {
          stdout: "pipe",
          stderr: "pipe",
          timeout: 50_000,
        });
        const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
        expect([await child.exited, err]).toEqual([0, expect.stringContaining("Printed events")]);
        expect(out.split(`127.0.0.1:${socket.port}(udp)`).length).toBe(1 + 2);
      } finally {
        clearInterval(traffic);
        socket.close();
      }
    });
  });

  test.skipIf(!isRoot)("The plain executable does not start in the bare root (needs root)", () => {
    const argv = [...inRoot("without", plain), "--version"];
    expect(run(argv)).toMatchObject({ status: 127, out: "", err: expect.stringContaining("No such file") });
  });

  const hijack = trap(join(folder, "hijack"));

  test.each(hijack.settings)("%s does not make another program of it", (_, env) => {
    expect(run([pwru, "--version"], env, hijack.folder)).toEqual({ status: 0, out: versionLine, err: "" });
    expect(run([pwru, hijack.script], env, hijack.folder)).toMatchObject(notAScript);
  });

  test.each(otherNames)("...nor does being called %s", (name) => {
    const called = ["bash", "-c", 'exec -a "$0" "$@"', name, pwru];
    expect(run([...called, "--version"])).toEqual({ status: 0, out: versionLine, err: "" });
    expect(run([...called, hijack.script], {}, hijack.folder)).toMatchObject(notAScript);
  });

  test("...as they do with the plain one", () => {
    expect(run([plain, "--version"], { BUN_OPTIONS: `--preload ${hijack.script}` }).out).toContain(
      "hijacked",
    );
    expect(run([plain, hijack.script], { BUN_BE_BUN: "1" }).out).toBe("hijacked\n");
  });

  test.skipIf(!isRoot)("It starts as a set-user-ID file (needs root)", () => {
    const copy = join(folder, "set-user-id");
    command(["cp", "--reflink=auto", pwru, copy]);
    command(["chown", "65534", copy]);
    chmodSync(copy, 0o4755);
    chmodSync(folder, 0o755);
    expect(run([copy, "--version"], { BUN_BE_BUN: "1" })).toEqual({ status: 0, out: versionLine, err: "" });
    rmSync(copy);
  });

  test("Children inherit neither LD_PRELOAD nor the libraries", () => {
    const probe = built("probe", true, "tests/build/launched_probe.ts");
    const { status, out, err } = run([probe], { KEPT: "yes", LD_PRELOAD: "/bad.so" });
    expect([status, err]).toEqual([0, ""]);
    const told = JSON.parse(out);
    expect(told).toMatchObject({ env: { KEPT: "yes" }, libraries: [], execPath: probe });
    expect(told.env).not.toHaveProperty("LD_PRELOAD");
    expect(told.child).toContain("KEPT=yes");
    expect(told.child).not.toContain("LD_PRELOAD");
    expect(told.child).not.toContain(".so");
  });

  test("It starts about as fast as the plain one", () => {
    const times = new Map([[plain, [] as number[]], [pwru, []]]);
    for (let round = 0; round < 20; round++) {
      for (const [path, ms] of times) {
        const begin = performance.now();
        run([path, "--version"]);
        ms.push(performance.now() - begin);
      }
    }
    const rows = [...times].map(([path, ms]) => {
      const sorted = ms.toSorted((a, b) => a - b);
      return { path, min: sorted[0] as number, median: sorted[sorted.length >> 1] as number };
    });
    console.log(
      [
        "--version, ms    min  median",
        ...rows.map(({ path, min, median }) =>
          `${(path === pwru ? "static" : "plain").padEnd(14)} ${min.toFixed(1).padStart(5)} ${
            median.toFixed(1).padStart(7)
          }`
        ),
      ].join("\n"),
    );
    const [slow, fast] = [rows[1]?.min ?? Infinity, rows[0]?.min ?? 0];
    expect(slow - fast).toBeLessThan(20);
  });
});
