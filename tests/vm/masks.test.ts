import { expect, test } from "bun:test";
import { maskedJson, maskedText } from "./masks.ts";

const header =
  "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC";
const line =
  "0xffff8880052a4e00 11  ~/bin/curl:12345 4026531840 a5           eth0:12      0x0800 1500  60    " +
  "10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output";

test("a mask hides what differs from run to run, and keeps the columns", () => {
  const other = line.replaceAll("0xffff8880052a4e00 11 ", "0xffff8880052a4f00 1  ").replace(
    "curl:12345",
    "curl:12399",
  )
    .replace("4026531840", "4026532165").replace("  eth0:12      ", "   eth0:2      ");
  const masked = maskedText([header, line, ""].join("\n"));
  expect(masked).toBe([
    header,
    "0xxxxxxxxxxxxxxxxx C   ~/bin/curl:PID   NETNS1     a5            eth0:N      0x0800 1500  60    " +
    "10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
    "",
  ].join("\n"));
  expect(maskedText([header, other].join("\n"))).toBe(masked);
});

test.each([
  ["a short address", line.replace("0xffff8880052a4e00", "0xf888             ")],
  ["a cell that is not at its place", line.replace(" 4026531840", "4026531840 ")],
  ["an interface that is not centred", line.replace("  eth0:12 ", " eth0:12  ")],
])("refuses %s", (_name, text) => {
  expect(() => maskedText(`${header}\n${text}\n`)).toThrow("Cannot mask the cell");
});

test("structs without what is left in their memory", () => {
  const dump = [
    "(struct sk_buff){",
    " (union){",
    "  .dev = (struct net_device *)0xffff888100cda000,",
    "  .dev_scratch = (long unsigned int)18446612682083377152,",
    " },",
    " .cb = (char[])[",
    "  1,",
    " ],",
    " .len = (unsigned int)14,",
    " (union){",
    "  .hash = (__u32)2875134331,",
    "  .alloc_cpu = (u16)1,",
    " },",
    "}",
    "",
    "(struct skb_shared_info){",
    " .gso_size = (short unsigned int)1448,",
    " .dataref = (atomic_t){",
    "  .counter = (int)1,",
    " },",
    " .destructor_arg = (void *)0xffff888100cda000,",
    " .frags = (skb_frag_t[])[",
    "  (skb_frag_t){",
    "  },",
    " ],",
    "}",
    "",
  ];
  expect(maskedText([header, line, ...dump].join("\n")).split("\n").slice(2)).toEqual([
    "(struct sk_buff){",
    " (union){",
    "  .dev = (struct net_device *)0xxxxxxxxxxxxxxxxx,",
    "  .dev_scratch = (long unsigned int)N,",
    " },",
    " .len = (unsigned int)14,",
    " (union){",
    "  .hash = (__u32)N,",
    " },",
    "}",
    "",
    "(struct skb_shared_info){",
    " .gso_size = (short unsigned int)1448,",
    " .dataref = (atomic_t){",
    "  .counter = (int)1,",
    " },",
    "}",
    "",
  ]);
});

test("JSON keeps the order of fields, and what is zero", () => {
  expect(
    maskedJson([{
      skb: "0xffff8880052a4e00",
      cpu: 0,
      mark: 0,
      iface: "eth0:2",
      netns: 4026531840,
      stack: ["a+0x1"],
    }]),
  )
    .toBe(`{
  "skb": "0x${"x".repeat(16)}",
  "cpu": CPU,
  "mark": 0,
  "iface": "eth0:N",
  "netns": NETNS1,
  "stack": [
    a+0xN
  ]
}
`);
});
