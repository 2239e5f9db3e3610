// Findings: their columns, and the view of the images that have one vulnerability.

import { count, data, decimal, none, outsideLink, percent, time } from "./format.js";
import { byId, el, replace } from "./dom.js";
import { List } from "./list.js";
import { change, withChanges } from "./location.js";

export const SEVERITIES = ["CRITICAL", "HIGH", "MEDIUM", "LOW"];
export const wordOf = (severity) => severity[0] + severity.slice(1).toLowerCase();

export function severityMark(severity) {
  return el("span", { class: `severity-${severity}` }, wordOf(severity));
}

const kevMark = (kev) => kev && el("abbr", { class: "mark alert",
  title: "In the catalog of known exploited vulnerabilities (KEV)" }, "exploited");

const packageOf = (row) =>
  [data(row.package), el("span", { class: "sub" }, data(row.installedVersion))];

const fixed = ({ fixedVersion }) =>
  fixedVersion ? el("bdi", { class: "fix" }, fixedVersion) : none("no fix");

// A report may have any text as its URL. What is not a link of the web is shown as it is.
const advisory = (url) => url
  && el("span", { class: "sub" }, outsideLink(url, "Advisory") ?? data(url));

/** Return the columns of findings. `link` returns the address for an id. */
export function findingColumns(link) {
  const cve = ({ cveId, kev, title, url }) => [
    el("span", { class: "line" },
      el("a", { href: link(cveId), "data-page": true }, data(cveId)), kevMark(kev), advisory(url)),
    title && el("span", { class: "sub" }, data(title)),
  ];
  const score = (value, format) => (value == null ? none("unknown") : format(value));
  return [
    { label: "Vulnerability", cell: cve, isHead: true, className: "wide" },
    { label: "Severity", sort: "severity", cell: ({ severity }) => severityMark(severity) },
    { label: "CVSS", sort: "cvss", className: "number", cell: ({ cvss }) => score(cvss, decimal) },
    { label: "EPSS", sort: "epss", className: "number",
      title: "Probability of exploitation in the next 30 days",
      cell: ({ epss }) => score(epss, percent) },
    { label: "Package", sort: "package", first: "asc", cell: packageOf },
    { label: "Fixed in", cell: fixed },
  ];
}

const facts = el("div", { class: "facts" });
const list = new List({
  caption: "the images with this vulnerability",
  noun: "finding",
  defaultSort: "severity:desc",
  change,
  columns: [
    { label: "Image", isHead: true, className: "wide", cell: ({ image }) =>
      el("a", { href: withChanges({ image: image.id }), "data-page": true }, data(image.name)) },
    { label: "Tag", cell: ({ tag }) => data(tag) },
    { label: "Severity", sort: "severity", cell: ({ severity }) => severityMark(severity) },
    { label: "Package", cell: packageOf },
    { label: "Fixed in", cell: fixed },
    { label: "Found", sort: "detectedAt", cell: ({ detectedAt }) => time(detectedAt) },
  ],
  empty: () => [
    el("h2", {}, "No image has it"),
    el("p", {}, "No scan that counts has a finding with exactly this id. Scanners may report the",
      " same vulnerability under another id, such as that of a GHSA."),
    el("a", { href: "/", class: "button", "data-page": true }, "Show all images"),
  ],
  onResult: ({ data: [row], meta }) => showFacts(row, meta.total),
});

function showFacts(row, total) {
  facts.hidden = !row;
  if (!row) return;
  const { title, url, severity, cvss, epss, kev } = row;
  replace(facts,
    title && el("p", {}, data(title)),
    el("p", { class: "line" }, severityMark(severity),
      cvss == null ? null : el("span", {}, `CVSS ${decimal(cvss)}`),
      epss == null ? null : el("span", {}, `EPSS ${percent(epss)}`), kevMark(kev),
      el("span", {}, count(total, "finding")), advisory(url)));
}

/** Show the images that have a vulnerability. */
export function showVulnerability(id, query) {
  const title = el("h1", { id: "cve-title", tabindex: "-1" }, data(id));
  replace(byId("cve"),
    el("a", { href: "/", "data-page": true }, "Images"),
    el("div", { class: "heading" }, title,
      el("a", { class: "button", "data-page": true, href: `/?cveId=${encodeURIComponent(id)}` },
        "Filter the images by it"), list.curl),
    facts, list.element);
  return list.load("/api/vulnerabilities", { ...query, cveId: id });
}

export const cancelVulnerability = () => list.loader.cancel();
