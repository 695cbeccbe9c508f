/** Which words a text falls into, and the tables behind them. */
import { describe, expect, test } from "bun:test";
import { parseNumber, type Token, tokenize } from "../../lib/pcap_filter/lexer.ts";
import { keywords, llcTypes, namedConstants, protocols } from "../../lib/pcap_filter/tables.ts";

/** `kind:content` of every token; of keywords only the canonical spelling. */
function describeTokens(source: string): string {
  return tokenize(source).filter((token) => token.kind !== "end").map(describeToken).join(" ");
}

function describeToken(token: Token): string {
  switch (token.kind) {
    case "number":
      return `#${token.value}`;
    case "name":
      return `name:${token.name}`;
    case "mac":
    case "ipv4":
    case "ipv6":
    case "aid":
      return `${token.kind}:${token.text}`;
    case "error":
      return `error:${token.message ?? token.text}`;
    case "end":
      return "end";
    default:
      return token.word;
  }
}

// deno-fmt-ignore
const rows: readonly (readonly [source: string, tokens: string])[] = [
  ["", ""],
  [" \t\r\n", ""],
  ["tcp and udp", "tcp and udp"],
  ["tcp&&udp||!arp", "tcp and udp or not arp"],
  ["ether fddi tr wlan ppp slip link", "link link link link link link link"],
  ["es-is is-is esis isis", "esis isis esis isis"],
  ["address1 direction length on rset rulenum subrulenum lsu", "addr1 dir len ifname ruleset rnr srnr lssu"],
  ["a<b<=c<<d", "name:a < name:b <= name:c << name:d"],
  ["= == != > >= >>", "= = != > >= >>"],
  ["+ - * / % & | ^ : ( ) [ ]", "+ - * / % & | ^ : ( ) [ ]"],
  // identifiers take hyphens, dots and underscores, but do not end in a hyphen or underscore
  ["10-4", "name:10-4"],
  ["10 -4", "#10 - #4"],
  ["len-14", "name:len-14"],
  ["len -14", "len - #14"],
  ["foo-", "name:foo -"],
  ["foo_", "name:foo error:_"],
  ["foo.", "name:foo."],
  ["tcpx tcp.1 TCP", "name:tcpx name:tcp.1 name:TCP"],
  ["tcp[0]", "tcp [ #0 ]"],
  ["12ab 80x", "name:12ab name:80x"],
  ["1.2.3.4.5 5. 1..2", "name:1.2.3.4.5 name:5. name:1..2"],
  ["ftp-data", "name:ftp-data"],
  // quoting
  ["\\tcp", "name:tcp"],
  ["\\ip&&tcp", "name:ip&&tcp"],
  ["\\a(b", "name:a ( name:b"],
  ["\\", "error:\\"],
  ["\\ tcp", "error:\\ tcp"],
  // numbers
  ["0 00 0x0 0XfF 017 4294967295", "#0 #0 #0 #255 #15 #4294967295"],
  ["4294967296", "error:decimal number 4294967296 overflows 32 bits"],
  ["0x100000000", "error:hexadecimal number 0x100000000 overflows 32 bits"],
  ["00040000000000", "error:octal number 00040000000000 overflows 32 bits"],
  ["018", "error:number 018 contains non-octal digit"],
  ["0x", "name:0x"],
  ["tcp-syn tcpflags icmp6-echo", "#2 #13 #128"],
  ["tcp-syn-ack", "name:tcp-syn-ack"],
  // addresses
  ["1.2 1.2.3 1.2.3.4 0x1.02.3", "ipv4:1.2 ipv4:1.2.3 ipv4:1.2.3.4 ipv4:0x1.02.3"],
  ["10.0.0.0/8", "ipv4:10.0.0.0 / #8"],
  ["0:1:2:3:4:5", "mac:0:1:2:3:4:5"],
  ["00-11-22-33-44-55", "mac:00-11-22-33-44-55"],
  ["1.2.3.4.5.6", "mac:1.2.3.4.5.6"],
  ["aabb.ccdd.eeff", "mac:aabb.ccdd.eeff"],
  ["1234.5678.9012", "mac:1234.5678.9012"],
  ["123456789012", "mac:123456789012"],
  ["deadbeefcafe", "mac:deadbeefcafe"],
  ["1234567890123", "error:decimal number 1234567890123 overflows 32 bits"],
  ["0:1:2:3:4", "error:invalid Ethernet address 0:1:2:3: #4"],
  ["0:1", "#0 : #1"],
  ["0:1:2:3:4:5:6:7", "ipv6:0:1:2:3:4:5:6:7"],
  ["1:2:3:4:5:6:7:8:", "error:invalid Ethernet address 1:2:3:4:5:6:7:8:"],
  ["::", "ipv6:::"],
  ["::1 1:: fe80::1 1::8", "ipv6:::1 ipv6:1:: ipv6:fe80::1 ipv6:1::8"],
  ["1:2:3:4:5:6:7::", "ipv6:1:2:3:4:5:6:7::"],
  ["::1.2.3.4 ::ffff:1.2.3.4 1:2:3:4:5:6:1.2.3.4", "ipv6:::1.2.3.4 ipv6:::ffff:1.2.3.4 ipv6:1:2:3:4:5:6:1.2.3.4"],
  ["::1.2.3.256", "error:invalid IPv6 address ::1.2.3.256"],
  ["::01.2.3.4", "error:invalid IPv6 address ::01.2.3.4"],
  ["fe80::1%eth0", "ipv6:fe80::1 % name:eth0"],
  ["$5 $ab $abc", "aid:$5 aid:$ab aid:$ab name:c"],
  // what is nothing
  ["~", "error:~"],
  ["'tcp'", "error:' tcp error:'"],
  ["\u0000", "error:\u0000"],
  ["tcp\u00a0udp", "tcp error:\u00a0 udp"],
];

test.each([...rows])("%j", (source, tokens) => {
  expect(describeTokens(source)).toBe(tokens);
});

describe("tables", () => {
  test.each([...keywords])("keyword %s", (spelling, { word }) => {
    expect(describeTokens(spelling)).toBe(word);
    expect(keywords.get(word)?.word).toBe(word);
    if (/^[a-z]/.test(spelling)) expect(describeTokens(`\\${spelling}`)).toBe(`name:${spelling}`);
  });

  test.each([...namedConstants])("constant %s", (name, value) => {
    expect(describeTokens(name)).toBe(`#${value}`);
  });

  test("a constant is no keyword, an LLC type no reserved word but rnr", () => {
    expect([...namedConstants.keys()].filter((name) => keywords.has(name))).toEqual([]);
    expect([...llcTypes.keys()].filter((name) => keywords.has(name))).toEqual(["rnr"]);
    expect(Object.keys(protocols).filter((name) => !keywords.has(name))).toEqual([]);
  });
});

test("numbers", () => {
  expect(["10", "010", "0x10", "0"].map(parseNumber)).toEqual([10, 8, 16, 0]);
});

test("tokens cover the text in order and have no blanks", () => {
  for (const [source] of rows) {
    let end = 0;
    for (const token of tokenize(source)) {
      expect(source.slice(end, token.offset).trim()).toBe("");
      expect(source.slice(token.offset, token.offset + token.length)).toBe(token.text);
      end = token.offset + token.length;
    }
    expect(end).toBe(source.length);
  }
});
