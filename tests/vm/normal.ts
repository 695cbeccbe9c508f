/**
 * Lines of a trace without what differs from run to run: addresses, numbers of processes, CPUs, interfaces and
 * namespaces, times. A mask is as wide as what it hides, so columns stay where they are.
 */

/** Of a cell in a column: what is masked in it. @throws {Error} it is not laid out as the column has to be */
type Mask = (cell: string) => string;

interface Column {
  readonly title: string;
  readonly width: number;
  readonly mask: Mask;
}

/** Numbers of one kind by the order in which they come up. */
function numbered(name: string): (number: string) => string {
  const seen: string[] = [];
  return (number) => `${name}${(seen.includes(number) ? seen.indexOf(number) : seen.push(number) - 1) + 1}`;
}

const shaped = (pattern: RegExp, mask: Mask): Mask => (cell) => {
  if (!pattern.test(cell)) throw new Error(`Cannot mask the cell "${cell}": it is not like ${pattern}`);
  return mask(cell);
};
const digits = (cell: string) => cell.replace(/\d/g, "d");

function centred(text: string, width: number): string {
  return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width);
}

const netnsColumn = (netns: (inode: string) => string): Mask =>
  shaped(/^\d+ *$/, (cell) => (cell.trim() === "0" ? "0" : netns(cell.trim())).padEnd(10));

/** What comes before the tuple, in the order of a line. */
const columnsOf = (netns: (inode: string) => string): readonly Column[] => [
  { title: "TIME", width: 23, mask: shaped(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}$/, digits) },
  {
    title: "SKB",
    width: 18,
    mask: shaped(/^0xff[\da-f]{14}$/, (cell) => cell.replace(/[\da-f]{16}$/, "x".repeat(16))),
  },
  { title: "PACKET", width: 6, mask: shaped(/^\d+ *$/, (cell) => cell) },
  { title: "CPU", width: 3, mask: shaped(/^\d+ *$/, () => "C  ") },
  {
    title: "PROCESS",
    width: 16,
    mask: shaped(/^\S+:\d+ *$/, (cell) => cell.trimEnd().replace(/\d+$/, "PID").padEnd(16)),
  },
  {
    title: "TIMESTAMP",
    width: 16,
    mask: shaped(/^\d+ *$/, (cell) => /^0 +$/.test(cell) ? cell : "NS".padEnd(16)),
  },
  { title: "NETNS", width: 10, mask: netnsColumn(netns) },
  { title: "MARK/x", width: 8, mask: shaped(/^[\da-f]+ *$/, (cell) => cell) },
  {
    title: "IFACE",
    width: 16,
    mask(cell) {
      const text = cell.trim();
      if (cell !== centred(text, 16)) throw new Error(`Cannot mask the cell "${cell}": it is not centred`);
      return centred(text.replace(/(?<=:)\d+$/, "N"), 16);
    },
  },
  { title: "PROTO", width: 6, mask: shaped(/^0x[\da-f]{4}$/, (cell) => cell) },
  { title: "MTU", width: 5, mask: shaped(/^\d+ *$/, (cell) => cell) },
  { title: "LEN", width: 5, mask: shaped(/^\d+ *$/, (cell) => cell) },
  {
    title: "__sk_buff->cb[]",
    width: 56,
    mask: shaped(/^\[(0x[\dA-F]{8},){4}0x[\dA-F]{8}\]$/, (cell) => cell.replace(/(?<=0x)[\dA-F]/g, "X")),
  },
];

/** Of what stands in no column of a known place: pointers and what is random in structs. */
function maskedRest(text: string): string {
  return text
    .replace(/\b0x[\da-f]{5,}\b/g, (number) => `0x${"x".repeat(number.length - 2)}`)
    .replace(
      /(?<=\.(?:hash|tstamp|skb_iif|skb_mstamp_ns|napi_id|sender_cpu|alloc_cpu|dev_scratch|len|end|truesize|slow_gro|transport_header|network_header|mac_header) = \([^)]*\))\d+/g,
      (number) => number,
    );
}

/** All that a trace printed as text: its header, its lines, and what stands below them. */
export function maskedText(output: string): string {
  const [header = "", ...lines] = output.trimEnd().split("\n");
  const columns = columnsOf(numbered("NETNS"));
  const shown = columns.filter(({ title }) => ` ${header} `.includes(` ${title} `) || header.includes(title));
  const line = (text: string) => {
    let at = 0, masked = "";
    for (const { width, mask } of shown) {
      masked += mask(text.slice(at, at + width)) + text.slice(at + width, at + width + 1);
      at += width + 1;
    }
    return masked + maskedRest(text.slice(at));
  };
  const isLine = /^(\d{4}-\d\d-\d\dT\S+ )?0x[\da-f]+ /;
  return [header, ...lines.map((text) => isLine.test(text) ? line(text) : maskedRest(text)), ""].join("\n");
}

/** JSON lines, one field a line. */
export function maskedJson(lines: readonly object[]): string {
  return JSON.stringify(lines, null, 1);
}
