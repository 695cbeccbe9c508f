/**
 * Merges Bun's executable, ld.so and the C library into one static executable. Pure: bytes in, bytes out.
 *
 *     memory, upwards             file                   content
 *     Bun's segments              behind the launcher    as linked, at their own addresses
 *     launcher (R-X)              from byte 0            ELF header, program headers, code and tables
 *     ld.so's segments            behind Bun             moved to `launcher + 1 MiB`
 *     libraries (R--)             last                   libc.so.6 and so on, whole files
 *
 * Nothing is unpacked or executed: the kernel maps the file, starts the launcher (launcher.ts), and that
 * enters ld.so. There is no PT_INTERP, hence nothing is asked of the system it starts on but /proc.
 */
import {
  type Elf,
  encodeHeaders,
  ET_DYN,
  ET_EXEC,
  headersSize,
  PF_R,
  PF_W,
  PF_X,
  PT_GNU_STACK,
  PT_LOAD,
  readElf,
  type Segment,
} from "./elf.ts";
import { BuildError } from "./error.ts";
import type { LauncherPlan } from "./launcher.ts";
import { assemble } from "./machine_code.ts";
import type { Machine } from "./machines.ts";

/** A file of the C library; its name is its SONAME. */
export interface Library {
  readonly name: string;
  readonly file: Uint8Array;
}

const MIB = 2 ** 20;
/** Between the end of Bun and the launcher, so that a Bun that grows a little moves nothing. */
const GAP = 16 * MIB;
/** Between the start of the launcher and that of ld.so: far more than the launcher needs. */
const LAUNCHER_ROOM = MIB;

const alignUp = (value: number, boundary: number) => Math.ceil(value / boundary) * boundary;
const endOf = ({ address, memorySize }: Segment) => address + memorySize;
const hex = (value: number) => `0x${value.toString(16)}`;

/** A segment of the output, and its bytes. */
interface Part {
  readonly segment: Segment;
  readonly content: Uint8Array;
}

/**
 * The merged executable.
 *
 * @param libraries everything that Bun and the libraries name in DT_NEEDED, but for ld.so
 * @throws {BuildError} an input is not built the way this relies on
 */
export function merge(
  machine: Machine,
  program: Uint8Array,
  interpreter: Library,
  libraries: readonly Library[],
): Uint8Array {
  const bun = readElf("bun", program), ld = readElf(interpreter.name, interpreter.file);
  const libs = libraries.map(({ name, file }) => readElf(name, file));
  checkProgram(machine, bun);
  checkInterpreter(machine, ld);
  for (const lib of libs) checkLibrary(machine, lib);
  checkNeeded([bun, ld, ...libs]);

  const { pageSize } = machine;
  const launcherAddress = alignUp(Math.max(...bun.loads.map(endOf)), GAP) + GAP;
  const base = launcherAddress + LAUNCHER_ROOM;
  const librariesAddress = alignUp(base + Math.max(...ld.loads.map(endOf)), MIB);
  const stored = storeFiles(libraries, pageSize);

  // Program headers: Bun, launcher, ld.so, libraries, stack.
  const headerBytes = headersSize(bun.loads.length + 1 + ld.loads.length + 1 + 1);
  const plan: LauncherPlan = {
    program: {
      entry: bun.entry,
      headers: (bun.loads[0] as Segment).address + bun.headersOffset,
      headerCount: bun.segments.length,
    },
    interpreter: { base, entry: base + ld.entry },
    libraries: libraries.map(({ name, file }, index) => ({
      name,
      address: librariesAddress + (stored.offsets[index] as number),
      size: file.length,
    })),
    libraryPages: { address: librariesAddress, size: stored.content.length },
  };
  const entry = launcherAddress + alignUp(headerBytes, 16);
  const code = assemble(machine.launcher(plan), entry);
  const launcherBytes = entry - launcherAddress + code.length;
  if (launcherBytes > LAUNCHER_ROOM) {
    throw new BuildError(`Cannot merge: the launcher takes ${launcherBytes} bytes, there is room for 1 MiB`);
  }

  let cursor = alignUp(launcherBytes, pageSize); // in the file
  const place = (segment: Omit<Segment, "offset">, content: Uint8Array): Part => {
    const offset = alignUp(cursor, pageSize) + segment.address % pageSize;
    cursor = offset + content.length;
    return { segment: { ...segment, offset }, content };
  };
  const shift = cursor;
  const parts: Part[] = bun.loads.map((segment) => {
    const offset = segment.offset + shift;
    cursor = Math.max(cursor, offset + segment.fileSize);
    return { segment: { ...segment, offset }, content: contentOf(bun, segment) };
  });
  parts.push({
    segment: {
      type: PT_LOAD,
      flags: PF_R | PF_X,
      offset: 0,
      address: launcherAddress,
      fileSize: launcherBytes,
      memorySize: launcherBytes,
      align: pageSize,
    },
    content: new Uint8Array(launcherBytes),
  });
  for (const segment of ld.loads) {
    const content = (segment.flags & PF_W) === 0
      ? contentOf(ld, segment)
      : withZeros(contentOf(ld, segment), endOf(segment) - segment.address, segment.address, pageSize);
    const size = content.length;
    parts.push(
      place(
        { ...segment, address: base + segment.address, fileSize: size, memorySize: size, align: pageSize },
        content,
      ),
    );
  }
  parts.push(place({
    type: PT_LOAD,
    flags: PF_R,
    address: librariesAddress,
    fileSize: stored.content.length,
    memorySize: stored.content.length,
    align: pageSize,
  }, stored.content));
  const stack: Segment = {
    type: PT_GNU_STACK,
    flags: PF_R | PF_W,
    offset: 0,
    address: 0,
    fileSize: 0,
    memorySize: 0,
    align: 16,
  };
  const segments = [...parts.map(({ segment }) => segment), stack];

  const out = new Uint8Array(cursor);
  for (const { segment, content } of parts) out.set(content, segment.offset);
  out.set(encodeHeaders({ type: ET_EXEC, machine: machine.elf, entry, segments }), 0);
  out.set(code, entry - launcherAddress);
  return out;
}

