/** Names of things that come, go and are renamed while a trace runs. */

/** Names that know that they may be old. */
export interface Expiring {
  expire(): void;
}

/** So long a line may show an old name. Reading 20 namespaces again takes 3 ms. */
const LIFETIME_MS = 1000;

/** Lets names expire again and again, until it is disposed. */
export function keepFresh(tables: readonly Expiring[]): Disposable {
  const timer = setInterval(() => {
    for (const table of tables) table.expire();
  }, LIFETIME_MS).unref();
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
    },
  };
}
