/** The architectures we build for: a row per machine, all that differs between them. */
import { EM_AARCH64, EM_X86_64 } from "./elf.ts";
import type { LauncherPlan } from "./launcher.ts";
import { launcherArm64 } from "./launcher_arm64.ts";
import { launcherX64 } from "./launcher_x64.ts";
import type { Code } from "./machine_code.ts";

export interface Machine {
  /** as process.arch has it */
  readonly arch: "x64" | "arm64";
  /** as Debian has it */
  readonly debian: "amd64" | "arm64";
  /** the npm package that holds Bun's executable for glibc */
  readonly bunPackage: string;
  /** e_machine */
  readonly elf: number;
  /** bytes of the largest page a kernel may have; segments never share one */
  readonly pageSize: number;
  /** where Debian keeps the libraries */
  readonly libraryFolder: string;
  /** SONAME of ld.so */
  readonly interpreter: string;
  readonly launcher: (plan: LauncherPlan) => Code;
}

export const machines: readonly Machine[] = [
  {
    arch: "x64",
    debian: "amd64",
    bunPackage: "@oven/bun-linux-x64",
    elf: EM_X86_64,
    pageSize: 0x1000,
    libraryFolder: "lib/x86_64-linux-gnu",
    interpreter: "ld-linux-x86-64.so.2",
    launcher: launcherX64,
  },
  {
    arch: "arm64",
    debian: "arm64",
    bunPackage: "@oven/bun-linux-aarch64",
    elf: EM_AARCH64,
    pageSize: 0x10000,
    libraryFolder: "lib/aarch64-linux-gnu",
    interpreter: "ld-linux-aarch64.so.1",
    launcher: launcherArm64,
  },
];
