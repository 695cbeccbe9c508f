import { expect, test } from "bun:test";
import { parseNamePattern } from "../../lib/cli/re2.ts";

test.each<[pattern: string, yes: string[], no: string[]]>([
  ["ip_rcv", ["ip_rcv"], ["ip_rcv_core", "xip_rcv"]],
  ["ip_rcv|ip_rcv_core", ["ip_rcv", "ip_rcv_core"], ["ip_rcv_cor"]],
  [".*tcp.*", ["tcp_v4_rcv", "mptcp"], ["udp_rcv"]],
  ["(?i)TCP_.+", ["tcp_v4_rcv"], ["tcp_"]],
  ["\\Atcp\\z", ["tcp"], ["tcp6"]],
  ["(?P<proto>tcp|udp)_rcv", ["udp_rcv"], ["icmp_rcv"]],
  ["[[:alpha:]]+[[:digit:]_]*", ["nf4_2"], ["4nf"]],
  ["[^[:alpha:]]+", ["42_"], ["a"]],
  ["[]a]+", ["]a]"], ["b"]],
  ["[^]a]+", ["b"], ["]"]],
  ["\\Qa.b\\E.", ["a.bc"], ["axbc"]],
  ["\\Qa+", ["a+"], ["aa"]],
  ["\\x{74}cp", ["tcp"], ["xcp"]],
  ["a[[]b", ["a[b"], ["ab"]],
  ["a\\]b", ["a]b"], ["ab"]],
])("%s", (pattern, yes, no) => {
  const expression = parseNamePattern(pattern)!;
  for (const name of yes) expect(name).toMatch(expression);
  for (const name of no) expect(name).not.toMatch(expression);
});

test("an empty pattern is no restriction", () => {
  expect(parseNamePattern("")).toBeUndefined();
});
