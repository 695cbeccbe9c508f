/** How expressions group, and what happens to text that is no expression. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FilterSyntaxError } from "../../lib/errors.ts";
import type { Scope, TestNode, ValueNode } from "../../lib/pcap_filter/ast.ts";
import { compileFilter, hostNames } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { parseFilter } from "../../lib/pcap_filter/parser.ts";
import { keywords, namedConstants } from "../../lib/pcap_filter/tables.ts";
import { Random, randomExpression } from "./generate.ts";

setDefaultTimeout(120_000); // busy machines

/** The tree with all parentheses; ids with the qualifiers that they got. */
function show(node: TestNode): string {
  switch (node.kind) {
    case "and":
    case "or":
      return `(${show(node.left)} ${node.kind} ${show(node.right)})`;
    case "not":
      return `not ${show(node.operand)}`;
    case "name":
      return `${qualifiers(node.scope)} ${node.name}`;
    case "number":
      return `${qualifiers(node.scope)} ${node.value}`;
    case "ipv4":
    case "ipv6":
      return `${qualifiers(node.scope)} ${node.text}${node.prefix === undefined ? "" : `/${node.prefix}`}`;
    case "mac":
      return `${qualifiers(node.scope)} ${node.text}`;
    case "relation":
      return `(${showValue(node.left)} ${node.relation} ${showValue(node.right)})`;
    case "abbreviation":
      return node.protocol;
    case "encapsulation":
      return node.number === undefined ? node.keyword : `${node.keyword} ${node.number}`;
    default:
      return node.kind;
  }
}

function showValue(node: ValueNode): string {
  switch (node.kind) {
    case "constant":
      return String(node.value);
    case "length":
      return "len";
    case "negate":
      return `-${showValue(node.operand)}`;
    case "binary":
      return `(${showValue(node.left)} ${node.operator} ${showValue(node.right)})`;
    case "load":
      return `${node.protocol}[${showValue(node.index)}:${node.size}]`;
  }
}

function qualifiers(scope: Scope): string {
  if (scope === undefined) return "?";
  return [scope.protocol, scope.direction, scope.type].filter((word) => word !== undefined).join(" ");
}

// deno-fmt-ignore
const rows: readonly (readonly [source: string, tree: string])[] = [
  ["tcp and udp or arp and ip", "(((tcp and udp) or arp) and ip)"],
  ["tcp and (udp or arp) and ip", "((tcp and (udp or arp)) and ip)"],
  ["not tcp and udp", "(not tcp and udp)"],
  ["not (tcp and udp)", "not (tcp and udp)"],
  ["not not tcp", "not not tcp"],
  ["not ip[0] = 1", "not (ip[0:1] = 1)"],
  ["tcp or udp port 53", "(tcp or udp port 53)"],
  // inheritance
  ["host a or b", "(host a or host b)"],
  ["src host a and b and not c", "((src host a and src host b) and not src host c)"],
  ["not host a and b", "(not host a and host b)"],
  ["tcp port 80 or 443 or 8080", "((tcp port 80 or tcp port 443) or tcp port 8080)"],
  ["port 80 or host a or b", "((port 80 or host a) or host b)"],
  ["src net 10 or 192.168", "(src net 10 or src net 192.168)"],
  ["net 10.0.0.0/8 or 192.168.0.0/16", "(net 10.0.0.0/8 or net 192.168.0.0/16)"],
  ["src 10.0.0.1 or fe80::1", "(src 10.0.0.1 or src fe80::1)"],
  ["src or dst port 80 and 443", "(src or dst port 80 and src or dst port 443)"],
  ["ether src 0:1:2:3:4:5 or 1:1:1:1:1:1", "(link src 0:1:2:3:4:5 or link src 1:1:1:1:1:1)"],
  ["host a and (tcp port 80) or b", "((host a and tcp port 80) or host b)"],
  ["(tcp port 80) or 443", "(tcp port 80 or ? 443)"],
  ["tcp or 80", "(tcp or ? 80)"],
  ["vlan 5 or 6", "(vlan 5 or ? 6)"],
  ["portrange 1-10 or 20", "(portrange 1-10 or portrange 20)"],
  // lists
  ["port (80 or 443)", "(port 80 or port 443)"],
  ["tcp port (80 or 443) or 22", "((tcp port 80 or tcp port 443) or tcp port 22)"],
  ["port ((80) or 443)", "(port 80 or port 443)"],
  ["port (80 or (443 or 22))", "(port 80 or (port 443 or port 22))"],
  ["port ((80))", "port 80"],
  ["host (not (a or b) or c)", "(not (host a or host b) or host c)"],
  ["host a or (b and c)", "(host a or (host b and host c))"],
  ["host a or (b and (c or d)) and e", "((host a or (host b and (host c or host d))) and host e)"],
  ["tcp port 80 or (udp port 53 or 443)", "(tcp port 80 or (udp port 53 or udp port 443))"],
  ["port 80 or (443)", "(port 80 or port 443)"],
  ["port 80 or not (443)", "(port 80 or not port 443)"],
  // a number after and/or: id or operand
  ["port 80 or 443 = 443", "(port 80 or (443 = 443))"],
  ["port 80 or (443) = 443", "(port 80 or (443 = 443))"],
  ["port 80 or (443 + 1) = 444", "(port 80 or ((443 + 1) = 444))"],
  ["port 80 or (443 = 443)", "(port 80 or (443 = 443))"],
  ["port 80 or ((443) = 443)", "(port 80 or (443 = 443))"],
  ["port 80 or ((443 = 443) and 22)", "(port 80 or ((443 = 443) and port 22))"],
  ["tcp port 80 or tcp-syn", "(tcp port 80 or tcp port 2)"],
  ["(1) = 1", "(1 = 1)"],
  ["((tcp[0])) = ((1))", "(tcp[0:1] = 1)"],
  // arithmetic
  ["1 + 2 * 3 = 7", "((1 + (2 * 3)) = 7)"],
  ["1 * 2 + 3 = 5", "(((1 * 2) + 3) = 5)"],
  ["1 - 2 - 3 = 5", "(((1 - 2) - 3) = 5)"],
  ["1 | 2 & 3 << 4 + 5 = 1", "((1 | (2 & (3 << (4 + 5)))) = 1)"],
  ["1 << 2 >> 3 = 1", "(((1 << 2) >> 3) = 1)"],
  ["tcp[13] & 2 != 0", "((tcp[13:1] & 2) != 0)"],
  ["- 1 + 2 = 1", "((-1 + 2) = 1)"],
  ["- - 1 = 1", "(--1 = 1)"],
  ["10 % 4 * 3 = 10", "((10 % (4 * 3)) = 10)"],
  ["2 * 3 % 4 = 6", "((2 * (3 % 4)) = 6)"],
  ["100 % 7 % 4 = 1", "((100 % (7 % 4)) = 1)"],
  ["6 & 5 ^ 1 = 4", "((6 & (5 ^ 1)) = 4)"],
  ["1 ^ 1 | 6 = 6", "((1 ^ (1 | 6)) = 6)"],
  ["- 5 % 3 = 1", "(-(5 % 3) = 1)"],
  ["ip[ip[0] & 15:2] > len - 14", "(ip[(ip[0:1] & 15):2] > (len - 14))"],
];

