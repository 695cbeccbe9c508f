/**
 * What the kernel itself makes of a value of any of its types: bpf_snprintf_btf on bytes of our making, with
 * pointers as they are. A raw tracepoint program run by BPF_PROG_TEST_RUN. Needs root, Linux 5.10.
 */
import type { MapSpec } from "../../asm/code.ts";
import {
  add,
  at,
  call,
  fp,
  ldMapValue,
  ldx,
  lea,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { bytes, struct, u32, u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import type { BpfMap } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";

/** BTF_F_PTR_RAW: without it the kernel shows hashes of pointers. */
const RAW_POINTERS = 4;
export const MAX_VALUE_BYTES = 8192;
const TEXT_BYTES = 1 << 15;

const question = struct("dump_question", {
  typeId: u32,
  /** what the helper returned: the length of the whole text, or an error */
  length: u32,
  value: bytes(MAX_VALUE_BYTES),
  text: bytes(TEXT_BYTES),
});
/** struct btf_ptr (include/uapi/linux/bpf.h) */
const btfPtr = struct("btf_ptr", { ptr: u64, type_id: u32, flags: u32 });

const room: MapSpec = {
  name: "dump_room",
  type: BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: question.size,
  maxEntries: 1,
};

export class DumpLab implements Disposable {
  readonly #maps = new Maps();
  readonly #map: BpfMap;
  readonly #program: Program;
  readonly #bytes = new Uint8Array(question.size);

  constructor() {
    const { fields } = question, pointer = -btfPtr.size;
    this.#map = this.#maps.get(room);
    this.#program = loadProgram({
      name: "dump",
      type: BPF_PROG_TYPE_RAW_TRACEPOINT,
      license: "GPL",
      code: [
        ldMapValue(r6, room),
        mov(r1, r6),
        add(r1, fields.value.offset),
        stx(at(fp, pointer + btfPtr.fields.ptr.offset, u64), r1),
        ldx(r1, at(r6, fields.typeId)),
        stx(at(fp, pointer + btfPtr.fields.type_id.offset, u32), r1),
        st(at(fp, pointer + btfPtr.fields.flags.offset, u32), 0),
        mov(r1, r6),
        add(r1, fields.text.offset),
        mov(r2, TEXT_BYTES),
        lea(r3, at(fp, pointer, u64)),
        mov(r4, btfPtr.size),
        mov(r5, RAW_POINTERS),
        call("bpf_snprintf_btf"),
        stx(at(r6, fields.length), r0),
        ret(0),
      ],
    }, { maps: this.#maps });
  }

  /** The kernel's text for `value`, of type `typeId` of vmlinux. @throws {Error} it refuses, or the text is longer than our room */
  text(typeId: number, value: Uint8Array): string {
    this.#bytes.fill(0);
    this.#bytes.set(value, question.fields.value.offset);
    new DataView(this.#bytes.buffer).setUint32(question.fields.typeId.offset, typeId, true);
    this.#map.update(0, this.#bytes);
    this.#program.testRun();
    const answer = this.#map.lookup(0)!;
    const length = answer.getInt32(question.fields.length.offset, true);
    if (length < 0 || length >= TEXT_BYTES) throw new Error(`bpf_snprintf_btf returned ${length}`);
    const start = answer.byteOffset + question.fields.text.offset;
    return new TextDecoder("latin1").decode(new Uint8Array(answer.buffer, start, length).slice());
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}
