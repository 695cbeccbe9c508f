import { expect, test } from "bun:test";
import { UsageError } from "../../lib/errors.ts";
import { isExactName, wholeName } from "../../lib/trace/pattern.ts";

test.each<[pattern: string, yes: string[], no: string[]]>([
  ["ip_rcv", ["ip_rcv"], ["ip_rcv_core", "xip_rcv", ""]],
  ["ip_rcv|ip_rcv_core", ["ip_rcv", "ip_rcv_core"], ["ip_rcv_"]],
  ["ip.*?", ["ip", "ip_rcv"], ["xip"]],
  ["", [""], ["a"]],
  ["^ip_rcv$", ["ip_rcv"], ["ip_rcv_core"]],
  ["\\Aip\\z", ["ip"], ["ipx"]],
  ["(?i)IP_rcv|X", ["ip_rcv", "x"], ["y"]],
  ["a(?i)b|c", ["aB", "C"], ["AB"]],
  ["(a(?i)b)c", ["aBc"], ["aBC"]],
  ["(?i-s:A)b", ["ab"], ["aB"]],
  ["(?P<proto>tcp|udp)_v(?<n>[46])_.*", ["tcp_v4_rcv", "udp_v6_x"], ["sctp_v4_rcv"]],
  ["(?:tcp)_\\d+", ["tcp_12"], ["tcp_x"]],
  ["[[:alpha:]]+_[^[:digit:]]", ["ab_c"], ["ab_1", "1_a"]],
  ["[]a]+", ["]a"], ["b"]],
  ["[a\\-z]+", ["a-z"], ["b"]],
  ["\\Qa.b\\E.", ["a.bc"], ["aXbc"]],
  ["\\Qa.b", ["a.b"], ["aXb"]],
  ["a{2}", ["aa"], ["a"]],
  ["a{,2}]}", ["a{,2}]}"], ["aa"]],
  ["a\\_b\\.c", ["a_b.c"], ["a_bxc"]],
  ["\\x61\\x{62}", ["ab"], ["ba"]],
  ["\\pL+\\PL", ["ab1"], ["abc"]],
])("%p", (pattern, yes, no) => {
  const matches = wholeName(pattern);
  for (const name of yes) expect([name, matches.test(name)]).toEqual([name, true]);
  for (const name of no) expect([name, matches.test(name)]).toEqual([name, false]);
});

test.each<[pattern: string, why: string]>([
  ["(", '"(" without ")"'],
  [")", '")" without "("'],
  ["[a", '"[" without "]"'],
  ["*", "nothing to repeat"],
  ["a**", "nothing to repeat"],
  ["a{2,1}", "numbers out of order in {} quantifier"],
  ["[b-a]", "range out of order in character class"],
  ["a\\", "it ends with a backslash"],
  ["\\y", '"\\y" is no escape'],
  ["(a)\\1", "backreferences are not supported"],
  ["a(?=b)", '"(?=" is not supported'],
  ["a(?<!b)", '"(?<!" is not supported'],
  ["(?U)a", "flag U is not supported"],
  ["(?z)a", '"(?z)" is not supported'],
  ["[[:foo:]]", '"[:foo:]" is no character class'],
])("%p is refused: %s", (pattern, why) => {
  expect(() => wholeName(pattern)).toThrow(
    new UsageError(`Cannot read "${pattern}" as a regular expression: ${why}`, "--filter-func"),
  );
});

test("a plain name is exact", () => {
  for (const name of ["ip_rcv", "__netif_rx2"]) expect(isExactName(name)).toBe(true);
  for (const pattern of ["", "ip.rcv", "ip_rcv|x", "2x", "ip*"]) expect(isExactName(pattern)).toBe(false);
});
