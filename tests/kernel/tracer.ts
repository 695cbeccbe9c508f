/** Runs the tracer as a user does, on this machine, and reads what it printed. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  bpfObjGetInfoByFd,
  bpfProgGetFdById,
  bpfProgGetNextId,
  bpfProgInfo,
  infoName,
} from "../../lib/sys/bpf.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";
import { parseLines, type TraceLine } from "../vm/lines.ts";

const root = join(import.meta.dir, "../..");

export interface RawTrace {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

export interface Trace extends RawTrace {
  readonly lines: readonly TraceLine[];
}

/** Starts the tracer with `words`; once it is ready, `traffic` runs, then SIGINT ends it. */
export async function traceWhile(
  words: readonly string[],
  traffic: (pid: number) => void | Promise<void>,
): Promise<Trace> {
  const trace = await rawTraceWhile(words, traffic);
  return { ...trace, lines: trace.stdout === "" ? [] : parseLines(trace.stdout) };
}

/**
 * The same, for output that is no text in columns, or goes to a file.
 *
 * @param under a command that runs the one behind its words in its own place, such as setpriv
 */
export async function rawTraceWhile(
  words: readonly string[],
  traffic: (pid: number) => void | Promise<void>,
  signal: "SIGINT" | "SIGHUP" = "SIGINT",
  under: readonly string[] = [],
): Promise<RawTrace> {
  const directory = mkdtempSync(join(tmpdir(), "pwru-test-")), ready = join(directory, "ready");
  const command = [...under, process.execPath, join(root, "main.ts"), "--ready-file", ready, ...words];
  const tracer = Bun.spawn(command, {
    stdin: "ignore",
    stdout: Bun.file(join(directory, "out")),
    stderr: Bun.file(join(directory, "err")),
  });
  try {
    while (!existsSync(ready) && tracer.exitCode === null) await Bun.sleep(10);
    if (tracer.exitCode === null) {
      await traffic(tracer.pid);
      await Bun.sleep(200);
      tracer.kill(signal);
    }
    const status = await tracer.exited;
    const stdout = readFileSync(join(directory, "out"), "utf8"),
      stderr = readFileSync(join(directory, "err"), "utf8");
    return { stdout, stderr, status };
  } finally {
    tracer.kill("SIGKILL");
    rmSync(directory, { recursive: true });
  }
}

/** Runs a command to its end. @throws its stderr */
export function sh(command: string, { mayFail = false }: { mayFail?: boolean } = {}): string {
  const { success, stdout, stderr } = Bun.spawnSync(["bash", "-ec", command]);
  if (!success && !mayFail) throw new Error(`${command}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Names of the tracing programs that are loaded, by whichever tracer of ours. */
export function ourPrograms(): string[] {
  const names: string[] = [];
  for (let id = bpfProgGetNextId(0); id !== undefined; id = bpfProgGetNextId(id)) {
    const fd = bpfProgGetFdById(id);
    if (fd === undefined) continue;
    using program = new OwnedFd(fd);
    names.push(infoName(bpfObjGetInfoByFd(program.fd, bpfProgInfo).name));
  }
  return names.filter((name) => /^(tp_|kprobe_skb|multi_skb)/.test(name));
}

/** Two namespaces, `a` (10.77.0.1) and `b` (10.77.0.2), joined by a veth pair named eth0 on both sides. */
export class VethPair implements Disposable {
  readonly a: string;
  readonly b: string;

  constructor(tag: string) {
    this.a = `pwru-${tag}-a`;
    this.b = `pwru-${tag}-b`;
    this[Symbol.dispose]();
    sh(`
      ip netns add ${this.a}; ip netns add ${this.b}
      ip -n ${this.a} link add eth0 type veth peer name eth0 netns ${this.b}
      ip -n ${this.a} addr add 10.77.0.1/24 dev eth0; ip -n ${this.b} addr add 10.77.0.2/24 dev eth0
      for n in ${this.a} ${this.b}; do ip -n $n link set lo up; ip -n $n link set eth0 up; done
    `);
  }

  /** A VXLAN device named vxlan0 on both sides: 10.78.0.1 and 10.78.0.2. */
  addVxlan(): void {
    const add = (side: string, host: number, peer: number) =>
      sh(
        `ip -n ${side} link add vxlan0 type vxlan id 42 local 10.77.0.${host} remote 10.77.0.${peer} dstport 4789
        ip -n ${side} addr add 10.78.0.${host}/24 dev vxlan0; ip -n ${side} link set vxlan0 up`,
      );
    add(this.a, 1, 2);
    add(this.b, 2, 1);
  }

  /** inode number of a side's namespace */
  inode(side: string): number {
    return Number(sh(`stat -Lc %i /run/netns/${side}`));
  }

  [Symbol.dispose](): void {
    sh(`ip netns del ${this.a}; ip netns del ${this.b}`, { mayFail: true });
  }
}

/**
 * Sends datagrams of 64 bytes to a port of this machine where nobody listens, from a process of their own, since the
 * socket hears of each refusal: that error is part of it, another is not.
 */
export function sendDatagrams(port: number, count: number): void {
  const script = `const socket = await Bun.udpSocket({ socket: { error() {} } }), data = new Uint8Array(64);
    for (let i = 0; i < ${count}; i++) {
      try {
        socket.send(data, ${port}, "127.0.0.1");
      } catch (error) {
        if (error.code !== "ECONNREFUSED") throw error;
      }
      if (i % 100 === 0) await Bun.sleep(1);
    }
    socket.close();`;
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, "-e", script]);
  if (exitCode !== 0) throw new Error(`Cannot send datagrams: ${stderr.toString()}`);
}
