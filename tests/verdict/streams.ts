/** Streams of records as tracers have shown them, back in records. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { InterfaceNames, Names } from "../../lib/output/printer.ts";
import { type OutcomeOptions, type OutcomeRow, Outcomes } from "../../lib/verdict/outcomes.ts";
import { reasonArgument, record, type RecordValues } from "../output/records.ts";

/** A record whose function is told by its name. */
export interface Step extends RecordValues {
  /** `ip_rcv`, or `kfree_skb_reason(PKT_TOO_BIG)`; `tp:kfree_skb(PKT_TOO_BIG)` is a tracepoint */
  readonly func: string;
  /** the code that let go, for tracepoints */
  readonly place?: string;
}

export const DEVICES: InterfaceNames = {
  nameOf: (_, ifindex) => ({ 1: "lo", 2: "eth0", 3: "eth1" })[ifindex],
  generation: 0,
};

/** Numbers for names, and back. */
class Numbers {
  readonly #names: string[] = [];
  readonly #first: bigint;

  constructor(first: bigint) {
    this.#first = first;
  }

  of(name: string): bigint {
    if (!this.#names.includes(name)) this.#names.push(name);
    return this.#first + BigInt(this.#names.indexOf(name));
  }

  name(number: bigint): string | undefined {
    return this.#names[Number(number - this.#first)];
  }
}

const REASONS: ReadonlyMap<number, string> = new Map(
  [
    "SKB_NOT_DROPPED_YET",
    "SKB_CONSUMED",
    "NOT_SPECIFIED",
    "NO_SOCKET",
    "PKT_TOO_BIG",
    "NETFILTER_DROP",
    "QUEUE_PURGE",
  ].map(
    (name, number) => [number, name.startsWith("SKB_") ? name : `SKB_DROP_REASON_${name}`] as const,
  ),
);

function reasonNumber(name: string): bigint {
  if (/^[0-9]+$/.test(name)) return BigInt(name);
  const found = [...REASONS].find(([, full]) => full === name || full === `SKB_DROP_REASON_${name}`);
  if (found === undefined) throw new Error(`${name} is no reason that this test knows`);
  return BigInt(found[0]);
}

/** Lets the steps pass. `withReasons: false` is a kernel before 5.17. */
export class Stream {
  readonly outcomes: Outcomes;
  readonly #functions = new Numbers(0xffffffff81000000n);
  readonly #tracepoints = new Numbers(0n);
  readonly #places = new Numbers(0xffffffff82000000n);
  #now = 0n;

  constructor({ withReasons = true, ...options }: OutcomeOptions & { withReasons?: boolean } = {}) {
    const names: Names = {
      probe: (address) => this.#tracepoints.name(address) ?? this.#functions.name(address),
      symbol: (address) => {
        const [name = "", offset] = this.#places.name(address)?.split("+") ?? [];
        return offset === undefined ? undefined : { name, offset: Number(offset) };
      },
      dropReasons: withReasons ? REASONS : new Map(),
      reasonArgument: withReasons ? reasonArgument : () => undefined,
    };
    this.outcomes = new Outcomes(names, DEVICES, options);
  }

  see(step: Step): void {
    const { func: text, place, ...values } = step;
    const [, tracepoint, func = "", reason] = /^(tp:)?([^(]+)(?:\((\w+)\))?$/.exec(text) ?? [];
    const number = reason === undefined ? 0n : reasonNumber(reason);
    // What is no reason must not be taken for one.
    const junk = 0xffff_ffff_1234_5678n;
    const values3: RecordValues = tracepoint !== undefined
      ? {
        address: this.#tracepoints.of(func),
        argument2: place === undefined ? 0n : this.#places.of(place),
        argument3: number,
      }
      : {
        address: this.#functions.of(func),
        argument2: /^kfree_skb(_list)?_reason$/.test(func) ? number : junk,
        argument3: func === "sk_skb_reason_drop" ? number : junk,
      };
    this.#now += 1000n;
    this.outcomes.see(record({ timestamp: this.#now, headers: "", ...values, ...values3 }), 0);
  }

  wait(seconds: number): void {
    this.#now += BigInt(seconds) * 1_000_000_000n;
  }

  finish(): OutcomeRow[] {
    return this.outcomes.finish();
  }
}

/** tests/fixtures/streams/`name`.txt: lines of skb, process, namespace, ifindex and function. */
export function recorded(name: string): Step[] {
  const text = readFileSync(join(import.meta.dir, `../fixtures/streams/${name}.txt`), "utf8");
  return text.trimEnd().split("\n").map((line) => {
    const [skb, process = "", netns, ifindex, func = ""] = line.split(" ");
    const colon = process.lastIndexOf(":");
    return {
      skb: BigInt(`0xff33100${skb}`),
      comm: process.slice(0, colon),
      pid: Number(process.slice(colon + 1)),
      netns: Number(netns),
      ifindex: Number(ifindex),
      func,
    };
  });
}

/** `3 dropped ip_rcv NO_SOCKET`: a row in short, for comparing. */
export function short(
  { packets, outcome, location, func, reason, process, iface, netns }: OutcomeRow,
): string {
  const parts = [
    packets,
    outcome,
    location ?? func,
    reason?.replace("SKB_DROP_REASON_", ""),
    process,
    iface,
    netns,
  ];
  return parts.filter((part) => part !== null && part !== undefined).join(" ");
}
