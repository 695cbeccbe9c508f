/**
 * The incidents of the manual's recipes, staged: the command that stands there shows what stands there.
 *
 * Where functions cannot be probed the reading is that of tracepoints: they name the reason and the place of each end.
 */
import { expect } from "bun:test";
import { type Recipe, recipes } from "../../../lib/cli/recipes.ts";
import { compiled } from "../compiled.ts";
import { type Checks, type Run, type Scenario } from "../scenario.ts";

/** How each incident is staged on the topology of topo.sh, and how it is ended where that matters for the next. */
const stages: Readonly<Record<string, { before?: string; traffic: string; after?: string }>> = {
  mtu: {
    traffic: `head -c 2351 /dev/zero | ip netns exec dns \\
      socat -u -b 4096 - UDP4-SENDTO:10.9.1.2:40053,sourceport=53,ip-mtu-discover=2`,
    after: "ip -n dns route flush cache",
  },
  firewall: {
    before: `nft -f - <<'END'
      table ip wall { chain forward { type filter hook forward priority 0; tcp dport 443 drop; }; }
END`,
    traffic: "ip netns exec pod socat -u -T 1 - TCP4:10.9.2.2:443,connect-timeout=0.5 < /dev/null",
    after: "nft delete table ip wall",
  },
  listener: {
    before: "ip netns exec dns socat -u TCP4-LISTEN:8080,bind=127.0.0.1 /dev/null & server=$!\n" +
      "until_true 10 bound $server tcp 8080",
    traffic: "say pod TCP4:10.9.2.2:8080",
    after: "kill $server",
  },
  "slow-reader": {
    before: "ip netns exec dns socat -u UDP4-RECV:8125,rcvbuf=2304 /dev/null & server=$!\n" +
      "until_true 10 bound $server udp 8125; kill -STOP $server",
    traffic: "for i in 1 2 3 4 5 6 7 8; do say pod UDP4:10.9.2.2:8125; done",
    after: "kill -KILL $server",
  },
  "way-back": {
    before: `ip -n pod addr add 10.9.7.7/32 dev lo; ip route add 10.9.7.0/24 via 10.9.2.2
      sysctl -qw net.ipv4.conf.podveth.rp_filter=1`,
    traffic: "ip netns exec pod ping -q -c1 -W1 -I 10.9.7.7 10.9.2.2",
    after:
      "ip route del 10.9.7.0/24; ip -n pod addr del 10.9.7.7/32 dev lo; sysctl -qw net.ipv4.conf.podveth.rp_filter=0",
  },
  "stale-nat": {
    before: `nft -f - <<'END'
      table ip service { chain choose { type nat hook prerouting priority -100; ip daddr 10.96.0.10 dnat to 10.9.2.99; }; }
END
      sysctl -qw net.ipv4.neigh.dnsveth.retrans_time_ms=200`,
    traffic: "say pod UDP4:10.96.0.10:53; nap 1.5",
    after: "nft delete table ip service",
  },
  program: {
    before: `./bpf_programs pin $pins deny_vxlan:tc:2
      tc qdisc add dev podveth clsact; tc filter add dev podveth ingress bpf da pinned $pins/deny_vxlan`,
    traffic: "say pod UDP4:10.9.2.2:4789",
    after: "tc qdisc del dev podveth clsact",
  },
  moved: {
    before: "neighbour=$(cat /sys/class/net/podveth/address)\n" +
      "ip neigh replace 10.9.1.2 lladdr 02:00:00:00:de:ad dev podveth nud permanent",
    traffic: "say dns UDP4:10.9.1.2:5000",
    after: "ip neigh del 10.9.1.2 dev podveth",
  },
  checksum: {
    // A SYN from port 4660 to 8443 whose checksum is 0xdead.
    traffic: String.raw`printf '\x12\x34\x20\xfb\0\0\0\1\0\0\0\0\x50\x02\x72\x10\xde\xad\0\0' |
      ip netns exec pod socat -u - IP4-SENDTO:10.9.2.2:6`,
  },
  who: { traffic: "say pod UDP4:169.254.169.254:80" },
};

/** The words behind "pwru". */
const wordsOf = ({ command }: Recipe) => command.replace(/^pwru /, "");

const script = (some: readonly Recipe[]) =>
  some.map((recipe) => {
    const { before = "", traffic, after = "" } = stages[recipe.name] ?? unstaged(recipe);
    return `
    ${before}
    start ${recipe.name} ${wordsOf(recipe)}
    { ${traffic}; } >> "$OUT/stdout" 2>&1
    settle ${recipe.name}
    stop ${recipe.name}
    ${after}
    `;
  }).join("\n");

function unstaged({ name }: Recipe): never {
  throw new RangeError(`Nothing stages the recipe "${name}"`);
}

/** What stands between backticks. */
export const signs = ({ reading }: Recipe): string[] =>
  [...reading.matchAll(/`(.*?)`/g)].map(([, sign = ""]) => sign);

/** Whether a sign can be there without functions: reasons, what is in columns, rows of a summary. */
const ofTracepoints = (sign: string) => !/^_*[a-z]+\w*_\w+$/.test(sign);

function check(recipe: Recipe, run: Run, functions: boolean): void {
  expect(run.facts(recipe.name)).toMatchObject({ ready: true, gone: true, status: 0 });
  const printed = run.text(`${recipe.name}.out`), expected = signs(recipe);
  expect(expected.length).toBeGreaterThan(0);
  const missing = expected.filter((sign) => !printed.includes(sign));
  expect(missing.filter((sign) => functions || ofTracepoints(sign))).toEqual([]);
  // In the order of the sentence, where it names more than one station.
  if (functions && !recipe.command.includes("--summary")) {
    const places = expected.map((sign) => printed.indexOf(sign));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  }
}

function checks(some: readonly Recipe[], functions: boolean): Checks {
  return Object.fromEntries(
    some.map((recipe) => [recipe.incident, (run: Run) => check(recipe, run, functions)]),
  );
}

/** Those whose command works without functions. */
const simple = recipes.filter(({ command }) => !command.includes("--filter-trace-tc"));

/** On this machine's kernel, whatever it can probe; see tests/kernel/recipes.test.ts. */
export const recipesHere: Pick<Scenario, "script" | "checks"> = {
  script: `topo 1500; ${script(simple)}`,
  checks: checks(simple, false),
};

export const recipesOfManual: Scenario = {
  name: "recipes",
  kernels: [],
  longKernels: ["7.3"],
  limitSeconds: 300,
  files: (machine, folder) => [compiled("bpf_programs", machine, folder)],
  script: `
    topo 1500
    modprobe -qa sch_ingress cls_bpf
    pins=/sys/fs/bpf/recipes; mkdir $pins
    ${script(recipes)}
    rm -r $pins
    untopo
  `,
  checks: {},
  oursOnly: checks(recipes, true),
};
