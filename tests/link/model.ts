/** A small model of tracefs and perf: what the kernel would say to our commands, and what it then holds. */
import type { TracepointEvents } from "../../lib/link/kprobe_events.ts";
import type { LockMode, LockName, ProbeControl } from "../../lib/link/tracefs.ts";

export class TracefsModel implements ProbeControl {
  /** event and constant: the kernel tells probes by address apart by nothing else */
  readonly #defined = new Set<string>();
  /** lines as `kprobe_events` lists them */
  lines: string[] = [];
  readonly commands: string[] = [];
  /** what is refused, by address */
  readonly refusals = new Map<bigint, string>();
  /** taken by someone else */
  readonly taken = new Set<LockName>();
  readonly held = new Map<LockName, LockMode>();
  disposed = false;
  onWrite: (command: string) => void = () => {};

  write(command: string): string | undefined {
    this.commands.push(command);
    this.onWrite(command);
    const line = command.trimEnd();
    if (line.startsWith("-")) {
      const at = this.lines.indexOf(`p${line.slice(1)}`);
      if (at < 0) return "ENOENT";
      this.lines.splice(at, 1);
      return undefined;
    }
    const [, event, address, argument] = /^p:(\S+) 0x([0-9a-f]+) i=\\(\d+):u32$/.exec(line) ?? [];
    if (event === undefined || address === undefined || argument === undefined) return "EINVAL";
    const key = `${event} ${argument}`;
    if (this.#defined.has(key)) return "EEXIST";
    const refusal = this.refusals.get(BigInt(`0x${address}`));
    if (refusal !== undefined) return refusal;
    this.lines.push(line);
    this.#defined.add(key);
    return undefined;
  }

  listing(): string {
    return this.lines.map((line) => `${line}\n`).join("");
  }

  profileText = "";

  profile(): string {
    return this.profileText;
  }

  eventId(group: string, event: string): number {
    if (!this.lines.some((line) => line.startsWith(`p:${group}/${event} `))) throw new Error("no such event");
    return 1000 + parseInt(event.slice(1));
  }

  tryLock(name: LockName, mode: LockMode): boolean {
    if (this.taken.has(name)) return false;
    this.held.set(name, mode);
    return true;
  }

  unlock(name: LockName): void {
    this.held.delete(name);
  }

  [Symbol.dispose](): void {
    this.disposed = true;
  }
}

export class PerfModel implements TracepointEvents {
  onClose: () => void = () => {};
  readonly live: { eventId: number; program: number }[] = [];

  open(eventId: number, program: number): Disposable {
    const entry = { eventId, program };
    this.live.push(entry);
    return {
      [Symbol.dispose]: () => {
        this.onClose();
        this.live.splice(this.live.indexOf(entry), 1);
      },
    };
  }
}
