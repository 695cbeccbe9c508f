/** What --dump-filter prints, and that it needs neither privileges nor, for classic BPF, a kernel. */
import { describe, expect, test } from "bun:test";
import type { KernelTypes } from "../../asm/code.ts";
import { dumpText } from "../../lib/cli/dump.ts";
import type { DumpForm } from "../../lib/cli/options.ts";
import { parseCommandLine } from "../../lib/cli/parse.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { compileFor } from "../../lib/trace/filter.ts";
import { fixtureTypes } from "../fixtures/kernel_types.ts";
import { expectGolden } from "../golden.ts";

const noKernel = (): KernelTypes => {
  throw new Error("No kernel was to be asked");
};

/** The listing that a command line asks for. */
function dump(words: string, kernel: () => KernelTypes = noKernel): string {
  const { options: { dumpFilter, dumpLinkType }, filter } = parseCommandLine(words.split(" "));
  return dumpText(dumpFilter, compileFor(dumpLinkType, filter, noNames), kernel);
}

type Casts = "none" | "struct" | "void" | undefined;
const rows: readonly (readonly [name: string, words: string, casts: Casts])[] = [
  ["text", "-d udp src port 9053", undefined],
  ["text_raw", "-d --dump-link-type RAW udp src port 9053", undefined],
  ["text_vlan", "-d vlan 5 and inbound", undefined],
  ["text_empty", "-d", undefined],
  ["c", "-dd udp src port 9053", undefined],
  ["numbers", "-ddd udp src port 9053", undefined],
  ["numbers_raw", "--dump-filter=numbers --dump-link-type=RAW udp src port 9053", undefined],
  ["ebpf_void_cast", "--dump-filter=ebpf udp src port 9053", "void"],
  ["ebpf_struct_cast", "--dump-filter=ebpf --dump-link-type RAW udp src port 9053", "struct"],
  ["ebpf_bulk", "--dump-filter=ebpf udp src port 9053", "none"],
];

test.each([...rows])("%s: %s", (name, words, casts) => {
  const text = casts === undefined ? dump(words) : dump(words, () => fixtureTypes(casts));
  expectGolden(`dump/${name}.txt`, text);
});

test("what tcpdump prints, for a filter that both compile alike", () => {
  expect(dump("-ddd icmp")).toBe("6\n40 0 0 12\n21 0 3 2048\n48 0 0 23\n21 0 1 1\n6 0 0 262144\n6 0 0 0\n");
  expect(dump("-d")).toBe("(000) ret      #262144\n");
});

test("every form lists every link type", () => {
  const forms: readonly DumpForm[] = ["text", "c", "numbers", "ebpf"];
  for (const form of forms) {
    for (const link of ["EN10MB", "RAW"]) {
      expect(dump(`--dump-filter=${form} --dump-link-type ${link} tcp`, () => fixtureTypes("void")))
        .toMatch(/^(.+\n){6,}$/);
    }
  }
});

describe("the program", () => {
  const run = (words: string[]) => {
    const command = [process.execPath, "main.ts", ...words], nobody = process.getuid?.() === 0;
    const { stdout, stderr, exitCode } = Bun.spawnSync(
      nobody ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all", ...command] : command,
      { cwd: `${import.meta.dir}/../..` },
    );
    return [stdout.toString(), stderr.toString(), exitCode];
  };

  test("prints and ends, without capabilities", () => {
    expect(run(["-ddd", "icmp"])).toEqual([dump("-ddd icmp"), "", 0]);
  });

  test.each<[words: string[], stderr: string, status: number]>([
    [
      ["-d", "--dump-link-type", "RAW", "arp"],
      "error: expression rejects all packets\n  filter    arp\n            ^^^\n",
      1,
    ],
    [
      ["--dump-filter=asm", "icmp"],
      'error: Cannot use "asm" for --dump-filter: want text, c, numbers or ebpf\n  hint      pwru --help lists the options\n',
      2,
    ],
  ])("%j", (words, stderr, status) => {
    expect(run(words)).toEqual(["", stderr, status]);
  });
});
