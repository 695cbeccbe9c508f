/**
 * Debian's archive as a source of kernels and tools.
 *
 * Works beside the machine's own package lists: own sources list, own cache, nothing is installed.
 * The mirror is the one the machine already uses.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command, CommandError, which } from "./command.ts";

/** Programs, and the Debian package of each. */
type Packages = Readonly<Record<string, string>>;

/** What the harness runs to make a guest, beside QEMU. */
export const harnessPrograms: Packages = {
  "depmod": "kmod",
  "xz": "xz-utils",
  "tar": "tar",
};

/** What a guest has. */
export const guestPrograms: Packages = {
  "busybox": "busybox-static",
  "bash": "bash",
  "ip": "iproute2",
  "ss": "iproute2",
  "bridge": "iproute2",
  "tc": "iproute2",
  "nft": "nftables",
  "xtables-nft-multi": "iptables",
  "socat": "socat",
  "tcpdump": "tcpdump",
  "ethtool": "ethtool",
  "conntrack": "conntrack",
  "bpftool": "bpftool",
  "ping": "iputils-ping",
  "kmod": "kmod",
  "strace": "strace",
  "nc.openbsd": "netcat-openbsd",
  "setpriv": "util-linux",
  "unshare": "util-linux",
};

/** Who reads what we write for others: shells, readers of manual pages, disassemblers, tcpdump. */
export const referencePrograms: Packages = {
  "bash": "bash",
  "fish": "fish",
  "zsh": "zsh",
  "mandoc": "mandoc",
  "groff": "groff",
  "man": "man-db",
  "objdump": "binutils",
  "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
  "qemu-aarch64": "qemu-user",
  "tcpdump": "tcpdump",
  "ip": "iproute2",
  "nft": "nftables",
  "python3": "python3",
  "setpriv": "util-linux",
};

export const isDebian = (): boolean => existsSync("/etc/debian_version");

/** Installs the packages of the programs this machine lacks.
 * @throws {Error} it lacks some and is not ours to install on */
