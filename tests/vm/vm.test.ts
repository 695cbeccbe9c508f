/**
 * Runs the scenarios on real kernels: every check a test.
 *
 * Environment: PWRU_VM_KERNELS "6.1,6.12" and PWRU_VM_SCENARIOS "story,flood" restrict it, PWRU_VM_LONG=1 adds what
 * takes long, PWRU_VM_CPUS is how many processors a guest has, PWRU_VM_PATIENCE multiplies the time that it may take, PWRU_VM_BINARY names the tracer ("peer" for Debian's
 * pwru), PWRU_VM_KEEP is a folder for what the guest wrote.
 */
import { beforeAll, describe, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TemporaryFolder } from "../../build/host.ts";
import { boot, guestSeconds, type Outcome } from "./boot.ts";
import { type KernelName, kernelNames, machineFor } from "./images.ts";
import { peerStandsIn, prepare, testedBinary } from "./lab.ts";
import { bootOf, jobOf, limitOf, Run, runsOn, type Scenario } from "./scenario.ts";
import { scenarios } from "./scenarios/all.ts";

const chosen = <T extends string>(variable: string, all: readonly T[]): readonly T[] => {
  const wanted = process.env[variable]?.split(",");
  return wanted === undefined ? all : all.filter((name) => wanted.includes(name));
};

/** Copies what the guest wrote to a folder, if one was asked for. */
function keep(kernel: KernelName, outcomes: Iterable<Outcome>): void {
  const folder = process.env["PWRU_VM_KEEP"];
  if (folder === undefined) return;
  for (const outcome of outcomes) {
    const to = join(folder, kernel, outcome.name);
    mkdirSync(to, { recursive: true });
    for (const name of outcome.files) writeFileSync(join(to, name), outcome.read(name));
  }
}

/** Why a script did not reach its end, or undefined. */
function trouble(scenario: Scenario, outcome: Outcome | undefined, guestConsole: string): string | undefined {
  if (outcome?.status === 0) return undefined;
  if (outcome?.status === undefined) return `the guest never finished it\n${guestConsole}`;
  const why = outcome.status === 124 ? `took over ${limitOf(scenario)} s` : `exit status ${outcome.status}`;
  return `${why}\n${outcome.read("stderr").slice(-2000)}`;
}

/** The reason is told once, by the first test of the scenario; the others need no stack. */
function unfinished(scenario: Scenario): Error {
  const error = new Error(`Scenario "${scenario.name}" did not reach its end`);
  error.stack = "";
  return error;
}

/** Some look at 100,000 lines. */
const checkMs = 60_000;
const cpus = Number(process.env["PWRU_VM_CPUS"] ?? 2);
const long = process.env["PWRU_VM_LONG"] === "1";
const names = chosen("PWRU_VM_SCENARIOS", scenarios.map((scenario) => scenario.name));

describe.each(chosen("PWRU_VM_KERNELS", kernelNames))("Linux %s", (kernel) => {
  const mine = scenarios.filter((scenario) =>
    names.includes(scenario.name) && runsOn(scenario, kernel, long)
  );
  const limitMs =
    (guestSeconds(machineFor(kernel), mine.map((one) => ({ limitSeconds: limitOf(one) }))) + 120) * 1000; // and to prepare it
  let outcomes: ReadonlyMap<string, Outcome> = new Map();
  let guestConsole = "";

  beforeAll(async () => {
    const image = prepare(kernel, console.error);
    using made = new TemporaryFolder(tmpdir());
    const booted = await boot(image, mine.map((scenario) => jobOf(scenario, kernel, made.path)), {
      binary: testedBinary(kernel),
      cpus,
      countsInstructions: mine.every((scenario) => bootOf(scenario) === "counting"),
    });
    outcomes = booted.outcomes;
    guestConsole = booted.console;
    const times = mine.map(({ name }) => `${name} ${Math.round(outcomes.get(name)?.seconds ?? 0)}`);
    console.log(
      `Linux ${kernel}, ${cpus} processors, seconds: ${times.join(", ")}; all ${Math.round(booted.seconds)}`,
    );
    keep(kernel, outcomes.values());
  }, limitMs);

  describe.each(mine)("$name", (scenario) => {
    const outcome = () => outcomes.get(scenario.name);
    test("runs to its end", () => {
      const what = trouble(scenario, outcome(), guestConsole);
      if (what !== undefined) throw new Error(`Scenario "${scenario.name}": ${what}`);
    });
    const checks = { ...scenario.checks, ...(peerStandsIn() ? {} : scenario.oursOnly) };
    let run: Run | undefined;
    test.each(Object.entries(checks))("%s", (_name, check) => {
      const found = outcome();
      if (found === undefined || trouble(scenario, found, "") !== undefined) throw unfinished(scenario);
      check(run ??= new Run(kernel, found));
    }, checkMs);
  });
});
