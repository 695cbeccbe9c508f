/**
 * Sends datagrams to itself and says what they and the programs that see them cost. Runs in a virtual machine,
 * compiled, since that has no Bun:
 *
 *     meter [GROUP=PATTERN...]      a `Metered` as JSON on stdout
 *
 * A GROUP is the kprobe programs whose name matches PATTERN. Datagrams go over loopback to a port that only this
 * program listens on, each by a system call of its own and received by another, as floods do. Everything is measured in
 * many short windows, and the fastest counts: what else the machine does only adds. They are shorter than the time for
 * which a busy host lets a processor of the guest run.
 */
import { allocate } from "../../lib/sys/arena.ts";
import {
  bpfEnableStats,
  bpfObjGetInfoByFd,
  bpfProgGetFdById,
  bpfProgInfo,
  infoName,
} from "../../lib/sys/bpf.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";
import { syscall } from "../../lib/sys/ffi.ts";
import { socketAddress, UdpSocket } from "../../lib/sys/udp.ts";
import { programsAfter } from "../../lib/trace/loaded_programs.ts";

/** What the programs of a group did. */
export interface MeteredGroup {
  readonly programs: number;
  readonly runsPerDatagram: number;
  readonly nsPerRun: number;
}

export interface Metered {
  /** to send one and to receive it, while nothing is counted */
  readonly nsPerDatagram: number;
  readonly groups: Readonly<Record<string, MeteredGroup>>;
}

const WINDOWS = 400, BATCH = 8, PAYLOAD_BYTES = 40;
const BPF_PROG_TYPE_KPROBE = 2;
const here = { address: [127, 0, 0, 1], port: 4610 } as const;

const to = socketAddress(here), address = allocate(to.length), payload = allocate(PAYLOAD_BYTES);
address.bytes.set(to);
using sender = new UdpSocket({ ...here, port: 0 });
using receiver = new UdpSocket(here);

/** Sends one window's datagrams and takes them out again. */
function flood(): void {
  for (let i = 0; i < BATCH; i++) {
    syscall("sendto", sender.fd, payload.address, PAYLOAD_BYTES, 0, address.address, to.length);
    syscall("recvfrom", receiver.fd, payload.address, PAYLOAD_BYTES, 0, 0, 0);
  }
}

/** One group's programs, and the fastest they were. */
class Group {
  readonly #programs: readonly OwnedFd[];
  runs = 0;
  fastest = Infinity;

  constructor(pattern: RegExp) {
    this.#programs = [...programsAfter(0)].flatMap((id) => {
      const fd = bpfProgGetFdById(id);
      if (fd === undefined) return [];
      const { type, name } = bpfObjGetInfoByFd(fd, bpfProgInfo);
      const owned = new OwnedFd(fd);
      if (type === BPF_PROG_TYPE_KPROBE && pattern.test(infoName(name))) return [owned];
      owned[Symbol.dispose]();
      return [];
    });
  }

  now(): { runs: number; ns: number } {
    const infos = this.#programs.map(({ fd }) => bpfObjGetInfoByFd(fd, bpfProgInfo));
    const sum = (of: (info: typeof infos[number]) => bigint) =>
      Number(infos.reduce((all, info) => all + of(info), 0n));
    return { runs: sum(({ run_cnt }) => run_cnt), ns: sum(({ run_time_ns }) => run_time_ns) };
  }

  result(datagrams: number): MeteredGroup {
    const programs = this.#programs.length;
    return { programs, runsPerDatagram: this.runs / datagrams, nsPerRun: this.fastest };
  }
}

function meter(patterns: readonly (readonly [name: string, pattern: string])[]): Metered {
  let nsPerDatagram = Infinity;
  for (let window = 0; window < WINDOWS; window++) {
    const begin = Bun.nanoseconds();
    flood();
    nsPerDatagram = Math.min(nsPerDatagram, (Bun.nanoseconds() - begin) / BATCH);
  }
  if (patterns.length === 0) return { nsPerDatagram, groups: {} };
  using _stats = new OwnedFd(bpfEnableStats());
  const groups = patterns.map(([name, pattern]) => [name, new Group(new RegExp(pattern))] as const);
  for (let window = 0; window < WINDOWS; window++) {
    const before = groups.map(([, group]) => group.now());
    flood();
    for (const [index, [, group]] of groups.entries()) {
      const { runs, ns } = group.now(), { runs: runsBefore, ns: nsBefore } = before[index]!;
      group.runs += runs - runsBefore;
      if (runs > runsBefore) group.fastest = Math.min(group.fastest, (ns - nsBefore) / (runs - runsBefore));
    }
  }
  const results = groups.map(([name, group]) => [name, group.result(WINDOWS * BATCH)] as const);
  return { nsPerDatagram, groups: Object.fromEntries(results) };
}

if (import.meta.main) {
  const patterns = process.argv.slice(2).map((word): [string, string] => {
    const [name = "", pattern = ""] = word.split("=");
    return [name, pattern];
  });
  console.log(JSON.stringify(meter(patterns)));
}
