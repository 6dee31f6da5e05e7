// Push, query and tail with Weir's gRPC API, from the protos alone.
//
// Needs `npm install` in this folder. Usage: node client.js [HOST:PORT],
// default 127.0.0.1:9095.
"use strict";

const assert = require("node:assert");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const proto = path.resolve(__dirname, "../../../proto");
const files = ["push", "query", "tail"].map((name) => `weir/${name}/v1/${name}.proto`);
const { weir } = grpc.loadPackageDefinition(loader.loadSync(files, {
  includeDirs: [path.join(proto, "public"), path.join(proto, "third_party")],
  longs: String, // nanoseconds do not fit into a JavaScript number
}));

const addr = process.argv[2] ?? "127.0.0.1:9095";
const plain = grpc.credentials.createInsecure();
const push = new weir.push.v1.PushService(addr, plain);
const query = new weir.query.v1.QueryService(addr, plain);
const tail = new weir.tail.v1.TailService(addr, plain);

/** Calls a unary rpc and returns a promise of its answer. */
const call = (client, rpc, request) => new Promise((resolve, reject) => {
  client[rpc](request, { deadline: Date.now() + 10_000 }, (err, answer) => (err ? reject(err) : resolve(answer)));
});

const run = `node-${process.hrtime.bigint()}-${Date.now()}`;
const labels = { app: "example", run };
const selector = `{app="example", run="${run}"}`;
let clock = BigInt(Date.now()) * 1_000_000n;

/** Stores lines, each a nanosecond after the one before. */
async function store(...lines) {
  const entries = lines.map((text) => ({ timestampUnixNano: String(clock++), text }));
  const answer = await call(push, "Push", { streams: [{ labels, entries }] });
  console.log("push: accepted", answer.acceptedEntries, "rejected", answer.rejectedEntries ?? 0);
  assert.equal(answer.acceptedEntries, lines.length);
}

async function main() {
  // Push three lines.
  await store("one", "two", "three");

  // Query them back, oldest first.
  const found = await call(query, "QueryRange", { query: selector, direction: "DIRECTION_FORWARD" });
  const lines = found.streams.streams.flatMap((s) => s.entries.map((e) => e.text));
  console.log("query:", lines);
  assert.deepEqual(lines, ["one", "two", "three"]);

  // Tail: the same lines first, then one that is pushed meanwhile.
  const seen = [];
  const start = { seconds: Math.floor(Date.now() / 1000) - 60 };
  const answers = tail.Tail({ query: selector, start }, { deadline: Date.now() + 30_000 });
  for await (const answer of answers) {
    for (const entry of (answer.streams ?? []).flatMap((s) => s.entries)) {
      console.log("tail:", entry.text);
      seen.push(entry.text);
    }
    if (answer.streams && seen.join() === "one,two,three") await store("four");
    if (seen.includes("four")) break;
  }
  assert.deepEqual(seen, ["one", "two", "three", "four"]);
}

main().then(() => process.exit(0), (err) => { console.error(err); process.exit(1); });
