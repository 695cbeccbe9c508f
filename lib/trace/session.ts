/**
 * One run of the tracer, from options to a stream of records: the kernel's types, the programs, the probes,
 * the ring buffer, the counters. It prints nothing and knows no command line.
 */
import { packetEvent, traceCounters } from "../../bpf-programs/events.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import type { PacketFilter, TraceOptions } from "../../bpf-programs/frame.ts";
import type { TracepointHook } from "../../bpf-programs/tracepoint_program.ts";
import { keepsSet } from "../../bpf-programs/tracking.ts";
import type { TunnelFilter } from "../../bpf-programs/tunnel.ts";
import { modulesWithBtf, tryModuleBtf } from "../btf/load.ts";
import { BtfTypes } from "../btf/types.ts";
import { readCounters } from "../maps/bpf_map.ts";
import { Maps } from "../maps/maps.ts";
import { RingBuffer } from "../maps/ring_buffer.ts";
import { pageSize } from "../sys/ffi.ts";
import type { BackendName, Load, ProbeBackend } from "./backend.ts";
import type { Chosen } from "./choose.ts";
import type { RecordContents, WantedContents } from "./contents.ts";
import { DropReasons } from "./drop_reasons.ts";
import { GappedRing } from "./gapped_ring.ts";
import { attachLineage, type Lineage } from "./lineage.ts";
import type { ProgramKind } from "./loaded_programs.ts";

export interface SessionOptions {
  /** absent: the best that this kernel allows */
  readonly backend?: BackendName;
  /** a file with the kernel's types */
  readonly kernelBtf?: string;
  /** whole names of functions to trace, a regular expression; "" for all */
  readonly functionPattern: string;
  /** modules whose functions are traced too */
  readonly modules: readonly string[] | "all";
  /** bytes, a power of two */
  readonly ringBytes: number;
  readonly filter?: PacketFilter;
  readonly tunnel?: TunnelFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  readonly netns?: number;
  readonly ifindex?: number;
  /** C, about `skb` */
  readonly expression?: string;
  readonly meta: boolean;
  readonly tuple: boolean;
  /** what each record has beyond the line that is always printed; absent: nothing */
  readonly contents?: WantedContents;
  /** also probe where the kernel lets go of packets, whatever `functionPattern` says: see `isAside` */
  readonly ends?: boolean;
  /** shows a packet that matched wherever it goes, and its children */
  readonly follow?: boolean;
  /** records say which packet they are about */
  readonly ids?: boolean;
  /** shows what runs beneath a function that has a packet as that packet's */
  readonly stacks?: boolean;
  /** functions without a packet to show in this way */
  readonly packetlessFunctions?: readonly string[];
  /** shows the functions that BPF programs call beneath a packet */
  readonly helpers?: boolean;
  /** BPF programs to trace too, of these kinds */
  readonly programs?: readonly ProgramKind[];
  /** C, about `xdp`: frames to show of XDP programs */
  readonly xdpExpression?: string;
  /** how many kprobes are set at a time */
  readonly kprobeBatch?: number;
  /** how many packets can be followed at a time */
  readonly trackedPackets?: number;
}

/** What the programs counted on all CPUs. */
export interface Counted {
  /** packets that programs had before them, once per function */
  readonly looked: bigint;
  /** packets that matched, once per function: all of them were printed, lost, or are still in the ring */
  readonly matched: bigint;
  /** records for which the ring had no room */
  readonly lost: bigint;
  /** packets whose memory could not be read, so that the filter could not decide */
  readonly unreadable: bigint;
  /** hits during which another probe of ours was at work on the same CPU */
  readonly missed: bigint;
  /** how often a packet could not be followed because too many were */
  readonly untracked: bigint;
  /** packets that are being followed now */
  readonly tracked: bigint;
}

/** Told where each record lies; the memory is valid until it returns. */
export type OnRecord = (view: DataView, offset: number) => void;

/** Told that so many records found the ring full since the last one that was handed over, or a little earlier. */
export type OnGap = (lost: bigint) => void;

