(function () {
  "use strict";
  const table = document.getElementById("trials-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const lines = new Map();
  for (const line of document.querySelectorAll("polyline[data-trial]")) {
    lines.set(line.dataset.trial, (lines.get(line.dataset.trial) || []).concat(line));
  }

  function compare(a, b) {
    // Rows without a value stay last, whichever way the others are sorted.
    if (a === "" || b === "") return null;
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  }

  function key(cell) {
    // What a rounded number was before.
    return cell.dataset.full || cell.textContent;
  }

  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = rows.map((row, place) => ({ row, place, key: key(row.cells[column]) }));
      keyed.sort((a, b) => {
        const found = compare(a.key, b.key);
        if (found === null) return (a.key === "") - (b.key === "") || a.place - b.place;
        return sign * found || a.place - b.place;
      });
      body.append(...keyed.map((item) => item.row));
    });
  });

  const words = document.getElementById("filter");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");
  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const kept = (!state.value || row.dataset.state === state.value) &&
        wanted.every((word) => texts.get(row).includes(word));
      row.hidden = !kept;
      count += kept;
      for (const line of lines.get(row.dataset.trial) || []) line.toggleAttribute("hidden", !kept);
    }
    shown.textContent = count + " of " + rows.length;
  }
  words.addEventListener("input", filter);
  state.addEventListener("change", filter);

  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
