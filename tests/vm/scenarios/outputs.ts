/**
 * What is printed of each event beyond its line, by real probes: who called, the stack, the packet's structs, its
 * control block, values of expressions. All in one start per backend: they have to agree with each other.
 */
import { expect } from "bun:test";
import { arm64Kernels, hasFprobe } from "../images.ts";
import { type Run, type Scenario } from "../scenario.ts";

const everything = "--output-caller --output-stack --output-skb --output-skb-shared-info --output-skb-cb " +
  "--output-skb-metadata 'skb->len,skb->protocol' --output-skb-metadata 'skb->dev->nd_net.net->ns.inum'";
/** Some take the packet as their first argument, some as their third. */
const functions = "ip_(rcv|forward|output|finish_output2)|dev_queue_xmit|__dev_queue_xmit|icmp_rcv";
const backends = ["kprobe-multi", "kprobe"] as const;

const backendsOf = ({ kernel }: Run) => hasFprobe(kernel) ? backends : ["kprobe"] as const;

/** What is below a line: the stack, and a text for each struct. */
function partsOf(below: readonly string[]): { stack: string[]; skb: string; sharedInfo: string } {
  const text = below.join("\n"), [stack = "", dumps = ""] = text.split("(struct sk_buff){\n");
  const [skb = "", sharedInfo = ""] = dumps.split("\n(struct skb_shared_info){\n");
  return { stack: stack.trimEnd().split("\n"), skb, sharedInfo };
}

export const outputs: Scenario = {
  name: "outputs",
  kernels: ["6.12"],
  longKernels: ["5.10", ...arm64Kernels],
  limitSeconds: 300,
  script: `
    topo 1500
    traffic() { echo_request dns 10.9.1.2; }
    for backend in ${backends.join(" ")}; do
      [ $backend = kprobe ] || grep -q ' register_fprobe_ips$' /proc/kallsyms || continue
      start $backend --backend $backend ${everything} --filter-func '${functions}' icmp
      traffic; settle $backend; stop $backend
    done
    start json --output-json ${everything} --filter-func ip_output icmp
    traffic; settle json; stop json
    untopo
  `,
  checks: {},
  oursOnly: {
    "all of an event agrees, with each backend"(run) {
      for (const backend of backendsOf(run)) {
        expect(run.facts(backend)).toMatchObject({ ready: true, gone: true, status: 0 });
        const lines = run.lines(`${backend}.out`);
        expect(lines.length).toBeGreaterThan(8);
        let whole = 0;
        for (const { func, caller, len, netns, below } of lines) {
          const { stack, skb, sharedInfo } = partsOf(below);
          // Linux 5.10 loses its way in some functions, and shows those alone.
          const known = stack.length > 1 || run.kernel !== "5.10" ? caller : undefined;
          expect({ backend, func: stack[0], caller: stack[1] }).toEqual({ backend, func, caller: known });
          if (known !== undefined) whole++;
          expect(skb).toContain(`\n .len = (unsigned int)${len},\n`);
          expect(sharedInfo).toMatch(/^ \.dataref = \(atomic_t\)\{$/m);
          expect(netns).toBeGreaterThan(0);
        }
        expect(whole).toBeGreaterThan(lines.length / 2);
        const callers = new Map(lines.map(({ func, caller }) => [func, caller]));
        expect(callers.get("ip_rcv")).toMatch(
          /^(__netif_receive_skb_one_core|__netif_receive_skb_list_core)/,
        );
        expect(callers.get("icmp_rcv")).toMatch(/^ip_protocol_deliver_rcu/);
        const text = run.text(`${backend}.out`);
        const values = [
          ...text.matchAll(
            / (\d+) +\[0x[0-9A-F]{8}(?:,0x[0-9A-F]{8}){4}\] .* len=(\d+) protocol=(\d+) inum=(\S+)$/gm,
          ),
        ];
        expect(values.length).toBe(lines.length);
        for (const [, length, value, protocol, inum] of values) {
          expect([value, protocol]).toEqual([length!, "2048"]);
          expect(inum).toMatch(/^(402653\d{4}|-)$/);
        }
      }
    },
    "the same as JSON"(run) {
      const events = run.text("json.out").trimEnd().split("\n").map((line) => JSON.parse(line));
      expect(events.pop()).toMatchObject({ type: "end", shown: events.length, lost: 0 });
      expect(events.length).toBeGreaterThan(1);
      for (const { func, caller_func, stack, len, cb, sk_buff, skb_shared_info, skb_metadata } of events) {
        expect(func).toBe("ip_output");
        expect(stack[0]).toMatch(/^ip_output\+0x/);
        expect(stack[1].split("+")[0]).toBe(caller_func);
        expect(cb).toHaveLength(5);
        expect(sk_buff).toContain(`\n .len = (unsigned int)${len},\n`);
        expect(skb_shared_info).toStartWith("(struct skb_shared_info){\n");
        expect(skb_metadata).toMatchObject({ "skb->len": len, "skb->protocol": 2048 });
      }
    },
  },
};
