/**
 * The tcpdump of this machine, when there is one, as a second opinion. Its libpcap may be another version, so
 * programs are not compared but run: packets on which the two differ must be explained by a known difference.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { executeCbpf } from "../../asm/cbpf_run.ts";
import { parseCbpfNumbers } from "../../asm/cbpf_text.ts";
import { compileFilter, type LinkType } from "../../lib/pcap_filter/compile.ts";
import { fileNames } from "../../lib/pcap_filter/names_files.ts";
import { Random, randomExpression, randomPacket } from "./generate.ts";

setDefaultTimeout(120_000); // busy machines

const tcpdump = Bun.which("tcpdump");
if (tcpdump === null) {
  console.warn("\n*** NOT TESTED: tcpdump is not installed, so nobody contradicts the filter compiler ***\n");
}
/** Live sockets need rights; `lo` is Ethernet to libpcap. */
const live = tcpdump !== null && numbers(["-i", "lo"], "ip") !== undefined;

/**
 * What libpcap 1.10 means differently or cannot do: keywords that are younger, IS-IS types and ip multicast
 * with other masks, byte with a missing load, bit tests against all ones, and the tunnels' dropped offsets.
 */
const knownDifferences = /vxlan|lldp|slow|multicast|iih|lsp|snp|\bl[12]\b|byte|isis|geneve|inbound|outbound/;

function numbers(options: readonly string[], expression: string): CbpfInsn[] | undefined {
  const { stdout, exitCode } = Bun.spawnSync([tcpdump!, "-ddd", ...options, expression], {
    stderr: "ignore",
  });
  return exitCode === 0 ? parseCbpfNumbers(stdout.toString()) : undefined;
}

const names = fileNames();

function compile(
  source: string,
  linkType: LinkType,
  optimize: boolean,
  ancillary: boolean,
): readonly CbpfInsn[] | undefined {
  try {
    return compileFilter(source, { linkType, names, optimize, ancillary }).insns;
  } catch {
    return undefined;
  }
}

/** Compares on random packets; only runs of the unoptimised program that no load ended count. */
function compare(
  source: string,
  linkType: LinkType,
  theirs: readonly CbpfInsn[],
  ancillary: boolean,
  random: Random,
): number {
  const plain = compile(source, linkType, false, ancillary),
    ours = compile(source, linkType, true, ancillary);
  if (plain === undefined || ours === undefined) return 0;
  let compared = 0;
  for (let count = 0; count < 40; count++) {
    const { bytes, wireLength } = randomPacket(random, linkType);
    const beside = random.chance(50) ? { vlanTag: random.pick([1, 5, 100]) } : {};
    const run = ancillary
      ? { wireLength, ancillary: { packetType: random.below(5), ifindex: random.below(4), ...beside } }
      : { wireLength };
    if (executeCbpf(plain, bytes, run).end !== "return") continue;
    const [wanted, got] = [theirs, ours].map((insns) => executeCbpf(insns, bytes, run).result > 0);
    expect({ source, packet: bytes.toHex(), match: got }).toEqual({
      source,
      packet: bytes.toHex(),
      match: wanted,
    });
    compared++;
  }
  return compared;
}

describe.skipIf(tcpdump === null)("tcpdump -ddd", () => {
  test.each<LinkType>(["EN10MB", "RAW"])("random expressions on %s", (linkType) => {
    let compared = 0;
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Random(seed * 7919);
      const source = randomExpression(random, 3);
      if (knownDifferences.test(source)) continue;
      const theirs = numbers(["-y", linkType], source);
      if (theirs !== undefined) compared += compare(source, linkType, theirs, false, random);
    }
    expect(compared).toBeGreaterThan(500);
  });

  test("expressions with names of this machine", () => {
    const random = new Random(1);
    for (
      const source of [
        "port http",
        "udp port domain",
        "ip proto \\ospf",
        "portrange ftp-http",
        "tcp port ssh",
      ]
    ) {
      const theirs = numbers(["-y", "EN10MB"], source);
      if (theirs !== undefined) compare(source, "EN10MB", theirs, false, random);
    }
  });
});

describe.skipIf(!live)("tcpdump -ddd on a live interface", () => {
  test.each([
    "inbound",
    "outbound and tcp",
    "ifindex 3",
    "vlan",
    "vlan 5",
    "vlan and ip",
    "vlan 5 and tcp port 80",
    "vlan and vlan and udp",
    "vlan and ip[8] = 64",
    "tcp port 80 or vlan and host 10.0.0.1",
    "not vlan and ip",
    "vlan and tcp[13] & 2 != 0",
    "ether host 00:11:22:33:44:55 and vlan 5 and ether src 66:77:88:99:aa:bb",
  ])("%s", (source) => {
    const random = new Random(5);
    const theirs = numbers(["-i", "lo"], source)!;
    let compared = 0;
    for (let round = 0; round < 20; round++) compared += compare(source, "EN10MB", theirs, true, random);
    expect(compared).toBeGreaterThan(100);
  });
});
