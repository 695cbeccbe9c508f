/**
 * The network that the demonstration needs, in three namespaces without names:
 *
 *   pod 10.9.1.2 eth0 -- podveth 10.9.1.1 | node, forwards | 10.9.2.1 dnsveth -- eth0 10.9.2.2 dns
 *
 * Nothing is added to the namespace we run in, and all of it ends with the scene, or with us.
 */
import { UnsupportedError } from "../errors.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { isErrno } from "../sys/ffi.ts";
import { createNetns, inNetns, type Netns } from "../sys/netns.ts";
import { dumpLinks, request, routeSocket } from "../sys/rtnetlink.ts";
import {
  addAddress,
  defaultRoute,
  forwardFrom,
  type Ipv4,
  linkMtu,
  linkUp,
  vethPair,
} from "../sys/rtnetlink_message.ts";
import { type Endpoint, UdpSocket } from "../sys/udp.ts";

export const places = ["pod", "node", "dns"] as const;
export type Place = typeof places[number];

/** Bytes of UDP payload: the DNS answer of the story. */
export const ANSWER_BYTES = 2351;
/** What passes the largest MTU here. */
export const LARGE_MTU = 9001;

const server: Endpoint = { address: [10, 9, 2, 2], port: 9053 };
const client: Endpoint = { address: [10, 9, 1, 2], port: 40053 };
/** The node's end of each link, and its address there. */
const links = {
  pod: { veth: "podveth", node: [10, 9, 1, 1], own: client.address },
  dns: { veth: "dnsveth", node: [10, 9, 2, 1], own: server.address },
} as const satisfies Record<string, { veth: string; node: Ipv4; own: Ipv4 }>;

/** What selects the answer and nothing else. */
export const ANSWER_FILTER = "udp and src host 10.9.2.2 and src port 9053 and dst host 10.9.1.2";

/** A way that is not there after so many tries of so long never will be. */
const WARM_UP_TRIES = 100, WARM_UP_MS = 20;

/** @throws {UnsupportedError} this kernel has no network namespaces, or allows no more of them */
function newNetns(): Netns {
  try {
    return createNetns();
  } catch (cause) {
    if (!isErrno(cause, "EINVAL", "ENOSPC")) throw cause;
    throw new UnsupportedError(`Cannot make a network namespace: ${cause.message}`, {
      cause,
      hint: cause.code === "ENOSPC"
        ? "sysctl user.max_net_namespaces is too low"
        : "it takes a kernel with CONFIG_NET_NS=y",
    });
  }
}

export class Scene implements Disposable {
  readonly #owned = new DisposableStack();
  readonly #netns: Readonly<Record<Place, Netns>>;
  readonly #route: Readonly<Record<Place, OwnedFd>>;
  /** interface names by index */
  readonly #names: Readonly<Record<Place, ReadonlyMap<number, string>>>;
  readonly #server: UdpSocket;
  readonly #client: UdpSocket;

  /**
   * @throws {KernelError} EPERM without CAP_SYS_ADMIN and CAP_NET_ADMIN
   * @throws {UnsupportedError} this kernel has no veth, or its packets do not get through
   */
  constructor() {
    using building = new DisposableStack();
    const of = <T extends Disposable>(make: (place: Place) => T) =>
      Object.fromEntries(places.map((place) => [place, building.use(make(place))])) as Record<Place, T>;
    this.#netns = of(newNetns);
    this.#route = of((place) => inNetns(this.#netns[place], routeSocket));
    for (const side of ["pod", "dns"] as const) this.#wire(side);
    this.#names = Object.fromEntries(places.map((place) => [place, this.#links(place)])) as Record<
      Place,
      Map<number, string>
    >;
    this.#server = building.use(inNetns(this.#netns.dns, () => new UdpSocket(server)));
    this.#client = building.use(inNetns(this.#netns.pod, () => new UdpSocket(client)));
    this.#warmUp();
    this.#server.forbidFragments();
    this.#owned.use(building.move());
  }

  /** A veth pair, both ends with address and up; the node forwards what comes from there. */
  #wire(side: "pod" | "dns"): void {
    const { veth, node, own } = links[side], here = this.#route.node, there = this.#route[side];
    try {
      const peer = { name: "eth0", mtu: LARGE_MTU, netnsFd: this.#netns[side].fd };
      request(here, vethPair({ name: veth, mtu: LARGE_MTU }, peer));
    } catch (cause) {
      if (!isErrno(cause, "EOPNOTSUPP")) throw cause;
      throw new UnsupportedError("Cannot make veth pairs: this kernel has none", {
        cause,
        hint: "modprobe veth",
      });
    }
    const inner = this.#indexOf("node", veth), outer = this.#indexOf(side, "eth0");
    request(here, addAddress(inner, node, 24));
    request(here, linkUp(inner));
    request(here, forwardFrom(inner));
    request(there, addAddress(outer, own, 24));
    request(there, linkUp(outer));
    request(there, defaultRoute(node));
  }

  #links(place: Place): Map<number, string> {
    return new Map(dumpLinks(this.#route[place]).map(({ ifindex, name }) => [ifindex, name]));
  }

  #indexOf(place: Place, name: string): number {
    for (const [ifindex, other] of this.#links(place)) if (other === name) return ifindex;
    throw new UnsupportedError(`Cannot find "${name}" in the ${place}'s namespace, where it was made`);
  }

  /** Sends small datagrams until one arrives: then links are up, neighbours known, and the first path is typical. */
  #warmUp(): void {
    using sender = inNetns(this.#netns.dns, () => new UdpSocket({ ...server, port: 0 }));
    for (let tries = 0; tries < WARM_UP_TRIES; tries++) {
      sender.send(new Uint8Array(1), client);
      if (this.#client.receive(WARM_UP_MS) !== undefined) return;
    }
    throw new UnsupportedError("Cannot get a packet from one scratch namespace to another", {
      hint: "does a firewall or a security module reach into new network namespaces?",
    });
  }

  /** Another MTU for the pod's link, at both ends. */
  setPodMtu(mtu: number): void {
    request(this.#route.node, linkMtu(this.#indexOf("node", links.pod.veth), mtu));
    request(this.#route.pod, linkMtu(this.#indexOf("pod", "eth0"), mtu));
  }

  /** Sends the answer; whether it reached the pod in that time. */
  answer(patienceMs: number): boolean {
    this.#server.send(new Uint8Array(ANSWER_BYTES), client);
    const end = performance.now() + patienceMs;
    for (let left = patienceMs; left > 0; left = end - performance.now()) {
      if (this.#client.receive(left) === ANSWER_BYTES) return true;
    }
    return false;
  }

  /** The name of the namespace with this inode number, if it is one of ours. */
  placeOf(inode: number): Place | undefined {
    return places.find((place) => this.#netns[place].inode === inode);
  }

  interfaceName(inode: number, ifindex: number): string | undefined {
    const place = this.placeOf(inode);
    return place === undefined ? undefined : this.#names[place].get(ifindex);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}
