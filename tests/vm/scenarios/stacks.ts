/** What runs beneath a packet's functions is shown as part of its story, by where it lies on the stack. */
import { expect } from "bun:test";
import { arm64Kernels } from "../images.ts";
import type { Scenario } from "../scenario.ts";

export const stacks: Scenario = {
  name: "stacks",
  kernels: ["6.12"],
  longKernels: arm64Kernels,
  limitSeconds: 120,
  script: `
    topo 1500
    start stack --filter-func 'ip_output|ip_route_input_noref|ip_forward|__icmp_send' \\
      --filter-non-skb-funcs fib_table_lookup 'udp and dst port 4097'
    say dns UDP4:10.9.1.2:4098
    say dns UDP4:10.9.1.2:4097
    say dns UDP4:10.9.1.2:4098
    settle stack
    stop stack
    untopo
  `,
  checks: {},
  oursOnly: {
    "routing beneath the packet's functions, and the answer to it, not those of others"(run) {
      const lines = run.lines("stack.out");
      const story = lines.map((line) => `${line.func} ${line.tuple?.replace(/:\d+->/, "->")}`)
        .filter((text, index, all) => text !== all[index - 1]);
      const packet = "10.9.2.2->10.9.1.2:4097(udp)";
      expect(story).toEqual([
        `ip_output ${packet}`,
        `ip_route_input_noref ${packet}`,
        `fib_table_lookup ${packet}`,
        `ip_forward ${packet}`,
        `ip_output ${packet}`,
        `ip_route_input_noref ${packet}`,
        `fib_table_lookup ${packet}`,
        `__icmp_send ${packet}`,
        `fib_table_lookup ${packet}`,
        "ip_output 10.9.1.2->10.9.2.2:0(icmp)",
      ]);
    },
  },
};
