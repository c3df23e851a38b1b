"use strict";
// Figures: drawn when their case is first shown, in the ink of the page, wide enough for paper when printed.

const PAPER_WIDTH = 660; // pixels of the text of an A4 page

const plots = {
  figures: [],
  drawn: new Set(),

  ink: () => getComputedStyle(document.body).color,

  /** Draw the figures of a case; `clicked` gets the case, and what a point says of itself (model and measure). */
  drawCase(caseIndex, clicked) {
    const places = document.querySelectorAll(`.case[data-case="${caseIndex}"] .plot`);
    plots.draw(places, plots.figures[caseIndex], (about) => clicked(caseIndex, about));
  },

  draw(places, figures, clicked) {
    for (const place of places) {
      if (plots.drawn.has(place)) continue;
      plots.drawn.add(place);
      const figure = figures[place.dataset.figure];
      figure.layout.font.color = plots.ink();
      Plotly.newPlot(place, figure.data, figure.layout, {
        responsive: true,
        displaylogo: false,
        modeBarButtons: [["toImage"]],
        toImageButtonOptions: { format: "svg", filename: place.dataset.figure },
      });
      place.on("plotly_click", (event) => {
        const about = event.points[0]?.customdata;
        if (about?.model !== undefined) clicked(about);
      });
    }
  },

  relayout: (change) => plots.drawn.forEach((place) => Plotly.relayout(place, change)),

  /** Light ink on dark paper and the other way round: the system's choice, until the button says otherwise. */
  followTheme() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const repaint = () => plots.relayout({ "font.color": plots.ink() });
    const asked = location.hash.slice(1);
    if (asked === "light" || asked === "dark") root.dataset.theme = asked;
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
