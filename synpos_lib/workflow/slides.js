const slides = [...document.querySelectorAll("section")];
let at = Number(location.hash.slice(1)) || 1;
function go(to) {
  at = Math.max(1, Math.min(slides.length, to));
  slides[at - 1].scrollIntoView();
  history.replaceState(null, "", "#" + at);
}
const steps = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1};
onkeydown = key => { if (key.key in steps) { key.preventDefault(); go(at + steps[key.key]); } };
onload = () => go(at);
