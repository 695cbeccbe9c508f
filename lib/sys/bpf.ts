/**
 * bpf(2): one function per command, named for it. Members have the names of union bpf_attr
 * (include/uapi/linux/bpf.h) and come in its order; text, bytes and arrays are given as such and put into
 * memory here. What is left out is zero, which to the kernel means absent.
 */
import { bytes, type Decoded, s32, type Struct, struct, u32, u64 } from "../../asm/layout.ts";
import { allocate, type Block, type Scope, scope } from "./arena.ts";
import { errno } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { kernelError, trySyscall } from "./ffi.ts";

/** enum bpf_cmd */
const commands = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_NEXT_ID: 11,
  BPF_MAP_GET_NEXT_ID: 12,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_MAP_GET_FD_BY_ID: 14,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_RAW_TRACEPOINT_OPEN: 17,
  BPF_BTF_LOAD: 18,
  BPF_BTF_GET_FD_BY_ID: 19,
  BPF_MAP_FREEZE: 22,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_LINK_CREATE: 28,
  BPF_ENABLE_STATS: 32,
} as const;

type Command = keyof typeof commands;

/** The members of a bpf_attr, any of them left out. */
type Members<S extends Struct> = Partial<Decoded<S>>;

const BPF_OBJ_NAME_LEN = 16;

/**
 * `name` as the kernel accepts it: at most 15 of A-Z a-z 0-9 _ (a dot is only taken since Linux 5.1), NUL
 * after them.
 */
export function objectName(name: string): Uint8Array {
  const out = new Uint8Array(BPF_OBJ_NAME_LEN);
  new TextEncoder().encodeInto(name.replace(/\W/g, "_").slice(0, BPF_OBJ_NAME_LEN - 1), out);
  return out;
}

/** Calls bpf(2) with a finished attr; gives the result or the negative errno. */
function tryBpf(command: Command, attr: Block): number {
  return trySyscall("bpf", commands[command], attr.address, attr.bytes.length);
}

/** @throws {KernelError} `call` is "bpf(BPF_...)" */
function bpf<S extends Struct>(command: Command, memory: Scope, layout: S, members: Members<S>): Block {
  const attr = memory.struct(layout, members);
  call(command, attr);
  return attr;
}

function call(command: Command, attr: Block): number {
  const result = tryBpf(command, attr);
  if (result < 0) throw kernelError(`bpf(${command})`, -result);
  return result;
}

/** For commands whose result is an fd. */
function bpfFd<S extends Struct>(command: Command, memory: Scope, layout: S, members: Members<S>): number {
  return call(command, memory.struct(layout, members));
}

function address(block: Block | undefined): bigint {
  return BigInt(block?.address ?? 0);
}

// ---- maps

const mapCreateAttr = struct("bpf_attr", {
  map_type: u32,
  key_size: u32,
  value_size: u32,
  max_entries: u32,
  map_flags: u32,
  inner_map_fd: u32,
  numa_node: u32,
  map_name: bytes(BPF_OBJ_NAME_LEN),
  map_ifindex: u32,
});

/** @returns fd */
export function bpfMapCreate(
  { map_name = "", ...members }: Omit<Members<typeof mapCreateAttr>, "map_name"> & { map_name?: string },
): number {
  using memory = scope();
  return bpfFd("BPF_MAP_CREATE", memory, mapCreateAttr, { ...members, map_name: objectName(map_name) });
}

const mapElemAttr = struct("bpf_attr", { map_fd: u32, _pad: u32, key: u64, value: u64, flags: u64 });

/** What an update of an element demands. */
export const BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2;

/**
 * The attr of one map, kept for look-ups that happen often. Key and value lie in memory that stays.
 * Per-CPU maps have a value for each possible CPU, each rounded up to 8 bytes.
 */
export class MapElement {
  readonly #attr: Block;
  readonly key: Block;
  readonly value: Block;

