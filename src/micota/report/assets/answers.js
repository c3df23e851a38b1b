"use strict";
// The browser of answers: a problem and the completions of all models, side by side.

const WORDS = {
  correct: "✓ correct",
  incorrect: "✗ incorrect",
  truncated: "… truncated",
  no_answer: "∅ no answer",
  ungradable: "? ungradable",
  ambiguous: "⇄ ambiguous",
};
const [OUTCOME, PREDICTION, TOKENS, COMPLETION] = [0, 1, 2, 3];

const answers = {
  cases: [],
  reflection: /(?!)/, // the reflection words, which are marked in completions
  data: null,
  shown: new Set(),
  matches: [],
  position: 0,

  start(cases, reflection) {
    answers.cases = cases;
    const words = reflection.map((word) => word.replaceAll(" ", "\\s+")).sort((a, b) => b.length - a.length);
    answers.reflection = new RegExp(`(?<!\\w)(${words.join("|")})(?!\\w)`, "gi");
    for (const id of ["bench", "filter", "first", "second"]) element(id).addEventListener("change", answers.select);
    element("search").addEventListener("input", answers.select);
    element("controls").addEventListener("submit", (event) => event.preventDefault());
    element("previous").addEventListener("click", () => answers.step(-1));
    element("next").addEventListener("click", () => answers.step(1));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, select, pre, dialog, .scroll, .plot");
      if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowLeft") answers.step(-1);
      if (event.key === "ArrowRight") answers.step(1);
    });
  },

  showCase(caseIndex) {
    const data = (answers.data = answers.cases[caseIndex]);
    const labels = data.models.map((model) => model.label);
    element("seed").textContent = data.seed;
    choose("bench", data.benchmarks.map((bench) => bench.name), 0);
    choose("first", labels, Math.max(labels.indexOf("micota"), 0));
    choose("second", labels, Math.max(labels.indexOf("instruct"), 0));
    answers.shown = new Set(data.models.flatMap((model, index) => (model.is_recipe ? [index] : [])));
    const legend = element("shown").firstElementChild;
    element("shown").replaceChildren(legend, ...data.models.map(modelBox));
    answers.select();
  },

  benchmark: () => answers.data.benchmarks[element("bench").value],

  select() {
    const filter = element("filter").value;
    const [first, second] = [Number(element("first").value), Number(element("second").value)];
    const isPair = filter === "pair" || filter === "differ";
    element("first").disabled = filter === "all";
    element("second").disabled = !isPair;
    const text = element("search").value.trim().toLowerCase();
    const { problems, total, name } = answers.benchmark() ?? { problems: [], total: 0 };
    answers.matches = problems.filter((problem) => passes(problem, filter, first, second, text));
    answers.position = 0;
    const isCapped = problems.length < total;
    element("capped").textContent = isCapped ? `${problems.length} of the ${total} problems of ${name} are here` : "";
    answers.show();
  },

  show() {
    const problem = answers.matches[answers.position];
    const count = answers.matches.length;
    element("position").textContent = problem ? `${answers.position + 1} of ${count}` : "no match";
    element("previous").disabled = answers.position <= 0;
    element("next").disabled = answers.position >= count - 1;
    element("cards").replaceChildren();
    if (!problem) {
      element("problem").replaceChildren(make("p", "No problem matches."));
      return;
    }
    const gold = make("span", "gold answer ", "note");
    gold.append(make("b", problem.gold), ` · ${problem.id}`);
    const text = problem.problem ?? "(the text of the problem could not be read when this page was made)";
    element("problem").replaceChildren(make("p", text), gold);
    answers.data.models.forEach((model, index) => {
      if (answers.shown.has(index)) element("cards").append(card(model, problem.answers[index]));
    });
  },

  step(by) {
    const target = answers.position + by;
    if (target < 0 || target >= answers.matches.length) return;
    answers.position = target;
    answers.show();
  },
};

function choose(id, labels, selected) {
  const options = labels.map((label, index) => new Option(label, index, false, index === selected));
  element(id).replaceChildren(...options);
}

function passes(problem, filter, first, second, text) {
  const [a, b] = [problem.answers[first]?.[OUTCOME], problem.answers[second]?.[OUTCOME]];
  if (filter === "pair" && (a !== "correct" || b === undefined || b === "correct")) return false;
  if (filter === "differ" && (a === undefined || b === undefined || a === b)) return false;
  if (filter in WORDS && a !== filter) return false;
  if (filter === "not_prompted" && a !== undefined && a !== filter) return false;
  if (!text) return true;
  const texts = [problem.id, problem.problem, problem.gold, ...problem.answers.map((answer) => answer?.[COMPLETION])];
  return texts.some((part) => part?.toLowerCase().includes(text));
}

function modelBox(model, index) {
  const label = make("label");
  const box = make("input");
  box.type = "checkbox";
  box.checked = answers.shown.has(index);
  box.addEventListener("change", () => {
    if (box.checked) answers.shown.add(index);
    else answers.shown.delete(index);
    answers.show();
  });
  label.append(box, swatch(model.colour), model.label);
  return label;
}

function card(model, answer) {
  const [verdict, prediction, tokens, completion] = answer ?? ["not_prompted"];
  const node = make("section", "", "card", verdict);
  const head = make("header");
  const title = make("h3");
  title.append(swatch(model.colour), model.label);
  head.append(title);
  node.append(head);
  if (!(verdict in WORDS)) {
    head.append(make("p", "not prompted: the problem is longer than the context of the model"));
    return node;
  }
  const outcome = prediction === null ? WORDS[verdict] : `${WORDS[verdict]}: ${prediction}`;
  const line = make("p");
  line.append(make("span", outcome, "verdict"), ` · ${tokens} token${tokens === 1 ? "" : "s"}`);
  const body = make("pre");
  body.tabIndex = 0;
  body.setAttribute("aria-label", `answer of ${model.label}`);
  const count = marked(body, completion ?? "the completion is no longer stored");
  if (count) line.append(` · ${count} reflection word${count === 1 ? "" : "s"}`);
  head.append(line);
  node.append(body);
  return node;
}

/** Write `text` into `node` with reflection words marked; returns their number. */
function marked(node, text) {
  const parts = text.split(answers.reflection);
  // split() with one group returns the text between the words at even indices and the words at odd indices.
  parts.forEach((part, index) => node.append(index % 2 ? make("mark", part) : part));
  return (parts.length - 1) / 2;
}
