"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("answers").textContent);

  // ---- light and dark: the system's choice, until the button or the address (#light, #dark) says otherwise
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const asked = location.hash.slice(1);
  if (asked === "light" || asked === "dark") root.dataset.theme = asked;

  const ink = () => getComputedStyle(document.body).color;
  const plots = [...document.querySelectorAll(".plot")];
  const repaint = () => plots.forEach((plot) => Plotly.relayout(plot, { "font.color": ink() }));
  element("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  system.addEventListener("change", repaint);

  for (const plot of plots) {
    const figure = JSON.parse(element(`figure-${plot.dataset.figure}`).textContent);
    figure.layout.font.color = ink();
    Plotly.newPlot(plot, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      modeBarButtons: [["toImage"]],
      toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
    });
  }

  // ---- browser of answers
  const words = {
    correct: "✓ correct",
    incorrect: "✗ incorrect",
    truncated: "… truncated",
    no_answer: "∅ no answer",
  };
  const [OUTCOME, PREDICTION, TOKENS, COMPLETION] = [0, 1, 2, 3];
  const shown = new Set(data.models.flatMap((model, index) => (model.is_arm ? [index] : [])));
  let matches = [];
  let position = 0;

  const make = (tag, text, ...classes) => {
    const node = document.createElement(tag);
    node.textContent = text;
    node.classList.add(...classes);
    return node;
  };
  const choose = (id, labels, selected) => {
    labels.forEach((label, index) => element(id).add(new Option(label, index, false, index === selected)));
  };

  const benchmark = () => data.benchmarks[element("bench").value];
  const outcome = (problem, model) => problem.answers[model]?.[OUTCOME];

  function passes(problem, filter, first, second, text) {
    if (filter === "pair") {
      if (outcome(problem, first) !== "correct" || [undefined, "correct"].includes(outcome(problem, second))) return false;
    } else if (filter !== "all" && outcome(problem, first) !== filter) {
      return false;
    }
    if (!text) return true;
    const texts = [problem.id, problem.problem, problem.gold, ...problem.answers.map((answer) => answer?.[COMPLETION])];
    return texts.some((part) => part?.toLowerCase().includes(text));
  }

  function select() {
    const filter = element("filter").value;
    const [first, second] = [Number(element("first").value), Number(element("second").value)];
    element("first").disabled = filter === "all";
    element("second").disabled = filter !== "pair";
    const text = element("search").value.trim().toLowerCase();
    matches = benchmark().problems.filter((problem) => passes(problem, filter, first, second, text));
    position = 0;
    const { problems, total } = benchmark();
    element("capped").textContent =
      problems.length < total ? `showing ${problems.length} of ${total} problems of ${benchmark().name}` : "";
    show();
  }

  function card(model, answer) {
    const [verdict, prediction, tokens, completion] = answer ?? [];
    const node = make("section", "", "card", ...(answer ? [verdict] : []));
    const head = make("header", "");
    const title = make("h3", "");
    const swatch = make("i", "", "swatch");
    swatch.style.background = model.colour;
    title.append(swatch, model.label);
    head.append(title);
    if (!answer) {
      head.append(make("p", "not asked: the problem is longer than its context"));
      node.append(head);
      return node;
    }
    const line = make("p", "");
    const found = prediction === null ? words[verdict] : `${words[verdict]}: ${prediction}`;
    line.append(make("span", found, "verdict"), ` · ${tokens} token${tokens === 1 ? "" : "s"}`);
    head.append(line);
    const body = make("pre", completion ?? "the completion is no longer stored");
    body.tabIndex = 0;
    node.append(head, body);
    return node;
  }

  function show() {
    const problem = matches[position];
    element("position").textContent = problem ? `${position + 1} of ${matches.length}` : "no match";
    element("previous").disabled = position <= 0;
    element("next").disabled = position >= matches.length - 1;
    element("problem").replaceChildren();
    element("cards").replaceChildren();
    if (!problem) {
      element("problem").append(make("p", "No problem fits this choice."));
      return;
    }
    const gold = make("span", "gold answer ", "note");
    gold.append(make("b", problem.gold), ` · ${problem.id}`);
    element("problem").append(make("p", problem.problem ?? "(the text of the problem could not be read when this page was made)"), gold);
    data.models.forEach((model, index) => {
      if (shown.has(index)) element("cards").append(card(model, problem.answers[index]));
    });
  }

  function step(by) {
    const target = position + by;
    if (target < 0 || target >= matches.length) return;
    position = target;
    show();
  }

  const labels = data.models.map((model) => model.label);
  choose("bench", data.benchmarks.map((bench) => bench.name), 0);
  choose("first", labels, Math.max(labels.indexOf("micota"), 0));
  choose("second", labels, Math.max(labels.indexOf("instruct"), 0));
  data.models.forEach((model, index) => {
    const label = make("label", "");
    const box = make("input", "");
    box.type = "checkbox";
    box.checked = shown.has(index);
    box.addEventListener("change", () => {
      if (box.checked) shown.add(index);
      else shown.delete(index);
      show();
    });
    const swatch = make("i", "", "swatch");
    swatch.style.background = model.colour;
    label.append(box, swatch, model.label);
    element("shown").append(label);
  });
  for (const id of ["bench", "filter", "first", "second"]) element(id).addEventListener("change", select);
  element("search").addEventListener("input", select);
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=search], select") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  select();
})();
