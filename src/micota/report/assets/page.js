"use strict";
// The page as a whole: unpack the data, choose a case, and dispatch clicks.

const cases = [...document.querySelectorAll(".case")];
const chooser = element("chooser");

function showCase(index) {
  cases.forEach((node, position) => (node.hidden = position !== index));
  for (const link of document.querySelectorAll("nav a[href*='-']")) {
    link.href = link.getAttribute("href").replace(/-\d+$/, `-${index}`);
    link.hidden = !document.querySelector(link.getAttribute("href"));
  }
  const labels = JSON.parse(cases[index].dataset.labels);
  for (const select of chooser?.querySelectorAll("select") ?? []) select.value = labels[select.dataset.axis];
  plots.drawCase(index, openPoint);
  answers.showCase(index);
  element("reader").hidden = answers.data.benchmarks.length === 0;
  document.querySelector("nav a[href='#browser']").hidden = element("reader").hidden;
}

/** Return the case of all chosen values; if there is none (axes need not be crossed), the first case of the changed value. */
function chosenCase(changed) {
  const wanted = [...chooser.querySelectorAll("select")].map((select) => [select.dataset.axis, select.value]);
  const fits = (node, labels) => labels.every(([axis, value]) => JSON.parse(node.dataset.labels)[axis] === value);
  const exact = cases.findIndex((node) => fits(node, wanted));
  return exact >= 0 ? exact : cases.findIndex((node) => fits(node, [[changed.dataset.axis, changed.value]]));
}

function openPoint(caseIndex, about) {
  const index = lineage.data.models[caseIndex].findIndex((model) => model.label === about.model);
  if (index >= 0) lineage.open(caseIndex, index, about.measure, about.shown, about.about);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { measure, about, copy: text, show } = button.dataset;
  if (measure) lineage.open(Number(button.dataset.case), Number(button.dataset.model), measure, button.textContent, about);
  if (text !== undefined) copy(button, text);
  if (show !== undefined) {
    showCase(Number(show));
    cases[Number(show)].scrollIntoView();
  }
});

async function start() {
  const script = make("script", await unpack("plotly"));
  document.head.append(script);
  const payload = JSON.parse(await unpack("payload"));
  plots.figures = payload.figures;
  plots.followTheme();
  plots.followPrinter();
  lineage.start(payload.lineage);
  answers.start(payload.answers, payload.reflection);
  chooser?.addEventListener("change", (event) => showCase(chosenCase(event.target)));
  chooser?.addEventListener("submit", (event) => event.preventDefault());
  plots.draw(document.querySelectorAll(".plot.overview"), payload.overview, (about) => openPoint(about.case, about));
  document.querySelectorAll("table:has(.value)").forEach(roam);
  showCase(0);
  document.documentElement.dataset.ready = "";
}

start();
