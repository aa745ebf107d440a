// Shows the pair that is asked, sends one answer at a time; an answer that is not known to be kept can be sent again.
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", ArrowUp: "both_bad", u: "undo", U: "undo", Backspace: "undo" };
const PAUSE_MS = 200; // a double tap answers one pair, not two
const buttons = [...document.querySelectorAll("[data-answer]")];
const [left, right] = document.querySelectorAll("img");
const said = document.getElementById("said");
let asked = null, busy = true;

function tell(words, wrong = false) {
  said.textContent = words;
  said.classList.toggle("wrong", wrong);
}
function disable() {
  busy = true;
  for (const button of buttons) button.disabled = true;
}
function enable() {
  busy = false;
  for (const button of buttons)
    button.disabled = button.dataset.answer === "undo" ? asked.answered === 0 : Boolean(asked.over);
}
async function show(told) {
  disable();
  asked = told;
  const bar = document.querySelector("progress");
  [bar.max, bar.value] = [told.most, told.answered];
  document.getElementById("pair").hidden = Boolean(told.over);
  document.getElementById("prompt").textContent = told.prompt ?? "";
  for (const [image, data] of [[left, told.left], [right, told.right]]) {
    if (data) image.src = data;
    else image.removeAttribute("src");
  }
  await Promise.allSettled([left, right].map((image) => image.decode()));
  const count = `${told.answered} answered`;
  if (told.over) tell(`Enough: ${told.over}. You may close this page; for a few seconds, undo takes the last answer back.`);
  else if (told.late) tell(`Not counted: that pair was answered already, in another tab or just before. ${count}`, true);
  else tell(count);
  setTimeout(enable, PAUSE_MS);
}
async function load(path, how) {
  const response = await fetch(path, { signal: AbortSignal.timeout(15000), ...how });
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}
async function ask(path, how) {
  disable();
  try {
    await show(await load(path, how));
  } catch {
    if (asked?.over) return tell("The server has ended; every answer is kept. You may close this page.");
    tell("The server does not answer. What you answered before is kept; choose again when it runs, or reload its new address.", true);
    if (asked) enable();
  }
}
function answer(which) {
  if (busy || buttons.find((button) => button.dataset.answer === which).disabled) return;
  ask("answer", { method: "POST", body: JSON.stringify({ pair: asked.pair, answer: which }) });
}
for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.answer));
document.addEventListener("keydown", (event) => {
  if (!(event.key in KEYS) || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  answer(KEYS[event.key]);
});
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || busy || asked.over) return;
  const shown = asked;
  const told = await load("asked").catch(() => shown);
  // Another tab may have answered. Until that is known a key still answers what is shown: none is lost.
  if (!busy && asked === shown && told.pair !== shown.pair) show(told);
});
ask("asked");
