// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Every record that crosses from the kernel to us, declared once: the programs store through
 * `.fields`, the reader decodes with the same offsets.
 */
import { bytes, type Decoded, type Struct, struct, u16, u32, u64 } from "../asm/layout.ts";

/** Bytes copied from the network header on: the longest IPv4 header with TCP's flags, or IPv6 and 64 more. */
export const HEADER_BYTES = 104;

/** One packet seen by one function. */
export const packetEvent = struct("packet_event", {
  /** ns, CLOCK_MONOTONIC: bpf_ktime_get_ns() */
  timestamp: u64,
  /** struct sk_buff *, an identity: user space never dereferences it */
  skb: u64,
  /** where the probe sits: the function's entry or the place behind it; for tracepoints an index of ours */
  address: u64,
  /** kprobes: the function's second argument; tracepoints: the code address that freed the packet, or 0 */
  argument2: u64,
  /** kprobes: the function's third argument; tracepoints: the drop reason, or 0 */
  argument3: u64,
  /** inode number of the network namespace, of the device or else of the socket; 0 unknown */
  netns: u32,
  /** sk_buff.mark */
  mark: u32,
  /** net_device.ifindex; 0 while the packet has no device */
  ifindex: u32,
  /** bytes: of the device, or of the route while the packet has no device; 0 unknown */
  mtu: u32,
  /** bytes, sk_buff.len: with what page fragments hold */
  len: u32,
  /** thread group of the task that was running */
  pid: u32,
  cpu: u32,
  /** sk_buff.protocol: EtherType in network byte order */
  protocol: u16,
  /** how many of `headers` are the packet's linear bytes; the rest is whatever lies behind them */
  headerBytes: u16,
  /** name of the running task at that moment, NUL-terminated */
  comm: bytes(16),
  /** the packet from its network header on */
  headers: bytes(HEADER_BYTES),
});
export type PacketEvent = Decoded<typeof packetEvent>;

/** What follows a packetEvent when packets are numbered. */
export const packetIdentity = struct("packet_identity", {
  /** the same for all of a packet's life, and for its clones, copies and segments; 0 unknown */
  stamp: u64,
});

/** What each CPU counts; user space adds the CPUs up. `matched` = records submitted + `lost`. */
export const traceCounters: Struct<{ matched: typeof u64; lost: typeof u64; unreadable: typeof u64 }> =
  struct(
    "trace_counters",
    {
      /** packets that passed every filter, once per function */
      matched: u64,
      /** of these, how many found the ring buffer full */
      lost: u64,
      /** packets whose bytes could not be read: no verdict was possible */
      unreadable: u64,
    },
  );
