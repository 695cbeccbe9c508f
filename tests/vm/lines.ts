/**
 * Reads what a tracer prints, back into records.
 *
 * The header says which columns there are; every column has one pattern. Debian's pwru 1.0.5 has a short header
 * and writes the rest as key=value, so it is a second dialect. Lines that are no records (stacks, dumps) belong
 * to the record before them; comments, which say where records are missing, are left out.
 */

export interface TraceLine {
  /** "0x..." as printed: an identity, not a number to count with */
  readonly skb: string;
  /** --output-packet-id */
  readonly packet?: number;
  readonly cpu: number;
  readonly process: string;
  readonly func: string;
  /** SKB_DROP_REASON_* without that prefix, if the function carries one */
  readonly reason?: string;
  readonly time?: string;
  readonly timestamp?: number;
  readonly netns?: number;
  readonly mark?: number;
  /** "" when the tracer knows no name for the index */
  readonly iface?: string;
  readonly ifindex?: number;
  /** ethertype */
  readonly proto?: number;
  readonly mtu?: number;
  readonly len?: number;
  /** addresses, ports and protocol, with the flags of TCP */
  readonly tuple?: string;
  /** what stands behind other protocols: "echo,id=7,seq=1" of "(icmp:echo,id=7,seq=1)" */
  readonly detail?: string;
  readonly caller?: string;
  /** as `tuple` */
  readonly tunnel?: string;
  readonly below: readonly string[];
}

interface Column {
  /** as the header names it */
  readonly title: string;
  readonly group: string;
  readonly pattern: string;
}

/** In the order of the line. NETNS NAME comes before NETNS, so that the longer title is found first. */
const columns: readonly Column[] = [
  { title: "TIME", group: "time", pattern: "\\d{4}-\\d\\d-\\d\\dT[\\d:.]+" },
  { title: "SKB", group: "skb", pattern: "0x[0-9a-f]+" },
  { title: "PACKET", group: "packet", pattern: "\\d+" },
  { title: "CPU", group: "cpu", pattern: "\\d+" },
  { title: "PROCESS", group: "process", pattern: "\\S.*?:\\d+" },
  { title: "TIMESTAMP", group: "timestamp", pattern: "\\d+" },
  { title: "NETNS NAME", group: "netnsName", pattern: "\\S*" },
  { title: "NETNS", group: "netns", pattern: "\\d+" },
  { title: "MARK/x", group: "mark", pattern: "[0-9a-f]+" },
  { title: "IFACE", group: "iface", pattern: "\\S+?:\\d+|\\d+" },
  { title: "PROTO", group: "proto", pattern: "0x[0-9a-f]{4}" },
  { title: "MTU", group: "mtu", pattern: "\\d+" },
  { title: "LEN", group: "len", pattern: "\\d+" },
  { title: "__sk_buff->cb[]", group: "cb", pattern: "\\[[^\\]]*\\]" },
  { title: "TUPLE", group: "tuple", pattern: "\\S*:\\d+->\\S*:\\d+\\([^)]*\\)" },
  {
    title: "FUNC",
    group: "func",
    pattern: "[^\\s(]+(?: ?\\(\\w+\\))?(?:\\[\\w+\\])?(?:\\((?:tc|xdp)\\)(?:\\(\\w+\\))?)?",
  },
  { title: "CALLER", group: "caller", pattern: "\\S+" },
  { title: "TUNNEL", group: "tunnel", pattern: "\\S+" },
];

/** One pattern for the lines under this header. */
function linePattern(header: string): RegExp {
  let rest = header;
  const present: { column: Column; at: number }[] = [];
  for (const column of columns.toSorted((a, b) => b.title.length - a.title.length)) {
    const at = rest.search(new RegExp(`(?<=^|\\s)${RegExp.escape(column.title)}(?=\\s|$)`));
    if (at < 0) continue;
    present.push({ column, at });
    rest = rest.slice(0, at) + " ".repeat(column.title.length) + rest.slice(at + column.title.length);
  }
  const unknown = rest.trim();
  if (unknown !== "") throw new Error(`Cannot read the header "${header}": unknown column "${unknown}"`);
  const cells = present.sort((a, b) => a.at - b.at)
    .map(({ column }) => `(?<${column.group}>${column.pattern})`);
  return new RegExp(`^${cells.join("\\s+")}(?:\\s|$)`);
}

