"use strict";
// Figures: each is plotted when its case is first shown, with the text colour of the page; for print it gets a fixed width.

const PAPER_WIDTH = 660; // pixels, the width of the text on an A4 page

const plots = {
  figures: [],
  plotted: new Set(),

  ink: () => getComputedStyle(document.body).color,

  /** Draw the figures of a case; `clicked` gets the case and the data of the point (model and measure). */
  drawCase(caseIndex, clicked) {
    const elements = document.querySelectorAll(`.case[data-case="${caseIndex}"] .plot`);
    plots.draw(elements, plots.figures[caseIndex], (about) => clicked(caseIndex, about));
  },

  draw(elements, figures, clicked) {
    for (const target of elements) {
      if (plots.plotted.has(target)) continue;
      plots.plotted.add(target);
      const figure = figures[target.dataset.figure];
      figure.layout.font.color = plots.ink();
      Plotly.newPlot(target, figure.data, figure.layout, {
        responsive: true,
        displaylogo: false,
        modeBarButtons: [["toImage"]],
        toImageButtonOptions: { format: "svg", filename: target.dataset.figure },
      });
      target.on("plotly_click", (event) => {
        const about = event.points[0]?.customdata;
        if (about?.model !== undefined) clicked(about);
      });
    }
  },

  relayout: (change) => plots.plotted.forEach((target) => Plotly.relayout(target, change)),

  /** Follow the light or dark scheme of the system until the user clicks the button. */
  followTheme() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const repaint = () => plots.relayout({ "font.color": plots.ink() });
    const chosen = location.hash.slice(1);
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
    element("theme").addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
      root.dataset.theme = isDark ? "light" : "dark";
      repaint();
    });
    system.addEventListener("change", repaint);
  },

  followPrinter() {
    addEventListener("beforeprint", () => plots.relayout({ width: PAPER_WIDTH, "font.color": "#111" }));
    addEventListener("afterprint", () => plots.relayout({ width: null, autosize: true, "font.color": plots.ink() }));
  },
};
