/** A kernel that answers from a script and remembers what it was asked. */
import { type Kernel, memoryAt, replaceKernel } from "../../lib/sys/ffi.ts";
import type { SyscallName } from "../../lib/sys/syscalls.ts";

export interface Call {
  readonly name: SyscallName;
  readonly args: readonly number[];
}

export interface FakeKernel extends Disposable {
  readonly calls: Call[];
}

/** `answer` gives a result or a negative errno; `real` makes the call after all. */
export function fakeKernel(answer: (call: Call, real: () => number) => number): FakeKernel {
  const calls: Call[] = [];
  const installed = replaceKernel((real): Kernel => (name, ...words) => {
    const call = { name, args: words.map(Number) };
    calls.push(call);
    return answer(call, () => real(name, ...words));
  });
  return { calls, [Symbol.dispose]: () => installed[Symbol.dispose]() };
}

/** The bytes at an address that the kernel was given, as they are now. */
export function memory(address: number | undefined, length: number): DataView {
  return new DataView(memoryAt(address as number, length));
}

/** The NUL-terminated text at an address. */
export function text(address: number): string {
  let out = "";
  for (let at = address;; at++) {
    const byte = memory(at, 1).getUint8(0);
    if (byte === 0) return out;
    out += String.fromCharCode(byte);
  }
}
