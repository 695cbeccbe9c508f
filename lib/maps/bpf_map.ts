/** MapSpec -> BpfMap: a live map, its elements, and arrays read as a whole. */
import { readFileSync } from "node:fs";
import type { MapSpec } from "../../asm/code.ts";
import {
  BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE_PERCPU_HASH,
} from "../../asm/uapi.ts";
import { BPF_ANY, bpfMapCreate, bpfMapFreeze, bpfMapGetNextKey, MapElement } from "../sys/bpf.ts";
import { errno } from "../sys/errno.ts";
import { OwnedFd } from "../sys/fd.ts";
import { raiseLockedMemory } from "../sys/process.ts";
import { isErrno, kernelError } from "../sys/ffi.ts";
import { KernelError } from "../errors.ts";

const perCpuTypes: readonly number[] = [
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE_LRU_PERCPU_HASH,
];

/** How many CPUs a list such as "0-3,8-11" of /sys/devices/system/cpu names. */
export function countCpus(list: string): number {
  return list.trim().split(",").reduce((sum, range) => {
    const [first = NaN, last = first] = range.split("-").map(Number);
    if (!Number.isInteger(first) || !Number.isInteger(last)) {
      throw new RangeError(`Not a list of CPUs: "${list}"`);
    }
    return sum + last - first + 1;
  }, 0);
}

let cpus: number | undefined;

/** CPUs that may ever be there: per-CPU maps have a value for each, present or not. */
export function possibleCpus(): number {
  return cpus ??= countCpus(readFileSync("/sys/devices/system/cpu/possible", "latin1"));
}

/** A map in the kernel. */
export class BpfMap extends OwnedFd {
  readonly spec: MapSpec;
  readonly perCpu: boolean;
  /** bytes from one CPU's value to the next */
  readonly stride: number;
  #element: MapElement | undefined;

  constructor(spec: MapSpec, fd: number) {
    super(fd);
    this.spec = spec;
    this.perCpu = perCpuTypes.includes(spec.type);
    this.stride = this.perCpu ? Math.ceil(spec.valueSize / 8) * 8 : spec.valueSize;
  }

  /** @throws {KernelError} the kernel said no */
  static create(spec: MapSpec): BpfMap {
    return new BpfMap(spec, createMap(spec));
  }

  /**
   * The value at `key`, or undefined. Of a per-CPU map: the values of all possible CPUs, `stride` apart.
   * The view holds until the next call on this map; copy to keep.
   */
  lookup(key: number | Uint8Array): DataView | undefined {
    const element = this.#at(key);
    return element.lookup() ? element.value.view : undefined;
  }

  /** Stores a value; false: BPF_NOEXIST found the key, or BPF_EXIST did not. */
  update(key: number | Uint8Array, value: Uint8Array, flags: number = BPF_ANY): boolean {
    const element = this.#at(key);
    if (value.length !== element.value.bytes.length) {
      throw new RangeError(
        `A value of map "${this.spec.name}" has ${element.value.bytes.length} bytes, not ${value.length}`,
      );
    }
    element.value.bytes.set(value);
    return element.update(flags);
  }

  /** Removes an element; false: there was none. */
  delete(key: number | Uint8Array): boolean {
    return this.#at(key).delete();
  }

  /** All keys; those that come and go meanwhile may be missed or make it start over. */
  *keys(): Generator<Uint8Array> {
    const { keySize } = this.spec;
    let key = bpfMapGetNextKey(this.fd, undefined, keySize);
    while (key !== undefined) {
      yield key;
      key = bpfMapGetNextKey(this.fd, key, keySize);
    }
  }

  /** Forbids updates from user space; with BPF_F_RDONLY_PROG the verifier then knows the content. */
  freeze(): void {
    bpfMapFreeze(this.fd);
  }

  #at(key: number | Uint8Array): MapElement {
    const { keySize, name } = this.spec;
    const element = this.#element ??= new MapElement(
      this.fd,
      keySize,
      this.perCpu ? this.stride * possibleCpus() : this.stride,
    );
    if (this.closed) throw new TypeError(`Map "${name}" is closed`);
    if (typeof key === "number") {
      if (keySize !== 4) throw new RangeError(`A key of map "${name}" has ${keySize} bytes, it is no number`);
      element.key.view.setUint32(0, key, true);
    } else {
      if (key.length !== keySize) {
        throw new RangeError(`A key of map "${name}" has ${keySize} bytes, not ${key.length}`);
      }
      element.key.bytes.set(key);
    }
    return element;
  }
}

/** Before Linux 5.11 maps count as locked memory, and a refusal for that reads EPERM even for root. */
function createMap(spec: MapSpec): number {
  const create = () =>
    bpfMapCreate({
      map_type: spec.type,
      key_size: spec.keySize,
      value_size: spec.valueSize,
      max_entries: spec.maxEntries,
      map_flags: spec.flags ?? 0,
      map_name: spec.name,
    });
  try {
    return create();
  } catch (error) {
    if (!isErrno(error, "EPERM")) throw error;
    if (raiseLockedMemory()) return create();
    throw new KernelError(error.call, error.errno, error.code, {
      doing: `Cannot create map "${spec.name}"`,
      hint:
        "root is needed, or the capability CAP_BPF; before Linux 5.11 also CAP_SYS_RESOURCE or ulimit -l unlimited",
      cause: error,
    });
  }
}

/**
 * The u64 counters in the value at `key` of an array, per field: of a per-CPU array the sum over all CPUs.
 * Each is read while programs go on counting; the set is no snapshot.
 */
export function readCounters(map: BpfMap, key: number = 0): bigint[] {
  const value = map.lookup(key);
  if (value === undefined) throw kernelError("bpf(BPF_MAP_LOOKUP_ELEM)", errno.ENOENT as number);
  const sums = Array.from({ length: map.spec.valueSize >>> 3 }, () => 0n);
  for (let start = 0; start < value.byteLength; start += map.stride) {
    for (const i of sums.keys()) sums[i] = (sums[i] as bigint) + value.getBigUint64(start + i * 8, true);
  }
  return sums.map((sum) => BigInt.asUintN(64, sum));
}
