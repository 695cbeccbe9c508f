/** Loading: maps resolved, logs that grow, refusals that name our item. */
import { expect, test } from "bun:test";
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";
import { at, exit, ldMap, ldMapValue, ldx, mov, r0, r1, r2, r6, ret } from "../../asm/insn.ts";
import { u32 } from "../../asm/layout.ts";
import { VerifierError } from "../../lib/errors.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { fakeKernel, memory } from "./fake_kernel.ts";

const EPERM = -1, EAGAIN = -11, EACCES = -13, ENOSPC = -28;
const spec: ProgramSpec = { name: "drop", type: 17, license: "GPL", code: ret(0) };

/** A BPF_PROG_LOAD as the kernel sees it. */
function request(address: number | undefined) {
  const attr = memory(address, 120), log_buf = Number(attr.getBigUint64(32, true));
  const log_size = attr.getUint32(28, true);
  return {
    insns: memory(Number(attr.getBigUint64(8, true)), attr.getUint32(4, true) * 8),
    log_size,
    say(text: string) {
      if (log_size === 0) return;
      const bytes = new TextEncoder().encode(text).subarray(0, log_size - 1);
      new Uint8Array(memory(log_buf, log_size).buffer).set(bytes);
    },
  };
}

test("Maps get their fds, values their offset", () => {
  const events: MapSpec = { name: "events", type: 27, keySize: 0, valueSize: 0, maxEntries: 4096 };
  const stats: MapSpec = { name: "stats", type: 2, keySize: 4, valueSize: 16, maxEntries: 1 };
  const code = [ldMap(r1, events), ldMapValue(r2, stats, 8), ret(0)];
  using kernel = fakeKernel(({ name, args: [, address] }) => {
    if (name === "close") return 0;
    const { insns } = request(address);
    expect([4, 12, 20, 28].map((offset) => insns.getUint32(offset, true))).toEqual([50, 0, 60, 8]);
    return 7;
  });
  const maps = { fd: (map: MapSpec) => map === events ? 50 : 60 };
  const program = loadProgram({ ...spec, code }, { maps });
  expect([program.fd, kernel.calls.length]).toEqual([7, 1]);
  program[Symbol.dispose]();
  expect(() => loadProgram({ ...spec, code })).toThrow(
    new TypeError('The program refers to map "events", but no maps are given'),
  );
});

test("A refusal asks again for a log, which grows until all of it fits", () => {
  const sizes: number[] = [];
  using _kernel = fakeKernel(({ args: [, address] }) => {
    const { log_size, say } = request(address);
    sizes.push(log_size);
    say(`${"x\n".repeat(100_000)}1: (61) r0 = *(u32 *)(r6 +112)\nR6 invalid mem access 'scalar'\n`);
    return log_size > 0 && log_size < 300_000 ? ENOSPC : EACCES;
  });
  const code = [ldx(r6, at(r1, u32)), ldx(r0, at(r6, 112, u32)), exit()];
  try {
    loadProgram({ ...spec, code });
    expect.unreachable();
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    expect(error.message).toBe('Cannot load program "drop": bpf(BPF_PROG_LOAD): EACCES');
    expect(error.item).toBe("1: ldx r0, [r6 + 112]");
    expect(error.hint).toBe("r6 is a plain number to the verifier here; read through it with probeRead()");
    expect(error.log).toEndWith("R6 invalid mem access 'scalar'\n");
  }
  expect(sizes).toEqual([0, 65536, 262144, 1048576]);
});

test("A log that never fits is shown as far as it goes, with the first errno", () => {
  let last = 0;
  using _kernel = fakeKernel(({ args: [, address] }) => {
    const { log_size, say } = request(address);
    last = log_size;
    say("0: (b7) r0 = 0\nno end in sight\n");
    return log_size > 0 ? ENOSPC : EACCES;
  });
  expect(() => loadProgram(spec)).toThrow('Cannot load program "drop": bpf(BPF_PROG_LOAD): EACCES');
  expect(last).toBe((1 << 24) - 1);
});

test("A verifier that a signal interrupts is asked again, five times at most", () => {
  const results = [EAGAIN, EAGAIN, 7];
  using kernel = fakeKernel(({ name }) => name === "close" ? 0 : results.shift() ?? EAGAIN);
  using program = loadProgram(spec);
  expect([program.fd, kernel.calls.length]).toEqual([7, 3]);
  expect(() => loadProgram(spec)).toThrow('Cannot load program "drop": bpf(BPF_PROG_LOAD): EAGAIN');
  expect(kernel.calls.length).toBe(3 + 5 + 5);
});

test("What loads at the second try is loaded", () => {
  const results = [EACCES, 7];
  using _kernel = fakeKernel(({ name }) => name === "close" ? 0 : results.shift() as number);
  using program = loadProgram(spec);
  expect(program.fd).toBe(7);
});

test("A refusal without a log is about rights, not about the program", () => {
  using _kernel = fakeKernel(() => EPERM);
  try {
    loadProgram(spec);
    expect.unreachable();
  } catch (error) {
    expect(String(error)).toBe('KernelError: Cannot load program "drop": bpf(BPF_PROG_LOAD): EPERM');
    expect((error as { hint?: string }).hint).toBe(
      "root is needed, or the capabilities CAP_BPF and CAP_PERFMON",
    );
  }
});

test("BTF of functions is loaded before the program and closed after it", () => {
  const functions = [{ name: "entry", parameters: 1 }];
  using kernel = fakeKernel(({ name, args: [command, address] }) => {
    if (name === "close") return 0;
    if (command === 18) return 30;
    const attr = memory(address, 120);
    expect([72, 76, 88].map((offset) => attr.getUint32(offset, true))).toEqual([30, 8, 1]);
    return 7;
  });
  loadProgram({ ...spec, code: [mov(r0, 0), exit()], functions });
  expect(kernel.calls.map(({ name, args }) => `${name} ${args[0]}`)).toEqual(["bpf 18", "bpf 5", "close 30"]);
});
