"use strict";
// Rows of an ordered inline: drag the handle, or focus it and press the up and down arrows.
{
  const rowsOf = group => [...group.querySelectorAll("tr.form-row:not(.empty-form)")];
  const number = group => rowsOf(group).forEach((row, index) => {
    const position = row.querySelector(".pluginhub-position");
    if (position) position.value = index + 1;
  });
  const move = (group, row, other, after) => {
    after ? other.after(row) : other.before(row);
    number(group);
  };
  const drag = (group, row, handle, start) => {
    handle.setPointerCapture(start.pointerId);
    row.classList.add("dragging");
    const follow = event => {
      const over = rowsOf(group).find(other => other !== row && isOver(other, event.clientY));
      if (over) move(group, row, over, row.compareDocumentPosition(over) & Node.DOCUMENT_POSITION_FOLLOWING);
    };
    const drop = () => {
      row.classList.remove("dragging");
      handle.removeEventListener("pointermove", follow);
    };
    handle.addEventListener("pointermove", follow);
    handle.addEventListener("lostpointercapture", drop, {once: true});
  };
  const isOver = (row, y) => {
    const box = row.getBoundingClientRect();
    return y > box.top && y < box.bottom;
  };
  const step = (group, row, event) => {
    const rows = rowsOf(group), to = rows[rows.indexOf(row) + (event.key === "ArrowDown" ? 1 : -1)];
    if (!to) return;
    move(group, row, to, event.key === "ArrowDown");
    event.target.focus();
  };
  const begin = group => {
    group.querySelectorAll(".pluginhub-handle").forEach(handle => { handle.hidden = false; });
    group.addEventListener("pointerdown", event => {
      if (event.target.matches(".pluginhub-handle")) drag(group, event.target.closest("tr"), event.target, event);
    });
    group.addEventListener("keydown", event => {
      if (!event.target.matches(".pluginhub-handle") || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      step(group, event.target.closest("tr"), event);
    });
    group.addEventListener("formset:added", () => number(group));
    document.addEventListener("formset:removed", () => number(group));
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".pluginhub-ordered").forEach(begin));
}