  constructor(map_fd: number, keyBytes: number, valueBytes: number) {
    this.key = allocate(keyBytes);
    this.value = allocate(valueBytes);
    this.#attr = allocate(mapElemAttr.size);
    mapElemAttr.encode(this.#attr.view, 0, { map_fd, key: address(this.key) });
  }

  /** Fills `value` with what is at `key`; false: nothing there. */
  lookup(): boolean {
    return this.#call("BPF_MAP_LOOKUP_ELEM", BPF_ANY, "ENOENT");
  }

  /** Stores `value` at `key`; false: `flags` forbids it, because the key is there or is not. */
  update(flags: number = BPF_ANY): boolean {
    return this.#call("BPF_MAP_UPDATE_ELEM", flags, flags === BPF_NOEXIST ? "EEXIST" : "ENOENT");
  }

  /** Removes what is at `key`; false: nothing there. */
  delete(): boolean {
    return this.#call("BPF_MAP_DELETE_ELEM", BPF_ANY, "ENOENT");
  }

  #call(command: Command, flags: number, no: string): boolean {
    // a deletion with a value is EINVAL
    const value = command === "BPF_MAP_DELETE_ELEM" ? 0n : address(this.value);
    mapElemAttr.encode(this.#attr.view, 0, { value, flags: BigInt(flags) });
    const result = tryBpf(command, this.#attr);
    if (result >= 0) return true;
    if (-result === errno[no]) return false;
    throw kernelError(`bpf(${command})`, -result);
  }
}

/** The value at `key`, or undefined. @param valueBytes of all CPUs together, for per-CPU maps */
export function bpfMapLookupElem(
  map_fd: number,
  key: Uint8Array,
  valueBytes: number,
): Uint8Array | undefined {
  using memory = scope();
  const value = memory.alloc(valueBytes);
  return elem("BPF_MAP_LOOKUP_ELEM", memory, map_fd, key, value, 0, "ENOENT")
    ? value.bytes.slice()
    : undefined;
}

/** False: `flags` forbids it, because the key is there (BPF_NOEXIST) or is not (BPF_EXIST). */
export function bpfMapUpdateElem(
  map_fd: number,
  key: Uint8Array,
  value: Uint8Array,
  flags: number = BPF_ANY,
): boolean {
  using memory = scope();
  const no = flags === BPF_NOEXIST ? "EEXIST" : "ENOENT";
  return elem("BPF_MAP_UPDATE_ELEM", memory, map_fd, key, memory.copy(value), flags, no);
}

/** False: there was no such key. */
export function bpfMapDeleteElem(map_fd: number, key: Uint8Array): boolean {
  using memory = scope();
  return elem("BPF_MAP_DELETE_ELEM", memory, map_fd, key, undefined, 0, "ENOENT");
}

/** The key after `key`, or the first; undefined at the end. @param keyBytes how long a key is */
export function bpfMapGetNextKey(
  map_fd: number,
  key: Uint8Array | undefined,
  keyBytes: number,
): Uint8Array | undefined {
  using memory = scope();
  const next = memory.alloc(keyBytes);
  return elem("BPF_MAP_GET_NEXT_KEY", memory, map_fd, key, next, 0, "ENOENT")
    ? next.bytes.slice()
    : undefined;
}

function elem(
  command: Command,
  memory: Scope,
  map_fd: number,
  key: Uint8Array | undefined,
  value: Block | undefined,
  flags: number,
  no: string,
): boolean {
  const attr = memory.struct(mapElemAttr, {
    map_fd,
    key: address(key === undefined ? undefined : memory.copy(key)),
    value: address(value),
    flags: BigInt(flags),
  });
  const result = tryBpf(command, attr);
  if (result >= 0) return true;
  if (-result === errno[no]) return false;
  throw kernelError(`bpf(${command})`, -result);
}

const mapBatchAttr = struct("bpf_attr", {
  in_batch: u64,
  out_batch: u64,
  keys: u64,
  values: u64,
  count: u32,
  map_fd: u32,
  elem_flags: u64,
  flags: u64,
});

/**
 * All elements of a map in one call or few. Linux 5.6.
 *
 * @param maxEntries of the map
 * @returns keys and values, one after another; a hash map that others write to may give a key twice
 */
export function bpfMapLookupBatch(
  map_fd: number,
  keyBytes: number,
  valueBytes: number,
  maxEntries: number,
): { count: number; keys: Uint8Array; values: Uint8Array } {
  using memory = scope();
  const keys = memory.alloc(keyBytes * maxEntries), values = memory.alloc(valueBytes * maxEntries);
  const cursor = memory.alloc(Math.max(keyBytes, 4)), attr = memory.alloc(mapBatchAttr.size);
  let count = 0, result = 0;
  while (result >= 0 && count < maxEntries) {
    mapBatchAttr.encode(attr.view, 0, {
      in_batch: count === 0 ? 0n : address(cursor),
      out_batch: address(cursor),
      keys: BigInt(keys.address + count * keyBytes),
      values: BigInt(values.address + count * valueBytes),
      count: maxEntries - count,
      map_fd,
    });
    result = tryBpf("BPF_MAP_LOOKUP_BATCH", attr);
    if (result >= 0 || -result === errno.ENOENT) count += mapBatchAttr.decode(attr.view).count;
    else throw kernelError("bpf(BPF_MAP_LOOKUP_BATCH)", -result);
  }
  return {
    count,
    keys: keys.bytes.slice(0, count * keyBytes),
    values: values.bytes.slice(0, count * valueBytes),
  };
}

const mapFdAttr = struct("bpf_attr", { map_fd: u32 });

/** No user space update from now on; with BPF_F_RDONLY_PROG the verifier then knows the content. Linux 5.2. */
export function bpfMapFreeze(map_fd: number): void {
  using memory = scope();
  bpf("BPF_MAP_FREEZE", memory, mapFdAttr, { map_fd });
}

// ---- programs

const progLoadAttr = struct("bpf_attr", {
  prog_type: u32,
  insn_cnt: u32,
  insns: u64,
  license: u64,
  log_level: u32,
  log_size: u32,
  log_buf: u64,
  kern_version: u32,
  prog_flags: u32,
  prog_name: bytes(BPF_OBJ_NAME_LEN),
  prog_ifindex: u32,
  expected_attach_type: u32,
  prog_btf_fd: u32,
  func_info_rec_size: u32,
  func_info: u64,
  func_info_cnt: u32,
  line_info_rec_size: u32,
  line_info: u64,
  line_info_cnt: u32,
  attach_btf_id: u32,
  /** union with attach_prog_fd */
  attach_btf_obj_fd: u32,
  core_relo_cnt: u32,
});

type Pointers = "insns" | "insn_cnt" | "license" | "log_buf" | "log_size" | "prog_name" | "func_info";

export interface ProgLoad
  extends Omit<Members<typeof progLoadAttr>, Pointers | "func_info_cnt" | "func_info_rec_size"> {
  readonly prog_type: number;
  readonly insns: Uint8Array;
  readonly license: string;
  readonly prog_name?: string;
  readonly func_info?: Uint8Array;
  readonly func_info_rec_size?: number;
  /** bytes for the verifier's log; needs a `log_level` */
  readonly log_size?: number;
}

/** What BPF_PROG_LOAD said; `result` is an fd or a negative errno. */
export interface ProgLoaded {
  readonly result: number;
  readonly log: string;
}

/** Loads a program; a refusal is a result here, because the log of one is wanted. */
export function tryBpfProgLoad(
  { insns, license, prog_name = "", func_info, func_info_rec_size = 8, log_size = 0, ...members }: ProgLoad,
): ProgLoaded {
  using memory = scope();
  const log = log_size === 0 ? undefined : memory.alloc(log_size);
  const attr = memory.struct(progLoadAttr, {
    ...members,
    insn_cnt: insns.length / 8,
    insns: address(memory.copy(insns)),
    license: address(memory.string(license)),
    log_size,
    log_buf: address(log),
    prog_name: objectName(prog_name),
    ...(func_info === undefined ? {} : {
      func_info_rec_size,
      func_info: address(memory.copy(func_info)),
      func_info_cnt: func_info.length / func_info_rec_size,
    }),
  });
  return { result: tryBpf("BPF_PROG_LOAD", attr), log: log === undefined ? "" : cString(log.bytes) };
}

/** @returns fd */
export function bpfProgLoad(program: ProgLoad): number {
  const { result } = tryBpfProgLoad(program);
  if (result < 0) throw kernelError("bpf(BPF_PROG_LOAD)", -result);
  return result;
}

function cString(text: Uint8Array): string {
  const end = text.indexOf(0);
  return new TextDecoder().decode(end < 0 ? text : text.subarray(0, end));
}

const testRunAttr = struct("bpf_attr", {
  prog_fd: u32,
  retval: u32,
  data_size_in: u32,
  data_size_out: u32,
  data_in: u64,
  data_out: u64,
  repeat: u32,
  duration: u32,
  ctx_size_in: u32,
  ctx_size_out: u32,
  ctx_in: u64,
  ctx_out: u64,
  flags: u32,
  cpu: u32,
});

export interface TestRun {
  /** the packet, for programs that take one; at least 14 bytes */
  readonly data_in?: Uint8Array;
  /** the context, e.g. the arguments of a raw tracepoint */
  readonly ctx_in?: Uint8Array;
  readonly repeat?: number;
}

/** Runs a program on demand: `retval` is its r0, `duration` ns per run. */
export function bpfProgTestRun(
  prog_fd: number,
  { data_in, ctx_in, repeat }: TestRun = {},
): { retval: number; duration: number } {
  using memory = scope();
  const attr = bpf("BPF_PROG_TEST_RUN", memory, testRunAttr, {
    prog_fd,
    ...(data_in === undefined
      ? {}
      : { data_size_in: data_in.length, data_in: address(memory.copy(data_in)) }),
    ...(ctx_in === undefined ? {} : { ctx_size_in: ctx_in.length, ctx_in: address(memory.copy(ctx_in)) }),
    ...(repeat === undefined ? {} : { repeat }),
  });
  const { retval, duration } = testRunAttr.decode(attr.view);
  return { retval, duration };
}

const idAttr = struct("bpf_attr", { start_id: u32, next_id: u32, open_flags: u32 });

function nextId(command: "BPF_PROG_GET_NEXT_ID" | "BPF_MAP_GET_NEXT_ID", start_id: number) {
  using memory = scope();
  const attr = memory.struct(idAttr, { start_id });
  const result = tryBpf(command, attr);
  if (-result === errno.ENOENT) return undefined;
  if (result < 0) throw kernelError(`bpf(${command})`, -result);
  return idAttr.decode(attr.view).next_id;
}

function fdById(command: "BPF_PROG_GET_FD_BY_ID" | "BPF_MAP_GET_FD_BY_ID", start_id: number) {
  using memory = scope();
  const result = tryBpf(command, memory.struct(idAttr, { start_id }));
  if (-result === errno.ENOENT) return undefined;
  if (result < 0) throw kernelError(`bpf(${command})`, -result);
  return result;
}

/** The id of the first program after `start_id`, or undefined. */
export function bpfProgGetNextId(start_id: number): number | undefined {
  return nextId("BPF_PROG_GET_NEXT_ID", start_id);
}

/** The id of the first map after `start_id`, or undefined. */
export function bpfMapGetNextId(start_id: number): number | undefined {
  return nextId("BPF_MAP_GET_NEXT_ID", start_id);
}

/** @returns fd, or undefined when the program has gone meanwhile */
export function bpfProgGetFdById(prog_id: number): number | undefined {
  return fdById("BPF_PROG_GET_FD_BY_ID", prog_id);
}

/** @returns fd, or undefined when the map has gone meanwhile */
export function bpfMapGetFdById(map_id: number): number | undefined {
  return fdById("BPF_MAP_GET_FD_BY_ID", map_id);
}

// ---- what the kernel knows of an object

/** struct bpf_prog_info. The run counters need BPF_ENABLE_STATS. */
export const bpfProgInfo = struct("bpf_prog_info", {
  type: u32,
  id: u32,
  tag: bytes(8),
  jited_prog_len: u32,
  xlated_prog_len: u32,
  jited_prog_insns: u64,
  xlated_prog_insns: u64,
  load_time: u64, // ns, CLOCK_BOOTTIME
  created_by_uid: u32,
  nr_map_ids: u32,
  map_ids: u64,
  name: bytes(BPF_OBJ_NAME_LEN),
  ifindex: u32,
  gpl_compatible: u32,
  netns_dev: u64,
  netns_ino: u64,
  nr_jited_ksyms: u32,
  nr_jited_func_lens: u32,
  jited_ksyms: u64,
  jited_func_lens: u64,
  btf_id: u32,
  func_info_rec_size: u32,
  func_info: u64,
  nr_func_info: u32,
  nr_line_info: u32,
  line_info: u64,
  jited_line_info: u64,
  nr_jited_line_info: u32,
  line_info_rec_size: u32,
  jited_line_info_rec_size: u32,
  nr_prog_tags: u32,
  prog_tags: u64,
  run_time_ns: u64, // Linux 5.1
  run_cnt: u64,
  recursion_misses: u64, // Linux 5.12
  verified_insns: u32, // Linux 5.16
  attach_btf_obj_id: u32,
  attach_btf_id: u32,
  _pad: u32,
});

/** struct bpf_map_info */
export const bpfMapInfo = struct("bpf_map_info", {
  type: u32,
  id: u32,
  key_size: u32,
  value_size: u32,
  max_entries: u32,
  map_flags: u32,
  name: bytes(BPF_OBJ_NAME_LEN),
  ifindex: u32,
  btf_vmlinux_value_type_id: u32,
  netns_dev: u64,
  netns_ino: u64,
  btf_id: u32,
  btf_key_type_id: u32,
  btf_value_type_id: u32,
  btf_vmlinux_id: u32,
  map_extra: u64,
});

/** struct bpf_link_info up to its union */
export const bpfLinkInfo = struct("bpf_link_info", { type: u32, id: u32, prog_id: u32, _pad: u32 });

/** struct bpf_link_info of a kprobe_multi link; `missed` counts hits while another probe was at work. Linux 6.6. */
export const bpfLinkInfoKprobeMulti = struct("bpf_link_info", {
  type: u32,
  id: u32,
  prog_id: u32,
  _pad: u32,
  addrs: u64,
  count: u32,
  flags: u32,
  missed: u64,
  cookies: u64,
});

const infoAttr = struct("bpf_attr", { bpf_fd: u32, info_len: u32, info: u64 });

/** What the kernel tells of a BTF object; the blob itself is copied to where `btf` says. */
const bpfBtfInfo = struct("bpf_btf_info", { btf: u64, btf_size: u32, id: u32 });

/**
 * What the kernel says of the object behind `fd`; members newer than the running kernel are zero.
 *
 * @param given what the kernel is to find there: where arrays go, and how much room they have
 */
export function bpfObjGetInfoByFd<S extends Struct>(
  bpf_fd: number,
  layout: S,
  given: Members<S> = {},
): ReturnType<S["decode"]> {
  using memory = scope();
  const info = memory.struct(layout, given);
  bpf("BPF_OBJ_GET_INFO_BY_FD", memory, infoAttr, { bpf_fd, info_len: layout.size, info: address(info) });
  return layout.decode(info.view) as ReturnType<S["decode"]>;
}

/** The text in a name member. */
export function infoName(name: Uint8Array): string {
  return cString(name);
}

/** One function of a program. */
export interface ProgramFunction {
  /** what identifies its code */
  readonly tag: string;
  /** its machine code; 0 when the kernel hides that, or has none */
  readonly address: bigint;
  /** bytes of that */
  readonly length: number;
  /** BTF id of its FUNC, in the program's own BTF; 0 without BTF */
  readonly typeId: number;
}

/** A program as the kernel runs it. */
export interface ProgramCode {
  readonly type: number;
  readonly name: string;
  readonly tag: string;
  /** id of its BTF; 0: none */
  readonly btfId: number;
  readonly functions: readonly ProgramFunction[];
  /** its instructions after the verifier */
  readonly insns: Uint8Array;
}

const TAG_BYTES = 8;

/** Machine code and instructions are hidden from those without CAP_SYSLOG: then there are none. */
export function bpfProgCode(bpf_fd: number): ProgramCode {
  using memory = scope();
  const info = bpfObjGetInfoByFd(bpf_fd, bpfProgInfo);
  const count = Math.max(1, info.nr_jited_ksyms, info.nr_prog_tags, info.nr_func_info);
  const room = {
    func_info: memory.alloc(count * 8),
    jited_ksyms: memory.alloc(count * 8),
    jited_func_lens: memory.alloc(count * 4),
    prog_tags: memory.alloc(count * TAG_BYTES),
    xlated_prog_insns: memory.alloc(info.xlated_prog_len),
  };
  const { nr_jited_ksyms } = bpfObjGetInfoByFd(bpf_fd, bpfProgInfo, {
    nr_func_info: count,
    func_info_rec_size: 8,
    nr_jited_ksyms: count,
    nr_jited_func_lens: count,
    nr_prog_tags: count,
    xlated_prog_len: info.xlated_prog_len,
    ...Object.fromEntries(Object.entries(room).map(([name, block]) => [name, address(block)])),
  });
  return {
    type: info.type,
    name: infoName(info.name),
    tag: Buffer.from(info.tag).toString("hex"),
    btfId: info.btf_id,
    functions: Array.from({ length: Math.min(count, nr_jited_ksyms) }, (_, i) => ({
      tag: Buffer.from(room.prog_tags.bytes.subarray(i * TAG_BYTES, (i + 1) * TAG_BYTES)).toString("hex"),
      address: room.jited_ksyms.view.getBigUint64(i * 8, true),
      length: room.jited_func_lens.view.getUint32(i * 4, true),
      typeId: room.func_info.view.getUint32(i * 8 + 4, true),
    })),
    insns: room.xlated_prog_insns.bytes.slice(),
  };
}

/** The blob of a BTF object, or undefined when it has gone meanwhile. */
export function bpfBtfById(id: number): Uint8Array | undefined {
  using memory = scope();
  const result = tryBpf("BPF_BTF_GET_FD_BY_ID", memory.struct(idAttr, { start_id: id }));
  if (-result === errno.ENOENT) return undefined;
  if (result < 0) throw kernelError("bpf(BPF_BTF_GET_FD_BY_ID)", -result);
  using fd = new OwnedFd(result);
  const { btf_size } = bpfObjGetInfoByFd(fd.fd, bpfBtfInfo);
  const blob = memory.alloc(btf_size);
  bpfObjGetInfoByFd(fd.fd, bpfBtfInfo, { btf: address(blob), btf_size });
  return blob.bytes.slice();
}

const enableStatsAttr = struct("bpf_attr", { type: u32 });
const BPF_STATS_RUN_TIME = 0;

/** Counts runs and their time for all programs of the machine while the fd is open. Linux 5.8. */
export function bpfEnableStats(): number {
  using memory = scope();
  return bpfFd("BPF_ENABLE_STATS", memory, enableStatsAttr, { type: BPF_STATS_RUN_TIME });
}

// ---- BTF

const btfLoadAttr = struct("bpf_attr", {
  btf: u64,
  btf_log_buf: u64,
  btf_size: u32,
  btf_log_size: u32,
  btf_log_level: u32,
  _pad: u32,
});

/** @returns fd. @throws {KernelError} `hint` is the last line of the kernel's log */
export function bpfBtfLoad(btf: Uint8Array): number {
  using memory = scope();
  const data = { btf: address(memory.copy(btf)), btf_size: btf.length };
  const result = tryBpf("BPF_BTF_LOAD", memory.struct(btfLoadAttr, data));
  if (result >= 0) return result;
  const log = memory.alloc(0x10000);
  const logged = { btf_log_buf: address(log), btf_log_size: log.bytes.length, btf_log_level: 1 };
  const again = tryBpf("BPF_BTF_LOAD", memory.struct(btfLoadAttr, { ...data, ...logged }));
  if (again >= 0) return again;
  const hint = cString(log.bytes).trim().split("\n").at(-1) ?? "";
  throw kernelError("bpf(BPF_BTF_LOAD)", -again, hint === "" ? {} : { hint });
}

// ---- links

const rawTracepointAttr = struct("bpf_attr", { name: u64, prog_fd: u32, _pad: u32, cookie: u64 });

/**
 * Attaches to a raw tracepoint by `name`, or without one to what the program was loaded for (tp_btf,
 * fentry, fexit).
 *
 * @returns fd of the link. A `cookie` needs Linux 6.10.
 */
export function bpfRawTracepointOpen(
  { name, prog_fd, cookie }: { name?: string; prog_fd: number; cookie?: bigint },
): number {
  using memory = scope();
  return bpfFd("BPF_RAW_TRACEPOINT_OPEN", memory, rawTracepointAttr, {
    name: address(name === undefined ? undefined : memory.string(name)),
    prog_fd,
    ...(cookie === undefined ? {} : { cookie }),
  });
}

const linkCreate = { prog_fd: u32, target_fd: u32, attach_type: u32, flags: u32 };
const linkCreateAttr = {
  perf_event: struct("bpf_attr", { ...linkCreate, bpf_cookie: u64 }),
  kprobe_multi: struct("bpf_attr", {
    ...linkCreate,
    kprobe_flags: u32,
    cnt: u32,
    syms: u64,
    addrs: u64,
    cookies: u64,
  }),
  tracing: struct("bpf_attr", { ...linkCreate, target_btf_id: u32, _pad: s32, cookie: u64 }),
};

/** Runs the program on return of the function instead of on entry. */
export const BPF_F_KPROBE_MULTI_RETURN = 1;

export interface LinkCreate {
  readonly prog_fd: number;
  readonly target_fd?: number;
  readonly attach_type: number;
  /** Linux 5.15 */
  readonly perf_event?: { readonly bpf_cookie: bigint };
  /** Linux 5.18 */
  readonly kprobe_multi?: {
    readonly flags?: number;
    /** names of functions; either these or addresses. Slower, and each name has to be unique */
    readonly syms?: readonly string[];
    /** entries of functions */
    readonly addrs?: BigUint64Array;
    readonly cookies?: BigUint64Array;
  };
  /** Linux 6.0 */
  readonly tracing?: { readonly target_btf_id?: number; readonly cookie: bigint };
}

/** @returns fd of the link */
export function bpfLinkCreate({ perf_event, kprobe_multi, tracing, ...common }: LinkCreate): number {
  using memory = scope();
  if (kprobe_multi !== undefined) {
    const { flags = 0, syms, addrs, cookies } = kprobe_multi;
    const cnt = (syms ?? addrs ?? []).length;
    if (cookies !== undefined && cookies.length !== cnt) {
      throw new RangeError(`${cookies.length} cookies for ${cnt} functions`);
    }
    const names = syms?.map((name) => BigInt(memory.string(name).address));
    return bpfFd("BPF_LINK_CREATE", memory, linkCreateAttr.kprobe_multi, {
      ...common,
      kprobe_flags: flags,
      cnt,
      syms: address(names === undefined ? undefined : memory.copy(BigUint64Array.from(names))),
      addrs: address(addrs === undefined ? undefined : memory.copy(addrs)),
      cookies: address(cookies === undefined ? undefined : memory.copy(cookies)),
    });
  }
  return tracing !== undefined
    ? bpfFd("BPF_LINK_CREATE", memory, linkCreateAttr.tracing, { ...common, ...tracing })
    : bpfFd("BPF_LINK_CREATE", memory, linkCreateAttr.perf_event, { ...common, ...perf_event });
}
