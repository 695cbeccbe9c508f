/** What is read of the surroundings, as findings. */
import { expect, test } from "bun:test";
import type { Finding } from "../../lib/doctor/finding.ts";
import { refusal } from "../../lib/doctor/finding.ts";
import {
  lockdownFinding,
  moduleFinding,
  namespaceInode,
  networkNamespaceFinding,
  pidNamespaceFinding,
  rightsFinding,
  userNamespaceFinding,
} from "../../lib/doctor/surroundings.ts";
import { requireRights } from "../../lib/cli/rights.ts";
import { BtfError, UnsupportedError } from "../../lib/errors.ts";

const rights = (...own: string[]) => rightsFinding(new Set(own), requireRights);
const admin = ["CAP_SYS_ADMIN", "CAP_SYSLOG"], all = [...admin, "CAP_BPF", "CAP_PERFMON"];

test.each<[name: string, finding: Finding, state: Finding["state"], found: string, remedy?: string]>([
  ["lockdown off", lockdownFinding("[none] integrity confidentiality\n", "lockdown,bpf"), "ok", "none"],
  ["lockdown of integrity", lockdownFinding("none [integrity] confidentiality\n", ""), "ok", "integrity"],
  [
    "lockdown of confidentiality",
    lockdownFinding("none integrity [confidentiality]\n", ""),
    "no",
    "confidentiality: programs may not read the kernel's memory",
    "boot with lockdown=integrity or without it; Secure Boot may ask for more",
  ],
  [
    "no such security module",
    lockdownFinding(undefined, "capability,bpf"),
    "ok",
    "none: the kernel does not use it",
  ],
  [
    "securityfs not mounted",
    lockdownFinding(undefined, undefined),
    "unknown",
    "/sys/kernel/security/lockdown cannot be read",
    "mount -t securityfs securityfs /sys/kernel/security",
  ],
  ["all rights", rights(...all), "ok", "CAP_BPF CAP_PERFMON CAP_SYSLOG CAP_SYS_ADMIN"],
  [
    "CAP_SYS_ADMIN stands for two others",
    rights(...admin),
    "note",
    "without CAP_BPF (load programs), CAP_PERFMON (attach them)",
    "run it as root where a row below says no",
  ],
  [
    "no CAP_PERFMON",
    rights("CAP_BPF", "CAP_SYSLOG"),
    "no",
    "without CAP_PERFMON (attach them), CAP_SYS_ADMIN (define kprobes and look into other network namespaces)",
    "run it as root, for example with sudo; Linux before 5.8 wants CAP_SYS_ADMIN",
  ],
  ["the first user namespace", userNamespaceFinding(0xefff_fffd), "ok", "that of the machine"],
  [
    "another user namespace",
    userNamespaceFinding(4026532177),
    "no",
    "4026532177, not that of the machine: capabilities count nothing here",
    "run it outside of rootless containers and unshare --user",
  ],
  [
    "a user namespace unknown",
    userNamespaceFinding(undefined),
    "unknown",
    "/proc/self/ns/user cannot be read",
  ],
  ["the first pid namespace", pidNamespaceFinding(0xefff_fffc), "ok", "that of the machine"],
  [
    "another pid namespace",
    pidNamespaceFinding(4026532178),
    "note",
    "4026532178, a container's: of other processes' network namespaces only named ones are in reach",
    "share the machine's (docker --pid=host, Kubernetes hostPID) to see all interface names",
  ],
  [
    "all network namespaces",
    networkNamespaceFinding(4026531840, 3, 0),
    "ok",
    "4026531840; interfaces have names in 3 of 3 that are in reach",
  ],
  [
    "closed network namespaces",
    networkNamespaceFinding(4026531840, 3, 2),
    "note",
    "4026531840; interfaces have names in 1 of 3 that are in reach",
    "CAP_SYS_ADMIN lets us look into the others",
  ],
  ["no modules at all", moduleFinding(undefined, 0, []), "ok", "the kernel is built without modules"],
  ["no modules loaded", moduleFinding("", 0, []), "ok", "no modules are loaded"],
  ["modules with types", moduleFinding("veth 1 0\nnf_nat 2 1\n", 2, []), "ok", "of 2 of 2 loaded modules"],
  [
    "modules without types",
    moduleFinding("veth 1 0\nnf_nat 2 1\n", 0, []),
    "note",
    "of 0 of 2 loaded modules: --kmods cannot see into them",
    "it takes Linux 5.11 built with CONFIG_DEBUG_INFO_BTF_MODULES=y",
  ],
  [
    "a module whose types are of another kernel",
    moduleFinding("veth 1 0\nnf_nat 2 1\n", 2, ["veth: wrong base"]),
    "note",
    "of 1 of 2 loaded modules: veth: wrong base",
  ],
])("%s", (_, finding, state, found, ...[remedy]) => {
  expect(finding).toMatchObject({ state, found });
  expect(finding.remedy).toBe(remedy as string);
});

test.each<[link: string, inode: number | undefined]>([
  ["user:[4026531837]", 4026531837],
  ["user:[]", undefined],
  ["", undefined],
])("the namespace behind %j", (link, inode) => {
  expect(namespaceInode(link)).toBe(inode as number);
});

test("a refusal has the error's own hint, or the one that stands in, or none", () => {
  const hinted = new UnsupportedError("Cannot do it", { hint: "do that" });
  expect(refusal("it", hinted, "other")).toEqual({
    name: "it",
    state: "no",
    found: "Cannot do it",
    remedy: "do that",
  });
  expect(refusal("it", new BtfError("Wrong"), "other").remedy).toBe("other");
  expect(refusal("it", new BtfError("Wrong"))).toEqual({ name: "it", state: "no", found: "Wrong" });
  expect(() => refusal("it", "thrown")).toThrow("thrown");
});
