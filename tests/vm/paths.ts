/**
 * The path of a packet as text that can be reviewed: a block for every sk_buff that it was, with a line for each place
 * (namespace, interface, addresses) and, indented, the functions that it passed there.
 *
 *     sk_buff
 *       dns  10.9.2.2->10.9.2.1:4099(udp)
 *         udp_send_skb
 *         ip_send_skb
 *       dns eth0  10.9.2.2->10.9.2.1:4099(udp)
 *         ip_output
 *
 * What several sk_buffs do one after the other or at the same time is kept apart, so that the order in which their work
 * is done does not matter; those that do the same are one block. Ports that the kernel chooses are left out.
 */
import type { TraceLine } from "./lines.ts";
import { withReason } from "./scenario.ts";

/** What is left of the tuple of a packet in the making. */
const UNNAMED = "->()";

/** Functions after which an sk_buff is memory again. */
const ends = ["kfree_skbmem", "napi_skb_cache_put"];
/** What sees an sk_buff last when it is freed together with others. */
const bulkEnds = ["skb_release_data", "skb_free_head"];

/** Lines by the number of their packet, in the order in which the packets appear; 0 has those without a number. */
export function packetsOf(lines: readonly TraceLine[]): Map<number, TraceLine[]> {
  return Map.groupBy(lines, ({ packet = 0 }) => packet);
}

/** A packet's lines, by the sk_buff that they are about, in the order in which these appear. An address may be used again. */
export function livesOf(lines: readonly TraceLine[]): TraceLine[][] {
  const lives: TraceLine[][] = [], open = new Map<string, TraceLine[]>();
  for (const line of lines) {
    let life = open.get(line.skb);
    if (life === undefined) {
      open.set(line.skb, life = []);
      lives.push(life);
    }
    life.push(line);
    if (ends.includes(line.func)) open.delete(line.skb);
  }
  return lives;
}

/** Whether the last line is one behind which there is no sk_buff any more. */
export function isOver(life: readonly TraceLine[]): boolean {
  const { func = "" } = life.at(-1) ?? {};
  return ends.includes(func) || bulkEnds.includes(func);
}

/** Where an sk_buff is and what it looks like. */
function placeOf(
  { netns = 0, iface = "", tuple = "" }: TraceLine,
  names: ReadonlyMap<number, string>,
): string {
  const place = `${names.get(netns) ?? (netns === 0 ? "nowhere" : netns)} ${iface}`.trim();
  const flow = tuple.replace(/:\d+->/, "->").replace(/:0\(/, "(");
  return `${place}  ${flow === UNNAMED ? "no headers yet" : flow}`;
}

function lifeText(life: readonly TraceLine[], names: ReadonlyMap<number, string>): string {
  let before = "";
  return life.flatMap((line) => {
    const place = placeOf(line, names), same = place === before;
    before = place;
    return [...(same ? [] : [`  ${place}`]), `    ${withReason(line)}`];
  }).join("\n");
}

/** @param names of network namespaces, by inode */
export function pathText(lines: readonly TraceLine[], names: ReadonlyMap<number, string>): string {
  const blocks = Map.groupBy(livesOf(lines).map((life) => lifeText(life, names)), (text) => text);
  return [...blocks].map(([text, alike]) =>
    `sk_buff${alike.length === 1 ? "" : `, ${alike.length} alike`}\n${text}\n`
  ).join("\n");
}
