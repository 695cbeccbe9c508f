/** Classic BPF: what runs, what is refused, how it prints. */
import { describe, expect, test } from "bun:test";
import { ancillary, type CbpfInsn, instructions, SKF_AD_OFF, validateCbpf } from "../../asm/cbpf.ts";
import { executeCbpf, type RunOptions } from "../../asm/cbpf_run.ts";
import {
  formatCbpf,
  formatCbpfC,
  formatCbpfInsn,
  formatCbpfNumbers,
  parseCbpfNumbers,
} from "../../asm/cbpf_text.ts";

/** `code jt jf k`, separated by semicolons; k in any notation of TypeScript. */
function assemble(text: string): CbpfInsn[] {
  return text.split(";").map((line) => {
    const [code = 0, jt = 0, jf = 0, k = 0] = line.trim().split(/ +/).map(Number);
    return { code, jt, jf, k };
  });
}

const packet = Uint8Array.of(0x45, 0x01, 0x02, 0x03, 0xff, 0xfe, 0xfd, 0xfc, 0x0a);

describe("execution", () => {
  type Row = readonly [what: string, program: string, result: number, options?: RunOptions];
  // `ret a` is 0x16; 0x06 returns k
  const rows: readonly Row[] = [
    ["ret k", "0x06 0 0 7", 7],
    ["ld word", "0x20 0 0 4; 0x16", 0xfffefdfc],
    ["ld word, last place", "0x20 0 0 5; 0x16", 0xfefdfc0a],
    ["ld word past the end", "0x20 0 0 6; 0x16", 0],
    ["ldh", "0x28 0 0 7; 0x16", 0xfc0a],
    ["ldh past the end", "0x28 0 0 8; 0x06 0 0 1", 0],
    ["ldb", "0x30 0 0 8; 0x16", 0x0a],
    ["ldb past the end", "0x30 0 0 9; 0x06 0 0 1", 0],
    ["ld far past the end", "0x20 0 0 0xffffffff; 0x06 0 0 1", 0],
    ["ld indexed", "0x01 0 0 2; 0x50 0 0 6; 0x16", 0x0a],
    ["an index does not wrap", "0x01 0 0 2; 0x50 0 0 0xffffffff; 0x06 0 0 1", 0],
    ["ldxb 4*([0]&0xf)", "0xb1 0 0 0; 0x87; 0x16", 20],
    ["ldxb past the end", "0xb1 0 0 9; 0x06 0 0 1", 0],
    ["ld #pktlen is the wire length", "0x80; 0x16", 1500, { wireLength: 1500 }],
    ["ld #pktlen without one", "0x80; 0x16", 9],
    ["ldx #pktlen", "0x81; 0x87; 0x16", 9],
    ["scratch starts at 0", "0x60 0 0 3; 0x16", 0],
    ["st, ld M", "0 0 0 5; 0x02 0 0 3; 0 0 0 6; 0x60 0 0 3; 0x16", 5],
    ["stx, ldx M", "1 0 0 5; 0x03 0 0 15; 1 0 0 6; 0x61 0 0 15; 0x87; 0x16", 5],
    ["tax, txa", "0 0 0 9; 0x07; 0 0 0 1; 0x87; 0x16", 9],
    ["add wraps", "0 0 0 0xffffffff; 0x04 0 0 2; 0x16", 1],
    ["sub wraps", "0 0 0 1; 0x14 0 0 2; 0x16", 0xffffffff],
    ["mul wraps", "0 0 0 0x10001; 0x24 0 0 0x10001; 0x16", 0x20001],
    ["div", "0 0 0 0xfffffffe; 0x34 0 0 3; 0x16", 0x55555554],
    ["div by X = 0", "0 0 0 1; 0x3c; 0x06 0 0 1", 0],
    ["mod", "0 0 0 0xffffffff; 0x94 0 0 10; 0x16", 5],
    ["mod by X = 0", "0 0 0 1; 0x9c; 0x06 0 0 1", 0],
    [
      "or, and, xor",
      "0 0 0 0xf0000001; 0x44 0 0 2; 0x54 0 0 0xf0000002; 0xa4 0 0 0x80000000; 0x16",
      0x70000002,
    ],
    ["lsh", "0 0 0 3; 0x64 0 0 31; 0x16", 0x80000000],
    ["lsh by X = 32", "0 0 0 3; 0x01 0 0 32; 0x6c; 0x16", 0],
    ["rsh is unsigned", "0 0 0 0x80000000; 0x74 0 0 31; 0x16", 1],
    ["rsh by X = 32", "0 0 0 3; 0x01 0 0 32; 0x7c; 0x16", 0],
    ["neg", "0 0 0 1; 0x84; 0x16", 0xffffffff],
    ["neg 0", "0x84; 0x16", 0],
    ["jeq", "0 0 0 5; 0x15 1 0 5; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["jgt is unsigned", "0 0 0 0xffffffff; 0x25 1 0 1; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["jge", "0 0 0 5; 0x35 1 0 5; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["jset", "0 0 0 0x80000000; 0x45 1 0 0xc0000000; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["jset, none", "0 0 0 1; 0x45 1 0 2; 0x06 0 0 1; 0x06 0 0 2", 1],
    ["jeq x", "0 0 0 5; 0x01 0 0 5; 0x1d 1 0; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["ja", "0x05 0 0 1; 0x06 0 0 1; 0x06 0 0 2", 2],
    ["ja backwards, with an end", "0x05 0 0 1; 0x06 0 0 7; 0x05 0 0 0xfffffffe", 7],
    ["an endless loop ends", "0x05 0 0 0xffffffff", 0, { maxSteps: 1000 }],
    ["packet type", `0x28 0 0 ${SKF_AD_OFF + 4}; 0x16`, 4, { ancillary: { packetType: 4 } }],
    ["ifindex", `0x20 0 0 ${SKF_AD_OFF + 8}; 0x16`, 77, { ancillary: { ifindex: 77 } }],
    ["tag", `0x28 0 0 ${SKF_AD_OFF + 44}; 0x16`, 0xe005, { ancillary: { vlanTag: 0xe005 } }],
    ["tag present", `0x30 0 0 ${SKF_AD_OFF + 48}; 0x16`, 1, { ancillary: { vlanTag: 0 } }],
    ["tag absent", `0x30 0 0 ${SKF_AD_OFF + 48}; 0x04 0 0 5; 0x16`, 5, { ancillary: {} }],
    ["ancillary data that is not there", `0x20 0 0 ${SKF_AD_OFF + 8}; 0x06 0 0 1`, 0, { ancillary: {} }],
    ["ancillary loads in a file", `0x20 0 0 ${SKF_AD_OFF + 8}; 0x06 0 0 1`, 0],
  ];
  test.each([...rows])("%s", (_, program, result, options = {}) => {
    const insns = assemble(program);
    validateCbpf([...insns, { code: 6, jt: 0, jf: 0, k: 0 }], {
      backwardJumps: true,
      initializedScratch: false,
    });
    expect(executeCbpf(insns, packet, options).result).toBe(result);
  });

  test("how it ended", () => {
    const end = (program: string) => executeCbpf(assemble(program), packet, { maxSteps: 10 }).end;
    expect(["6", "0x20 0 0 99; 6", "0x3c; 6", "0x05 0 0 0xffffffff"].map(end))
      .toEqual(["return", "load", "division", "steps"]);
    expect(() => end("0 0 0 1")).toThrow(RangeError);
  });
});

describe("validation", () => {
  type Row = readonly [program: string, message: string];
  test.each<Row>([
    ["0xff; 6", "Unknown classic BPF instruction: (0) opcode 255 jt 0 jf 0 k 0"],
    ["0x02 0 0 16; 6", "Scratch memory has 16 words: (0) st jt 0 jf 0 k 16"],
    ["0x34 0 0 0; 6", "Division by the constant 0: (0) div jt 0 jf 0 k 0"],
    ["0x94 0 0 0; 6", "Division by the constant 0: (0) mod jt 0 jf 0 k 0"],
    ["0x64 0 0 32; 6", "Shift by more than 31 bits: (0) lsh jt 0 jf 0 k 32"],
    ["0x15 1 0 0; 6", "Jump out of the program: (0) jeq jt 1 jf 0 k 0"],
    ["0x15 0 256 0; 6", "jt and jf must be unsigned 8-bit numbers: (0) jeq jt 0 jf 256 k 0"],
    ["0x05 0 0 1; 6", "Jump out of the program: (0) ja jt 0 jf 0 k 1"],
    ["0x05 0 0 0xffffffff; 6", "Jump backwards: (0) ja jt 0 jf 0 k 4294967295"],
    ["0 0 0 -1; 6", "k must be an unsigned 32-bit number: (0) ld jt 0 jf 0 k -1"],
    ["0 0 0 1", "The last instruction must be a return: (0) ld jt 0 jf 0 k 1"],
    ["0x60 0 0 2; 6", "Some path reads M[2] before it is set: (0) ld jt 0 jf 0 k 2"],
    ["6; 0x60 0 0 1; 6", "Some path reads M[1] before it is set: (1) ld jt 0 jf 0 k 1"],
    ["0x15 0 1 0; 0x02 0 0 2; 0x61 0 0 2; 6", "Some path reads M[2] before it is set: (2) ldx jt 0 jf 0 k 2"],
  ])("%s: %s", (program, message) => {
    expect(() => validateCbpf(assemble(program))).toThrow(message);
  });

  test("a word that every path sets may be read", () => {
    validateCbpf(assemble("0x15 1 0 0; 0x02 0 0 2; 0x02 0 0 2; 0x61 0 0 2; 6"));
    validateCbpf(assemble("0x15 0 2 0; 0x02 0 0 2; 0x05 0 0 1; 0x02 0 0 2; 0x61 0 0 2; 6"));
  });

  test("size", () => {
    const returns = (count: number) => Array.from({ length: count }, () => ({ code: 6, jt: 0, jf: 0, k: 0 }));
    validateCbpf(returns(4096));
    expect(() => validateCbpf(returns(4097))).toThrow("at most 4096 instructions, this one has 4097");
    expect(() => validateCbpf([])).toThrow("at least one instruction");
  });
});

describe("listings", () => {
  const program = assemble(
    "0x28 0 0 12; 0x15 0 3 0x800; 0xb1 0 0 14; 0x48 0 0 14; 0x05 0 0 0; 0x06 0 0 262144",
  );

  test("-d", () => {
    expect(formatCbpf(program)).toBe(
      "(000) ldh      [12]\n" +
        "(001) jeq      #0x800           jt 2\tjf 5\n" +
        "(002) ldxb     4*([14]&0xf)\n" +
        "(003) ldh      [x + 14]\n" +
        "(004) ja       5\n" +
        "(005) ret      #262144\n",
    );
  });

  test("-dd", () => {
    expect(formatCbpfC(program.slice(0, 2))).toBe(
      "{ 0x28, 0, 0, 0x0000000c },\n{ 0x15, 0, 3, 0x00000800 },\n",
    );
  });

  test("-ddd, and back", () => {
    expect(formatCbpfNumbers(program.slice(0, 2))).toBe("2\n40 0 0 12\n21 0 3 2048\n");
    expect(parseCbpfNumbers(formatCbpfNumbers(program))).toEqual(program);
    expect(() => parseCbpfNumbers("2\n40 0 0 12\n")).toThrow('"2" announced, 1 instructions follow');
    expect(() => parseCbpfNumbers("1\n40 0 0\n")).toThrow('"40 0 0" is not "code jt jf k"');
  });

  type Row = readonly [insn: string, text: string];
  test.each<Row>([
    ["0 0 0 0xff", "ld       #0xff"],
    ["0x20 0 0 4294967295", "ld       [-1]"],
    ["0x80", "ld       #pktlen"],
    ["0x60 0 0 3", "ld       M[3]"],
    ["0x61 0 0 3", "ldx      M[3]"],
    ["0x03 0 0 3", "stx      M[3]"],
    ["0x04 0 0 5", "add      #5"],
    ["0x0c", "add      x"],
    ["0x54 0 0 0xf0", "and      #0xf0"],
    ["0x64 0 0 2", "lsh      #2"],
    ["0x84", "neg      "],
    ["0x07", "tax      "],
    ["0x1d 1 2", "jeq      x                jt 2\tjf 3"],
    ["0x16", "ret      "],
    ["0xee", "unimp    #0x0"],
    ...Object.values(ancillary).map((
      { offset, text },
    ): Row => [`0x20 0 0 ${SKF_AD_OFF + offset}`, `ld       [${text}]`]),
  ])("%s: %s", (insn, text) => {
    expect(formatCbpfInsn(assemble(insn)[0]!, 0)).toBe(`(000) ${text}`);
  });

  test("every instruction has a text of its own", () => {
    const texts = [...instructions.keys()].map((code) => formatCbpfInsn({ code, jt: 0, jf: 0, k: 1 }, 0));
    expect(new Set(texts).size).toBe(instructions.size);
  });
});