test.each([...rows])("%s", (source, tree) => {
  const { root, error } = parseFilter(source);
  expect(error).toBeUndefined();
  expect(show(root!)).toBe(tree);
});

test("nodes are complete before those that contain them", () => {
  const random = new Random(7);
  for (let count = 0; count < 300; count++) {
    const { nodes, root } = parseFilter(randomExpression(random, 5));
    const done = new Set<object>();
    for (const node of nodes) {
      const parts = "left" in node
        ? [node.left, node.right]
        : "operand" in node && typeof node.operand === "object"
        ? [node.operand]
        : "index" in node && typeof node.index === "object"
        ? [node.index]
        : [];
      for (const part of parts) expect(done.has(part)).toBe(true);
      done.add(node);
    }
    expect(nodes.at(-1)).toBe(root!);
  }
});

test("hosts that an expression asks for", () => {
  expect(hostNames("host a or b and src c and not ip6 host d")).toEqual(["a", "b", "c", "d"]);
  expect(hostNames("ether host a or port b or net c or host 10.0.0.1 or proto \\tcp")).toEqual([]);
  expect(hostNames("host a and host a and (")).toEqual(["a"]);
  expect(hostNames("gateway a")).toEqual(["a"]);
});

describe("whatever comes in", () => {
  /** Accepted, or refused with a place inside the text; nothing else may happen. */
  function survives(source: string): void {
    for (const linkType of ["EN10MB", "RAW"] as const) {
      try {
        compileFilter(source, { linkType, names: noNames });
      } catch (error) {
        if (!(error instanceof FilterSyntaxError)) throw new Error(`"${source}"`, { cause: error });
        expect(error.offset).toBeGreaterThanOrEqual(0);
        expect(error.offset + error.length).toBeLessThanOrEqual(source.length);
        expect(error.message).not.toBe("");
      }
    }
  }

  test("random characters", () => {
    const random = new Random(1);
    for (let count = 0; count < 2000; count++) {
      const bytes = Array.from(
        { length: random.below(40) },
        () => random.below(random.pick([128, 256, 65536])),
      );
      survives(String.fromCharCode(...bytes));
    }
  });

  test("random words of the language", () => {
    const words = [...keywords.keys(), ...namedConstants.keys()];
    words.push(
      "80",
      "10.0.0.1",
      "10.0.0.0/8",
      "fe80::/10",
      "0:1:2:3:4:5",
      "1-5",
      "foo",
      "$1",
      "0x",
      "\\tcp",
      "(",
      ")",
    );
    const random = new Random(2);
    for (let count = 0; count < 3000; count++) {
      survives(Array.from({ length: 1 + random.below(12) }, () => random.pick(words)).join(" "));
    }
  });

  test("expressions cut off or with a character changed", () => {
    const random = new Random(3);
    for (let count = 0; count < 1000; count++) {
      const source = randomExpression(random, 3);
      const at = random.below(source.length + 1);
      survives(source.slice(0, at));
      survives(source.slice(at));
      survives(source.slice(0, at) + String.fromCharCode(random.below(128)) + source.slice(at + 1));
    }
  });

  test("ten thousand tokens", () => {
    const repeated = (word: string, between: string, count: number) =>
      Array.from({ length: count }, () => word).join(between);
    for (
      const source of [
        repeated("tcp", " or ", 5000),
        repeated("80", " or ", 5000).replace("80", "port 80"),
        repeated("ip[0] = 1", " and ", 1500),
        `${repeated("1", "+ ", 5000)} = 1`,
        `${repeated("1", " ^ ", 5000)} = 1`,
        repeated("tcp", " ", 10_000),
        repeated("(", "", 30_000),
        repeated("[", "", 30_000),
        `host ${repeated("a", "-", 30_000)}`,
        `host ${repeated("1", ":", 30_000)}`,
        `host ${"1".repeat(60_000)}`,
        `host ::${"1".repeat(60_000)}`,
        `ip[0] = 0${"7".repeat(60_000)}`,
      ]
    ) {
      survives(source);
    }
  });
});
