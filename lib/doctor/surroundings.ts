/**
 * What holds for this process whatever it does: lockdown, capabilities, the namespaces it lives in. Only these
 * are read from files; everything else an examination does by trying.
 */
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { UnsupportedError } from "../errors.ts";
import { initialPidNamespace, ourselves } from "../link/owner.ts";
import type { Finding } from "./finding.ts";

/** Where securityfs belongs. */
const SECURITY = "/sys/kernel/security";

/** PROC_USER_INIT_INO (include/linux/proc_ns.h): the user namespace that the machine booted with. */
const initialUserNamespace = 0xefff_fffd;

/** The file's text, or undefined where there is none or it is not ours to read. */
function readOr(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

/**
 * The level in brackets of /sys/kernel/security/lockdown: "none [integrity] confidentiality".
 *
 * @param lsm the kernel's list of security modules, if it can be read
 */
export function lockdownFinding(lockdown: string | undefined, lsm: string | undefined): Finding {
  const name = "lockdown", level = /\[(\w+)\]/.exec(lockdown ?? "")?.[1];
  if (level === "confidentiality") {
    return {
      name,
      state: "no",
      found: "confidentiality: programs may not read the kernel's memory",
      remedy: "boot with lockdown=integrity or without it; Secure Boot may ask for more",
    };
  }
  if (level !== undefined) return { name, state: "ok", found: level };
  if (lsm !== undefined) return { name, state: "ok", found: "none: the kernel does not use it" };
  return {
    name,
    state: "unknown",
    found: `${SECURITY}/lockdown cannot be read`,
    remedy: `mount -t securityfs securityfs ${SECURITY}`,
  };
}

export function readLockdown(): Finding {
  // A kernel without securityfs has no security modules, and no directory for it.
  const lsm = existsSync(SECURITY) ? readOr(`${SECURITY}/lsm`) : "";
  return lockdownFinding(readOr(`${SECURITY}/lockdown`), lsm);
}

/** What we use, and what for. */
const uses: readonly (readonly [capability: string, purpose: string])[] = [
  ["CAP_BPF", "load programs"],
  ["CAP_PERFMON", "attach them"],
  ["CAP_SYSLOG", "see addresses of functions"],
  ["CAP_SYS_ADMIN", "define kprobes and look into other network namespaces"],
];

/**
 * @param require throws UnsupportedError where the tracer would refuse to start
 */
export function rightsFinding(
  own: ReadonlySet<string>,
  require: (own: ReadonlySet<string>) => void,
): Finding {
  const name = "capabilities";
  const missing = uses.filter(([capability]) => !own.has(capability));
  if (missing.length === 0) return { name, state: "ok", found: uses.map(([one]) => one).join(" ") };
  const found = `without ${missing.map(([one, purpose]) => `${one} (${purpose})`).join(", ")}`;
  try {
    require(own);
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { name, state: "no", found, ...(error.hint === undefined ? {} : { remedy: error.hint }) };
  }
  return { name, state: "note", found, remedy: "run it as root where a row below says no" };
}

/**
 * @param loaded /proc/modules, a module a line; undefined: there is no such file
 * @param described how many modules show types
 * @param refused why some of those cannot be used
 */
export function moduleFinding(
  loaded: string | undefined,
  described: number,
  refused: readonly string[],
): Finding {
  const name = "module types", count = (loaded ?? "").split("\n").filter((line) => line !== "").length;
  if (loaded === undefined) return { name, state: "ok", found: "the kernel is built without modules" };
  if (count === 0) return { name, state: "ok", found: "no modules are loaded" };
  const found = `of ${described - refused.length} of ${count} loaded modules`;
  const [first] = refused;
  if (first !== undefined) return { name, state: "note", found: `${found}: ${first}` };
  if (described > 0) return { name, state: "ok", found };
  return {
    name,
    state: "note",
    found: `${found}: --kmods cannot see into them`,
    remedy: "it takes Linux 5.11 built with CONFIG_DEBUG_INFO_BTF_MODULES=y",
  };
}

/** The number in "user:[4026531837]". */
export function namespaceInode(link: string): number | undefined {
  const inode = /\[(\d+)\]$/.exec(link)?.[1];
  return inode === undefined ? undefined : Number(inode);
}

export function userNamespaceFinding(inode: number | undefined): Finding {
  const name = "user namespace";
  if (inode === initialUserNamespace) return { name, state: "ok", found: "that of the machine" };
  if (inode === undefined) return { name, state: "unknown", found: "/proc/self/ns/user cannot be read" };
  return {
    name,
    state: "no",
    found: `${inode}, not that of the machine: capabilities count nothing here`,
    remedy: "run it outside of rootless containers and unshare --user",
  };
}

export function pidNamespaceFinding(inode: number): Finding {
  const name = "pid namespace";
  if (inode === initialPidNamespace) return { name, state: "ok", found: "that of the machine" };
  return {
    name,
    state: "note",
    found: `${inode}, a container's: of other processes' network namespaces only named ones are in reach`,
    remedy: "share the machine's (docker --pid=host, Kubernetes hostPID) to see all interface names",
  };
}

/**
 * @param reachable how many there are whose interfaces could be asked for
 * @param refused of those, how many could not be looked into
 */
export function networkNamespaceFinding(own: number, reachable: number, refused: number): Finding {
  const name = "network namespace";
  const found = `${own}; interfaces have names in ${reachable - refused} of ${reachable} that are in reach`;
  if (refused === 0) return { name, state: "ok", found };
  return { name, state: "note", found, remedy: "CAP_SYS_ADMIN lets us look into the others" };
}

/** The namespaces of users and pids that this process is in. */
export function readNamespaces(): Finding[] {
  let user: number | undefined;
  try {
    user = namespaceInode(readlinkSync("/proc/self/ns/user"));
  } catch {
    // told by the finding
  }
  return [
    userNamespaceFinding(user),
    pidNamespaceFinding(ourselves().pidNamespace),
  ];
}
