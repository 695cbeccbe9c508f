/** Code -> a loaded program -> what it returns: the few bpf(2) commands that these tests need, on fixed memory. */
import { dlopen, ptr } from "bun:ffi";
import { assemble, type Assembled } from "../../asm/assemble.ts";
import type { Code, FunctionInfo } from "../../asm/code.ts";
import { programBtf } from "../../asm/program_btf.ts";

const NR_bpf = process.arch === "arm64" ? 280 : 321;
const BPF_MAP_CREATE = 0, BPF_PROG_LOAD = 5, BPF_PROG_TEST_RUN = 10, BPF_BTF_LOAD = 18;
const BPF_PROG_TYPE_SOCKET_FILTER = 1;

const libc = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "ptr", "i64"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
});

/** Never freed and never moved. bpf_attr at 0, inputs behind it, the log at the end. */
const memory = new Uint8Array(new ArrayBuffer(8 << 20)),
  base = ptr(memory),
  attr = new DataView(memory.buffer);
const ATTR_SIZE = 148, INPUTS = 256, LOG = 1 << 20;

/** Fills a bpf_attr (`put` gives the address of bytes) and calls bpf(2). */
function bpf(
  command: number,
  fill: (put: (bytes: Uint8Array) => bigint) => void,
): { result: number; log: string } {
  memory.fill(0, 0, INPUTS);
  memory[LOG] = 0;
  let next = INPUTS;
  fill((bytes) => {
    const at = next;
    memory.set(bytes, at);
    next += (bytes.length + 15) & ~7;
    return BigInt(base + at);
  });
  const result = Number(libc.symbols.syscall(NR_bpf, command, base, ATTR_SIZE));
  return { result, log: new TextDecoder().decode(memory.subarray(LOG, memory.indexOf(0, LOG))) };
}

function owned(call: string, { result, log }: { result: number; log: string }): number {
  if (result < 0) throw new Error(`The kernel refuses ${call}:\n${log}`);
  return result;
}

/** A socket filter in the kernel. */
export interface Loaded extends Disposable {
  readonly fd: number;
  /** of the verifier, at level 2 */
  readonly log: string;
  readonly assembled: Assembled;
}

/**
 * Loads `code` as a socket filter: creates its maps, and brings the BTF of `functions` along if there are any.
 *
 * @throws {Error} the kernel says no; the message has its log
 */
export function load(code: Code, functions: readonly FunctionInfo[] = []): Loaded {
  const assembled = assemble(code), insns = assembled.bytes.slice(), view = new DataView(insns.buffer);
  using fds = new DisposableStack();
  const keep = (fd: number) => fds.adopt(fd, (owned) => void libc.symbols.close(owned));

  const maps = new Map(assembled.relocations.map(({ map }) => [map, -1]));
  for (const map of maps.keys()) {
    const created = bpf(BPF_MAP_CREATE, () => {
      [map.type, map.keySize, map.valueSize, map.maxEntries].forEach((value, i) =>
        attr.setUint32(i * 4, value, true)
      );
    });
    maps.set(map, keep(owned(`map ${map.name}`, created)));
  }
  for (const { slot, map, offset } of assembled.relocations) {
    view.setInt32(slot * 8 + 4, maps.get(map) as number, true);
    view.setUint32(slot * 8 + 12, offset ?? 0, true);
  }

  const described = programBtf(functions, assembled.labels);
  const btfFd = functions.length === 0 ? undefined : keep(loadBtf(described.btf));
  const loaded = bpf(BPF_PROG_LOAD, (put) => {
    attr.setUint32(0, BPF_PROG_TYPE_SOCKET_FILTER, true);
    attr.setUint32(4, insns.length / 8, true);
    attr.setBigUint64(8, put(insns), true);
    attr.setBigUint64(16, put(new TextEncoder().encode("GPL\0")), true);
    attr.setUint32(24, 2, true);
    attr.setUint32(28, memory.length - LOG, true);
    attr.setBigUint64(32, BigInt(base + LOG), true);
    if (btfFd === undefined) return;
    attr.setUint32(72, btfFd, true);
    attr.setUint32(76, described.funcInfoRecSize, true);
    attr.setBigUint64(80, put(described.funcInfo), true);
    attr.setUint32(88, functions.length, true);
  });
  const fd = owned("the program", loaded), { log } = loaded;
  return { fd, log, assembled, [Symbol.dispose]: () => void libc.symbols.close(fd) };
}

/** The fd of a BTF object. */
function loadBtf(btf: Uint8Array): number {
  const loaded = bpf(BPF_BTF_LOAD, (put) => {
    attr.setBigUint64(0, put(btf), true);
    attr.setBigUint64(8, BigInt(base + LOG), true);
    attr.setUint32(16, btf.length, true);
    attr.setUint32(20, memory.length - LOG, true);
    attr.setUint32(24, 1, true);
  });
  return owned("BTF", loaded);
}

/** What `code` returns when the kernel runs it on an empty packet: r0, its low 32 bits. */
export function run(code: Code, functions: readonly FunctionInfo[] = []): number {
  using program = load(code, functions);
  const ran = bpf(BPF_PROG_TEST_RUN, (put) => {
    attr.setUint32(0, program.fd, true);
    attr.setUint32(8, 64, true);
    attr.setBigUint64(16, put(new Uint8Array(64)), true);
    attr.setUint32(32, 1, true);
  });
  owned("the run", ran);
  return attr.getUint32(4, true);
}
