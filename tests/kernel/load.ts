/** The three bpf(2) commands that these tests need, on fixed memory. */
import { dlopen, ptr } from "bun:ffi";

const NR_bpf = process.arch === "arm64" ? 280 : 321;
const BPF_MAP_CREATE = 0, BPF_PROG_LOAD = 5, BPF_BTF_LOAD = 18;

const libc = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "ptr", "i64"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
});

/** Never freed and never moved: what the kernel reads and writes. attr at 0, then room for inputs, then the log. */
const memory = new Uint8Array(new ArrayBuffer(8 << 20)),
  base = ptr(memory),
  view = new DataView(memory.buffer);
const ATTR = 256, LOG = 1 << 20;

function bpf(command: number): number {
  return Number(libc.symbols.syscall(NR_bpf, command, base, 148));
}

/** Starts a bpf_attr; returns a function that puts bytes behind it and gives their address. */
function begin(): (bytes: Uint8Array) => bigint {
  memory.fill(0, 0, ATTR);
  let next = ATTR;
  return (bytes) => {
    const at = next;
    memory.set(bytes, at);
    next += (bytes.length + 15) & ~7;
    return BigInt(base + at);
  };
}

function logText(): string {
  return new TextDecoder().decode(memory.subarray(LOG, memory.indexOf(0, LOG)));
}

export function close(fd: number): void {
  libc.symbols.close(fd);
}

export function createMap(
  map: { type: number; keySize: number; valueSize: number; maxEntries: number },
): number {
  begin();
  [map.type, map.keySize, map.valueSize, map.maxEntries].forEach((value, i) =>
    view.setUint32(i * 4, value, true)
  );
  return bpf(BPF_MAP_CREATE);
}

export function loadBtf(btf: Uint8Array): { fd: number; log: string } {
  const put = begin();
  memory[LOG] = 0;
  view.setBigUint64(0, put(btf), true);
  view.setBigUint64(8, BigInt(base + LOG), true);
  view.setUint32(16, btf.length, true);
  view.setUint32(20, memory.length - LOG, true);
  view.setUint32(24, 1, true);
  return { fd: bpf(BPF_BTF_LOAD), log: logText() };
}

/** Loads under log level 2; a negative fd means refused. */
export function loadProgram(type: number, insns: Uint8Array, functions?: {
  btfFd: number;
  funcInfo: Uint8Array;
  funcInfoRecSize: number;
}): { fd: number; log: string } {
  const put = begin();
  memory[LOG] = 0;
  view.setUint32(0, type, true);
  view.setUint32(4, insns.length / 8, true);
  view.setBigUint64(8, put(insns), true);
  view.setBigUint64(16, put(new TextEncoder().encode("GPL")), true);
  view.setUint32(24, 2, true);
  view.setUint32(28, memory.length - LOG, true);
  view.setBigUint64(32, BigInt(base + LOG), true);
  if (functions !== undefined) {
    view.setUint32(72, functions.btfFd, true);
    view.setUint32(76, functions.funcInfoRecSize, true);
    view.setBigUint64(80, put(functions.funcInfo), true);
    view.setUint32(88, functions.funcInfo.length / functions.funcInfoRecSize, true);
  }
  return { fd: bpf(BPF_PROG_LOAD), log: logText() };
}
