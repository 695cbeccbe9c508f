/** Small ELF files for tests: a program that looks like Bun's, shared objects, an ld.so that tells what it sees. */
import { struct, u64 } from "../../asm/layout.ts";
import * as arm64 from "../../build/arm64.ts";
import {
  encodeHeaders,
  ET_DYN,
  ET_EXEC,
  headersSize,
  PF_R,
  PF_W,
  PF_X,
  PT_DYNAMIC,
  PT_INTERP,
  PT_LOAD,
  type Segment,
} from "../../build/elf.ts";
import { assemble, bytes, type Code, cString, label, quad } from "../../build/machine_code.ts";
import type { Machine } from "../../build/machines.ts";
import * as x64 from "../../build/x64.ts";

const DT_NEEDED = 1, DT_STRTAB = 5, DT_SONAME = 14;
const dynamicEntry = struct("Elf64_Dyn", { d_tag: u64, d_val: u64 });

export interface Shape {
  readonly type?: number;
  readonly machine?: number;
  readonly base?: number;
  readonly interpreter?: string;
  readonly soname?: string;
  readonly needed?: readonly string[];
  /** runs at the entry */
  readonly code?: Code;
  /** the writable segment, and how many zeros it has behind the file's bytes */
  readonly data?: Uint8Array;
  readonly zeros?: number;
  readonly align?: number;
  /** last touch of a segment, to spoil it */
  readonly spoil?: (segment: Segment, index: number) => Segment;
}

/** | headers, strings, dynamic section, code (R-X) | data (RW) | */
export function synthetic(machine: Machine, shape: Shape): Uint8Array {
  const { base = 0, type = ET_DYN, needed = [], data = new Uint8Array(0), zeros = 0 } = shape;
  const count = 3 + (shape.interpreter === undefined ? 0 : 1), start = base + headersSize(count);
  const names = [...needed, ...shape.soname === undefined ? [] : [shape.soname]];
  const strings = label("strings"), dynamic = label("dynamic"), entry = label("entry");
  const interp = label("interp");
  const offsets = names.map((_, index) => 1 + names.slice(0, index).join("\0").length + (index > 0 ? 1 : 0));
  const entries = names.map((_, index) => [
    quad(index < needed.length ? DT_NEEDED : DT_SONAME),
    quad(offsets[index] as number),
  ]);
  const places = new Map<unknown, number>();
  const mark = (name: unknown): Code => ({
    size: 0,
    encode: (address) => (places.set(name, address), []),
  });
  const text = assemble([
    mark(interp),
    cString(shape.interpreter ?? ""),
    strings,
    bytes(0),
    names.map(cString),
    bytes(...new Uint8Array(7)),
    mark(dynamic),
    entries,
    quad(DT_STRTAB),
    quad(strings),
    quad(0),
    quad(0),
    {
      size: (address) => (16 - address % 16) % 16,
      encode: (address) => new Uint8Array((16 - address % 16) % 16),
    },
    mark(entry),
    shape.code ?? [],
  ], start);
  const at = (name: unknown) => places.get(name) as number;
  const size = headersSize(count) + text.length, page = shape.align ?? machine.pageSize;
  const dataOffset = Math.ceil(size / page) * page + 0x20, fileSize = data.length;
  const rows: Segment[] = [
    {
      type: PT_LOAD,
      flags: PF_R | PF_X,
      offset: 0,
      address: base,
      fileSize: size,
      memorySize: size,
      align: page,
    },
    {
      type: PT_LOAD,
      flags: PF_R | PF_W,
      offset: dataOffset,
      address: base + dataOffset,
      fileSize,
      memorySize: fileSize + zeros,
      align: page,
    },
    {
      type: PT_DYNAMIC,
      flags: PF_R,
      offset: at(dynamic) - base,
      address: at(dynamic),
      fileSize: (names.length + 2) * dynamicEntry.size,
      memorySize: (names.length + 2) * dynamicEntry.size,
      align: 8,
    },
    ...shape.interpreter === undefined ? [] : [{
      type: PT_INTERP,
      flags: PF_R,
      offset: at(interp) - base,
      address: at(interp),
      fileSize: shape.interpreter.length + 1,
      memorySize: shape.interpreter.length + 1,
      align: 1,
    }],
  ];
  const segments = rows.map(shape.spoil ?? ((segment) => segment));
  const out = new Uint8Array(dataOffset + fileSize);
  out.set(encodeHeaders({ type, machine: shape.machine ?? machine.elf, entry: at(entry), segments }));
  out.set(text, headersSize(count));
  out.set(data, dataOffset);
  return out;
}

/** A program as `bun build --compile` makes them. */
export function program(machine: Machine, shape: Shape = {}): Uint8Array {
  return synthetic(machine, {
    type: ET_EXEC,
    base: 0x200000,
    interpreter: `/lib64/${machine.interpreter}`,
    needed: ["libc.so.6", machine.interpreter],
    data: new TextEncoder().encode("the program"),
    ...shape,
  });
}

/**
 * An ld.so that writes the address of its stack, and the stack from there up, to stdout, closes that, and
 * waits to be killed.
 */
export function tellingInterpreter(machine: Machine, shape: Shape = {}): Uint8Array {
  return synthetic(machine, {
    soname: machine.interpreter,
    code: { x64: tellX64, arm64: tellArm64 }[machine.arch](),
    data: new TextEncoder().encode("data"),
    zeros: 3000,
    ...shape,
  });
}

/** Bytes of one write; the last ones go up to the end of the stack, which is the end of a page. */
const CHUNK = 16;

function tellX64(): Code {
  const { add, at, jmp, jle, lea, mov, r12, rax, rdi, rdx, rsi, rsp, syscall, test } = x64;
  const more = label("more"), done = label("done"), wait = label("wait");
  const write = 1, close = 3, pause = 34;
  return [
    mov(at(rsp, -8), rsp),
    lea(r12, at(rsp, -8)),
    more,
    mov(rdi, 1),
    mov(rsi, r12),
    mov(rdx, CHUNK),
    mov(rax, write),
    syscall(),
    test(rax, rax),
    jle(done),
    add(r12, rax),
    jmp(more),
    done,
    mov(rdi, 1),
    mov(rax, close),
    syscall(),
    wait,
    mov(rax, pause),
    syscall(),
    jmp(wait),
  ];
}

function tellArm64(): Code {
  const { addImmediate, addRegister, b, ble, cmpImmediate, movImmediate, movRegister, sp } = arm64;
  const { strPost, subImmediate, svc, x0, x1, x2, x3, x4, x8, x19 } = arm64;
  const more = label("more"), done = label("done"), wait = label("wait");
  const close = 57, write = 64, ppoll = 73;
  return [
    addImmediate(x3, sp, 0),
    subImmediate(x19, x3, 8),
    strPost(x3, x19, 0),
    more,
    movImmediate(x0, 1),
    movRegister(x1, x19),
    movImmediate(x2, CHUNK),
    movImmediate(x8, write),
    svc(),
    cmpImmediate(x0, 0),
    ble(done),
    addRegister(x19, x19, x0),
    b(more),
    done,
    movImmediate(x0, 1),
    movImmediate(x8, close),
    svc(),
    wait,
    movImmediate(x0, 0),
    movImmediate(x1, 0),
    movImmediate(x2, 0),
    movImmediate(x3, 0),
    movImmediate(x4, 8),
    movImmediate(x8, ppoll),
    svc(),
    b(wait),
  ];
}
