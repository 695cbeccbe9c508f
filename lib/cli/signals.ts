/** The signals that end a run in good order. */

const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Calls `handler` for each of them until the result is disposed. */
export function onSignals(handler: (signal: string) => void): Disposable {
  for (const signal of endingSignals) process.on(signal, handler);
  return {
    [Symbol.dispose]() {
      for (const signal of endingSignals) process.off(signal, handler);
    },
  };
}
