// Forms of the pages, as a person uses them: pause and resume, accept what is held, tick a check
// list, log in and out.

import assert from "node:assert/strict";

import { open } from "./browser.js";
import { Service, until } from "./service.js";

const PASSWORD = "a-password-of-the-browser-tests";

/** Tests of the forms. They change the states, so they are the last. */
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
    assert.equal(await page.locator(".events li", { hasText: "operator" }).count() >= 2, true);
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

  await t.test("ticks stay, and a tick does not stop updates", async () => {
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

  await t.test("only the delivery that was seen is accepted", async () => {
    const { service, values } = await states.get("alarms");
    const { page, problems, close } = await open(browser, service, "en");
    await page.goto("/");
    await page.locator(".alarm", { hasText: `${values.shop}/${values.source}` }).getByRole("link").click();
    await page.waitForURL("**/held");
    assert.equal(await page.locator(".changes tbody tr").count(), 55);
    // Another export replaces the one on the page.
    const times = () => page.request.get(page.url(), { headers: { Accept: "application/json" } });
    const { delivery } = await (await times()).json();
    service.write("stock.csv", "sku;quantity\nERP-1;7\nERP-2;2\n");
    await until("another delivery is held", async () => (await (await times()).json()).delivery !== delivery);
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

  await t.test("a session begins with the password and ends with the logout", async () => {
    const service = await Service.start({
      password: PASSWORD,
      shops: [{ name: "moscow", id: 569667, settings: 'migrate = "off"' }],
    });
    const { page, problems, close } = await open(browser, service, "ru");
    await page.goto("/events?group=alarms");
    await page.waitForURL("**/login?next=**");
    await page.getByLabel("Пароль").fill("wrong");
    await page.getByRole("button").click();
    await page.getByRole("alert").waitFor();
    assert.equal(problems.every((problem) => problem.includes("403")), true, `${problems}`);
    problems.length = 0;
    await page.getByLabel("Пароль").fill(PASSWORD);
    await page.getByRole("button").click();
    await page.waitForURL("**/events?group=alarms");
    const cookies = await page.context().cookies();
    const session = cookies.find(({ httpOnly }) => httpOnly);
    assert.equal(session.sameSite, "Strict");
    await page.goto("/");
    await page.waitForSelector('#connection[data-severity="good"]');
    await page.locator(".logout button").click();
    await page.waitForURL("**/login**");
    await page.goto("/");
    await page.waitForURL("**/login?next=**");
    await close();
    await service.stop();
    assert.deepEqual(problems, []);
  });
}
