/** What backends for functions attach beside what was selected, when packets are tracked. */
import { UsageError } from "../errors.ts";
import type { SymbolTable } from "../symbols/table.ts";
import type { ProbeFailure } from "./backend.ts";
import { HEIR_ARGUMENT, type SeenFate, type UnseenFate } from "../../bpf-programs/trace.ts";
import { beginningFunctions, endingFunctions, heirFunctions } from "./lineage.ts";
import { type FunctionSources, selectFunctions, type Selection, type TracedFunction } from "./functions.ts";

export interface Extras {
  /** functions that mean more to a packet than that it passes, among the selected ones */
  readonly shown: readonly FatedFunctions<SeenFate>[];
  /** those of which nobody wants to see anything; what begins a packet forgets its address too */
  readonly unseen: readonly FatedFunctions<UnseenFate>[];
  /** functions through which work on another packet begins, where stacks are followed; not shown */
  readonly watched: readonly TracedFunction[];
  /** functions without a packet, shown where their stack is at work on one; the argument means nothing */
  readonly packetless: readonly TracedFunction[];
}

export interface FatedFunctions<F> {
  readonly fate: F;
  readonly functions: readonly TracedFunction[];
}

/** For runs that track nothing. */
export const noExtras: Extras = { shown: [], unseen: [], watched: [], packetless: [] };

/** Whether some function sees packets for the last time. */
export const hasEnds = ({ shown, unseen }: Extras): boolean =>
  [...shown, ...unseen].some(({ fate, functions }) => fate.startsWith("ends") && functions.length > 0);

/** Receiving and sending, from the outside in; what a kernel does not have of them is not missed. */
const gates = [
  ..."net_rx_action net_tx_action napi_gro_receive __netif_receive_skb __netif_receive_skb_one_core".split(
    " ",
  ),
  ..."__netif_receive_skb_core __netif_receive_skb_list_core ip_rcv ip_list_rcv ipv6_rcv ipv6_list_rcv".split(
    " ",
  ),
  ..."__sys_sendto ____sys_sendmsg sock_write_iter sock_sendmsg inet_sendmsg inet6_sendmsg".split(" "),
  ..."udp_sendmsg udpv6_sendmsg raw_sendmsg tcp_sendmsg".split(" "),
];

/**
 * Finds them on this kernel, whatever was selected.
 *
 * @throws {UsageError} there is no function of such a name
 */
export function findExtras(
  sources: FunctionSources,
  { functions, recordAddresses }: Selection,
  { stacks, packetless }: { readonly stacks: boolean; readonly packetless: readonly string[] },
): Extras {
  const pattern = [...endingFunctions, ...beginningFunctions, ...heirFunctions].join("|"); // none of them has to be there
  const turning = selectFunctions(sources, pattern, { doubtful: true }).functions;
  const find = (names: readonly string[]) =>
    turning.filter(({ name }) => names.includes(name.replace(/\..*/, "")));
  const ends = find(endingFunctions), begins = find(beginningFunctions);
  const heirs = find(heirFunctions).filter(({ argument }) => argument === HEIR_ARGUMENT);
  const selected = new Set(functions.map(({ address }) => address));
  const among = (all: readonly TracedFunction[], wanted: boolean) =>
    all.filter(({ address }) => selected.has(address) === wanted);
  const fated: Pick<Extras, "shown" | "unseen"> = {
    shown: [
      { fate: "ends", functions: among(ends, true) },
      { fate: "begins", functions: among(begins, true) },
      { fate: "takes after", functions: among(heirs, true) },
    ],
    unseen: [
      { fate: "ends unseen", functions: among([...begins, ...ends], false) },
      { fate: "takes after unseen", functions: among(heirs, false) },
    ],
  };
  const { symbols, text = symbols } = sources;
  const listed = () => sources.ftrace!.table;
  const [kernel, whole] = recordAddresses ? [listed, listed] : [text, symbols];
  return {
    ...fated,
    watched: !stacks ? [] : gates.flatMap((name) => ofTable(kernel(), kernel().rowsIn(undefined, name)))
      .filter(({ address }) => !selected.has(address)),
    packetless: [...new Set(packetless)].flatMap((name) => named(whole(), name))
      .filter(({ address }) => !selected.has(address)),
  };
}

/** What it means that functions which nobody asked to see cannot be probed. */
export function unseenRemarks(refused: readonly ProbeFailure[]): string[] {
  if (refused.length === 0) return [];
  const names = refused.map(({ name, code }) => `${name} (${code})`).join(", ");
  return [
    `Packets may be followed beyond their end, or taken for new ones, because these cannot be probed: ${names}`,
  ];
}

/** All functions of that name, of the kernel and its modules. */
function named(table: SymbolTable, name: string): TracedFunction[] {
  const rows = table.rowsNamed(name);
  if (rows.length === 0) {
    throw new UsageError(
      `Cannot find "${name}" among the functions that can be traced`,
      "--filter-non-skb-funcs",
    );
  }
  return ofTable(table, rows);
}

function ofTable(table: SymbolTable, rows: readonly number[]): TracedFunction[] {
  return rows.map((row) => {
    const place = { name: table.nameOf(row), address: table.addressOf(row), argument: 1 as const };
    const module = table.moduleOf(row);
    return module === undefined ? place : { ...place, module };
  });
}
