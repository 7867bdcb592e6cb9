// States of the service in which every page is checked.

import { Database } from "./database.js";
import { Market, Service, until } from "./service.js";

/** SKUs that break pages which do not escape, wrap or mark them. */
export const HOSTILE_SKUS = [
  "<script>alert(1)</script>",
  "\"><img src=x onerror=alert(1)>",
  "{{7*7}} & 'quotes'",
  "a\u202Eb\u2066c",
  "Я".repeat(255),
  "🫖".repeat(40),
  "two  spaces   inside",
  "../../etc/passwd",
  "ЧАЙНИК/синий?#%25",
  "a\u200Bzero\u00A0width",
];

const MANY = Array.from({ length: 300 }, (_, index) => [`TEA-${String(index + 1).padStart(4, "0")}`, index % 40]);

const exported = (rows) => `sku;quantity\n${Array.from({ length: rows }, (_, i) => `ERP-${i + 1};${i + 1}\n`).join("")}`;

const MOSCOW = { name: "moscow", id: 569667, settings: 'api_key_file = "api_key"' };

// Each state has values for the paths of the screens: a shop, one of its SKUs, and a source.

/** One shop with stock, equal on the Market, that the Market has asked about. */
async function calm(states) {
  const service = await Service.start({
    market: states.market,
    shops: [{
      ...MOSCOW,
      settings: `${MOSCOW.settings}
[[shops.sources]]
name = "erp"
kind = "file"
path = "stock.csv"
every_seconds = 1
scope = "snapshot"
`,
    }],
  });
  service.write("stock.csv", exported(60));
  await service.feed("moscow", [...MANY, ...HOSTILE_SKUS.map((sku, index) => [sku, index])]);
  await service.ask("moscow", ["TEA-0001", "unknown"]);
  await settle(service, "moscow", 370);
  return { service, values: { shop: "moscow", sku: "TEA-0001", hostileSku: HOSTILE_SKUS[0], source: "erp" } };
}

/** Waits until everything is sent and read back with a full match. */
async function settle(service, name, skus) {
  const shop = async () => (await service.status()).shops.find((shop) => shop.name === name);
  await until("all stock is sent", async () => {
    const { skus: known, dirty } = await shop();
    return known === skus && dirty === 0;
  });
  await service.post(`/verify?shop=${name}`);
  await until("the Market's copy is equal", async () => (await shop()).survey.last_equal);
}

/** One shop without stock. */
async function empty() {
  const service = await Service.start({
    shops: [{ name: "moscow", id: 569667, settings: 'migrate = "off"' }],
  });
  return { service, values: { shop: "moscow", sku: "TEA-0001" } };
}

/** Four shops, three in trouble. */
async function alarms() {
  // The campaigns of the other shops are unknown to the simulator, so one simulator is enough.
  const market = await Market.start();
  const service = await Service.start({
    market,
    shops: [
      MOSCOW,
      { name: "kazan", id: 569668, settings: 'api_key_file = "wrong_api_key"' },
      {
        // The longest name that is allowed.
        name: "spb-warehouse-beyond-the-ring-road-no-12",
        id: 569669,
        settings: `migrate = "off"
[[shops.sources]]
name = "erp"
kind = "file"
path = "stock.csv"
every_seconds = 1
scope = "snapshot"
absent = "zero"
[[shops.sources]]
name = "broken"
kind = "file"
path = "broken.csv"
every_seconds = 1
[[shops.sources]]
name = "broken-2"
kind = "file"
path = "broken.csv"
every_seconds = 1
`,
      },
      { name: "empty", id: 569670, settings: 'api_key_file = "api_key"' },
    ],
  });
  service.write("stock.csv", exported(60));
  service.write("broken.csv", 'a;"b\u202E\n<script>alert(1)</script>;2\n');
  await service.feed("moscow", [...MANY, ...HOSTILE_SKUS.map((sku, index) => [sku, index])]);
  await service.feed("kazan", HOSTILE_SKUS.map((sku, index) => [sku, index]));
  await settle(service, "moscow", 310);
  const name = service.shops[2].name;
  await until("the first delivery is applied", async () => {
    const { shops } = await service.status();
    return shops[2].skus === 60;
  });
  service.write("stock.csv", exported(5));
  // The Market asks for a shop without stock, and for one whose token is wrong.
  await service.ask("empty", ["TEA-0001"]);
  for (let request = 0; request < 100; request += 1) await service.ask("moscow", ["TEA-0001"], "0".repeat(49));
  for (const kind of ["campaign_paused", "source_held", "source_failed", "cold_shop_asked", "auth_failures"]) {
    await service.alarm(kind);
  }
  await until("both broken sources have failed", async () => {
    const { alarms } = await service.status();
    return alarms.filter(({ alarm }) => alarm === "source_failed").length === 2;
  });
  const stop = async () => {
    await service.stop();
    await market.stop();
  };
  return { service, stop, values: { shop: name, sku: "ERP-1", source: "erp" } };
}

/** A million SKUs, in requests of the largest size. It takes a while, so it is asked for by name. */
async function large() {
  const service = await Service.start({
    shops: [{ name: "moscow", id: 569667, settings: 'migrate = "off"' }],
  });
  const SIZE = 2_000;
  for (let first = 0; first < 1_000_000; first += SIZE) {
    const counts = Array.from({ length: SIZE }, (_, index) => [`SKU-${first + index}`, index % 50]);
    await service.feed("moscow", counts);
  }
  return { service, values: { shop: "moscow", sku: "SKU-500000" } };
}

const SHARED_SHOP = {
  ...MOSCOW,
  settings: `${MOSCOW.settings}
[[shops.sources]]
name = "erp"
kind = "file"
path = "stock.csv"
every_seconds = 1
`,
};

/** The first of two replicas: it sends and reads the sources. The second one runs too. */
async function sender() {
  const [market, database] = await Promise.all([Market.start(), Database.start()]);
  const service = await Service.start({ market, shops: [SHARED_SHOP], database, replica: "dc-1" });
  service.write("stock.csv", exported(60));
  const shop = async () => (await service.status()).shops[0];
  await until("the first replica sends", async () => (await shop()).sent_by === "dc-1");
  await service.feed("moscow", MANY);
  await settle(service, "moscow", 360);
  const second = await Service.start({ market, shops: [SHARED_SHOP], database, replica: "dc-2" });
  // Both lists, because a page loads itself again when a replica appears.
  for (const replica of [service, second]) {
    await until("the replicas know each other", async () => {
      const { replicas = [], shops } = await replica.status();
      return replicas.length === 2 && shops[0].sent_by === "dc-1";
    });
    await replica.ask("moscow", ["TEA-0001"]);
  }
  const stop = async () => {
    await Promise.all([service.stop(), second.stop(), market.stop()]);
    database.stop();
  };
  const values = { shop: "moscow", sku: "TEA-0001", source: "erp", own: "dc-1", other: "dc-2" };
  return { service, second, database, values, stop };
}

/** The second of two replicas, which does neither. */
async function follower(states) {
  const { second, values } = await states.get("sender");
  return { service: second, values, stop: () => {} };
}

const MAKERS = { calm, empty, alarms, large, sender, follower };

/** The states that a test asks for, each made once. */
export class States {
  static async start() {
    const states = new States();
    states.market = await Market.start();
    states.made = new Map();
    return states;
  }

  get(name) {
    if (!this.made.has(name)) this.made.set(name, MAKERS[name](this));
    return this.made.get(name);
  }

  async stop() {
    for (const state of this.made.values()) {
      const { service, stop } = await state;
      await (stop ? stop() : service.stop());
    }
    await this.market.stop();
  }
}

