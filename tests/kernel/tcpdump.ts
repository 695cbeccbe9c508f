/** What the installed tcpdump makes of an expression, for comparison; libpcap 1.10 where Debian has it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { parseCbpfNumbers } from "../../asm/cbpf_text.ts";
import type { LinkType } from "../../lib/pcap_filter/codegen/state.ts";

/** Link types as capture files number them (LINKTYPE_ETHERNET, LINKTYPE_RAW). */
const linkNumbers: Readonly<Record<LinkType, number>> = { EN10MB: 1, RAW: 101 };

export class Tcpdump implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "tcpdump-"));

  /** Undefined where there is no tcpdump. */
  static find(): Tcpdump | undefined {
    return Bun.which("tcpdump") === null ? undefined : new Tcpdump();
  }

  constructor() {
    for (const [name, number] of Object.entries(linkNumbers)) {
      // an empty capture: with it no interface is opened, and the link type is ours to say
      const header = new DataView(new ArrayBuffer(24));
      header.setUint32(0, 0xa1b2c3d4, true);
      header.setUint16(4, 2, true);
      header.setUint16(6, 4, true);
      header.setUint32(16, 262144, true);
      header.setUint32(20, number, true);
      writeFileSync(join(this.#folder, name), new Uint8Array(header.buffer));
    }
  }

  /** The program, or why there is none. */
  compile(expression: string, linkType: LinkType, optimise: boolean): readonly CbpfInsn[] | string {
    const { exitCode, stdout, stderr } = Bun.spawnSync([
      "tcpdump",
      ...(optimise ? [] : ["-O"]),
      ...["-n", "-r", join(this.#folder, linkType), "-ddd", expression],
    ]);
    if (exitCode === 0) return parseCbpfNumbers(stdout.toString());
    return stderr.toString().trim().split("\n").at(-1)?.replace(/^tcpdump: /, "") ?? "";
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * What libpcap 1.10 does not have or does otherwise: vxlan, `ip multicast` up to 240/4, the whole PDU byte of
 * IS-IS, the missing load of `byte i & v`, bit tests against 0xffffffff.
 */
export function differsIn1_10(expression: string): boolean {
  return /vxlan|\bmulticast\b|isis|\bl1\b|\bl2\b|\biih\b|\bsnp\b|byte \d+ [&|]|0xffffffff|4294967295/.test(
    expression,
  );
}
