// Numbers, times and data as people read them, in their own locale.

import { el, copyButton } from "./dom.js";

const locales = navigator.languages;
const formatOf = (options) => new Intl.NumberFormat(locales, options).format;
const exact = new Intl.DateTimeFormat(locales, { dateStyle: "long", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat(locales, { numeric: "always" });
const UNITS = Object.entries({
  year: 31557600, month: 2629800, week: 604800, day: 86400, hour: 3600, minute: 60, second: 1,
});

export const DAY = 86400e3;
export const number = formatOf();
export const percent = formatOf({ style: "percent", maximumSignificantDigits: 2 });
export const decimal = formatOf({ minimumFractionDigits: 1 });

/** Return a number with its noun, such as `1 image` and `2,000 images`. */
export function count(value, noun, plural = `${noun}s`) {
  return `${number(value)} ${value === 1 ? noun : plural}`;
}

/** Return a time as `3 days ago`, with the exact one as its title. */
export function time(text) {
  if (!text) return none();
  const date = new Date(text);
  const seconds = (date - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  const words = relative.format(Math.trunc(seconds / size), unit);
  return el("time", { datetime: text, title: exact.format(date) }, words);
}

/** Return a dash that a screen reader reads as a word. */
export function none(word = "none") {
  return el("span", { class: "none" }, el("span", { "aria-hidden": "true" }, "–"),
    el("span", { class: "sr" }, word));
}

/** Return data of reports, isolated from the text around it. */
export const data = (text) => (text == null ? none() : el("bdi", {}, text));

/** Return a digest's first characters and a button that copies all of it. */
export function digest(text, owner) {
  if (!text) return none("no digest");
  const [algorithm, hex = ""] = text.split(":");
  return el("span", { class: "digest" },
    el("code", { title: text }, algorithm === "sha256" ? hex.slice(0, 12) : text.slice(0, 16)),
    copyButton(() => text, `Copy the digest of ${owner}`));
}

/** Return a grade as a badge with the score; an image that was never scanned has neither. */
export function grade(letter, score) {
  if (!letter) return none("no grade");
  return el("span", { class: "score" },
    el("span", { class: `grade grade-${letter}` }, letter),
    score == null ? null : el("span", {}, number(score)));
}

/** Return an https or http link to another site, or the text if it is anything else. */
export function outsideLink(url, label) {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (!/^https?:$/.test(parsed?.protocol ?? "")) return null;
  const attributes = { href: parsed.href, target: "_blank", rel: "noopener noreferrer" };
  return el("a", attributes, label, el("span", { class: "sr" }, " (opens a new tab)"));
}
