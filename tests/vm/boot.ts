/**
 * One boot of one kernel: jobs in, files out.
 *
 * The first serial port is the console, the second carries one tar archive per finished job, so that what was
 * done before a hang is not lost.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Image } from "./images.ts";
import { type Job, writeInitramfs } from "./initramfs.ts";
import { isNative, type Machine } from "./machines.ts";

/** What one job left behind. */
export interface Outcome {
  readonly name: string;
  /** exit status of the script; 124 when it ran out of time, undefined when the guest never finished it */
  readonly status: number | undefined;
  readonly seconds: number;
  /** text of a file the job wrote to $OUT, "" if there is none */
  read(file: string): string;
  readonly files: readonly string[];
}

export interface Boot {
  readonly image: Image;
  readonly outcomes: ReadonlyMap<string, Outcome>;
  readonly seconds: number;
  /** last lines of the console */
  readonly console: string;
}

export interface BootOptions {
  /** the tracer under test */
  binary: string;
  memoryMib?: number;
  cpus?: number;
  /**
   * The guest's clock counts instructions, one per ns, of its one processor: what is measured by it is the same on a
   * busy machine.
   */
  countsInstructions?: boolean;
  /** more words for the kernel command line */
  append?: string;
  /** what the guest's console says, line by line, as it comes: off unless set */
  watch?: boolean;
}

/** Software emulation works everywhere; nested KVM may abort QEMU, so it is only used when asked for. */
const emulation = "tcg,thread=multi", accelerator = process.env["PWRU_VM_ACCEL"] ?? emulation;
const counting = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];

/** Time for the kernel to come up and go down, under emulation on a busy machine. */
const bootSeconds = 60;

/** What a guest has for these jobs, all in all. */
export const guestSeconds = ({ slowness }: Machine, jobs: readonly Pick<Job, "limitSeconds">[]): number =>
  slowness * (bootSeconds + jobs.reduce((sum, { limitSeconds }) => sum + limitSeconds + 5, 0));

export async function boot(image: Image, jobs: readonly Job[], options: BootOptions): Promise<Boot> {
  const { machine } = image, { countsInstructions = false } = options;
  const work = mkdtempSync(join(tmpdir(), "pwru-vm-"));
  const at = (name: string) => join(work, name);
  const limitSeconds = guestSeconds(machine, jobs);
  const begin = performance.now();
  try {
    writeInitramfs(at("initrd"), image, jobs, options.binary);
    const qemu = Bun.spawn([
      ...["setpriv", "--pdeathsig", "KILL", machine.qemu], // a guest whose host has gone would run on unseen
      ...(countsInstructions ? counting : ["-accel", isNative(machine) ? accelerator : emulation]),
      ...machine.emulated,
      ...[
        "-smp",
        String(countsInstructions ? 1 : options.cpus ?? 2),
        "-m",
        String(options.memoryMib ?? 3072),
      ],
      ...["-kernel", image.vmlinuz, "-initrd", at("initrd")],
      ...[
        "-append",
        `console=${machine.console} results=/dev/${machine.results} quiet panic=-1 ${options.append ?? ""}`,
      ],
      ...["-display", "none", "-no-reboot", "-nic", "none", "-monitor", "none"],
      ...["-serial", options.watch ? "stdio" : `file:${at("console")}`],
      ...machine.resultsInto(at("out.tar")),
    ], { stdin: "ignore", stdout: "inherit", stderr: Bun.file(at("qemu")), timeout: limitSeconds * 1000 });
    const status = await qemu.exited;
    const seconds = (performance.now() - begin) / 1000;
    const talk = ["console", "qemu"].filter((name) => existsSync(at(name)))
      .map((name) => readFileSync(at(name), "utf8")).join("\n").replaceAll("\r", "");
    if (!existsSync(at("out.tar")) || (status !== 0 && readFileSync(at("out.tar")).length === 0)) {
      throw new Error(`Cannot boot Linux ${image.kernel}: qemu ended with ${status}\n${talk.slice(-2000)}`);
    }
    return {
      image,
      outcomes: unpack(work, jobs),
      seconds,
      console: talk.trim().split("\n").slice(-30).join("\n"),
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Reads the archives of the second serial port; all files are held in memory afterwards. */
function unpack(work: string, jobs: readonly Job[]): Map<string, Outcome> {
  const folder = join(work, "out");
  mkdirSync(folder);
  // The last archive may be cut off: tar then complains, after it has unpacked the ones before.
  Bun.spawnSync(["tar", "-C", folder, "--ignore-zeros", "-xf", join(work, "out.tar")], { stderr: "ignore" });
  const returned = readdirSync(folder);
  return new Map(jobs.map((job): [string, Outcome] => {
    const found = returned.find((name) => name.replace(/^\d+-/, "") === job.name);
    const home = found === undefined ? undefined : join(folder, found);
    const names = home === undefined ? [] : readdirSync(home).sort();
    const texts = new Map(names.map((name) => [name, readFileSync(join(home ?? "", name), "utf8")]));
    const [status, begin = 0, end = 0] = (texts.get("status") ?? "").split(" ").map(Number);
    return [job.name, {
      name: job.name,
      status: texts.has("status") ? status : undefined,
      seconds: end - begin,
      read: (name) => texts.get(name) ?? "",
      files: names,
    }];
  }));
}
