/** Small programs of tc and XDP to be traced: each returns one number. Their BTF is that of a C compiler. */
import { assemble } from "../../asm/assemble.ts";
import { ret } from "../../asm/insn.ts";
import { bpfFuncInfo, BTF_MAGIC, BTF_VERSION, btfHeader, btfParam, btfType } from "../../asm/program_btf.ts";
import { bpfBtfLoad, bpfProgLoad } from "../../lib/sys/bpf.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";

/** enum bpf_prog_type */
const types = { tc: 3, xdp: 6 } as const;
const contexts = { tc: "__sk_buff", xdp: "xdp_md" } as const;
const KIND = { INT: 1, PTR: 2, STRUCT: 4, FUNC: 12, FUNC_PROTO: 13 }, GLOBAL = 1;

export interface Target {
  readonly kind: keyof typeof types;
  readonly name: string;
  readonly returns: number;
  /**
   * "context": its argument is the struct that it is; "number": an int, as no compiler would have it; "none": the program
   * has no BTF
   */
  readonly argument?: "context" | "number" | "none";
}

/** The type id of the entry function in the BTF of a target. */
export const ENTRY_TYPE = 5;

/** `int name(struct __sk_buff *ctx)`, and its func_info. */
function btfOf({ kind, name, argument = "context" }: Target): { blob: Uint8Array; funcInfo: Uint8Array } {
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
  const funcInfo = new Uint8Array(bpfFuncInfo.size);
  bpfFuncInfo.encode(new DataView(funcInfo.buffer), 0, { insn_off: 0, type_id: ENTRY_TYPE });
  return { blob: Buffer.concat([header, body, Buffer.from(strings, "latin1")]), funcInfo };
}

/** Its owner closes it. */
export function loadTarget(target: Target): OwnedFd {
  const members = {
    prog_type: types[target.kind],
    insns: assemble(ret(target.returns)).bytes,
    license: "GPL",
    prog_name: target.name,
  };
  if (target.argument === "none") return new OwnedFd(bpfProgLoad(members));
  const { blob, funcInfo } = btfOf(target);
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
