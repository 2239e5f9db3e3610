// The inventory: the table of images, its filters and the bar of grades.

import { get, pathOf } from "./api.js";
import { byId, el, replace, svg } from "./dom.js";
import { SEVERITIES, wordOf } from "./findings.js";
import { count, data, DAY, digest, grade, none, number, time } from "./format.js";
import { chip, chips, List, searchField, typeInto } from "./list.js";
import { change, listParameters, withChanges } from "./location.js";

const GRADES = ["A", "B", "C", "D"];
const NEVER = "Never scanned";
// Filters with chips of their own. The address may have any other filter of the list.
const OWN = ["search", "grade", "scanned", "severity", "registry"];
const OF_PAGE = ["page", "limit", "sort"];
const MANY = 6;
const FIRST_REPORT = `trivy image --scanners vuln --format json nginx:latest > report.json
curl -s --data-binary @report.json -H "X-API-Key: $KEY" \\
    -H 'Content-Type: application/json' ${window.location.origin}/api/scans/upload`;

const search = searchField("search", "Part of a name");
const cve = searchField("cve-id", "CVE-2021-44228");
const bar = el("div", { class: "bar" });
const filters = el("div", { class: "filters" });
let isExpanded = false;
let facets = {};

const changeFilter = (changes, mode, state) => change({ ...changes, page: null }, mode, state);

const showSearch = typeInto(search, () => listParameters().search, (text) => {
  // Typing is one step of the history, not one for each letter.
  changeFilter({ search: text }, history.state?.typing ? "replace" : "push", { typing: true });
});

const isStale = ({ lastScannedAt }) =>
  Date.now() - new Date(lastScannedAt) > (Number(listParameters().staleDays) || 30) * DAY;

const countColumn = (severity) => ({
  label: wordOf(severity),
  className: "number",
  cell: ({ grade: letter, vulnerabilities }) => {
    const value = vulnerabilities[severity.toLowerCase()];
    if (!letter) return none("unknown");
    return el("span", { class: value ? `severity-${severity}` : "none" }, number(value));
  },
});

const list = new List({
  caption: "the images",
  noun: "image",
  defaultSort: "createdAt:desc",
  change,
  columns: [
    { label: "Image", sort: "name", first: "asc", isHead: true, className: "wide", cell: name },
    { label: "Latest tag", cell: (image) => [
      data(image.latestTag),
      el("span", { class: "sub" }, digest(image.latestDigest, image.name))] },
    { label: "Tags", sort: "tagCount", className: "number",
      cell: ({ tagCount }) => number(tagCount) },
    { label: "Risk", sort: "riskScore", title: "Grade and risk score, 0 to 100",
      cell: (image) => grade(image.grade, image.riskScore) },
    ...SEVERITIES.map(countColumn),
    { label: "Last scan", sort: "lastScannedAt", className: "when", cell: (image) =>
      (image.lastScannedAt ? [
        time(image.lastScannedAt),
        isStale(image) && el("span", { class: "mark alert" }, "stale"),
      ] : el("span", { class: "mark" }, "never scanned")) },
    { label: "Added", sort: "createdAt", className: "when added",
      cell: ({ createdAt }) => time(createdAt) },
  ],
  empty,
  onResult: (page, signal) => showSummary(signal),
});

function name(image) {
  const slash = image.name.indexOf("/");
  return [
    el("a", { href: withChanges({ image: image.id }), "data-page": true, title: image.name },
      data(image.name.slice(slash + 1))),
    el("span", { class: "sub" }, data(image.name.slice(0, slash))),
  ];
}

function empty({ total }) {
  if (total) {
    return [el("h2", {}, "This page is past the end"),
      el("p", {}, `There are ${count(total, "image")}.`),
      el("a", { href: withChanges({ page: null }), class: "button primary", "data-page": true },
        "Show the first page")];
  }
  if (Object.keys(listParameters()).every((each) => OF_PAGE.includes(each))) {
    return [el("h2", {}, "There are no images yet"),
      el("p", {}, "An image appears when a scanner's report of it is recorded, or when a registry ",
        "is synced. Record a first report:"),
      el("pre", { tabindex: "0" }, FIRST_REPORT)];
  }
  return [el("h2", {}, "No image matches"), el("p", {}, "Remove a filter, or search for less."),
    el("button", { type: "button", class: "primary", onclick: clear }, "Clear all filters")];
}

function clear() {
  const names = Object.keys(listParameters()).filter((each) => !["sort", "limit"].includes(each));
  change(Object.fromEntries(names.map((each) => [each, null])));
}

replace(byId("inventory"),
  el("div", { class: "heading" },
    el("h1", { id: "inventory-title", tabindex: "-1" }, "Images ", list.total), list.curl),
  el("form", { class: "tools", role: "search", onsubmit: (event) => {
    event.preventDefault();
    changeFilter({ cveId: cve.value.trim() });
  } },
  el("span", { class: "field" }, el("label", { for: "search" }, "Name"), search),
  el("span", { class: "field" }, el("label", { for: "cve-id" }, "Vulnerability"), cve,
    el("button", { type: "submit" }, "Filter"))),
  bar, filters, list.element);

