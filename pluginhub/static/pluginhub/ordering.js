"use strict";
// Rows of an ordered inline: drag the handle, or focus it and press the up and down arrows.
{
  const rowsOf = group => [...group.querySelectorAll("tr.form-row:not(.empty-form)")];
  const number = group => rowsOf(group).forEach((row, index) => {
    const position = row.querySelector(".pluginhub-position");
    if (position) position.value = index + 1;
  });
  // The others move around the row: taken out of the page, it would lose the pointer and the focus.
  const move = (group, row, to) => {
    const rows = rowsOf(group);
    let at = rows.indexOf(row);
    while (at < to) row.before(rows[++at]);
    while (at > to) row.after(rows[--at]);
    number(group);
  };
  const drag = (group, row, handle, start) => {
    handle.setPointerCapture(start.pointerId);
    row.classList.add("dragging");
    const follow = event => {
      const to = rowsOf(group).findIndex(other => other !== row && isOver(other, event.clientY));
      if (to >= 0) move(group, row, to);
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
  const step = (group, row, down) => {
    const rows = rowsOf(group), to = rows.indexOf(row) + (down ? 1 : -1);
    if (rows[to]) move(group, row, to);
  };
  // Django numbers the ids and labels of a row that is added, and leaves out what its fields are described by.
  const describe = row => row.querySelectorAll("[aria-describedby]").forEach(field => {
    if (field.id) field.setAttribute("aria-describedby", `${field.id}_helptext`);
  });
  const begin = group => {
    group.querySelectorAll(".pluginhub-handle").forEach(handle => { handle.hidden = false; });
    group.addEventListener("pointerdown", event => {
      if (event.target.matches(".pluginhub-handle")) drag(group, event.target.closest("tr"), event.target, event);
    });
    group.addEventListener("keydown", event => {
      if (!event.target.matches(".pluginhub-handle") || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      step(group, event.target.closest("tr"), event.key === "ArrowDown");
    });
    group.addEventListener("formset:added", event => {
      number(group);
      describe(event.target);
    });
    document.addEventListener("formset:removed", () => number(group));
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".pluginhub-ordered").forEach(begin));
}
