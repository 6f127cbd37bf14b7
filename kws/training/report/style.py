"""How the evaluation's page looks and behaves: its style sheet and its script."""

STYLE = """
:root { color-scheme: light dark; }
:root { --ink: #2b303a; --soft: #667080; --line: #d9dce3; --ground: #fff;
  --panel: #f6f7f9; --word: #00798c; --event: #d1495b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --soft: #9aa3b2; --line: #3a404c; --ground: #16191f;
    --panel: #20242c; --word: #35b5c9; --event: #ef7d8c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 1080px;
  color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 2.6rem 0 0.3rem; font-size: 1.35rem; }
h3 { margin: 2rem 0 0.5rem; font-size: 1.05rem; }
p { margin: 0.3rem 0; max-width: 76ch; } .soft, figcaption, small { color: var(--soft); }
a { color: var(--word); }
.path { overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0.8rem;
  margin: 1.2rem 0; }
.tile { background: var(--panel); border-radius: 8px; padding: 0.8rem 1rem; }
.tile b { display: block; font-size: 1.55rem; font-weight: 600; line-height: 1.25; }
.tile small { display: block; line-height: 1.35; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: 0.32rem 1.1rem 0.32rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
td:first-child, th { white-space: nowrap; } th { color: var(--soft); font-weight: 500; }
td small, .nowrap { white-space: nowrap; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3.5rem; }
.tables ul { margin: 0; padding-left: 1.1rem; max-width: 60ch; }
figure { margin: 0; } .chart { width: 100%; max-width: 860px; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg .name { font-weight: 600; }
.grid { stroke: var(--line); } .strip { fill: var(--panel); }
.mark { stroke: var(--ground); stroke-width: 1.5; }
.hint { fill: transparent; } .hint:hover { stroke: var(--ink); stroke-width: 1.5; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem; }
.card { background: var(--panel); border-radius: 8px; padding: 0.7rem 0.8rem 0.8rem; min-width: 0; }
.card b { font-weight: 600; }
.card .path { display: block; font-size: 12px; line-height: 1.35; margin: 0.1rem 0 0.5rem; }
.card svg { display: block; width: 100%; height: auto; cursor: pointer; }
.card audio { display: block; width: 100%; height: 34px; margin-top: 0.5rem; }
.score { fill: none; stroke: var(--ink); stroke-width: 1.4; }
.bar { stroke: var(--soft); stroke-dasharray: 4 3; }
.word { fill: var(--word); } .event { fill: var(--event); }
.head { stroke: var(--ink); stroke-width: 1.2; opacity: 0; }
.key { display: inline-block; width: 1.1em; height: 0.42em; border-radius: 2px;
  vertical-align: middle; margin: 0 0.3em 0 0.9em; }
"""

# Plays from where a drawing is clicked, one sound at a time, and moves a line along the drawing.
SCRIPT = """
for (const card of document.querySelectorAll('.card')) {
  const audio = card.querySelector('audio'), drawing = card.querySelector('svg'),
    head = card.querySelector('.head');
  const width = drawing.viewBox.baseVal.width;
  const move = () => {
    const x = width * audio.currentTime / (audio.duration || 1);
    head.setAttribute('x1', x); head.setAttribute('x2', x); head.style.opacity = 1;
    if (!audio.paused) requestAnimationFrame(move);
  };
  audio.addEventListener('play', () => {
    for (const other of document.querySelectorAll('audio')) if (other !== audio) other.pause();
    move();
  });
  audio.addEventListener('seeked', move);
  drawing.addEventListener('click', event => {
    const box = drawing.getBoundingClientRect();
    audio.currentTime = (event.clientX - box.left) / box.width * (audio.duration || 0);
    audio.play();
  });
}
"""
