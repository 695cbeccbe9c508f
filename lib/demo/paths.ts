/** Paths of packets, and where two of them part. Pure. */

/** One function or tracepoint that a packet passed. */
export interface Step {
  /** pod, node or dns; "" while the packet belongs to none */
  readonly where: string;
  /** interface it is on, "" while it is on none */
  readonly iface: string;
  /** with the reason in parentheses, where it carries one */
  readonly func: string;
  /** code that freed the packet, where the probe says */
  readonly location: string | null;
  /** SKB_DROP_REASON_*, where the probe says */
  readonly reason: string | null;
  readonly mtu: number;
  readonly len: number;
}

/** One packet sent, and what came of it. */
export interface Passage {
  /** of the pod's link */
  readonly mtu: number;
  readonly arrived: boolean;
  readonly steps: readonly Step[];
}

/** Two passages of the same packet. */
export interface Demonstration {
  /** uname -r */
  readonly kernel: string;
  readonly backend: string;
  /** probes that were set */
  readonly attached: number;
  readonly passages: readonly [Passage, Passage];
}

/** Whether both mean the same stage. */
function isSame(a: Step | undefined, b: Step | undefined): boolean {
  return a !== undefined && b !== undefined && a.func === b.func && a.where === b.where;
}

/** How many steps two paths begin with in common. */
export function commonSteps(a: readonly Step[], b: readonly Step[]): number {
  let count = 0;
  while (isSame(a[count], b[count])) count++;
  return count;
}

/** Whether it went as the story has it: the first packet arrived, the second did not, and both were seen. */
export function isAsTold({ passages: [first, second] }: Demonstration): boolean {
  return first.arrived && !second.arrived && first.steps.length > 0 && second.steps.length > 0;
}

/** The step that says why the packet ended: the last that carries a reason. */
export function endOf(steps: readonly Step[]): Step | undefined {
  return steps.findLast(({ reason }) => reason !== null);
}

/** What is read of a line of the JSON output. */
interface EventLine {
  readonly func: string;
  readonly netns: number;
  readonly iface: string;
  readonly mtu: number;
  readonly len: number;
  readonly location?: string | null;
  readonly reason?: string | null;
}

/**
 * Lines of the JSON output as steps.
 *
 * @param placeOf the name of a network namespace by its inode number
 */
export function stepsOf(lines: string, placeOf: (netns: number) => string | undefined): Step[] {
  return lines.split("\n").filter((line) => line !== "").map((line) => {
    const event = JSON.parse(line) as EventLine;
    return {
      where: placeOf(event.netns) ?? "",
      // "eth0:2" is named, "0" and "2" are not
      iface: event.iface.includes(":") ? event.iface.replace(/:\d+$/, "") : "",
      func: event.func,
      location: event.location ?? null,
      reason: event.reason ?? null,
      mtu: event.mtu,
      len: event.len,
    };
  });
}