export class Session implements Disposable {
  readonly types: BtfTypes;
  readonly backend: ProbeBackend;
  readonly contents: RecordContents;
  /** why a backend that would have been better was not taken */
  readonly remarks: readonly string[];
  /** names of the functions without a packet that are shown */
  readonly packetless: ReadonlySet<string>;
  readonly #maps: Maps;
  readonly #ring: RingBuffer;
  readonly #view: DataView;
  readonly #trace: TraceOptions;
  readonly #gaps: GappedRing;
  readonly #asides: ReadonlySet<number>;
  readonly #load: Load;
  readonly #warnings: readonly string[];
  #lineage: Lineage | undefined;

  constructor(
    types: BtfTypes,
    maps: Maps,
    trace: TraceOptions,
    load: Load,
    { backend, remarks, contents, warnings, asides, packetless }: Opened,
  ) {
    this.#warnings = warnings;
    this.types = types;
    this.packetless = packetless;
    this.contents = contents;
    this.remarks = remarks;
    this.#maps = maps;
    this.#trace = trace;
    this.#load = load;
    this.#ring = RingBuffer.open(maps.get(trace.maps.events));
    this.#view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.#asides = new Set(asides.map(({ index }) => index));
    this.#gaps = new GappedRing(this.#ring, () => this.#counter("lost"));
    this.backend = backend;
  }

  /**
   * Attaches what tells a packet's children and strangers apart, if packets are followed; returns what is not to be
   * had on this kernel.
   */
  followLineage(): readonly string[] {
    const { tracking } = this.#trace;
    if (tracking === undefined || !keepsSet(tracking)) return [];
    const context = probeContext(process.arch, pageSize);
    this.#lineage = attachLineage(this.#trace, this.types, context, this.#load);
    return [...this.#warnings, ...this.#lineage.remarks];
  }

  /** Hands over committed records, at most `limit`, and where some are missing; returns how many there were. */
  drain(onRecord: OnRecord, limit: number, onGap: OnGap): number {
    return this.#gaps.drain((offset) => onRecord(this.#view, offset), limit, onGap);
  }

  /** Whether a record comes from a probe that was not asked for but tells of an end. */
  isAside(view: DataView, offset: number): boolean {
    const { address } = packetEvent.fields;
    return this.#asides.size > 0 && view.getUint32(offset + address.offset + 4, true) === 0 &&
      this.#asides.has(view.getUint32(offset + address.offset, true));
  }

  /** Names of drop reasons on this kernel. */
  dropReasons(): DropReasons {
    const { types } = this;
    return new DropReasons(types, {
      names: () => modulesWithBtf(),
      load: (module) => tryModuleBtf(module, types.btf),
    });
  }

  counted(): Counted {
    return {
      looked: this.#looked(),
      matched: this.#counter("matched"),
      lost: this.#counter("lost"),
      unreadable: this.#counter("unreadable"),
      missed: this.backend.missed() + (this.#lineage?.missed() ?? 0n),
      ...this.#following(),
    };
  }

  #counter(name: keyof typeof traceCounters.fields): bigint {
    const counters = readCounters(this.#maps.get(this.#trace.maps.counters));
    return counters[traceCounters.fields[name].offset / 8] ?? 0n;
  }

  #looked(): bigint {
    const slots = readCounters(this.#maps.get(this.#trace.maps.looks));
    return slots.reduce((sum, slot) => sum + slot, 0n);
  }

  #following(): Pick<Counted, "tracked" | "untracked"> {
    const { maps, tracking } = this.#trace;
    if (tracking === undefined) return { tracked: 0n, untracked: 0n };
    const [tracked = 0n, untracked = 0n] = readCounters(this.#maps.get(maps.tracking));
    return { tracked, untracked };
  }

  [Symbol.dispose](): void {
    this.backend[Symbol.dispose]();
    this.#lineage?.[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}

/** What a session is made of. */
interface Opened extends Chosen {
  readonly contents: RecordContents;
  /** tracepoints that tell of ends and were not asked for */
  readonly asides: readonly TracepointHook[];
  /** what cannot be told of packets that are followed */
  readonly warnings: readonly string[];
  /** names of functions without a packet; grows */
  readonly packetless: ReadonlySet<string>;
}
