// Every screen in every state, language, theme and width: rules of accessibility, policy,
// layout and language. With PICTURES=1 (`npm run pictures`) a screenshot of each is kept.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { open } from "./browser.js";
import * as checks from "./checks.js";
import { SCREENS, pathOf, screensIn } from "../screens.js";

export const LANGUAGES = ["ru", "en", "zh"];
const WIDTHS = [1440, 360];

const FOLDER = fileURLToPath(new URL("../screenshots", import.meta.url));

/** Tests of the screens in these states. */
export async function pages(t, { browser, states, names }) {
  if (process.env.PICTURES) mkdirSync(FOLDER, { recursive: true });
  const running = [];
  for (const name of names) {
    const state = await states.get(name);
    for (const language of LANGUAGES) {
      running.push(t.test(`${name}, ${language}`, (t) => checkScreens(t, browser, state, name, language)));
    }
  }
  await Promise.all(running);
}

async function checkScreens(t, browser, state, name, language) {
  // One window for all screens, because opening one takes as long as a check.
  const view = await open(browser, state.service, language);
  for (const screen of screensIn(name, SCREENS)) {
    await t.test(screen.name, () => checkScreen(view, state, name, screen, language));
  }
  await view.close();
}

// A page has the same elements and colours in every language, so the rules about those are checked
// in Russian, whose words are the longest. `undefined` are all rules.
function rulesFor(language, theme, width) {
  if (language !== "ru") return width === 360 ? [] : checks.RULES_OF_TEXTS;
  if (theme === "light") return undefined;
  return width === 360 ? [] : ["color-contrast"];
}

async function checkScreen({ page, problems }, { service, values }, name, screen, language) {
  problems.length = 0;
  await page.emulateMedia({ colorScheme: "light", media: "screen" });
  await page.setViewportSize({ width: WIDTHS[0], height: 900 });
  const response = await page.goto(pathOf(screen, values), { waitUntil: "load" });
  const status = screen.status ?? 200;
  assert.equal(response.status(), status, `${screen.name} is not served`);
  // The browser reports a page about an error as one.
  const isExpected = (problem) => status !== 200 && problem.includes(`${status}`) && /^(response|console):/.test(problem);
  problems.splice(0, problems.length, ...problems.filter((problem) => !isExpected(problem)));
  await page.waitForFunction(() => !document.body.dataset.live || document.getElementById("connection").textContent);
  problems.push(...(await checks.jumps(page)));
  await checks.prepareAxe(page);
  const names = [...service.shops.map((shop) => shop.name), ...Object.values(values), "erp", "broken", "broken-2", ...(screen.names ?? [])];
  problems.push(...(await checks.language(page, language, names)));
  // A theme changes only colours, which are the same in every language.
  const themes = language === "ru" ? ["light", "dark"] : ["light"];
  for (const theme of themes) {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: width === 360 ? 740 : 900 });
      const at = (problem) => `${theme}, ${width} px: ${problem}`;
      problems.push(...(await checks.layout(page)).map(at));
      if (process.env.PICTURES) {
        const path = join(FOLDER, `${screen.name}-${name}-${language}-${theme}-${width}.png`);
        await page.screenshot({ path, fullPage: true, animations: "disabled" });
      }
      const rules = rulesFor(language, theme, width);
      if (rules?.length === 0) continue;
      problems.push(...(await checks.axe(page, rules)).map(at));
      if (language === "ru") problems.push(...(await checks.numbers(page)).map(at));
    }
  }
  // A4 at 96 dots an inch, without margins of 10 mm.
  await page.setViewportSize({ width: 718, height: 1047 });
  await page.emulateMedia({ colorScheme: "light", media: "print" });
  problems.push(...(await checks.layout(page)).map((problem) => `printed: ${problem}`));
  problems.push(...(await checks.cspReports(page)));
  assert.equal(problems.length, 0, `\n${problems.join("\n")}`);
}
