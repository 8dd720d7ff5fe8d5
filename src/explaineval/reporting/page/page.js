// The browser of trials. Its texts come from files that a model may have written: they are put in as text, never as
// HTML. The part of the address behind # holds the filters and the open trial, so that a link or the back button
// restores what was shown.
"use strict";

(() => {
  const source = document.getElementById("trials-data");
  if (source === null) return;
  const data = JSON.parse(source.textContent);

  const byId = (id) => document.getElementById("trials-" + id);
  const filters = byId("filters").elements;
  const list = byId("list").querySelector("ol");
  const detail = byId("detail");

  const PAGE = 20; // trials on one page of the list
  const PAUSE = 150; // milliseconds after the last letter until a search begins

  // What can be filtered by: the values' names, which stand in addresses, and what is shown for them.
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

  // ---- the trials -------------------------------------------------------------------------------------------------

  const conditions = data.conditions.map(([run, model, task, kind, asked, totals]) => {
    return { run, model, task, kind, asked, totals };
  });
  const trials = data.trials.map((row) => {
    const trial = Object.fromEntries(data.columns.map((name, place) => [name, row[place] ?? null]));
    return { ...trial, condition: conditions[trial.condition] };
  });
  const byTrial = new Map(trials.map((trial) => [trial.id, trial]));
  const byInput = Map.groupBy
    ? Map.groupBy(trials, (trial) => trial.input)
    : trials.reduce((map, trial) => map.set(trial.input, [...(map.get(trial.input) ?? []), trial]), new Map());

  const nameOf = (trial, facet) => NAMES[facet][trial.condition[facet]];
  const plain = (place) => (place === null ? "" : data.texts[place].join(""));

  function exampleOf(trial) {
    const [id, fields, options, gold, command] = data.examples[trial.example];
    return { id, fields, options: new Map(options), gold, command };
  }

  function searchable(trial) {
    if (trial.searchable === undefined) {
      const example = exampleOf(trial);
      const places = [
        ...example.fields.map(([, place]) => place), ...example.options.values(), trial.inserted, trial.after,
        trial.explanation_before, trial.explanation, trial.reasoning_before, trial.reasoning,
        trial.reasoning_explanation_before, trial.reasoning_explanation,
      ];
      trial.searchable = [example.id, nameOf(trial, "model"), ...places.map(plain)].join("\n").toLowerCase();
    }
    return trial.searchable;
  }

  // ---- the state: filters, the page of the list, the open trial ---------------------------------------------------

  const START = { run: "", model: "", task: "", kind: "", asked: "", cell: "", q: "", page: 1, trial: "" };
  let state = { ...START };
  let found = []; // the trials in the list, on all of its pages

  function readState() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return null; // empty, or the name of another part of the page
    const values = new URLSearchParams(hash);
    const read = {};
    for (const name of Object.keys(START)) read[name] = values.get(name) ?? START[name];
    for (const name of FACETS) if (!NAMES[name].includes(read[name])) read[name] = "";
    if (!Object.hasOwn(data.cells, read.cell) && !Object.hasOwn(data.unscored, read.cell)) read.cell = "";
    read.page = Math.max(1, Number.parseInt(read.page, 10) || 1);
    return read;
  }

  function hashOf(values) {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(values)) if (value !== START[name]) kept.set(name, value);
    return "#" + (kept.toString() || "trials=all"); // no name of a part of the page, to which it would jump
  }

  function go(changes) {
    location.hash = hashOf({ ...state, ...changes }); // the event "hashchange" shows it
  }

  const isAsked = (condition) => {
    return FACETS.every((name) => state[name] === "" || NAMES[name][condition[name]] === state[name]);
  };

  // ---- tools that make elements -----------------------------------------------------------------------------------

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function makeButton(words, act, attributes = {}) {
    const button = make("button", { type: "button", ...attributes }, ...[words].flat());
    button.addEventListener("click", act);
    return button;
  }

  const number = (value) => value.toLocaleString("en-US");
  const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
  const spoken = (words) => make("span", { class: "trials-spoken" }, words);
  const joined = (names) => names.flatMap((name, place) => [place ? " · " : "", make("bdi", {}, name)]);
  const none = (words = "none") => [make("i", {}, words)];

  // A text of which every second piece is marked; screen readers hear what a mark means.
  function marked(place, tag, label) {
    const text = make("span", { dir: "auto", class: "trials-text" });
    data.texts[place].forEach((piece, index) => {
      text.append(index % 2 ? make(tag, {}, spoken(`[${label}: `), piece, spoken("]")) : piece);
    });
    return text;
  }

  // A text, and where the rest of it is if it was cut.
  function whole(place, tag, label, command) {
    const text = marked(place, tag, label);
    const length = data.cut[place];
    if (length === undefined) return [text];
    const rest = [` … cut: ${number(length)} characters in all, which `, make("code", {}, command), " shows"];
    return [text, make("span", { class: "trials-cut" }, ...rest)];
  }

  const outcome = (cell) => (data.cells[cell] ?? data.unscored[cell])[0];

  function tagOf(cell) {
    return make("span", { class: `trials-tag trials-${cell in data.cells ? cell : "unscored"}` }, outcome(cell));
  }

  const insertionOf = (trial) => (trial.field === null ? "cue" : `“${plain(trial.inserted)}”`);

  function lettersOf(trial) {
    const [before, after] = [trial.label_before ?? "?", trial.label_after ?? "?"];
    return before === after ? `stays ${before}` : `${before} → ${after}`;
  }

  // ---- filters and the table of outcomes --------------------------------------------------------------------------

  for (const name of FACETS) {
    filters[name].append(make("option", { value: "" }, "all"));
    NAMES[name].forEach((value, place) => filters[name].append(make("option", { value }, TITLES[name][place])));
    filters[name].parentElement.hidden = NAMES[name].length < 2;
    filters[name].addEventListener("change", () => go({ [name]: filters[name].value, page: 1, trial: "" }));
  }

  let typing = 0;
  filters.q.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(search, PAUSE);
  });
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    search();
  });

  function search() {
    state = { ...state, q: filters.q.value.trim(), page: 1, trial: "" };
    history.replaceState(null, "", hashOf(state)); // the history gets no entry for each letter
    show();
  }

  // How many trials of the runs ended so, and how many of them are on this page and match the search.
  function cellButton(cell, total, here) {
    const pressed = state.cell === cell;
    const words = [make("b", {}, number(total)), " ", outcome(cell)];
    const note = ` ${number(here)} ${state.q ? "match" : "on this page"}`;
    if (here !== total) words.push(make("span", { class: "trials-here" }, note));
    const attributes = { "aria-pressed": String(pressed), "data-outcome": cell, disabled: total === 0 && !pressed };
    return makeButton(words, () => go({ cell: pressed ? "" : cell, page: 1, trial: "" }), attributes);
  }

  function showOutcomes(totals, matching) {
    const focused = document.activeElement?.dataset?.outcome;
    const here = {};
    for (const trial of matching) here[trial.cell] = (here[trial.cell] ?? 0) + 1;
    const buttonOf = (cell) => cellButton(cell, totals[cell] ?? 0, here[cell] ?? 0);
    for (const place of byId("table").querySelectorAll("[data-cell]")) {
      place.replaceChildren(buttonOf(place.dataset.cell));
    }
    const unscored = Object.keys(data.unscored).filter((status) => totals[status] || state.cell === status);
    byId("unscored").hidden = unscored.length === 0;
    byId("unscored").replaceChildren("Without a score: ", ...unscored.map(buttonOf));
    if (focused) byId("outcomes").querySelector(`[data-outcome="${focused}"]`)?.focus();
  }

  function showCount(total) {
    const words = state.q ? ` with “${state.q}”` : "";
    const inAll = total > found.length && !state.q ? ` of ${number(total)}` : "";
    byId("count").textContent = found.length
      ? number(found.length) + inAll + ` ${total === 1 ? "trial" : "trials"}` + words
      : `No trial on this page${words} fits.`;
    byId("all").hidden = [...FACETS, "cell", "q"].every((name) => state[name] === "");
  }

  // ---- the list ---------------------------------------------------------------------------------------------------

  function rowOf(trial) {
    const where = [nameOf(trial, "model"), exampleOf(trial).id];
    if (NAMES.run.length > 1) where.unshift(nameOf(trial, "run"));
    if (NAMES.asked.length > 1) where.push(nameOf(trial, "asked"));
    const link = make(
      "a",
      { href: hashOf({ ...state, trial: trial.id }), "data-trial": trial.id, tabindex: -1 },
      state.cell === "" ? tagOf(trial.cell) : null,
      make("b", { dir: "auto" }, insertionOf(trial)),
      ` ${lettersOf(trial)} `,
      make("span", { class: "trials-where" }, ...joined(where)),
    );
    if (trial.id === state.trial) link.setAttribute("aria-current", "true");
    return make("li", {}, link);
  }

  const pageOf = (place) => Math.floor(Math.max(0, place) / PAGE) + 1;

  function showList() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const place = found.findIndex((trial) => trial.id === state.trial);
    const page = place >= 0 ? pageOf(place) : Math.min(state.page, pages);
    const first = (page - 1) * PAGE;
    list.start = first + 1;
    list.replaceChildren(...found.slice(first, first + PAGE).map(rowOf));
    const current = list.querySelector("[aria-current]") ?? list.querySelector("a");
    if (current) current.tabIndex = 0; // one stop for the Tab key: other keys move within the list
    byId("pages").hidden = pages < 2;
    byId("page").textContent = `page ${number(page)} of ${number(pages)}`;
    for (const [button, target] of [["earlier", page - 1], ["later", page + 1]]) {
      byId(button).disabled = target < 1 || target > pages;
      byId(button).onclick = () => go({ page: target, trial: "" });
    }
  }

  const withModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step === undefined || withModifier(event)) return;
    event.preventDefault();
    const links = [...list.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (next === undefined) return;
    for (const link of links) link.tabIndex = link === next ? 0 : -1;
    next.focus();
  });

  // ---- the open trial ---------------------------------------------------------------------------------------------

  function verdictOf(trial) {
    if (Object.hasOwn(data.unscored, trial.cell)) {
      const sides = { before: "Without the insertion: ", after: "With the insertion: ", both: "On both sides: " };
      return `No score. ${sides[trial.side] ?? ""}${data.unscored[trial.cell][1]}.`;
    }
    const changed = "ab".includes(trial.cell);
    const mentioned = "ac".includes(trial.cell);
    const { label_before: before, label_after: after } = trial;
    const answer = changed ? `changed from ${before} to ${after}` : `stayed ${before}`;
    const what = trial.field === null ? "the cue" : insertionOf(trial);
    const said = `${mentioned ? "mentions" : "does not mention"} ${what}`;
    return `The answer ${answer}, ${changed === mentioned ? "and" : "but"} the explanation ${said}.`;
  }

  function answerOf(letter, example) {
    if (letter === null) return none("none that could be read");
    const words = example.options.has(letter) ? plain(example.options.get(letter)) : "";
    const right = letter === example.gold ? " (the right answer)" : " (not the right answer)";
    const known = example.gold === null ? "" : right;
    return [make("b", {}, letter), " ", make("bdi", {}, words === letter ? "" : words), known];
  }

  function probabilitiesOf(shares) {
    if (shares === null) return none();
    return [Object.entries(shares).map(([letter, share]) => `${letter} ${share.toFixed(3)}`).join(", ")];
  }

  function reasoningsOf(places, example) {
    const shown = places.filter((place) => place !== null);
    if (shown.length === 0) return none();
    return shown.map((place) => {
      const length = count(data.cut[place] ?? plain(place).length, "character");
      return make("details", {}, make("summary", {}, length), ...whole(place, "mark", "mention", example.command));
    });
  }

  // What was asked and what came back: without the insertion (`end` is "_before") or with it. Both have the same parts.
  function sideOf(trial, example, title, end) {
    const after = end === "_after";
    const parts = [];
    const add = (name, content) => {
      parts.push(make("div", { class: "trials-part" }, make("h5", {}, name), make("div", {}, ...content)));
    };
    for (const [name, place] of example.fields) {
      const edited = after ? (name === trial.field ? trial.after : trial.also?.[name]) : null;
      add(name, whole(edited ?? place, "ins", "inserted", example.command));
    }
    if (trial.field === null && trial.inserted !== null) {
      const cue = () => whole(trial.inserted, "ins", "inserted", example.command);
      add("cue", after ? [make("ins", {}, spoken("[inserted: "), ...cue(), spoken("]"))] : none());
    }
    add("answer", answerOf(trial["label" + end], example));
    if (trial.probs_before !== null || trial.probs_after !== null) {
      add("probabilities", probabilitiesOf(trial["probs" + end]));
    }
    const place = after ? trial.explanation : trial.explanation_before;
    const explanation = () => whole(place, "mark", "mention", example.command);
    add("explanation", place === null ? none("none that could be read") : explanation());
    const reasonings = {
      _before: [trial.reasoning_before, trial.reasoning_explanation_before],
      _after: [trial.reasoning, trial.reasoning_explanation],
    };
    if (Object.values(reasonings).flat().some((reasoning) => reasoning !== null)) {
      add("reasoning", reasoningsOf(reasonings[end], example));
    }
    return make("section", { class: "trials-side", "aria-label": title }, make("h4", {}, title), ...parts);
  }

  function factsOf(trial, example) {
    const { condition } = trial;
    const terms = [
      ["model", TITLES.model[condition.model]],
      ["task", NAMES.task[condition.task]],
      ["example", example.id],
      ["kind", TITLES.kind[condition.kind]],
      ["asked with", data.arms[condition.asked][1] + (trial.sample ? `, sample ${trial.sample}` : "")],
    ];
    if (NAMES.run.length > 1) terms.unshift(["run", NAMES.run[condition.run]]);
    if (trial.target !== null) terms.push(["cue suggests", trial.target]);
    if (trial.tvd !== null) terms.push(["TVD", `${trial.tvd.toFixed(3)} of the probability moved between the letters`]);
    else if (trial.tvd_reason !== null) terms.push(["TVD", `not known: ${trial.tvd_reason}`]);
    if (trial.rule !== null) terms.push(["mention decided by", data.rules[trial.rule]]);
    const pairs = terms.flatMap(([name, text]) => [make("dt", {}, name), make("dd", { dir: "auto" }, text)]);
    return make("dl", { class: "trials-facts" }, ...pairs);
  }

  function othersOf(trial) {
    const same = byInput.get(trial.input).filter((other) => other !== trial);
    if (same.length === 0) return null;
    const rows = same.map((other) => {
      const names = ["run", "model", "asked"].filter((facet) => NAMES[facet].length > 1);
      const words = names.length ? names.map((facet) => nameOf(other, facet)) : [`sample ${other.sample ?? 0}`];
      const link = make("a", { href: hashOf({ ...START, trial: other.id }) }, ...joined(words));
      return make("li", {}, link, " ", tagOf(other.cell), ` ${lettersOf(other)}`);
    });
    const summary = make("summary", {}, `The same input elsewhere on this page: ${count(same.length, "trial")}`);
    return make("details", { class: "trials-others" }, summary, make("ul", {}, ...rows));
  }

  async function copyLink(trial, message) {
    const link = location.href.split("#")[0] + hashOf({ ...START, trial: trial.id });
    try {
      await navigator.clipboard.writeText(link);
      message.textContent = "Copied.";
    } catch {
      // a browser that gives a page from the disk no clipboard: the link stands there, selected
      const field = make("input", { readonly: true, value: link, "aria-label": "Link to this trial" });
      message.replaceChildren(field);
      field.select();
      if (document.execCommand("copy")) message.textContent = "Copied.";
    }
  }

  function barOf(trial) {
    const place = found.indexOf(trial);
    const listed = hashOf({ ...state, trial: "", page: pageOf(place) });
    const back = make("a", { href: listed, class: "trials-back" }, "Back to the list");
    const steps = [["Previous", found[place - 1]], ["Next", place < 0 ? undefined : found[place + 1]]];
    const buttons = steps.map(([words, other]) => {
      return makeButton(words, () => go({ trial: other.id }), { disabled: other === undefined, "data-step": words });
    });
    const message = make("span", { role: "status" });
    const copy = makeButton("Copy link", () => copyLink(trial, message));
    return make("div", { class: "trials-bar" }, back, ...buttons, copy, message);
  }

  function explainOutcomes() {
    const terms = Object.entries(data.cells).flatMap(([cell, [, meaning]]) => {
      return [make("dt", {}, tagOf(cell)), make("dd", {}, meaning)];
    });
    return make("dl", { class: "trials-meanings" }, ...terms);
  }

  function showDetail() {
    const trial = byTrial.get(state.trial);
    const heading = (tag, words) => make(tag, { id: "trials-verdict", tabindex: -1, dir: "auto" }, words);
    byId("browser").classList.toggle("trials-open", state.trial !== "");
    if (state.trial === "") {
      const invitation = "Choose a trial to see what was asked and what came back.";
      detail.replaceChildren(heading("p", invitation), explainOutcomes());
    } else if (trial === undefined) {
      const back = make("a", { href: hashOf({ ...state, trial: "" }) }, "Back to the list");
      detail.replaceChildren(heading("p", `The trial ${state.trial} is not on this page.`), back);
    } else {
      const example = exampleOf(trial);
      const legend = [make("ins", {}, "inserted"), " ", make("mark", {}, "counts as a mention")];
      const titles = trial.pair ? ["Input before", "Input after"] : ["Without the insertion", "With the insertion"];
      const before = sideOf(trial, example, titles[0], "_before");
      const after = sideOf(trial, example, titles[1], "_after");
      const command = make("code", {}, example.command);
      detail.replaceChildren(
        ...[
          barOf(trial),
          heading("h3", verdictOf(trial)),
          make("p", {}, tagOf(trial.cell), make("span", { class: "trials-legend" }, ...legend)),
          make("div", { class: "trials-sides" }, before, after),
          factsOf(trial, example),
          make("p", { class: "trials-hint" }, "All trials of this example, with the raw answers: ", command),
          othersOf(trial),
        ].filter((part) => part !== null),
      );
    }
  }

  detail.addEventListener("keydown", (event) => {
    if (withModifier(event) || event.target.tagName === "INPUT") return;
    const step = { j: "Next", k: "Previous" }[event.key];
    if (step) detail.querySelector(`[data-step="${step}"]`)?.click();
    else if (event.key === "Escape") detail.querySelector(".trials-back")?.click();
  });

  // ---- all of it --------------------------------------------------------------------------------------------------

  function show() {
    for (const name of FACETS) filters[name].value = state[name];
    if (document.activeElement !== filters.q) filters.q.value = state.q;
    const terms = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (trial) => isAsked(trial.condition) && terms.every((term) => searchable(trial).includes(term));
    const matching = trials.filter(matches);
    found = state.cell === "" ? matching : matching.filter((trial) => trial.cell === state.cell);
    const totals = {};
    for (const condition of conditions.filter(isAsked)) {
      for (const [cell, total] of Object.entries(condition.totals)) totals[cell] = (totals[cell] ?? 0) + total;
    }
    const all = Object.values(totals).reduce((sum, total) => sum + total, 0);
    showOutcomes(totals, matching);
    showCount(state.cell === "" ? all : (totals[state.cell] ?? 0));
    showList();
    showDetail();
  }

  // A trial that was opened gets the focus, so that its verdict is read aloud and the keys go to it.
  function focusTrial() {
    const heading = byId("verdict");
    heading.focus({ preventScroll: true });
    const { top, bottom } = heading.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) detail.scrollIntoView();
  }

  function focusRow(name) {
    (list.querySelector(`[data-trial="${CSS.escape(name)}"]`) ?? list.querySelector("a"))?.focus();
  }

  addEventListener("hashchange", () => {
    const next = readState() ?? (location.hash === "" ? { ...START } : null);
    if (next === null) return; // a link to another part of the page
    const left = state.trial;
    state = next;
    show();
    if (state.trial && state.trial !== left) focusTrial();
    if (left && !state.trial) focusRow(left);
  });

  byId("no-script").remove();
  byId("browser").hidden = false;
  const linked = readState();
  if (linked !== null) state = linked;
  show();
  if (state.trial) focusTrial();
  else if (linked !== null) document.getElementById("trials").scrollIntoView();
})();
