"use strict";
// What names an address in data-refresh is fetched anew from there every two seconds, while somebody looks.
{
  const SECONDS = 2;
  const renew = async place => {
    const answer = await fetch(place.dataset.refresh, {redirect: "error", cache: "no-store"});
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text();
    const isRead = place.contains(document.activeElement) || !getSelection().isCollapsed;
    if (!isRead && text !== place.pluginhubText) place.innerHTML = place.pluginhubText = text;
  };
  const say = (place, isStale) => {
    const notice = document.getElementById(place.dataset.stale);
    if (notice) notice.hidden = !isStale;
  };
  const follow = place => {
    const turn = async () => {
      if (!document.hidden) await renew(place).then(() => say(place, false), () => say(place, true));
      setTimeout(turn, SECONDS * 1000);
    };
    setTimeout(turn, SECONDS * 1000);
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-refresh]").forEach(follow));
}
