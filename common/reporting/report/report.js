// Draws each chart when it comes near the screen, sorts tables, opens pictures for print.
(() => {
  "use strict";
  const specifications = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    const ink = dark.matches ? "#e6e6e6" : "#222", grid = dark.matches ? "#3a3f47" : "#ddd";
    return {
      background: "transparent",
      aria: false,
      font: "system-ui, sans-serif",
      axis: {labelColor: ink, titleColor: ink, gridColor: grid, domainColor: ink, tickColor: ink, labelFontSize: 11},
      axisY: {labelLimit: window.innerWidth < 640 ? 130 : 260},
      legend: {orient: "bottom", columns: window.innerWidth < 640 ? 1 : 2, symbolOpacity: 1, labelColor: ink, titleColor: ink, labelFontSize: 12},
      rule: {color: ink},
      view: {stroke: grid},
      range: {category: dark.matches ? ["#56b4e9", "#f0a35e", "#4fd0a5", "#e6a6cb"] : ["#0072b2", "#d55e00", "#007a57", "#a8417f"]},
    };
  };
  const draw = async (place) => {
    const options = {actions: false, renderer: "svg", config: look()};
    await window.vegaEmbed(place, specifications[place.dataset.chart], options);
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // the place itself says what the chart shows
  };
  const places = [...document.querySelectorAll("[data-chart]")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, {rootMargin: "300px"});
  places.forEach((place) => watcher.observe(place));
  dark.addEventListener("change", () => places.filter((place) => place.firstChild).forEach(draw));

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), body = head.closest("table").tBodies[0];
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      head.parentNode.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
      const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", {numeric: true}) : a - b;
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((a, b) => sign * compare(value(a), value(b))));
    });
  }

  const pictures = [...document.querySelectorAll("details.picture")];
  pictures.forEach((each) => each.removeAttribute("open"));
  window.addEventListener("beforeprint", () => pictures.forEach((each) => each.setAttribute("open", "")));
  window.addEventListener("afterprint", () => pictures.forEach((each) => each.removeAttribute("open")));
})();
