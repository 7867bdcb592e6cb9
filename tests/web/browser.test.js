// Tests of the operator's pages in Chromium. One browser and one service for each state serve
// all tests. The tests that only read run side by side, the others one after the other.

import { after, before, test } from "node:test";

import { actions } from "./lib/actions.js";
import { keyboard, live, privacy, withoutScript } from "./lib/behaviour.js";
import { launch } from "./lib/browser.js";
import { pages } from "./lib/pages.js";
import { replicas } from "./lib/replicas.js";
import { States } from "./lib/states.js";

const context = {};

before(async () => {
  context.browser = await launch();
  context.states = await States.start();
});

after(async () => {
  await context.states?.stop();
  await context.browser?.close();
});

// Two pages at a time, one for each core of a machine with two.
test("read-only checks", { concurrency: true }, async (t) => {
  const { browser, states } = context;
  await Promise.all([
    t.test("pages", { concurrency: 2 }, (t) => pages(t, { browser, states, names: ["calm", "empty", "alarms", "sender", "follower"] })),
    t.test("without a script", (t) => withoutScript(t, context)),
    t.test("keyboard", (t) => keyboard(t, context)),
  ]);
});
test("live", (t) => live(t, context));
test("privacy", (t) => privacy(t, context));
test("actions", (t) => actions(t, context));
test("replicas", (t) => replicas(t, context));
