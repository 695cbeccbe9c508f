/**
 * Names from the files in /etc and, for hosts, from the resolver. The only file of the filter compiler with I/O.
 *
 * Files are read when a name is first asked for; one that cannot be read is empty, except that services and
 * protocols then come from name_tables.ts. Formats: services(5), protocols(5), hosts(5), ethers(5), networks(5).
 */
import { readFileSync } from "node:fs";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { hostNames } from "./compile.ts";
import * as tables from "./name_tables.ts";
import type { Names, Service } from "./names.ts";

/** How long host names may take to resolve, all together. */
export const defaultResolveTimeoutMs = 5000;

export interface NameFileOptions {
  /** where services, protocols, hosts, ethers and networks lie */
  readonly directory?: string;
}

/** Names from files alone; hosts that are in no file are unknown. */
export function fileNames({ directory = "/etc" }: NameFileOptions = {}): Names {
  const file = <T>(name: string, parse: (lines: string[][]) => T, fallback = ""): () => T => {
    let parsed: T | undefined;
    return () => parsed ??= parse(fields(read(join(directory, name)) ?? fallback));
  };
  const services = file("services", parseServices, tables.services);
  const protocols = file("protocols", parseProtocols, tables.protocols);
  const hosts = file("hosts", parseHosts);
  const ethers = file("ethers", parseEthers);
  const networks = file("networks", parseNetworks);
  return {
    service: (name) => services().get(name),
    protocol: (name) => protocols().get(name),
    host: (name) => hosts().get(name.toLowerCase()),
    ethers: (name) => ethers().get(name),
    network: (name) => networks().get(name),
  };
}

export interface ResolveOptions extends NameFileOptions {
  /** for all names together; what is not known by then is an unknown host */
  readonly timeoutMs?: number;
  /** asks the resolver; replaced in tests */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/**
 * Names from files, and those hosts that `source` asks for from the resolver. Without such names nothing is
 * asked. Never rejects and never waits longer than the time limit.
 */
export async function resolvedNames(source: string, options: ResolveOptions = {}): Promise<Names> {
  const { timeoutMs = defaultResolveTimeoutMs, resolve = resolveHost } = options;
  const files = fileNames(options);
  const resolved = new Map<string, readonly string[]>();
  const missing = hostNames(source).filter((name) => files.host(name) === undefined);
  if (missing.length > 0) {
    const limit = Promise.withResolvers<void>();
    const timer = setTimeout(limit.resolve, timeoutMs);
    const answers = missing.map(async (name) => {
      const addresses = await resolve(name);
      resolved.set(name, addresses.filter((text) => isIP(text) !== 0));
    });
    await Promise.race([Promise.allSettled(answers), limit.promise]);
    clearTimeout(timer);
  }
  const known = new Map(resolved); // answers that come too late change nothing
  return { ...files, host: (name) => files.host(name) ?? known.get(name) };
}

async function resolveHost(name: string): Promise<string[]> {
  const addresses = await lookup(name, { all: true });
  return addresses.map(({ address }) => withoutZone(address));
}

/** `fe80::1%eth0`: the zone is no part of what packets carry. */
function withoutZone(address: string): string {
  return address.replace(/%.*$/, "");
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** The words of every line that has any, comments removed. */
function fields(text: string): string[][] {
  return text.split("\n")
    .map((line) => line.replace(/#.*$/, "").trim())
    .filter((line) => line !== "")
    .map((line) => line.split(/\s+/));
}

/** `name port/transport alias...`; our table has several ports on a line. The first line of a name counts. */
function parseServices(lines: string[][]): Map<string, Service> {
  const services = new Map<string, { tcp?: number; udp?: number }>();
  for (const [name = "", ...words] of lines) {
    const ports = words.filter((word) => /^[0-9]+\/[a-z]+$/.test(word));
    const aliases = words.filter((word) => !word.includes("/"));
    for (const word of ports) {
      const [port, transport] = word.split("/") as [string, string];
      if (transport !== "tcp" && transport !== "udp") continue;
      for (const alias of [name, ...aliases]) {
        const service = services.get(alias) ?? {};
        services.set(alias, { [transport]: Number(port), ...service });
      }
    }
  }
  return services;
}

/** `name number alias...` */
function parseProtocols(lines: string[][]): Map<string, number> {
  const protocols = new Map<string, number>();
  for (const [name = "", number = "", ...aliases] of lines) {
    if (!/^[0-9]+$/.test(number)) continue;
    for (const alias of [name, ...aliases]) {
      if (!protocols.has(alias)) protocols.set(alias, Number(number));
    }
  }
  return protocols;
}

/** `address name alias...`; every line of a name adds an address. Case does not matter. */
function parseHosts(lines: string[][]): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const [text = "", ...names] of lines) {
    const address = withoutZone(text);
    if (isIP(address) === 0) continue;
    for (const name of names) {
      const key = name.toLowerCase();
      hosts.set(key, [...hosts.get(key) ?? [], address]);
    }
  }
  return hosts;
}

/** `0:11:22:33:44:55 name` */
function parseEthers(lines: string[][]): Map<string, string> {
  const ethers = new Map<string, string>();
  for (const [mac = "", name = ""] of lines) {
    if (/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(mac) && !ethers.has(name)) ethers.set(name, mac);
  }
  return ethers;
}

/** `name number alias...`; missing parts of the number are zeros at the end, as glibc reads it. */
function parseNetworks(lines: string[][]): Map<string, number> {
  const networks = new Map<string, number>();
  for (const [name = "", text = "", ...aliases] of lines) {
    const parts = text.split(".").map(Number);
    if (parts.length > 4 || !parts.every((part) => Number.isInteger(part) && part >= 0 && part <= 255)) {
      continue;
    }
    const [a = 0, b = 0, c = 0, d = 0] = parts;
    const number = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
    for (const alias of [name, ...aliases]) if (!networks.has(alias)) networks.set(alias, number);
  }
  return networks;
}
