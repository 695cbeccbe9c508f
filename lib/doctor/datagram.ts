/** Packets of our own: datagrams through a socket pair, which the kernel frees where every kernel can be probed. */
import { scope } from "../sys/arena.ts";
import { OwnedFd } from "../sys/fd.ts";
import { syscall } from "../sys/ffi.ts";

/** Frees a packet that was received; every datagram passes it at its end (net/core/skbuff.c). */
export const PLACE = "consume_skb";

const AF_UNIX = 1, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, MSG_DONTWAIT = 0x40;

/** Sends so many of one byte each to ourselves. The kernel has freed them when this returns. */
export function passDatagrams(count: number): void {
  using memory = scope();
  const pair = memory.alloc(8);
  syscall("socketpair", AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.address);
  using sender = new OwnedFd(pair.view.getInt32(0, true));
  using receiver = new OwnedFd(pair.view.getInt32(4, true));
  const byte = memory.alloc(1);
  for (let i = 0; i < count; i++) {
    syscall("write", sender.fd, byte.address, 1);
    syscall("recvfrom", receiver.fd, byte.address, 1, MSG_DONTWAIT, 0, 0);
  }
}

const BATCH = 50, BATCHES = 60;

/** All that `datagramTime` sends. */
export const TIMED_DATAGRAMS = BATCH * BATCHES;

/** ns that one datagram takes, in the batch that was disturbed least. */
export function datagramTime(): number {
  let least = Infinity;
  for (let i = 0; i < BATCHES; i++) {
    const begin = performance.now();
    passDatagrams(BATCH);
    least = Math.min(least, performance.now() - begin);
  }
  return least * 1e6 / BATCH;
}
