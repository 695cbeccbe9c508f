/** Encoded slots as the ISA groups their fields: `b7 00 0000 ffffffff`. */

/** One group of four fields per slot. */
export function slotsToHex(bytes: Uint8Array): string {
  return (bytes.toHex().match(/.{16}/g) ?? [])
    .map((slot) => `${slot.slice(0, 2)} ${slot.slice(2, 4)} ${slot.slice(4, 8)} ${slot.slice(8)}`)
    .join(" ");
}

/** The reverse; blanks do not count. */
export function hexToBytes(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex.replaceAll(" ", ""));
}
