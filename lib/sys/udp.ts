/** UDP sockets over IPv4, as little as an exchange of a few datagrams takes. */
import { scope } from "./arena.ts";
import { OwnedFd, poll, POLLIN } from "./fd.ts";
import { errno } from "./errno.ts";
import { kernelError, syscall, trySyscall } from "./ffi.ts";
import type { Ipv4 } from "./rtnetlink_message.ts";

const AF_INET = 2, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, MSG_DONTWAIT = 0x40;
const SOL_IP = 0, IP_MTU_DISCOVER = 10, IP_PMTUDISC_DO = 2;
/** Of struct sockaddr_in. */
const ADDRESS_BYTES = 16;

export interface Endpoint {
  readonly address: Ipv4;
  readonly port: number;
}

/** struct sockaddr_in: the family in our byte order, port and address in the network's. */
export function socketAddress({ address, port }: Endpoint): Uint8Array {
  const bytes = new Uint8Array(ADDRESS_BYTES), view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  bytes.set(address, 4);
  return bytes;
}

export class UdpSocket extends OwnedFd {
  /** In the namespace that the thread is in. @throws {KernelError} the address is not ours, or taken */
  constructor(local: Endpoint) {
    super(syscall("socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    try {
      using memory = scope();
      syscall("bind", this.fd, memory.copy(socketAddress(local)).address, ADDRESS_BYTES);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** From now on no datagram may be fragmented on its way. */
  forbidFragments(): void {
    using memory = scope();
    const value = memory.copy(Int32Array.of(IP_PMTUDISC_DO));
    syscall("setsockopt", this.fd, SOL_IP, IP_MTU_DISCOVER, value.address, 4);
  }

  send(payload: Uint8Array, to: Endpoint): void {
    using memory = scope();
    const data = memory.copy(payload), address = memory.copy(socketAddress(to)).address;
    syscall("sendto", this.fd, data.address, payload.length, 0, address, ADDRESS_BYTES);
  }

  /** The length of the next datagram, which is thrown away; undefined: none came in time. */
  receive(timeoutMs: number): number | undefined {
    if (poll(this.fd, POLLIN, timeoutMs) === 0) return undefined;
    using memory = scope();
    const room = 65536, buffer = memory.alloc(room);
    const length = trySyscall("recvfrom", this.fd, buffer.address, room, MSG_DONTWAIT, 0, 0);
    if (length === -(errno["EAGAIN"] as number)) return undefined;
    if (length < 0) throw kernelError("recvfrom", -length);
    return length;
  }
}
