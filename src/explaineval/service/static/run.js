// Keeps the page of a run that goes on up to date. Without it, loading the page again does the same.
"use strict";
(() => {
  const live = document.getElementById("live");
  const status = document.getElementById("status");
  const run = live.dataset.run;
  const pause = 1000; // milliseconds between two updates
  const told = 15000; // milliseconds between two sentences for who listens instead of looking; a new state is told at once
  let due = false, busy = false, lastTold = Date.now(), state = live.querySelector("[data-state]").dataset.state;

  // Shows a new state without taking the focus, or the place to which a table is scrolled, away.
  function show(html) {
    const regions = () => [...live.querySelectorAll("[tabindex]")];
    const focused = regions().indexOf(document.activeElement);
    const places = regions().map((one) => one.scrollLeft);
    live.innerHTML = html; // made and escaped by the server
    regions().forEach((one, index) => { one.scrollLeft = places[index] || 0; });
    if (focused >= 0 && regions()[focused]) regions()[focused].focus({preventScroll: true});
    const now = live.querySelector("[data-state]").dataset;
    if (now.state !== state || Date.now() - lastTold > told) {
      state = now.state;
      lastTold = Date.now();
      status.textContent = now.status;
    }
  }

  async function update() {
    if (busy) { due = true; return; }
    busy = true;
    due = false;
    try {
      const answer = await fetch(`${document.body.dataset.base}/runs/${run}/live`);
      if (answer.ok && !answer.redirected) show(await answer.text());
    } catch { /* the next event tries again */ }
    setTimeout(() => { busy = false; if (due) update(); }, pause);
  }

  const events = new EventSource(`${document.body.dataset.base}/api/runs/${run}/events`);
  events.addEventListener("run", update);
  events.addEventListener("end", (event) => {
    events.close();
    // only a run that has ended has a page of its own, or loading it again would never end
    if (!["queued", "running", "waiting", "stopping"].includes(JSON.parse(event.data).state)) location.reload();
  });
})();
