/**
 * What each kernel of the tests can do, as its guest told: kept in tests/golden/kernels/, from which docs/kernels.md
 * is made. With UPDATE_GOLDEN=1 a guest writes its facts anew, and the page.
 */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FeatureName, features } from "../../lib/features.ts";
import { image, type KernelName, x64Kernels } from "./images.ts";

export interface Facts {
  /** the backend that is taken without being asked */
  readonly backend: string;
  readonly backends: Readonly<Record<string, boolean>>;
  readonly moduleTypes: boolean;
  /** lib/features.ts */
  readonly features: Readonly<Record<string, boolean>>;
  /** functions that take a packet and can be traced */
  readonly functions: number;
}

/** Facts, and the Debian package that they are of. */
type Kept = Facts & { readonly package: string };

const folder = join(import.meta.dir, "../golden/kernels"),
  page = join(import.meta.dir, "../../docs/kernels.md");
const pathOf = (kernel: KernelName) => join(folder, `${kernel}.json`);

function kept(kernel: KernelName): Kept {
  if (!existsSync(pathOf(kernel))) {
    throw new Error(
      `"${pathOf(kernel)}" is missing: UPDATE_GOLDEN=1 npm test -- --long --only ${kernel} --scenario doctor`,
    );
  }
  return JSON.parse(readFileSync(pathOf(kernel), "utf8"));
}

/** Modules come and go between builds of a kernel; more than that is news. */
const TOLERANCE = 0.05;

/** The page tells of the kernels of the usual set of tests. */
export const isOnPage = (kernel: KernelName): boolean => x64Kernels.includes(kernel);

/** That these are the facts of a kernel which the page tells. */
export function expectFacts(kernel: KernelName, facts: Facts): void {
  const fresh: Kept = { package: image(kernel, console.error).package, ...facts };
  if (process.env["UPDATE_GOLDEN"] === "1") {
    mkdirSync(folder, { recursive: true });
    writeFileSync(pathOf(kernel), `${JSON.stringify(fresh, undefined, 2)}\n`);
    if (x64Kernels.every((name) => existsSync(pathOf(name)))) writeFileSync(page, kernelsPage());
  }
  const { package: _package, functions, ...exact } = kept(kernel);
  expect(fresh).toMatchObject(exact);
  expect(Math.abs(fresh.functions - functions) / functions).toBeLessThan(TOLERANCE);
}

/** What the tracer does with a feature, where it does something. */
const uses: Readonly<Partial<Record<FeatureName, string>>> = {
  "ring buffer": "any trace",
  "bpf_rdonly_cast to a struct": "packets are looked at by direct loads",
  "bpf_rdonly_cast to void": "the same, at any distance",
  "BPF memory charged to the cgroup": "no limit on locked memory in the way",
};

/** docs/kernels.md */
export function kernelsPage(): string {
  const all = x64Kernels.map(kept);
  const row = (title: string, cell: (facts: Kept) => string) => [title, ...all.map(cell)];
  const yes = (value: boolean | undefined) => value === undefined ? "?" : value ? "yes" : "no";
  const rows = [
    row("Debian's package", ({ package: name }) => name.split(" ")[1] ?? ""),
    row("`--backend` that it takes", ({ backend }) => `\`${backend}\``),
    ...["kprobe-multi", "kprobe", "tracepoint"].map((name) =>
      row(`\`${name}\` works`, ({ backends }) => yes(backends[name]))
    ),
    row("functions that take a packet, about", ({ functions }) => rounded(functions)),
    row("types of modules (`--kmods`)", ({ moduleTypes }) => yes(moduleTypes)),
    ...features.flatMap(({ name, since }) =>
      uses[name] === undefined
        ? []
        : [row(`${uses[name]}: ${name} (Linux ${since})`, ({ features: known }) => yes(known[name]))]
    ),
  ];
  return `${HEAD}\n\n${markdownTable(["", ...x64Kernels.map((name) => `Linux ${name}`)], rows)}\n\n${TAIL}\n`;
}

/** 1612 -> "1610" */
const rounded = (count: number) => String(Math.round(count / 10) * 10);

/** Columns as wide as their widest cell, as the formatter wants them. */
function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

const HEAD = `# Kernels

What \`pwru --doctor\` found on Debian's cloud kernels for x86-64, as root, each booted in a virtual machine by
the tests. \`UPDATE_GOLDEN=1 npm test -- --long --scenario doctor\` makes this page anew, and the tests compare
it with what the guests say.`;

const TAIL =
  `\`pwru --doctor\` asks the same of the kernel that you have. No backend is chosen by a version: each is tried,
and distributions bring features to older kernels, or leave them out, as Debian did with FPROBE until 6.12.
Kernels before 5.8 have no ring buffer and are not supported.`;
