// Shows the price and what is wrong while the form of a new run is filled in. Without it, "Show the price" does.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const price = document.getElementById("price");
  const settings = document.getElementById("settings");
  const models = document.getElementById("models");
  const add = document.getElementById("add-model");
  const copy = document.getElementById("copy");
  const told = document.getElementById("price-status");
  const summary = document.getElementById("price-summary");
  const pause = 500; // milliseconds without a change before the price is asked for
  let timer = 0, asked = 0, controller = null;

  function showProblem(field, message) {
    for (const place of form.querySelectorAll("[data-problem]")) {
      const mine = place.dataset.problem === field;
      if (mine && place.textContent === message) continue; // or it would be announced again
      place.hidden = !mine;
      place.textContent = mine ? message : "";
    }
    const names = {models: ["model"], interventions: ["interventions", "per_example"]}[field] || [field];
    for (const one of form.querySelectorAll("[aria-describedby$='-problem']:not(fieldset)")) {
      if (names.includes(one.name)) one.setAttribute("aria-invalid", "true");
      else one.removeAttribute("aria-invalid");
    }
  }

  function isBegun() {
    return form.querySelector('[name="tasks"]:checked') && [...form.querySelectorAll('[name="model"]')].some((one) => one.value.trim());
  }

  async function ask() {
    if (!isBegun()) { price.setAttribute("aria-busy", "false"); return; }
    const number = ++asked;
    if (controller) controller.abort();
    controller = new AbortController();
    price.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`${document.body.dataset.base}/new/preview`, {method: "POST", body: new URLSearchParams(new FormData(form)), signal: controller.signal});
      if (number !== asked || !answer.ok) return;
      const found = await answer.json();
      const opened = price.querySelector("details[open]"), focused = price.contains(document.activeElement);
      price.innerHTML = found.price; // made and escaped by the server
      const details = price.querySelector("details");
      if (details && opened) details.open = true;
      if (details && focused) details.firstElementChild.focus({preventScroll: true});
      settings.textContent = found.settings;
      showProblem(found.field, found.message);
      if (told.textContent !== found.summary) told.textContent = found.summary; // or it is announced again
      summary.hidden = false;
      summary.firstElementChild.textContent = found.summary;
    } catch { /* a newer question, or no connection: the button still works */ }
    finally { if (number === asked) price.setAttribute("aria-busy", "false"); }
  }

  // An endpoint with one model names it.
  models.addEventListener("change", (event) => {
    if (event.target.name !== "endpoint") return;
    const model = event.target.closest(".model").querySelector("input");
    const named = event.target.selectedOptions[0].dataset.model;
    if (named && !model.value.trim()) model.value = named;
  });
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, pause); });
  add.hidden = false;
  add.addEventListener("click", () => {
    const row = models.lastElementChild.cloneNode(true);
    row.querySelector("input").value = "";
    models.append(row);
    row.querySelector("select").focus();
  });
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(settings.textContent);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
  }
  ask();
})();
