/**
 * Jumps farther than 16 bits reach: a filter by hundreds of ports is longer than that. Such a jump goes to an
 * island, a `ja` on its way that goes on to the target, or to the next island.
 *
 * Islands lie together, at a few sites; code that comes along jumps over a site.
 */
import { isWide } from "./assemble.ts";
import { type Code, type Insn, items, Label, label } from "./code.ts";
import { endsFlow } from "./dead_code.ts";
import { ja } from "./insn.ts";

/** What a jump may span here; 16 bits span 32767, and islands take some of it. */
const REACH = 30_000;
/** Slots from one site to the next: less than a jump's reach, so that there always is one on the way. */
const SITE_DISTANCE = 14_000;

/** A place for islands, in front of an item. */
class Site {
  readonly slot: number;
  /** by where they go in the end: their own label, and where they jump to */
  readonly islands = new Map<Label, { readonly label: Label; readonly next: Label }>();
  constructor(slot: number) {
    this.slot = slot;
  }

  /** The code of the site; `before` is what precedes it. */
  code(before: Insn | Label): Code {
    if (this.islands.size === 0) return [];
    const over = label("over_islands");
    return [
      before instanceof Label || !endsFlow(before) ? ja(over) : [],
      ...[...this.islands.values()].map(({ label, next }) => [label, ja(next)]),
      over,
    ];
  }
}

/** `code` with islands for the jumps that need them; most programs need none and come back as they are. */
export function withinReach(code: Code): Code {
  const list = [...items(code)], slots: number[] = [], places = new Map<Label, number>();
  let size = 0;
  for (const item of list) {
    slots.push(size);
    if (item instanceof Label) places.set(item, size);
    else size += item.slots;
  }
  if (size <= REACH) return code;

  const sites = new Map<number, Site>(); // by index of the item behind it
  for (let index = 1, last = 0; index < list.length; index++) {
    const slot = slots[index] as number;
    if (slot - last < SITE_DISTANCE) continue;
    sites.set(index, new Site(slot));
    last = slot;
  }
  const inOrder = [...sites.values()];

  /** Where a jump from slot `from` to `target` goes first. */
  const hop = (from: number, target: Label): Label => {
    const to = places.get(target);
    // a label that is never placed is assemble()'s to refuse
    if (to === undefined || Math.abs(to - from) <= REACH) return target;
    const site = to > from
      ? inOrder.findLast(({ slot }) => slot > from && slot - from <= REACH) as Site
      : inOrder.find(({ slot }) => slot < from && from - slot <= REACH) as Site;
    let island = site.islands.get(target);
    if (island === undefined) {
      island = { label: label(`to_${target.name}`), next: hop(site.slot, target) };
      site.islands.set(target, island);
    }
    return island.label;
  };
  const jumps = list.map((item, index) =>
    item instanceof Label || item.target === undefined || isWide(item)
      ? item
      : { ...item, target: hop(slots[index] as number, item.target) }
  );
  return jumps.map((item, index) => [sites.get(index)?.code(jumps[index - 1] as Insn | Label) ?? [], item]);
}
