/** Records as the kernel would write them, for tests of what is printed. */
import { HEADER_BYTES, type PacketEvent, packetEvent, packetIdentity } from "../../bpf-programs/events.ts";

/** "45 00 003c" -> bytes; spaces are free. */
export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.replace(/\s/g, "").match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** 10.0.2.15:40718 -> 1.0.0.1:8080, TCP. */
export const TCP_IPV4 =
  "45 00 003c 0000 4000 40 06 0000 0a00020f 01000001 9f0e 1f90 00000000 00000000 50 02 ffff";

export interface RecordValues extends Partial<Omit<PacketEvent, "comm" | "headers">> {
  comm?: string;
  headers?: string;
  /** of the packetIdentity behind the record */
  stamp?: bigint;
}

/** One record; what is not given is that of the first example line, on eth0 in the first namespace. */
export function record(
  { comm = "/usr/bin/curl", headers = TCP_IPV4, stamp = 0n, ...values }: RecordValues = {},
): DataView {
  const view = new DataView(new ArrayBuffer(packetEvent.size + packetIdentity.size));
  const bytes = fromHex(headers), name = new TextEncoder().encode(comm);
  const padded = new Uint8Array(HEADER_BYTES), commBytes = new Uint8Array(16);
  padded.set(bytes);
  commBytes.set(name.subarray(0, 16));
  packetEvent.encode(view, 0, {
    timestamp: 45557282884169n,
    skb: 0xffff8880052a4e00n,
    address: 0xffffffff81000000n,
    netns: 4026531840,
    ifindex: 2,
    mtu: 1500,
    len: 60,
    pid: 12345,
    cpu: 1,
    protocol: 0x0008,
    headerBytes: bytes.length,
    comm: commBytes,
    headers: padded,
    ...values,
  });
  packetIdentity.encode(view, packetEvent.size, { stamp });
  return view;
}