const contentOf = ({ file }: Elf, { offset, fileSize }: Segment) => file.subarray(offset, offset + fileSize);

/**
 * Writable content with its zero-initialised tail, up to the end of the last page. Kernels such as 5.10
 * leave whatever follows in the file behind a segment's end when it is not the last one, and ld.so takes its
 * first memory from there.
 */
function withZeros(content: Uint8Array, memorySize: number, address: number, pageSize: number): Uint8Array {
  const out = new Uint8Array(alignUp(address + memorySize, pageSize) - address);
  out.set(content);
  return out;
}

/** Whole files one behind the other, each at the start of a page. */
function storeFiles(files: readonly Library[], pageSize: number) {
  const offsets: number[] = [];
  let size = 0;
  for (const { file } of files) {
    offsets.push(size);
    size = alignUp(size + file.length, pageSize);
  }
  const content = new Uint8Array(size);
  files.forEach(({ file }, index) => content.set(file, offsets[index]));
  return { content, offsets };
}

function refuse(elf: Elf, found: string, wanted: string): never {
  throw new BuildError(`Cannot merge "${elf.name}": ${found}, want ${wanted}`);
}

function checkCommon(machine: Machine, elf: Elf, type: number, typeName: string): void {
  if (elf.machine !== machine.elf) {
    refuse(elf, `it is for machine ${elf.machine}`, `${machine.elf} (${machine.arch})`);
  }
  if (elf.type !== type) refuse(elf, `its type is ${elf.type}`, `${type} (${typeName})`);
}

function checkSegments(machine: Machine, elf: Elf): void {
  let end = 0;
  elf.loads.forEach((segment, index) => {
    const name = `segment ${index}`;
    if (segment.align % machine.pageSize !== 0) {
      refuse(elf, `${name} is aligned to ${hex(segment.align)}`, `a multiple of ${hex(machine.pageSize)}`);
    }
    if ((segment.offset - segment.address) % machine.pageSize !== 0) {
      refuse(
        elf,
        `${name} lies at ${hex(segment.offset)} in the file and at ${hex(segment.address)} in memory`,
        "both at the same place in a page",
      );
    }
    if (segment.address < end) {
      refuse(
        elf,
        `${name} starts at ${hex(segment.address)}`,
        `segments that share no page before ${hex(end)}`,
      );
    }
    end = alignUp(endOf(segment), machine.pageSize);
  });
}

/** Bun finds the program that was compiled into it in memory, in the last segment; it is stored whole. */
function checkProgram(machine: Machine, bun: Elf): void {
  checkCommon(machine, bun, ET_EXEC, "ET_EXEC");
  checkSegments(machine, bun);
  const first = bun.loads[0];
  if (first === undefined) refuse(bun, "it has no segments", "a compiled executable");
  const headersEnd = bun.headersOffset + headersSize(bun.segments.length) - headersSize(0);
  if (first.offset !== 0 || first.fileSize < headersEnd) {
    refuse(bun, "its program headers are not loaded", "them in the first segment");
  }
  bun.loads.forEach(({ fileSize, memorySize }, index) => {
    if (fileSize !== memorySize) {
      refuse(
        bun,
        `segment ${index} has ${hex(fileSize)} bytes in the file and ${hex(memorySize)} in memory`,
        "the same, as in the output of bun build --compile",
      );
    }
  });
  const interpreter = bun.interpreter?.split("/").at(-1);
  if (interpreter !== machine.interpreter) {
    refuse(bun, `its interpreter is "${interpreter}"`, `"${machine.interpreter}"`);
  }
}

function checkInterpreter(machine: Machine, ld: Elf): void {
  checkCommon(machine, ld, ET_DYN, "ET_DYN");
  checkSegments(machine, ld);
  if (ld.soname !== machine.interpreter) {
    refuse(ld, `its SONAME is "${ld.soname}"`, `"${machine.interpreter}"`);
  }
  if (ld.loads[0]?.address !== 0) refuse(ld, "it is linked to an address", "0");
}

function checkLibrary(machine: Machine, lib: Elf): void {
  checkCommon(machine, lib, ET_DYN, "ET_DYN");
  // ld.so recognises a preloaded library by this.
  if (lib.soname !== lib.name) refuse(lib, `its SONAME is "${lib.soname}"`, `"${lib.name}"`);
}

/** Whatever one of them needs has to be among them: no other library is ever looked for. */
function checkNeeded(all: readonly Elf[]): void {
  const names = all.map(({ soname }) => soname);
  for (const elf of all) {
    const missing = elf.needed.filter((name) => !names.includes(name));
    if (missing.length > 0) {
      refuse(elf, `it needs "${missing.join('", "')}"`, "no library that is not merged in");
    }
  }
}
