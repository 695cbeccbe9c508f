/**
 * A release of the commit that is checked out, built twice: the same bytes from another folder and a shallow clone;
 * and its file for this machine is the tracer whatever it is given.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repository } from "../../build/host.ts";
import { notAScript, otherNames, trap } from "./trap.ts";

setDefaultTimeout(600_000); // the parts of the other architecture may have to be fetched

const isLong = process.env["PWRU_TEST_LONG"] === "1";
const isClone = Bun.which("git") !== null &&
  Bun.spawnSync(["git", "rev-parse", "HEAD"], { cwd: repository, stderr: "ignore" }).success;

const names = ["NOTICE", "SHA256SUMS", "pwru-linux-arm64", "pwru-linux-x64", "pwru.spdx.json"];

function sh(cwd: string, ...argv: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(argv, { cwd });
  if (!success) throw new Error(`${argv.join(" ")}: ${stdout}${stderr}`);
  return stdout.toString();
}

/** Clones into `folder` and builds there. @returns the folder of the release */
function built(folder: string, ...how: string[]): string {
  mkdirSync(folder, { recursive: true });
  sh(folder, "git", "clone", "-q", ...how, `file://${repository}`, "clone");
  const clone = join(folder, "clone");
  symlinkSync(join(repository, "node_modules"), join(clone, "node_modules"));
  sh(clone, process.execPath, "build.ts", "--release");
  return join(clone, "dist");
}

describe.skipIf(!isLong || !isClone)("A release (a clone, in the long set: npm test -- --long)", () => {
  const work = [mkdtempSync("/var/tmp/pwru-release-"), mkdtempSync(join(tmpdir(), "pwru-release-"))] as const;
  afterAll(() => work.forEach((folder) => rmSync(folder, { recursive: true, force: true })));
  const dist: string[] = [];

  test("builds in two folders", () => {
    dist.push(built(work[0]), built(join(work[1], "a/much longer/path"), "--depth=1"));
    for (const folder of dist) expect(readdirSync(folder).sort()).toEqual(names);
  });

  test.each(names)("%s is the same in both", (name) => {
    const [one, other] = dist.map((folder) =>
      createHash("sha256").update(readFileSync(join(folder, name))).digest("hex")
    );
    expect(other).toBe(one as string);
  });

  test("SHA256SUMS holds for all the others", () => {
    expect(sh(dist[0] as string, "sha256sum", "--strict", "-c", "SHA256SUMS").trimEnd().split("\n").sort())
      .toEqual(names.filter((name) => name !== "SHA256SUMS").map((name) => `${name}: OK`));
  });

  describe.skipIf(process.platform !== "linux")("its file for this machine", () => {
    const hijack = trap(join(work[0], "trap"));
    const run = (argv: readonly string[], env: Record<string, string> = {}) => {
      const pwru = join(dist[0] as string, `pwru-linux-${process.arch}`);
      const { exitCode, stdout, stderr } = Bun.spawnSync(
        argv.map((word) => word === "PWRU" ? pwru : word),
        { cwd: hijack.folder, env: { PATH: process.env["PATH"] ?? "", ...env } },
      );
      return { status: exitCode, out: stdout.toString(), err: stderr.toString() };
    };
    const version = { status: 0, out: expect.stringMatching(/^pwru \S+ \([0-9a-f]{12}\)\n$/), err: "" };

    test.each(hijack.settings)("is no other program by %s", (_, env) => {
      expect(run(["PWRU", "--version"], env)).toEqual(version);
      expect(run(["PWRU", hijack.script], env)).toMatchObject(notAScript);
    });

    test.each(otherNames)("is no other program by the name %s", (name) => {
      const called = ["bash", "-c", 'exec -a "$0" "$@"', name, "PWRU"];
      expect(run([...called, "--version"])).toEqual(version);
      expect(run([...called, hijack.script])).toMatchObject(notAScript);
    });
  });
});
