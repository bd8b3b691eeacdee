// Keeps the live update honest: it rests while nobody looks, and says so when it fails, because an old list that looks
// new is dangerous.
"use strict";

const stale = document.getElementById("stale");
const live = document.getElementById("live");

document.body.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt === live) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) htmx.trigger(live, "refresh");
});

for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.body.addEventListener(failure, () => { stale.hidden = false; });
}
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) stale.hidden = true;
});

// A count that has not changed is left alone, so that a screen reader does not read it again.
document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
  const fresh = event.detail.fragment.textContent.trim();
  if (event.detail.target.textContent.trim() === fresh) event.detail.shouldSwap = false;
});

// The chosen filter survives reload and "back"; a search does not: patient data stays out of the address.
document.getElementById("chips")?.addEventListener("change", (event) => {
  history.replaceState(null, "", event.target.value === "all" ? "/" : `/?show=${event.target.value}`);
});
