// Forms of the pages, as a person uses them: pause and resume, accept what is held, tick a check
// list, log in and out.

import assert from "node:assert/strict";

import { open } from "./browser.js";
import { Service, until } from "./service.js";

const PASSWORD = "a-password-of-the-browser-tests";

/** Tests of the forms. They change the states, so they run last. */
export async function actions(t, { browser, states }) {
  await t.test("pause, and resume as its undo", async () => {
    const { service } = await states.get("calm");
    const { page, problems, close } = await open(browser, service, "en");
    const isPaused = async () => (await service.status()).shops[0].migrator?.state === "paused";
    await page.goto("/shops/moscow");
    await page.getByRole("button", { name: "Pause sending" }).click();
    await page.getByRole("status").filter({ hasText: "paused" }).waitFor();
    await until("sending is paused", isPaused);
    await page.getByRole("button", { name: "Resume sending" }).click();
    await page.getByRole("button", { name: "Pause sending" }).waitFor();
    await until("sending is resumed", async () => !(await isPaused()));
    await page.goto("/events");
    // The log is written in batches, so the second event may come by a live update.
    await page.locator(".events li", { hasText: "operator" }).nth(1).waitFor();
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("a verification and a poll begin at once", async () => {
    const { service } = await states.get("calm");
    const { page, problems, close } = await open(browser, service, "en");
    const matched = async () => (await service.status()).shops[0].survey.last_equal;
    const before = await matched();
    await page.goto("/shops/moscow");
    await page.getByRole("button", { name: "Verify now" }).click();
    await page.locator(".notice[role=status]").waitFor();
    await until("a new read-back", async () => (await matched()) !== before);
    await page.getByRole("button", { name: /^Read now/ }).click();
    await page.locator(".notice[role=status]").waitFor();
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("ticks stay after a reload", async () => {
    const { service } = await states.get("calm");
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/ready");
    await page.locator(".checks input").nth(2).check();
    await page.reload();
    const ticked = () => page.locator(".checks input:checked").count();
    assert.equal(await ticked(), 1);
    await page.locator(".checks input").nth(2).uncheck();
    await page.reload();
    assert.equal(await ticked(), 0);
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("the check list is printed on one sheet", async () => {
    const { service } = await states.get("calm");
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/ready");
    const pdf = (await page.pdf({ preferCSSPageSize: true })).toString("latin1");
    assert.equal(pdf.match(/\/Type\s*\/Page\b/g).length, 1);
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("alarms of one kind share a card", async () => {
    const { service, values } = await states.get("alarms");
    const { page, problems, close } = await open(browser, service, "en");
    await page.goto("/");
    const card = page.locator(".alarm", { hasText: "Source cannot be read" });
    assert.equal(await card.count(), 1);
    assert.equal(await page.locator("#alarms .count").textContent(), "6");
    assert.equal(await card.locator(".subjects li").count(), 2);
    await card.getByRole("link", { name: `${values.shop}/broken-2` }).click();
    await page.waitForURL(`**/sources#${values.shop}-broken-2`);
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("only the delivery that was seen is accepted", async () => {
    const { service, values } = await states.get("alarms");
    const { page, problems, close } = await open(browser, service, "en");
    await page.goto("/");
    await page.locator(".alarm", { hasText: `${values.shop}/${values.source}` }).getByRole("link").click();
    await page.waitForURL("**/held");
    assert.equal(await page.locator(".changes tbody tr").count(), 55);
    const absence = await page.locator(".absence").textContent();
    assert.match(absence, /^55 SKUs become zero because the complete list lacks them \(of 55 /);
    assert.match(await page.locator(".changes tbody tr").first().textContent(), /not in the delivery/);
    // Another export replaces the one on the page.
    const fetchHeld = () => page.request.get(page.url(), { headers: { Accept: "application/json" } });
    const { delivery } = await (await fetchHeld()).json();
    service.write("stock.csv", "sku;quantity\nERP-1;7\nERP-2;2\n");
    await until("another delivery is held", async () => (await (await fetchHeld()).json()).delivery !== delivery);
    await page.getByRole("button", { name: "Accept" }).click();
    await page.getByRole("alert").waitFor();
    assert.equal(problems.length > 0 && problems.every((problem) => problem.includes("409")), true, `${problems}`);
    problems.length = 0;
    assert.equal(await page.locator(".changes tbody tr").count(), 59);
    await page.getByRole("button", { name: "Accept" }).click();
    await page.waitForURL("**done=accepted");
    await page.locator(".notice.done").waitFor();
    await until("the alarm ends", async () => {
      const { alarms } = await service.status();
      return !JSON.stringify(alarms).includes("source_held");
    });
    await page.goto(`/shops/${values.shop}/skus/ERP-1`);
    assert.match(await page.locator(".numbers").textContent(), /7/);
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("a session", (t) => session(t, browser));
}

/** Tests of a service with a password. */
async function session(t, browser) {
  const service = await Service.start({
    password: PASSWORD,
    shops: [{
      name: "moscow",
      id: 569667,
      settings: `migrate = "off"
[[shops.sources]]
name = "erp"
kind = "file"
path = "stock.csv"
every_seconds = 1
`,
    }],
  });
  service.write("stock.csv", "sku;quantity\nERP-1;7\n");
  // The pages have another structure before the first delivery.
  await until("the first delivery is applied", async () => (await service.status()).shops[0].skus === 1);

  await t.test("it begins with the password and ends with the logout", async () => {
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/events?group=alarms");
    await page.waitForURL("**/login?next=**");
    await page.getByLabel("Пароль").fill("wrong");
    await page.getByRole("button").click();
    await page.getByRole("alert").waitFor();
    assert.equal(problems.every((problem) => problem.includes("403")), true, `${problems}`);
    problems.length = 0;
    await logIn(page);
    await page.waitForURL("**/events?group=alarms");
    const cookie = await sessionCookie(page);
    assert.equal(cookie.httpOnly, true);
    assert.equal(cookie.sameSite, "Strict");
    await page.goto("/");
    await page.waitForSelector('#connection[data-severity="good"]');
    await page.locator(".logout button").click();
    await page.waitForURL("**/login**");
    await page.goto("/");
    await page.waitForURL("**/login?next=**");
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("a form without a session leads back to its page", async () => {
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/shops/moscow");
    await logIn(page);
    await page.waitForURL("**/shops/moscow");
    await page.waitForSelector('#connection[data-severity="good"]');
    // The session is over for this browser, and the open page does not know it yet.
    const { name } = await sessionCookie(page);
    await page.context().clearCookies({ name });
    await page.locator('form[action$="/read"] button').click();
    await page.waitForURL("**/login?next=**");
    await logIn(page);
    await page.waitForURL(({ pathname }) => pathname === "/shops/moscow");
    assert.equal(await page.locator("h1").textContent(), "moscow");
    await close();
    assert.deepEqual(problems, []);
  });

  await t.test("an open page leads to the login after a restart", async () => {
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/events?group=alarms");
    await logIn(page);
    await page.waitForURL("**/events?group=alarms");
    await page.waitForSelector('#connection[data-severity="good"]');
    await service.kill();
    await page.waitForSelector('#connection[data-severity="attention"]');
    // Sessions are kept in memory, so the service that starts does not know this one.
    await service.run();
    const start = performance.now();
    await page.waitForURL("**/login?next=**", { timeout: 15_000 });
    t.diagnostic(`the login is open ${Math.round(performance.now() - start)} ms after the start`);
    // The browser reports that the stream was lost and then refused.
    const isExpected = (problem) => /net::ERR_|\b401\b/.test(problem);
    assert.deepEqual(problems.filter((problem) => !isExpected(problem)), []);
    problems.length = 0;
    await logIn(page);
    await page.waitForURL("**/events?group=alarms");
    await page.waitForSelector('#connection[data-severity="good"]');
    await close();
    assert.deepEqual(problems, []);
  });

  await service.stop();
}

/** Fills in the login page that is open. */
async function logIn(page) {
  await page.waitForURL("**/login?next=**");
  await page.getByLabel("Пароль").fill(PASSWORD);
  await page.getByRole("button").click();
}

async function sessionCookie(page) {
  const cookies = await page.context().cookies();
  return cookies.find(({ name }) => name === "stockbridge_session");
}
