/**
 * What a packet that does not match costs, beside Debian's pwru: bun bench/miss_cost.ts [--instructions] [KERNEL...]
 *
 * One boot per kernel under QEMU; both tracers hook the same functions, one after the other, and datagrams pass that no
 * filter matches (tests/vm/meter.ts). The kernel itself measures each run of a program. Times are those of an emulated
 * machine, where a helper call costs more than natively: read them as ratios. bench/match_cost.ts has native ones.
 * With --instructions the guest's clock counts its instructions, and "ns" are those: the same in every run, however busy
 * the machine is; but an instruction is not always as long as another.
 *
 * The exit status is 1 when a gate does not hold.
 */
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { TemporaryFolder } from "../build/host.ts";
import { columns } from "../lib/output/columns.ts";
import { boot, type Outcome } from "../tests/vm/boot.ts";
import { compiled } from "../tests/vm/compiled.ts";
import {
  hasFprobe as multi,
  type KernelName,
  kernelNames,
  machineFor,
  x64Kernels,
} from "../tests/vm/images.ts";
import { isKernelName, prepare, testedBinary } from "../tests/vm/lab.ts";
import type { Metered } from "../tests/vm/meter.ts";

const filter = "udp and dst port 9";
/** Ways to start a tracer; only ours follows packets by a counter that says whether there are any. */
const cases = {
  filter: `'${filter}'`,
  netns: `--filter-netns inode:$((netns + 1)) '${filter}'`,
  mark: `--filter-mark 77 '${filter}'`,
  track: `--filter-track-skb '${filter}'`,
} as const;
type CaseName = keyof typeof cases;
const caseNames = Object.keys(cases) as CaseName[];

/** Function by function pwru takes minutes to attach; there both hook fewer. */
const functionsOf = (kernel: KernelName) => multi(kernel) ? "" : "ip_.*";
/** How much of pwru's time per function hit ours may take. */
const shareOf = (kernel: KernelName) => multi(kernel) ? 0.15 : 0.45;
/** How much following packets may cost while there are none to follow, of the time without. */
const TRACK_SHARE = 1.1;
/**
 * How much slower a flood may be where some 54 functions are hooked on its way; not on Linux 6.18, which takes longer than that
 * to come to a program: 3.2 times with one that loads one field.
 */
const SLOWDOWN = 3;
const isSlowToHook = (kernel: KernelName) => kernel.startsWith("6.18");

const script = (kernel: KernelName) => `
  netns=$(stat -L -c %i /proc/self/ns/net)
  ip link set lo up
  # measure NAME WORD...: with $TRACER
  measure() {
    local name=$1
    shift
    start $name --filter-func '${functionsOf(kernel)}' "$@"
    ./meter all=_skb > "$OUT/$name.json"
    stop $name INT 60000
  }
  ./meter > "$OUT/bare.json"
  ${
  caseNames.map((name) => `TRACER=$PWRU measure ours.${name} ${cases[name]}`)
    .concat(caseNames.map((name) => `TRACER=$PEER measure peer.${name} ${cases[name]}`)).join("\n  ")
}
  ./meter > "$OUT/bare_again.json"
`;

/** What was measured, or undefined where something went wrong. */
function read(outcome: Outcome, name: string): Metered | undefined {
  const text = outcome.read(`${name}.json`);
  return text === "" ? undefined : JSON.parse(text) as Metered;
}

interface Gate {
  readonly text: string;
  readonly holds: boolean;
}

function gate(value: number | undefined, atMost: number): Gate {
  const holds = value !== undefined && value <= atMost;
  return { text: `${value?.toFixed(2) ?? "?"} <= ${atMost} ${holds ? "pass" : "FAIL"}`, holds };
}

function report(kernel: KernelName, outcome: Outcome): boolean {
  const bare = Math.min(
    ...["bare", "bare_again"].map((name) => read(outcome, name)?.nsPerDatagram ?? Infinity),
  );
  const microseconds = (ns: number) => (ns / 1000).toFixed(1);
  const header = ["case", "tracer", "hits/datagram", "ns/hit", "share", "us/datagram", "of bare"];
  const rows = [header, ["no tracer", "", "", "", "", microseconds(bare), "1.00"]];
  const nsOf = (name: string) => read(outcome, name)?.groups["all"]?.nsPerRun;
  let holds = true;
  for (const name of caseNames) {
    const other = name === "track" ? nsOf("ours.filter") : nsOf(`peer.${name}`), mine = nsOf(`ours.${name}`);
    const share = gate(
      mine === undefined || other === undefined ? undefined : mine / other,
      name === "track" ? TRACK_SHARE : shareOf(kernel),
    );
    for (const tracer of ["ours", "peer"]) {
      const metered = read(outcome, `${tracer}.${name}`), group = metered?.groups["all"];
      if (metered === undefined || group === undefined) continue;
      const slower = metered.nsPerDatagram / bare,
        gated = tracer === "ours" && name === "filter" && multi(kernel) && !isSlowToHook(kernel);
      const slowdown = gate(slower, SLOWDOWN);
      if (gated) holds &&= slowdown.holds;
      rows.push([
        name,
        tracer,
        group.runsPerDatagram.toFixed(1),
        group.nsPerRun.toFixed(0),
        tracer === "ours" ? share.text : "",
        microseconds(metered.nsPerDatagram),
        gated ? slowdown.text : slower.toFixed(2),
      ]);
    }
    holds &&= share.holds;
  }
  console.log(columns(rows, [2, 3, 5]));
  return holds;
}

const { values: { instructions }, positionals: wanted } = parseArgs({
  options: { instructions: { type: "boolean", default: false } },
  allowPositionals: true,
});
const unknown = wanted.filter((word) => !isKernelName(word));
if (unknown.length > 0) {
  console.error(`Unknown kernel "${unknown.join(" ")}": there are ${kernelNames.join(", ")}`);
  process.exit(2);
}
let holds = true;
const cpus = Number(process.env["PWRU_VM_CPUS"] ?? 2);
for (const kernel of wanted.length === 0 ? x64Kernels : wanted.filter(isKernelName)) {
  using made = new TemporaryFolder(tmpdir());
  const image = prepare(kernel, console.error);
  const job = {
    name: "miss_cost",
    script: script(kernel),
    limitSeconds: 1200,
    files: [compiled("meter", machineFor(kernel), made.path)],
  };
  const options = { binary: testedBinary(kernel), cpus, countsInstructions: instructions };
  const booted = await boot(image, [job], options);
  const outcome = booted.outcomes.get(job.name);
  console.log(
    `\nLinux ${kernel} (${image.package}), functions "${functionsOf(kernel)}"${
      instructions ? ", ns = instructions" : ""
    }`,
  );
  if (outcome?.status !== 0) {
    console.log(`status ${outcome?.status ?? "none"}\n${outcome?.read("stderr") ?? booted.console}`);
  }
  holds = outcome !== undefined && report(kernel, outcome) && holds;
}
process.exit(holds ? 0 : 1);