/** Debian's pwru 1.0.5: [TIME] SKB, set to the right, CPU PROCESS FUNC [TIMESTAMP], then key=value. */
const oldHeader = /^\s+(?:TIME\s+)?SKB\s+CPU\s+PROCESS\s+FUNC\b/;
const oldLine = new RegExp(
  "^(?:(?<time>\\d\\d:\\d\\d:[\\d.]+)\\s+)?(?<skb>0x[0-9a-f]+)\\s+(?<cpu>\\d+)\\s+" +
    "\\[(?<process>.*?)\\]\\s+(?<func>[^\\s(]+(?:\\([A-Z_]+\\))?)" +
    "(?:\\s+(?<timestamp>\\d+))?" +
    "(?: netns=(?<netns>\\d+) mark=0x(?<mark>[0-9a-f]+) iface=(?<iface>\\S+) proto=(?<proto>0x[0-9a-f]{4}) " +
    "mtu=(?<mtu>\\d+) len=(?<len>\\d+))?(?: (?<tuple>\\S*:\\d+->\\S*:\\d+\\([^)]*\\)))?",
);

type Groups = Record<string, string | undefined>;

/** "eth0:2", "2(eth0)" and "2" */
function interfaceOf(text: string): { iface: string; ifindex: number } {
  const [, index, name] = /^(\d+)(?:\((.*)\))?$/.exec(text) ?? [];
  if (index !== undefined) return { iface: name ?? "", ifindex: Number(index) };
  const colon = text.lastIndexOf(":");
  return { iface: text.slice(0, colon), ifindex: Number(text.slice(colon + 1)) };
}

/** "kfree_skb_reason(SKB_DROP_REASON_TCP_CSUM)" -> function and reason; others stay as they are */
function functionOf(text: string): { func: string; reason?: string } {
  const [, func, reason] = /^([^\s(]+(?:\((?:tc|xdp)\))?) ?\(([A-Z_0-9]+)\)$/.exec(text) ?? [];
  if (func === undefined || reason === undefined) return { func: text };
  return { func, reason: reason.replace(/^SKB_DROP_REASON_/, "") };
}

/** "10.0.0.1:0->10.0.0.2:0(icmp:echo,id=7,seq=1)" -> the tuple as pwru has it, and the rest; TCP's flags stay. */
function tupleOf(text: string): { tuple: string; detail?: string } {
  const [, tuple, protocol, detail] = /^(.*)\(((?!tcp:[A-Z])\w+):([^)]*)\)$/.exec(text) ?? [];
  return detail === undefined ? { tuple: text } : { tuple: `${tuple}(${protocol})`, detail };
}

function record(cells: Groups): TraceLine {
  const number = (name: string, base = 10) =>
    cells[name] === undefined ? {} : { [name]: parseInt(cells[name], base) };
  const text = (name: string) => cells[name] === undefined ? {} : { [name]: cells[name] };
  return {
    skb: cells["skb"] ?? "",
    cpu: Number(cells["cpu"]),
    process: cells["process"] ?? "",
    ...functionOf(cells["func"] ?? ""),
    ...number("packet"),
    ...text("time"),
    ...number("timestamp"),
    ...number("netns"),
    ...number("mark", 16),
    ...(cells["iface"] === undefined ? {} : interfaceOf(cells["iface"])),
    ...number("proto", 16),
    ...number("mtu"),
    ...number("len"),
    ...(cells["tuple"] === undefined ? {} : tupleOf(cells["tuple"])),
    ...text("caller"),
    ...(cells["tunnel"] === undefined ? {} : { tunnel: tupleOf(cells["tunnel"]).tuple }),
    below: [],
  };
}

/** @param output all that the tracer wrote to stdout; the first line is the header
 * @throws {Error} there is a header that we do not know, or text before the first record */
export function parseLines(output: string): TraceLine[] {
  const [header = "", ...lines] = output.replace(/\n$/, "").split("\n");
  if (header === "") return [];
  const pattern = oldHeader.test(header) ? oldLine : linePattern(header);
  const records: (TraceLine & { below: string[] })[] = [];
  for (const line of lines) {
    if (line.startsWith("# ")) continue;
    const cells = pattern.exec(line)?.groups;
    if (cells !== undefined) records.push({ ...record(cells), below: [] });
    else if (records.length > 0) records.at(-1)?.below.push(line);
    else throw new Error(`Cannot read the line "${line}" under the header "${header}"`);
  }
  return records;
}
