/**
 * The lines of tracefs `kprobe_events`, ours in particular (kernel/trace/trace_kprobe.c). Pure text.
 *
 *     p:GROUP/EVENT 0xffffffff81a2b3c5 i=\17:u32     define a probe
 *     -:GROUP/EVENT 0x00000000d34db33f i=\17:u32     delete the one that is listed with these words
 *
 * Many probes share one event, and with it one perf event, one program and one close. The kernel takes
 * two probes by address for the same probe unless an argument differs, hence the constant `i`: it is
 * fetched only for a trace record, which is never made because the program returns 0. Needs Linux 5.5.
 */
import { type Owner, parseOwner } from "./owner.ts";

export interface ProbeDefinition {
  readonly group: string;
  readonly event: string;
  readonly address: bigint;
  /** tells probes of one event apart */
  readonly index: number;
}

/** The command that defines a probe. */
export function formatDefinition({ group, event, address, index }: ProbeDefinition): string {
  return `p:${group}/${event} 0x${address.toString(16)} i=\\${index}:u32\n`;
}

/** A probe as `kprobe_events` lists it. */
export interface ListedProbe {
  readonly group: string;
  readonly owner: Owner;
  /** without the newline; the address in it is hashed, and accepted as such */
  readonly line: string;
}

/** The probes in `text` that a process of ours defined; those of other people are not in the result. */
export function parseListing(text: string): ListedProbe[] {
  const found: ListedProbe[] = [];
  for (const line of text.split("\n")) {
    const group = /^p:([^/ ]+)\/\S+ 0x[0-9a-f]+ i=\\\d+:u32$/.exec(line)?.[1];
    const owner = group === undefined ? undefined : parseOwner(group);
    if (group !== undefined && owner !== undefined) found.push({ group, owner, line });
  }
  return found;
}

/** The command that deletes exactly the probe of this line, and no other of its event. */
export function formatDeletion({ line }: ListedProbe): string {
  return `-${line.slice(1)}\n`;
}

/**
 * Misses of the probes on these events, in `text` of kprobe_profile: `  event   hits   misses`, one per line.
 * Groups are not in it, so the names must be nobody else's.
 */
export function sumMisses(text: string, events: ReadonlySet<string>): bigint {
  let sum = 0n;
  for (const [, event = "", misses = "0"] of text.matchAll(/^ *(\S+) +\d+ +(\d+)$/gm)) {
    if (events.has(event)) sum += BigInt(misses);
  }
  return sum;
}
