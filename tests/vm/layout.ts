/** A second writer of lines, with pwru's widths: what a record must look like in print, to the column. */
import type { TraceLine } from "./lines.ts";

export const layoutHeader = (line: TraceLine): string =>
  (line.time === undefined ? "" : `${"TIME".padEnd(23)} `) +
  `${"SKB".padEnd(18)} ${"CPU".padEnd(3)} ${"PROCESS".padEnd(16)}` +
  (line.timestamp === undefined ? "" : ` ${"TIMESTAMP".padEnd(16)}`) +
  ` ${"NETNS".padEnd(10)} ${"MARK/x".padEnd(8)} ${centred("IFACE")} PROTO  MTU   LEN   TUPLE FUNC`;

/** Tuple and detail as they are printed. */
export const tupleText = ({ tuple = "", detail }: TraceLine): string =>
  detail === undefined ? tuple : tuple.replace(/\)$/, `:${detail})`);

/** @param tupleWidth of the longest tuple so far, this one included */
export function layout(line: TraceLine, tupleWidth: number): string {
  const { skb, cpu, process, netns, mark = 0, iface, ifindex, proto = 0, mtu, len, func } = line;
  const name = iface === "" ? String(ifindex) : `${iface}:${ifindex}`;
  const reason = line.reason === undefined ? "" : `(${reasonName(line.reason)})`;
  return (line.time === undefined ? "" : `${line.time.padEnd(23)} `) +
    `${skb.padEnd(18)} ${String(cpu).padEnd(3)} ${lastOf(process).padEnd(16)}` +
    (line.timestamp === undefined ? "" : ` ${String(line.timestamp).padEnd(16)}`) +
    ` ${String(netns).padEnd(10)} ${mark.toString(16).padEnd(8)} ${centred(lastOf(name))}` +
    ` 0x${proto.toString(16).padStart(4, "0")} ${String(mtu).padEnd(5)} ${String(len).padEnd(5)}` +
    ` ${tupleText(line).padEnd(tupleWidth)} ${func}${reason}`;
}

/** 16 bytes at most: of what is longer the end, behind "~". */
const lastOf = (text: string) => text.length > 16 ? `~${text.slice(-15)}` : text;

const centred = (text: string) => {
  const left = Math.floor((16 - text.length) / 2);
  return text.padStart(text.length + Math.max(left, 0)).padEnd(16);
};

/** The kernel's name, of which the reader leaves the prefix out. */
const reasonName = (reason: string) => reason.startsWith("SKB_") ? reason : `SKB_DROP_REASON_${reason}`;
