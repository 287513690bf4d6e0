// A session with yaml-language-server, as in an editor: completion and hover are from the schema.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = process.argv[2];
const here = dirname(fileURLToPath(import.meta.url));
const server = spawn("node", [join(here, "node_modules/yaml-language-server/bin/yaml-language-server"), "--stdio"], {
  stdio: ["pipe", "pipe", "inherit"],
});

let buffer = Buffer.alloc(0);
const waiting = new Map();
const told = new Map();
let published = () => {};
server.stdout.on("data", (data) => {
  buffer = Buffer.concat([buffer, data]);
  for (;;) {
    const end = buffer.indexOf("\r\n\r\n");
    if (end < 0) return;
    const length = Number(/Content-Length: (\d+)/.exec(buffer.subarray(0, end).toString())[1]);
    if (buffer.length < end + 4 + length) return;
    const message = JSON.parse(buffer.subarray(end + 4, end + 4 + length).toString());
    buffer = buffer.subarray(end + 4 + length);
    if (message.id !== undefined && message.method) { // the server asks
      const result = message.method === "workspace/configuration" ? message.params.items.map(() => ({})) : null;
      send({ jsonrpc: "2.0", id: message.id, result });
    } else if (message.id !== undefined) {
      waiting.get(message.id)?.(message);
    } else if (message.method === "textDocument/publishDiagnostics") {
      told.set(message.params.uri, message.params.diagnostics);
      published();
    }
  }
});
const send = (message) => {
  const body = JSON.stringify(message);
  server.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
};
let next = 1;
const request = (method, params) => new Promise((resolve) => {
  const id = next++;
  waiting.set(id, resolve);
  send({ jsonrpc: "2.0", id, method, params });
});
const notify = (method, params) => send({ jsonrpc: "2.0", method, params });

const rootUri = pathToFileURL(root).href;
await request("initialize", {
  processId: process.pid, rootUri,
  capabilities: { textDocument: { completion: { completionItem: { snippetSupport: false } }, hover: {} } },
});
notify("initialized", {});
notify("workspace/didChangeConfiguration", { settings: { yaml: { completion: true, hover: true, validate: true } } });

let opened = 0;
// `|` in the text is the position of the cursor
const open = (text) => {
  const before = text.slice(0, text.indexOf("|")).split("\n");
  const position = { line: before.length, character: before.at(-1).length }; // a line further down: the modeline
  const uri = `${rootUri}/probes.d/session-${opened++}.yaml`;
  const whole = "# yaml-language-server: $schema=../schemas/ebpf-run.schema.json\n" + text.replace("|", "");
  notify("textDocument/didOpen", { textDocument: { uri, languageId: "yaml", version: 1, text: whole } });
  return { textDocument: { uri }, position };
};

let failed = 0;
const expect = (what, answer, words) => {
  const missing = words.filter((word) => !answer.includes(word));
  console.log(`${missing.length ? "MISSING " + missing.join(", ") + " in" : "ok:"} ${what}: ${answer.slice(0, 160).replaceAll("\n", " ")}`);
  failed += missing.length;
};
const complete = async (what, text, words) => {
  const { result } = await request("textDocument/completion", open(text));
  expect(what, (result?.items ?? result ?? []).map((item) => item.label).join(" "), words);
};
const hover = async (what, text, words) => {
  const { result } = await request("textDocument/hover", open(text));
  expect(what, result?.contents?.value ?? "", words);
};

const start = "version: 1\nprobes:\n  - program: biosnoop\n";
await complete("keys at the top", "version: 1\n|", ["probes", "sinks", "window", "max_loss"]);
await complete("programs", "version: 1\nprobes:\n  - program: |", ["biosnoop", "execsnoop"]);
await complete("filters of the program", `${start}    filters:\n      |`, ["min_latency", "device", "op", "comm"]);
await complete("values of a filter", `${start}    filters:\n      op: |`, ["read", "write", "flush"]);
await complete("maps of the program", `${start}    maps:\n      |`, ["inflight"]);
await complete("types of sinks", `${start}sinks:\n  out:\n    type: |`, ["stdout", "csv", "jsonl"]);
await complete("columns", `${start}sinks:\n  out:\n    type: csv\n    columns:\n      - |`, ["latency_ns", "comm", "time"]);
await hover("a filter", `${start}    filters:\n      min_la|tency: 1ms\n`, ["Only requests that took at least this long"]);
await hover("a key", `version: 1\nmax_l|oss: 1%\n`, ["exit code 3"]);

// The server's own validator underlines problems
const wrong = open(`${start}    filters:\n      min_latenc|: 1ms\nsinks: {out: {type: jsonl}}\n`);
await new Promise((resolve) => {
  published = () => { if (told.get(wrong.textDocument.uri)?.length) resolve(); };
  published();
  setTimeout(resolve, 10000);
});
expect("a filter that is none", (told.get(wrong.textDocument.uri) ?? []).map((one) => one.message).join(" "), ["min_latenc"]);
server.kill();
process.exit(failed ? 1 : 0);
