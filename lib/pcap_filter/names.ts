/** What the compiler asks about names. It does no I/O itself: lib/pcap_filter/names_files.ts reads the files. */

/** A port per transport protocol; absent where the service has none. */
export interface Service {
  readonly tcp?: number;
  readonly udp?: number;
}

/** Every answer may be `undefined`: unknown. Names are case sensitive. */
export interface Names {
  /** /etc/services, aliases included */
  service(name: string): Service | undefined;
  /** /etc/protocols, aliases included */
  protocol(name: string): number | undefined;
  /** IPv4 and IPv6 addresses as text, in any order */
  host(name: string): readonly string[] | undefined;
  /** /etc/ethers: six groups of hexadecimal digits with colons */
  ethers(name: string): string | undefined;
  /** /etc/networks: the number as the system returns it, 127.0.0.0 being 0x7f000000 */
  network(name: string): number | undefined;
}

/** Knows nothing. */
export const noNames: Names = {
  service: () => undefined,
  protocol: () => undefined,
  host: () => undefined,
  ethers: () => undefined,
  network: () => undefined,
};
