// Start of the page: which view the address selects, and entering with a key.

import { forgetKey, hasKey, useKey, wasAccepted } from "./api.js";
import { announce, byId, replace } from "./dom.js";
import { cancelVulnerability, showVulnerability } from "./findings.js";
import { closeImage, updateImage } from "./image.js";
import { cancelInventory, showInventory } from "./inventory.js";
import { onUnauthorized } from "./list.js";
import { listParameters, parameters, start } from "./location.js";

const entry = byId("entry");
const field = byId("entry-key");
const button = byId("key");
let shown = null;

/** Show the view that the address selects. Load it only if its own parameters have changed. */
function update() {
  if (!entry.hidden) return;
  const id = parameters().get("cve");
  const query = listParameters();
  const key = JSON.stringify([id, query]);
  const isOther = shown !== null && JSON.parse(shown)[0] !== id;
  byId("inventory").hidden = id !== null;
  byId("cve").hidden = id === null;
  if (key !== shown) {
    shown = key;
    (id === null ? cancelVulnerability : cancelInventory)();
    if (id === null) showInventory();
    else showVulnerability(id, query);
  }
  if (!parameters().has("image")) document.title = `${id ?? ""} HarborGuard Images`.trim();
  updateImage();
  if (isOther) {
    scrollTo(0, 0);
    byId(id === null ? "inventory-title" : "cve-title").focus();
  }
  button.hidden = false;
  button.textContent = hasKey() ? "Forget key" : "Use a key";
}

function enter(reason, problem = "") {
  cancelInventory();
  cancelVulnerability();
  closeImage();
  for (const id of ["inventory", "cve", "key"]) byId(id).hidden = true;
  entry.hidden = false;
  byId("entry-reason").textContent = reason;
  byId("entry-error").textContent = problem;
  field.setAttribute("aria-invalid", String(problem !== ""));
  announce("");
  field.focus();
}

function leave() {
  entry.hidden = true;
  field.value = "";
  shown = null;
  update();
}

onUnauthorized(() => {
  if (!entry.hidden) return;
  const wasIn = wasAccepted();
  const hadKey = hasKey();
  forgetKey();
  if (wasIn) {
    enter("", `${hadKey ? "The key" : "The session"} is no longer accepted. It has expired or was `
      + "revoked.");
  } else if (hadKey) {
    enter("", "The service does not accept this key. It may be mistyped, expired or revoked.");
  } else {
    enter("This browser has no session of the service.");
  }
});

byId("entry-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (useKey(field.value.trim(), byId("entry-remember").checked)) leave();
  else enter("", "This is not a key. A key begins with hg_ak_ or hg_pat_.");
});
byId("entry-retry").addEventListener("click", leave);
button.addEventListener("click", () => {
  if (!hasKey()) {
    enter("");
    return;
  }
  forgetKey();
  // Nothing that the key has shown stays.
  window.location.reload();
});

async function showService() {
  const options = { headers: { Accept: "application/json" }, cache: "no-store" };
  const { data } = await (await fetch("/", options)).json();
  replace(byId("version"), `${data.name} ${data.version}`);
  if (data.documentation) {
    byId("reference").href = data.documentation;
    byId("reference").hidden = false;
  }
}

byId("not-started").remove();
// Without the version, the page works as well.
showService().catch(() => {});
start(update);