export function installPrograms(packageOf: Packages, say: (line: string) => void): void {
  const missing = [
    ...new Set(Object.keys(packageOf).filter((p) => which(p) === null).map((p) => packageOf[p] ?? p)),
  ];
  if (missing.length === 0) return;
  if (!isDebian() || process.getuid?.() !== 0) {
    throw new Error(
      `Missing packages: ${missing.join(" ")}\nInstall them, or run as root on Debian to have it done`,
    );
  }
  say(`installing ${missing.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  command(["apt-get", "-qq", "update"], { env });
  command(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", ...missing], { env });
}

/** A suite, and where it lives: beside the stable releases, or with the security updates. */
export interface Suite {
  readonly at: "Debian" | "Debian-Security";
  readonly suite: string;
}
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** The machine's mirrors, from its own sources: by the Release file's origin, or before any update by address. */
function mirrors(): Record<Suite["at"], string> {
  const format = "$(ORIGIN) $(REPO_URI)";
  const rows = command(["apt-get", "indextargets", "--format", format, "Created-By: Packages"])
    .split("\n").map((row) => row.split(" ")).map(([origin, uri]) => ({ origin, uri: uri ?? "" }));
  const known = rows.filter(({ origin }) => origin === "Debian");
  const ours = (known.length > 0 ? known : rows.filter(({ uri }) => /\/debian(-security)?\/?$/.test(uri)))
    .map(({ uri }) => uri);
  const main = ours.find((uri) => !uri.includes("security"));
  if (main === undefined) throw new Error("Cannot find a Debian mirror: apt has none in its sources");
  const security = ours.find((uri) => uri.includes("security"));
  return { "Debian": main, "Debian-Security": security ?? main.replace(/\/debian\/?$/, "/debian-security/") };
}

/** Debian's packages for one architecture, seen through an apt of our own in `folder`. */
export class Archive {
  readonly #folder: string;
  readonly #suites: readonly Suite[];
  readonly #options: string[];

  constructor(folder: string, suites: readonly Suite[], architecture: string) {
    this.#folder = folder;
    this.#suites = suites;
    this.#options = [
      `Dir::Etc::sourcelist=${join(folder, "sources.list")}`,
      "Dir::Etc::sourceparts=/dev/null",
      "Dir::Etc::preferencesparts=/dev/null",
      `Dir::State::lists=${join(folder, "lists")}`,
      `Dir::Cache=${join(folder, "cache")}`,
      "APT::Default-Release=",
      "APT::Sandbox::User=root",
      `APT::Architecture=${architecture}`,
      `APT::Architectures=${architecture}`,
      "Acquire::Languages=none",
      "Acquire::Retries=2",
    ].flatMap((option) => ["-o", option]);
  }

  /** Fetches the package lists, once per folder or when asked again. A suite that is gone is no error. */
  update({ again = false } = {}): void {
    const stamp = join(this.#folder, "updated");
    if (existsSync(stamp) && !again) return;
    for (const sub of ["lists/partial", "cache/archives/partial"]) {
      mkdirSync(join(this.#folder, sub), { recursive: true });
    }
    const mirror = mirrors();
    const lines = this.#suites.map(({ at, suite }) =>
      `deb [signed-by=${keyring}] ${mirror[at]} ${suite} main`
    );
    writeFileSync(join(this.#folder, "sources.list"), lines.join("\n") + "\n");
    try {
      command(["apt-get", ...this.#options, "-qq", "update"]);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (this.names(".").length === 0) throw error;
    }
    writeFileSync(stamp, "");
  }

  /** Names of packages that match a regular expression. */
  names(pattern: string): string[] {
    return command(["apt-cache", ...this.#options, "search", "--names-only", pattern])
      .split("\n").flatMap((line) => line.split(" ", 1)).filter((name) => name !== "");
  }

  /** The newest version of each of these packages that can be had. */
  versions(names: readonly string[]): Map<string, string> {
    const newest = new Map<string, string>();
    for (const row of command(["apt-cache", ...this.#options, "madison", ...names]).split("\n")) {
      const [name = "", version] = row.split("|").map((cell) => cell.trim());
      if (version === undefined) continue;
      const best = newest.get(name);
      if (best === undefined || compareVersions(version, best) > 0) newest.set(name, version);
    }
    return newest;
  }

  /** Names of the packages that `name` depends on, first choice of each. */
  dependencies(name: string): string[] {
    return [
      ...command(["apt-cache", ...this.#options, "depends", "--important", name]).matchAll(
        /Depends: <?([^>\s]+)/g,
      ),
    ]
      .map((match) => match[1] ?? "");
  }

  /** Downloads one package and unpacks it over `target`. */
  unpack(name: string, target: string): void {
    this.#fetch(
      target,
      (folder) => command(["apt-get", ...this.#options, "-qq", "download", name], { cwd: folder }),
    );
  }

  /** Downloads these packages with all that they depend on, and unpacks them over `target`. */
  unpackWithDependencies(names: readonly string[], target: string): void {
    this.#fetch(target, (folder) => {
      const empty = join(folder, "status"); // what is installed: nothing
      writeFileSync(empty, "");
      mkdirSync(join(folder, "partial"));
      const options = [`Dir::State::status=${empty}`, `Dir::Cache::archives=${folder}`, "Debug::NoLocking=1"];
      const words = ["-qq", "--yes", "--no-install-recommends", "--download-only", "install", ...names];
      command(["apt-get", ...this.#options, ...options.flatMap((option) => ["-o", option]), ...words]);
    });
  }

  #fetch(target: string, download: (folder: string) => void): void {
    const folder = join(this.#folder, `get-${process.pid}`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    mkdirSync(target, { recursive: true });
    try {
      download(folder);
      const debs = readdirSync(folder).filter((name) => name.endsWith(".deb"));
      for (const deb of debs) command(["dpkg-deb", "-x", join(folder, deb), target]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

/** Debian's order of versions, as dpkg sees it. */
export function compareVersions(a: string, b: string): number {
  const is = (relation: string) =>
    Bun.spawnSync(["dpkg", "--compare-versions", a, relation, b]).exitCode === 0;
  return is("lt") ? -1 : is("gt") ? 1 : 0;
}
