/** The tracer on this very kernel, by tracepoints: what they show, and that nothing gets lost unsaid. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { TraceLine } from "../vm/lines.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { ourPrograms, sh, traceWhile, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000); // a busy machine is no failure

/** Sends `count` datagrams of `bytes` bytes as fast as it can. */
function flood(address: string, port: number, count: number, bytes: number): string {
  return `const s = await Bun.udpSocket({}); const d = new Uint8Array(${bytes});
    for (let i = 0; i < ${count}; i++) { try { while (!s.send(d, ${port}, "${address}")) await Bun.sleep(0); } catch { /* nobody listens */ } } s.close();`;
}

describe.skipIf(!isRoot || !isAtLeast(5, 8))("tracepoint backend (needs root, Linux 5.8)", () => {
  test("a ping over veth, in both namespaces", async () => {
    using pair = new VethPair("ping");
    sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`); // resolves the neighbour
    const { lines, stderr, status } = await traceWhile(
      ["--backend", "tracepoint", "icmp and host 10.77.0.2"],
      () => void sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`),
    );
    expect(status).toBe(0);
    const first = lines.find(({ func }) => func === "net_dev_queue");
    const request = lines.slice(lines.indexOf(first as TraceLine)).filter(({ skb }) => skb === first?.skb);
    expect(first?.tuple).toBe("10.77.0.1:0->10.77.0.2:0(icmp)");
    const sender = pair.inode(pair.a), receiver = pair.inode(pair.b);
    const path = request.map(({ func, netns }) => [func, netns]);
    expect(path.slice(0, 5)).toEqual([
      ["net_dev_queue", sender],
      ["net_dev_start_xmit", sender],
      ["netif_rx_entry", receiver],
      ["netif_rx", receiver],
      ["netif_receive_skb", receiver],
    ]);
    expect(request.map(({ len }) => len).slice(0, 5)).toEqual([98, 98, 84, 84, 84]);
    expect(request.every(({ iface }) => iface === "eth0" || iface === "")).toBe(true);
    const reply = lines.filter(({ tuple }) => tuple === "10.77.0.2:0->10.77.0.1:0(icmp)");
    expect(new Set(reply.map(({ netns }) => netns))).toContain(sender);
    expect(stderr).toMatch(/Attached to (\d+) of \1 tracepoints, showed \d+ events, lost none\n$/);
  });

  test("a datagram for a closed port is dropped with its reason and place", async () => {
    using pair = new VethPair("drop");
    const { lines } = await traceWhile(
      ["--backend", "tracepoint", "udp and dst port 4077"],
      () => void sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.77.0.2/4077'`),
    );
    const drops = lines.filter(({ reason }) => reason !== undefined);
    expect(drops.map(({ func, reason, netns }) => ({ func, reason, netns }))).toEqual([
      { func: "kfree_skb", reason: "NO_SOCKET", netns: pair.inode(pair.b) },
    ]);
    expect(lines.at(-1)).toBe(drops[0] as typeof lines[number]);
    expect(lines.every(({ tuple }) => /^10\.77\.0\.1:\d+->10\.77\.0\.2:4077\(udp\)$/.test(tuple ?? ""))).toBe(
      true,
    );
  });

  test("--output-stack: the functions down to the system call that sent it", async () => {
    const { lines, status } = await traceWhile(
      [
        "--backend",
        "tracepoint",
        "--output-stack",
        "--filter-func",
        "net_dev_queue|kfree_skb",
        "udp and dst port 4090",
      ],
      () => void sh("echo hello > /dev/udp/127.0.0.1/4090"),
    );
    expect(status).toBe(0);
    const [sent, dropped] = lines;
    expect(lines.map(({ func }) => func)).toEqual(["net_dev_queue", "kfree_skb"]);
    expect(sent?.below[0]).toBe("__dev_queue_xmit");
    const path = ["ip_output", "udp_sendmsg", "ksys_write"].map((name) => sent?.below.indexOf(name) ?? -1);
    expect(path.toSorted((a, b) => a - b)).toEqual(path);
    expect(path[0]).toBeGreaterThan(0);
    expect(dropped?.below[0]).toMatch(/skb_reason_drop|kfree_skb/);
    expect(dropped?.below[1]).toMatch(/^_*udp/);
  });

  test("--output-skb and --output-skb-shared-info agree with the columns of the same line", async () => {
    using pair = new VethPair("dump");
    const { lines, status } = await traceWhile(
      ["--backend", "tracepoint", "--output-skb", "--output-skb-shared-info", "icmp and host 10.77.0.2"],
      () => void sh(`ip netns exec ${pair.a} ping -c1 -W2 -m 42 10.77.0.2`),
    );
    expect(status).toBe(0);
    expect(lines.length).toBeGreaterThan(10);
    for (const { len, mark, ifindex, below } of lines) {
      const text = below.join("\n");
      expect(below[0]).toBe("(struct sk_buff){");
      expect(below).toContain(` .len = (unsigned int)${len},`);
      expect(text.includes(`.mark = (__u32)${mark},`)).toBe(mark !== 0);
      expect(/\.dev = \(struct net_device \*\)0xffff[0-9a-f]{12},/.test(text)).toBe(ifindex !== 0);
      expect(text).toMatch(/\n \.head = \(unsigned char \*\)0xffff[0-9a-f]{12},\n/);
      expect(text).toMatch(/\n}\n\n\(struct skb_shared_info\){\n( .*\n)*}/);
      expect(text).toMatch(/\n \.dataref = \(atomic_t\){\n {2}\.counter = \(int\)[1-9]/);
    }
    expect(new Set(lines.map(({ mark }) => mark)).has(42)).toBe(true);
  });

  test("--output-tunnel: the inner packet while it is inside, and nothing in packets that are in no tunnel", async () => {
    using pair = new VethPair("tunnel");
    pair.addVxlan();
    const { lines, status } = await traceWhile(
      ["--backend", "tracepoint", "--output-tunnel", "udp port 4789 or icmp"],
      () => void sh(`ip netns exec ${pair.a} bash -c 'ping -c1 -W2 10.78.0.2; ping -c1 -W2 10.77.0.2'`),
    );
    expect(status).toBe(0);
    const of = (tuple: RegExp, func: string) =>
      lines.filter((line) => tuple.test(line.tuple ?? "") && line.func === func)
        .map(({ tunnel }) => tunnel).filter((tunnel) => !tunnel?.includes("icmp6")); // devices that come up
    // The neighbour's question and answer go through the tunnel as well, and are no IP.
    const outer = of(/^10\.77\.0\.1:\d+->10\.77\.0\.2:4789\(udp\)$/, "net_dev_start_xmit");
    expect(new Set(outer)).toEqual(new Set([":0->:0()", "10.78.0.1:0->10.78.0.2:0(icmp)"]));
    const back = of(/^10\.77\.0\.2:\d+->10\.77\.0\.1:4789\(udp\)$/, "net_dev_start_xmit");
    expect(back).toContain("10.78.0.2:0->10.78.0.1:0(icmp)");
    for (const host of ["10.78.0", "10.77.0"]) {
      const plain = lines.filter(({ tuple }) => tuple === `${host}.1:0->${host}.2:0(icmp)`);
      expect(plain.length).toBeGreaterThan(4);
      expect(new Set(plain.map(({ tunnel }) => tunnel))).toEqual(new Set([":0->:0()"]));
    }
  });

  test("--filter-func chooses among tracepoints", async () => {
    const { lines, stderr } = await traceWhile(
      ["--backend", "tracepoint", "--filter-func", "net_dev_.*", "icmp"],
      () => void sh("ping -c1 127.0.0.1"),
    );
    expect(new Set(lines.map(({ func }) => func))).toEqual(new Set(["net_dev_queue", "net_dev_start_xmit"]));
    expect(stderr).toContain("Attached to 2 of 2 tracepoints");
  });

  test("filters by namespace, interface and mark, each against traffic that must not show", async () => {
    using pair = new VethPair("filter");
    const ping = () => void sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2; ping -c1 127.0.0.1`);
    const inA = await traceWhile(["--backend", "tracepoint", "--filter-netns", pair.a, "icmp"], ping);
    expect(new Set(inA.lines.map(({ netns }) => netns))).toEqual(new Set([pair.inode(pair.a)]));
    const onEth0 = await traceWhile(
      [
        "--backend",
        "tracepoint",
        "--filter-netns",
        `/run/netns/${pair.b}`,
        "--filter-ifname",
        "eth0",
        "icmp",
      ],
      ping,
    );
    expect(new Set(onEth0.lines.map(({ netns, iface }) => `${netns} ${iface}`)))
      .toEqual(new Set([`${pair.inode(pair.b)} eth0`]));
    const marked = await traceWhile(
      ["--backend", "tracepoint", "--filter-mark", "0x40/0xf0"],
      () => void sh(`ip netns exec ${pair.a} bash -c 'ping -m 31 -c1 10.77.0.2; ping -m 74 -c1 10.77.0.2'`),
    );
    expect(new Set(marked.lines.map(({ mark }) => mark))).toEqual(new Set([0x4a]));
  });

  test("an expression: a chain of pointers", async () => {
    using pair = new VethPair("chain");
    const inode = pair.inode(pair.b),
      ifindex = Number(sh(`ip netns exec ${pair.b} cat /sys/class/net/eth0/ifindex`));
    sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`); // resolves the neighbour
    const { lines } = await traceWhile(
      [
        "--backend",
        "tracepoint",
        "--filter-skb-expr",
        `skb->dev->ifindex == ${ifindex} && skb->dev->nd_net.net->ns.inum == ${inode}`,
        "icmp and src host 10.77.0.1",
      ],
      () => void sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2; ping -c1 127.0.0.1`),
    );
    const path = lines.map(({ func, netns, ifindex }) => [func, netns, ifindex]);
    expect(path.slice(0, 3)).toEqual([
      ["netif_rx_entry", inode, ifindex],
      ["netif_rx", inode, ifindex],
      ["netif_receive_skb", inode, ifindex],
    ]);
    expect(new Set(lines.map(({ netns, ifindex }) => `${netns} ${ifindex}`))).toEqual(
      new Set([`${inode} ${ifindex}`]),
    );
  });

  test("an expression: exactly the lines for which it is true, and no others", async () => {
    using pair = new VethPair("expr");
    const ping = (words: string) => `ip netns exec ${pair.a} ping -c1 -W2 ${words} 10.77.0.2;`;
    sh(ping(""));
    const trace = async (words: string[]) => {
      const { lines } = await traceWhile(
        ["--backend", "tracepoint", ...words, "icmp and src host 10.77.0.1"],
        () => void sh(ping("-s 1000") + ping("-s 100") + ping("-s 1000 -m 5") + ping("-s 100 -m 5")),
      );
      return lines;
    };
    const all = await trace([]);
    const short = ({ func, len, mark, netns }: TraceLine) => ({ func, len, mark, netns });
    const wanted = all.filter(({ len = 0, mark }) => len > 500 && mark === 0).map(short);
    expect(wanted.length).toBeGreaterThan(4);
    expect(wanted.length).toBeLessThan(all.length / 2);
    const shown = await trace(["--filter-skb-expr", "skb->len > 500 && skb->mark == 0"]);
    expect(shown.map(short)).toEqual(wanted);
    const rest = await trace(["--filter-skb-expr", "!(skb->len > 500 && skb->mark == 0)"]);
    expect(rest.map(short)).toEqual(all.filter(({ len = 0, mark }) => !(len > 500 && mark === 0)).map(short));
  }, 20_000);

  test("an expression: a bitfield and a number in network byte order", async () => {
    using pair = new VethPair("bits");
    const sides = new Set<number | undefined>([pair.inode(pair.a), pair.inode(pair.b)]);
    const trace = async (expression: string) => {
      const { lines } = await traceWhile(
        ["--backend", "tracepoint", "--filter-skb-expr", expression],
        () =>
          void sh(`ip -n ${pair.a} neigh flush dev eth0; ip -n ${pair.b} neigh flush dev eth0
            ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`),
      );
      return lines.filter(({ netns }) => sides.has(netns));
    };
    const all = await trace("skb->protocol == 0x0806");
    const host = await trace("skb->protocol == 0x0806 && skb->pkt_type == 0");
    const broadcast = await trace("skb->protocol == 0x0806 && skb->pkt_type == 1");
    for (const line of [...all, ...host, ...broadcast]) expect(line.proto).toBe(0x0806);
    // the request comes in as a broadcast; on its way out, and the answer, are nobody's or ours
    expect(broadcast.map(({ func }) => func)).toContain("netif_receive_skb");
    expect(new Set(broadcast.map(({ netns }) => netns))).toEqual(new Set([pair.inode(pair.b)]));
    expect(host.map(({ func }) => func)).toContain("net_dev_queue");
    expect(host.length + broadcast.length).toBe(all.length);
  }, 20_000);

  test("with a ring of 64 KiB, printed and lost add up to what the programs counted", async () => {
    using pair = new VethPair("flood");
    const { lines, stdout, stderr } = await traceWhile(
      ["--backend", "tracepoint", "--ring-size", "64K", "--debug", "udp and dst port 4078"],
      () => {
        const sent = Bun.spawnSync([
          "ip",
          "netns",
          "exec",
          pair.a,
          process.execPath,
          "-e",
          flood("10.77.0.2", 4078, 50_000, 64),
        ]);
        expect(sent.stderr.toString()).toBe("");
      },
    );
    const matched = Number(/matched=(\d+)/.exec(stderr)?.[1]), lost = Number(/ lost=(\d+)/.exec(stderr)?.[1]);
    expect(matched).toBeGreaterThan(200_000);
    expect(lost).toBeGreaterThan(0);
    expect(lines.length + lost).toBe(matched);
    const gaps = [...stdout.matchAll(/^# lost (\d+) events? here: the ring buffer was full$/gm)];
    expect(gaps.reduce((sum, [, events]) => sum + Number(events), 0)).toBe(lost);
    expect(stderr).toContain(`showed ${lines.length} events, lost ${lost} in a full ring buffer`);
  }, 60_000);

  test("--output-limit-lines ends it after exactly so many events", async () => {
    const { lines, status, stderr } = await traceWhile(
      ["--backend", "tracepoint", "--output-limit-lines", "3", "icmp"],
      () => void sh("ping -c3 -i0.2 127.0.0.1"),
    );
    expect([lines.length, status]).toEqual([3, 0]);
    expect(stderr).toContain("Printed events, exiting program..");
  });

  test("on a terminal the progress is gone before the first line", () => {
    const tracer = `${process.execPath} ${import.meta.dir}/../../main.ts --backend tracepoint icmp`;
    const { stdout } = Bun.spawnSync(["script", "-qec", `timeout -s INT 4 ${tracer}`, "/dev/null"], {
      stdin: "ignore",
    });
    const text = stdout.toString().replaceAll("\r\x1b[K", "<clear>");
    expect(text).toMatch(/Attached \d+ of \d+<clear>/);
    expect(text).toMatch(/(\n|<clear>)SKB +CPU/);
  });

  test("a reader that goes away ends it quietly, and nothing stays behind", () => {
    const shell = Bun.spawnSync([
      "bash",
      "-c",
      `
      ready=$(mktemp -u)
      ( until [ -e "$ready" ]; do sleep 0.05; done
        for i in 1 2 3 4 5 6; do ping -c1 127.0.0.1; sleep 0.2; done; rm "$ready" ) > /dev/null &
      set -o pipefail
      "$BUN" main.ts --backend tracepoint --ready-file "$ready" icmp 2> /dev/null | head -3
      echo "status \${PIPESTATUS[0]}"
      wait
    `,
    ], { env: { ...process.env, BUN: process.execPath }, cwd: `${import.meta.dir}/../..` });
    const printed = shell.stdout.toString().trimEnd().split("\n");
    expect(printed.length).toBe(4);
    expect(printed[3]).toBe("status 0");
    expect(ourPrograms()).toEqual([]);
  }, 30_000);

  test.each(["SIGTERM", "SIGHUP", "SIGKILL"] as const)("%s leaves no program behind", async (signal) => {
    const tracer = Bun.spawn([process.execPath, "main.ts", "--backend", "tracepoint", "icmp"], {
      cwd: `${import.meta.dir}/../..`,
      stdout: "ignore",
      stderr: "ignore",
    });
    for (let i = 0; i < 300 && ourPrograms().length < 20; i++) await Bun.sleep(20);
    expect(ourPrograms().length).toBeGreaterThanOrEqual(20);
    tracer.kill(signal);
    await tracer.exited;
    for (let i = 0; i < 100 && ourPrograms().length > 0; i++) await Bun.sleep(20);
    expect(ourPrograms()).toEqual([]);
    expect(tracer.exitCode).toBe(signal === "SIGKILL" ? null : 0);
  }, 20_000);
});

describe.skipIf(!isRoot)("refusals (as root)", () => {
  const refuse = (words: string[]) => {
    const { exitCode, stderr, stdout } = Bun.spawnSync([process.execPath, "main.ts", ...words], {
      cwd: `${import.meta.dir}/../..`,
    });
    expect(stdout.toString()).toBe("");
    return { status: exitCode, text: stderr.toString() };
  };

  test.each<[words: string[], status: number, text: string]>([
    [
      ["--filter-nets", "x"],
      2,
      'error: Unknown option "--filter-nets": did you mean --filter-netns?\n  hint      pwru --help lists the options\n',
    ],
    [
      ["udp and port 53 53"],
      1,
      "error: can't parse filter expression: syntax error\n  filter    udp and port 53 53\n                            ^^\n",
    ],
    [
      ["--filter-netns", "/proc/self/status"],
      2,
      'error: Cannot open "/proc/self/status" as a network namespace: ioctl(NS_GET_NSTYPE): ENOTTY\n' +
      "  hint      pwru --help lists the options\n",
    ],
    [
      ["--filter-netns", "inode:1", "--filter-ifname", "lo"],
      2,
      'error: Cannot look up "lo": --filter-ifname needs a namespace\'s path or name, not its inode number\n' +
      "  hint      pwru --help lists the options\n",
    ],
    [
      ["--kernel-btf", "/no/such"],
      2,
      'error: Cannot read "/no/such": ENOENT\n  hint      pwru --help lists the options\n',
    ],
    [
      ["--backend", "tracepoint", "--output-caller"],
      1,
      "error: Cannot print callers: tracepoints have none\n" +
      "  hint      leave out --output-caller, or take --output-stack, which shows callers too\n",
    ],
    [
      ["--output-skb-metadata", "skb->len,skb->nope"],
      1,
      'error: Cannot find member "nope" in struct sk_buff\n  filter    skb->nope\n                 ^^^^\n',
    ],
    [
      ["--kernel-btf", "/etc/passwd"],
      1,
      "",
    ],
  ])("%p", (words, status, text) => {
    const refused = refuse(words);
    if (text !== "") expect(refused.text).toBe(text);
    expect(refused.status).toBe(status);
  });

  test("without capabilities it names them", () => {
    const { exitCode, stderr } = Bun.spawnSync([
      "setpriv",
      "--bounding-set=-all",
      "--inh-caps=-all",
      "--reuid=65534",
      "--clear-groups",
      process.execPath,
      `${import.meta.dir}/../../main.ts`,
      "icmp",
    ], { cwd: "/" });
    expect(stderr.toString()).toBe(
      "error: Cannot trace packets: this process lacks CAP_BPF to load programs, CAP_PERFMON to attach them to kernel functions\n" +
        "  hint      run it as root, for example with sudo; Linux before 5.8 wants CAP_SYS_ADMIN\n",
    );
    expect(exitCode).toBe(1);
  });
});
