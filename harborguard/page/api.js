// The client of the API: the key, the requests, and what an error means to a person.

const STORED = "harborguard.key";
const FORM = /^hg_(?:ak|pat)_[\w-]{1,250}$/;
const TIMEOUT = 20_000;

let key = storage()?.getItem(STORED) ?? null;
let isAccepted = false;
let first = null;

/** An error response, or a request without a response (`status` 0). */
export class ApiError extends Error {
  constructor(status, message, { issues = [], retryAfter = 0, requestId = "" } = {}) {
    super(message);
    Object.assign(this, { status, issues, retryAfter, requestId });
  }
}

/** Return the storage of the tab, or null if the browser does not allow any. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

export const hasKey = () => key !== null;
export const wasAccepted = () => isAccepted;

/** Use a key; with `isKept`, until the tab is closed. Return whether it is well-formed. */
export function useKey(text, isKept) {
  forgetKey();
  if (!FORM.test(text)) return false;
  key = text;
  if (isKept) storage()?.setItem(STORED, text);
  return true;
}

/** Use the session of the browser instead of a key. */
export function forgetKey() {
  key = null;
  isAccepted = false;
  storage()?.removeItem(STORED);
}

/** Return the path of a resource with its query. */
export function pathOf(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return text ? `${path}?${text}` : path;
}

/** Return the command that requests a path. It names the key's variable, not the key. */
export function curlOf(path) {
  return `curl -s -H "X-API-Key: $KEY" '${window.location.origin}${path.replaceAll("'", "%27")}'`;
}

/** Return the body of a resource. Raise ApiError, or AbortError if the signal is aborted. */
export async function get(path, signal) {
  // The service limits rejected requests. So the first one is alone, until its key is accepted.
  while (first) {
    await first.catch((error) => {
      if (error.status === 401) throw error;
    });
  }
  if (isAccepted) return send(path, signal);
  first = send(path, signal);
  try {
    const body = await first;
    isAccepted = true;
    return body;
  } finally {
    first = null;
  }
}

async function send(path, signal) {
  let response = await request(path, signal);
  if (response.status === 429 && secondsOf(response) <= 2) {
    // Of the searches of one key, the service runs one at a time. Typing starts the next one early.
    await pause(secondsOf(response) * 1000, signal);
    response = await request(path, signal);
  }
  const body = await response.json().catch(() => null);
  signal?.throwIfAborted();
  if (response.ok && body) return body;
  const { message = "", issues = [] } = body?.error ?? {};
  throw new ApiError(response.ok ? 0 : response.status, message, {
    issues,
    retryAfter: secondsOf(response),
    requestId: response.headers.get("X-Request-ID") ?? "",
  });
}

async function request(path, signal) {
  const headers = { Accept: "application/json", ...(key && { "X-API-Key": key }) };
  const limit = AbortSignal.timeout(TIMEOUT);
  const signals = AbortSignal.any(signal ? [signal, limit] : [limit]);
  try {
    // A browser's cache would write the inventory, and perhaps the key, to the disk.
    const options = { headers, cache: "no-store", credentials: key ? "omit" : "same-origin" };
    return await fetch(path, { ...options, signal: signals });
  } catch (error) {
    signal?.throwIfAborted();
    throw new ApiError(0, error.name === "TimeoutError" ? "timeout" : "network");
  }
}

function secondsOf(response) {
  return Number.parseInt(response.headers.get("Retry-After") ?? "0", 10) || 0;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Return what an error means: a title, what to do next, and the seconds until a repetition. */
export function describe({ status, message, issues = [], retryAfter = 0 }) {
  const wait = Math.max(retryAfter, 2);
  switch (status) {
    case 0:
      return message === "timeout"
        ? ["The service does not respond", "It may be overloaded.", 10]
        : ["The service cannot be reached",
          "It may be restarting, or this computer is offline.", 5];
    case 400:
      return ["The address of this view is not valid",
        issues.map((issue) => `${issue.path}: ${issue.message}.`).join(" ") || message];
    case 403:
      return ["This is not allowed", message];
    case 404:
      return ["Not found", `${message} It may have been deleted.`];
    case 410:
      return ["The findings are not stored any more", message];
    case 429:
      return ["Too many requests",
        "The service limits the requests of a key and of a network address.", wait];
    case 503:
      return ["The service is not available",
        "Its database may be restarting. If this lasts, inform the operator.", wait];
    case 504:
      return ["The query took too long",
        "Use a longer search text, or add a filter such as a registry, and try again."];
    default:
      return ["The service failed", message || "Its log has the cause."];
  }
}
