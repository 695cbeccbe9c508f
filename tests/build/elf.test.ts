/** Reading and writing ELF headers: on files of our own, and on this machine's. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  elfHeader,
  EM_X86_64,
  encodeHeaders,
  ET_EXEC,
  headersSize,
  PF_R,
  PF_X,
  programHeader,
  PT_LOAD,
  readElf,
} from "../../build/elf.ts";
import { BuildError } from "../../build/error.ts";
import { type Machine, machines } from "../../build/machines.ts";
import { program, synthetic } from "./synthetic.ts";

const [x64] = machines as [Machine];

test("The structs have the sizes of the specification", () => {
  expect([elfHeader.size, programHeader.size]).toEqual([64, 56]);
});

test("What is written is read again", () => {
  const segment = { type: PT_LOAD, flags: PF_R | PF_X, offset: 0, address: 0x8000000, align: 0x1000 };
  const segments = [{ ...segment, fileSize: headersSize(1), memorySize: 2 ** 40 }];
  const file = encodeHeaders({ type: ET_EXEC, machine: EM_X86_64, entry: 0x8000078, segments });
  expect(file.length).toBe(headersSize(1));
  expect(readElf("it", file)).toMatchObject({
    type: ET_EXEC,
    machine: EM_X86_64,
    entry: 0x8000078,
    headersOffset: 64,
    segments,
    loads: segments,
    interpreter: undefined,
    soname: undefined,
    needed: [],
  });
});

test.each(machines)("Names are found by address: $arch", (machine) => {
  expect(readElf("bun", program(machine))).toMatchObject({
    interpreter: `/lib64/${machine.interpreter}`,
    needed: ["libc.so.6", machine.interpreter],
    soname: undefined,
  });
  expect(readElf("lib", synthetic(machine, { soname: "libc.so.6", needed: ["a", "b.so"] }))).toMatchObject({
    needed: ["a", "b.so"],
    soname: "libc.so.6",
  });
});

test("The executable that runs this is read", () => {
  const { interpreter, needed, loads } = readElf("bun", new Uint8Array(readFileSync(process.execPath)));
  expect(interpreter).toStartWith("/lib");
  expect(needed).toContain("libc.so.6");
  expect(loads.length).toBeGreaterThan(1);
});

const good = program(x64);
const changed = (offset: number, value: number) => {
  const file = good.slice();
  file[offset] = value;
  return file;
};

const refused: readonly [why: string, file: Uint8Array, message: string][] = [
  ["short", good.subarray(0, 63), 'Cannot read "it": 63 bytes are no ELF header'],
  ["other magic", changed(1, 0), 'Cannot read "it": it is not a 64-bit little-endian ELF file'],
  ["32 bits", changed(4, 1), 'Cannot read "it": it is not a 64-bit little-endian ELF file'],
  ["big endian", changed(5, 2), 'Cannot read "it": it is not a 64-bit little-endian ELF file'],
  ["many headers", changed(57, 255), 'Cannot read "it": its program headers lie outside the file'],
  ["cut", good.subarray(0, -1), 'Cannot read "it": program header 1 points outside the file'],
];

test.each(refused)("Refused: %s", (_, file, message) => {
  expect(() => readElf("it", file)).toThrow(new BuildError(message));
});
