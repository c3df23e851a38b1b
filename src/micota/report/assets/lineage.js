"use strict";
// Lineage: from a number down to the source models.

const OBVIOUS = new Set(["", "completions", "model", "data"]); // roles that repeat the stage, so they are not shown

const lineage = {
  data: null,

  start(data) {
    lineage.data = data;
    const dialog = element("lineage");
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // a click on the backdrop
    });
  },

  /** Open the dialog for a number: `measure` is a benchmark, "average" or "BPC"; `about` is its title if it differs. */
  open(caseIndex, modelIndex, measure, shown, about = measure) {
    const model = lineage.data.models[caseIndex][modelIndex];
    const bySeed = model.measures[measure];
    if (!bySeed) return;
    element("lineage-title").textContent = `${model.label}, ${about}${shown ? `: ${shown}` : ""}`;
    const seeds = Object.keys(bySeed);
    const boxes = seeds.map((seed, index) => seedBox(seed, index === 0, () => lineage.show(bySeed[seed])));
    const fieldset = element("lineage-seeds");
    fieldset.hidden = seeds.length < 2;
    fieldset.replaceChildren(fieldset.firstElementChild, ...boxes);
    lineage.show(bySeed[seeds[0]]);
    const dialog = element("lineage");
    dialog.showModal();
    dialog.scrollTop = 0;
  },

  show(folders) {
    const seen = new Set();
    const tree = make("ul", "", "steps-tree");
    tree.append(...folders.map((folder) => stepItem("", folder, seen)));
    element("lineage-steps").replaceChildren(tree);
  },
};

function seedBox(seed, checked, chosen) {
  const label = make("label");
  const box = make("input");
  Object.assign(box, { type: "radio", name: "lineage-seed", checked });
  box.addEventListener("change", chosen);
  label.append(box, seed);
  return label;
}

/** Return the list item of a step with its inputs below; a step that was listed before is only named. */
function stepItem(role, folder, seen) {
  const step = lineage.data.steps[folder];
  const item = make("li");
  const summary = make("summary");
  summary.append(make("b", OBVIOUS.has(role) ? "" : `${role}: `, "role"), make("b", step.name), ` ${step.description}`);
  summary.prepend(make("span", step.label, "stage"));
  if (seen.has(folder)) {
    summary.append(make("span", " (as above)", "note"));
    const line = make("div", "", "repeated");
    line.append(...summary.childNodes);
    item.append(line);
    return item;
  }
  seen.add(folder);
  const details = make("details");
  details.append(summary, ...stepDetails(folder, step));
  item.append(details);
  const inputs = Object.entries(step.inputs);
  if (inputs.length) {
    const list = make("ul");
    list.append(...inputs.map(([label, child]) => stepItem(label, child, seen)));
    item.append(list);
  }
  return item;
}

function stepDetails(folder, step) {
  const parts = [];
  if (step.command) {
    const line = make("div", "", "command");
    const button = make("button", "copy");
    button.type = "button";
    button.addEventListener("click", () => copy(button, step.command));
    line.append(make("code", step.command), button);
    parts.push(line);
  }
  const made = step.manifest;
  const facts = { artifact: folder.startsWith("source/") ? null : folder };
  if (made) {
    Object.assign(facts, {
      made: `${made.finished_at.replace("T", " ").slice(0, 16)} UTC in ${made.seconds.toFixed(1)} s`,
      commit: made.commit,
      seed: made.seed,
      counts: plain(made.counts),
      metrics: plain(made.metrics),
      versions: plain(made.versions),
      hardware: plain(made.hardware),
    });
  } else if (!folder.startsWith("source/")) {
    facts.note = "no longer stored; description and settings are from the config";
  }
  const settings = Object.fromEntries(flat(step.settings).map(([key, value]) => [key, value]));
  parts.push(factList(facts), factList(settings, "settings"));
  return parts;
}

function factList(facts, title) {
  const list = make("dl");
  for (const [key, value] of Object.entries(facts)) {
    if (value !== null && value !== undefined && value !== "") list.append(make("dt", key), make("dd", String(value)));
  }
  if (!title) return list;
  const details = make("details", "", "settings");
  details.append(make("summary", `${title} (${list.children.length / 2})`), list);
  return details;
}

/** A dict in one line: `examples 1000, steps 63`. */
const plain = (facts) => flat(facts).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`).join(", ");

/** Nested settings as dotted keys and values; nulls are left out. */
function flat(value, path = "") {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.length ? [[path, value.map((item) => (typeof item === "object" ? JSON.stringify(item) : item)).join(", ")]] : [];
  if (typeof value !== "object") return [[path, typeof value === "number" ? Number(value.toPrecision(6)) : value]];
  return Object.entries(value).flatMap(([key, child]) => flat(child, path ? `${path}.${key}` : key));
}
