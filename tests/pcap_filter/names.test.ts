/** Names from files in the formats of /etc, from the tables without them, and from a resolver that may be slow. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCbpf } from "../../asm/cbpf_run.ts";
import { compileFilter } from "../../lib/pcap_filter/compile.ts";
import { fileNames, resolvedNames } from "../../lib/pcap_filter/names_files.ts";
import { frames } from "./packets.ts";

const directory = mkdtempSync(join(tmpdir(), "names-"));
const empty = join(directory, "empty");
afterAll(() => rmSync(directory, { recursive: true }));
const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
write(
  "services",
  "# a comment\n\nweb\t80/tcp\thttp www # more\nweb 80/udp\nodd 1/tcp\nodd 2/udp\nodd 3/tcp\nbroken\nx 5/sctp\n",
);
write("protocols", "tcp 6 TCP\nudp\t17\tUDP\nbroken\n");
write("hosts", "127.0.0.1 localhost Host.Example\n::1 localhost\nfe80::1%eth0 zoned\nnonsense name\n");
write("ethers", "0:11:22:33:44:55 router\n# 1:1:1:1:1:1 gone\n11-22 broken\n");
write("networks", "loopback 127.0.0.0 lo\nlab 10.1\nzero 0.0.0.0\nbad 300\n");

describe("files", () => {
  const names = fileNames({ directory });
  test("services, with aliases and both transports", () => {
    expect(["web", "http", "www"].map(names.service)).toEqual([{ tcp: 80, udp: 80 }, { tcp: 80 }, {
      tcp: 80,
    }]);
    expect(names.service("odd")).toEqual({ tcp: 1, udp: 2 });
    expect(["WEB", "broken", "x", "ssh", "constructor"].map(names.service)).toEqual(Array(5).fill(undefined));
  });
  test("protocols", () => {
    expect(["tcp", "TCP", "udp", "Tcp", "broken"].map(names.protocol)).toEqual([
      6,
      6,
      17,
      undefined,
      undefined,
    ]);
  });
  test("hosts, in any case, without zones", () => {
    expect(names.host("LOCALHOST")).toEqual(["127.0.0.1", "::1"]);
    expect(names.host("host.example")).toEqual(["127.0.0.1"]);
    expect(names.host("zoned")).toEqual(["fe80::1"]);
    expect(names.host("name")).toBeUndefined();
  });
  test("ethers and networks", () => {
    expect(["router", "gone", "broken"].map(names.ethers)).toEqual([
      "0:11:22:33:44:55",
      undefined,
      undefined,
    ]);
    expect(["loopback", "lo", "lab", "bad"].map(names.network)).toEqual([
      0x7f000000,
      0x7f000000,
      0x0a010000,
      undefined,
    ]);
  });
  test("what they give to expressions", () => {
    const matches = (source: string) =>
      runCbpf(compileFilter(source, { linkType: "EN10MB", names }).insns, Uint8Array.from(frames.syn)) > 0;
    expect(["port web", "tcp port www", "ip proto TCP", "ether host router", "host localhost"].map(matches))
      .toEqual([true, true, true, true, false]);
    expect(() => matches("net zero")).toThrow("unknown network 'zero'");
    expect(() => matches("udp port www")).toThrow("port 'www' is tcp");
  });
});

describe("without files", () => {
  const names = fileNames({ directory: empty });
  test("services and protocols come from tables", () => {
    expect(names.service("https")).toEqual({ tcp: 443, udp: 443 });
    expect(names.service("www")).toEqual({ tcp: 80 });
    expect(names.service("syslog")).toEqual({ tcp: 514, udp: 514 });
    expect(["icmp", "OSPFIGP", "ipv6-frag"].map(names.protocol)).toEqual([1, 89, 44]);
  });
  test("everything else is unknown", () => {
    expect([names.host("localhost"), names.ethers("router"), names.network("loopback")]).toEqual(
      Array(3).fill(undefined),
    );
  });

  const corpus = join(
    process.env["PCAP_CORPUS"] ?? join(import.meta.dir, "../../../shared/pcap-corpus"),
    "names.json",
  );
  test.skipIf(!existsSync(corpus))("the tables have all names of the reference corpus", () => {
    const wanted = JSON.parse(readFileSync(corpus, "utf8")) as {
      services: Record<string, object>;
      protocols: Record<string, number>;
    };
    for (const [name, ports] of Object.entries(wanted.services)) {
      expect([name, names.service(name)]).toEqual([name, ports]);
    }
    for (const [name, number] of Object.entries(wanted.protocols)) {
      expect([name, names.protocol(name)]).toEqual([name, number]);
    }
  });
});

describe("resolver", () => {
  const asked: string[] = [];
  const answer = (addresses: Record<string, readonly string[]>) => (name: string) => {
    asked.push(name);
    const found = addresses[name];
    return found === undefined ? Promise.reject(new Error("ENOTFOUND")) : Promise.resolve(found);
  };

  test("is asked for hosts that no file knows, and for nothing else", async () => {
    const resolve = answer({ far: ["10.0.0.1", "fe80::1", "nonsense"] });
    const names = await resolvedNames("host far or localhost or lost or ether host near", {
      directory,
      resolve,
    });
    expect(asked.splice(0)).toEqual(["far", "lost"]);
    expect(names.host("far")).toEqual(["10.0.0.1", "fe80::1"]);
    expect(names.host("localhost")).toEqual(["127.0.0.1", "::1"]);
    expect(names.host("lost")).toBeUndefined();
    await resolvedNames("tcp port 80 and host 10.0.0.1", { directory, resolve });
    expect(asked).toEqual([]);
  });

  test("has a time limit, and does not answer after it", async () => {
    let late = (_: readonly string[]): void => {};
    const resolve = (name: string) =>
      name === "quick"
        ? Promise.resolve(["10.0.0.9"])
        : new Promise<readonly string[]>((done) => late = done);
    const start = performance.now();
    const names = await resolvedNames("host slow or quick", { directory, resolve, timeoutMs: 30 });
    expect(performance.now() - start).toBeLessThan(2000);
    expect([names.host("quick"), names.host("slow")]).toEqual([["10.0.0.9"], undefined]);
    late(["10.0.0.1"]);
    await Promise.resolve();
    expect(names.host("slow")).toBeUndefined();
  });
});
