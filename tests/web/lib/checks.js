// Checks of an open page. Each returns a list of problems, which is empty for a good page.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Rules that depend on the texts of a language: a name may be missing or empty. */
export const RULES_OF_TEXTS = [
  "aria-command-name", "aria-input-field-name", "button-name", "document-title", "empty-heading",
  "empty-table-header", "html-has-lang", "html-lang-valid", "image-alt", "label", "link-name",
  "page-has-heading-one", "select-name", "summary-name", "svg-img-alt", "valid-lang",
];

/** Loads axe into the page, whose policy forbids scripts: the debugger may. */
export async function prepareAxe(page) {
  await page.evaluate(axeSource);
}

/** Violations that axe finds; `rules` limits it to some of its rules. */
export async function axe(page, rules) {
  const runOnly = rules ? { type: "rule", values: rules } : { type: "tag", values: STANDARDS };
  const options = { runOnly, resultTypes: ["violations"], preload: false };
  const violations = await page.evaluate(
    async (options) => {
      const { violations } = await globalThis.axe.run(document, options);
      return violations.map(({ id, help, nodes }) => ({
        id,
        help,
        nodes: nodes.map((node) => `${node.target.join(" ")} (${node.any[0]?.message ?? node.failureSummary})`),
      }));
    },
    options,
  );
  return violations.map(({ id, help, nodes }) => `axe ${id}: ${help}: ${nodes.join("; ")}`);
}

/** Numbers with a contrast below 7 : 1. */
export async function numbers(page) {
  const found = await page.evaluate(async () => {
    const numbers = [...document.querySelectorAll("td.number, .clock")];
    const options = { runOnly: { type: "rule", values: ["color-contrast-enhanced"] }, preload: false };
    const { violations } = await globalThis.axe.run({ include: numbers }, options);
    return violations.flatMap(({ nodes }) => nodes.map((node) => `${node.html}: ${node.any[0].message}`));
  });
  return found.map((problem) => `number: ${problem}`);
}

/** Parts that do not fit: the page scrolls sideways, or text is cut off without a title. */
export function layout(page) {
  return page.evaluate(() => {
    const problems = [];
    const root = document.scrollingElement;
    if (root.scrollWidth > innerWidth) {
      const wide = [...document.querySelectorAll("main *, header *, nav *")]
        .filter((element) => !element.closest(".scroll, .skip") && element.getBoundingClientRect().right > innerWidth);
      problems.push(`the page is ${root.scrollWidth} px wide: ${wide.slice(0, 5).map((e) => e.outerHTML.slice(0, 90))}`);
    }
    for (const element of document.querySelectorAll("body *")) {
      const style = getComputedStyle(element);
      const hides = element.tagName !== "INPUT" && ["hidden", "clip"].includes(style.overflowX);
      if (hides && element.scrollWidth > element.clientWidth && !element.title && element.clientWidth > 1) {
        problems.push(`text is cut off without a title: ${element.outerHTML.slice(0, 120)}`);
      }
    }
    // Text over text cannot be read. Lines of one element may touch, elements may not.
    const leaves = [...document.querySelectorAll("main *, header *, .screens *")].filter(
      (element) => element.checkVisibility() && !element.closest("svg, .skip")
        && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()),
    );
    const boxes = leaves.flatMap((element) => [...element.getClientRects()].map((box) => ({ element, box })));
    boxes.sort((a, b) => a.box.top - b.box.top);
    for (const [index, one] of boxes.entries()) {
      for (const other of boxes.slice(index + 1)) {
        if (other.box.top >= one.box.bottom) break;
        const isOverlap = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left) > 2
          && Math.min(one.box.bottom, other.box.bottom) - other.box.top > 4;
        const isRelated = one.element.contains(other.element) || other.element.contains(one.element);
        if (isOverlap && !isRelated) {
          problems.push(`texts overlap: "${one.element.textContent}" and "${other.element.textContent}"`);
        }
      }
    }
    return problems;
  });
}

// Words in Latin letters that Russian and Chinese pages have too: names, units, and what is typed.
const KEPT_WORDS = new Set(
  ("stockbridge SKU SKUs API Push push UTC CSV XLSX JSON HTTP URL FBS DBS GO NDJSON YML SQL TLS ms "
    + "migrate off Api-Key API-Key sources_on").split(" "),
);
// Chinese readers know the Market by its English name.
const KEPT_IN_CHINESE = new Set(["Market", "Yandex"]);

// A command with its options and the placeholders of their values.
const COMMAND = /stockbridge [a-z]+( (--)?[a-z-]+| [A-Z]+)*/g;

/** Texts that are not in the page's language. `names` are those of shops and sources. */
export async function language(page, code, names) {
  const tag = { ru: "ru", en: "en", zh: "zh-Hans" }[code];
  const found = await page.evaluate(() => {
    const texts = [];
    const lang = document.documentElement.lang;
    const isOurs = (element) =>
      element.closest("[lang]").lang === lang
      && !element.closest("code, pre, .sku, .name, .detail, script, style, noscript");
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.data.trim() && isOurs(node.parentElement)) texts.push(node.data.trim());
    }
    for (const element of document.querySelectorAll("[title], [aria-label], [placeholder], [alt]")) {
      if (!isOurs(element)) continue;
      texts.push(...["title", "aria-label", "placeholder", "alt"].map((name) => element.getAttribute(name)).filter(Boolean));
    }
    texts.push(document.title);
    return { lang, texts };
  });
  const problems = found.lang === tag ? [] : [`lang is ${found.lang}, not ${tag}`];
  const isKept = (word) =>
    KEPT_WORDS.has(word) || names.includes(word) || (code === "zh" && KEPT_IN_CHINESE.has(word));
  // Longer names first: a SKU may contain the name of a shop.
  const byLength = names.filter(Boolean).sort((a, b) => b.length - a.length);
  for (const whole of found.texts) {
    const text = byLength.reduce((text, name) => text.replaceAll(name, ""), whole);
    const foreign = code === "en"
      ? text.match(/[\p{Script=Cyrillic}\p{Script=Han}]+/gu) ?? []
      : (text.replace(COMMAND, "").match(/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])/g) ?? []).filter((word) => !isKept(word));
    const other = code === "zh" ? text.match(/\p{Script=Cyrillic}+/gu) ?? []
      : code === "ru" ? text.match(/\p{Script=Han}+/gu) ?? [] : [];
    const words = [...foreign, ...other].filter((word) => !names.includes(word));
    if (words.length) problems.push(`not in ${code}: "${words.join(" ")}" in "${whole}"`);
  }
  return problems;
}

/** Reports of the content security policy since the page was loaded. */
export async function cspReports(page) {
  return (await page.evaluate(() => globalThis.cspReports)).map((report) => `policy: ${report}`);
}

/** Jumps of the layout since the page was loaded; 0.01 is a tenth of what counts as good on the web. */
export async function jumps(page) {
  const shifts = await page.evaluate(() => globalThis.layoutShifts);
  const sum = shifts.reduce((sum, { value }) => sum + value, 0);
  return sum > 0.01 ? [`the layout jumps: ${JSON.stringify(shifts)}`] : [];
}
