"use strict";
// The charts: crosshair and tooltip for pointer and keyboard, and a legend that hides series.
(() => {
  const data = JSON.parse(document.getElementById("curve-data").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const labels = { clean: "training", val: "validation", train: "while learning" };
  const format = (number) => number.toFixed(4);
  let shown = null; // index of the epoch under the crosshair

  // Name, label and number of each line of the tooltip. The gap is positive where training is better than validation.
  function rows(name, index) {
    const values = data.charts[name].values;
    const gap = (values.clean[index] - values.val[index]) * (name === "loss" ? -1 : 1);
    const numbers = Object.keys(labels).map((series) => [series, labels[series], format(values[series][index])]);
    return [...numbers, ["gap", "gap", format(gap)]];
  }

  // Puts the tooltip beside the crosshair and inside the chart; at the bottom where the curves are high.
  function placeTooltip(plot, tooltip, x, curve) {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const scale = width / data.width;
    const beside = x > 0.55 * data.width ? x * scale - tooltip.offsetWidth - 12 : x * scale + 12;
    tooltip.style.left = `${Math.max(0, Math.min(width - tooltip.offsetWidth, beside))}px`;
    tooltip.style.top = curve * scale < height / 2 ? `${height - tooltip.offsetHeight - 50 * scale}px` : "6px";
  }

  function fill(plot, index) {
    const chart = data.charts[plot.dataset.chart];
    const x = chart.x[index];
    const cross = plot.querySelector(".cross");
    const line = cross.querySelector("line");
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    for (const name of Object.keys(labels)) {
      const dot = cross.querySelector(`circle.${name}`);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", chart.y[name][index]);
    }
    cross.setAttribute("visibility", "visible");

    const best = index === data.best ? ", the best" : "";
    const tooltip = plot.querySelector(".tooltip");
    const title = document.createElement("b");
    title.textContent = `epoch ${data.epochs[index]}${best}`;
    const lines = rows(plot.dataset.chart, index).map(([name, label, value]) => {
      const row = document.createElement("div");
      row.className = name;
      const term = document.createElement("span");
      term.append(document.createElement("i"), label);
      const number = document.createElement("span");
      number.textContent = value;
      row.append(term, number);
      return row;
    });
    tooltip.replaceChildren(title, ...lines);
    tooltip.hidden = false;
    placeTooltip(plot, tooltip, x, chart.y.val[index]);
    plot.setAttribute("aria-valuenow", data.epochs[index]);
    const spoken = rows(plot.dataset.chart, index).map(([, label, value]) => `${label} ${value}`);
    plot.setAttribute("aria-valuetext", `epoch ${data.epochs[index]}${best}: ${spoken.join(", ")}`);
  }

  function show(index) {
    shown = Math.max(0, Math.min(data.epochs.length - 1, index));
    for (const plot of plots) fill(plot, shown);
  }

  function hide() {
    shown = null;
    for (const plot of plots) {
      plot.querySelector(".cross").setAttribute("visibility", "hidden");
      plot.querySelector(".tooltip").hidden = true;
    }
  }

  function nearest(plot, event) {
    const box = plot.querySelector("svg").getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * data.width;
    const distances = data.charts[plot.dataset.chart].x.map((position) => Math.abs(position - x));
    return distances.indexOf(Math.min(...distances));
  }

  const moves = {
    ArrowLeft: () => shown - 1, ArrowDown: () => shown - 1, ArrowRight: () => shown + 1, ArrowUp: () => shown + 1,
    Home: () => 0, End: () => data.epochs.length - 1,
  };

  for (const plot of plots) {
    plot.addEventListener("pointermove", (event) => show(nearest(plot, event)));
    plot.addEventListener("pointerdown", (event) => show(nearest(plot, event)));
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("focus", () => { if (shown === null) show(data.best); });
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      if (!(event.key in moves)) return;
      event.preventDefault();
      show(shown === null ? data.best : moves[event.key]());
    });
  }

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", pressed);
      document.getElementById("curves").classList.toggle(`without-${button.dataset.series}`, !pressed);
    });
  }
})();

// The mistakes: the first few, all, or those of two classes, which a click on their number in the confusion matrix chooses.
(() => {
  const few = 12;
  const mistakes = [...document.querySelectorAll(".mistakes li")];
  const bar = document.querySelector(".filter");
  if (!bar) return;
  const [status, showAll] = bar.children;
  const buttons = [...document.querySelectorAll(".confusion td.wrong")].map(asButton);

  function asButton(cell) {
    const column = [...cell.parentElement.children].indexOf(cell);
    const actual = cell.parentElement.firstElementChild.textContent;
    const predicted = cell.closest("table").querySelectorAll("thead th")[column].textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    button.title = `${actual} is taken for ${predicted}`;
    button.setAttribute("aria-label", `${cell.textContent}: ${button.title}`);
    button.addEventListener("click", () => show(button.getAttribute("aria-pressed") === "true" ? "few" : button));
    cell.replaceChildren(button);
    return button;
  }

  // Takes "few", "all", or the button of two classes.
  function show(what) {
    const chosen = typeof what === "string" ? null : what.parentElement.dataset;
    const fits = (item, index) => chosen
      ? item.dataset.true === chosen.true && item.dataset.predicted === chosen.predicted
      : what === "all" || index < few;
    for (const button of buttons) button.setAttribute("aria-pressed", button === what);
    mistakes.forEach((item, index) => { item.hidden = !fits(item, index); });
    const number = mistakes.filter((item) => !item.hidden).length;
    showAll.hidden = number === mistakes.length;
    const which = chosen ? `${what.textContent} in which ${what.title}` : `${mistakes.length} below`;
    status.textContent = showAll.hidden ? "" : `Shown: ${number} of ${which}.`;
  }

  document.getElementById("about-filter").hidden = false;
  showAll.addEventListener("click", () => {
    const pressed = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
    show("all");
    (pressed || bar).focus();
  });
  show("few");
})();
