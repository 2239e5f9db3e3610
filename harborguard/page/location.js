// The state of the page is the query of its address: the parameters of the list, `cve` and `image`
// for the other views, and parameters that begin with `v.` for the findings of an image.

let show = () => {};

export const parameters = () => new URLSearchParams(window.location.search);
const select = (expression) => Object.fromEntries([...parameters()]
  .filter(([name, value]) => value && expression.test(name))
  .map(([name, value]) => [name.replace(/^v\./, ""), value]));

/** Return the parameters of the list, as the API has them. */
export const listParameters = () => select(/^(?!(image|cve)$|v\.)/);

/** Return the parameters of the findings in the drawer. */
export const findingParameters = () => select(/^v\./);

/** Return the address with changed parameters; null removes one. */
export function withChanges(changes) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === "") query.delete(name);
    else query.set(name, value);
  }
  // These characters need no encoding in a query, and addresses are for people too.
  const text = query.toString().replace(/%3A|%2C|%2F/g, decodeURIComponent);
  return text ? `/?${text}` : "/";
}

/** Return the address without the drawer. */
export function withoutImage() {
  const names = [...parameters().keys()].filter((name) => /^(image$|v\.)/.test(name));
  return withChanges(Object.fromEntries(names.map((name) => [name, null])));
}

/** Go to an address of the page. `mode` is `push`, or `replace` for no step in the history. */
export function go(address, mode = "push", state = {}) {
  if (mode === "push") history.pushState({ inside: true, ...state }, "", address);
  else history.replaceState({ ...history.state, ...state }, "", address);
  show();
}

/** Go to the address with changed parameters. */
export function change(changes, mode, state) {
  go(withChanges(changes), mode, state);
}

/** Call a function now and when the address changes. Links between views load no other page. */
export function start(listener) {
  show = listener;
  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-page]");
    const modified = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (!link || event.button || modified || event.defaultPrevented) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  show();
}
