(function () {
  "use strict";
  // Values: of a figure's points by their titles, of a training's curves by their scale; by pointer and by arrow keys.
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg");
    const points = Array.from(figure.querySelectorAll(".point"));
    if (!svg || (!points.length && !svg.dataset.scale)) continue;
    const said = document.createElement("p");
    said.className = "small hover";
    said.setAttribute("aria-live", "polite");
    figure.append(said);
    figure.tabIndex = 0;
    figure.setAttribute("role", "group");
    figure.setAttribute("aria-label", "Figure: arrow keys go from value to value");
    let at = -1;
    const found = svg.dataset.scale ? values(svg) : () => points.map((point) => ({ point, text: point.textContent }));
    function show(items, index) {
      for (const point of points) point.classList.remove("at");
      at = index;
      const item = items[index];
      if (!item) return;
      if (item.point) item.point.classList.add("at");
      said.textContent = item.text;
    }
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const items = found();
      if (items.length) show(items, (at + step + items.length) % items.length);
    });
    svg.addEventListener("pointermove", (event) => {
      const items = found();
      let best = -1, least = 40;
      items.forEach((item, index) => {
        const [x, y] = place(svg, item);
        const far = Math.hypot(x - event.clientX, y - event.clientY);
        if (far < least) { least = far; best = index; }
      });
      if (best >= 0) show(items, best);
    });
  }

  function place(svg, item) {
    if (item.point) {
      const box = item.point.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }
    const point = new DOMPoint(item.x, item.y).matrixTransform(svg.getScreenCTM());
    return [point.x, point.y];
  }

  function values(svg) {
    const [x0, x1, y0, y1, a0, a1, b0, b1] = svg.dataset.scale.split(",").map(Number);
    const mean = (p, p0, p1, v0, v1) => (p1 === p0 ? v0 : v0 + ((p - p0) / (p1 - p0)) * (v1 - v0));
    return function () {
      const items = [];
      for (const line of svg.querySelectorAll("polyline:not([hidden]):not(.off)")) {
        for (const pair of line.getAttribute("points").split(" ")) {
          const [x, y] = pair.split(",").map(Number);
          const step = Math.round(mean(x, x0, x1, a0, a1)), value = mean(y, y0, y1, b0, b1).toPrecision(4);
          items.push({ x, y, text: line.textContent + ": step " + step + ", " + svg.dataset.name + " " + value });
        }
      }
      return items;
    };
  }

  for (const button of document.querySelectorAll("button.series")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(on));
      for (const line of document.querySelectorAll("polyline[data-series]")) {
        if (line.dataset.series === button.dataset.series) line.classList.toggle("off", !on);
      }
    });
  }

  // Trials side by side.
  const source = document.getElementById("compare-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const trials = new Map(data.trials.map((trial) => [trial.id, trial]));
  const out = document.getElementById("compare");
  const picked = [];
  const rows = new Map();
  for (const row of document.querySelectorAll("#trials-table tbody tr")) {
    const box = row.querySelector("input.pick");
    if (!box) continue;
    if (!trials.has(row.dataset.trial)) { box.remove(); continue; }
    rows.set(row.dataset.trial, box);
    box.addEventListener("change", () => {
      const place = picked.indexOf(row.dataset.trial);
      if (box.checked && place < 0) picked.push(row.dataset.trial);
      if (!box.checked && place >= 0) picked.splice(place, 1);
      remember();
      draw();
    });
  }

  function remember() {
    try { sessionStorage.setItem("picked", JSON.stringify(picked)); } catch { /* a page from a file may not keep any */ }
  }
  try {
    for (const id of JSON.parse(sessionStorage.getItem("picked") || "[]")) {
      if (rows.has(id)) { rows.get(id).checked = true; picked.push(id); }
    }
  } catch { /* nothing was kept */ }

  function element(tag, text, parent) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function table(name, header, lines) {
    element("h3", name, out);
    const scroll = element("div", undefined, out);
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", name);
    const made = element("table", undefined, scroll);
    const head = element("tr", undefined, element("thead", undefined, made));
    for (const text of header) element("th", text, head).scope = "col";
    const body = element("tbody", undefined, made);
    for (const line of lines) {
      const row = element("tr", undefined, body);
      for (const cell of line) {
        const made = element("td", undefined, row);
        if (cell instanceof Node) made.append(cell); else made.textContent = cell;
      }
    }
  }

  function paired(first, other) {
    // Mean difference with a normal interval over examples that both were asked, and who wins how many.
    const values = [];
    for (let i = 0; i < first.outcomes.length; i++) {
      const a = first.outcomes[i], b = other.outcomes[i];
      if (a !== "-" && b !== "-") values.push(Number(b) - Number(a));
    }
    const n = values.length, mean = values.reduce((sum, v) => sum + v, 0) / n;
    const spread = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, n - 1) / n);
    const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(3);
    const wins = values.filter((v) => v > 0).length, losses = values.filter((v) => v < 0).length;
    const bounds = "[" + signed(mean - 1.96 * spread) + ", " + signed(mean + 1.96 * spread) + "]";
    return [signed(mean), bounds, wins, losses, n - wins - losses];
  }

  function draw() {
    out.textContent = "";
    const chosen = picked.map((id) => trials.get(id));
    for (const line of document.querySelectorAll("polyline[data-trial]")) {
      line.classList.toggle("picked", chosen.length > 1 && picked.includes(line.dataset.trial));
      line.classList.toggle("dimmed", chosen.length > 1 && !picked.includes(line.dataset.trial));
    }
    if (chosen.length < 2) return;
    const names = chosen.map((trial) => trial.label), first = chosen[0];
    const metrics = Array.from(new Set(chosen.flatMap((trial) => Object.keys(trial.scores))));
    const score = (trial, metric) => (metric in trial.scores ? trial.scores[metric].toFixed(3) : "-");
    table("Scores", ["metric", ...names], metrics.map((m) => [m, ...chosen.map((trial) => score(trial, m))]));
    table(
      data.metric + ", paired with " + first.label,
      ["trial", "difference", "95 %", "wins", "losses", "ties"],
      chosen.slice(1).map((trial) => [trial.label, ...paired(first, trial)])
    );
    const differing = data.keys.map((key, i) => [key, ...chosen.map((trial) => trial.config[i])]);
    const lines = differing.filter((line) => line.slice(2).some((value) => value !== line[1]));
    table("Config", ["key", ...names], lines.length ? lines : [["no difference", ...chosen.map(() => "")]]);
    table(
      "The same prompts",
      ["latest of the history", "came next", ...names],
      data.samples.map((s, i) => [s.history || "example " + s.example, s.target, ...chosen.map((t) => t.answers[i])])
    );
    if (chosen.some((trial) => trial.links.length)) {
      table("Files", ["trial", "links"], chosen.map((trial) => {
        const cell = element("span");
        for (const [text, href] of trial.links) {
          const link = element("a", text, cell);
          link.href = href;
          cell.append(" ");
        }
        return [trial.label, cell];
      }));
    }
  }
  draw();
})();
