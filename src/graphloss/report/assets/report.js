"use strict";
// Draws the figures, follows the color scheme of the reader's system, sorts tables and the confusion matrix, and picks classes out of the maps.
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plots = [...document.querySelectorAll("[data-figure]")];
const theme = () => ({
  "font.color": css("--text"), "font.family": css("--font"), "font.size": 12,
  "hoverlabel.bgcolor": css("--card"), "hoverlabel.bordercolor": css("--line"),
  "hoverlabel.font.color": css("--text"), "hoverlabel.font.size": 12, "hoverlabel.align": "left",
});
const dress = plot => {
  if (plot.data.some(trace => trace.type === "heatmap")) Plotly.restyle(plot, { "textfont.color": css("--text") });
  return Plotly.relayout(plot, theme());
};
for (const plot of plots) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false }).then(() => dress(plot));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots) dress(plot);
});

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") !== "descending";
    const key = row => row.cells[head.cellIndex].dataset.value;
    const order = head.dataset.kind === "number"
      ? (a, b) => Number(key(a)) - Number(key(b)) : (a, b) => key(b).localeCompare(key(a));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * order(a, b)));
  });
}

for (const button of document.querySelectorAll("button[data-order]")) {
  button.addEventListener("click", () => {
    const order = JSON.parse(button.dataset.order), plot = button.closest("section").querySelector("[data-figure]");
    for (const other of button.parentNode.children) other.setAttribute("aria-pressed", other === button);
    Plotly.relayout(plot, { "xaxis.categoryarray": order, "yaxis.categoryarray": order });
  });
}

const chips = [...document.querySelectorAll(".chips button")];
const maps = plots.filter(plot => plot.dataset.classes);
for (const chip of chips) {
  chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    const picked = new Set(chips.filter(c => c.getAttribute("aria-pressed") === "true").map(c => Number(c.value)));
    for (const map of maps) {
      const opacity = JSON.parse(map.dataset.classes).map(c => !picked.size ? 0.85 : picked.has(c) ? 1 : 0.07);
      Plotly.restyle(map, { "marker.opacity": [opacity] });
    }
  });
}
