/** Bytes as `hexdump -C` shows them: offset, 16 of them, and which are printable. */

const PER_LINE = 16, HALF = 8;
/** Columns of a line's bytes. */
const WIDTH = PER_LINE * 3 + 1;

export function hexdump(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += PER_LINE) {
    const line = bytes.subarray(at, at + PER_LINE);
    const digits = [...line].map((byte) => byte.toString(16).padStart(2, "0"));
    const hex = `${digits.slice(0, HALF).join(" ")}  ${digits.slice(HALF).join(" ")}`;
    const plain = [...line].map((byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".");
    text += `${at.toString(16).padStart(8, "0")}  ${hex.padEnd(WIDTH)} |${plain.join("")}|\n`;
  }
  return text;
}
