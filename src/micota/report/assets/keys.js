"use strict";
// The numbers of a table are one stop of the Tab key; arrow keys move between them.

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function roam(table) {
  const rows = [...table.rows].map((row) => [...row.querySelectorAll(".value")]).filter((row) => row.length);
  const all = rows.flat();
  const stop = (chosen) => all.forEach((button) => (button.tabIndex = button === chosen ? 0 : -1));
  stop(all[0]);
  table.addEventListener("focusin", (event) => all.includes(event.target) && stop(event.target));
  table.addEventListener("keydown", (event) => {
    const row = rows.findIndex((buttons) => buttons.includes(event.target));
    if (row < 0 || !(event.key in ARROWS)) return;
    const [down, right] = ARROWS[event.key];
    const next = down ? below(rows[row + down] ?? [], event.target) : rows[row][rows[row].indexOf(event.target) + right];
    event.preventDefault(); // the arrows would scroll the table
    next?.focus();
  });
}

/** Return the button of a row in the column of another button, or the nearest one before that column. */
function below(row, button) {
  const column = (node) => node.closest("td, th").cellIndex;
  return row.filter((other) => column(other) <= column(button)).at(-1) ?? row[0];
}
