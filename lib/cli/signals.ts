/** The signals that end a run in good order. */
import { readFileSync } from "node:fs";

const SIGHUP = 1;

/** A hangup that whoever started us has ignored (nohup) stays so. */
const endingSignals: readonly NodeJS.Signals[] = ignores(SIGHUP)
  ? ["SIGINT", "SIGTERM"]
  : ["SIGINT", "SIGTERM", "SIGHUP"];

/** Calls `handler` for each of them until the result is disposed. */
export function onSignals(handler: (signal: string) => void): Disposable {
  for (const signal of endingSignals) process.on(signal, handler);
  return {
    [Symbol.dispose]() {
      for (const signal of endingSignals) process.off(signal, handler);
    },
  };
}

/** Whether this process was started with a signal ignored. */
function ignores(signal: number): boolean {
  const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1")) ?? [];
  return (BigInt(`0x${mask}`) >> BigInt(signal - 1) & 1n) === 1n;
}
