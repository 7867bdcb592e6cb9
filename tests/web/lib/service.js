// Programs under test: the service and the Market simulator, each with a temporary directory of
// its own and ports that the system chooses.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const BINARY = resolve(ROOT, process.env.STOCKBRIDGE_BIN ?? "target/debug/stockbridge");

// Longest time for a start, a delivery, an alarm or a read-back.
const TIMEOUT_MS = 60_000;

export const PUSH_TOKEN = "41FBAC4A763D480999DAEDAC09B36CBB200000016A894A28";
export const FEED_KEY = "feed-key-of-the-browser-tests";
const API_KEY = "rehearsal-api-key";

/** Returns the result of `look` as soon as it is neither undefined, null nor false. */
export async function until(description, look, timeoutMs = TIMEOUT_MS) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`after ${timeoutMs} ms still not: ${description}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** A program that runs until `stop` or `kill`; its output is kept for messages about errors. */
class Program {
  constructor(args, directory) {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} is missing: run \`cargo build\`, or name a binary in STOCKBRIDGE_BIN`);
    }
    this.output = "";
    // The settings of the test are in its file, so no variable may override them.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith("STOCKBRIDGE_")),
    );
    this.child = spawn(BINARY, args, { cwd: directory, env, stdio: ["ignore", "pipe", "pipe"] });
    const keep = (data) => (this.output += data);
    this.child.stdout.on("data", keep);
    this.child.stderr.on("data", keep);
    this.exited = new Promise((done) => this.child.on("close", done));
    Program.running.add(this);
    this.exited.then(() => Program.running.delete(this));
  }

  static running = new Set();

  /** Waits for a text of the output. */
  printed(pattern) {
    return until(`${pattern} in the output:\n${this.output}`, () => {
      if (this.child.exitCode !== null) throw new Error(`the program has ended:\n${this.output}`);
      return this.output.match(pattern);
    });
  }

  async end(signal) {
    this.child.kill(signal);
    await this.exited;
  }
}

// A failed test must not leave programs behind.
process.on("exit", () => {
  for (const program of Program.running) program.child.kill("SIGKILL");
});

/** The simulator of the Market: one campaign, 12345, with the warehouse 569667. */
export class Market {
  static async start() {
    const market = new Market();
    market.program = new Program(["rehearse", "--market-only", "--listen", "127.0.0.1:0"], tmpdir());
    const [, address] = await market.program.printed(/listens on ([\d.]+:\d+)/);
    market.url = `http://${address}`;
    return market;
  }

  stop() {
    return this.program.end("SIGKILL");
  }
}

/** Campaign of a shop. The shop with the warehouse of the simulator has its campaign. */
function campaignOf({ id }) {
  return id - 569667 + 12345;
}

/** One shop of a configuration, as TOML. */
export function shopToml({ name, id, settings = "" }) {
  return `
[[shops]]
name = "${name}"
warehouses = [${id}]
campaign = ${campaignOf({ id })}
base_path = "/${name}"
push_token_file = "push_token"
feed_key_file = "feed_key"
${settings}
`;
}

/** The service with a temporary store. */
export class Service {
  /**
   * `shops` are objects for `shopToml`, the first with the campaign of the simulator. With a
   * `database`, `replica` is the name of this process; dc-1 reads the sources.
   */
  static async start({ market, shops, password, database, replica }) {
    const service = new Service();
    service.directory = mkdtempSync(join(tmpdir(), "stockbridge-web-"));
    service.shops = shops;
    service.market = market;
    service.password = password;
    service.replica = replica;
    if (database) service.write("store_url", database.url);
    service.write("push_token", PUSH_TOKEN);
    service.write("feed_key", FEED_KEY);
    service.write("api_key", API_KEY);
    if (password) service.write("ops_password", password);
    service.write("wrong_api_key", "a-key-that-the-market-rejects");
    service.configure("127.0.0.1:0", "127.0.0.1:0");
    await service.run();
    return service;
  }

  write(name, text) {
    writeFileSync(join(this.directory, name), text, { mode: 0o600 });
  }

  configure(listen, opsListen) {
    const top = `
listen = "${listen}"
ops_listen = "${opsListen}"
store = "store"
market_url = "${this.market?.url ?? "http://127.0.0.1:9"}"
instance = "browser-tests"
log_format = "json"
time_zone = "+03:00"
${this.replica ? `store_url_file = "store_url"\nreplica = "${this.replica}"\nsources_on = "dc-1"` : ""}
${this.password ? 'ops_password_file = "ops_password"' : ""}
`;
    this.write("config.toml", top + this.shops.map(shopToml).join(""));
  }

  /** Starts the program, for the first time or again on the same ports. */
  async run() {
    this.program = new Program(["serve", "--config", "config.toml"], this.directory);
    const [, listen, ops] = await this.program.printed(/serving on ([\d.:]+), ops on ([\d.:]+)"/);
    this.url = `http://${listen}`;
    this.ops = `http://${ops}`;
    this.configure(listen, ops);
    await until("the store is read", async () => (await fetch(`${this.ops}/readyz`)).ok || this.servesPages());
  }

  // A service without stock is ready too; the pages are served as soon as the store is read.
  async servesPages() {
    return (await fetch(`${this.ops}/`, { headers: this.credentials() })).status === 200;
  }

  credentials() {
    return this.password ? { Authorization: `Bearer ${this.password}` } : {};
  }

  kill() {
    return this.program.end("SIGKILL");
  }

  async stop() {
    await this.program.end("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  shop(name) {
    const found = this.shops.find((shop) => shop.name === name);
    if (!found) throw new Error(`no shop is called ${name}`);
    return found;
  }

  /** Updates stock as a program of the seller does. `counts` are pairs of a SKU and a count. */
  async feed(name, counts) {
    const skus = counts.map(([sku, count]) => ({ sku, items: [{ count }] }));
    const response = await fetch(`${this.url}/v2/campaigns/${campaignOf(this.shop(name))}/offers/stocks`, {
      method: "PUT",
      headers: { "Api-Key": FEED_KEY, "Content-Type": "application/json" },
      body: JSON.stringify({ skus }),
    });
    if (!response.ok) throw new Error(`the update got ${response.status}: ${await response.text()}`);
  }

  /** Asks for stock as the Market does, and returns the status. */
  async ask(name, skus, token = PUSH_TOKEN) {
    const response = await fetch(`${this.url}/${name}/stocks`, {
      method: "POST",
      headers: { Authorization: token, "Content-Type": "application/json" },
      body: JSON.stringify({ warehouseId: this.shop(name).id, skus }),
    });
    await response.arrayBuffer();
    return response.status;
  }

  /** Posts to an endpoint of the operator's listener. */
  async post(path) {
    const response = await fetch(this.ops + path, { method: "POST", headers: { "X-Stockbridge": "1" } });
    if (!response.ok) throw new Error(`${path} got ${response.status}: ${await response.text()}`);
  }

  async status() {
    return (await fetch(`${this.ops}/status`, { headers: this.credentials() })).json();
  }

  /** Waits until an alarm of this kind is active. */
  alarm(kind) {
    return until(`the alarm ${kind}`, async () => {
      const { alarms } = await this.status();
      return alarms.some((alarm) => JSON.stringify(alarm).includes(`"${kind}"`));
    });
  }
}
