/**
 * What can go wrong, by who must act. The fields carry the facts, the constructor makes the sentence:
 * sentence case, starts with the action, quotes values, no final period.
 */

/** A system call that failed. `call` is "bpf(BPF_MAP_CREATE)", `errno` a positive number. */
export class KernelError extends Error {
  override readonly name: string = "KernelError";
  readonly call: string;
  readonly errno: number;
  /** ENOENT, EPERM, ... */
  readonly code: string;
  /** what to do, only when we know */
  readonly hint: string | undefined;
  constructor(call: string, errno: number, code: string, { doing, hint, cause }: {
    doing?: string;
    hint?: string;
    cause?: unknown;
  } = {}) {
    super(`${doing === undefined ? "" : `${doing}: `}${call}: ${code}`, cause === undefined ? {} : { cause });
    this.call = call;
    this.errno = errno;
    this.code = code;
    this.hint = hint;
  }
}

/** A program that the verifier refused. `log` is the kernel's whole text, `item` ours at the place it names. */
export class VerifierError extends KernelError {
  override readonly name = "VerifierError";
  readonly log: string;
  readonly item: string | undefined;
  constructor(program: string, errno: number, code: string, log: string, item?: string, hint?: string) {
    super("bpf(BPF_PROG_LOAD)", errno, code, {
      doing: `Cannot load program "${program}"`,
      ...(hint === undefined ? {} : { hint }),
    });
    this.log = log;
    this.item = item;
  }
}

/** Shared memory that contradicts itself: nothing in it can be trusted any more. */
export class RingBufferError extends Error {
  override readonly name = "RingBufferError";
}

/** A type or member that the kernel's BTF does not have, or BTF that contradicts itself. */
export class BtfError extends Error {
  override readonly name = "BtfError";
  readonly type: string | undefined;
  readonly member: string | undefined;
  constructor(
    message: string,
    { type, member, cause }: { type?: string; member?: string; cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? {} : { cause });
    this.type = type;
    this.member = member;
  }
}

/** A filter expression that cannot be compiled; `offset` and `length` say where, in UTF-16 units. */
export class FilterSyntaxError extends Error {
  override readonly name = "FilterSyntaxError";
  readonly source: string;
  readonly offset: number;
  readonly length: number;
  constructor(message: string, source: string, offset: number, length: number) {
    super(message);
    this.source = source;
    this.offset = offset;
    this.length = length;
  }
}

/** A wrong command line; `option` is the offending word. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly option: string | undefined;
  constructor(message: string, option?: string) {
    super(message);
    this.option = option;
  }
}

/** This machine or these rights do not suffice; `hint` says what would. */
export class UnsupportedError extends Error {
  override readonly name = "UnsupportedError";
  readonly hint: string | undefined;
  constructor(message: string, { hint, cause }: { hint?: string; cause?: unknown } = {}) {
    super(message, cause === undefined ? {} : { cause });
    this.hint = hint;
  }
}

/** The output file is none that can be written, or is no more; `hint` says what to do. */
export class OutputError extends Error {
  override readonly name = "OutputError";
  readonly hint: string | undefined;
  constructor(message: string, { hint, cause }: { hint?: string; cause?: unknown } = {}) {
    super(message, cause === undefined ? {} : { cause });
    this.hint = hint;
  }
}
