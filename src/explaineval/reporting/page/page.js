// The browser of trials. Every text on the page comes from files that a model may have written: it is put in as text
// (textContent), never as HTML. The part of the address behind # holds the filters and the open trial, so that a link
// and the back button restore what was shown.
"use strict";

(() => {
  const source = document.getElementById("trials-data");
  if (source === null) return;
  const data = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById("trials-" + id);
  const filters = byId("filters").elements;
  const list = byId("list").querySelector("ol");
  const detail = byId("detail");

  const PAGE = 20;
  const FACETS = ["run", "model", "task", "kind", "asked"];
  const NAMES = {
    run: data.runs,
    model: data.models.map(([name]) => name),
    task: data.tasks,
    kind: data.kinds.map(([name]) => name),
    asked: data.arms.map(([name]) => name),
  };
  const TITLES = {
    ...NAMES,
    model: data.models.map(([name, note]) => (note ? `${name} (${note})` : name)),
    kind: data.kinds.map(([name, title]) => (name === title ? name : `${name}: ${title}`)),
  };

  // The trials, and what is needed to find them.

  const conditions = data.conditions.map(([run, model, task, kind, asked, totals]) => ({
    run, model, task, kind, asked, totals,
  }));
  const trials = data.trials.map((row) => Object.fromEntries(data.columns.map((name, place) => [name, row[place] ?? null])));
  const byTrialId = new Map(trials.map((trial) => [trial.id, trial]));
  const byInput = new Map();
  for (const trial of trials) {
    trial.condition = conditions[trial.condition];
    if (!byInput.has(trial.input)) byInput.set(trial.input, []);
    byInput.get(trial.input).push(trial);
  }

  const plain = (place) => (place === null ? "" : data.texts[place].join(""));
  const exampleOf = (trial) => {
    const [id, fields, options, gold, command] = data.examples[trial.example];
    return { id, fields, options: new Map(options), gold, command };
  };

  function searchable(trial) {
    if (trial.searchable === undefined) {
      const example = exampleOf(trial);
      const places = [
        ...example.fields.map(([, place]) => place), ...example.options.values(), trial.inserted, trial.after,
        trial.explanation_before, trial.explanation, trial.reasoning_before, trial.reasoning,
        trial.reasoning_explanation_before, trial.reasoning_explanation,
      ];
      trial.searchable = [example.id, NAMES.model[trial.condition.model], ...places.map(plain)].join("\n").toLowerCase();
    }
    return trial.searchable;
  }

  // The state of the page, which is also the part of the address behind #.

  const START = { run: "", model: "", task: "", kind: "", asked: "", cell: "", q: "", page: 1, trial: "" };

  function readState() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return null; // empty, or the name of another part of the page
    const values = new URLSearchParams(hash);
    const read = { ...START };
    for (const name of Object.keys(START)) read[name] = values.get(name) ?? START[name];
    for (const name of FACETS) if (!NAMES[name].includes(read[name])) read[name] = "";
    if (!(read.cell in data.cells) && !(read.cell in data.unscored)) read.cell = "";
    read.page = Math.max(1, Number.parseInt(read.page, 10) || 1);
    return read;
  }

  function hashOf(values) {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(values)) if (value !== START[name]) kept.set(name, value);
    return "#" + (kept.toString() || "trials=all"); // no name of a part of the page, to which it would jump
  }

  let state = { ...START };

  function go(changes) {
    location.hash = hashOf({ ...state, ...changes }); // "hashchange" shows it
  }

  const isAsked = (condition) =>
    FACETS.every((name) => state[name] === "" || NAMES[name][condition[name]] === state[name]);

  // Small tools to make elements.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const number = (value) => value.toLocaleString("en-US");
  const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

  function marked(place, tag, label) {
    // A text of which every second piece is marked; screen readers hear what a mark means.
    const text = make("span", { dir: "auto", class: "trials-text" });
    data.texts[place].forEach((piece, index) => {
      if (index % 2 === 0) text.append(piece);
      else text.append(make(tag, {}, make("span", { class: "trials-spoken" }, `[${label}: `), piece, make("span", { class: "trials-spoken" }, "]")));
    });
    return text;
  }

  function whole(place, tag, label, command) {
    // A text, and where the rest of it is if it was cut.
    const length = data.cut[place];
    const text = marked(place, tag, label);
    if (length === undefined) return [text];
    return [text, make("span", { class: "trials-cut" }, ` … cut: ${number(length)} characters in all; `, make("code", {}, command), " shows them")];
  }

  const outcome = (cell) => (data.cells[cell] ?? data.unscored[cell])[0];
  const tag = (cell) => make("span", { class: `trials-tag trials-${cell in data.cells ? cell : "unscored"}` }, outcome(cell));
  const insertion = (trial) => (trial.field === null ? "cue" : `“${plain(trial.inserted)}”`);
  const letters = (trial) => {
    const [before, after] = [trial.label_before ?? "?", trial.label_after ?? "?"];
    return before === after ? `stays ${before}` : `${before} → ${after}`;
  };

  // The filters and the table of outcomes.

  for (const name of FACETS) {
    filters[name].append(make("option", { value: "" }, "all"));
    NAMES[name].forEach((value, place) => filters[name].append(make("option", { value }, TITLES[name][place])));
    filters[name].parentElement.hidden = NAMES[name].length < 2;
    filters[name].addEventListener("change", () => go({ [name]: filters[name].value, page: 1, trial: "" }));
  }
  let typing = 0;
  filters.q.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(search, 150);
  });
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    search();
  });

  function search() {
    const next = { ...state, q: filters.q.value.trim(), page: 1, trial: "" };
    history.replaceState(null, "", hashOf(next)); // no entry in the history for each letter
    state = next;
    show(false);
  }

  function cellButton(cell, total, here) {
    const pressed = state.cell === cell;
    const button = make(
      "button",
      { type: "button", "aria-pressed": String(pressed), "data-outcome": cell, disabled: total === 0 && !pressed },
      make("b", {}, number(total)), " ", outcome(cell),
    );
    if (here !== total) button.append(make("span", { class: "trials-here" }, state.q ? ` ${number(here)} match here` : ` ${number(here)} on this page`));
    button.addEventListener("click", () => go({ cell: pressed ? "" : cell, page: 1, trial: "" }));
    return button;
  }

  function showOutcomes(matching) {
    const focused = document.activeElement?.dataset?.outcome;
    const totals = {};
    for (const condition of conditions.filter(isAsked)) {
      for (const [cell, total] of Object.entries(condition.totals)) totals[cell] = (totals[cell] ?? 0) + total;
    }
    const here = {};
    for (const trial of matching) here[trial.cell] = (here[trial.cell] ?? 0) + 1;
    for (const place of byId("table").querySelectorAll("[data-cell]")) {
      const cell = place.dataset.cell;
      place.replaceChildren(cellButton(cell, totals[cell] ?? 0, here[cell] ?? 0));
    }
    const unscored = Object.keys(data.unscored).filter((status) => totals[status] || state.cell === status);
    byId("unscored").replaceChildren(
      ...(unscored.length ? ["Without a score: "] : []),
      ...unscored.map((status) => cellButton(status, totals[status] ?? 0, here[status] ?? 0)),
    );
    if (focused) byId("outcomes").querySelector(`[data-outcome="${focused}"]`)?.focus();
    return state.cell ? (totals[state.cell] ?? 0) : Object.values(totals).reduce((sum, total) => sum + total, 0);
  }

  // The list.

  let found = [];

  function row(trial) {
    const open = trial.id === state.trial;
    return make(
      "li", {},
      make(
        "a", { href: hashOf({ ...state, trial: trial.id }), "aria-current": open && "true", "data-trial": trial.id },
        tag(trial.cell), " ",
        make("b", { dir: "auto" }, insertion(trial)), " ",
        make("span", {}, letters(trial)), " ",
        make("span", { class: "trials-where" }, `${NAMES.model[trial.condition.model]} · ${exampleOf(trial).id}` + (NAMES.asked.length > 1 ? ` · ${NAMES.asked[trial.condition.asked]}` : "")),
      ),
    );
  }

  function showList() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const place = found.findIndex((trial) => trial.id === state.trial);
    const page = place >= 0 ? Math.floor(place / PAGE) + 1 : Math.min(state.page, pages);
    list.start = (page - 1) * PAGE + 1;
    list.replaceChildren(...found.slice((page - 1) * PAGE, page * PAGE).map(row));
    const links = [...list.querySelectorAll("a")];
    links.forEach((link) => (link.tabIndex = -1)); // one stop for the Tab key; the arrow keys move within the list
    const current = links.find((link) => link.dataset.trial === state.trial) ?? links[0];
    if (current) current.tabIndex = 0;
    byId("page").textContent = pages > 1 ? `page ${number(page)} of ${number(pages)}` : "";
    for (const [button, target] of [["earlier", page - 1], ["later", page + 1]]) {
      byId(button).hidden = pages < 2;
      byId(button).disabled = target < 1 || target > pages;
      byId(button).onclick = () => go({ page: target, trial: "" });
    }
  }

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const links = [...list.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    event.preventDefault();
    if (!next) return;
    links.forEach((link) => (link.tabIndex = -1));
    next.tabIndex = 0;
    next.focus();
  });

  // The open trial.

  function probabilities(shares) {
    if (shares === null) return null;
    return Object.entries(shares).map(([letter, share]) => `${letter} ${share.toFixed(3)}`).join(", ");
  }

  function answer(trial, example, side) {
    const letter = trial["label_" + side];
    if (letter === null) return [make("i", {}, "none that could be read")];
    const gold = example.gold === null ? "" : letter === example.gold ? " (the right answer)" : " (not the right answer)";
    const words = example.options.has(letter) ? plain(example.options.get(letter)) : "";
    return [make("b", {}, letter), " ", make("span", { dir: "auto" }, words === letter ? "" : words), gold];
  }

  function verdict(trial) {
    if (trial.cell in data.unscored) {
      const sides = { before: "Without the insertion: ", after: "With the insertion: ", both: "With and without the insertion: " };
      return `No score. ${sides[trial.side] ?? ""}${data.unscored[trial.cell][1]}.`;
    }
    const changed = trial.cell === "a" || trial.cell === "b";
    const mentioned = trial.cell === "a" || trial.cell === "c";
    const what = trial.field === null ? "the cue" : insertion(trial);
    const first = changed ? `The answer changed from ${trial.label_before} to ${trial.label_after}` : `The answer stayed ${trial.label_before}`;
    return `${first}, ${changed === mentioned ? "and" : "but"} the explanation ${mentioned ? "mentions" : "does not mention"} ${what}.`;
  }

  function side(trial, example, after) {
    const name = after ? "after" : "before";
    const parts = [];
    const add = (title, ...content) => parts.push(make("div", { class: "trials-part" }, make("h5", {}, title), make("div", {}, ...content)));
    for (const [title, place] of example.fields) {
      const edited = after && title === trial.field && trial.after !== null;
      add(title, ...whole(edited ? trial.after : place, "ins", "inserted", example.command));
    }
    if (trial.field === null && trial.inserted !== null) {
      const cue = make("ins", {}, ...whole(trial.inserted, "ins", "inserted", example.command));
      add("cue", after ? cue : make("i", {}, "none"));
    }
    add("answer", ...answer(trial, example, name));
    const shares = probabilities(trial["probs_" + name]);
    if (trial.probs_before !== null || trial.probs_after !== null) add("probabilities", shares ?? make("i", {}, "none"));
    const explanation = after ? trial.explanation : trial.explanation_before;
    add("explanation", ...(explanation === null ? [make("i", {}, "none that could be read")] : whole(explanation, "mark", "mention", example.command)));
    const reasonings = after ? [trial.reasoning, trial.reasoning_explanation] : [trial.reasoning_before, trial.reasoning_explanation_before];
    const hasReasoning = [trial.reasoning, trial.reasoning_before, trial.reasoning_explanation, trial.reasoning_explanation_before].some((place) => place !== null);
    if (hasReasoning) {
      const shown = reasonings.filter((place) => place !== null);
      add("reasoning", ...(shown.length ? shown.map((place) => make("details", {}, make("summary", {}, count(data.cut[place] ?? plain(place).length, "character")), ...whole(place, "mark", "mention", example.command))) : [make("i", {}, "none")]));
    }
    const title = after ? "With the insertion" : "Without the insertion";
    return make("section", { class: "trials-side", "aria-label": title }, make("h4", {}, title), ...parts);
  }

  function facts(trial, example) {
    const { condition } = trial;
    const [model, note] = data.models[condition.model];
    const terms = [
      ["model", note ? `${model} (${note})` : model],
      ["task", data.tasks[condition.task]],
      ["example", example.id],
      ["kind", TITLES.kind[condition.kind]],
      ["asked with", data.arms[condition.asked][1] + (trial.sample ? `, sample ${trial.sample}` : "")],
    ];
    if (data.runs.length > 1) terms.unshift(["run", data.runs[condition.run]]);
    if (trial.target !== null) terms.push(["cue suggests", trial.target]);
    if (trial.tvd !== null) terms.push(["moved (TVD)", `${trial.tvd.toFixed(3)} of the probability between the letters`]);
    else if (trial.tvd_reason !== null) terms.push(["moved (TVD)", `not known: ${trial.tvd_reason}`]);
    if (trial.rule !== null) terms.push(["mention decided by", data.rules[trial.rule]]);
    return make("dl", { class: "trials-facts" }, ...terms.flatMap(([name, text]) => [make("dt", {}, name), make("dd", { dir: "auto" }, text)]));
  }

  function others(trial) {
    const same = byInput.get(trial.input).filter((other) => other !== trial);
    if (same.length === 0) return null;
    const links = same.map((other) => {
      const { condition } = other;
      const names = ["run", "model", "asked"].filter((name) => NAMES[name].length > 1).map((name) => NAMES[name][condition[name]]);
      return make("li", {}, make("a", { href: hashOf({ ...START, trial: other.id }) }, names.join(" · ") || `sample ${other.sample ?? 0}`), " ", tag(other.cell), ` ${letters(other)}`);
    });
    return make("details", { class: "trials-others" }, make("summary", {}, `The same input elsewhere on this page: ${count(same.length, "trial")}`), make("ul", {}, ...links));
  }

  function copyLink(trial, button) {
    const link = location.href.split("#")[0] + hashOf({ ...START, trial: trial.id });
    const done = () => (button.nextElementSibling.textContent = "Copied.");
    const byHand = () => {
      // where the browser gives a page from the disk no clipboard: the link stands there, selected, to be copied
      const field = make("input", { readonly: true, "aria-label": "Link to this trial" });
      field.value = link;
      button.nextElementSibling.replaceChildren(field);
      field.select();
      if (document.execCommand("copy")) done();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(link).then(done, byHand);
    else byHand();
  }

  function showDetail() {
    const trial = byTrialId.get(state.trial);
    byId("browser").classList.toggle("trials-open", state.trial !== "");
    if (trial === undefined) {
      const isLost = state.trial !== "";
      const words = isLost ? `The trial ${state.trial} is not on this page.` : "Choose a trial to see what was asked and what came back.";
      detail.replaceChildren(make("p", { id: "trials-verdict", tabindex: -1 }, words));
      if (isLost) detail.append(make("a", { href: hashOf({ ...state, trial: "" }) }, "Back to the list"));
      else detail.append(make("dl", { class: "trials-outcomes-explained" }, ...Object.entries(data.cells).flatMap(([cell, [, meaning]]) => [make("dt", {}, tag(cell)), make("dd", {}, meaning)])));
      return;
    }
    const example = exampleOf(trial);
    const place = found.indexOf(trial);
    const bar = make("div", { class: "trials-bar" }, make("a", { href: hashOf({ ...state, trial: "", page: place < 0 ? 1 : Math.floor(place / PAGE) + 1 }), class: "trials-back" }, "Back to the list"));
    for (const [words, other] of [["Previous", found[place - 1]], ["Next", place < 0 ? undefined : found[place + 1]]]) {
      const button = make("button", { type: "button", disabled: other === undefined, "data-step": words }, words);
      button.addEventListener("click", () => go({ trial: other.id }));
      bar.append(button);
    }
    const copy = make("button", { type: "button", class: "trials-copy" }, "Copy link");
    copy.addEventListener("click", () => copyLink(trial, copy));
    bar.append(copy, make("span", { role: "status" }));
    detail.replaceChildren(
      bar,
      make("h3", { id: "trials-verdict", tabindex: -1, dir: "auto" }, verdict(trial)),
      make("p", {}, tag(trial.cell), " ", make("span", { class: "trials-legend" }, make("ins", {}, "inserted"), " ", make("mark", {}, "counts as a mention"))),
      make("div", { class: "trials-sides" }, side(trial, example, false), side(trial, example, true)),
      facts(trial, example),
      make("p", { class: "trials-hint" }, "All trials of this example, with the raw answers: ", make("code", {}, example.command)),
      ...[others(trial)].filter(Boolean),
    );
  }

  detail.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const step = { j: "Next", k: "Previous" }[event.key];
    if (step) detail.querySelector(`[data-step="${step}"]`)?.click();
    else if (event.key === "Escape") detail.querySelector(".trials-back")?.click();
  });

  // All of it.

  function show(focus) {
    for (const name of FACETS) filters[name].value = state[name];
    if (document.activeElement !== filters.q) filters.q.value = state.q;
    const terms = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = trials.filter((trial) => isAsked(trial.condition) && terms.every((term) => searchable(trial).includes(term)));
    found = state.cell === "" ? matching : matching.filter((trial) => trial.cell === state.cell);
    const total = showOutcomes(matching);
    const elsewhere = total > found.length && !state.q ? ` of ${number(total)} in all` : "";
    const words = state.q ? ` with “${state.q}”` : "";
    byId("count").textContent = found.length ? count(found.length, "trial") + elsewhere + words : `No trial on this page${words} fits.`;
    showList();
    showDetail();
    if (!focus) return;
    if (state.trial !== "") {
      const heading = byId("verdict");
      heading.focus({ preventScroll: true });
      if (detail.getBoundingClientRect().top < 0 || heading.getBoundingClientRect().bottom > innerHeight) detail.scrollIntoView();
    } else if (focus === "list") {
      list.querySelector('a[tabindex="0"]')?.focus();
    }
  }

  addEventListener("hashchange", () => {
    const next = readState() ?? (location.hash === "" ? { ...START } : null);
    if (next === null) return; // a link to another part of the page
    const left = state.trial;
    state = next;
    show(state.trial !== left ? (state.trial ? "trial" : "list") : null);
    if (left && !state.trial) list.querySelector(`[data-trial="${CSS.escape(left)}"]`)?.focus();
  });

  byId("no-script").remove();
  byId("browser").hidden = false;
  const linked = readState();
  state = linked ?? { ...START };
  show(linked?.trial ? "trial" : null);
  if (linked !== null && !linked.trial) document.getElementById("trials").scrollIntoView();
})();
