/** Small programs of tc and XDP to be traced. Their BTF is that of a C compiler. */
import { assemble } from "../../asm/assemble.ts";
import { type Code, type Label, label, type MapSpec } from "../../asm/code.ts";
import {
  add,
  at,
  call,
  callLocal,
  exit,
  fp,
  jeq,
  ldMap,
  lea,
  mov,
  mov32,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  ret,
  st,
} from "../../asm/insn.ts";
import { u32, u64 } from "../../asm/layout.ts";
import { bpfFuncInfo, BTF_MAGIC, BTF_VERSION, btfHeader, btfParam, btfType } from "../../asm/program_btf.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { bpfBtfLoad, bpfProgLoad } from "../../lib/sys/bpf.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";

/** enum bpf_prog_type */
const types = { tc: 3, xdp: 6 } as const;
const contexts = { tc: "__sk_buff", xdp: "xdp_md" } as const;
const KIND = { INT: 1, PTR: 2, STRUCT: 4, FUNC: 12, FUNC_PROTO: 13 }, GLOBAL = 1, STATIC = 0;
const BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_PROG_ARRAY = 3;

export interface Target {
  readonly kind: keyof typeof types;
  readonly name: string;
  readonly returns: number;
  /**
   * "context": its argument is the struct that it is; "number": an int, as no compiler would have it; "none": the program
   * has no BTF
   */
  readonly argument?: "context" | "number" | "none";
  /** what it does before it returns; absent: nothing */
  readonly does?: Deed;
}

/** What a program can do besides. */
export type Deed =
  /** stores, looks up and deletes an element of the hash map `flows`: key 0x2a, value 0x1122334455667788 */
  | { readonly what: "count" }
  /** goes on in the program that is first in `jumps`, if there is one */
  | { readonly what: "jump" }
  /** returns what bpf_redirect says for this device */
  | { readonly what: "redirect"; readonly ifindex: number }
  /** calls a function of its own, NAME_part, with the context */
  | { readonly what: "call" };

/** Maps of these programs, one of each in a process. */
export const targetMaps = {
  flows: { name: "flows", type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 16 },
  jumps: { name: "jumps", type: BPF_MAP_TYPE_PROG_ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 },
} as const satisfies Record<string, MapSpec>;

const KEY = 0x2a;

function bodyOf({ does, returns }: Target, part: Label): Code {
  const key = at(fp, -4, u32), value = at(fp, -16, u64), done = label("done");
  switch (does?.what) {
    case undefined:
      return ret(returns);
    case "count":
      return [
        st(key, KEY),
        st(at(fp, -16, u32), 0x55667788),
        st(at(fp, -12, u32), 0x11223344),
        [ldMap(r1, targetMaps.flows), lea(r2, key), lea(r3, value), mov(r4, 0), call("bpf_map_update_elem")],
        [ldMap(r1, targetMaps.flows), lea(r2, key), call("bpf_map_lookup_elem")],
        jeq(r0, 0, done),
        [ldMap(r1, targetMaps.flows), lea(r2, key), call("bpf_map_delete_elem")],
        done,
        ret(returns),
      ];
    case "jump":
      return [ldMap(r2, targetMaps.jumps), mov(r3, 0), call("bpf_tail_call"), ret(returns)];
    case "redirect":
      return [mov(r1, does.ifindex), mov(r2, 0), call("bpf_redirect"), exit()];
    case "call":
      return [mov(r6, r1), callLocal(part), add(r0, returns), exit(), part, mov32(r0, 0), exit()];
  }
}

/** The type id of the entry function in the BTF of a target. */
export const ENTRY_TYPE = 5;

/** `int name(struct __sk_buff *ctx)`, perhaps a second one, and their func_info. */
function btfOf(
  { kind, name, argument = "context" }: Target,
  part: number | undefined,
): { blob: Uint8Array; funcInfo: Uint8Array } {
  let strings = "\0";
  const string = (text: string) => {
    const at = strings.length;
    strings += `${text}\0`;
    return at;
  };
  const records: Uint8Array[] = [];
  const type = (text: string, kind: number, vlen: number, size_or_type: number) => {
    const bytes = new Uint8Array(btfType.size);
    btfType.encode(new DataView(bytes.buffer), 0, {
      name_off: text === "" ? 0 : string(text),
      info: kind << 24 | vlen,
      size_or_type,
    });
    records.push(bytes);
  };
  const words = (...numbers: number[]) => records.push(new Uint8Array(Uint32Array.from(numbers).buffer));
  type("int", KIND.INT, 0, 4);
  words(1 << 24 | 32); // signed, 32 bits
  type(contexts[kind], KIND.STRUCT, 0, 4);
  type("", KIND.PTR, 0, 2);
  type("", KIND.FUNC_PROTO, 1, 1);
  const parameter = new Uint8Array(btfParam.size);
  btfParam.encode(new DataView(parameter.buffer), 0, {
    name_off: string("ctx"),
    type: argument === "number" ? 1 : 3,
  });
  records.push(parameter);
  type(name, KIND.FUNC, GLOBAL, 4);
  if (part !== undefined) type(`${name}_part`, KIND.FUNC, STATIC, 4);

  const body = Buffer.concat(records), header = new Uint8Array(btfHeader.size);
  btfHeader.encode(new DataView(header.buffer), 0, {
    magic: BTF_MAGIC,
    version: BTF_VERSION,
    flags: 0,
    hdr_len: btfHeader.size,
    type_off: 0,
    type_len: body.length,
    str_off: body.length,
    str_len: strings.length,
  });
  const places = [0, ...(part === undefined ? [] : [part])];
  const funcInfo = new Uint8Array(bpfFuncInfo.size * places.length), view = new DataView(funcInfo.buffer);
  places.forEach((insn_off, i) =>
    bpfFuncInfo.encode(view, i * bpfFuncInfo.size, { insn_off, type_id: ENTRY_TYPE + i })
  );
  return { blob: Buffer.concat([header, body, Buffer.from(strings, "latin1")]), funcInfo };
}

/** Its owner closes it. @param maps those of the programs of one process */
export function loadTarget(target: Target, maps: Maps = new Maps()): OwnedFd {
  const part = label("part"), { bytes, relocations, labels } = assemble(bodyOf(target, part));
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (const { slot, map } of relocations) view.setInt32(slot * 8 + 4, maps.fd(map), true);
  const members = { prog_type: types[target.kind], insns: bytes, license: "GPL", prog_name: target.name };
  if (target.argument === "none") return new OwnedFd(bpfProgLoad(members));
  const { blob, funcInfo } = btfOf(target, labels.get(part));
  using btf = new OwnedFd(bpfBtfLoad(blob));
  return new OwnedFd(
    bpfProgLoad({
      ...members,
      prog_btf_fd: btf.fd,
      func_info: funcInfo,
      func_info_rec_size: bpfFuncInfo.size,
    }),
  );
}
