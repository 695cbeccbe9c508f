/** The commands that the README and the pages tell people to type, and what proves that they work. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");

export const pages: readonly string[] = [
  "README.md",
  ...readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
  "contrib/kubernetes/README.md",
];

/** Words that a command begins with, when more follow. */
const PROGRAMS =
  /^(?:sudo |UPDATE_GOLDEN=1 )?(?:\.\/pwru|pwru|npm|npx|grep|kubectl|scp|sysctl|ulimit|docker) (?=\S)/;

/** Commands of a page in Markdown: in code that stands in a line, and lines of blocks without a language. */
export function commandsOf(text: string): string[] {
  const inBlocks: string[] = [];
  const prose = text.replace(/^```(\w*)\n(.*?)^```/gms, (_, language: string, block: string) => {
    if (language === "") inBlocks.push(...block.split("\n"));
    return "";
  });
  const inLines = [...prose.matchAll(/`([^`]+)`/g)].map(([, code = ""]) =>
    code.replace(/\s+/g, " ").replaceAll("\\|", "|") // a table's own bars have a backslash
  );
  return [...inBlocks, ...inLines].map((line) => line.replace(/^\$ /, "").replace(/\s+# .*/, "").trim())
    .filter((line) => PROGRAMS.test(line));
}

/** Every command of the pages, once. */
export const commands: readonly string[] = [
  ...new Set(pages.flatMap((page) => commandsOf(readFileSync(join(root, page), "utf8")))),
];

/** The tracer's own: tests/kernel/commands.test.ts executes each of them. */
export const isTracer = (command: string): boolean => /^(?:sudo )?(?:\.\/)?pwru /.test(command);

/** Those of them that cannot run where functions cannot be probed -> the scenario that runs them. */
export const needFunctions: Readonly<Record<string, string>> = {
  "sudo ./pwru --filter-func ip_forward": "options",
  "sudo ./pwru --filter-trace-tc 'udp and dst port 4789'": "recipes",
};

/** Commands of others -> what executes them, or why nothing does. */
export const classified: Readonly<Record<string, string>> = {
  "npm ci && npm run build": ".ci/run installs; tests/run.ts, which npm test is, builds first",
  "npm test": "is what runs this test",
  "npm test -- --long": "takes hours: by hand, before a release",
  "npm test -- --only unit,6.12": "a part of what runs this test",
  "npm test -- --only 6.12-arm64,6.18-arm64": "a part of it, which takes long",
  "npm start":
    "tests/cli/npm_start.test.ts: its shell; the demonstration itself is in tests/kernel/demo.test.ts",
  "npm start -- icmp": "tests/cli/npm_start.test.ts: the words reach the tracer",
  "npm run bench": "boots a kernel for minutes and measures: by hand",
  "UPDATE_GOLDEN=1 npm test -- --long --scenario doctor":
    "writes into the repository: by hand, before a release",
  "npm ci && npx bun build.ts": "the first two commands again",
  "npx bun build.ts": "tests/run.ts builds with it before all tests",
  "npx bun build.ts --plain": "tests/build/static.test.ts compiles that way",
  "npx bun build.ts --release": "tests/build/release.test.ts, in the long set",
  "npx bun build/libc.ts VERSION":
    "downloads what it prints the hash of: by hand, when the C library changes",
  "npx bun bench/static_start.ts": "measures for a minute: by hand; docs/packaging.md has what it printed",
  "npx bun bench/miss_cost.ts": "boots a kernel for minutes and measures: by hand",
  "npx bun bench/format.ts": "measures for a minute: by hand",
  "npx bun bench/soak.ts 600": "takes ten minutes: by hand",
  "npx bun test tests/bpf-programs": "a part of what npm test runs",
  "npx bun tests/vm/lab.ts 6.12 FILE": "boots a kernel as the scenarios do, by the same functions",
  "grep Seccomp /proc/$(pidof pwru)/status": "the scenario rights reads the same line",
  "sysctl -w kernel.perf_event_paranoid=2": "the scenarios rights and illness",
  "ulimit -l unlimited": "the scenario rights, on Linux 5.10",
  "docker --pid=host":
    "an option of docker, which the tests do not have; the scenario illness has a pid namespace",
  "scp pwru NODE:/tmp/ && ssh NODE sudo /tmp/pwru 'udp and src port 53'": "takes another machine",
  "kubectl apply -f pwru.yaml": "takes a cluster; tests/commands.test.ts reads the manifest",
  "kubectl wait --for=condition=Ready pod/pwru": "takes a cluster",
  "kubectl cp pwru pwru:/tmp/pwru": "takes a cluster",
  "kubectl exec -it pwru -- /tmp/pwru --doctor":
    "takes a cluster; the words behind -- are those of the README",
  "kubectl exec -it pwru -- /tmp/pwru --output-netns-names 'udp and src port 53'": "takes a cluster",
  "kubectl delete pod pwru": "takes a cluster",
  "kubectl debug node/NODE --profile=sysadmin --image=busybox -- sleep 86400": "takes a cluster",
  "kubectl cp pwru $POD:/tmp/pwru": "takes a cluster",
  "kubectl exec -it $POD -- /tmp/pwru --doctor": "takes a cluster",
  "kubectl delete pod $POD": "takes a cluster",
};
