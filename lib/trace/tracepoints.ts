/** The raw tracepoints to trace: those that carry a packet, and where it is among their arguments. */
import type { TracepointHook } from "../../bpf-programs/tracepoint_program.ts";
import type { Btf } from "../btf/parse.ts";
import { rawTracepoints } from "../btf/tracepoints.ts";

/**
 * Fires when the driver has answered: the packet may be freed by then, and its memory may already be
 * another packet. net_dev_start_xmit says the same a moment earlier.
 */
const STALE = ["net_dev_xmit"];

/** Every tracepoint with a `struct sk_buff *` among its arguments, sorted by name; `index` counts them. */
export function packetTracepoints(btf: Btf): TracepointHook[] {
  const hooks: Omit<TracepointHook, "index">[] = [];
  for (const { name, arguments: all } of rawTracepoints(btf)) {
    const skb = all.findIndex(({ pointsTo }) => pointsTo === "sk_buff");
    if (skb < 0 || STALE.includes(name)) continue;
    const reason = all.findIndex(({ enumName }) => enumName === "skb_drop_reason");
    const location = all.findIndex((argument) => argument.name === "location");
    hooks.push({
      name,
      skb,
      ...(reason < 0 ? {} : { reason }),
      ...(location < 0 ? {} : { location }),
    });
  }
  return hooks.sort((a, b) => a.name < b.name ? -1 : 1).map((hook, index) => ({ ...hook, index }));
}
