/** A release: a static file for each architecture, and what has to go with it. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bunExecutable, compile } from "./bun.ts";
import { components } from "./components.ts";
import { sha256, TemporaryFolder } from "./host.ts";
import { libc } from "./libc.ts";
import { type Machine, machines } from "./machines.ts";
import { notice } from "./notice.ts";
import { type ReleaseFile, sbom } from "./sbom.ts";
import { staticFile } from "./static.ts";
import { source } from "./version.ts";

/**
 * Writes pwru-linux-x64, pwru-linux-arm64, NOTICE, pwru.spdx.json and SHA256SUMS into `folder`. The same
 * commit gives the same bytes, in whatever folder it is built.
 *
 * @throws {BuildError} a part cannot be had, or is not what is pinned
 */
export function release(folder: string, say: (line: string) => void): void {
  const from = source();
  mkdirSync(folder, { recursive: true });
  const binaries = machines.map((machine) => binary(machine, from.version, folder, say));
  const parts = components(from, libc(machines[0] as Machine, say));
  const text = (name: string, content: string) => ({ name, content: new TextEncoder().encode(content) });
  const files = [
    ...binaries,
    text("NOTICE", notice(parts)),
    text("pwru.spdx.json", sbom(parts, binaries, from.date)),
  ];
  const sums = files.map(({ name, content }) => `${sha256(content)}  ${name}\n`).join("");
  for (const { name, content } of [...files, text("SHA256SUMS", sums)]) {
    writeFileSync(join(folder, name), content);
  }
  for (const { name, content } of binaries) {
    chmodSync(join(folder, name), 0o755);
    say(`built ${join(folder, name)}: ${from.version}, static, ${(content.length / 1e6).toFixed(1)} MB`);
  }
}

function binary(machine: Machine, version: string, folder: string, say: (line: string) => void): ReleaseFile {
  using work = new TemporaryFolder(folder);
  const executable = bunExecutable(machine, work.path, say);
  const compiled = compile(work.path, { version, launched: true, target: { machine, executable } });
  return { name: `pwru-linux-${machine.arch}`, content: staticFile(machine, compiled, say) };
}
