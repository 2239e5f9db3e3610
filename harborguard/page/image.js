// One image, in a drawer: its scans that count, its tags and its findings.

import { curlOf, get } from "./api.js";
import { byId, copyButton, el, replace } from "./dom.js";
import { findingColumns, SEVERITIES, severityMark, wordOf } from "./findings.js";
import { data, digest, grade, number, time } from "./format.js";
import { chip, chips, List, Loader, makeTable, searchField, typeInto } from "./list.js";
import { change, findingParameters, go, parameters, withoutImage } from "./location.js";

const dialog = byId("image");
const title = el("h1", { id: "image-title", tabindex: "-1" });
const content = el("div");
const loader = new Loader(content, showImage);
const filters = el("div", { class: "filters" });
const search = searchField("finding-search", "Id, package or title");
let shown = {};
let tagQuery = {};

const changeFindings = (changes) => change(Object.fromEntries(
  Object.entries(changes).map(([name, value]) => [`v.${name}`, value])), "replace");

const tags = new List({
  caption: "the tags of the image",
  noun: "tag",
  change: (changes) => loadTags({ ...tagQuery, ...changes }),
  columns: [
    { label: "Tag", isHead: true, cell: ({ name }) => data(name) },
    { label: "Digest", cell: (tag) => digest(tag.digest, `the tag ${tag.name}`) },
    { label: "Risk", cell: (tag) => grade(tag.grade, tag.riskScore) },
    { label: "Built", cell: ({ updatedAt }) => time(updatedAt) },
    { label: "Last scan", cell: ({ lastScannedAt }) => time(lastScannedAt) },
  ],
  empty: () => el("p", {}, "This image has no tags. It was scanned by its digest."),
});

const findings = new List({
  caption: "the vulnerabilities of the image",
  noun: "vulnerability",
  plural: "vulnerabilities",
  defaultSort: "severity:desc",
  change: changeFindings,
  columns: findingColumns((id) => `/?cve=${encodeURIComponent(id)}`),
  empty: () => (Object.keys(findingParameters()).some((name) => name !== "sort")
    ? [el("p", {}, "No vulnerability matches these filters."),
      el("button", { type: "button", onclick: clearFilters }, "Clear the filters")]
    : el("p", {}, shown.image?.lastScan ? "The scan found no vulnerabilities."
      : "This image was never scanned, so nothing is known about its vulnerabilities.")),
});

typeInto(search, () => findingParameters().search,
  (text) => changeFindings({ search: text, page: null }));

function clearFilters() {
  search.value = "";
  const names = Object.keys(findingParameters()).filter((name) => name !== "sort");
  changeFindings(Object.fromEntries(names.map((name) => [name, null])));
}

function close() {
  // A drawer that a link has opened closes as the back button closes it.
  if (history.state?.inside) history.back();
  else go(withoutImage());
}

dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  close();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) close();
});

replace(byId("image-body"),
  el("div", { class: "heading" }, title,
    el("button", { type: "button", onclick: close }, "Close")),
  loader.element);

/** Close the drawer and cancel its requests. */
export function closeImage() {
  for (const each of [loader, tags.loader, findings.loader]) each.cancel();
  shown = {};
  dialog.close();
}

/** Open the drawer with an image, or close it without one. */
export function updateImage() {
  const id = parameters().get("image");
  if (!id) {
    closeImage();
    return;
  }
  if (!dialog.open) dialog.showModal();
  if (shown.id === id) {
    loadFindings();
    return;
  }
  shown = { id };
  tagQuery = { limit: 25 };
  title.textContent = "Image";
  content.replaceChildren();
  loader.load((signal) => get(path(), signal));
}

const path = (rest = "") => `/api/images/${encodeURIComponent(shown.id)}${rest}`;

function loadTags(query) {
  tagQuery = Object.fromEntries(Object.entries(query).filter(([, value]) => value != null));
  return tags.load(path("/tags"), tagQuery);
}

function loadFindings() {
  const query = findingParameters();
  const key = JSON.stringify(query);
  showFilters(query);
  if (shown.image && shown.query !== key) {
    shown.query = key;
    findings.load(path("/vulnerabilities"), query);
  }
}

function showFilters(query) {
  const chosen = new Set((query.severity ?? "").toUpperCase().split(","));
  const counts = shown.image?.vulnerabilities ?? {};
  const toggle = (severity) => {
    const next = SEVERITIES.filter((each) => chosen.has(each) !== (each === severity));
    changeFindings({ severity: next.join(","), page: null });
  };
  replace(filters,
    chips("Severity", SEVERITIES.map((severity) => chip({
      key: severity, label: wordOf(severity), count: counts[severity.toLowerCase()],
      isOn: chosen.has(severity), onClick: () => toggle(severity),
    }))),
    chips("Fix", [["true", "Fix available"], ["false", "No fix"]].map(([value, label]) => chip({
      key: label, label, isOn: query.fixable === value,
      onClick: () =>
        changeFindings({ fixable: query.fixable === value ? null : value, page: null }),
    }))));
}

function showImage({ data: image }) {
  shown.image = image;
  const slash = image.name.indexOf("/");
  replace(title, el("bdi", {}, image.name.slice(slash + 1)));
  document.title = `${image.name} HarborGuard Images`;
  replace(content,
    facts(image),
    section("Scans that count", { curl: copyButton(() => curlOf(path()),
      "Copy the request of the image", "Copy as curl") }, scans(image)),
    section("Vulnerabilities", findings,
      el("div", { class: "tools" }, el("label", { for: search.id, class: "sr" }, "Search"), search),
      filters, findings.element),
    section("Tags", tags, tags.element));
  search.value = findingParameters().search ?? "";
  loadFindings();
  loadTags(tagQuery);
}

function section(heading, { total, curl }, ...children) {
  const head = el("h2", {}, heading, " ", total);
  return el("section", {}, el("div", { class: "heading" }, head, curl), children);
}

function facts(image) {
  const { registry, vulnerabilities: counts } = image;
  const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  return el("dl", { class: "facts" },
    fact("Name", data(image.name), copyButton(() => image.name, "Copy the name")),
    fact("Registry", data(registry.name),
      el("span", { class: "sub" }, data(registry.provider))),
    fact("Risk", grade(image.grade, image.riskScore)),
    fact("Findings", SEVERITIES.map((severity) => el("span", {},
      severityMark(severity), ` ${number(counts[severity.toLowerCase()])}`))),
    fact("Latest tag", data(image.latestTag),
      digest(image.latestDigest, "the latest tag")),
    fact("Last scan", time(image.lastScannedAt)),
    fact("Recorded", time(image.createdAt)));
}

function scans({ lastScan, otherScans, riskScore, grade: letter }) {
  if (!lastScan) {
    return el("p", {}, "No finished scan of this image is recorded. Send in the report of a ",
      "scanner with the API or ", el("code", {}, "harborguard ingest"), ".");
  }
  const counts = { ...lastScan, riskScore, grade: letter };
  return makeTable("The scans that count, the highest score first", [
    { label: "Scanners", isHead: true, cell: (scan) => [data(scan.scanners.join(", ")),
      scan === counts && otherScans.length > 0 && el("span", { class: "mark" }, "counts")] },
    { label: "Risk", cell: (scan) => grade(scan.grade, scan.riskScore) },
    { label: "Status", cell: ({ status }) => wordOf(status) },
    { label: "Finished", cell: ({ finishedAt }) => time(finishedAt) },
  ], [counts, ...otherScans]);
}
