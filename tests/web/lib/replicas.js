// Several replicas over one database: what their pages say about each other.

import assert from "node:assert/strict";

import { open } from "./browser.js";

/** Tests of two replicas. They end the replicas, so nothing follows them. */
export async function replicas(t, { browser, states }) {
  const { service: sender, database } = await states.get("sender");
  const { service: follower } = await states.get("follower");
  const { page, problems, close } = await open(browser, follower, "en");

  await t.test("the page names the replica that serves it and the one that sends", async () => {
    await page.goto("/");
    assert.equal(await page.locator("header .replica").textContent(), "dc-2");
    const rows = await page.locator("section[aria-labelledby=replicas] tbody tr").allTextContents();
    assert.equal(rows.length, 2);
    assert.match(rows[0], /dc-1.*live.*moscow.*moscow/s);
    assert.match(rows[1], /dc-2.*this page.*live/s);
    assert.equal(await page.locator("#moscow-state").textContent(), "replica dc-1 sends");
    // What only the sender knows is not shown as 0.
    assert.equal(await page.locator("#moscow-waiting").textContent(), "–");
  });

  await t.test("an action that needs the sender is not offered elsewhere", async () => {
    await page.goto("/shops/moscow");
    await page.locator(".elsewhere", { hasText: "Replica dc-1 sends for this shop" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Verify now" }).count(), 0);
    assert.equal(await page.locator("#readback, #quarantine").count(), 0);
    await page.goto("/sources");
    await page.getByText("Replica dc-1 reads the sources of moscow").waitFor();
    await page.goto("/ready");
    await page.getByText("Replica dc-1 sends for this shop").first().waitFor();
    // The form of a page that was opened before the other replica took over.
    const form = await page.request.post("/shops/moscow/verify", { headers: { "Sec-Fetch-Site": "same-origin" } });
    assert.match(await form.text(), /Nothing was done: another replica sends for this shop/);
  });

  await t.test("a pause works on every replica", async () => {
    await page.goto("/shops/moscow");
    await page.getByRole("button", { name: "Pause sending" }).click();
    await page.getByRole("button", { name: "Resume sending" }).waitFor();
    const other = await open(browser, sender, "en");
    await other.page.goto("/shops/moscow");
    await other.page.getByRole("button", { name: "Resume sending" }).click({ timeout: 15_000 });
    await other.page.getByRole("button", { name: "Pause sending" }).waitFor();
    await other.close();
    assert.deepEqual(other.problems, []);
    assert.deepEqual(problems, []);
  });

  await t.test("a replica that is gone is seen by itself", async () => {
    await page.goto("/");
    await page.waitForSelector('#connection[data-severity="good"]');
    await sender.kill();
    const start = performance.now();
    await page.waitForSelector('#replica-dc-1-state[data-severity="trouble"]', { timeout: 20_000 });
    t.diagnostic(`a dead replica is shown after ${Math.round(performance.now() - start)} ms`);
    await page.locator("#note-sources", { hasText: "No live replica reads the sources of moscow" }).waitFor();
    assert.deepEqual(problems, []);
  });

  await t.test("the alarm of a lost database leads to the replicas", async () => {
    // The overview is open, and loads itself again when the alarm begins.
    database.halt();
    await follower.alarm("replica_behind");
    await page.locator(".alarm", { hasText: "does not follow the others" }).getByRole("link").click();
    assert.match(page.url(), /#replicas$/);
    await page.waitForSelector('#replica-dc-2-state[data-severity="trouble"]');
    assert.match(await page.locator("#replica-dc-2-state").textContent(), /cannot follow the others/);
    assert.deepEqual(problems, []);
  });
  await close();
}