/** Show the images that the address selects. */
export function showInventory() {
  const query = listParameters();
  showSearch();
  if (document.activeElement !== cve) cve.value = query.cveId ?? "";
  showFilters(query);
  return list.load("/api/images", query);
}

export const cancelInventory = () => list.loader.cancel();

function without(query, names) {
  return Object.fromEntries(Object.entries(query).filter(([each]) => !names.includes(each)));
}

/** Load the numbers of images: those of the filters, and those of each choice of a filter. */
async function showSummary(signal) {
  const query = without(listParameters(), OF_PAGE);
  const requests = new Map();
  const summarize = (names) => {
    const path = pathOf("/api/images/summary", without(query, names));
    if (!requests.has(path)) requests.set(path, get(path, signal));
    return requests.get(path);
  };
  try {
    const [all, grades, registries] = await Promise.all(
      [[], ["grade", "scanned"], ["registry"]].map(summarize));
    facets = { grades: grades.data, registries: registries.data.registries };
    showBar(all.data);
  } catch (error) {
    if (signal.aborted) return;
    // The table is more important than the numbers: it stays.
    facets = {};
    bar.hidden = false;
    replace(bar, el("p", { class: "hint" }, "The numbers of images are not available."));
  }
  showFilters(listParameters());
}

function showBar({ total, grades, neverScanned }) {
  const parts = [...GRADES.map((letter) => [letter, grades[letter]]), [NEVER, neverScanned]]
    .filter(([, images]) => images);
  const label = parts.map(([part, images]) => `${part}: ${number(images)}`).join(", ");
  let left = 0;
  const rectangles = parts.map(([part, images]) => {
    const width = (100 * images) / total;
    const x = left;
    left += width;
    return svg("g", { class: part === NEVER ? "none" : `grade-${part}` },
      svg("title", {}, `${part}: ${number(images)}`),
      svg("rect", { x: `${x}%`, width: `${width}%`, height: "100%" }),
      width > 4 * part.length && svg("text", { x: `${x + width / 2}%`, y: "50%" }, part));
  });
  bar.hidden = total === 0;
  replace(bar, svg("svg", { role: "img", "aria-label": `Images by grade. ${label}` }, rectangles));
}

function showFilters(query) {
  const chosen = (name) => (query[name] ?? "").toUpperCase().split(",").filter(Boolean);
  const toggle = (name, all, value) => {
    const values = all.filter((each) => chosen(name).includes(each) !== (each === value));
    changeFilter({ [name]: values.join(",") });
  };
  const single = (name, value) =>
    changeFilter({ [name]: query[name]?.toLowerCase() === value.toLowerCase() ? null : value });
  const choice = (value, label, images) => chip({
    key: `scanned-${value}`, label, count: images, isOn: query.scanned?.toLowerCase() === value,
    onClick: () => single("scanned", value),
  });
  const others = Object.entries(without(query, [...OWN, ...OF_PAGE]));
  const isFiltered = Object.keys(query).some((each) => !OF_PAGE.includes(each));
  replace(filters,
    chips("Grade", GRADES.map((letter) => chip({
      key: `grade-${letter}`, label: el("span", { class: `grade-${letter}` }, letter),
      count: facets.grades?.grades[letter], isOn: chosen("grade").includes(letter),
      onClick: () => toggle("grade", GRADES, letter),
    }))),
    chips("Scan", [choice("never", NEVER, facets.grades?.neverScanned),
      choice("stale", "Stale"), choice("fresh", "Fresh")]),
    chips("Severity", SEVERITIES.map((severity) => chip({
      key: `severity-${severity}`, label: wordOf(severity),
      isOn: chosen("severity").includes(severity),
      onClick: () => toggle("severity", SEVERITIES, severity),
    }))),
    registryChips(query, single),
    isFiltered && chips("Active", [
      others.map(([each, value]) => chip({
        key: each, label: [`${each}: `, data(value)], isOn: true, title: "Remove this filter",
        onClick: () => changeFilter({ [each]: null }),
      })),
      query.cveId && el("a", { href: `/?cve=${encodeURIComponent(query.cveId)}`,
        "data-page": true }, "Its findings"),
      el("button", { type: "button", class: "link", "data-key": "clear", onclick: clear },
        "Clear all filters"),
    ]));
}

function registryChips(query, single) {
  const selected = query.registry?.toLowerCase();
  const isOn = (each) => [each.id, each.host, each.name.toLowerCase()].includes(selected);
  const all = [...(facets.registries ?? [])].sort((one, other) => other.images - one.images);
  if (selected && !all.some(isOn)) {
    all.unshift({ id: query.registry, host: query.registry, name: query.registry });
  }
  if (!all.length) return null;
  const visible = isExpanded ? all : all.filter((each, index) => index < MANY || isOn(each));
  return chips("Registry", [
    visible.map((each) => chip({
      key: `registry-${each.id}`, label: data(each.name), count: each.images, isOn: isOn(each),
      title: each.host, onClick: () => single("registry", isOn(each) ? query.registry : each.host),
    })),
    all.length > MANY ? el("button", { type: "button", class: "link", "data-key": "more",
      "aria-expanded": String(isExpanded), onclick: () => {
        isExpanded = !isExpanded;
        showFilters(listParameters());
      } }, isExpanded ? "Fewer" : `${number(all.length - visible.length)} more`) : null,
  ]);
}
