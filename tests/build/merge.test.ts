/** Merging small files of our own, and what is refused. */
import { describe, expect, test } from "bun:test";
import { ET_DYN, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_LOAD, readElf } from "../../build/elf.ts";
import { BuildError } from "../../build/error.ts";
import { type Machine, machines } from "../../build/machines.ts";
import { type Library, merge } from "../../build/merge.ts";
import { program, type Shape, synthetic, tellingInterpreter } from "./synthetic.ts";

const library = (machine: Machine, name: string, shape: Shape = {}): Library => ({
  name,
  file: synthetic(machine, { soname: name, data: new TextEncoder().encode(`this is ${name}`), ...shape }),
});

const interpreter = (machine: Machine, shape: Shape = {}): Library => ({
  name: machine.interpreter,
  file: tellingInterpreter(machine, shape),
});

describe.each(machines)("$arch", (machine) => {
  const bun = program(machine), ld = interpreter(machine);
  const libs = ["libc.so.6", "libm.so.6"].map((name) => library(machine, name));
  const merged = merge(machine, bun, ld, libs), elf = readElf("merged", merged);
  const { pageSize } = machine;

  test("An executable that asks for no interpreter and no library", () => {
    expect(elf).toMatchObject({ machine: machine.elf, interpreter: undefined, needed: [] });
    expect(elf.segments.at(-1)).toMatchObject({ type: PT_GNU_STACK, flags: PF_R | PF_W });
    expect(elf.loads.filter(({ flags }) => (flags & PF_W) !== 0 && (flags & PF_X) !== 0)).toEqual([]);
  });

  test("Segments ascend, share no page, and lie alike in file and memory", () => {
    let end = 0;
    for (const { address, offset, memorySize, fileSize } of elf.loads) {
      expect(Math.floor(address / pageSize) * pageSize).toBeGreaterThanOrEqual(end);
      expect(offset % pageSize).toBe(address % pageSize);
      expect(memorySize).toBe(fileSize);
      end = address + memorySize;
    }
  });

  test("The program's segments stay at their addresses, byte for byte", () => {
    for (const segment of readElf("bun", bun).loads) {
      const kept = elf.loads.find(({ address }) => address === segment.address);
      const { offset, fileSize } = segment, from = kept?.offset ?? 0;
      expect(kept).toMatchObject({ flags: segment.flags, fileSize });
      expect(merged.subarray(from, from + fileSize).toHex()).toBe(
        bun.subarray(offset, offset + fileSize).toHex(),
      );
    }
  });

  test("The entry is in the launcher, whose segment starts the file", () => {
    const launcher = elf.loads.find(({ offset }) => offset === 0);
    expect(launcher?.flags).toBe(PF_R | PF_X);
    expect(elf.entry - (launcher?.address ?? 0)).toBeLessThan(launcher?.fileSize ?? 0);
  });

  test("The writable segment of ld.so is stored with its zeros, to the end of the page", () => {
    const data = readElf("ld", ld.file).loads[1];
    const stored = elf.loads.filter(({ flags }) => flags === (PF_R | PF_W))[1];
    const content = merged.subarray(stored?.offset, (stored?.offset ?? 0) + (stored?.fileSize ?? 0));
    expect(new TextDecoder().decode(content.subarray(0, 4))).toBe("data");
    expect(content.subarray(4).every((byte) => byte === 0)).toBe(true);
    expect(content.length).toBeGreaterThanOrEqual(data?.memorySize ?? Infinity);
    expect(((stored?.address ?? 0) + content.length) % pageSize).toBe(0);
  });

  test("The libraries are there, whole", () => {
    const last = elf.loads.at(-1), content = merged.subarray(last?.offset);
    expect(last?.flags).toBe(PF_R);
    let offset = 0;
    for (const { file } of libs) {
      expect(content.subarray(offset, offset + file.length).toHex()).toBe(file.toHex());
      offset = Math.ceil((offset + file.length) / pageSize) * pageSize;
    }
  });

  test("The same input gives the same bytes", () => {
    expect(merge(machine, bun, ld, libs).toHex()).toBe(merged.toHex());
  });
});

const [x64, arm64] = machines as [Machine, Machine];
const loads = (change: (index: number) => object): Shape => ({
  spoil: (segment, index) => segment.type === PT_LOAD ? { ...segment, ...change(index) } : segment,
});
const libc = library(x64, "libc.so.6");

const refused: readonly [message: string, bun: Shape, ld?: Shape, libs?: readonly Library[]][] = [
  ['Cannot merge "bun": its type is 3, want 2 (ET_EXEC)', { type: ET_DYN }],
  ['Cannot merge "bun": it is for machine 183, want 62 (x64)', { machine: arm64.elf }],
  [
    'Cannot merge "bun": segment 1 has 0xb bytes in the file and 0x6f in memory, want the same, as in the ' +
    "output of bun build --compile",
    { zeros: 100 },
  ],
  [
    'Cannot merge "bun": segment 0 is aligned to 0x800, want a multiple of 0x1000',
    loads(() => ({ align: 0x800 })),
  ],
  [
    'Cannot merge "bun": segment 1 lies at 0x1020 in the file and at 0x201021 in memory, want both at the same ' +
    "place in a page",
    loads((index) => index === 1 ? { address: 0x201021 } : {}),
  ],
  [
    'Cannot merge "bun": segment 1 starts at 0x200020, want segments that share no page before 0x201000',
    loads((index) => index === 1 ? { address: 0x200020 } : {}),
  ],
  [
    'Cannot merge "bun": its program headers are not loaded, want them in the first segment',
    loads((index) => index === 0 ? { fileSize: 64, memorySize: 64 } : {}),
  ],
  [
    'Cannot merge "bun": its interpreter is "ld-musl-x86_64.so.1", want "ld-linux-x86-64.so.2"',
    { interpreter: "/lib/ld-musl-x86_64.so.1" },
  ],
  [
    'Cannot merge "bun": it needs "libstdc++.so.6", want no library that is not merged in',
    { needed: ["libc.so.6", "libstdc++.so.6"] },
  ],
  ['Cannot merge "ld-linux-x86-64.so.2": its SONAME is "ld.so", want "ld-linux-x86-64.so.2"', {}, {
    soname: "ld.so",
  }],
  ['Cannot merge "ld-linux-x86-64.so.2": it is linked to an address, want 0', {}, { base: 0x100000 }],
  ['Cannot merge "libc.so.6": its SONAME is "libc.so.7", want "libc.so.6"', {}, {}, [
    library(x64, "libc.so.6", { soname: "libc.so.7" }),
  ]],
  ['Cannot merge "libc.so.6": it is for machine 183, want 62 (x64)', {}, {}, [
    library(x64, "libc.so.6", { machine: arm64.elf }),
  ]],
  ['Cannot merge "bun": it needs "libc.so.6", want no library that is not merged in', {}, {}, []],
];

test.each(refused)("%s", (message, bun, ld = {}, libs = [libc]) => {
  expect(() => merge(x64, program(x64, bun), interpreter(x64, ld), libs)).toThrow(new BuildError(message));
});
