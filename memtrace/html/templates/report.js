"use strict";
// Draws each chart into its figure. The charting library works its expressions out by itself
// (`ast`), so that the page's policy can forbid all code that is not in it.
(async () => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const name = figure.dataset.chart;
    try {
      await vegaEmbed(figure.querySelector(".chart"), charts[name], {
        mode: name === "treemap" ? "vega" : "vega-lite",
        renderer: "svg",
        actions: false,
        ast: true,
        defaultStyle: false,
        tooltip: { disableDefaultStyle: true },
      });
    } catch (error) {
      console.error(name, error);
      figure.querySelector(".chart").textContent = "This chart could not be drawn; its table has the figures.";
      for (const details of figure.querySelectorAll("details")) details.open = true;
    }
  }
  performance.mark("interactive");
  root.dataset.interactive = Math.round(performance.now());
})();
