// Uploads a file as the API takes it. Without it, a script can do the same.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const file = document.getElementById("file");
  const problem = document.getElementById("upload-problem");
  const button = form.querySelector("button");
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = file.files[0];
    if (!chosen) return;
    button.disabled = true;
    problem.hidden = true;
    let message = "The service does not answer.";
    try {
      const headers = {"Content-Type": "application/x-ndjson", "X-CSRF-Token": form.dataset.csrf};
      const answer = await fetch(`${document.body.dataset.base}/api/files/${encodeURIComponent(chosen.name)}`, {method: "PUT", body: chosen, headers});
      if (answer.ok) { location.reload(); return; }
      message = (await answer.json()).error.message;
    } catch { /* the message above */ }
    problem.textContent = message.replace(/^[a-z](?=[a-z']*[ ,])/, (letter) => letter.toUpperCase());
    problem.hidden = false;
    button.disabled = false;
  });
})();
