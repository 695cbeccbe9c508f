/** Finds a section of an ELF file by its name: all we need of ELF. Only elfy's offset and size are trusted. */
import { parse } from "elfy";
import { BtfError } from "../errors.ts";

export function isElf(file: Uint8Array): boolean {
  return file.length >= 4 && file[0] === 0x7f && file[1] === 0x45 && file[2] === 0x4c && file[3] === 0x46;
}

/**
 * The bytes of section `name`, shared with `file`; undefined when there is none.
 *
 * @throws {BtfError} the file is damaged
 */
export function elfSection(file: Uint8Array, name: string): Uint8Array | undefined {
  const found = sections(file).find((section) => section.name === name);
  if (found === undefined) return undefined;
  if (!(found.off >= 0 && found.size >= 0 && found.off + found.size <= file.length)) {
    throw new BtfError(`Cannot read the ELF file: section ${name} lies outside its ${file.length} bytes`);
  }
  return file.subarray(found.off, found.off + found.size);
}

function sections(file: Uint8Array) {
  try {
    return parse(Buffer.from(file.buffer, file.byteOffset, file.length)).body.sections;
  } catch (cause) {
    throw new BtfError("Cannot read the ELF file: it is damaged", { cause });
  }
}
