// What a person does with the pages: without a script, with the keyboard alone, and while the
// service changes.

import assert from "node:assert/strict";

import { open } from "./browser.js";
import { jumps } from "./checks.js";
import { FEED_KEY, Service } from "./service.js";
import { pathOf, screensIn } from "../screens.js";

/** Tests without JavaScript. */
export async function withoutScript(t, { browser, states }) {
  for (const name of ["calm", "empty", "alarms"]) {
    const { service, values } = await states.get(name);
    // Most pages have the links of the frame, and each is followed once.
    const followed = new Set();
    for (const screen of screensIn(name)) {
      await t.test(`${screen.name}, ${name}`, async () => {
        const { page, problems, close } = await open(browser, service, "ru", { javaScriptEnabled: false });
        await page.goto(pathOf(screen, values));
        assert.ok((await page.locator("h1").textContent()).trim(), "the page has a heading");
        const isLive = await page.locator("body").getAttribute("data-live");
        const refresh = await page.locator('noscript meta[http-equiv="refresh"], meta[http-equiv="refresh"]').count();
        if (isLive) assert.equal(refresh, 1, "a page that changes reloads itself");
        assert.equal(await page.locator("main [hidden]:visible").count(), 0);
        const links = await page.locator("a[href]").evaluateAll((all) => all.map((a) => a.getAttribute("href")));
        for (const link of new Set(links)) {
          if (link.startsWith("#")) {
            assert.equal(await page.locator(link).count(), 1, `${link} leads to an element`);
          } else if (!followed.has(link)) {
            followed.add(link);
            const response = await page.request.get(new URL(link, page.url()).href);
            assert.equal(response.status(), 200, `${link} works`);
          }
        }
        await close();
        assert.deepEqual(problems, []);
      });
    }
  }
}

/** Tests with the keyboard alone. */
export async function keyboard(t, { browser, states }) {
  const { service, values } = await states.get("alarms");
  for (const screen of screensIn("alarms")) {
    for (const width of [1440, 360]) {
      await t.test(`${screen.name}, ${width} px`, async () => {
        const viewport = { width, height: 900 };
        const { page, problems, close } = await open(browser, service, "ru", { viewport });
        await page.goto(pathOf(screen, values));
        const count = await page.evaluate(() => {
          const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
          const all = [...document.querySelectorAll(usable)].filter((element) => element.checkVisibility());
          all.forEach((element, index) => (element.dataset.order = index));
          return all.length;
        });
        for (let index = 0; index < count; index += 1) {
          await page.keyboard.press("Tab");
          const focus = await page.evaluate(() => {
            const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(document.activeElement);
            const box = document.activeElement.getBoundingClientRect();
            return {
              order: document.activeElement.dataset.order,
              name: document.activeElement.outerHTML.slice(0, 80),
              outline: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && outlineColor !== "rgba(0, 0, 0, 0)",
              isOnScreen: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
            };
          });
          assert.equal(focus.order, String(index), `Tab goes on to element ${index}, not to ${focus.name}`);
          assert.ok(focus.outline, `the focus is visible at ${focus.name}`);
          assert.ok(focus.isOnScreen, `the focus is on the screen at ${focus.name}`);
        }
        // The first link skips the header.
        await page.goto(pathOf(screen, values));
        await page.keyboard.press("Tab");
        await page.keyboard.press("Enter");
        assert.equal(await page.evaluate(() => document.activeElement.id), "content");
        await page.keyboard.press("Tab");
        const isInside = await page.evaluate(() => Boolean(document.activeElement.closest("main, .screens")));
        assert.ok(isInside, "Tab goes on inside the content");
        await close();
        assert.deepEqual(problems, []);
      });
    }
  }
}

