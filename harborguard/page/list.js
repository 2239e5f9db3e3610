// A table of a paginated resource: filters, sorting, pages, and what to show instead of rows.

import { ApiError, curlOf, describe, get, pathOf } from "./api.js";
import { announce, copyButton, el, replace } from "./dom.js";
import { count, number } from "./format.js";

const SLOW = 4000;
const TYPING = 200;
const LIMITS = [25, 50, 100, 200];

let reject = () => {};

/** Call a function when a credential is rejected. */
export const onUnauthorized = (listener) => (reject = listener);

/** Loads one thing at a time into `content`; shows a message in its place if that fails. */
export class Loader {
  constructor(content, show) {
    this.content = content;
    this.show = show;
    this.message = el("div", { class: "panel", hidden: true });
    this.element = el("div", { tabindex: "-1" }, this.message, content);
  }

  /** Run a request and show its result. A newer call cancels it. */
  async load(request, failures = 0) {
    this.cancel();
    const { signal } = (this.controller = new AbortController());
    this.element.setAttribute("aria-busy", "true");
    const slow = setTimeout(() => announce("Still loading. The service is slow.", true), SLOW);
    try {
      const result = await request(signal);
      if (this.message.contains(document.activeElement)) this.element.focus();
      this.message.hidden = true;
      this.content.hidden = false;
      this.show(result, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.fail(error, request, failures);
    } finally {
      clearTimeout(slow);
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
  }

  /** Cancel the running request and the planned repetition. */
  cancel() {
    this.controller?.abort();
    clearTimeout(this.timer);
    this.element.removeAttribute("aria-busy");
  }

  fail(error, request, failures) {
    if (error.status === 401) {
      reject();
      return;
    }
    if (!(error instanceof ApiError)) console.error(error);
    const [title, advice, first] = describe(error);
    const seconds = first && Math.min(60, first * 2 ** failures);
    const again = () => this.load(request, failures + 1);
    if (seconds) this.timer = setTimeout(again, seconds * 1000);
    const isInvalid = error.status === 400;
    this.clear?.();
    this.content.hidden = true;
    this.message.hidden = false;
    replace(this.message,
      el("h2", {}, title),
      el("p", {}, advice),
      seconds ? el("p", {}, `The page tries again in ${count(seconds, "second")}.`) : null,
      isInvalid
        ? el("a", { href: "/", class: "button primary", "data-page": true }, "Show all images")
        : el("button", { type: "button", class: "primary", "data-key": "again", onclick: again },
          "Try again"),
      error.requestId && error.status >= 500
        ? el("p", { class: "hint" }, `Request id for the operator: ${error.requestId}`) : null);
    announce(`${title}. ${advice}`);
  }
}

/**
 * Return a table. `columns` have a label, a cell for a row, and optionally the API's name of their
 * sort column with the direction of the first click.
 */
export function makeTable(caption, columns, rows, sortBy) {
  const head = (column) => {
    const { label, title, sort, className } = column;
    const button = sort && el("button", { type: "button", "data-sort": sort, title,
      onclick: () => sortBy(column) }, label);
    const attributes = { scope: "col", class: className, title: sort ? null : title };
    return el("th", attributes, button || label);
  };
  return el("table", {},
    el("caption", { class: "sr" }, caption),
    el("thead", {}, el("tr", {}, columns.map(head))),
    el("tbody", {}, rows.map((row) => makeRow(columns, row))));
}

function makeRow(columns, row) {
  const cells = columns.map(({ label, cell, className, isHead }) => el(isHead ? "th" : "td",
    { class: className, "data-label": label, scope: isHead ? "row" : null }, cell(row)));
  return el("tr", {}, cells);
}

/** A list: table, pager and messages. `change` receives changed parameters of the query. */
export class List {
  constructor({ caption, noun, plural, columns, empty, change, defaultSort, onResult }) {
    Object.assign(this, { noun, plural, columns, empty, change, defaultSort, onResult });
    this.pager = el("nav", { class: "pager", "aria-label": `Pages of ${caption}` });
    this.table = makeTable(caption, columns, [], (column) => this.sortBy(column));
    this.none = el("div", { class: "panel empty", hidden: true });
    const content = el("div", {}, this.table, this.none, this.pager);
    this.loader = new Loader(content, (page, signal) => this.show(page, signal));
    this.loader.clear = () => this.total.replaceChildren();
    this.element = this.loader.element;
    this.total = el("span", { class: "total" });
    this.curl = copyButton(() => curlOf(this.path), `Copy the request of ${caption}`,
      "Copy as curl");
  }

  sortBy({ sort, first = "desc" }) {
    const [current, direction] = this.sort.split(":");
    const other = direction === "asc" ? "desc" : "asc";
    this.change({ sort: `${sort}:${current === sort ? other : first}`, page: null });
  }

  /** Load the rows of a path with the parameters of a query. */
  load(path, query) {
    this.query = query;
    this.path = pathOf(path, query);
    this.sort = query.sort ?? this.defaultSort ?? "";
    return this.loader.load((signal) => get(this.path, signal));
  }

  show(page, signal) {
    this.showSort();
    this.table.tBodies[0].replaceChildren(...page.data.map((row) => makeRow(this.columns, row)));
    const isEmpty = page.data.length === 0;
    this.table.hidden = isEmpty;
    this.none.hidden = !isEmpty;
    if (isEmpty) replace(this.none, this.empty(page.meta));
    this.showPager(page.meta);
    this.total.textContent = number(page.meta.total);
    announce(this.describe(page.meta));
    this.onResult?.(page, signal);
  }

  describe({ total, page, totalPages }) {
    const place = totalPages > 1 ? `, page ${number(page)} of ${number(totalPages)}` : "";
    return `${count(total, this.noun, this.plural)}${place}`;
  }

  showSort() {
    const [sorted, direction] = this.sort.split(":");
    for (const head of this.table.tHead.rows[0].cells) {
      const { sort } = this.columns[head.cellIndex];
      if (sort && sort === sorted) head.setAttribute("aria-sort", `${direction}ending`);
      else head.removeAttribute("aria-sort");
    }
  }

  showPager({ page, pageSize, total, totalPages }) {
    const last = Math.max(totalPages, 1);
    const turn = (key, label, target, isPossible) => el("button", {
      type: "button", "data-key": key, "aria-disabled": !isPossible && "true",
      onclick: () => {
        if (!isPossible) return;
        this.element.scrollIntoView();
        this.change({ page: target > 1 ? target : null });
      },
    }, label);
    const limits = LIMITS.includes(pageSize) ? LIMITS : [...LIMITS, pageSize];
    const select = el("select", {
      "data-key": "limit",
      onchange: (event) => this.change({ limit: event.target.value, page: null }),
    }, limits.map((limit) => el("option", { value: limit, selected: limit === pageSize },
      number(limit))));
    const begin = (page - 1) * pageSize + 1;
    const range = page > last ? number(total)
      : `${number(begin)}–${number(Math.min(total, page * pageSize))} of ${number(total)}`;
    this.pager.hidden = total === 0 || (totalPages === 1 && pageSize <= LIMITS[0]);
    replace(this.pager,
      el("label", {}, "Rows ", select),
      el("span", { class: "range" }, range),
      el("span", { class: "turn" },
        turn("first", "First", 1, page > 1),
        turn("previous", "Previous", Math.min(page - 1, last), page > 1),
        turn("next", "Next", page + 1, page < last),
        turn("last", "Last", last, page < last)));
  }
}

/** Return a chip that switches a filter on and off. */
export function chip({ key, label, count, isOn, onClick, title }) {
  const attributes = { type: "button", class: "chip", "data-key": key, title };
  return el("button", { ...attributes, "aria-pressed": String(isOn), onclick: onClick },
    el("span", {}, label), count == null ? null : el("span", { class: "count" }, number(count)));
}

/** Return a named group of chips. */
export function chips(name, items) {
  return el("div", { class: "chips", role: "group", "aria-label": name },
    el("span", { class: "group", "aria-hidden": "true" }, name), items);
}

/** Return a field for a part of a name, or for an id. */
export function searchField(id, placeholder) {
  return el("input", { type: "search", id, placeholder, maxlength: 200, autocomplete: "off",
    spellcheck: "false" });
}

/**
 * Call `search` with the text of a field some time after the last key.
 *
 * Return a function that shows the value of the address, unless a person is typing.
 */
export function typeInto(field, current, search) {
  let timer;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = null;
      // The person may have left the view.
      if (field.checkVisibility()) search(field.value);
    }, TYPING);
  });
  return () => {
    if (!timer && field.value !== (current() ?? "")) field.value = current() ?? "";
  };
}
