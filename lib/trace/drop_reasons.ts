/**
 * Why packets are dropped, as this kernel numbers it: enum skb_drop_reason, and the enums of subsystems, which count
 * from their own number in the upper half (include/net/dropreason.h, Linux 6.4). A subsystem may be a module with types
 * of its own, loaded long after us: those are read when the first number of theirs is asked for.
 */
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import type { BtfTypes } from "../btf/types.ts";
import { enumerators } from "../btf/walk.ts";
import { functionsTaking } from "./skb_functions.ts";

const REASON = "skb_drop_reason", SUBSYSTEM_PREFIX = "SKB_DROP_REASON_SUBSYS_";
/** SKB_DROP_REASON_SUBSYS_SHIFT, a macro. */
const SUBSYSTEM_SHIFT = 16;
/** A subsystem's enum: mac80211_drop_reason, ovs_drop_reason. */
const SUBSYSTEM_ENUM = /_drop_reason$/;

/** Types of the loaded modules. */
export interface ModuleTypes {
  names(): readonly string[];
  /** undefined: it is gone, or has none */
  load(module: string): Btf | undefined;
}

export class DropReasons {
  readonly #types: BtfTypes;
  readonly #modules: ModuleTypes;
  readonly #core: ReadonlyMap<number, string>;
  /** by number: "OPENVSWITCH" */
  readonly #subsystems: ReadonlyMap<number, string>;
  /** by function */
  #arguments: ReadonlyMap<string, number> | undefined;
  readonly #ofSubsystem = new Map<number, ReadonlyMap<number, string>>();

  constructor(types: BtfTypes, modules: ModuleTypes) {
    this.#types = types;
    this.#modules = modules;
    this.#core = types.enumNames(REASON);
    this.#subsystems = new Map(
      [...types.enumNames(`${REASON}_subsys`)].map(([number, name]) => [
        number,
        name.replace(SUBSYSTEM_PREFIX, ""),
      ]),
    );
  }

  /** of the core; 0: this kernel gives no reasons (before Linux 5.17) */
  get size(): number {
    return this.#core.size;
  }

  /** undefined: no enum has the number */
  get(code: number): string | undefined {
    const subsystem = code >>> SUBSYSTEM_SHIFT;
    const name = subsystem === 0 ? undefined : this.#subsystems.get(subsystem);
    if (name === undefined) return this.#core.get(code);
    let reasons = this.#ofSubsystem.get(subsystem);
    if (reasons === undefined) this.#ofSubsystem.set(subsystem, reasons = this.#read(subsystem, name));
    return reasons.get(code);
  }

  /** Which argument of a kernel function is a reason, counted from 1. */
  argumentOf(func: string): number | undefined {
    this.#arguments ??= this.#findArguments();
    return SAYS_HOW_NOT_WHY.test(func) ? undefined : this.#arguments.get(func);
  }

  #findArguments(): ReadonlyMap<string, number> {
    const { btf } = this.#types, reason = btf.find(REASON, BTF_KIND.ENUM);
    return reason === undefined ? new Map<string, number>() : functionsTaking(btf, reason);
  }

  /** From the kernel itself or from a module; first from those that the subsystem seems to be named for. */
  #read(subsystem: number, name: string): ReadonlyMap<number, string> {
    const owners = this.#modules.names().toSorted((a, b) => likeness(b, name) - likeness(a, name));
    const own = reasonsOf(this.#types.btf, subsystem);
    if (own.size > 0) return own;
    for (const module of owners) {
      const btf = this.#modules.load(module);
      const found = btf === undefined ? new Map<number, string>() : reasonsOf(btf, subsystem);
      if (found.size > 0) return found;
    }
    return own; // the number has to do
  }
}

/** Passed on to what gives memory back, which is about recycling pages: SKB_CONSUMED more often than not. */
const SAYS_HOW_NOT_WHY = /^skb_release_/;

function likeness(module: string, subsystem: string): number {
  return subsystem.toLowerCase().startsWith(module) ? module.length : 0;
}

/** What an enum of this blob, not of its base, has in a subsystem's range. */
function reasonsOf(btf: Btf, subsystem: number): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (let id = btf.firstId; id < btf.endId; id++) {
    if (btf.kind(id) !== BTF_KIND.ENUM || !SUBSYSTEM_ENUM.test(btf.nameOf(id))) continue;
    for (const [name, value] of enumerators(btf, id)) {
      const code = Number(value);
      if (code >>> SUBSYSTEM_SHIFT === subsystem && !found.has(code)) found.set(code, name);
    }
  }
  return found;
}