/** Tests of values that change while a page is open. */
export async function live(t, { browser, states }) {
  const service = await Service.start({
    market: states.market,
    shops: [
      { name: "moscow", id: 569667, settings: 'migrate = "off"' },
      { name: "kazan", id: 569668, settings: 'api_key_file = "wrong_api_key"' },
    ],
  });
  await service.feed("moscow", [["A", 1], ["B", 2]]);
  const { page, problems, close } = await open(browser, service, "en");
  const connected = (severity) => page.waitForSelector(`#connection[data-severity="${severity}"]`);
  const text = (id) => page.locator(`#${id}`).textContent();

  await t.test("a number changes within 2 s of its cause", async () => {
    await page.goto("/");
    await connected("good");
    assert.equal(await text("moscow-skus"), "2");
    // The whole page must stay as it is: only the text may change.
    await page.evaluate(() => (globalThis.mark = "the same page"));
    const times = [];
    for (const count of [3, 4, 5]) {
      const start = performance.now();
      await service.feed("moscow", [[`C${count}`, count]]);
      await page.waitForFunction((count) => document.getElementById("moscow-skus").textContent === String(count), count);
      times.push(performance.now() - start);
    }
    t.diagnostic(`a number changes after ${times.map((time) => Math.round(time)).join(", ")} ms`);
    assert.ok(Math.max(...times) < 2_000, `it took ${times} ms`);
    assert.equal(await page.evaluate(() => globalThis.mark), "the same page");
  });

  await t.test("an alarm appears by itself", async () => {
    assert.equal(await page.locator(".alarm").count(), 0);
    await service.feed("kazan", [["A", 1]]);
    await service.alarm("campaign_paused");
    const start = performance.now();
    await page.waitForSelector(".alarm", { timeout: 5_000 });
    t.diagnostic(`an alarm appears after ${Math.round(performance.now() - start)} ms`);
    await connected("good");
  });

  await t.test("a selection is not lost to a new structure", async () => {
    await page.evaluate(() => document.getSelection().selectAllChildren(document.getElementById("shops")));
    await service.ask("moscow", ["A"]);
    for (let request = 0; request < 100; request += 1) await service.ask("moscow", ["A"], "0".repeat(49));
    await service.alarm("auth_failures");
    await page.waitForSelector("#reload", { state: "visible" });
    assert.equal(await page.locator(".alarm").count(), 1);
    await page.click("#reload a");
    await page.waitForFunction(() => document.querySelectorAll(".alarm").length === 2);
    await connected("good");
  });

  await t.test("the page says when it is not current", async () => {
    assert.deepEqual(problems, []);
    const narrow = await open(browser, service, "ru", { viewport: { width: 360, height: 740 } });
    await narrow.page.goto("/");
    await narrow.page.waitForSelector('#connection[data-severity="good"]');
    await service.kill();
    await connected("attention");
    const lost = await text("connection");
    assert.match(lost, /^reconnecting/);
    assert.match(lost, /\d\d:\d\d:\d\d$/, "it says of which time the values are");
    const narrowLost = await narrow.page.waitForSelector('#connection[data-severity="attention"]');
    assert.ok(await narrowLost.isVisible());
    const start = performance.now();
    await service.run();
    await connected("good");
    t.diagnostic(`the page is current ${Math.round(performance.now() - start)} ms after the start`);
    assert.equal(await text("connection"), "live");
    await narrow.page.waitForSelector('#connection[data-severity="good"]');
    assert.deepEqual(await jumps(narrow.page), []);
    await narrow.close();
    await service.feed("moscow", [["after the restart", 1]]);
    await page.waitForFunction(() => document.getElementById("moscow-skus").textContent === "6", undefined, { timeout: 2_000 });
  });

  await close();
  await service.stop();
}

/** Tests of what leaves the page: nothing. */
export async function privacy(t, { states }) {
  const { service } = await states.get("calm");
  await t.test("a page has the security headers and no secret", async () => {
    const response = await fetch(service.ops);
    const text = await response.text();
    for (const secret of [FEED_KEY, "rehearsal-api-key"]) assert.ok(!text.includes(secret));
    assert.match(response.headers.get("content-security-policy"), /require-trusted-types-for 'script'/);
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  });
  await t.test("a page for another host name is refused", async () => {
    const { status } = await rawGet(service.ops, "attacker.example");
    assert.equal(status, 421);
  });
}

async function rawGet(url, host) {
  const { get } = await import("node:http");
  return new Promise((done, failed) => {
    get(url, { headers: { Host: host } }, (response) => {
      response.resume();
      done({ status: response.statusCode });
    }).on("error", failed);
  });
}

