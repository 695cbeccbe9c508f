/** Packets of our own: datagrams through a socket pair, which the kernel frees where every kernel can be probed. */
import { scope } from "../sys/arena.ts";
import { OwnedFd } from "../sys/fd.ts";
import { syscall } from "../sys/ffi.ts";

/** Frees a packet that was received; every datagram passes it at its end (net/core/skbuff.c). */
export const PLACE = "consume_skb";

const AF_UNIX = 1, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, MSG_DONTWAIT = 0x40;

/** Two sockets, each the other's peer. */
class DatagramPair implements Disposable {
  readonly #memory = scope();
  readonly #byte = this.#memory.alloc(1);
  readonly #sender: OwnedFd;
  readonly #receiver: OwnedFd;

  constructor() {
    const fds = this.#memory.alloc(8);
    syscall("socketpair", AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds.address);
    this.#sender = new OwnedFd(fds.view.getInt32(0, true));
    this.#receiver = new OwnedFd(fds.view.getInt32(4, true));
  }

  /** Sends so many of one byte each to ourselves. The kernel has freed them when this returns. */
  pass(count: number): void {
    for (let i = 0; i < count; i++) {
      syscall("write", this.#sender.fd, this.#byte.address, 1);
      syscall("recvfrom", this.#receiver.fd, this.#byte.address, 1, MSG_DONTWAIT, 0, 0);
    }
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
    this.#receiver[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}

/** Sends so many. The kernel has freed them when this returns. */
export function passDatagrams(count: number): void {
  using sockets = new DatagramPair();
  sockets.pass(count);
}

/** Short enough to fit between two interruptions, also where one datagram takes 100 us. */
const BATCH = 10;
/** Far enough apart that what disturbs one group has gone before another. */
const GROUPS = 6, BATCHES = 50, PAUSE_MS = 10;

/** All that `datagramTime` sends. */
export const TIMED_DATAGRAMS = GROUPS * BATCHES * BATCH;

/** ns that one datagram takes, in the batch that was disturbed least. */
export function datagramTime(): number {
  using sockets = new DatagramPair();
  let least = Infinity;
  for (let group = 0; group < GROUPS; group++) {
    if (group > 0) Bun.sleepSync(PAUSE_MS);
    for (let i = 0; i < BATCHES; i++) {
      const begin = performance.now();
      sockets.pass(BATCH);
      least = Math.min(least, performance.now() - begin);
    }
  }
  return least * 1e6 / BATCH;
}
