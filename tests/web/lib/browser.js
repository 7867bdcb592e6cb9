// Chromium of the system, driven by playwright-core.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

function executable() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const folder of process.env.PATH.split(delimiter)) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        continue;
      }
    }
  }
  throw new Error("no browser is installed: run `apt-get install chromium`, or name one in CHROMIUM");
}

export function launch() {
  // The sandbox of Chromium does not start for root, as whom containers run.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: executable(), args });
}

// Runs in the page before its own scripts. CSP reports and jumps of the layout are kept for the test.
function keepReports() {
  globalThis.cspReports = [];
  globalThis.layoutShifts = [];
  const shifts = new PerformanceObserver((list) => {
    for (const { hadRecentInput, value, sources } of list.getEntries()) {
      const moved = sources.map(({ node }) => node?.outerHTML?.slice(0, 80));
      if (!hadRecentInput) globalThis.layoutShifts.push({ value, moved });
    }
  });
  shifts.observe({ type: "layout-shift", buffered: true });
  document.addEventListener("securitypolicyviolation", (event) => {
    globalThis.cspReports.push(`${event.violatedDirective}: ${event.blockedURI || event.sample}`);
  });
}

// With WEB_TEST_STATIC=1 the stylesheet and the script come from the tree and not from the binary, so
// that a change is seen without a build.
async function serveStatic(context) {
  for (const [pattern, file, contentType] of [
    ["**/assets/style-*.css", "style.css", "text/css"],
    ["**/assets/app-*.js", "app.js", "text/javascript"],
  ]) {
    const path = fileURLToPath(new URL(`../../../src/web/static/${file}`, import.meta.url));
    await context.route(pattern, (route) => route.fulfill({ path, contentType }));
  }
}

/**
 * A page in a context of its own, with everything that went wrong in `problems`.
 * `options` are those of a browser context.
 */
export async function open(browser, service, language, options = {}) {
  const context = await browser.newContext({
    baseURL: service.ops,
    locale: language,
    reducedMotion: "reduce",
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  await context.addCookies([{ name: "lang", value: language, url: service.ops }]);
  await context.addInitScript(keepReports);
  if (process.env.WEB_TEST_STATIC) await serveStatic(context);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`script: ${error}`));
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("requestfailed", (request) => {
    // A page that is left closes its stream, and no longer needs its icon.
    const isLeft = /^\/(live\/|assets\/icon-)/.test(new URL(request.url()).pathname);
    const error = request.failure()?.errorText;
    // A page that loads itself again for a new event may be left before it has loaded.
    const isReplaced = request.isNavigationRequest() && error === "net::ERR_ABORTED";
    if (!isLeft && !isReplaced) problems.push(`request: ${request.url()} ${error}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`response: ${response.status()} ${response.url()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(service.ops)) problems.push(`foreign request: ${request.url()}`);
  });
  return { page, problems, close: () => context.close() };
}
