// The pages with a million SKUs: `npm run large`. Feeding takes minutes with a debug build, so
// this is not a part of CI. Name a release build in STOCKBRIDGE_BIN for times that mean something.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch } from "./lib/browser.js";
import { pages } from "./lib/pages.js";
import { States } from "./lib/states.js";
import { pathOf, screensIn } from "./screens.js";

const MAX_MS = 50;

const context = {};

before(async () => {
  context.browser = await launch();
  context.states = await States.start();
  await context.states.get("large");
});

after(async () => {
  await context.states?.stop();
  await context.browser?.close();
});

test("a page is served within its limit", async (t) => {
  const { service, values } = await context.states.get("large");
  for (const screen of screensIn("large")) {
    const path = pathOf(screen, values);
    const times = [];
    for (let index = 0; index < 50; index += 1) {
      const start = performance.now();
      const response = await fetch(service.ops + path);
      assert.equal(response.status, 200);
      await response.text();
      times.push(performance.now() - start);
    }
    const [first] = times;
    times.sort((a, b) => a - b);
    const round = (time) => time.toFixed(1);
    t.diagnostic(`${screen.name}: first ${round(first)} ms, median ${round(times[25])} ms, slowest ${round(times.at(-1))} ms`);
    const limit = screen.maxMs ?? MAX_MS;
    assert.ok(first < limit, `the first ${screen.name} took ${round(first)} ms`);
    assert.ok(times[25] < limit, `the median of ${screen.name} is ${round(times[25])} ms`);
  }
});

test("pages", { concurrency: 2 }, (t) => pages(t, { ...context, names: ["large"] }));
