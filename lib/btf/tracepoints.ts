/**
 * The raw tracepoints a blob describes, and what each passes to a program.
 *
 * The kernel keeps a typedef `btf_trace_NAME` for each: a pointer to a prototype whose first parameter is
 * private and whose others are the arguments; argument i lies at context + 8 * i. Their names are those of
 * the function `__traceiter_NAME`, where the kernel has it. Positions differ between kernels: never guess.
 */
import { type Btf, BTF_KIND, type Kind } from "./parse.ts";
import { isComposite, parameters, pointee, strip, typeText } from "./walk.ts";

const TYPEDEF_PREFIX = "btf_trace_";
const FUNCTION_PREFIX = "__traceiter_";
const NULLABLE = "__nullable";

/** One argument of a tracepoint. */
export interface TracepointArgument {
  /** the TP_PROTO name, "" when the kernel does not tell */
  readonly name: string;
  /** type id */
  readonly type: number;
  /** as C writes it: `struct sk_buff *` */
  readonly typeText: string;
  /** the name of the struct or union it points to */
  readonly pointsTo: string | undefined;
  /** the name of the enum that it is */
  readonly enumName: string | undefined;
  /** it may be NULL, and a tp_btf program has to check */
  readonly nullable: boolean;
}

export interface RawTracepoint {
  readonly name: string;
  /** id of the typedef, for tp_btf */
  readonly typeId: number;
  readonly arguments: readonly TracepointArgument[];
}

/** The tracepoints of this blob, not of its base, in the order of their types. */
export function* rawTracepoints(btf: Btf): Generator<RawTracepoint> {
  const iterators = namedWith(btf, FUNCTION_PREFIX, BTF_KIND.FUNC);
  for (const [name, id] of namedWith(btf, TYPEDEF_PREFIX, BTF_KIND.TYPEDEF)) {
    const found = describe(btf, id, name, iterators.get(name));
    if (found !== undefined) yield found;
  }
}

/** The first type of each name of this kind that starts so, by the rest of its name. */
function namedWith(btf: Btf, prefix: string, kind: Kind): Map<string, number> {
  const bytes = Buffer.from(prefix), found = new Map<string, number>();
  for (let id = btf.firstId; id < btf.endId; id++) {
    if (btf.kind(id) !== kind || !btf.nameStartsWith(id, bytes)) continue;
    const name = btf.nameOf(id).slice(prefix.length);
    if (!found.has(name)) found.set(name, id);
  }
  return found;
}

/** The tracepoint `name` of this blob or its base. */
export function rawTracepoint(btf: Btf, name: string): RawTracepoint | undefined {
  const id = btf.find(TYPEDEF_PREFIX + name, BTF_KIND.TYPEDEF);
  return id === undefined
    ? undefined
    : describe(btf, id, name, btf.find(FUNCTION_PREFIX + name, BTF_KIND.FUNC));
}

/** @param iterator id of the function whose parameters have the names of the arguments */
function describe(
  btf: Btf,
  id: number,
  name: string,
  iterator: number | undefined,
): RawTracepoint | undefined {
  const target = pointee(btf, id);
  if (target === undefined || btf.kind(strip(btf, target)) !== BTF_KIND.FUNC_PROTO) return undefined;
  const names = iterator === undefined
    ? []
    : [...parameters(btf, iterator)].map((parameter) => parameter.name);
  const all = [...parameters(btf, id)].slice(1).map(({ name: own, type }, i): TracepointArgument => {
    const argument = own || (names[i + 1] ?? "");
    const to = pointee(btf, type), struct = to === undefined ? 0 : strip(btf, to), plain = strip(btf, type);
    const isEnum = btf.kind(plain) === BTF_KIND.ENUM || btf.kind(plain) === BTF_KIND.ENUM64;
    return {
      name: argument,
      type,
      typeText: typeText(btf, type),
      pointsTo: isComposite(btf.kind(struct)) ? btf.nameOf(struct) : undefined,
      enumName: isEnum ? btf.nameOf(plain) : undefined,
      nullable: argument.endsWith(NULLABLE),
    };
  });
  return { name, typeId: id, arguments: all };
}

/** The position of the first argument that points to `struct`, or undefined. */
export function pointerArgument(tracepoint: RawTracepoint, struct: string): number | undefined {
  const at = tracepoint.arguments.findIndex((argument) => argument.pointsTo === struct);
  return at < 0 ? undefined : at;
}

/** The position of the first argument that is `enum enumName`, or undefined. */
export function enumArgument(tracepoint: RawTracepoint, enumName: string): number | undefined {
  const at = tracepoint.arguments.findIndex((argument) => argument.enumName === enumName);
  return at < 0 ? undefined : at;
}
