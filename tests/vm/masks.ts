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
    mask: shaped(
      /^\[(0x[\dA-F]{8},){4}0x[\dA-F]{8}\]$/,
      (cell) => cell.replace(/(?<=0x)[\dA-F]{8}/g, "XXXXXXXX"),
    ),
  },
];

/** Members with numbers of devices and CPUs, of flows, and with addresses as numbers. */
const numbers =
  /(?<= \.(?:skb_iif|hash|napi_id|sender_cpu|dev_scratch|_skb_refdst|_sk_redir|_nfct) = \([\w ]+\))\d+/;

/**
 * A struct, without what is left in its memory from other packets: sk_buff.cb, of which each layer uses a part, and in
 * skb_shared_info all behind dataref, which the kernel does not clear; and without the CPU that allocated the packet,
 * which is left out when it is 0.
 */
function maskedDump(dump: readonly string[]): string[] {
  const blockEnd = (from: number) => dump.findIndex((line, i) => i > from && /^ [\]}],$/.test(line));
  const cb = dump.findIndex((line) => line.startsWith(" .cb = ")),
    dataref = dump.indexOf(" .dataref = (atomic_t){");
  return dump.filter((line, i) =>
    (cb < 0 || i < cb || i > blockEnd(cb)) && (dataref < 0 || i <= blockEnd(dataref) || line === "}") &&
    !line.includes(" .alloc_cpu = ")
  ).map((line) => maskedRest(line.replace(numbers, "N")));
}

/** Addresses, inode numbers of namespaces, numbers of maps: in no place of their own. */
function maskedRest(text: string): string {
  return text.replace(/\b0xff[\da-f]{14}\b/g, `0x${"x".repeat(16)}`).replace(/\b402653\d{4}\b/g, "INODE")
    .replace(/^map_id: \d+$/, "map_id: N");
}

const isLine = /^(\d{4}-\d\d-\d\dT\S+ )?0x[\da-f]+ /;

/** All that a trace printed as text: its header, its lines, and what stands below them. */
export function maskedText(output: string): string {
  const [header = "", ...lines] = output.trimEnd().split("\n");
  const columns = columnsOf(numbered("NETNS"));
  const shown = columns.filter(({ title }) => isColumnOf(header, title));
  const line = (text: string) => {
    let at = 0, masked = "";
    for (const { title, width, mask } of shown) {
      const cell = text.slice(at, at + width), behind = text[at + width];
      // NETNS NAME alone has no space before it.
      if (behind !== " " && title !== "LEN") {
        throw new Error(`Cannot mask the cell "${cell}${behind}": no space`);
      }
      masked += mask(cell) + behind;
      at += width + 1;
    }
    return masked + maskedRest(text.slice(at));
  };
  const masked: string[] = [];
  for (let i = 0; i < lines.length; i++) {
    const text = lines[i]!;
    if (text.startsWith("(struct ")) {
      const end = lines.indexOf("}", i);
      masked.push(...maskedDump(lines.slice(i, end + 1)));
      i = end;
    } else masked.push(isLine.test(text) ? line(text) : maskedRest(text));
  }
  return [header, ...masked, ""].join("\n");
}

/** NETNS is a column, and a part of NETNS NAME. */
function isColumnOf(header: string, title: string): boolean {
  return header.replace("NETNS NAME", "").split(/\s+/).includes(title);
}

type Json = Readonly<Record<string, unknown>>;

/** Events as JSON, a field a line; structs and stacks as their lines. */
export function maskedJson(events: readonly Json[]): string {
  const netns = numbered("NETNS");
  const dump = (text: string) => lined(maskedDump(text.trimEnd().split("\n")));
  const masks: Readonly<Record<string, (value: never) => string>> = {
    skb: (address: string) => JSON.stringify(maskedRest(address)),
    cpu: () => "CPU",
    process: (text: string) => JSON.stringify(text.replace(/\d+$/, "PID")),
    iface: (text: string) => JSON.stringify(text.replace(/(?<=:)\d+$/, "N")),
    time: (text: string) => JSON.stringify(digits(text)),
    netns: (inode: number) => inode === 0 ? "0" : netns(String(inode)),
    cb: (words: readonly number[]) => JSON.stringify(words.map(() => "u32")),
    stack: (places: readonly string[]) =>
      lined(places.map((place) => place.replace(/\+0x[\da-f]+$/, "+0xN"))),
    sk_buff: dump,
    skb_shared_info: dump,
    // Counted without locks: it may be somewhat low.
    looked: () => "COUNT",
  };
  const masked = (event: Json) =>
    Object.entries(event).map(([name, value]) =>
      `  ${JSON.stringify(name)}: ${masks[name]?.(value as never) ?? JSON.stringify(value)}`
    );
  return events.map((event) => `{\n${masked(event).join(",\n")}\n}\n`).join("");
}

const lined = (lines: readonly string[]) => `[\n${lines.map((line) => `    ${line}\n`).join("")}  ]`;
