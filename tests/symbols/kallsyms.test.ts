import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { UnsupportedError } from "../../lib/errors.ts";
import {
  KALLSYMS,
  parseKallsyms,
  readKallsyms,
  readKernelText,
  untilEndOfText,
} from "../../lib/symbols/kallsyms.ts";
import { chunksOfLines } from "../../lib/symbols/lines.ts";
import { type SymbolTable, symbolText } from "../../lib/symbols/table.ts";

const directory = mkdtempSync(`${tmpdir()}/pwru-kallsyms-`);
afterAll(() => rmSync(directory, { recursive: true }));

/** Lines as 6.12 and 7.3 print them. */
const sample = `0000000000000000 A fixed_percpu_data
ffffffff8a600000 T _text
ffffffff8a602010 T __pfx_ip_rcv
ffffffff8a602020 T ip_rcv
ffffffff8a603000 t cleanup
ffffffff8a604000 t cleanup
ffffffff8b000000 D jiffies
ffffffff8b100000 W weak_function
ffffffff8b100000 w weak_alias
ffffffff8b200000 t __pim_rcv.constprop.0
ffffffffc06ab010 t veth_get_link_ksettings\t[veth]
ffffffffc036f024 r _note_7\t[veth]
ffffffffc06ac000 t cleanup\t[veth]
ffffffffc0800000 t vxlan_rcv\t[vxlan]
ffffffffc0900000 t bpf_prog_e20a685998fd41c8_entry1\t[bpf]
`;
const text = (symbols: SymbolTable) =>
  Array.from({ length: symbols.size }, (_, row) => symbolText(symbols.symbol(row)));
const parse = (text: string) => parseKallsyms([Buffer.from(text)]);

test("functions are kept, data and padding are not", () => {
  const symbols = parse(sample);
  expect(text(symbols)).toEqual([
    "_text",
    "ip_rcv",
    "cleanup",
    "cleanup",
    "weak_function",
    "weak_alias",
    "__pim_rcv.constprop.0",
    "veth_get_link_ksettings[veth]",
    "cleanup[veth]",
    "vxlan_rcv[vxlan]",
    "bpf_prog_e20a685998fd41c8_entry1[bpf]",
  ]);
  expect(symbols.addresses("ip_rcv")).toEqual([0xffffffff8a602020n]);
  expect(symbols.addresses("cleanup")).toEqual([0xffffffff8a603000n, 0xffffffff8a604000n]);
  expect(symbols.addresses("cleanup", "veth")).toEqual([0xffffffffc06ac000n]);
  const { symbol, offset } = symbols.nearest(0xffffffff8a602025n)!;
  expect([symbolText(symbol), offset]).toEqual(["ip_rcv", 5]);
  expect(symbolText(symbols.at(0xffffffff8b100000n)!)).toBe("weak_function");
});

test("the kernel's own text ends at _etext, and nothing behind it is read", () => {
  const data = sample.indexOf("ffffffff8b000000");
  const file = `${sample.slice(0, data)}ffffffff8ae00000 T _etext\n${sample.slice(data)}`;
  for (const chunkBytes of [1, 100, 1 << 20]) {
    writeFileSync(`${directory}/text`, file);
    let read = 0;
    const chunks = function* () {
      for (const lines of chunksOfLines(`${directory}/text`, chunkBytes)) {
        read += lines.length;
        yield lines;
      }
    };
    const symbols = parseKallsyms(untilEndOfText(chunks()));
    expect(text(symbols)).toEqual(["_text", "ip_rcv", "cleanup", "cleanup", "_etext"]);
    if (chunkBytes <= 100) expect(read).toBeLessThan(file.length);
  }
  writeFileSync(`${directory}/text`, sample); // no end: all of it
  expect(text(readKernelText(`${directory}/text`))).toEqual(text(readKallsyms(`${directory}/text`)));
});

test("what is no line of that shape is left out", () => {
  const symbols = parse(
    "\nffffffff81000000 T good\nzzz T bad\nffffffff81000000\nffffffff81000010 T \nffffffff81000020 T last",
  );
  expect(Array.from({ length: symbols.size }, (_, row) => symbols.nameOf(row))).toEqual(["good", "last"]);
});

test("lines may be cut anywhere by reads", () => {
  writeFileSync(`${directory}/sample`, sample);
  const whole = parse(sample);
  for (const chunkBytes of [1, 7, 16, 64, 100, 1 << 20]) {
    const parts = parseKallsyms(chunksOfLines(`${directory}/sample`, chunkBytes));
    expect(parts.size).toBe(whole.size);
    for (let row = 0; row < parts.size; row++) expect(parts.symbol(row)).toEqual(whole.symbol(row));
  }
});

test("the last line of a file may lack its newline", () => {
  writeFileSync(`${directory}/cut`, "one\ntwo");
  expect([...chunksOfLines(`${directory}/cut`)].map((lines) => Buffer.from(lines).toString())).toEqual([
    "one\ntwo",
  ]);
  writeFileSync(`${directory}/empty`, "");
  expect([...chunksOfLines(`${directory}/empty`)]).toEqual([]);
});

describe("what cannot be used says what to do", () => {
  test.each<[why: string, call: () => unknown, message: string, hint: string]>([
    [
      "hidden addresses",
      () => parse("0000000000000000 T _text\n0000000000000000 t ip_rcv\n"),
      "Cannot see addresses in /proc/kallsyms: all are 0",
      "sysctl -w kernel.kptr_restrict=1 # and CAP_SYSLOG, which root has",
    ],
    [
      "no functions",
      () => parse("ffffffff8b000000 D jiffies\n"),
      "Cannot find functions in /proc/kallsyms",
      "it takes a kernel with CONFIG_KALLSYMS=y and /proc mounted",
    ],
    [
      "no file",
      () => readKallsyms(`${directory}/none`),
      `Cannot read ${directory}/none: ENOENT`,
      "it takes a kernel with CONFIG_KALLSYMS=y and /proc mounted",
    ],
  ])("%s", (_why, call, message, hint) => {
    try {
      call();
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError);
      expect(error).toMatchObject({ message, hint });
    }
    expect.assertions(2);
  });
});

describe.skipIf(!existsSync(KALLSYMS))("the running kernel's (CONFIG_KALLSYMS)", () => {
  test("each function is nearest to itself, or it hides its addresses", () => {
    let symbols;
    try {
      symbols = readKallsyms();
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError); // without CAP_SYSLOG
      return;
    }
    const lines = readFileSync(KALLSYMS, "latin1").split("\n").filter((line) =>
      / [tTwW] (?!__pfx_)/.test(line) && !line.endsWith("[bpf]")
    );
    expect(symbols.size).toBeGreaterThanOrEqual(lines.length);
    for (let i = 0; i < lines.length; i += 997) {
      const [address, , name, module] = lines[i]!.split(/[ \t]/);
      expect(symbols.nearest(BigInt(`0x${address}`) + 1n)?.offset).toBe(1);
      expect(symbols.addresses(name!, module?.slice(1, -1))).toContain(BigInt(`0x${address}`));
    }
    const own = readKernelText(), end = own.addresses("_etext")[0]!;
    expect(own.addresses("ip_rcv")).toEqual(symbols.addresses("ip_rcv"));
    expect(symbols.nearest(end)).toEqual(own.nearest(end));
    expect(own.size).toBeLessThan(symbols.size);
  });
});
