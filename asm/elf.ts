/** The headers of ELF64 files, little endian (include/uapi/linux/elf.h). */
import { struct, u16, u32, u64, u8 } from "./layout.ts";

/** "\x7fELF" as a number */
export const ELFMAG = 0x464c457f;
export const PT_LOAD = 1;

export const elfHeader = struct("elf64_hdr", {
  magic: u32, //      e_ident[0..3], 7f 45 4c 46
  class: u8, //       e_ident[EI_CLASS]
  data: u8, //        e_ident[EI_DATA]
  version: u8, //     e_ident[EI_VERSION]
  osabi: u8, //       e_ident[EI_OSABI]
  _pad: u64,
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: u64,
  e_phoff: u64,
  e_shoff: u64,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});

export const programHeader = struct("elf64_phdr", {
  p_type: u32,
  p_flags: u32,
  p_offset: u64,
  p_vaddr: u64,
  p_paddr: u64,
  p_filesz: u64,
  p_memsz: u64,
  p_align: u64,
});
