// Makes the pictures of docs/page.md: `npm run docs`. Each is a WebP file of at most 80 kB.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { launch, open } from "./lib/browser.js";
import { States } from "./lib/states.js";
import { SCREENS, pathOf } from "./screens.js";

const FOLDER = fileURLToPath(new URL("../../docs/screenshots", import.meta.url));
const MAX_BYTES = 80_000;

// `height` cuts the picture off.
const PICTURES = [
  { file: "overview", screen: "overview", state: "calm", language: "en", width: 1280, height: 430 },
  { file: "overview-alarms", screen: "overview", state: "alarms", language: "en", width: 1100, height: 640 },
  { file: "overview-narrow", screen: "overview", state: "alarms", language: "ru", theme: "dark", width: 360, height: 740 },
  { file: "replicas", screen: "overview", state: "follower", language: "en", width: 1280, height: 640 },
  { file: "shop", screen: "shop", state: "calm", language: "en", width: 1100, height: 900 },
  { file: "sku", screen: "sku", state: "calm", language: "en", width: 1100, height: 560 },
  { file: "sources", screen: "sources", state: "alarms", language: "en", width: 1100, height: 800 },
  { file: "held", screen: "held", state: "alarms", language: "en", width: 1100, height: 800 },
  { file: "events", screen: "events", state: "alarms", language: "zh", width: 1100, height: 640 },
  { file: "ready", screen: "ready", state: "alarms", language: "ru", width: 1100, height: 720 },
];

mkdirSync(FOLDER, { recursive: true });
const browser = await launch();
const states = await States.start();
try {
  for (const { file, screen, state, language, theme = "light", width, height } of PICTURES) {
    const { service, values } = await states.get(state);
    const { page, close } = await open(browser, service, language, {
      colorScheme: theme,
      viewport: { width, height },
    });
    await page.goto(pathOf(SCREENS.find(({ name }) => name === screen), values));
    await page.waitForFunction(() => !document.body.dataset.live || document.getElementById("connection").textContent);
    const session = await page.context().newCDPSession(page);
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 70 });
    const bytes = Buffer.from(data, "base64");
    assert.ok(bytes.length <= MAX_BYTES, `${file} has ${bytes.length} bytes: make it smaller`);
    writeFileSync(join(FOLDER, `${file}.webp`), bytes);
    console.log(`docs/screenshots/${file}.webp: ${bytes.length} bytes`);
    await close();
  }
} finally {
  await states.stop();
  await browser.close();
}
