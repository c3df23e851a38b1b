const plots = document.querySelectorAll(".plotly-graph-div");
const ink = () => getComputedStyle(document.body).color;
const paint = () => plots.forEach((plot) => Plotly.relayout(plot, { "font.color": ink() }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
addEventListener("load", () => {
  plots.forEach((plot) => Plotly.Plots.resize(plot)); // the first plot was laid out before the second took its space
  paint();
});
