/**
 * The launcher, started for real with an ld.so of our own, which tells what it was given: the stack by writing
 * it out, the files by holding them open. The other architecture's runs where qemu-user is installed.
 */
import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { readElf } from "../../build/elf.ts";
import { droppedSettings } from "../../build/launcher.ts";
import { type Machine, machines } from "../../build/machines.ts";
import { type Library, merge } from "../../build/merge.ts";
import { program, synthetic, tellingInterpreter } from "./synthetic.ts";
import { withoutMemfd } from "./without_memfd.ts";

const folder = mkdtempSync("/var/tmp/pwru-launcher-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** More than a pipe or a page holds, so that it takes more than one write somewhere. */
const LARGE = 3_000_000;
const libraryNames = ["libc.so.6", "libm.so.6", "libdl.so.2"];

function build(machine: Machine) {
  const bun = program(machine), ld = tellingInterpreter(machine);
  const libraries: Library[] = libraryNames.map((name, index) => ({
    name,
    file: synthetic(machine, {
      soname: name,
      data: new Uint8Array(index === 0 ? LARGE : 10).fill(index + 1),
    }),
  }));
  const path = join(folder, `merged-${machine.arch}`);
  writeFileSync(path, merge(machine, bun, { name: machine.interpreter, file: ld }, libraries));
  chmodSync(path, 0o755);
  return { path, bun: readElf("bun", bun), libraries };
}

/** What the launcher hands to ld.so. */
interface Told {
  readonly stackAddress: bigint;
  readonly argv: string[];
  readonly env: string[];
  readonly auxv: ReadonlyMap<number, bigint>;
  /** paths and contents of the files behind LD_PRELOAD */
  readonly files: { readonly link: string; readonly content: string }[];
}

async function told(argv: readonly string[], env: Record<string, string>): Promise<Told> {
  const out = join(folder, "stack");
  writeFileSync(out, "");
  await using child = Bun.spawn([...argv], {
    env,
    stdin: "ignore",
    stdout: Bun.file(out),
    stderr: "inherit",
  });
  const talking = () => child.exitCode === null && existsSync(`/proc/${child.pid}/fd/1`);
  for (let waited = 0; talking() && waited < 5000; waited += 5) await Bun.sleep(5);
  const bytes = new Uint8Array(readFileSync(out)), view = new DataView(bytes.buffer);
  if (bytes.length === 0) throw new Error(`ld.so was not entered: status ${child.exitCode}`);
  const stackAddress = view.getBigUint64(0, true);
  const text = (address: bigint) => {
    const from = Number(address - stackAddress) + 8;
    return new TextDecoder().decode(bytes.subarray(from, bytes.indexOf(0, from)));
  };
  let at = 8;
  const next = () => view.getBigUint64((at += 8) - 8, true);
  const strings = () => {
    const found: string[] = [];
    for (let address = next(); address !== 0n; address = next()) found.push(text(address));
    return found;
  };
  const argc = Number(next()), words = strings(), variables = strings();
  expect(words.length).toBe(argc);
  const auxv = new Map<number, bigint>();
  for (let type = next(); type !== 0n; type = next()) auxv.set(Number(type), next());
  const paths = (variables[0] ?? "").replace("LD_PRELOAD=", "").split(":");
  const files = paths.map((path) => path.replace("self", String(child.pid))).map((path) => ({
    link: readlinkSync(path),
    content: readFileSync(path).toHex(),
  }));
  return { stackAddress, argv: words, env: variables, auxv, files };
}

const AT_PHDR = 3, AT_PHNUM = 5, AT_PAGESZ = 6, AT_BASE = 7, AT_ENTRY = 9, AT_SECURE = 23;

describe.each(machines)("$arch", (machine) => {
  const foreign = machine.arch !== process.arch;
  const emulator = machine.arch === "arm64" ? "qemu-aarch64" : "qemu-x86_64";
  const qemu = Bun.which(`${emulator}-static`) ?? Bun.which(emulator);
  const can = test.skipIf(foreign && qemu === null), needs = foreign ? ` (needs ${emulator})` : "";
  const { path, bun, libraries } = build(machine);
  /** qemu-user turns the variables round. */
  const inOrder = (variables: string[]) => foreign ? variables.toSorted() : variables;
  const start = foreign ? [String(qemu), path] : [path];

  can(`Arguments and variables reach ld.so, LD_PRELOAD first${needs}`, async () => {
    const { argv, env, stackAddress } = await told([...start, "", "two", "3 4"], { A: "1", B: "", C: "3" });
    expect(argv).toEqual([path, "", "two", "3 4"]);
    expect(env[0]).toMatch(/^LD_PRELOAD=\/proc\/self\/fd\/\d+(:\/proc\/self\/fd\/\d+){2}$/);
    expect(inOrder(env.slice(1))).toEqual(["A=1", "B=", "C=3"]);
    expect(stackAddress % 16n).toBe(0n);
  });

  can(`No arguments, no variables${needs}`, async () => {
    const { argv, env } = await told(start, {});
    expect(argv).toEqual([path]);
    expect(env.length).toBe(1);
  });

  can(`Settings that make another tool of it are dropped, and only they${needs}`, async () => {
    const kept = { LD: "1", BUN: "2", L: "3", XLD_PRELOAD: "4", GLIBC_TUNABLE: "5", ld_preload: "6", _: "7" };
    const dropped = droppedSettings.flatMap((prefix) => [[prefix, "x"], [`${prefix}PRELOAD`, "x"]]);
    const { env } = await told(start, { ...Object.fromEntries(dropped), ...kept });
    expect(inOrder(env.slice(1))).toEqual(
      inOrder(Object.entries(kept).map(([name, value]) => `${name}=${value}`)),
    );
  });

  const setUserId = test.skipIf(foreign || process.getuid?.() !== 0);
  setUserId(`A privileged start keeps no variable at all (needs root, ${machine.arch})`, async () => {
    const copy = `${path}-set-user-id`;
    copyFileSync(path, copy);
    chownSync(copy, 65534, 65534);
    chmodSync(copy, 0o4755);
    chmodSync(folder, 0o755);
    const { env, auxv, files } = await told([copy], { A: "1", LD_PRELOAD: "/bad.so" });
    expect(env.length).toBe(1);
    expect(auxv.get(AT_SECURE)).toBe(0n);
    expect(files.length).toBe(libraries.length);
  });

  can(`The auxiliary vector speaks of Bun and ld.so${needs}`, async () => {
    const { auxv } = await told(start, {});
    expect(readElf("merged", new Uint8Array(readFileSync(path))).loads.map(({ address }) => BigInt(address)))
      .toContain(auxv.get(AT_BASE) ?? 0n);
    expect(auxv.get(AT_ENTRY)).toBe(BigInt(bun.entry));
    expect(auxv.get(AT_PHDR)).toBe(BigInt(0x200000 + bun.headersOffset));
    expect(auxv.get(AT_PHNUM)).toBe(BigInt(bun.segments.length));
    expect(auxv.get(AT_SECURE)).toBe(0n);
    expect(auxv.get(AT_PAGESZ)).toBeGreaterThanOrEqual(4096n);
  });

  can(`Each library is in a file of its own, whole${needs}`, async () => {
    const { files } = await told(start, {});
    expect(new Map(files.map(({ link, content }) => [link, content]))).toEqual(
      new Map(libraries.map(({ name, file }) => [`/memfd:${name} (deleted)`, file.toHex()])),
    );
  });

  can(`File descriptors have as many digits as they need${needs}`, async () => {
    const few = await told(["/bin/bash", "-c", `ulimit -n 64; exec ${start.join(" ")}`], {});
    expect(few.env[0]).toMatch(/fd\/\d{1,2}$/);
    const occupy = 'for fd in $(seq 3 120); do eval "exec $fd< /dev/null"; done';
    const many = await told(["/bin/bash", "-c", `${occupy}; exec ${start.join(" ")}`], {});
    expect(many.env[0]).toMatch(/fd\/\d{3}$/);
    expect(many.files.length).toBe(libraryNames.length);
  });
});

describe.skipIf(process.arch !== "x64")("Where memfd_create is refused (needs x86-64)", () => {
  const { path, libraries } = build(machines[0] as Machine);
  const wrapper = join(folder, "without_memfd");
  writeFileSync(wrapper, withoutMemfd());
  chmodSync(wrapper, 0o755);
  const root = process.getuid?.() === 0;
  /** In mounts of its own, and if need be where there is nothing but /proc. */
  const shell = (script: string) => ["unshare", "--mount", "--propagation=private", "sh", "-ec", script];

  test("The libraries go to /dev/shm", async () => {
    const { files, argv } = await told([wrapper, path, "a"], {});
    expect(argv).toEqual([path, "a"]);
    expect(files.map(({ link }) => link.replace(/\d+/, "N"))).toEqual(
      libraries.map(() => "/dev/shm/#N (deleted)"),
    );
    expect(files.map(({ content }) => content)).toEqual(libraries.map(({ file }) => file.toHex()).reverse());
  });

  test.skipIf(!root)("Past a mount with noexec, and one that is too small (needs root)", async () => {
    const { files } = await told(
      shell(`
        mount -t tmpfs -o noexec none /dev/shm
        mount -t tmpfs -o size=100k none /run
        mount -t tmpfs none /tmp
        exec ${wrapper} ${path}`),
      {},
    );
    expect(files.map(({ link }) => link.replace(/\d+/, "N"))).toEqual(
      libraries.map(({ file }) => file.length > LARGE ? "/tmp/#N (deleted)" : "/run/#N (deleted)").reverse(),
    );
    expect(files.map(({ content }) => content)).toEqual(libraries.map(({ file }) => file.toHex()).reverse());
  });

  test.skipIf(!root)("Without any place, and without /proc, it says so (needs root)", () => {
    const empty = join(folder, "empty");
    const inside = (before: string, command: string) => {
      const done = Bun.spawnSync(shell(`
        mkdir -p ${empty}/proc
        cp ${wrapper} ${path} ${empty}
        ${before}
        exec chroot ${empty} ${command}`));
      return [done.exitCode, done.stderr.toString()];
    };
    expect(inside("", `/${basename(path)}`)).toEqual([1, "error: Cannot start: /proc is not mounted\n"]);
    expect(inside(`mount --rbind /proc ${empty}/proc`, `/${basename(wrapper)} /${basename(path)}`)).toEqual([
      1,
      "error: Cannot start: no file to hold the C library: memfd_create(2), /dev/shm, /run and /tmp all refuse\n",
    ]);
  });
});
