// Effect of open pages on the Market: `npm run load`. It measures `POST /stocks` without and with
// 50 open pages of all kinds, by turns, and prints the ratio of the 99th percentiles. It is not a part of CI,
// because times on a shared machine vary more than the effect.

import { Agent, get, request } from "node:http";

import { PUSH_TOKEN, Service } from "./lib/service.js";

const PAGES = 50;
const ROUNDS = 5;
const REQUESTS = 2_000;
const MAX_RATIO = 3;

const service = await Service.start({ shops: [{ name: "moscow", id: 569667, settings: 'migrate = "off"' }] });
const skus = Array.from({ length: 2_000 }, (_, index) => `SKU-${index}`);
await service.feed("moscow", skus.map((sku) => [sku, 1]));

const agent = new Agent({ keepAlive: true, maxSockets: 4 });
const body = JSON.stringify({ warehouseId: 569667, skus: skus.slice(0, 500) });

function ask() {
  const start = performance.now();
  return new Promise((done, failed) => {
    const options = {
      agent,
      method: "POST",
      headers: { Authorization: PUSH_TOKEN, "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
    };
    const sent = request(`${service.url}/moscow/stocks`, options, (response) => {
      if (response.statusCode !== 200) failed(new Error(`POST /stocks got ${response.statusCode}`));
      response.resume();
      response.on("end", () => done(performance.now() - start));
    });
    sent.on("error", failed);
    sent.end(body);
  });
}

// Four requests at a time, as the Market sends them.
async function measure() {
  const times = [];
  const lane = async () => {
    while (times.length < REQUESTS) times.push(await ask());
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  return times;
}

let frames = 0;

// Each page with its stream.
const OPENED = [
  ["/", "/live/overview"],
  ["/shops/moscow", "/live/shops/moscow"],
  ["/shops/moscow/skus/SKU-7", "/live/shops/moscow/sku?sku=SKU-7"],
  ["/sources", "/live/sources"],
  ["/events", "/live/events"],
  ["/ready", "/live/ready"],
];

async function openPage(index) {
  const [page, live] = OPENED[index % OPENED.length];
  const response = await fetch(service.ops + page, { headers: { Accept: "text/html" } });
  if (!response.ok) throw new Error(`${page} got ${response.status}`);
  await response.text();
  return new Promise((done, failed) => {
    const stream = get(service.ops + live, (response) => {
      response.on("data", () => {
        frames += 1;
        done(stream);
      });
      response.on("error", () => {});
    });
    stream.on("error", failed);
  });
}

const percentile = (times, part) => times.sort((a, b) => a - b)[Math.floor(times.length * part)];

await measure();
const without = [];
const withPages = [];
for (let round = 0; round < ROUNDS; round += 1) {
  without.push(...(await measure()));
  const streams = await Promise.all(Array.from({ length: PAGES }, (_, index) => openPage(index)));
  // Values that change, so that every page gets a frame each second.
  let count = 0;
  const change = setInterval(() => service.feed("moscow", [[`new-${round}-${(count += 1)}`, 1]]).catch(console.error), 500);
  withPages.push(...(await measure()));
  clearInterval(change);
  for (const stream of streams) {
    stream.on("error", () => {});
    stream.destroy();
  }
}
agent.destroy();
await service.stop();

const ratio = percentile(withPages, 0.99) / percentile(without, 0.99);
for (const [name, times] of [["without pages", without], [`with ${PAGES} pages`, withPages]]) {
  console.log(`${name}: median ${percentile(times, 0.5).toFixed(2)} ms, p99 ${percentile(times, 0.99).toFixed(2)} ms`);
}
console.log(`ratio of p99: ${ratio.toFixed(2)}, events to the pages: ${frames}`);
if (!(ratio < MAX_RATIO)) {
  console.error(`open pages slow the responses down: ${ratio.toFixed(2)} is not below ${MAX_RATIO}`);
  process.exitCode = 1;
}
