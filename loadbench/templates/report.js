"use strict";
const charts = [...document.querySelectorAll(".chart")];
const options = { responsive: true, displaylogo: false, showSendToCloud: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
for (const chart of charts) {
  const figure = JSON.parse(chart.querySelector("script").textContent);
  const plot = chart.querySelector(".plot");
  Plotly.newPlot(plot, figure.data, { ...figure.layout, autosize: true }, options);
}
// A printed page is narrower than the window, and Plotly draws for a width in pixels.
const PAGE_PX = 860; // times the zoom of .plot in print: the width between the margins of A4
const resize = (width) => charts.forEach((chart) =>
  Plotly.relayout(chart.querySelector(".plot"), width ? { width, autosize: false } : { width: null, autosize: true }));
window.addEventListener("beforeprint", () => resize(PAGE_PX));
window.addEventListener("afterprint", () => resize(null));
const button = document.querySelector(".tools button");
button.addEventListener("click", () => {
  const shown = document.body.classList.toggle("shows-code");
  button.textContent = shown ? "Hide code" : "Show code";
  button.setAttribute("aria-pressed", String(shown));
});
