/**
 * Who defined a group of probes, told by its name alone, and whether that process still lives.
 *
 *     pwru_4711_123456                 pid 4711, started 123456 ticks after boot
 *     pwru_1_123456_4026532177         the same inside the pid namespace with this inode number
 *
 * tracefs is one for all containers while pids are not: without the namespace a container would take the
 * group of a live pwru on the host for that of a dead process, and delete probes in use.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface Owner {
  readonly pid: number;
  /** clock ticks after boot, field 22 of /proc/PID/stat: a reused pid has another one */
  readonly startTime: number;
  /** inode number of the pid namespace in which `pid` is meant */
  readonly pidNamespace: number;
}

/** PROC_PID_INIT_INO (include/linux/proc_ns.h): the namespace that the machine booted with. */
export const initialPidNamespace = 0xefff_fffc;

export function formatOwner({ pid, startTime, pidNamespace }: Owner): string {
  return `pwru_${pid}_${startTime}${pidNamespace === initialPidNamespace ? "" : `_${pidNamespace}`}`;
}

/** The owner of a group, or undefined when the group is not one of ours. */
export function parseOwner(group: string): Owner | undefined {
  const match = /^pwru_([1-9]\d{0,9})_(\d{1,15})(?:_([1-9]\d{0,9}))?$/.exec(group);
  if (match === null) return undefined;
  return {
    pid: Number(match[1]),
    startTime: Number(match[2]),
    pidNamespace: match[3] === undefined ? initialPidNamespace : Number(match[3]),
  };
}

/** Start time out of /proc/PID/stat; the name before it may hold spaces and parentheses. */
export function parseStartTime(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the first of them is field 3
  const startTime = Number(fields[22 - 3]);
  return Number.isSafeInteger(startTime) && fields.length > 22 - 3 ? startTime : undefined;
}

/** What is read of /proc; tests put a table in its place. */
export interface Processes {
  /** of a process in our own namespace; undefined: there is none */
  startTime(pid: number): number | undefined;
  /** our own namespace */
  readonly pidNamespace: number;
  /** processes of another namespace, with the pids they have there; seen only from the initial one */
  inNamespace(pidNamespace: number): Owner[];
}

/**
 * `unknown` where we cannot see the process: what belongs to another namespace can be judged only from
 * the initial one, which sees all.
 */
export function stateOf(owner: Owner, processes: Processes): "alive" | "dead" | "unknown" {
  if (owner.pidNamespace === processes.pidNamespace) {
    return processes.startTime(owner.pid) === owner.startTime ? "alive" : "dead";
  }
  if (processes.pidNamespace !== initialPidNamespace) return "unknown";
  // Start times are shifted in a time namespace, so here the pid alone has to do: better kept than lost.
  return processes.inNamespace(owner.pidNamespace).some(({ pid }) => pid === owner.pid) ? "alive" : "dead";
}

function readOr<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // the process ended, or it was no process
  }
}

function namespaceOf(process: number | "self"): number | undefined {
  const link = readOr(() => readlinkSync(`/proc/${process}/ns/pid`)); // pid:[4026531836]
  const inode = link === undefined ? undefined : /^pid:\[(\d+)\]$/.exec(link)?.[1];
  return inode === undefined ? undefined : Number(inode);
}

function startTimeOf(process: number | "self"): number | undefined {
  const stat = readOr(() => readFileSync(`/proc/${process}/stat`, "latin1"));
  return stat === undefined ? undefined : parseStartTime(stat);
}

/** The last number of `NSpid:` in /proc/PID/status is the pid in the process's own namespace. */
function innerPid(pid: number): number | undefined {
  const status = readOr(() => readFileSync(`/proc/${pid}/status`, "latin1")) ?? "";
  const inner = /^NSpid:.*?(\d+)$/m.exec(status)?.[1];
  return inner === undefined ? undefined : Number(inner);
}

/** The processes of this machine. */
export function runningProcesses(): Processes {
  return {
    startTime: startTimeOf,
    pidNamespace: namespaceOf("self") ?? initialPidNamespace,
    inNamespace(pidNamespace) {
      const found: Owner[] = [];
      for (const name of readdirSync("/proc")) {
        const pid = Number(name);
        if (!Number.isInteger(pid) || namespaceOf(pid) !== pidNamespace) continue;
        found.push({ pid: innerPid(pid) ?? pid, startTime: startTimeOf(pid) ?? 0, pidNamespace });
      }
      return found;
    },
  };
}

/** This very process. */
export function ourselves(): Owner {
  return {
    pid: process.pid,
    startTime: startTimeOf("self") ?? 0,
    pidNamespace: namespaceOf("self") ?? initialPidNamespace,
  };
}
