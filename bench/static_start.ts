/**
 * What it costs that the file is static: its size and its start beside Bun's own executable with the
 * same program, as a table for docs/packaging.md.
 *
 *     bun bench/static_start.ts [ROUNDS]
 *
 * Both are started in turn, so that whatever else the machine does falls on both alike.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { compile } from "../build/bun.ts";
import { TemporaryFolder } from "../build/host.ts";
import { machines } from "../build/machines.ts";
import { staticFile } from "../build/static.ts";

const machine = machines.find(({ arch }) => arch === process.arch);
if (machine === undefined) throw new Error(`Cannot build a static file for ${process.arch}`);
using work = new TemporaryFolder("/var/tmp");

function built(name: string, launched: boolean): string {
  const folder = join(work.path, `${name}.d`), path = join(work.path, name);
  mkdirSync(folder);
  const executable = compile(folder, { version: "0", launched });
  if (launched) writeFileSync(path, staticFile(machine as (typeof machines)[0], executable, console.error));
  else copyFileSync(executable, path);
  chmodSync(path, 0o755);
  return path;
}

interface Candidate {
  readonly name: string;
  readonly path: string;
  readonly ms: number[];
  /** of the processor */
  readonly cpuMs: number[];
}

const candidates: readonly Candidate[] = [["plain", false], ["static", true]].map(([name, launched]) => ({
  name: String(name),
  path: built(String(name), launched === true),
  ms: [],
  cpuMs: [],
}));

/** Starts it once, and writes down how long that took. */
function start({ path, ms, cpuMs }: Candidate): void {
  const begin = performance.now();
  const { exitCode, resourceUsage } = Bun.spawnSync([path, "--version"]);
  ms.push(performance.now() - begin);
  cpuMs.push(Number(resourceUsage.cpuTime.total) / 1000);
  if (exitCode !== 0) throw new Error(`${path} --version: exit status ${exitCode}`);
}

const rounds = Number(process.argv[2] ?? 200);
for (const candidate of candidates) start(candidate); // what the page cache does not have yet
for (const { ms, cpuMs } of candidates) ms.length = cpuMs.length = 0;
for (let round = 0; round < rounds; round++) for (const candidate of candidates) start(candidate);

const quantile = (values: readonly number[], part: number) =>
  values.toSorted((a, b) => a - b)[Math.floor(part * (values.length - 1))] ?? NaN;
const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
const cpu = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch;

console.log(
  `${rounds} starts of each, in turn, with --version; Linux ${
    release().split("-")[0]
  }, ${cpus().length} x ${cpu}\n`,
);
console.log("| Executable | Size, MB | Start, ms: least | quarter | median | CPU time, ms: median |");
console.log("| ---------- | -------- | ---------------- | ------- | ------ | -------------------- |");
for (const { name, path, ms, cpuMs } of candidates) {
  const cells = [
    name.padEnd(10),
    mb(statSync(path).size).padEnd(8),
    quantile(ms, 0).toFixed(1).padEnd(16),
    quantile(ms, 0.25).toFixed(1).padEnd(7),
    quantile(ms, 0.5).toFixed(1).padEnd(6),
    quantile(cpuMs, 0.5).toFixed(1).padEnd(20),
  ];
  console.log(`| ${cells.join(" | ")} |`);
}
