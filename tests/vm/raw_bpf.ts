import { scope } from "../../lib/sys/arena.ts";
import { kernelError, trySyscall } from "../../lib/sys/ffi.ts";
import { assemble } from "../../asm/assemble.ts";
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";

function bpf(cmd: number, fill: (v: DataView) => void, memory: ReturnType<typeof scope>): number {
  const a = memory.alloc(128);
  fill(a.view);
  return trySyscall("bpf", cmd, a.address, 128);
}
export function mapCreate(spec: MapSpec): number {
  using m = scope();
  const fd = bpf(0, (v) => {
    v.setUint32(0, spec.type, true);
    v.setUint32(4, spec.keySize, true);
    v.setUint32(8, spec.valueSize, true);
    v.setUint32(12, spec.maxEntries, true);
  }, m);
  if (fd < 0) throw kernelError("map", -fd);
  return fd;
}
export function progLoad(spec: ProgramSpec, maps: Map<MapSpec, number>): number {
  using m = scope();
  const a = assemble(spec.code);
  const view = new DataView(a.bytes.buffer);
  for (const r of a.relocations) {
    view.setUint8(r.slot * 8 + 1, (view.getUint8(r.slot * 8 + 1) & 15) | 0x10);
    view.setInt32(r.slot * 8 + 4, maps.get(r.map) as number, true);
  }
  const code = m.copy(a.bytes), lic = m.string("GPL"), log = m.alloc(65536);
  const fd = bpf(5, (v) => {
    v.setUint32(0, spec.type, true);
    v.setUint32(4, a.bytes.length / 8, true);
    v.setBigUint64(8, BigInt(code.address), true);
    v.setBigUint64(16, BigInt(lic.address), true);
    v.setUint32(24, 1, true);
    v.setUint32(28, 65536, true);
    v.setBigUint64(32, BigInt(log.address), true);
  }, m);
  if (fd < 0) throw kernelError("prog " + new TextDecoder().decode(log.bytes).replace(/\0.*/s, ""), -fd);
  return fd;
}
export function mapEntries(fd: number): Map<bigint, bigint> {
  const out = new Map<bigint, bigint>();
  using m = scope();
  const key = m.alloc(8), next = m.alloc(8), value = m.alloc(8);
  let first = true;
  for (;;) {
    const r = bpf(4, (v) => {
      v.setUint32(0, fd, true);
      v.setBigUint64(8, first ? 0n : BigInt(key.address), true);
      v.setBigUint64(16, BigInt(next.address), true);
    }, m);
    if (r < 0) return out;
    first = false;
    key.bytes.set(next.bytes);
    bpf(1, (v) => {
      v.setUint32(0, fd, true);
      v.setBigUint64(8, BigInt(key.address), true);
      v.setBigUint64(16, BigInt(value.address), true);
    }, m);
    out.set(key.view.getBigUint64(0, true), value.view.getBigUint64(0, true));
  }
}
export function raiseLimits(): void {
  using m = scope();
  const l = m.alloc(16);
  l.view.setBigUint64(0, 0xffffffffffffffffn, true);
  l.view.setBigUint64(8, 0xffffffffffffffffn, true);
  trySyscall("prlimit64", 0, 8, l.address, 0);
  l.view.setBigUint64(0, 65536n, true);
  l.view.setBigUint64(8, 65536n, true);
  trySyscall("prlimit64", 0, 7, l.address, 0);
}
