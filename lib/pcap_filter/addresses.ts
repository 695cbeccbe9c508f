/** Address texts -> numbers. The lexer has checked the shape, so only values can be wrong here. */

/** An IPv4 address or network: 32 bits, left aligned, and how many of them count. */
export interface Ipv4 {
  readonly address: number;
  readonly bits: number;
}

/** `1.2.3.4`, `10.1`: parts are decimal whatever they look like; undefined: a part is above 255. */
export function parseIpv4(text: string): Ipv4 | undefined {
  const parts = text.split(".");
  if (parts.length > 4) return undefined;
  let address = 0;
  for (const part of parts) {
    if (!/^[0-9]+$/.test(part) || Number(part) > 255) return undefined;
    address = (address << 8) | Number(part);
  }
  const bits = parts.length * 8;
  return { address: (bits === 32 ? address : address << (32 - bits)) >>> 0, bits };
}

/** The mask of the first `bits` of 32. */
export function prefixMask(bits: number): number {
  return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
}

/** A well-formed IPv6 address as four 32-bit words. */
export function parseIpv6(text: string): readonly [number, number, number, number] {
  const [head = "", tail] = text.split("::") as [string, string?];
  const before = groups(head), after = tail === undefined ? [] : groups(tail);
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  const all = [...before, ...(tail === undefined ? [] : zeros), ...after];
  const word = (index: number) => ((all[2 * index]! << 16) | all[2 * index + 1]!) >>> 0;
  return [word(0), word(1), word(2), word(3)];
}

function groups(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}

/** `0:11:22:33:44:5`, with any separator or none. */
export function parseMac(text: string): Uint8Array {
  const groups = text.split(/[:.-]/);
  const digits = groups.length === 6
    ? groups.map((group) => group.padStart(2, "0")).join("")
    : groups.join("");
  return Uint8Array.from({ length: 6 }, (_, index) => parseInt(digits.slice(2 * index, 2 * index + 2), 16));
}
