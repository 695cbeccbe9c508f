/**
 * What options add to the records: what the programs have to store, and how to make text of it. Structs come as
 * their bytes and expressions as numbers; both mean something only with the kernel's types.
 */
import type { Additions, RecordLayout } from "../../bpf-programs/events.ts";
import { compileDump, type Dump } from "../btf/dump.ts";
import type { Btf } from "../btf/parse.ts";
import type { BtfTypes } from "../btf/types.ts";
import { compileValue, skb, type Value, xdp } from "../expr/compile.ts";
import { formatResult, plainResult } from "../expr/format.ts";

const structs = { skb: "sk_buff", sharedInfo: "skb_shared_info" } as const;

/** What each record is to have beyond a packetEvent. */
export interface WantedContents {
  /** who called the function; tracepoints cannot tell */
  readonly caller?: boolean;
  /** the kernel's stack */
  readonly stack?: boolean;
  /** sk_buff.cb, as programs see it */
  readonly controlBlock?: boolean;
  /** addresses and ports of the packet inside a tunnel's */
  readonly tunnel?: boolean;
  /** which map a function on one is about */
  readonly mapOperation?: boolean;
  /** structs to copy whole */
  readonly dumps?: readonly (keyof typeof structs)[];
  /** numbers to read, C about `skb` */
  readonly values?: readonly string[];
  /** the same about `xdp`, for XDP programs */
  readonly xdpValues?: readonly string[];
}

/** A struct that is shown whole. */
export interface StructDump {
  readonly name: keyof typeof structs;
  /** sk_buff, skb_shared_info */
  readonly struct: string;
  readonly dump: Dump;
}

/** A number that an expression gives. */
export interface ShownValue {
  /** the expression */
  readonly source: string;
  /** its last member's name */
  readonly label: string;
  text(value: bigint): string;
  /** for programs */
  plain(value: bigint): number | string | boolean;
}

/** What is to be shown of the records beyond a packetEvent. */
export interface RecordContents {
  readonly record: RecordLayout;
  readonly dumps: readonly StructDump[];
  /** of records about sk_buffs, in the record's order */
  readonly values: readonly ShownValue[];
  /** of those about xdp_buffs */
  readonly xdpValues: readonly ShownValue[];
}

/**
 * What the programs have to store, and how to show it.
 *
 * @throws {FilterSyntaxError} an expression does not fit this kernel's types
 * @throws {BtfError} this kernel has no such struct
 */
export function compileContents(
  { dumps = [], values = [], xdpValues = [], ...flags }: WantedContents,
  types: BtfTypes,
): { additions: Additions } & Omit<RecordContents, "record"> {
  const { btf } = types;
  const compiled = values.map((source) => compileValue(source, btf, skb));
  const xdpCompiled = xdpValues.map((source) => compileValue(source, btf, xdp));
  const sizeOf = (name: keyof typeof structs) => dumps.includes(name) ? types.sizeOf(structs[name]) : 0;
  return {
    additions: {
      ...flags,
      skbBytes: sizeOf("skb"),
      sharedInfoBytes: sizeOf("sharedInfo"),
      values: compiled,
      xdpValues: xdpCompiled,
    },
    dumps: dumps.map((name) => {
      const struct = structs[name];
      return { name, struct, dump: compileDump(btf, types.structId(struct)!) };
    }),
    values: compiled.map((value, i) => shown(btf, value, values[i]!)),
    xdpValues: xdpCompiled.map((value, i) => shown(btf, value, xdpValues[i]!)),
  };
}

function shown(btf: Btf, { label, tree: { type } }: Value, source: string): ShownValue {
  return {
    source,
    label,
    text: (value) => formatResult(btf, type, value),
    plain: (value) => plainResult(btf, type, value),
  };
}
